# SPDX-License-Identifier: Apache-2.0
"""deploy/loadbalancer/, run as it is but for addresses: clients are seen by their own addresses, TLS passes through, a node that drains gets
nobody new while its sessions go on."""
import os
import poplib
import re
import shutil
import smtplib
import socket
import subprocess
import time

import penfold
import pytest
from penfold import PASSWORD, free_ports, settled
from tls import TlsPenfold, trusting

FOLDER = os.path.join(penfold.TOP, 'deploy', 'loadbalancer')
HAPROXY = shutil.which('haproxy') or '/usr/sbin/haproxy'
NGINX = shutil.which('nginx') or '/usr/sbin/nginx'
STREAM = '/usr/lib/nginx/modules/ngx_stream_module.so'
PORTS = {'pop3': 110, 'pop3s': 995, 'imap': 143, 'imaps': 993, 'lmtp': 24}
INNER = {'pop3': 1110, 'pop3s': 1995, 'imap': 1143, 'imaps': 1993, 'lmtp': 1024}


class Node(TlsPenfold):
    """With the listeners that haproxy.cfg asks for, read from its comment."""

    def __init__(self, folder, name):
        super().__init__(folder, name)
        *ports, self.http_port = free_ports(6)
        self.inner = dict(zip(INNER, ports))
        with open(os.path.join(FOLDER, 'haproxy.cfg')) as f:
            wanted = [l[1:].strip() for l in f if re.match(r'#\s+- \{ protocol', l)]
        assert len(wanted) == 5
        lines = []
        for line in wanted:
            inner = int(re.search(r':(\d+)"', line)[1])
            way = next(w for w, p in INNER.items() if p == inner)
            lines.append('  ' + line.replace(f'0.0.0.0:{inner}', f'127.0.0.1:{self.inner[way]}').replace('192.0.2.0/28', '127.0.0.0/8') + '\n')
        with open(self.config) as f:
            text = f.read()
        with open(self.config, 'w') as f:
            f.write(text.replace('listeners:\n', f'http: {{ address: "127.0.0.1:{self.http_port}" }}\nlisteners:\n' + ''.join(lines)))


@pytest.fixture(scope='module')
def nodes(tmp_path_factory):
    """Two servers that have nothing in common but a name: which one answers shows in its certificate and its mail."""
    with Node(tmp_path_factory.mktemp('n1'), 'n1.test.example') as n1, Node(tmp_path_factory.mktemp('n2'), 'n2.test.example') as n2:
        n1.deliver(b'Subject: n1\r\n\r\nx\r\n', 'ann')
        n2.deliver(b'Subject: n2\r\n\r\nx\r\n', 'ann')
        yield n1, n2


def adapted(name, nodes, outer):
    """The file with the test's addresses; each of the file's is there to be replaced."""
    with open(os.path.join(FOLDER, name)) as f:
        text = f.read()
    for way, inner in INNER.items():
        for i, node in enumerate(nodes):
            there = f'192.0.2.1{i + 1}:{inner}'
            assert there in text
            text = text.replace(there, f'127.0.0.1:{node.inner[way]}')
    for way, port in PORTS.items():
        text, count = re.subn(rf'(?m)(bind|listen) +(192\.0\.2\.1)?:?{port}\b' if way == 'lmtp' else rf'(?m)(bind :|listen ){port}\b',
                              lambda m: f'{m[1].split()[0].rstrip(":")} 127.0.0.1:{outer[way]}', text)
        assert count == 1, (way, count)
    return text


def wait_for(process, port, log):
    def look():
        if process.poll() is not None:
            pytest.fail('it ended: ' + open(log).read())
        socket.create_connection(('127.0.0.1', port), 2).close()
    settled(look, 20)


@pytest.fixture(scope='module')
def haproxy(nodes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('haproxy')
    outer = dict(zip(PORTS, free_ports(5)))
    text = adapted('haproxy.cfg', nodes, outer)
    for i, node in enumerate(nodes):
        text, count = re.subn(rf'(?m)^(    server n{i + 1} .*)$', rf'\1 port {node.http_port}', text)
        assert count == 5
    text = text.replace('inter 2s fall 2 rise 2', 'inter 100ms fall 2 rise 2').replace('maxconn 100000', 'maxconn 1000')
    config, log = folder / 'haproxy.cfg', folder / 'log'
    config.write_text(text)
    yield from running([HAPROXY, '-db', '-f', str(config)], outer, log)


@pytest.fixture(scope='module')
def nginx(nodes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('nginx')
    outer = dict(zip(PORTS, free_ports(5)))
    config, log = folder / 'nginx.conf', folder / 'log'
    stream = adapted('nginx-stream.conf', nodes, outer)
    assert '/var/log/nginx/' in stream
    stream = stream.replace('/var/log/nginx/', f'{folder}/')
    config.write_text(f'load_module {STREAM};\npid {folder}/pid;\nerror_log stderr;\ndaemon off;\nworker_processes 1;\nevents {{ worker_connections 200; }}\n' +
                      stream)
    yield from running([NGINX, '-p', str(folder), '-c', str(config), '-e', 'stderr'], outer, log)


def running(argv, outer, log):
    with open(log, 'wb') as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        for port in outer.values():
            wait_for(process, port, log)
        yield outer
    finally:
        process.terminate()
        process.wait(20)


def who(port, source, tls=False):
    """Logs in; the node's name by its mail, and the session for a look from inside."""
    context = trusting() if tls else None
    raw = socket.create_connection(('127.0.0.1', port), 20, source_address=(source, 0))
    if tls:
        raw = context.wrap_socket(raw)
    pop = poplib.POP3.__new__(poplib.POP3)
    pop.host, pop.port, pop.sock, pop._debugging, pop._tls_established = '127.0.0.1', port, raw, 0, tls
    pop.file = raw.makefile('rb')
    pop.welcome = pop._getresp()
    if not tls:
        pop.stls(trusting())
    pop.user('ann@demo.example')
    pop.pass_(PASSWORD)
    text = b'\n'.join(pop.retr(1)[1])
    return ('n1' if b'Subject: n1' in text else 'n2'), pop



def visits(nodes, outer, base):
    """Clients are seen as who they are, over both kinds of POP3, IMAP and LMTP."""
    for i, way in enumerate(('pop3', 'pop3s')):
        name, pop = who(outer[way], f'127.0.{base}.{i + 1}', way == 'pop3s')
        try:
            node = nodes[0] if name == 'n1' else nodes[1]
            assert f'127.0.{base}.{i + 1}' in str(node.json('who'))
        finally:
            pop.quit()
    with socket.create_connection(('127.0.0.1', outer['imap']), 20) as s:
        assert s.recv(100).startswith(b'* OK')
    with trusting().wrap_socket(socket.create_connection(('127.0.0.1', outer['imaps']), 20)) as s:
        assert s.recv(100).startswith(b'* OK')
    with smtplib.LMTP('127.0.0.1', outer['lmtp'], timeout=30, source_address=(f'127.0.{base}.9', 0)) as l:
        l.sendmail('a@remote.example', ['ann@demo.example'], b'Subject: later\r\n\r\nx\r\n')
    received = b''
    for node in nodes:
        with node.pop3('ann') as pop:
            received += b''.join(pop.retr(i + 1) for i in range(pop.stat()[0]))
    assert f'127.0.{base}.9'.encode() in received


@pytest.mark.skipif(not os.path.exists(HAPROXY), reason='haproxy is not installed')
def test_haproxy_accepts_the_file_as_it_is():
    """Only the host's own addresses may not be bound here: -c does not bind."""
    r = subprocess.run([HAPROXY, '-c', '-f', os.path.join(FOLDER, 'haproxy.cfg')], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and 'warning' not in (r.stdout + r.stderr).lower(), r.stdout + r.stderr


@pytest.mark.skipif(not os.path.exists(HAPROXY), reason='haproxy is not installed')
def test_haproxy(nodes, haproxy):
    visits(nodes, haproxy, 21)


@pytest.mark.skipif(not os.path.exists(HAPROXY), reason='haproxy is not installed')
def test_a_draining_node_gets_nobody_new(nodes, haproxy):
    """Readiness goes first; who is there stays through the grace; after undrain it is chosen again."""
    stay = {}
    end = time.time() + 30
    while 'n1' not in stay:  # the second login on a node would be refused: the maildrop is held
        assert time.time() < end
        try:
            name, pop = who(haproxy['pop3'], '127.0.22.1')
        except poplib.error_proto:
            continue
        if name == 'n1':
            stay[name] = pop
        else:
            pop.quit()
    nodes[0].run('drain', '--grace', '60', '--over', '0')

    def only_n2():
        for _ in range(4):
            name, pop = who(haproxy['pop3'], '127.0.22.2')
            pop.quit()
            assert name == 'n2'
    settled(only_n2, 20)
    assert stay['n1'].stat()[0] >= 1
    stay['n1'].quit()
    nodes[0].run('undrain')

    def n1_again():
        name, pop = who(haproxy['pop3'], '127.0.22.3')
        pop.quit()
        assert name == 'n1'
    settled(n1_again, 20)


@pytest.mark.skipif(not os.path.exists(STREAM), reason='libnginx-mod-stream is not installed')
def test_nginx(nodes, nginx):
    visits(nodes, nginx, 23)
