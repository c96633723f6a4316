# SPDX-License-Identifier: Apache-2.0
"""Operators' questions put to a whole fleet: asked of any node, answered for all, and what is missing is named."""
import os
import shutil
import signal
import time

import pytest

from fleet import Fleet, wait_until
from penfold import DOMAIN, settled
from test_peer import GONE, add, free_ports, homes, owner, peers, with_keys, with_tls  # noqa: F401 - homes is a fixture

ANN, BOB = f'ann@{DOMAIN}', f'bob@{DOMAIN}'


@pytest.fixture(scope='module', params=[with_keys, with_tls], ids=['key', 'tls'])
def fleet(request, tmp_path_factory):
    with peers(tmp_path_factory.mktemp('admin'), request.param, accounts=('ann', 'bob')) as f:
        wait_until(lambda: len(f[0].json('node', 'list')['nodes']) == 2)
        yield f


def log_of(node, event):
    return [line for line in node.log().splitlines() if event in line]


def test_asked_anywhere(fleet):
    at, other = owner(fleet)
    with at.pop3('ann'):
        for asked in (at, other):
            who = asked.json('who', '--account', ANN)
            assert who['unanswered'] == [] and who['matched'] == 1 and not who['truncated']
            session, = who['sessions']
            assert (session['node'], session['protocol'], session['account']) == (at.name, 'pop3', ANN)
            nodes = asked.json('node', 'list')
            assert sorted(n['node'] for n in nodes['nodes']) == ['n1', 'n2'] and nodes['unanswered'] == []
        assert other.json('who', '--account', ANN, '--here')['sessions'] == []
        assert 'unanswered' not in other.json('who', '--here')
        assert len(other.json('who', '--account', ANN, '--node', at.name)['sessions']) == 1
        assert other.json('who', '--account', ANN, '--node', other.name)['sessions'] == []
        assert other.json('who', '--node', 'nobody')['unanswered'] == [{'node': 'nobody', 'why': 'no such node is known'}]
        # in words
        said = other.run('who').stdout.decode()
        assert ANN in said and f'{at.name} ' in said
        assert f'{at.name}: serving' in other.run('node', 'list').stdout.decode()


def test_many_sessions(fleet):
    """An answer of many pieces comes whole."""
    at, other = owner(fleet)
    socks = [at.raw() for _ in range(60)]
    try:
        for s in socks:
            s.recv(512)
        want = {s['session'] for s in at.json('who', '--here', '--protocol', 'pop3')['sessions']}
        got = {s['session'] for s in other.json('who', '--protocol', 'pop3')['sessions']}
        assert len(want) >= 60 and got == want
    finally:
        for s in socks:
            s.close()
    wait_until(lambda: not other.json('who', '--protocol', 'pop3')['sessions'])


def test_locks_and_redis(fleet):
    at, other = owner(fleet)
    s = other.pop3('ann')  # passed on: held at the owner
    for asked in (at, other):
        lock, = asked.json('lock', 'list')['locks']
        assert (lock['node'], lock['account'], lock['redis']) == (at.name, ANN, 'agrees')
        assert 'token' not in lock
        assert asked.json('lock', 'show', ANN)['locks'][0]['session'] == lock['session']
    assert other.json('lock', 'list', '--here')['locks'] == []
    assert other.run('lock', 'show', BOB, check=False).returncode == 3
    # what somebody else writes there is seen
    key = 'pf:a:{1}'
    was = fleet.redis.hash(key)['pop']
    fleet.redis('HSET', key, 'pop', 'f' * 16 + ' 1 192.0.2.1')
    assert other.json('lock', 'show', ANN)['locks'][0]['redis'] == 'differs'
    fleet.redis('HDEL', key, 'pop')
    assert other.json('lock', 'show', ANN)['locks'][0]['redis'] == 'differs'
    fleet.redis('HSET', key, 'pop', was)
    assert other.json('lock', 'show', ANN)['locks'][0]['redis'] == 'agrees'
    # broken from the node that does not hold it; the reason is in the holder's log, with who asked and where
    assert other.json('lock', 'break', ANN, '--reason', 'a test of ours')['broken'] == 1
    with pytest.raises(GONE):
        s.quit()
    wait_until(lambda: not at.json('lock', 'list')['locks'] and 'pop' not in fleet.redis.hash(key))
    told = log_of(at, 'event=admin.lock_break ')[-1]
    assert f' by={other.name} ' in told and 'reason="a test of ours"' in told
    assert other.run('lock', 'break', ANN, '--reason', 'again', check=False).returncode == 3


def test_kick(fleet):
    at, other = owner(fleet)
    s = at.pop3('ann')
    session, = other.json('who', '--account', ANN)['sessions']
    number = str(session['session'])
    other.run('kick', number, '--node', at.name, '--reason', 'by its number')
    with pytest.raises(GONE):
        s.quit()
    s = at.pop3('ann')
    assert other.json('kick', '--account', ANN, '--reason', 'by its name')['ended'] == 1
    with pytest.raises(GONE):
        s.quit()
    settled(lambda: _nobody(other), 20)
    assert other.run('kick', '--account', ANN, check=False).returncode == 3
    # a number without a node is this node's, and nobody else's: the other one's session of that number stays
    s = at.pop3('ann')
    number = str(other.json('who', '--account', ANN)['sessions'][0]['session'])
    if number not in [str(x['session']) for x in other.json('who', '--here')['sessions']]:
        assert other.run('kick', number, check=False).returncode == 3
    s.pop.noop()
    s.quit()


def _nobody(node):
    assert not node.json('who', '--account', ANN)['sessions']


def test_what_else_stands_in_redis(fleet):
    """Names that no configuration takes are not shown; one that has been gone for more than a day is forgotten, one that died lately is missed."""
    names = {'\x1b[31mred': '1', 'a b': '1', 'n' * 64: '1', 'long_gone': '1', 'lately': str(int(time.time()) - 60)}
    for name, at in names.items():
        fleet.redis('HSET', 'pf:nodes', name, at)
    try:
        assert fleet[0].json('node', 'list')['unanswered'] == [{'node': 'lately', 'why': 'it has no lease'}]
        assert 'long_gone' not in fleet.redis.hash('pf:nodes')
    finally:
        fleet.redis('HDEL', 'pf:nodes', *names)
    assert fleet[0].json('node', 'list')['unanswered'] == []


def test_a_drained_node_is_listed(tmp_path):
    with peers(tmp_path, with_keys) as f:
        at, other = owner(f)
        at.run('drain', '--grace', '0', '--over', '0', '--wait')
        wait_until(lambda: {n['node']: n['state'] for n in other.json('node', 'list')['nodes']} == {at.name: 'drained', other.name: 'serving'})


def test_a_node_that_does_not_answer(tmp_path):
    with peers(tmp_path, with_keys) as f:
        at, other = owner(f)
        held = other.pop3('ann')
        # stopped: its kernel takes connections, it does not answer; and later its lease is gone
        at.signal(signal.SIGSTOP)
        for _ in range(2):
            who = other.json('who')
            missing, = who['unanswered']
            assert missing['node'] == at.name and missing['why']
            assert [s['node'] for s in who['sessions']] == [other.name]
            wait_until(lambda: other.json('who')['unanswered'][0]['why'] == 'it has no lease')
        assert other.run('lock', 'show', ANN, check=False).returncode == 1  # not known: it may be there
        at.signal(signal.SIGCONT)
        wait_until(lambda: not other.json('who')['unanswered'])
        held.close()
        # killed
        at.kill()
        said = other.run('who')
        assert f'no answer from node {at.name}: ' in said.stderr.decode()
        assert [u['node'] for u in other.json('node', 'list')['unanswered']] == [at.name]
        assert f'{at.name}: does not answer: ' in other.run('node', 'list').stdout.decode()
        at.start()
        wait_until(lambda: not other.json('node', 'list')['unanswered'])
        # stopped in order: it is not missed
        assert at.stop() == 0
        wait_until(lambda: not other.json('node', 'list')['unanswered'])
        assert [n['node'] for n in other.json('node', 'list')['nodes']] == [other.name]


def test_homes(homes):  # noqa: F811
    nodes, names = homes
    sessions = [nodes[0].pop3(n) for n in names]  # passed on for some
    try:
        for asked in nodes:
            locks = asked.json('lock', 'list')['locks']
            assert sorted(l['account'] for l in locks) == sorted(f'{n}@{DOMAIN}' for n in names)
            assert {l['node'] for l in locks} == {'n1', 'n2'} and {l['redis'] for l in locks} == {None}
            there = [s for s in asked.json('who')['sessions'] if s['protocol'] == 'pop3' and s['account']]
            assert len(there) == len(names)
        # each is ended from a node that need not be its own
        for i, name in enumerate(names):
            assert nodes[i % 2].json('lock', 'break', f'{name}@{DOMAIN}', '--reason', 'x')['broken'] == 1
        for s in sessions:
            with pytest.raises(GONE):
                s.quit()
    finally:
        for s in sessions:
            s.close()
    nodes[1].kill()
    missing, = nodes[0].json('who')['unanswered']
    assert missing['node'] == 'n2'
    nodes[1].start()
    wait_until(lambda: not nodes[0].json('who')['unanswered'])


def test_homes_with_redis(tmp_path):
    """The home is found without Redis, whatever incarnation it has there."""
    ports = free_ports(2)
    listed = ', '.join('{ name: n%d, address: "127.0.0.1:%d" }' % (i + 1, p) for i, p in enumerate(ports))
    key = tmp_path / 'fleet.key'
    key.write_text('k' * 40)
    names = ['ann'] + [f'u{i}' for i in range(8)]
    f = Fleet(tmp_path, nodes=2, accounts=names, placement='home', known=False, extra=f'nodes: [ {listed} ]')
    for n, p in zip(f.nodes, ports):
        add(n, f'peer: {{ address: "127.0.0.1:{p}", key_file: {key} }}')
    other = f[1]
    other.data = other.data + '2'
    with open(other.config) as c:
        text = c.read()
    with open(other.config, 'w') as c:
        c.write(text.replace(f'data: {f[0].data}\n', f'data: {other.data}\n'))
    f.nodes = [f[0]]
    with f:
        os.makedirs(other.data, mode=0o700)
        for file in os.listdir(f[0].data):
            if file.startswith('directory.db'):
                shutil.copy2(os.path.join(f[0].data, file), other.data)
        with other:
            wait_until(lambda: not f[0].json('node', 'list')['unanswered'])
            seen = set()
            for name in names:
                s = f[0].pop3(name)
                lock, = wait_until(lambda: [l for l in other.json('lock', 'list')['locks'] if l['redis'] == 'agrees'])
                assert lock['account'] == f'{name}@{DOMAIN}'
                seen.add(lock['node'])
                s.quit()
            assert seen == {'n1', 'n2'}
