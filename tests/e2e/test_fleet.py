# SPDX-License-Identifier: Apache-2.0
"""Several nodes on one data folder, agreeing in Redis: one POP3 session a maildrop, and what happens when a node or Redis fails.

What is checked after each fault: no two sessions acknowledged at once, no mail lost or doubled, no UIDL changed, every lock free again.
"""
import os
import poplib
import re
import signal
import smtplib
import subprocess
import threading
import time

import pytest

from fleet import TTL_MS, Fleet, Node, Redis, deliver, redis_port, serves, wait_until
from penfold import settled
from tls import make_pair

TTL = TTL_MS / 1000
# as README.md has it
ACL = '~pf:* +@hash +@scripting +get +set +del +pexpire +rpush +lrange +ltrim +time +info +role +client|setname +ping +auth +select +cluster|slots'
GONE = (poplib.error_proto, OSError, EOFError, AttributeError)  # the last: poplib has closed it


@pytest.fixture(scope='module')
def fleet(tmp_path_factory):
    """One for all whose faults heal: each test leaves every node serving, and no session behind."""
    with Fleet(tmp_path_factory.mktemp('fleet'), nodes=3, accounts=('ann', 'bob')) as f:
        yield f


def owner_of(redis, account=1):
    return redis.hash(f'pf:a:{{{account}}}').get('own', '')


def login(node, name='ann', seconds=60):
    """A session, however long that takes; what was said meanwhile must have been a plea to wait, or IN-USE."""
    def attempt():
        s = node.login(name)
        if isinstance(s, str):
            assert s.startswith(('-ERR [SYS/TEMP] ', '-ERR [IN-USE] ')) and 'wait' in s, s
            return None
        return s
    return wait_until(attempt, seconds)


def acknowledges(session):
    """True: the session still says +OK."""
    try:
        return session.pop.noop().startswith(b'+OK')
    except GONE:
        return False


def empty(node, name='ann'):
    """Deletes all there is; the subjects that were there, in order."""
    s = login(node, name)
    subjects = [re.search(rb'Subject: (.*)\r\n', s.retr(i + 1))[1].decode() for i in range(s.stat()[0])]
    for i in range(len(subjects)):
        s.dele(i + 1)
    s.quit()
    return subjects


def test_one_session_in_the_fleet(fleet):
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: one\r\n\r\nhi\r\n')
    first = login(a)
    uidl = first.uidl()
    said = b.login()
    assert isinstance(said, str) and said.startswith('-ERR [IN-USE] '), said
    for node in (a, fleet[2]):
        assert node.login().startswith('-ERR [IN-USE] ')
    # another tool sees who has it
    h = fleet.redis.hash('pf:a:{1}')
    token, since, peer = h['pop'].split()
    assert h['own'].startswith('n1/') and peer == '127.0.0.1' and abs(int(since) - time.time()) < 300
    # bob's is another maildrop
    login(b, 'bob').quit()
    # mail enters by the other node meanwhile: the session does not see it, and it is not lost
    t = threading.Thread(target=deliver, args=(b, b'Subject: two\r\n\r\nhi\r\n'))
    t.start()
    time.sleep(0.5)
    assert first.stat()[0] == 1
    first.dele(1)
    first.quit()
    t.join()
    second = login(b)
    assert second.stat()[0] == 1 and second.uidl()[0] not in uidl
    second.quit()
    assert empty(a) == ['two']
    wait_until(lambda: 'pop' not in fleet.redis.hash('pf:a:{1}'))


def test_accounts_change_hands(fleet):
    """Sessions and mail at either node, in turn: what one node does the other sees at once."""
    for i in range(6):
        deliver(fleet[i % 2], b'Subject: %d\r\n\r\nhi\r\n' % i)
        s = login(fleet[(i + 1) % 2])
        assert s.stat()[0] == i + 1
        s.quit()
    assert empty(fleet[0]) == [str(i) for i in range(6)]


def test_a_node_stops(fleet):
    """In order: what it owned is free at once, its lease and its name too."""
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 1\r\n\r\nhi\r\n')
    assert owner_of(fleet.redis).startswith('n1/')
    assert a.stop() == 0
    assert owner_of(fleet.redis) == '' and fleet.redis('EXISTS', 'pf:n:{n1}') == 0
    s = b.login()
    assert not isinstance(s, str), s
    s.quit()
    a.start()
    wait_until(lambda: serves(a))
    assert empty(b) == ['1']


def test_a_node_is_killed(fleet):
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: kept\r\n\r\nhi\r\n')
    s = login(a)
    uidl = s.uidl()
    s.dele(1)
    a.kill()
    # its lease runs out, then its session is nobody's
    began = time.time()
    after = login(b)
    assert after.uidl() == uidl
    assert time.time() - began < 3 * TTL + 30
    after.quit()
    # started again on this machine it need not wait: the old process is proved dead
    a.start()
    wait_until(lambda: serves(a))
    assert 'fleet.name_held' not in a.log()
    assert empty(a) == ['kept']


def test_a_node_sleeps_longer_than_its_lease(fleet):
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 1\r\n\r\nhi\r\n')
    deliver(a, b'Subject: 2\r\n\r\nhi\r\n')
    sleeper = login(a)
    sleeper.dele(1)
    a.signal(signal.SIGSTOP)
    try:
        s = login(b)
        assert s.stat()[0] == 2
        s.dele(2)
        s.quit()
    finally:
        a.signal(signal.SIGCONT)
    # it wakes and finds that it has nothing to say any more
    with pytest.raises(GONE):
        sleeper.quit()
    sleeper.close()
    wait_until(lambda: serves(a))
    assert empty(b) == ['1']


def test_a_node_is_cut_off_from_redis(fleet):
    """It lives, and its clients reach it: its session ends by its deadline, before anybody else's can begin."""
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 1\r\n\r\nhi\r\n')
    s = login(a)
    fleet.wires[0].cut()
    try:
        end = time.time() + 60
        while True:
            other = b.login()
            acknowledged = acknowledges(s)
            if not isinstance(other, str):
                assert not acknowledged, 'two sessions'
                break
            assert time.time() < end, other
            time.sleep(0.05)
        assert a.login() == '-ERR [SYS/TEMP] please wait and try again'
    finally:
        fleet.wires[0].mend()
    other.quit()
    s.close()
    wait_until(lambda: serves(a))
    assert empty(a) == ['1']


def test_everything_in_redis_is_lost(fleet):
    """FLUSHALL under a running session, with somebody else at the door all the time."""
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 1\r\n\r\nhi\r\n')
    s = login(a)
    fleet.redis('FLUSHALL')
    end = time.time() + 60
    while True:
        other = b.login()
        acknowledged = acknowledges(s)
        if not isinstance(other, str):
            assert not acknowledged, 'two sessions'
            break
        assert time.time() < end, other
        time.sleep(0.05)
    other.quit()
    s.close()
    assert empty(b) == ['1']


def test_redis_is_killed_and_comes_back_empty(fleet):
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 1\r\n\r\nhi\r\n')
    s = login(a)
    fleet.redis.kill()
    fleet.redis.start()
    end = time.time() + 60
    while True:
        other = b.login()
        acknowledged = acknowledges(s)
        if not isinstance(other, str):
            assert not acknowledged, 'two sessions'
            break
        assert '[SYS/TEMP]' in other or '[IN-USE]' in other
        assert time.time() < end, other
        time.sleep(0.05)
    other.quit()
    s.close()
    assert empty(b) == ['1']


def test_redis_is_down(fleet):
    """DESIGN section 7: owned accounts go on under the fence, POP3 sessions end at the deadline, unowned accounts wait."""
    a, b = fleet[0], fleet[1]
    deliver(a, b'Subject: 0\r\n\r\nhi\r\n')
    s = login(a)
    s.dele(1)
    fleet.redis.kill()
    try:
        # owned: a delivery at the owner goes on, also when its lease has long run out
        assert deliver(a, b'Subject: 1\r\n\r\nhi\r\n') == 0
        wait_until(lambda: not acknowledges(s))
        assert deliver(a, b'Subject: 2\r\n\r\nhi\r\n') == 0
        # a POP3 login, and everything at the other node: please wait
        for node in (a, b):
            said = node.login()
            assert said == '-ERR [SYS/TEMP] please wait and try again', said
        with b.lmtp() as l:
            assert l.replies('s@remote.example', [b.address('ann')], b'Subject: x\r\n\r\n')[b.address('ann')][0] == 451
            assert b'4.3.0' in l.replies('s@remote.example', [b.address('bob')], b'Subject: x\r\n\r\n')[b.address('bob')][1]
    finally:
        fleet.redis.start()
    # comes back by itself
    s.close()
    assert empty(b) == ['0', '1', '2']
    wait_until(lambda: serves(a))


def test_one_node_does_not_need_redis(tmp_path):
    """Placement home: sessions go on, locks are the node's own, and not one client hears of it."""
    with Redis(tmp_path / 'redis') as redis:
        n = Node(tmp_path / 'n1', 'n1', None, f'address: "unix:{tmp_path}/redis/s"', placement='home')
        redis.kill()
        redis.more = ('--unixsocket', f'{tmp_path}/redis/s')
        redis.start()
        with n:
            with n.pop3('ann'):
                h = wait_until(lambda: redis.hash('pf:a:{1}') or (n.login('ann') and None))
                assert h['own'].startswith('n1/') and 'pop' in h
            wait_until(lambda: 'pop' not in redis.hash('pf:a:{1}'))
            for i in range(30):
                if i == 5:
                    redis.kill()
                if i == 25:
                    redis.start()
                assert deliver(n, b'Subject: %d\r\n\r\n\r\n' % i) == 0
                with n.pop3('ann') as s:
                    assert s.stat()[0] == i + 1
                    assert n.login('ann').startswith('-ERR [IN-USE] ')
            # the fields follow again
            with n.pop3('ann'):
                wait_until(lambda: 'pop' in redis.hash('pf:a:{1}') or n.login('ann') and None)


def test_a_second_process_of_one_name_is_refused(fleet, tmp_path):
    twin = Node(tmp_path / 'twin', 'n1', fleet[0].data, f'address: "{fleet.redis.address}"')
    twin.start(wait=False)
    assert twin.process.wait(30) == 2
    twin.process = None
    assert 'another process has this node' in twin.log()


def test_a_folder_of_one_node_is_not_shared(tmp_path):
    """A local data folder is held by one process, whatever another's configuration says."""
    with Redis(tmp_path / 'redis') as redis:
        one = Node(tmp_path / 'n1', 'n1', None, f'address: "{redis.address}"', placement='home')
        with one:
            two = Node(tmp_path / 'n2', 'n2', one.data, f'address: "{redis.address}"')
            two.start(wait=False)
            assert two.process.wait(30) == 2
            two.process = None


def failover(tmp_path, rounds):
    """A master, a replica, a Sentinel; each round the Sentinel makes the other one master while a session is open."""
    master = Redis(tmp_path / 'r1')
    replica = Redis(tmp_path / 'r2', '--replicaof', f'127.0.0.1 {master.port}')
    servers = {master.port: master, replica.port: replica}
    conf = tmp_path / 'sentinel.conf'
    port = redis_port()
    conf.write_text(f'''sentinel monitor pf 127.0.0.1 {master.port} 1
sentinel down-after-milliseconds pf 1000
sentinel failover-timeout pf 3000
''')
    sentinel = None
    try:
        with open(tmp_path / 'sentinel.log', 'wb') as log:
            sentinel = subprocess.Popen(['redis-server', str(conf), '--sentinel', '--port', str(port), '--bind', '127.0.0.1'], stdout=log, stderr=log)
        ask = Redis.__new__(Redis)
        ask.port = port

        def knows_replica():
            try:
                return ask('SENTINEL', 'REPLICAS', 'pf')
            except (OSError, AssertionError):
                return None
        wait_until(knows_replica)
        wait_until(lambda: 'master_link_status:up' in replica('INFO', 'replication'))
        keys = f'sentinel: {{ master: pf, addresses: ["127.0.0.1:{port}"] }}'
        with Fleet(tmp_path, redis=master, redis_keys=keys, ttl_ms=2000) as f:
            for i in range(rounds):
                deliver(f[0], b'Subject: %d\r\n\r\nhi\r\n' % i)
                s = login(f[0])
                before = ask('SENTINEL', 'get-master-addr-by-name', 'pf')
                wait_until(lambda: ask_failover(ask))
                wait_until(lambda: ask('SENTINEL', 'get-master-addr-by-name', 'pf') != before)
                end = time.time() + 60
                while True:
                    other = f[1].login()
                    acknowledged = acknowledges(s)
                    if not isinstance(other, str):
                        assert not acknowledged, 'two sessions'
                        other.quit()
                        break
                    if acknowledged and '[IN-USE]' in other and time.time() > end - 60 + 1.5 * 2:
                        # nothing was lost in the failover: the session has been claimed at the new master and goes on
                        s.quit()
                    assert time.time() < end, other
                    time.sleep(0.05)
                s.close()
            assert empty(f[1]) == [str(i) for i in range(rounds)]
    finally:
        for server in servers.values():
            server.kill()
        if sentinel:
            sentinel.kill()
            sentinel.wait()


def ask_failover(ask):
    try:
        return ask('SENTINEL', 'FAILOVER', 'pf') == 'OK'
    except AssertionError:  # one is under way, or the replica is not known to be good yet
        return False


def test_redis_fails_over(tmp_path):
    """Rounds: PENFOLD_FAILOVERS (1)."""
    failover(tmp_path, int(os.environ.get('PENFOLD_FAILOVERS', '1')))


def test_redis_cluster(tmp_path):
    """Three masters; accounts, leases and pf:m lie on different ones."""
    servers = []
    try:
        servers = [Redis(tmp_path / f'c{i}', '--cluster-enabled', 'yes', '--cluster-node-timeout', '3000') for i in range(3)]
        made = subprocess.run(['redis-cli', '--cluster', 'create', *[s.address for s in servers], '--cluster-yes'], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        assert made.returncode == 0, made.stdout.decode()
        wait_until(lambda: all('cluster_state:ok' in s('CLUSTER', 'INFO') for s in servers))
        names = [f'u{i}' for i in range(12)]
        with Fleet(tmp_path, redis=servers[0], redis_keys=f'addresses: ["{servers[0].address}", "{servers[1].address}"]\n  cluster: true',
                   known=False, ttl_ms=2000, accounts=names + ['ann']) as f:
            for n in names:
                deliver(f[0], b'Subject: x\r\n\r\nhi\r\n', n)
                s = login(f[0], n)
                said = f[1].login(n)
                assert isinstance(said, str) and '[IN-USE]' in said, said
                lock, = f[0].json('lock', 'list')['locks']
                assert lock['redis'] == 'agrees', lock
                s.quit()
                t = login(f[1], n)
                assert t.stat()[0] == 1
                t.quit()
            keys = [len(s('KEYS', 'pf:a:*')) for s in servers]
            assert sum(1 for k in keys if k) >= 2, keys
            for n, other in ((f[0], 'n2'), (f[1], 'n1')):  # known of each other, though they cannot talk
                assert n.json('node', 'list')['unanswered'] == [{'node': other, 'why': 'it has no peer.address'}]
    finally:
        for s in servers:
            s.kill()


def test_redis_behind_tls(tmp_path):
    """TLS, a user of Redis's access list with just what a node needs; and a certificate that is for somebody else."""
    cert, key = make_pair(str(tmp_path / 'tls'), 'redis.test.example')
    port = redis_port()
    redis = Redis(tmp_path / 'redis', '--tls-port', str(port), '--tls-cert-file', cert, '--tls-key-file', key, '--tls-auth-clients', 'no',
                  '--user', 'penfold', 'on', '>secret', *ACL.split())
    keys = f'address: "127.0.0.1:{port}"\n  tls: true\n  tls_ca: {cert}\n  user: penfold\n  password: "secret"'
    with Fleet(tmp_path, redis=redis, redis_keys=keys, nodes=1) as f:
        deliver(f[0], b'Subject: 1\r\n\r\nhi\r\n')
        assert empty(f[0]) == ['1']
        assert f.redis.hash('pf:n') == {} and f.redis('EXISTS', 'pf:n:{n1}') == 1
        f[0].restart()
        wrong = Node(tmp_path / 'wrong', 'n2', f[0].data, keys + '\n  tls_name: other.test.example')
        wrong.start()
        assert wait_until(lambda: 'TLS' in wrong.log() and 'match' in wrong.log().lower() and wrong.login()).startswith('-ERR [SYS/TEMP] ')
        wrong.stop()


def test_a_changed_password_of_redis(tmp_path):
    """A renewed password_file is used from the next connection on, without a restart; a broken one changes nothing."""
    secret = tmp_path / 'password'
    secret.write_text('old\n')

    def write(text):
        (tmp_path / 'new').write_text(text)
        os.rename(tmp_path / 'new', secret)

    redis = Redis(tmp_path / 'redis', '--user', 'penfold', 'on', '>old', *ACL.split())
    with Fleet(tmp_path, redis=redis, redis_keys=f'address: "{redis.address}"\n  user: penfold\n  password_file: {secret}', nodes=1) as f:
        deliver(f[0], b'Subject: 1\r\n\r\nhi\r\n')
        write('\n')
        wait_until(lambda: 'event=redis.password_refused' in f[0].log())
        assert f[0].log().count('redis.password_changed') == 0
        write('new')
        wait_until(lambda: 'event=redis.password_changed' in f[0].log())
        redis('ACL', 'SETUSER', 'penfold', '>new', '<old')
        assert redis('CLIENT', 'KILL', 'USER', 'penfold') >= 1
        # nobody owns it yet: to take it Redis must be there
        settled(lambda: f[0].deliver(b'Subject: 2\r\n\r\nhi\r\n', 'bob'), 30)
        assert f[0].log().count('redis.password_changed') == 1 and f[0].log().count('redis.password_refused') == 1
