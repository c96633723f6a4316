# SPDX-License-Identifier: Apache-2.0
"""A real Penfold for the end-to-end tests: a folder, a configuration, a process, and how to talk to it.

    with Penfold(tmp_path) as p:
        p.add_account('ann')
        p.deliver(b'Subject: hello\r\n\r\nhi\r\n', 'ann')
        with p.pop3('ann') as pop: ...

The binary is build/penfold, or $PENFOLD. Ports are free ones of loopback. Everything ends with the test, by pid.
"""
import collections
import json
import os
import poplib
import random
import re
import signal
import smtplib
import socket
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get('PENFOLD', os.path.join(TOP, 'build', 'penfold'))
# auto, io_uring or epoll: what all servers of the tests run on, but for those whose test says it itself
BACKEND = os.environ.get('PENFOLD_IO_BACKEND', 'auto')
DOMAIN = 'demo.example'
PASSWORD = 'secret word'  # passwords may contain spaces
CHEAP_HASH = '{SHA256-CRYPT}$5$rounds=1000$penfoldtestsalt$EkePfaULlJiZfBHyXVj5RZDmbxvGpeJTH1ECgOmzau4'  # of PASSWORD; costs little


# What delivery puts in front of a message, to the byte: a message may itself begin with a blank, or with lines like these.
TRACE = re.compile(rb'Return-Path: <[^\r\n]*>\r\nDelivered-To: [^\r\n]+\r\nReceived: from [^\r\n]+\r\n\tby [^\r\n]+ with (?:UTF8)?LMTP id [^\r\n ]+'
                   rb'\r\n\tfor <[^\r\n]+>; \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n')


PORTS_FROM, PORTS_COUNT = (int(n) for n in os.environ.get('PENFOLD_PORTS', '24000:1000').split(':'))
GIVEN = collections.deque(maxlen=300)  # ports given out lately: one that nobody listens on yet is somebody's all the same


def free_ports(count):
    """Ports that were free a moment ago, from below those that the kernel gives to clients: a server that is started again
    must find its port as it left it."""
    ports = []
    while len(ports) < count:
        port = random.randrange(PORTS_FROM, PORTS_FROM + PORTS_COUNT)
        if port in GIVEN:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(('127.0.0.1', port))
            except OSError:
                continue
        GIVEN.append(port)
        ports.append(port)
    return ports


def without_trace(message):
    """The message as it was handed over: without the lines that delivery put in front of it."""
    trace = TRACE.match(message)
    assert trace, message[:400]
    return message[trace.end():]


def read_all(s):
    """What comes until the other side closes."""
    out = b''
    while True:
        chunk = s.recv(65536)
        if not chunk:
            return out
        out += chunk


def settled(check, seconds=1.5):
    """Tries a check until it holds or the time is over: a running server sees changes within a second (and a busy machine's
    processes need a moment to start)."""
    end = time.time() + seconds
    while True:
        try:
            return check()
        except (AssertionError, OSError, poplib.error_proto, smtplib.SMTPException):
            if time.time() > end:
                raise
            time.sleep(0.05)


class Memory:
    """The server's resident anonymous memory while a block runs: what it grew by at most, sampled."""

    def __init__(self, p):
        self.pid = p.process.pid
        self.before = self.most = self.now()

    def now(self):
        with open(f'/proc/{self.pid}/status') as f:
            return int(re.search(r'RssAnon:\s+(\d+)', f.read())[1])

    def grown_kib(self):
        return self.most - self.before

    def __enter__(self):
        self.ending = threading.Event()

        def sample():
            while not self.ending.wait(0.02):
                self.most = max(self.most, self.now())
        self.thread = threading.Thread(target=sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.ending.set()
        self.thread.join()
        self.most = max(self.most, self.now())


class Lmtp(smtplib.LMTP):
    """smtplib's LMTP, which stops at the first refused recipient's reply; this one gives every reply."""

    def replies(self, sender, recipients, data):
        """(code, text) of each recipient: of RCPT where refused, else of the message."""
        self.ehlo_or_helo_if_needed()
        code, text = self.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, text, sender)
        out, accepted = {}, []
        for r in recipients:
            code, text = self.rcpt(r)
            if code == 250:
                accepted.append(r)
            else:
                out[r] = (code, text)
        if accepted:
            code, text = self.docmd('DATA')
            assert code == 354, (code, text)
            self.send(smtplib._quote_periods(data) + (b'' if data.endswith(b'\r\n') else b'\r\n') + b'.\r\n')
            for r in accepted:
                out[r] = self.getreply()
        return out


class Penfold:
    def __init__(self, folder, shards=2, extra='', default_domain=DOMAIN, binary=None, accounts=('ann',)):
        self.folder = str(folder)
        self.data = os.path.join(self.folder, 'data')
        self.config = os.path.join(self.folder, 'penfold.yaml')
        self.log_path = os.path.join(self.folder, 'log')
        self.lmtp_socket = os.path.join(self.folder, 'lmtp.sock')
        self.binary = binary or BINARY
        self.pop3_port, self.lmtp_port, self.imap_port = free_ports(3)
        self.process = None
        self.accounts = accounts
        with open(self.config, 'w') as f:
            f.write(f'''data: {self.data}
shards: {shards}
{'default_domain: ' + default_domain if default_domain else ''}
hostname: mail.test.example
listeners:
  - {{ protocol: pop3, address: "127.0.0.1:{self.pop3_port}" }}
  - {{ protocol: imap, address: "127.0.0.1:{self.imap_port}" }}
  - {{ protocol: lmtp, address: "127.0.0.1:{self.lmtp_port}" }}
  - {{ protocol: lmtp, address: "unix:{self.lmtp_socket}" }}
{'' if 'limits:' in extra else 'limits: { exempt: ["127.0.0.0/8"] }'}
{'' if re.search('^io:', extra, re.M) or BACKEND == 'auto' else f'io: {{ backend: {BACKEND} }}'}
{extra}
''')

    # ---- life ----
    def __enter__(self):
        self.setup()
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if self.process:
            code = self.stop()
            if kind is None:
                assert code == 0, f'exit status {code}\n' + self.log()[-4000:]

    def setup(self):
        """The demo tenant and its accounts."""
        if os.path.exists(os.path.join(self.data, 'directory.db')):
            return
        self.run('tenant', 'add', 'demo')
        self.run('domain', 'add', DOMAIN, '--tenant', 'demo')
        if len(self.accounts) <= 2:
            for name in self.accounts:
                self.add_account(name)
        else:
            self.import_accounts(self.accounts)

    def start(self, wait=True, env=None):
        log = open(self.log_path, 'ab')
        self.process = subprocess.Popen([self.binary, '--config', self.config, 'serve'], stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        log.close()
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise

    def wait_ready(self, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise AssertionError(f'the server ended with {self.process.returncode}:\n' + self.log()[-4000:])
            try:
                with socket.create_connection(('127.0.0.1', self.pop3_port), 1) as s:
                    s.settimeout(5)
                    if s.recv(3) == b'+OK':
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError('the server did not answer:\n' + self.log()[-4000:])

    def stop(self, seconds=30):
        """SIGTERM, then the exit status; killed if it does not end."""
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError('the server did not stop:\n' + self.log()[-4000:])

    def kill(self):
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        assert self.stop() == 0
        self.start()

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    # ---- the command line ----
    def run(self, *args, stdin=None, check=True):
        r = subprocess.run([self.binary, '--config', self.config, *args], input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=120)
        if check:
            assert r.returncode == 0, f'{args}: {r.returncode}\n{r.stdout.decode()}{r.stderr.decode()}'
        return r

    def json(self, *args):
        return json.loads(self.run(*args, '--json').stdout)

    def add_account(self, name, password=PASSWORD):
        self.run('account', 'add', self.address(name), '--password-stdin', stdin=password.encode() + b'\n')

    def import_accounts(self, names):
        """Many at once."""
        self.run('account', 'import', stdin=''.join(f'{self.address(n)}:{CHEAP_HASH}\n' for n in names).encode())

    def address(self, name):
        return name if '@' in name else f'{name}@{DOMAIN}'

    # ---- protocols ----
    def lmtp(self):
        return Lmtp('127.0.0.1', self.lmtp_port, timeout=30)

    def deliver(self, message, *names, sender='sender@remote.example'):
        """Delivers one message; every recipient must take it."""
        with self.lmtp() as l:
            for r, (code, text) in l.replies(sender, [self.address(n) for n in names], message).items():
                assert code == 250, (r, code, text)

    def pop3(self, name, password=PASSWORD, **more):
        return Pop3(self.pop3_port, self.address(name), password, **more)

    def raw(self, port=None):
        s = socket.create_connection(('127.0.0.1', port or self.pop3_port), 10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


class Pop3:
    """poplib with whole messages as bytes; usable in a with statement (QUIT at its end, close on an error)."""

    def __init__(self, port, user, password, timeout=30, utf8=False):
        poplib._MAXLINE = 1 << 30
        self.pop = poplib.POP3('127.0.0.1', port, timeout=timeout)
        self.pop.encoding = 'UTF-8'
        try:
            if utf8:
                self.pop.utf8()
            self.pop.user(user)
            self.pop.pass_(password)
        except Exception:
            self.pop.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.pop.quit()
        else:
            self.pop.close()

    def stat(self):
        return self.pop.stat()

    def uidl(self):
        return [l.split()[1].decode() for l in self.pop.uidl()[1]]

    def sizes(self):
        return [int(l.split()[1]) for l in self.pop.list()[1]]

    def retr(self, number):
        return b''.join(l + b'\r\n' for l in self.pop.retr(number)[1])

    def dele(self, number):
        return self.pop.dele(number)

    def quit(self):
        self.pop.quit()

    def close(self):
        self.pop.close()
