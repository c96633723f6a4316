# SPDX-License-Identifier: Apache-2.0
"""Who a node is for another: the name in its certificate, which may change with the server running, and its incarnation."""
import os
import socket
import threading

from fleet import Fleet, deliver, wait_until
from penfold import free_ports
from test_peer import Imap, add, make_authority, peers, with_keys, with_tls


def unanswered(node):
    return [u['node'] for u in node.json('node', 'list')['unanswered']]


def put(pair, folder, to):
    """As a tool does that renews: each file by a rename of its own."""
    for kind in ('key', 'pem'):
        with open(os.path.join(folder, f'{pair}.{kind}'), 'rb') as f:
            data = f.read()
        with open(f'{to}.{kind}.new', 'wb') as f:
            f.write(data)
        os.rename(f'{to}.{kind}.new', f'{to}.{kind}')


def test_named_by_its_address(tmp_path):
    with peers(tmp_path, lambda folder, nodes: with_tls(os.path.join(folder, 'keys'), nodes, 'IP:127.0.0.1')) as f:
        wait_until(lambda: len(f[0].json('node', 'list')['nodes']) == 2)
        wait_until(lambda: len(f[1].json('node', 'list')['nodes']) == 2)


def test_names_and_reload(tmp_path):
    folder = str(tmp_path / 'authority')
    ca = make_authority(folder, {'good': 'DNS:n1', 'other': 'DNS:n9', 'wild': 'DNS:*', 'two': 'DNS:n8, DNS:n2', 'bare': 'email:n2@demo.example'})
    f = Fleet(tmp_path / 'fleet', nodes=2)
    used = str(tmp_path / 'used')
    for n, pair in zip(f.nodes, ('good', 'other')):
        n.peer_port, = free_ports(1)
        mine = f'{used}-{n.name}'
        put(pair, folder, mine)
        add(n, f'peer: {{ address: "127.0.0.1:{n.peer_port}", certificate: {mine}.pem, key: {mine}.key, ca: {ca} }}')
    first, second = f.nodes
    with f:
        # of the same authority, and yet not that node: neither believed when it is called nor when it calls
        wait_until(lambda: unanswered(first) == ['n2'] and unanswered(second) == ['n1'])
        assert 'event=peer.not_that_node node=n2' in first.log()
        assert 'certificate: it names neither' in first.log()
        for bad in ('wild', 'bare'):  # no wildcards, and no common name
            before = second.log().count('event=peer.tls_reloaded')
            put(bad, folder, f'{used}-n2')
            wait_until(lambda: second.log().count('event=peer.tls_reloaded') > before)
            assert unanswered(first) == ['n2'] and unanswered(second) == ['n1']
        # the right one, without a restart
        put('two', folder, f'{used}-n2')
        wait_until(lambda: unanswered(first) == [] and unanswered(second) == [])
        # half of a change, which stays: told, and the pair in use goes on
        with open(os.path.join(folder, 'other.key'), 'rb') as k, open(f'{used}-n2.key', 'wb') as to:
            to.write(k.read())
        wait_until(lambda: 'event=peer.tls ' in second.log())
        assert unanswered(first) == [] and unanswered(second) == []
        os.unlink(f'{used}-n2.pem')
        wait_until(lambda: second.log().count('event=peer.tls ') >= 2)
        assert unanswered(first) == [] and unanswered(second) == []
        put('two', folder, f'{used}-n2')
        wait_until(lambda: 'event=peer.tls_reloaded' in second.log().rsplit('event=peer.tls ', 1)[1])
        assert unanswered(first) == [] and unanswered(second) == []


class Relay:
    """Takes connections and holds them until it is told where they lead."""

    def __init__(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]

    def lead(self, near, port):
        far = socket.create_connection(('127.0.0.1', port), 10)
        far.settimeout(None)
        for a, b in ((near, far), (far, near)):
            threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_owner_restarted_before_the_hand_over(tmp_path):
    """Looked up, then restarted: the new process is not the one that was meant and says so; Redis is asked again, and the client hears nothing of it."""
    with peers(tmp_path, with_keys, accounts=('ann', 'bob', 'cat')) as f:
        at, other = f.nodes
        for name in ('bob', 'cat', 'ann'):
            wait_until(lambda: not isinstance(s := at.login(name), str) and (s.quit() or True))
        lease = f.redis('GET', f'pf:n:{{{at.name}}}')
        incarnation = lease.split()[0]
        relay, got = Relay(), {}
        f.redis('SET', f'pf:n:{{{at.name}}}', f'{incarnation} {relay.address}', 'KEEPTTL')

        def imap():
            with Imap(other, 'bob') as c:
                return c.select('INBOX')[0]

        def pop3():
            s = other.login('ann')
            return s if isinstance(s, str) else str(s.stat()) + str(s.quit() or '')

        jobs = {'pop3': pop3, 'imap': imap, 'lmtp': lambda: deliver(other, b'Subject: x\r\n\r\nx\r\n', 'cat')}
        threads = [threading.Thread(target=lambda k=k, j=j: got.__setitem__(k, j()), daemon=True) for k, j in jobs.items()]
        for t in threads:
            t.start()
        held = [relay.listener.accept()[0] for _ in threads]
        at.kill()
        at.start()
        wait_until(lambda: (v := f.redis('GET', f'pf:n:{{{at.name}}}')) and v.split()[0] != incarnation, 10)
        for near in held:
            relay.lead(near, at.peer_port)
        for t in threads:
            t.join(30)
        assert got['imap'] == 'OK' and got['lmtp'] == 0 and got['pop3'].startswith('(0, 0)'), got
        assert at.log().count('reason=incarnation') == 3
