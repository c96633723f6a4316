# SPDX-License-Identifier: Apache-2.0
"""XTND from outside: XLST of many and large messages; XMIT against a relay that takes, refuses, dawdles and dies."""
import poplib
import socket
import time

import pytest

from penfold import DOMAIN, PASSWORD, Penfold, Pop3, settled
from sink import Sink

MAIL = f'From: Ann <ann@{DOMAIN}>\r\nTo: x@remote.example, y@remote.example\r\nSubject: hi\r\n\r\ntext\r\n'.encode()
GO = b'+OK Start sending message.'
SENT = b'+OK Message sent successfully'


def allow(p, what='all'):
    p.run('tenant', 'set', 'demo', f'xtnd={what}')
    time.sleep(1)  # seen within a second


def server(tmp_path, sink, more='', **kind):
    address = f'unix:{sink.address}' if isinstance(sink.address, str) else f'127.0.0.1:{sink.port}'
    return Penfold(tmp_path, extra=f'xmit: {{ address: "{address}", protocol: {sink.protocol}{more} }}', **kind)


def send(pop, mail):
    """The first answer, and the second if there was one."""
    pop.pop._putcmd('XTND XMIT')
    first = pop.pop._getline()[0]
    if not first.startswith(b'+OK'):
        return first, None
    pop.pop.sock.sendall(mail.replace(b'\r\n.', b'\r\n..') + b'.\r\n')
    return first, pop.pop._getline()[0]


@pytest.mark.parametrize('protocol', ['lmtp', 'smtp', 'unix'])
def test_xmit(tmp_path, protocol):
    with Sink('lmtp' if protocol == 'unix' else protocol, str(tmp_path / 'relay') if protocol == 'unix' else None) as sink, server(tmp_path, sink) as p:
        allow(p, 'xmit')
        with p.pop3('ann') as pop:
            assert send(pop, MAIL.replace(b'Subject', b'Bcc: z@remote.example\r\nSubject')) == (GO, SENT)
            assert send(pop, MAIL + b'.\r\n..\r\n' + b'.x\xc3\xb6\r\n' * 20000) == (GO, SENT)
            assert pop.stat() == (0, 0)
        (sender, rcpts, message), (_, _, large) = sink.mails
        assert sender == f'ann@{DOMAIN}' and rcpts == ['x@remote.example', 'y@remote.example', 'z@remote.example']
        assert message.startswith(b'Received: from [127.0.0.1]\r\n\tby mail.test.example with POP3 (XTND XMIT) id ') and message.endswith(MAIL)
        assert b'Bcc' not in message
        assert large.endswith(MAIL + b'.\r\n..\r\n' + b'.x\xc3\xb6\r\n' * 20000)
        assert any(b'BODY=8BITMIME' in line for line in sink.said)


def test_off_by_default(tmp_path):
    with Sink() as sink, server(tmp_path, sink) as p:
        with p.pop3('ann') as pop:
            assert send(pop, MAIL) == (b'-ERR unknown command', None)
        allow(p, 'xlst')
        with p.pop3('ann') as pop:
            assert send(pop, MAIL) == (b'-ERR no such XTND command here', None)
        assert not sink.said


def test_nothing_is_lost_or_said_to_be_sent(tmp_path):
    """+OK exactly when the relay has it for everybody; before the data where that can be known."""
    with Sink() as sink, server(tmp_path, sink, ', connect_ms_max: 500, answer_ms_max: 500, data_ms_max: 500') as p:
        allow(p)

        def case(first, second=None, **how):
            sink.says, sink.hang, sink.drop = {}, None, None
            for key, value in how.items():
                setattr(sink, key, value)
            before = len(sink.mails)
            with p.pop3('ann') as pop:
                got = send(pop, MAIL)
                assert got[0].startswith(first), (how, got)
                assert (got[1] or b'').startswith(second or b''), (how, got)
            return [rcpts for _, rcpts, _ in sink.mails[before:]]

        temporary, permanent = b'-ERR [SYS/TEMP] ', b'-ERR [SYS/PERM] '
        assert case(GO, SENT) == [['x@remote.example', 'y@remote.example']]
        for how in ({'drop': 'GREETING'}, {'hang': 'GREETING'}, {'says': {'GREETING': b'421 busy\r\n'}}, {'hang': 'LHLO'}, {'says': {'LHLO': b'550 no\r\n'}}):
            assert case(temporary, **how) == []
        for verb in ('MAIL', 'RCPT', 'DATA'):
            assert case(GO, temporary, hang=verb) == []
            assert case(GO, temporary, drop=verb) == []
            assert case(GO, temporary, says={verb: b'451 later\r\n'}) == []
            assert case(GO, permanent, says={verb: b'550 no\r\n'}) == []
        assert case(GO, permanent, says={'RCPT': lambda line: b'550 no\r\n' if b'<y@' in line else None}) == []
        assert case(GO, permanent, says={'.': lambda rcpt: b'550 no\r\n'}) == []
        assert case(GO, temporary, says={'.': lambda rcpt: b'452 full\r\n'}) == []
        assert case(GO, permanent + b'sent to 1 of 2 recipients', says={'.': lambda rcpt: b'550 no\r\n' if rcpt[0] == 'x' else None}) == [['y@remote.example']]
        assert case(GO, temporary + b'sent to 1 of 2 recipients', says={'.': lambda rcpt: b'450 no\r\n' if rcpt[0] == 'x' else None}) == [['y@remote.example']]
        case(GO, temporary, drop='END')
        case(GO, temporary, hang='END')
        assert case(GO, SENT) == [['x@remote.example', 'y@remote.example']]


def test_relay_down(tmp_path):
    with Sink() as sink:
        p = server(tmp_path, sink)
    with p:
        allow(p)
        with p.pop3('ann') as pop:
            first, second = send(pop, MAIL)
            assert first.startswith(b'-ERR [SYS/TEMP] ') and b'wait' in first and second is None


def test_no_relay(penfold):
    allow(penfold)
    with penfold.pop3('ann') as pop:
        assert send(pop, MAIL)[0].startswith(b'-ERR [SYS/PERM] ')


def test_sender_must_be_the_accounts(tmp_path):
    with Sink() as sink, server(tmp_path, sink, default_domain=DOMAIN) as p:
        p.add_account('bob')
        p.run('domain', 'add', 'alias.example', '--alias-of', DOMAIN)
        p.run('sdps', 'add', 'vision25.example.net', '--tenant', 'demo', '--mode', 'maildrop', '--password-stdin', stdin=PASSWORD.encode())
        allow(p)

        def said(pop, sender):
            return send(pop, MAIL.replace(f'Ann <ann@{DOMAIN}>'.encode(), sender.encode()))[1]

        with p.pop3('ann') as pop:
            for sender in (f'ANN@{DOMAIN}', f'ann+x@{DOMAIN}', 'ann@alias.example', f'"Bob <bob@{DOMAIN}>" <ann@{DOMAIN}>'):
                assert said(pop, sender) == SENT, sender
            for sender in (f'bob@{DOMAIN}', 'ann@remote.example', f'ann@{DOMAIN}, bob@{DOMAIN}', f'ann@{DOMAIN}\r\nSender: bob@{DOMAIN}', f'nobody@{DOMAIN}',
                           f'ann@{DOMAIN}\r\nFrom: bob@{DOMAIN}', 'fred@vision25.example.net'):
                assert said(pop, sender).startswith(b'-ERR [SYS/PERM] not sent: the sender'), sender
        with Pop3(p.pop3_port, 'fred+vision25', PASSWORD) as pop:
            assert said(pop, 'fred@vision25.example.net') == SENT
            assert said(pop, 'jane@vision25.example.net').startswith(b'-ERR [SYS/PERM]')
        with Pop3(p.pop3_port, 'vision25', PASSWORD) as pop:
            assert said(pop, 'jane@vision25.example.net') == SENT


def test_bounds(tmp_path):
    with Sink() as sink, server(tmp_path, sink, ', message_bytes_max: 64 KiB, recipients_max: 3, recipients_per_hour_max: 4') as p:
        allow(p)
        with p.pop3('ann') as pop:
            assert send(pop, MAIL + b'x' * 70 + b'\r\n' * 40000)[1].startswith(b'-ERR [SYS/PERM] not sent: larger than 65536')
            many = MAIL.replace(b'To: ', b'To: ' + b''.join(b'u%d@remote.example, ' % n for n in range(3)))
            assert send(pop, many)[1].startswith(b'-ERR [SYS/PERM] not sent: more than 3 recipients')
            assert send(pop, MAIL) == send(pop, MAIL) == (GO, SENT)
            assert send(pop, MAIL)[0].startswith(b'-ERR [SYS/TEMP] more than 4 recipients within an hour')
        with p.pop3('ann') as pop:  # it is the account's, not the session's
            assert send(pop, MAIL)[0].startswith(b'-ERR [SYS/TEMP]')


def test_a_client_that_leaves_sends_nothing(tmp_path):
    with Sink() as sink, server(tmp_path, sink) as p:
        allow(p)
        s = p.raw()
        s.sendall(f'USER ann\r\nPASS {PASSWORD}\r\nXTND XMIT\r\n'.encode() + MAIL + b'.')
        time.sleep(0.5)
        s.shutdown(socket.SHUT_RDWR)
        s.close()
        settled(lambda: p.pop3('ann').quit(), 5)
        assert not sink.mails and not any(line.startswith(b'MAIL') for line in sink.said)


def test_many_at_once(tmp_path):
    """More than the relay may have of us at once: some are asked to wait, and everybody else is served."""
    names = [f'u{n}' for n in range(60)]
    with Sink() as sink, server(tmp_path, sink, ', data_ms_max: 4000', accounts=names + ['ann']) as p:
        allow(p)
        sessions = [p.pop3(n) for n in names]
        waiting, answers = [], []
        for n, pop in zip(names, sessions):
            pop.pop._putcmd('XTND XMIT')
            assert pop.pop._getline()[0] == GO
        sink.hang = 'END'
        for n, pop in zip(names, sessions):
            pop.pop.sock.sendall(MAIL.replace(b'ann@', n.encode() + b'@') + b'.\r\n')
            waiting.append(pop)
        began = time.time()
        with p.pop3('ann') as pop:
            assert pop.stat() == (0, 0)
        assert time.time() - began < 2
        for pop in waiting:
            answers.append(pop.pop._getline()[0])
        assert all(a.startswith(b'-ERR [SYS/TEMP]') for a in answers)
        for pop in sessions:
            pop.close()


# ---- XLST ----

def test_xlst_of_many_and_large(tmp_path):
    with Penfold(tmp_path) as p:
        allow(p, 'xlst')
        with p.lmtp() as l:
            for n in range(1500):
                body = b'x' * 70 + b'\r\n'
                message = b'Subject: s\r\n' + (b'' if n % 3 else b'Message-Id:\r\n <%d@remote.example>\r\n' % n) + b'\r\n' + body * (2000 if n % 100 == 0 else 1)
                assert l.replies('a@b.example', [f'ann@{DOMAIN}'], message)[f'ann@{DOMAIN}'][0] == 250
        with p.pop3('ann') as pop:
            lines = pop.pop._longcmd('XTND XLST MESSAGE-ID:')[1]
            want = []
            for n in range(0, 1500, 3):
                want += [b'%d Message-Id:' % (n + 1), b' <%d@remote.example>' % n]
            assert lines == want
            assert pop.pop._longcmd('XTND XLST Message-Id 4')[1] == [b'4 Message-Id:', b' <3@remote.example>']
            with pytest.raises(poplib.error_proto):
                pop.pop._longcmd('XTND XLST Message-Id 1501')
