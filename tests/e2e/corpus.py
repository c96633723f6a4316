# SPDX-License-Identifier: Apache-2.0
"""Mail to send through the server: real-looking messages and awkward ones, the same at every run.

Sources: the test data of Python's email package (Debian: libpython3.11-testsuite), where installed, and generators from a
fixed seed. Every message is in its canonical form: CRLF line ends, CRLF at the end, no NUL, no bare CR or LF.
"""
import glob
import random
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from datetime import datetime, timedelta, timezone

PYTHON_DATA = '/usr/lib/python3*/test/test_email/data/*'
WORDS = ('invoice meeting reply order holiday photo report minutes budget draft urgent question answer train ticket '
         'garden server backup notice list weekly summary update Grüße señor naïve 日本語 мир').split()
PEOPLE = [('Ann Example', 'ann', 'example.org'), ('Bob B. Builder', 'bob.builder', 'example.net'),
          ('Müller, Jürgen', 'j.mueller', 'example.de'), ('"Quoted" Person', 'quoted', 'example.com'),
          ('Lists', 'announce-request', 'lists.example.org'), ('山田太郎', 'yamada', 'example.jp'), ('', 'bare', 'example.org')]


def canonical(raw):
    """CRLF line ends, no NUL, no bare CR, CRLF at the end."""
    raw = raw.replace(b'\0', b'').replace(b'\r\n', b'\n').replace(b'\r', b'\n').replace(b'\n', b'\r\n')
    return raw if raw.endswith(b'\r\n') else raw + b'\r\n'


def text(rnd, lines):
    out = []
    for _ in range(lines):
        line = ' '.join(rnd.choice(WORDS) for _ in range(rnd.randint(0, 14)))
        out.append(rnd.choice(['', '', '', '> ', '.', '..', '-- ', 'From ', '\t']) + line)
    return '\n'.join(out) + '\n'


def real_looking(number):
    """A message as people and programs send it."""
    rnd = random.Random(f'real {number}')
    m = EmailMessage(policy=policy.SMTP.clone(max_line_length=rnd.choice([78, 78, 200])))
    name, user, domain = rnd.choice(PEOPLE)
    m['From'] = Address(name, user, domain)
    m['To'] = [Address(*rnd.choice(PEOPLE)) for _ in range(rnd.choice([1, 1, 1, 2, 5]))]
    if rnd.random() < .3:
        m['Cc'] = [Address(*rnd.choice(PEOPLE)) for _ in range(rnd.randint(1, 12))]
    m['Subject'] = rnd.choice(['', 'Re: ', 'Fwd: Re: ', '[list] ']) + ' '.join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 12)))
    m['Date'] = format_datetime(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=rnd.randint(-11, 12)))) + timedelta(hours=number))
    m['Message-ID'] = f'<{number}.{rnd.getrandbits(64):x}@{domain}>'
    for h in range(rnd.choice([0, 0, 2, 6])):
        m[f'X-Header-{h}'] = ' '.join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 30)))
    body = text(rnd, rnd.choice([1, 3, 10, 40, 400]))
    m.set_content(body, cte=rnd.choice(['8bit', 'quoted-printable', 'base64']))
    if rnd.random() < .4:
        m.add_alternative('<html><body><p>' + body.replace('\n', '<br>\n') + '</p></body></html>\n', subtype='html')
    for _ in range(rnd.choice([0, 0, 0, 1, 3])):
        m.add_attachment(rnd.randbytes(rnd.choice([10, 1000, 30000])), maintype='application', subtype='octet-stream',
                         filename=rnd.choice(['report.pdf', 'Grüße.txt', 'a "quoted" name.bin']))
    return canonical(m.as_bytes())


AWKWARD = [
    b'\r\n',                                             # nothing but the empty line
    b'Subject: no body\r\n',                             # a header without its end
    b'Subject: no body\r\n\r\n',
    b'\r\n.\r\n..\r\n...\r\n',                           # dots from the first body line on
    b'.Starts: with a dot\r\n\r\nx\r\n',                 # the very first byte is a dot
    b'.\r\n',
    b'..\r\n',
    b'Subject: dots\r\n\r\n' + b'.\r\n' * 2000,          # more dot lines than the record lists
    b'Subject: dots\r\n\r\n' + b'.' * 5000 + b'\r\n',
    b'Subject: long line\r\n\r\n' + b'x' * 100000 + b'\r\n',
    b'X: ' + b'y' * 100000 + b'\r\n\r\nlong header line\r\n',
    b''.join(b'X-%d: %d\r\n' % (i, i) for i in range(5000)) + b'\r\nmany headers\r\n',
    b'Subject: folded\r\n\t' + b'\r\n '.join([b'word'] * 500) + b'\r\n\r\nbody\r\n',
    b'not a header at all\r\nnor this\r\n',
    b'From someone Thu Jan  1 00:00:00 1970\r\nSubject: mbox\r\n\r\nFrom here\r\n>From there\r\n',
    b'Subject: \xff\xfe\x80 raw bytes\r\n\r\n' + bytes(range(1, 10)) + bytes(range(14, 256)) + b'\r\n',
    b'Subject: empty lines\r\n\r\n' + b'\r\n' * 3000,
    b'Subject: spaces\r\n\r\n' + b' \r\n\t\r\n' * 100,
    b'Subject: ends with a dot line\r\n\r\nlast\r\n.\r\n',
    b'Subject: boundary\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nno end\r\n',
    b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\n----\r\n',
    b''.join(b'Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n' % (i, i) for i in range(300)) + b'deep\r\n',
    b'Content-Type: message/rfc822\r\n\r\n' * 300 + b'Subject: deep\r\n\r\nend\r\n',
    b'Subject: =?utf-8?B?////?= =?x?q?=?=\r\nTo: (((((\r\nFrom: <<<>>>;;;,,,\r\nDate: yesterday\r\n\r\nbad syntax\r\n',
    b'Content-Transfer-Encoding: base64\r\n\r\n!!!! not base64 ####\r\n=\r\n',
]


def awkward(number):
    """A message that parsers and clients stumble over."""
    if number < len(AWKWARD):
        return AWKWARD[number]
    rnd = random.Random(f'awkward {number}')
    alphabet = rnd.choice([b'.', b'. \r', b'.:\r', b'ab.\r:= \t-', bytes(b for b in range(1, 256) if b not in (10, 13)) + b'\r' * 20])
    raw = bytes(rnd.choice(alphabet) for _ in range(rnd.choice([1, 2, 5, 50, 1000, 20000])))
    return canonical(rnd.choice([b'', b'Subject: generated\r\n\r\n']) + raw.replace(b'\r', b'\r\n'))


def packaged():
    """The messages that Debian's packages carry for their own tests."""
    out = []
    for path in sorted(glob.glob(PYTHON_DATA)):
        if path.endswith(('.txt', '.eml')):
            with open(path, 'rb') as f:
                out.append(canonical(f.read()))
    return out


def corpus(real=300, odd=100):
    """[(id, message)], at least real + odd of them."""
    messages = packaged()
    messages += [real_looking(i) for i in range(real)]
    messages += [awkward(i) for i in range(odd)]
    return list(enumerate(messages))
