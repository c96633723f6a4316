# SPDX-License-Identifier: Apache-2.0
"""The process: what it says about a wrong configuration, who may use a folder, signals, the log."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from penfold import BINARY, DOMAIN, PASSWORD, Penfold, free_ports, read_all, settled

MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
LOGIN = f'USER ann@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode()


def serve(config, seconds=20):
    r = subprocess.run([BINARY, '--config', config, 'serve'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds, stdin=subprocess.DEVNULL)
    return r.returncode, (r.stdout + r.stderr).decode()


# ---- configuration ----

GOOD = 'data: {folder}/data\nlisteners:\n  - {{ protocol: pop3, address: "127.0.0.1:{port}" }}\n'
WRONG = [
    (GOOD + 'shardz: 2\n', 4, 'shardz', 'did you mean "shards"'),
    (GOOD + 'shards: two\n', 4, 'shards', 'a whole number'),
    (GOOD + 'shards: 0\n', 4, 'shards', 'from 1 to'),
    (GOOD + 'shards: -1\n', 4, 'shards', 'a whole number'),
    (GOOD + 'shards: 18446744073709551617\n', 4, 'shards', 'a whole number'),
    (GOOD + 'store:\n  seal_bytes: 12 parsec\n', 5, 'store.seal_bytes', 'a size such as'),
    (GOOD + 'store:\n  seal_byte: 1 MiB\n', 5, 'store.seal_byte', 'did you mean'),
    (GOOD + 'store: {{ file_body_bytes: 64 KiB }}\n', 4, 'store.file_body_bytes', 'store.memory_body_bytes'),
    (GOOD + 'log: {{ level: loud }}\n', 4, 'log.level', 'one of debug, info'),
    (GOOD + 'io: 7\n', 4, 'io', 'keys with values'),
    (GOOD + 'io:\n  pin: perhaps\n', 5, 'io.pin', 'true or false'),
    (GOOD + 'data: twice\n', 4, 'data', 'twice'),
    (GOOD + 'hostname: "a b"\n', 4, 'hostname', 'a host name'),
    (GOOD + 'default_domain: "a@b"\n', 4, 'default_domain', 'a domain'),
    (GOOD.replace('pop3', 'smtp'), 3, 'listeners[1].protocol', 'one of pop3, lmtp'),
    (GOOD.replace('127.0.0.1:{port}', 'localhost:{port}'), 3, 'listeners[1].address', 'HOST:PORT'),
    (GOOD.replace('127.0.0.1:{port}', '127.0.0.1:99999'), 3, 'listeners[1].address', 'HOST:PORT'),
    (GOOD.replace('127.0.0.1:{port}', '127.0.0.1'), 3, 'listeners[1].address', 'HOST:PORT'),
    (GOOD.replace('127.0.0.1:{port}', '192.0.2.1:{port}'), 3, 'listeners[1].address', 'no such address'),
    (GOOD.replace('127.0.0.1:{port}', 'unix:{folder}/no/where.sock'), 3, 'listeners[1].address', 'folder of the socket'),
    (GOOD.replace('data: {folder}/data', 'data: /proc/nowhere/data'), 1, 'data', 'a folder that this user may write'),
    (GOOD.replace('data: {folder}/data', 'data: /etc/passwd'), 1, 'data', 'a folder that this user may write'),
    (GOOD.replace('data: {folder}/data\n', ''), 1, 'data', 'missing'),
    (GOOD + 'admin_socket: /proc/nowhere/a.sock\n', 4, 'admin_socket', 'folder of the socket'),
    (GOOD + 'pop3: {{ idle_s: 10, idle_s: 20 }}\n', 4, 'pop3.idle_s', 'twice'),
    (GOOD.replace('}}', ', tls: implicit }}'), 3, 'listeners[1].tls', 'tls.certificate'),
    (GOOD.replace('}}', ', tls: yes }}'), 3, 'listeners[1].tls', 'one of none, starttls, implicit'),
    (GOOD.replace('}}', ', tls_min: 1.1 }}'), 3, 'listeners[1].tls_min', 'one of 1.2, 1.3'),
    (GOOD + 'tls: {{ certificate: a.pem }}\n', 4, 'tls.certificate', 'tls.key'),
    (GOOD + 'tls: {{ key: a.pem }}\n', 4, 'tls.key', 'tls.certificate'),
    (GOOD + 'tls: {{ certificate: /none/a.pem, key: /none/b.pem }}\n', 4, 'tls.certificate', 'No such file'),
    (GOOD + 'tls: {{ certificates: /none }}\n', 4, 'tls.certificates', 'ENOENT'),
    ('data: [1, 2]\n', 1, 'data', 'got a list'),
    ('data: "x\n', 2, '', 'not valid YAML'),
]


@pytest.mark.parametrize('text,line,key,expected', WRONG, ids=[f'{n}-{w[2]}' for n, w in enumerate(WRONG)])
def test_wrong_configuration_is_one_line(tmp_path, text, line, key, expected):
    config = str(tmp_path / 'c.yaml')
    with open(config, 'w') as f:
        f.write(text.format(folder=tmp_path, port=free_ports(1)[0]))
    status, said = serve(config)
    assert status == 2, said
    assert len(said.splitlines()) == 1, said
    assert f'{config}:{line}: {key}' in said or (not key and re.search(r'c\.yaml:\d+: ', said)), said
    assert expected in said
    if 'level=error' not in said:  # what the file alone tells, `config check` tells too, and nothing was made
        r = subprocess.run([BINARY, '--config', config, 'config', 'check'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert r.returncode == 2 and r.stdout.decode() == said
        assert os.listdir(tmp_path) == ['c.yaml']


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become somebody else')
def test_a_folder_of_somebody_else(tmp_path):
    config = tmp_path / 'c.yaml'
    (tmp_path / 'data').mkdir(mode=0o700)
    config.write_text(GOOD.format(folder=tmp_path, port=free_ports(1)[0]) + 'user: nobody\n')
    status, said = serve(str(config))
    assert status == 2 and len(said.splitlines()) == 1
    assert f'{config}:1: data' in said and 'EACCES' in said


def test_no_configuration_at_all(tmp_path):
    status, said = serve(str(tmp_path / 'none.yaml'))
    assert status == 2 and said == f'{tmp_path}/none.yaml: cannot be read: No such file or directory\n'
    (tmp_path / 'empty.yaml').write_text('')
    assert serve(str(tmp_path / 'empty.yaml'))[0] == 2


def test_the_documented_configuration_is_good(tmp_path):
    """Every key of deploy/penfold.yaml, those that are commented out included, with its documented value."""
    from penfold import TOP
    with open(os.path.join(TOP, 'deploy', 'penfold.yaml')) as f:
        text = f.read().replace('/etc/penfold/fleet.key', str(tmp_path / 'fleet.key'))  # this one is read at once
    (tmp_path / 'fleet.key').write_text('0123456789abcdef' * 4 + '\n')
    (tmp_path / 'fleet.key').chmod(0o600)
    # a key that is commented out: "# key: value", with or without indentation of its own
    alone, fleet = text.split('\n# Many nodes.', 1)
    full = re.sub(r'^# (?=(?:shards|default_domain|hostname|user|admin_socket): |tls:\n|  (?:certificate|key|certificates|cache_bytes_max|expiry_warn_days|ticket_keys): )',
                  '', alone, flags=re.M) + '\n# Many nodes.' + fleet
    full = re.sub(r'^# - \{', '  - {', full, flags=re.M)  # listeners
    full = re.sub(r'^user: penfold  .*', '', full, flags=re.M)  # Redis's, below
    assert '\ntls:\n  certificate: ' in full and ', tls: implicit }' in full
    # Redis may be one server, a cluster, or what Sentinels name; with one of the placements
    before, redis, after = re.fullmatch(r'(.*\n)(redis:\n.*?\n)(net:\n.*)', text, re.S).groups()
    redis = re.sub(r'^# (?=(?:user|password|tls|tls_ca|tls_name|tls_certificate): )', '  ', redis, flags=re.M)
    redis = redis.replace('tls_certificate: /etc/penfold/redis-client.pem    # and tls_key', 'tls_certificate: /c\n  tls_key: /k #')
    one = re.sub(r'^# (?=address: )', '  ', redis, flags=re.M)
    cluster = re.sub(r'^# (?=(?:addresses|cluster): )', '  ', redis, flags=re.M)
    sentinel = re.sub(r'^# (?=sentinel: )', '  ', redis, flags=re.M)
    single, nodes = before.split('\n# Many nodes.', 1)
    any_node = single + '\n# Many nodes.' + re.sub(r'^# (?=(?:node|placement): |peer:\n|  (?:address|certificate|key|ca|key_file): )', '', nodes, flags=re.M)
    homes = re.sub(r'^#(?=   - \{ name)', ' ', re.sub(r'^# (?=nodes:)', '', any_node, flags=re.M), flags=re.M)
    assert '\nnode: n1' in any_node and '\n    - { name: n2' in homes and '\n  address: "127.0.0.1:6379"' in one and '\n  cluster: true' in cluster
    fleets = (any_node.replace('placement: home', 'placement: any') + one + after, any_node + cluster.replace('database: 0', '') + after,
              any_node + sentinel + after, homes + one + after)
    for n, t in enumerate((text, full, *fleets)):
        path = tmp_path / f'{n}.yaml'
        path.write_text(t)
        r = subprocess.run([BINARY, '--config', str(path), 'config', 'check'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert r.returncode == 0, r.stdout


def test_a_port_that_is_taken(tmp_path):
    p = Penfold(tmp_path)
    with socket.socket() as s:
        s.bind(('127.0.0.1', p.lmtp_port))
        s.listen()
        status, said = serve(p.config)
    assert status == 2
    assert len(said.splitlines()) == 1 and f'{p.config}:8: listeners[3].address' in said and 'another program listens there' in said, said
    p.setup()
    with p:  # nothing of the failed start is in the way
        p.deliver(MESSAGE, 'ann')


# ---- one process per folder ----

def test_a_second_process_is_refused_and_does_no_harm(penfold):
    p = penfold
    p.deliver(MESSAGE, 'ann')
    with p.pop3('ann') as pop:
        other = os.path.join(p.folder, 'other.yaml')
        with open(other, 'w') as f:
            f.write(GOOD.format(folder=p.folder, port=free_ports(1)[0]))
        for _ in range(3):
            status, said = serve(other)
            assert status == 2 and len(said.splitlines()) == 1 and f'{other}:1: data' in said and 'data_in_use' in said, said
        fsck = p.run('fsck', check=False)
        assert fsck.returncode == 1 and b'a server uses' in fsck.stderr
        p.deliver(MESSAGE, 'ann')
        assert len(pop.retr(1)) > 0 and pop.stat()[0] == 1
        pop.dele(1)
    with p.pop3('ann') as pop:
        assert pop.stat()[0] == 1
    p.json('stats')  # its socket is still there
    p.restart()
    with p.pop3('ann') as pop:
        assert pop.stat()[0] == 1


# ---- signals ----

def takeovers(p):
    return p.json('stats')['metrics']['store_takeovers_total']


def test_sigterm_ends_in_order(tmp_path):
    """Sessions are told, what was acknowledged is sealed: the next start takes nothing over."""
    with Penfold(tmp_path, accounts=['ann', 'bob', 'eve']) as p:
        p.deliver(MESSAGE, 'ann', 'bob', 'eve')
        fresh, pop, deleting, lmtp, data = p.raw(), p.raw(), p.raw(), p.raw(p.lmtp_port), p.raw(p.lmtp_port)
        fresh.recv(1000)
        pop.sendall(LOGIN)
        deleting.sendall(LOGIN.replace(b'ann', b'bob') + b'DELE 1\r\n')
        lmtp.sendall(b'LHLO x.example\r\n')
        data.sendall(f'LHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<eve@{DOMAIN}>\r\nDATA\r\nSubject: half\r\n'.encode())
        settled(lambda: check_open(p, 5))
        time.sleep(0.2)
        began = time.time()
        process = p.process
        process.send_signal(signal.SIGTERM)
        assert read_all(fresh).splitlines()[-1].startswith(b'-ERR [SYS/TEMP]')
        assert read_all(pop).splitlines()[-1].startswith(b'-ERR [SYS/TEMP]')
        assert read_all(deleting).splitlines()[-1].startswith(b'-ERR [SYS/TEMP]')
        assert read_all(lmtp).splitlines()[-1].startswith(b'421 4.3.2')
        assert read_all(data).splitlines()[-1].startswith(b'421 4.3.2')
        assert process.wait(20) == 0
        assert time.time() - began < 5
        with pytest.raises(OSError):
            p.raw()
        assert not os.path.exists(p.lmtp_socket)
        p.start()
        for name in ('ann', 'bob', 'eve'):  # no QUIT, no deletion; no end of data, no message
            with p.pop3(name) as session:
                assert session.stat()[0] == 1
        assert takeovers(p) == 0
        p.kill()
        p.start()
        with p.pop3('ann') as session:
            assert session.stat()[0] == 1
        p.deliver(MESSAGE, 'ann')
        p.kill()
        p.start()
        with p.pop3('ann') as session:
            assert session.stat()[0] == 2
        assert takeovers(p) == 1  # and so it would look otherwise


def check_open(p, least):
    assert sum(s['open'] for s in p.json('stats')['shards']) >= least


def test_sigterm_does_not_wait_for_who_takes_nothing(tmp_path):
    with Penfold(tmp_path, extra='net: { stop_grace_ms: 500 }') as p:
        p.deliver(MESSAGE + b'x' * 5_000_000 + b'\r\n', 'ann')
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(('127.0.0.1', p.pop3_port))
            s.sendall(LOGIN + b'RETR 1\r\n' * 20)
            time.sleep(0.5)
            began = time.time()
            assert p.stop() == 0
            assert time.time() - began < 4
        p.start()


def test_sighup_reads_the_log_settings_again(penfold):
    p = penfold
    with open(p.config) as f:
        text = f.read()

    def reload(new):
        with open(p.config, 'w') as f:
            f.write(new)
        p.process.send_signal(signal.SIGHUP)

    def said(word):
        assert word in p.log()

    reload(text + 'log: { level: info, form: json }\n')
    settled(lambda: said('server.reloaded'), 5)
    with p.pop3('ann'):
        pass
    settled(lambda: said('"event":"pop3.login"'), 5)
    reload(text + 'nonsense: 1\n')
    settled(lambda: said('server.reload_refused'), 5)
    reload(text + 'log: { level: error }\n')

    def silent():
        size = len(p.log())
        with p.pop3('ann'):
            pass
        time.sleep(0.2)
        assert p.log()[size:] == ''
    settled(silent, 5)
    reload(text)


def test_kill_and_start_at_once(penfold):
    """The address of a process that was killed is free when it is gone, or is waited for."""
    for _ in range(15):
        held = [penfold.raw() for _ in range(5)]
        penfold.kill()
        penfold.start()
        for s in held:
            s.close()


# ---- the log ----

NASTY = ['x" event=fake level=alarm y="', "it's", 'back\\slash', 'a=b c=d', 'esc\x1b[31mred', 'bell\x07', 'del\x7f', 'tab\there', 'cr\rlf', '\u2028line\u2028', 'ümläut',
         '%s%n%x', '{"json": 1}', 'x' * 600]
RAW = [b'\xff\xfe\x80', b'\xc3', b'\xed\xa0\x80']

PAIR = re.compile(r'([a-z_.]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')


def parse_keys(line):
    at, out = 0, {}
    while at < len(line):
        m = PAIR.match(line, at)
        assert m, f'not key=value at {at}: {line}'
        assert m[1] not in out, line
        out[m[1]] = m[2]
        at = m.end()
    return out


@pytest.mark.parametrize('form', ['keys', 'json'])
def test_no_client_byte_reaches_the_log_unescaped(tmp_path, form):
    with Penfold(tmp_path, extra=f'log: {{ form: {form}, level: debug }}\npop3: {{ auth_failures_max: 1000 }}') as p:
        names = [n.encode() for n in NASTY] + RAW
        p.run('tenant', 'set', 'demo', 'plain_passwords=yes')  # so that APOP is offered
        time.sleep(0.5)
        for n in names:
            with p.raw() as s:
                s.sendall(b'USER ' + n + b'\r\nPASS x' + n + b'\r\nAPOP ' + n + b' 0123456789abcdef0123456789abcdef\r\n' + n + b'\r\nQUIT\r\n')
                read_all(s)
            with p.raw(p.lmtp_port) as s:
                s.sendall(b'LHLO ' + n + b'\r\nLHLO ok.example\r\nMAIL FROM:<' + n + b'@x.example> SMTPUTF8\r\nMAIL FROM:<"' + n + b'"@x.example> SMTPUTF8\r\n'
                          b'RCPT TO:<' + n + b'@' + DOMAIN.encode() + b'>\r\nRCPT TO:<"' + n + b'"@' + DOMAIN.encode() + b'>\r\nRCPT TO:<ann+"' + n + b'"@' +
                          DOMAIN.encode() + b'>\r\nDATA\r\nSubject: ' + n + b'\r\n\r\n.\r\nQUIT\r\n')
                read_all(s)
        assert p.stop() == 0
        with open(p.log_path, 'rb') as f:
            text = f.read()
        p.start()
    lines = text.split(b'\n')
    assert lines.pop() == b'' and len(lines) > 60
    events = []
    for line in lines:
        assert not re.search(rb'[\x00-\x1f\x7f]', line), line
        line = line.decode()  # UTF-8
        assert '\u2028' not in line
        fields = json.loads(line) if form == 'json' else parse_keys(line)
        assert {'time', 'level', 'event'} <= set(fields), line
        events.append(fields['event'])
        assert fields['event'] != 'fake' and fields['level'] != 'alarm'
    assert events.count('pop3.refused') >= len(names) and events.count('lmtp.end') == len(names)
    if form == 'json':  # and nothing is lost on the way
        users = {json.loads(line).get('user') for line in lines}
        assert 'x" event=fake level=alarm y="' in users and 'back\\slash' in users


def test_a_password_is_in_no_log(penfold):
    p = penfold
    with p.raw() as s:
        s.sendall(f'USER ann@{DOMAIN}\r\nPASS not {PASSWORD}\r\nUSER ann@{DOMAIN}\r\nPASS {PASSWORD}\r\nPASS {PASSWORD}\r\nQUIT\r\n'.encode())
        read_all(s)
    assert p.stop() == 0
    assert PASSWORD not in p.log() and 'pop3.login' in p.log()
    p.start()


# ---- machine-readable answers ----

def test_everything_printed_is_there_as_json(penfold):
    p = penfold
    p.deliver(MESSAGE, 'ann')
    assert p.json('config', 'check')['ok'] is True
    assert p.json('tenant', 'list')[0]['name'] == 'demo'
    assert 'settings' in p.json('tenant', 'list', 'demo')[0]
    assert p.json('domain', 'list')[0]['name'] == DOMAIN
    assert p.json('account', 'list')[0]['name'] == f'ann@{DOMAIN}'
    assert p.json('account', 'list', '--removed') == []
    stats = p.json('stats')
    assert stats['metrics']['lmtp_copies_stored_total'] == 1 and len(stats['shards']) == 2
    assert p.stop() == 0
    fsck = p.json('fsck')
    assert (fsck['accounts'], fsck['messages'], fsck['errors'], fsck['findings']) == (1, 1, 0, [])
    r = p.run('stats', '--json', check=False)  # no server: an error, in words, on standard error
    assert r.returncode == 1 and r.stdout == b'' and r.stderr
    p.start()
