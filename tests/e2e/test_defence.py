# SPDX-License-Identifier: Apache-2.0
"""Limits and the defence against guessing, from outside. Addresses come by PROXY headers and 127.x.y.z."""
import base64
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from penfold import PASSWORD, Memory, Penfold, settled
from proxied import Line, ProxiedPenfold, v1, v2

LOW = ('limits: { connections_per_address: 3, connections_per_net24: 6, connections_per_net64: 3, connections_per_net48: 5,'
       ' unauthenticated_per_address: 2, sessions_per_account: 2 }')


def greeted(p, client, port=None):
    """The first line, and the connection if it is good."""
    c = p.come(client, port)
    line = c.read()
    if line.startswith(b'+OK'):
        return line, c
    c.close()
    return line, None


def until_refused(p, addresses, enter=True, most=50):
    """Connections from the addresses in turn until one is refused: how many were there, and the words."""
    held = []
    try:
        for i in range(most):
            line, c = greeted(p, addresses[i % len(addresses)])
            if not c:
                return len(held), line
            held.append(c)
            if enter:
                assert c.login(f'u{i}', PASSWORD).startswith(b'+OK')
        raise AssertionError('nobody was refused')
    finally:
        for c in held:
            c.close()


@pytest.fixture(scope='module')
def low(tmp_path_factory):
    with ProxiedPenfold(tmp_path_factory.mktemp('low'), extra=LOW, accounts=[f'u{i}' for i in range(50)]) as p:
        yield p


def test_each_limit_says_its_name(low):
    wait = rb'-ERR \[SYS/TEMP\] .*\(limit %b\), please wait and try again\r\n'
    for addresses, enter, count, name in (
            (['203.0.113.1'], True, 3, b'address'), (['203.0.113.2'], False, 2, b'unauthenticated-address'),
            ([f'198.51.100.{i}' for i in range(1, 9)], True, 6, b'net24'), (['2001:db8:1:1::%d' % i for i in range(1, 9)], True, 3, b'net64'),
            (['2001:db8:2:%d::1' % i for i in range(1, 9)], True, 5, b'net48')):
        got, words = settled(lambda: _same(until_refused(low, addresses, enter), count), 10)
        assert got == count and re.fullmatch(wait % name, words), (name, got, words)
    refused = low.json('stats')['limits']['refused']
    assert refused['address'] and refused['net24'] and refused['net64'] and refused['net48'] and refused['unauthenticated-address']
    answer = json.loads(low.run('why', '203.0.113.1', '--json').stdout)
    assert {'refused', 'accepted'} <= {d['decision'] for d in answer['decisions']}
    assert 'address' in [d['reason'] for d in answer['decisions']]


def _same(result, count):
    assert result[0] == count, result  # those of the time before may still be leaving
    return result


def test_lmtp_says_421(low):
    held = []
    try:
        for _ in range(20):
            c = Line(low.raw(low.proxy_lmtp_port), v2('203.0.113.77'))
            line = c.read()
            held.append(c)
            if not line.startswith(b'220'):
                break
        assert len(held) == 4 and re.fullmatch(rb'421 4\.7\.0 .*\(limit address\).*\r\n', line), line
    finally:
        for c in held:
            c.close()


def test_what_is_over_is_free_again(low):
    """Nothing leaks: a hundred times the limit, one after the other."""
    for i in range(100):
        def one():
            line, c = greeted(low, '203.0.113.30')
            assert c, line
            c.login(f'u{i % 50}', PASSWORD)
            c.close()
        settled(one, 10)


def test_reloaded_by_sighup(tmp_path):
    with ProxiedPenfold(tmp_path, extra='limits: { connections_per_address: 1 }') as p:
        _, first = greeted(p, '203.0.113.1')
        assert greeted(p, '203.0.113.1')[1] is None
        for old, new in (('connections_per_address: 1', 'connections_per_address: 2'),):
            with open(p.config) as f:
                text = f.read()
            with open(p.config, 'w') as f:
                f.write(text.replace(old, new))
        p.process.send_signal(signal.SIGHUP)
        second = settled(lambda: _there(greeted(p, '203.0.113.1')[1]), 10)
        assert greeted(p, '203.0.113.1')[1] is None
        with open(p.config, 'w') as f:
            f.write(text.replace('connections_per_address: 1', 'exempt: ["203.0.113.0/24"], connections_per_address: 1'))
        p.process.send_signal(signal.SIGHUP)
        third = settled(lambda: _there(greeted(p, '203.0.113.1')[1]), 10)
        more = [greeted(p, '203.0.113.1')[1] for _ in range(20)]
        assert all(more)
        for c in [first, second, third, *more]:
            c.close()


def _there(c):
    assert c
    return c


def test_configuration_says_where_it_is_wrong(tmp_path):
    for extra, words in (('limits: { exempt: ["127.0.0.1/8"] }', b'limits.exempt[1]'), ('limits: { exempt: ["here"] }', b'limits.exempt[1]'),
                         ('limits: { delay_ms_max: 70000 }', b'limits.delay_ms_max'), ('limits: { exemt: [] }', b'exemt')):
        p = Penfold(tmp_path, extra=extra)
        r = p.run('config', 'check', check=False)
        assert r.returncode == 2 and words in r.stdout + r.stderr, (extra, r)
    p = Penfold(tmp_path, extra='limits: { exempt: ["127.0.0.0/8", "::1", "2001:db8::/32"] }')
    p.run('config', 'check')


# ---- tenants ----

def test_a_tenants_own_limits(tmp_path):
    with ProxiedPenfold(tmp_path, extra='limits: { connections_per_address: 1000 }', accounts=['u0', 'u1', 'u2', 'u3']) as p:
        p.run('tenant', 'set', 'demo', 'sessions_max=2')

        def full():
            held = [greeted(p, '203.0.113.1')[1] for _ in range(4)]
            try:
                words = [c.login(f'u{i}', PASSWORD) for i, c in enumerate(held)]
                assert [w[:3] for w in words] == [b'+OK', b'+OK', b'-ER', b'-ER'], words
                assert re.fullmatch(rb'-ERR \[SYS/TEMP\] .*\(limit tenant\), please wait and try again\r\n', words[3])
            finally:
                for c in held:
                    c.close()
        settled(full, 15)


# ---- guessing ----

GUESS = 'limits: { failures_free: 3, login_failures_free: 6, delay_first_ms: 100, delay_ms_max: 400, forget_s: 3600 }\npop3: { auth_failures_max: 100 }'


@pytest.fixture(scope='module')
def guess(tmp_path_factory):
    with ProxiedPenfold(tmp_path_factory.mktemp('guess'), extra=GUESS, accounts=[f'u{i}' for i in range(50)]) as p:
        yield p


def attempt(p, client, name, password):
    """The answer to one login, and how long it took."""
    with p.come(client) as c:
        assert c.read().startswith(b'+OK')
        c.ask(f'USER {name}')
        t = time.monotonic()
        answer = c.ask(f'PASS {password}')
        took = time.monotonic() - t
        if answer.startswith(b'+OK'):
            c.ask('QUIT')
        return answer, took


def fail(p, client, name, times, prefix='guess'):
    for i in range(times):
        answer, _ = attempt(p, client, name, f'{prefix}{i}')
        assert answer.startswith(b'-ERR'), answer


def reasons(p, who):
    r = p.run('why', who, '--json', check=False)
    return [(d['decision'], d['reason'], d['delay_ms']) for d in json.loads(r.stdout)['decisions']]


def test_delays_grow_for_names_that_exist_and_those_that_do_not(guess):
    """Invariant 11: the delays are the same."""
    seen = {}
    for client, name in (('198.51.100.1', 'u1'), ('203.0.113.1', 'nobody-of-this-name')):
        fail(guess, client, name, 6)
        seen[name] = [(r, d) for k, r, d in reasons(guess, client) if k == 'delayed']
    assert seen['u1'] == seen['nobody-of-this-name']
    assert [d for _, d in reversed(seen['u1'])] == [100, 200, 400], seen
    assert {r for r, _ in seen['u1']} == {'address'}


def test_the_right_password_waits_as_long_as_a_wrong_one(guess):
    fail(guess, '198.51.100.2', 'u2', 5)
    for password in ('wrong', PASSWORD):
        _, took = attempt(guess, '198.51.100.2', 'u2', password)
        assert took >= 0.35


def test_a_waiting_login_is_parked_and_is_noticed_at_a_stop(guess):
    """The wait holds no stack: others are served meanwhile by the hundred."""
    fail(guess, '198.51.100.3', 'u3', 5)
    with guess.come('198.51.100.3') as c:
        c.read()
        c.ask('USER u3')
        c.s.sendall(b'PASS wrong\r\n')
        for i in range(20):
            answer, _ = attempt(guess, f'192.0.2.{i + 1}', f'u{i + 20}', PASSWORD)
            assert answer.startswith(b'+OK')
        assert c.read().startswith(b'-ERR [AUTH]')


def by_auth(p, client, name, password):
    with p.come(client) as c:
        c.read()
        answer = c.ask('AUTH PLAIN ' + base64.b64encode(f'\0{name}\0{password}'.encode()).decode())
        if answer.startswith(b'+OK'):
            c.ask('QUIT')
        return answer, None


@pytest.mark.parametrize('client,name,way', [('198.51.100.4', 'u4', attempt), ('198.51.100.14', 'u14', by_auth)])
def test_the_same_wrong_password_is_no_guess(guess, client, name, way):
    for _ in range(12):
        way(guess, client, name, 'the old one')
    answer, _ = way(guess, client, name, PASSWORD)
    assert answer.startswith(b'+OK')
    seen = reasons(guess, client)
    assert [r for k, r, _ in seen if k == 'refused'].count('wrong-password') == 1
    assert not [1 for k, _, _ in seen if k == 'delayed']


def test_who_is_at_home_does_not_wait_for_others(guess):
    """Behind the address from which others guess, and while the account is attacked from everywhere."""
    assert attempt(guess, '198.51.100.5', 'u5', PASSWORD)[0].startswith(b'+OK')
    fail(guess, '198.51.100.5', 'u6', 5)
    for i in range(10):
        attempt(guess, f'203.0.{i}.113', 'u5', f'distributed{i}')
    answer, _ = attempt(guess, '198.51.100.5', 'u5', PASSWORD)
    assert answer.startswith(b'+OK')
    about = json.loads(guess.run('why', 'u5', '--json').stdout)['decisions']
    assert not [d for d in about if d['decision'] == 'delayed' and d['address'] == '198.51.100.5']
    last = json.loads(guess.run('why', 'u5@demo.example', '--json').stdout)['decisions'][0]
    assert last['decision'] == 'accepted' and last['address'] == '198.51.100.5' and last['delay_ms'] == 0
    stranger = [r for k, r, _ in reasons(guess, 'u5') if k == 'delayed']
    assert 'login' in stranger, 'an attack from many addresses on one login is slowed down'


def test_variants_of_a_name_are_one_name(guess):
    """Subaddress, case, domain in full: for a name that exists and one that does not."""
    for name, net in (('u7', 10), ('zz7', 20)):
        variants = [name, name.upper(), f'{name}+a@demo.example', f'{name}+b%demo.example', f'{name}@demo.example', f'{name}%demo.example', f'{name}+c@DEMO.example']
        for i, v in enumerate(variants):
            attempt(guess, f'203.1.{net + i}.1', v, f'x{i}')
        attempt(guess, f'203.1.{net + 9}.1', name, 'x')
        assert ('delayed', 'login', 200) in reasons(guess, f'203.1.{net + 9}.1')


def test_too_many_that_wait_are_asked_to_come_again(guess):
    """fetchmail gives up for good on a refusal that does not say "wait"."""
    fail(guess, '198.51.100.8', 'u8', 6)
    lines = []
    for i in range(20):
        c = guess.come('198.51.100.8')
        c.read()
        c.ask('USER u8')
        c.s.sendall(b'PASS x%d\r\n' % i)
        lines.append(c)
    answers = [c.read() for c in lines]
    for c in lines:
        c.close()
    assert any(b'(limit guessing), please wait' in a and a.startswith(b'-ERR [SYS/TEMP]') for a in answers), answers
    assert any(a.startswith(b'-ERR [AUTH]') for a in answers), answers


def test_auth_and_apop_wait_too(guess):
    fail(guess, '198.51.100.9', 'u9', 4)
    with guess.come('198.51.100.9') as c:
        c.read()
        t = time.monotonic()
        assert c.ask(b'AUTH PLAIN ' + base64.b64encode(b'\0u9\0wrong') + b'\r\n').startswith(b'-ERR')
        assert time.monotonic() - t >= 0.15
        assert c.ask('NOOP').startswith(b'-ERR')  # and the session goes on


def test_a_tenants_own_defence(guess):
    guess.run('tenant', 'set', 'demo', 'trusted_networks=198.18.0.0/15, 2001:db8:9::/48')
    time.sleep(0.6)  # the directory is looked at every 250 ms
    try:
        fail(guess, '198.18.0.9', 'u10', 8)
        assert not [1 for k, _, _ in reasons(guess, '198.18.0.9') if k == 'delayed']
        guess.run('tenant', 'set', 'demo', 'trusted_networks=none', 'guess_delay_max_s=none')
        time.sleep(0.6)
        fail(guess, '192.0.2.240', 'u10', 6)
        assert not [1 for k, _, _ in reasons(guess, '192.0.2.240') if k == 'delayed']
    finally:
        guess.run('tenant', 'set', 'demo', 'trusted_networks=none', 'guess_delay_max_s=default')
    r = guess.run('tenant', 'set', 'demo', 'trusted_networks=1.2.3.4/8', check=False)
    assert r.returncode != 0


def test_exempt_addresses_are_neither_limited_nor_delayed(tmp_path):
    with Penfold(tmp_path, extra='limits: { exempt: ["127.0.0.0/8"], connections_per_address: 1, failures_free: 0 }\npop3: { auth_failures_max: 1000 }') as p:
        held = [p.raw() for _ in range(300)]
        with Line(p.raw()) as c:
            c.read()
            for i in range(10):
                assert c.login('ann', f'wrong{i}').startswith(b'-ERR [AUTH]')
            assert c.login('ann', PASSWORD).startswith(b'+OK')
        for s in held:
            s.close()
        assert not [1 for k, _, _ in reasons(p, '127.0.0.1') if k == 'delayed']


def test_why_says_when_it_knows_nothing(guess):
    r = guess.run('why', 'somebody@else.example', check=False)
    assert r.returncode == 3 and b'nothing' in r.stderr
    assert b'refused' in guess.run('why', '198.51.100.1').stdout
    assert guess.run('why', check=False).returncode == 2


@pytest.mark.parametrize('name', ['%s%n%x', 'a\tb', "x' OR 1=1 --", ')(uid=*', '%{user}', '\x1b[31m', '"quoted"', 'a\\"b', '\u00e4'])
def test_log_injection_class(guess, name):
    """Class "log injection", "field injection", "format string in auth logging" (CVE-2004-0777, CVE-2008-1218, CVE-2026-24031, CVE-2026-27860): one
    line each, escaped, in the log and in `why`; nobody comes in."""
    lines = len(guess.log().splitlines())
    with guess.come('192.0.2.99') as c:
        c.read()
        c.s.sendall(b'USER ' + name.encode() + b'\r\n')
        c.read()
        c.s.sendall(b'PASS x\r\n')
        assert c.read().startswith(b'-ERR')
    new = guess.log().splitlines()[lines:]
    assert all(l.startswith('time=') for l in new)
    assert not any('\x1b' in l for l in new)
    text = guess.run('why', '192.0.2.99').stdout
    assert b'\x1b' not in text
    json.loads(guess.run('why', '192.0.2.99', '--json').stdout)


# ---- a flood ----

def test_a_thousand_attackers_and_a_hundred_honest(tmp_path):
    """1,000 addresses guess as fast as they may while 100 people poll: nobody honest is refused, memory is bounded."""
    people = [f'u{i}' for i in range(100)]
    extra = 'limits: { unauthenticated_max: 600, cache_bytes_max: 1 MiB }'
    with ProxiedPenfold(tmp_path, extra=extra, accounts=people) as p:
        for i, name in enumerate(people):
            assert attempt(p, f'203.0.{i}.1', name, PASSWORD)[0].startswith(b'+OK')
        ending, guesses, broken = threading.Event(), [0] * 8, []

        def attack(k):
            open_lines = []
            n = 0
            while not ending.is_set():
                n += 1
                try:
                    c = p.come(f'198.{18 + k % 2}.{(n + 17 * k) % 250}.{k + 1}')
                    if c.read().startswith(b'+OK'):
                        c.s.sendall(b'USER u%d\r\nPASS guess%d-%d\r\n' % (n % 120, k, n))
                        guesses[k] += 1
                        open_lines.append(c)
                    else:
                        c.close()
                except OSError:
                    pass
                while len(open_lines) > 60:
                    open_lines.pop(0).close()
            for c in open_lines:
                c.close()

        def honest(part):
            try:
                for _ in range(3):
                    for i in part:
                        answer, _ = attempt(p, f'203.0.{i}.1', people[i], PASSWORD)
                        if not answer.startswith(b'+OK'):
                            broken.append((people[i], answer))
            except (OSError, AssertionError) as e:
                broken.append(repr(e))

        with Memory(p) as memory:
            attackers = [threading.Thread(target=attack, args=(k,), daemon=True) for k in range(8)]
            for t in attackers:
                t.start()
            friends = [threading.Thread(target=honest, args=(range(k, 100, 5),)) for k in range(5)]
            for t in friends:
                t.start()
            for t in friends:
                t.join(120)
            ending.set()
            for t in attackers:
                t.join(60)
        assert not broken, broken[:5]
        assert sum(guesses) > 100
        stats = p.json('stats')['limits']
        assert stats['entries_idle'] <= stats['entries_idle_max'] and stats['entries_idle_max'] * 100 < 2 << 20
        assert memory.grown_kib() < 64 * 1024
        settled(lambda: _equal(p.json('stats')['limits']['unauthenticated'], 0), 30)


def _equal(a, b):
    assert a == b
