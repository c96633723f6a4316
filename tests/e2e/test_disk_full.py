# SPDX-License-Identifier: Apache-2.0
"""A full disk: mail is refused for now, reading and deleting go on, and with the room the mail comes back."""
import os
import poplib
import subprocess
import time

import pytest

from penfold import DOMAIN, Penfold, settled, without_trace

MESSAGE = b'Subject: fill\r\n\r\n' + (b'0123456789' * 7 + b'\r\n') * 1400  # 100 KB
BIG = b'Subject: big\r\n\r\n' + (b'0123456789' * 7 + b'\r\n') * 30000      # spooled
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A data folder on a file system of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip('only root can mount')
    folder = tmp_path / 'disk'
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', str(folder)], stderr=subprocess.DEVNULL).returncode:
        pytest.skip('mounting is not allowed here')
    try:
        yield folder
    finally:
        for _ in range(50):
            if subprocess.run(['umount', str(folder)]).returncode == 0:
                break
            time.sleep(0.1)


def send(l, name, message=MESSAGE):
    return l.replies('s@remote.example', [f'{name}@{DOMAIN}'], message)[f'{name}@{DOMAIN}']


def fill(p, name):
    """Delivers until nothing is taken any more; how many there are."""
    taken = 0
    with p.lmtp() as l:
        while True:
            code, text = send(l, name)
            if code != 250:
                assert (code, text[:6]) == (452, b'4.3.1 '), (code, text)
                return taken
            taken += 1
            assert taken < 480, 'more than the disk holds'


def test_full_disk(small_disk, tmp_path):
    with Penfold(small_disk, accounts=['ann', 'bob'], extra='store: { reserve_bytes: 8 MiB, seal_bytes: 1 MiB, message_bytes_max: 4 MiB }') as p:
        p.deliver(MESSAGE, 'bob')
        taken = others = 0
        while True:  # what is free is looked at a few times a second; until both shards know
            more, others_more = fill(p, 'ann'), fill(p, 'bob')
            taken, others = taken + more, others + others_more
            if not more and not others_more:
                break
            time.sleep(0.3)
        assert taken > 100
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        assert free > 6 * MIB, 'the reserve is kept'

        with p.lmtp() as l:  # for everybody, of every size, by both roads; and the connection stays in step
            assert send(l, 'bob')[0] == 452
            assert send(l, 'bob', BIG)[0] == 452
            assert send(l, 'bob', b'Subject: small\r\n\r\n')[0] == 452
            assert l.noop()[0] == 250

        # even the reserve is used up by somebody else
        with open(small_disk / 'filler', 'wb') as f:
            try:
                while True:
                    f.write(b'x' * MIB)
                    f.flush()
            except OSError:
                pass
        assert os.statvfs(small_disk).f_bavail < 16
        with p.lmtp() as l:
            assert send(l, 'bob')[0] == 452
        with p.pop3('ann') as pop:  # reading goes on
            assert pop.stat()[0] == taken
            assert without_trace(pop.retr(taken)) == MESSAGE
            before = pop.uidl()
        os.unlink(small_disk / 'filler')

        with p.pop3('ann') as pop:  # deleting goes on, from the reserve
            for n in range(1, taken + 1):
                if n % 20:
                    pop.dele(n)
        kept = [u for n, u in enumerate(before, 1) if n % 20 == 0]
        with p.pop3('ann') as pop:
            assert pop.uidl() == kept

        def taken_again():
            with p.lmtp() as l:
                assert send(l, 'bob', b'Subject: again\r\n\r\n')[0] == 250
        settled(taken_again, 20)  # compaction gives the room back by and by
        again, end = 0, time.time() + 20
        while again < taken * 3 // 4:
            again += fill(p, 'bob')
            assert time.time() < end, f'of {taken} messages that were deleted there is room for {again}'
            time.sleep(0.2)

        p.restart()
        with p.pop3('ann') as pop:
            assert pop.uidl() == kept
            assert all(without_trace(pop.retr(n + 1)) == MESSAGE for n in range(len(kept)))
        p.kill()
        p.start()
        with p.pop3('bob') as pop:
            assert pop.stat()[0] == again + others + 2


def test_a_disk_that_fills_up_under_deliveries(small_disk):
    """No reserve, and writes that fail in the midst: what was answered 250 is there, what was not is not half there."""
    with Penfold(small_disk, accounts=['ann', 'bob'], extra='store: { reserve_bytes: 0 }') as p:
        stored = {'ann': 0, 'bob': 0}
        refused = 0
        with open(small_disk / 'filler', 'wb') as f:
            f.write(b'x' * 4 * MIB)
        with p.lmtp() as l:
            while refused < 10:
                for name in stored:
                    code, text = send(l, name, MESSAGE if refused < 5 else BIG)
                    stored[name] += code == 250
                    if code != 250:
                        refused += 1
                        assert 450 <= code < 460, (code, text)
        for _ in range(2):
            for name, count in stored.items():
                with p.pop3(name) as pop:
                    assert pop.stat()[0] == count
                    assert without_trace(pop.retr(count)) in (MESSAGE, BIG)
            p.kill()
            p.start()
        pop = p.pop3('ann')  # a takeover needs a log, and there is no room for one: only reading is left
        pop.dele(1)
        with pytest.raises(poplib.error_proto, match='SYS'):
            pop.pop.quit()
        os.unlink(small_disk / 'filler')

        def deleted():
            with p.pop3('ann') as pop:
                assert pop.stat()[0] == stored['ann']
                for n in range(1, stored['ann']):
                    pop.dele(n)
        settled(deleted, 5)  # without a restart
        with p.pop3('ann') as pop:
            assert pop.stat()[0] == 1
        settled(lambda: p.deliver(MESSAGE, 'ann'), 20)
    subprocess.run([p.binary, '--config', p.config, 'fsck'], check=True, stdout=subprocess.DEVNULL)
