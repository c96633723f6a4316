# SPDX-License-Identifier: Apache-2.0
"""Operators' hands and eyes on a real server: who, kick, locks, drain, the admin socket's doors, metrics and probes."""
import os
import re
import socket
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics import parser

from penfold import Penfold, free_ports, settled


@pytest.fixture
def served(tmp_path):
    port, = free_ports(1)
    with Penfold(tmp_path, accounts=('ann', 'bob'), extra=f'node: n1\nhttp: {{ address: "127.0.0.1:{port}" }}\n') as p:
        p.http_port = port
        yield p


def get(p, path):
    """(status, type, text)"""
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{p.http_port}{path}', timeout=10) as r:
            return r.status, r.headers['Content-Type'], r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers['Content-Type'], e.read().decode()


def families(p):
    status, kind, text = get(p, '/metrics')
    assert status == 200 and kind.startswith('application/openmetrics-text; version=1.0.0')
    return {f.name: f for f in parser.text_string_to_metric_families(text)}


def value(p, family, suffix=''):
    return sum(s.value for s in families(p)['penfold_' + family].samples if s.name.endswith(suffix))


def logged(p, words):
    def check():
        assert words in p.log()
    settled(check, 10)  # the log is written by a thread of its own


def who(p, *args):
    return p.json('who', *args)['sessions']


def test_who_shows_what_each_does(served):
    p = served
    p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann')
    with p.pop3('ann') as pop, p.lmtp() as lmtp, p.raw() as knock:
        knock.recv(100)
        lmtp.ehlo_or_helo_if_needed()
        pop.retr(1)
        def check():
            sessions = who(p)
            assert sorted((s['protocol'], s['state'], s['account']) for s in sessions) == [
                ('lmtp', 'ready', None), ('pop3', 'authorization', None), ('pop3', 'transaction', 'ann@demo.example')]
            return sessions
        ann, = [s for s in settled(check, 10) if s['account']]
        assert ann['tenant'] == 'demo' and ann['node'] == 'n1' and ann['tls'] is None
        assert ann['bytes_in'] > 20 and ann['bytes_out'] > 100 and abs(ann['since'] - time.time()) < 60
        assert ann['peer'].startswith('127.0.0.1:')
        assert len(who(p, '--account', 'ANN@demo.example')) == 1 and len(who(p, '--tenant', 'demo')) == 1
        assert len(who(p, '--protocol', 'lmtp')) == 1 and len(who(p, '--address', '127.0.0.1')) == 3
        assert who(p, '--account', 'bob@demo.example') == [] and who(p, '--address', '127.0.0.2') == []
        assert 'ann@demo.example' in p.run('who').stdout.decode()


def test_kick_deletes_nothing_and_frees_the_lock(served):
    p = served
    p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann')
    pop, other = p.pop3('ann'), p.pop3('bob')
    pop.dele(1)
    session, = who(p, '--account', 'ann@demo.example')
    assert p.json('kick', str(session['session']), '--reason', 'moved house')['ended'] == 1
    assert pop.pop.file.readline().startswith(b'-ERR')
    assert pop.pop.file.readline() == b''
    pop.close()
    assert other.stat() == (0, 0)  # nobody else felt it
    def again():
        with p.pop3('ann') as one:
            assert one.stat()[0] == 1
    settled(again, 10)
    logged(p, 'moved house')
    assert p.run('kick', '--account', 'nobody@demo.example', check=False).returncode == 3
    assert p.run('kick', check=False).returncode == 2
    with p.lmtp() as lmtp:
        lmtp.ehlo_or_helo_if_needed()
        assert p.json('kick', '--protocol', 'lmtp')['ended'] >= 1
        assert lmtp.getreply()[0] == 421
        lmtp.close()
    assert p.json('kick', '--tenant', 'demo', '--now')['ended'] == 1  # bob, without a word
    try:
        assert other.pop.file.readline() == b''
    except ConnectionResetError:
        pass
    other.close()


def test_locks_are_listed_and_broken(served):
    p = served
    assert p.json('lock', 'list')['locks'] == []
    pop = p.pop3('ann')
    lock, = p.json('lock', 'list')['locks']
    session, = who(p, '--account', 'ann@demo.example')
    assert lock['account'] == 'ann@demo.example' and lock['session'] == session['session'] and lock['peer'] == '127.0.0.1'
    assert len(p.json('lock', 'show', 'ann@demo.example')['locks']) == 1
    assert p.run('lock', 'show', 'bob@demo.example', check=False).returncode == 3
    assert p.run('lock', 'break', 'ann@demo.example', check=False).returncode == 2  # no reason given
    assert p.json('lock', 'break', 'ann@demo.example', '--reason', 'half open since noon')['broken'] == 1
    logged(p, 'half open since noon')
    pop.close()
    settled(lambda: p.pop3('ann').quit(), 10)
    assert p.run('lock', 'break', 'bob@demo.example', '--reason', 'x', check=False).returncode == 3


def test_drain_and_undrain(served):
    p = served
    pop = p.pop3('ann')
    assert get(p, '/readyz')[0] == 200
    p.json('drain', '--grace', '3600')
    assert get(p, '/readyz') == (503, 'text/plain; charset=utf-8', 'draining\n') and get(p, '/livez')[0] == 200
    with p.pop3('bob') as bob:  # within the grace all is served
        assert bob.stat() == (0, 0)
    assert p.json('drain', '--status')['state'] == 'grace' and p.run('drain', check=False).returncode == 1
    assert p.json('undrain')['state'] == 'serving' and get(p, '/readyz')[0] == 200
    p.json('drain', '--grace', '0', '--over', '0')
    assert pop.pop.file.readline().startswith(b'-ERR')
    pop.close()
    def drained():
        assert p.json('drain', '--status')['state'] == 'drained'
    settled(drained, 20)
    assert p.json('drain', '--status')['sessions'] == 0
    with pytest.raises(OSError):
        p.raw().recv(1)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(p.lmtp_socket)
        assert s.recv(100) == b''
    p.json('undrain')
    settled(lambda: p.pop3('ann').quit(), 20)
    p.deliver(b'Subject: x\r\n\r\nback\r\n', 'ann')
    assert p.json('node', 'list')['nodes'][0]['state'] == 'serving'
    assert p.run('undrain', check=False).returncode == 3


def test_drain_and_wait(served):
    """For a container's preStop hook: it returns when nobody is left, whoever began the drain; what comes next is SIGTERM."""
    p = served
    s = p.raw()
    assert s.recv(3) == b'+OK'
    waits = [subprocess.Popen([p.binary, '--config', p.config, 'drain', '--grace', '3600', '--wait'], stdout=subprocess.PIPE)]

    def graced():
        assert p.json('drain', '--status')['state'] == 'grace'
    settled(graced, 20)
    assert waits[0].poll() is None and p.raw().recv(3) == b'+OK'
    p.run('undrain')
    assert waits[0].wait(30) != 0
    p.run('drain', '--grace', '0', '--over', '0')
    waits.append(subprocess.Popen([p.binary, '--config', p.config, 'drain', '--wait'], stdout=subprocess.PIPE))
    assert waits[1].wait(30) == 0 and b'drained, 0 sessions' in waits[1].stdout.read()
    p.json('undrain')
    for w in waits:
        w.stdout.close()
    s.close()


def test_a_drain_is_spread(served):
    p = served
    socks = [p.raw() for _ in range(20)]
    for s in socks:
        s.recv(100)
    p.json('drain', '--grace', '0', '--over', '3600')
    def ending():
        assert p.json('drain', '--status')['state'] == 'ending'
    settled(ending, 10)
    assert p.json('drain', '--status')['sessions'] >= 10  # an hour has only begun
    p.json('undrain')
    for s in socks:
        s.close()


def test_the_admin_socket_has_its_mode_and_roles(tmp_path):
    path = os.path.join(tmp_path, 'admin.sock')
    with Penfold(tmp_path, extra=f'admin_socket: {path}\nadmin: {{ mode: "0666" }}\n') as p:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        if os.geteuid() != 0:
            return
        os.chmod(tmp_path, 0o755)
        ask = ("import socket,os,sys;os.setgid(65534);os.setuid(65534);s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
               "s.sendall(sys.argv[2].encode()+b'\\n');print(b''.join(iter(lambda:s.recv(9999),b'')).decode())")
        def nobody(request):
            # its folders belong to root alone: a descriptor's way leads there
            return subprocess.run(['/usr/bin/python3', '-c', ask.replace('sys.argv[1]', "'/proc/self/cwd/admin.sock'"), '', request],
                                  cwd=tmp_path, capture_output=True, text=True, timeout=30)
        r = nobody('{"verb": "drain"}')
        if 'Permission denied' in r.stderr:
            pytest.skip('the folders above are closed to others')
        assert '"denied"' in r.stdout, r
        assert '"sessions"' in nobody('{"verb": "who"}').stdout
        assert p.json('drain', '--status')['state'] == 'serving'
    for bad in ('"0777"', '"77"', '"abc"'):
        q = Penfold(tmp_path / bad.strip('"'), extra=f'admin: {{ mode: {bad} }}\n') if (tmp_path / bad.strip('"')).mkdir() is None else None
        assert q.run('config', 'check', check=False).returncode == 2


def test_admin_answers_nonsense_with_words(served):
    p = served
    for request in (b'', b'{', b'[]', b'{"verb": 3}', b'{"verb": "who", "account": 5}', b'{"verb": "kick"}', b'{"verb":"kick","session":-1}',
                    b'x' * 10000, b'{"verb": "drain", "grace_ms": 1e99}'):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.path.join(p.data, 'penfold.sock'))
            s.sendall(request + b'\n')
            answer = s.recv(1000)
            assert b'"error"' in answer or len(request) > 5000, (request, answer)
    assert p.json('drain', '--status')['state'] == 'serving'


def test_metrics_are_openmetrics_and_true(served):
    p = served
    p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann', 'bob')
    with p.pop3('ann') as pop:
        with pytest.raises(Exception, match='IN-USE'):
            p.pop3('ann')
        pop.retr(1)
    f = families(p)
    assert value(p, 'lmtp_copies_stored') == 2 and value(p, 'pop3_logins') == 1 and value(p, 'pop3_in_use') == 1
    assert value(p, 'pop3_messages_sent') == 1 and value(p, 'build', '_info') == 1 and value(p, 'ready') == 1
    assert value(p, 'store_commit_changes', '_count') >= 2 and value(p, 'run_sync_seconds', '_count') >= 2
    assert 0 < value(p, 'run_sync_seconds', '_sum') < 600
    assert {s.labels['shard'] for s in f['penfold_shard_loops'].samples} == {'0', '1'}
    for name in ('shard_cq_overflows', 'run_lag_seconds', 'sent_splice_bytes', 'directory_hits', 'auth_waiting', 'auth_shed', 'descriptors_open',
                 'uptime_seconds', 'store_fenced', 'received_bytes'):
        assert 'penfold_' + name in f, name
    for family in f.values():
        assert family.documentation, family.name


def test_scrapes_while_sessions_run(served):
    p = served
    stop, seen = threading.Event(), []

    def scrape():
        while not stop.is_set():
            seen.append(value(p, 'pop3_logins'))
    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(30):
        p.pop3('bob').quit()
    stop.set()
    thread.join()
    assert seen == sorted(seen) and value(p, 'pop3_logins') == 30


def test_probes_and_paths(served):
    p = served
    for path in ('/livez', '/readyz', '/startupz'):
        def good():  # listeners are open a moment before the start is over
            assert get(p, path)[0::2] == (200, 'ok\n')
        settled(good, 20)
    assert get(p, '/nothing')[0] == 404
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(urllib.request.Request(f'http://127.0.0.1:{p.http_port}/metrics', data=b'x', method='POST'), timeout=10)
    assert e.value.code == 405


def test_a_taken_http_port_stops_the_start(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        p = Penfold(tmp_path, extra=f'http: {{ address: "127.0.0.1:{s.getsockname()[1]}" }}\n')
        p.setup()
        p.start(wait=False)
        assert p.process.wait(30) != 0
        p.process = None
        assert re.search(r'http.listen_failed.*EADDRINUSE', p.log()), p.log()


def test_reload_is_whole_or_not_at_all_and_says_what_needs_a_restart(served):
    p = served
    with open(p.config) as f:
        text = f.read()

    def write(new):
        with open(p.config, 'w') as f:
            f.write(new)
    p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann')
    with p.pop3('ann') as pop:
        logged(p, 'event=pop3.login')
        assert p.json('reload') == {'reloaded': ['log', 'certificates', 'limits'], 'restart': []}
        changed = text.replace('shards: 2', 'shards: 1').replace('protocol: imap, address', 'protocol: imap, plaintext: true, address')
        write(changed.replace('mail.test.example', 'mail2.test.example')
              + 'log: { level: warn }\nstore: { seal_bytes: 32 MiB }\npop3: { idle_s: 900 }\nio: { pin: false }\n')
        r = p.run('reload').stdout.decode().splitlines()
        assert r[0].startswith('reloaded: ') and sorted(r[1:]) == ['needs a restart: ' + n for n in (
            'hostname', 'io.pin', 'listeners', 'pop3.idle_s', 'shards', 'store.seal_bytes')]
        before = p.log().count('pop3.login')
        p.pop3('bob').quit()  # level warn is in force: logins are not told any more
        write(text + 'nonsense: 1\nlog: { level: debug }\n')
        refused = p.run('reload', check=False)
        assert refused.returncode != 0 and b'nonsense' in refused.stdout + refused.stderr
        p.pop3('bob').quit()
        assert p.log().count('pop3.login') == before
        pop.retr(1)  # it has seen nothing of all that
        write(text)
        assert p.json('reload')['restart'] == []
