# SPDX-License-Identifier: Apache-2.0
"""LMTP from outside: who takes what, quotas, sizes, BDAT, smuggling, loops, and what is in the maildrops afterwards.

The words of the dialogue are in tests/wire; here it is what came of them.
"""
import os
import poplib
import random
import re
import threading
import time

import pytest

from penfold import DOMAIN, Memory, Penfold, read_all, settled, without_trace

MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
SENDER = 'sender@remote.example'


def stored(p, name):
    """The messages of a maildrop, as they were handed over."""
    with p.pop3(name) as pop:
        return [without_trace(pop.retr(n + 1)) for n in range(pop.stat()[0])]


def count(p, name):
    with p.pop3(name) as pop:
        return pop.stat()[0]


class Wire:
    """An LMTP connection for bytes of any form."""

    def __init__(self, p):
        self.s = p.raw(p.lmtp_port)
        self.s.settimeout(60)
        self.f = self.s.makefile('rb')
        assert self.reply().startswith(b'220 ')
        self.do(b'LHLO client.example.org')

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.f.close()
        self.s.close()

    def reply(self):
        """The last line of one reply."""
        while True:
            line = self.f.readline()
            assert re.match(rb'[2-5]\d\d[ -].*\r\n', line), line
            if line[3:4] == b' ':
                return line[:-2]

    def do(self, line):
        self.s.sendall(line + b'\r\n')
        return self.reply()

    def begin(self, *names, sender=SENDER, more=''):
        assert self.do(f'MAIL FROM:<{sender}>{more}'.encode()).startswith(b'250')
        for n in names:
            assert self.do(f'RCPT TO:<{n}@{DOMAIN}>'.encode()).startswith(b'250')

    def data(self, *names, content):
        """content: all that follows 354, its end included."""
        self.begin(*names)
        assert self.do(b'DATA').startswith(b'354')
        self.s.sendall(content)


# ---- recipients ----

def test_a_reply_and_a_copy_for_each_recipient(tmp_path):
    names = ['ann'] + [f'user{i}' for i in range(12)]  # of both shards
    with Penfold(tmp_path, accounts=names) as p:
        rcpts = [f'{n}@{DOMAIN}' for n in names]
        asked = rcpts[:5] + [f'nobody@{DOMAIN}', 'x@elsewhere.example'] + rcpts[5:]
        with p.lmtp() as l:
            replies = l.replies(SENDER, asked, MESSAGE)
        assert list(sorted(replies)) == sorted(asked)
        assert replies[f'nobody@{DOMAIN}'] == (550, b'5.1.1 no such mailbox')
        assert replies['x@elsewhere.example'] == (550, b'5.1.2 this domain is not served here')
        ids = set()
        for n, r in zip(names, rcpts):
            code, text = replies[r]
            assert code == 250 and text.endswith(b'<' + r.encode() + b'>'), (r, code, text)
            with p.pop3(n) as pop:
                assert pop.stat()[0] == 1
                got = pop.retr(1)
            assert without_trace(got) == MESSAGE
            assert got.startswith(f'Return-Path: <{SENDER}>\r\nDelivered-To: {r}\r\nReceived: '.encode())
            assert f'\r\n\tfor <{r}>; '.encode() in got
            ids.add(re.search(rb' id (\S+)', got)[1])
        assert len(ids) == 1 and ids.pop() in replies[rcpts[0]][1]


def test_subaddress_goes_to_its_account(penfold):
    penfold.deliver(MESSAGE, 'ann+tag', 'ANN+other+tag')
    with penfold.pop3('ann') as pop:
        assert pop.stat()[0] == 2
        assert f'\r\nDelivered-To: ann+tag@{DOMAIN}\r\n'.encode() in pop.retr(1)
    penfold.run('tenant', 'set', 'demo', 'subaddress_separator=none')

    def no_more():
        with penfold.lmtp() as l:
            assert l.replies(SENDER, [f'ann+tag@{DOMAIN}'], MESSAGE)[f'ann+tag@{DOMAIN}'][0] == 550
    settled(no_more)


def test_suspended_and_switched_off(penfold):
    def answer(*settings):
        penfold.run('account', 'set', f'ann@{DOMAIN}', *settings)

        def check(code, start):
            with penfold.lmtp() as l:
                l.ehlo_or_helo_if_needed()
                l.mail(SENDER)
                assert l.rcpt(f'ann@{DOMAIN}')[0] == code
                assert l.rcpt(f'ann@{DOMAIN}')[1].startswith(start)
        return check
    refused = answer('suspended=yes')
    settled(lambda: refused(550, b'5.2.1 mailbox is suspended'))
    off = answer('suspended=no', 'lmtp=no')
    settled(lambda: off(550, b'5.2.1 mailbox takes no mail'))
    on = answer('lmtp=yes')
    settled(lambda: on(250, b'2.1.5'))
    assert count(penfold, 'ann') == 0


# ---- quotas ----

@pytest.mark.parametrize('over,code', [('temporary', 452), ('permanent', 552)])
def test_full_mailbox(penfold, over, code):
    """At RCPT where it is known, else at the end, by the tenant's setting."""
    p = penfold
    p.run('tenant', 'set', 'demo', 'quota_messages=2', f'over_quota={over}')

    def rcpt(more=''):
        with p.lmtp() as l:
            l.ehlo_or_helo_if_needed()
            l.docmd(f'MAIL FROM:<{SENDER}>{more}')
            return l.rcpt(f'ann@{DOMAIN}')

    with Wire(p) as late:
        p.deliver(MESSAGE, 'ann')
        late.begin('ann')  # one place is left now
        p.deliver(MESSAGE, 'ann')

        def full():
            assert rcpt() == (code, f'{code // 100}.2.2 mailbox is full'.encode())
        settled(full)
        assert late.do(b'DATA').startswith(b'354')
        late.s.sendall(MESSAGE + b'.\r\n')
        assert late.reply().startswith(f'{code} {code // 100}.2.2 mailbox is full'.encode())
    assert count(p, 'ann') == 2

    with p.pop3('ann') as pop:  # room comes back with the deletion
        pop.dele(1)
    p.deliver(MESSAGE, 'ann')

    p.run('tenant', 'set', 'demo', 'quota_messages=none', 'quota_bytes=20K')

    def by_bytes():
        assert rcpt(' SIZE=30000')[0] == code
        assert rcpt(' SIZE=3000')[0] == 250
    settled(by_bytes)
    with p.lmtp() as l:  # who does not say how much hears it at the end
        assert l.replies(SENDER, [f'ann@{DOMAIN}'], MESSAGE + b'x' * 30000 + b'\r\n')[f'ann@{DOMAIN}'][0] == code
        assert l.replies(SENDER, [f'ann@{DOMAIN}'], MESSAGE)[f'ann@{DOMAIN}'][0] == 250
    assert count(p, 'ann') == 3


def test_quota_holds_among_deliveries_at_once(penfold):
    p = penfold
    p.run('account', 'set', f'ann@{DOMAIN}', 'quota_messages=5')
    settled(lambda: None, 1)
    wires = [Wire(p) for _ in range(20)]
    for w in wires:
        w.begin('ann')
        assert w.do(b'DATA').startswith(b'354')
        w.s.sendall(MESSAGE)
    for w in wires:
        w.s.sendall(b'.\r\n')
    codes = [w.reply()[:3] for w in wires]
    for w in wires:
        w.s.close()
    assert sorted(codes) == [b'250'] * 5 + [b'552'] * 15
    assert count(p, 'ann') == 5


# ---- sizes ----

def test_size(tmp_path):
    with Penfold(tmp_path, extra='store: { message_bytes_max: 2 MiB }') as p:
        with Wire(p) as w:
            assert w.do(f'MAIL FROM:<{SENDER}> SIZE=2097153'.encode()).startswith(b'552 5.3.4')
            assert w.do(f'MAIL FROM:<{SENDER}> SIZE=99999999999999999999'.encode()).startswith(b'501')
            assert w.do(f'MAIL FROM:<{SENDER}> SIZE=-1'.encode()).startswith(b'501')
            big = MESSAGE + b'y' * (3 << 20)
            w.data('ann', content=big + b'\r\n.\r\n')
            assert w.reply().startswith(b'552 5.3.4')
            w.begin('ann')
            for at in range(0, len(big), 1 << 20):  # BDAT hears it with the chunk that goes beyond
                w.s.sendall(b'BDAT %d\r\n' % len(big[at:at + (1 << 20)]) + big[at:at + (1 << 20)])
            replies = [w.reply()[:9] for _ in range(0, len(big), 1 << 20)]
            assert replies == [b'250 2.0.0', b'250 2.0.0', b'552 5.3.4', b'552 5.3.4'], replies
            assert w.do(b'BDAT 0 LAST').startswith(b'552 5.3.4')
            fits = MESSAGE + b'z' * ((2 << 20) - len(MESSAGE) - 2) + b'\r\n'
            w.data('ann', content=fits + b'.\r\n')  # in step, and exactly so much is taken
            assert w.reply().startswith(b'250')
        assert stored(p, 'ann') == [fits]


def test_150_megabytes_stream_through_bounded_memory(tmp_path):
    """To two accounts at once; what comes in is not kept in memory, nor are the copies."""
    with Penfold(tmp_path, accounts=['ann', 'bob']) as p:
        p.deliver(MESSAGE, 'ann', 'bob')
        line = b'0123456789' * 7 + b'\r\n'
        block = line * 20000
        total = (150 << 20) - 4096
        with Memory(p) as memory, Wire(p) as w:
            w.data('ann', 'bob', content=b'Subject: big\r\n\r\n')
            sent = 16
            while sent + len(block) <= total:
                w.s.sendall(block)
                sent += len(block)
            w.s.sendall(b'.\r\n')
            assert [w.reply()[:3] for _ in range(2)] == [b'250', b'250']
        assert sent > 148_000_000
        assert memory.grown_kib() < 24 << 10, f'{memory.grown_kib()} KiB'
        for name in ('ann', 'bob'):
            with p.pop3(name) as pop:
                assert pop.sizes()[1] > sent


# ---- BDAT ----

def test_bdat_cut_anywhere(penfold):
    rnd = random.Random(5)
    message = b'Subject: bdat\r\n\r\n.first\r\n..second\r\n.\r\n\r\n.\r\nlast\r\n'
    want = []
    with Wire(penfold) as w:
        for cut in range(1, len(message)):  # two chunks, at every place
            w.begin('ann')
            w.s.sendall(b'BDAT %d\r\n' % cut + message[:cut] + b'BDAT %d LAST\r\n' % (len(message) - cut) + message[cut:])
            assert [w.reply()[:3] for _ in range(2)] == [b'250', b'250']
            want.append(message)
        for _ in range(30):  # many chunks, empty ones among them, in segments that have nothing to do with them
            cuts = [0] + sorted(rnd.choices(range(len(message) + 1), k=rnd.randint(0, 8))) + [len(message)]
            wire = b''.join(b'BDAT %d%s\r\n' % (b - a, b' LAST' if n == len(cuts) - 2 else b'') + message[a:b]
                            for n, (a, b) in enumerate(zip(cuts, cuts[1:])))
            w.begin('ann')
            while wire:
                k = rnd.randint(1, 40)
                w.s.sendall(wire[:k])
                wire = wire[k:]
            assert [w.reply()[:3] for _ in cuts[1:]] == [b'250'] * (len(cuts) - 1)
            want.append(message)
    assert stored(penfold, 'ann') == want


# ---- character sets ----

def test_utf8_addresses_and_8_bit_content(penfold):
    p = penfold
    p.add_account('jörg')
    content = 'Subject: Grüße\r\n\r\nüber 8 Bit\r\n'.encode()

    def delivered():
        with Wire(p) as w:
            assert w.do('MAIL FROM:<jürgen@müller.example> BODY=8BITMIME'.encode()).startswith(b'553 5.6.7')
            assert w.do('MAIL FROM:<jürgen@müller.example> BODY=8BITMIME SMTPUTF8'.encode()).startswith(b'250')
            assert w.do(f'RCPT TO:<jörg@{DOMAIN}>'.encode()).startswith(b'250')
            assert w.do(b'DATA').startswith(b'354')
            w.s.sendall(content + b'.\r\n')
            assert w.reply().startswith(b'250')
    settled(delivered)
    with p.pop3('jörg') as pop:
        with pytest.raises(poplib.error_proto, match=r'\[UTF8\]'):  # RFC 6856: its header is not for old clients
            pop.retr(1)
    with p.pop3('jörg', utf8=True) as pop:
        got = pop.retr(1)
    assert got.startswith('Return-Path: <jürgen@müller.example>\r\n'.encode()) and b' with UTF8LMTP id ' in got
    assert without_trace(got) == content


# ---- smuggling ----

ENDS = [b'\n.\n', b'\n.\r\n', b'\r\n.\n', b'\r.\r', b'\r.\r\n', b'\r\n.\r', b'\n.\r', b'\r.\n', b'\r\n.\r\r\n']


@pytest.mark.parametrize('ways', ['one segment', 'cut at the end', 'byte by byte'])
def test_no_end_of_data_but_one(penfold, ways):
    """Nine forms that one server or another takes for the end: the message is refused as a whole, what hides behind the end is
    never a second message, and the connection stays in step."""
    for end in ENDS:
        inner = f'MAIL FROM:<evil@remote.example>\r\nRCPT TO:<ann@{DOMAIN}>\r\nDATA\r\nSubject: smuggled\r\n\r\n'.encode()
        outer = b'Subject: outer\r\n\r\ntext' + end + inner + b'text\r\n.\r\n'
        with Wire(penfold) as w:
            w.begin('ann')
            assert w.do(b'DATA').startswith(b'354')
            at = outer.index(end) + len(end)
            pieces = {'one segment': [outer], 'cut at the end': [outer[:at - 1], outer[at - 1:at], outer[at:]],
                      'byte by byte': [outer[i:i + 1] for i in range(len(outer))]}[ways]
            for piece in pieces:
                w.s.sendall(piece)
                if len(pieces) == 3:
                    time.sleep(0.005)
            assert w.reply().startswith(b'554 5.6.0'), end
            assert w.do(b'NOOP').startswith(b'250 2.0.0 OK'), end  # the next reply is to this
    assert count(penfold, 'ann') == 0


def test_bare_ends_and_nul_are_refused_in_bdat_too(penfold):
    with Wire(penfold) as w:
        for bad in (b'one\ntwo\r\n', b'one\rtwo\r\n', b'nul\0\r\n', b'\0', b'last\r', b'\n'):
            content = b'Subject: bad\r\n\r\n' + bad
            w.begin('ann')
            w.s.sendall(b'BDAT %d LAST\r\n' % len(content) + content)
            assert w.reply().startswith(b'554 5.6.0'), bad
            w.data('ann', content=content + b'\r\n.\r\n')
            assert w.reply().startswith(b'554 5.6.0'), bad
        assert w.do(b'NOOP').startswith(b'250')
    assert count(penfold, 'ann') == 0


# ---- loops ----

def test_a_mail_loop_ends(penfold):
    """What was read is handed in again, as a careless forwarder does: soon it is refused, for this address only."""
    penfold.add_account('bob')
    message, rounds = MESSAGE, 0
    while True:
        with penfold.lmtp() as l:
            code, text = l.replies(SENDER, [f'ann@{DOMAIN}'], message)[f'ann@{DOMAIN}']
        if code != 250:
            break
        rounds += 1
        assert rounds < 10
        with penfold.pop3('ann') as pop:
            message = pop.retr(rounds)
    assert (code, text[:16]) == (554, b'5.4.6 mail loop ') and rounds >= 2
    settled(lambda: penfold.deliver(message, 'bob'))
    hops = b''.join(b'Received: from a by b; now\r\n' for _ in range(101))
    with penfold.lmtp() as l:
        assert l.replies(SENDER, [f'bob@{DOMAIN}'], hops + MESSAGE)[f'bob@{DOMAIN}'][0] == 554
        assert l.replies(SENDER, [f'bob@{DOMAIN}'], MESSAGE + hops)[f'bob@{DOMAIN}'][0] == 250


# ---- segments ----

def test_a_whole_session_in_one_segment_and_byte_by_byte(penfold):
    session = (f'LHLO c.example\r\nMAIL FROM:<a@b.example> SIZE=100\r\nRCPT TO:<ann@{DOMAIN}>\r\nRCPT TO:<nobody@{DOMAIN}>\r\nRCPT TO:<ann+x@{DOMAIN}>\r\n'
               f'DATA\r\n').encode() + b'Subject: p\r\n\r\n..dot\r\n...\r\n.\r\n' + (
               f'NOOP\r\nMAIL FROM:<>\r\nRCPT TO:<ann@{DOMAIN}>\r\nBDAT 14\r\nSubject: p\r\n\r\nBDAT 3 LAST\r\n.\r\nRSET\r\nBOGUS\r\nQUIT\r\n').encode()

    def play(pieces):
        with penfold.raw(penfold.lmtp_port) as s:
            for piece in pieces:
                s.sendall(piece)
            return re.sub(rb'stored as \S+', b'stored as ID', read_all(s))
    whole = play([session])
    assert [l[:3] for l in whole.split(b'\r\n') if l[3:4] == b' '] == [
        b'220', b'250', b'250', b'250', b'550', b'250', b'354', b'250', b'250', b'250', b'250', b'250', b'250', b'250', b'250', b'500', b'221']
    assert play(session[i:i + 1] for i in range(len(session))) == whole
    assert play([session[:77], session[77:]]) == whole
    assert stored(penfold, 'ann') == ([b'Subject: p\r\n\r\n.dot\r\n..\r\n'] * 2 + [b'Subject: p\r\n\r\n.\r\n']) * 3


def test_a_client_that_goes_in_the_midst_leaves_nothing(penfold):
    """Half a message, half a chunk: no copy, no spool file, no descriptor."""
    big = b'Subject: half\r\n\r\n' + b'h' * 3_000_000  # spooled
    for content in (b'DATA\r\n' + big, b'BDAT 5000000 LAST\r\n' + big, b'DATA\r\n' + MESSAGE, b'BDAT 1000\r\nx'):
        w = Wire(penfold)
        w.begin('ann')
        w.s.sendall(content)
        time.sleep(0.1)
        w.s.close()
        w.f.close()
    penfold.deliver(MESSAGE, 'ann')

    def clean():
        assert stored(penfold, 'ann') == [MESSAGE]
        names = [os.path.join(at, n) for at, _, files in os.walk(penfold.data) for n in files]
        assert sum(os.path.getsize(n) for n in names if not n.endswith(('.db', '.db-wal', '.db-shm'))) < 1_000_000, names
    settled(clean, 10)


def test_many_deliverers_at_once(tmp_path):
    """32 clients, 8 accounts, both shards: every 250 is one message."""
    names = [f'user{i}' for i in range(8)]
    with Penfold(tmp_path, accounts=names) as p:
        got, lock = {n: 0 for n in names}, threading.Lock()

        def work(k):
            rnd = random.Random(k)
            with p.lmtp() as l:
                for _ in range(12):
                    to = rnd.sample(names, rnd.randint(1, 4))
                    for r, (code, _) in l.replies(SENDER, [f'{n}@{DOMAIN}' for n in to], MESSAGE + b'x' * rnd.randint(0, 30000) + b'\r\n').items():
                        with lock:
                            got[r.split('@')[0]] += code == 250
        threads = [threading.Thread(target=work, args=(k,)) for k in range(32)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        assert sum(got.values()) > 32 * 12
        assert {n: count(p, n) for n in names} == got
