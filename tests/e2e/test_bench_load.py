# SPDX-License-Identifier: Apache-2.0
"""The load generator believes nothing: a server that lies in any way makes it fail.

A small POP3 and LMTP server answers honestly, or with one lie; build/bench/load must pass
the honest one and name each lie. Without this, every figure in bench/ would rest on trust."""

import json
import os
import socketserver
import ssl
import subprocess
import threading

import pytest

from tls import make_pair

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.dirname(os.path.abspath(os.environ.get("PENFOLD", os.path.join(TOP, "build", "penfold"))))
LOAD = os.path.join(BUILD, "bench", "load")


@pytest.fixture(scope="module", autouse=True)
def built():
    build = os.path.relpath(BUILD, TOP)
    subprocess.run(["make", "-s", "-C", TOP, "BUILD=" + build, build + "/bench/load"], check=True)


class Mailbox:
    """What the LMTP side was given, as wire lines without stuffing; POP3 hands out the same."""

    def __init__(self, lie=None):
        self.lie = lie
        self.messages = []
        self.pair = None
        self.context = None

    def tls(self):
        """One context for all connections: what makes tickets good."""
        if not self.context or self.lie == "forgets":
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*self.pair)
            if self.lie == "no-ticket":
                self.context.num_tickets = 0
            if self.lie == "old":
                self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        return self.context


class Handler(socketserver.StreamRequestHandler):
    def setup(self):
        super().setup()
        if self.server.implicit:
            self.begin_tls()

    def begin_tls(self):
        try:
            self.connection = self.server.box.tls().wrap_socket(self.connection, server_side=True)
        except (OSError, ssl.SSLError):
            return
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)

    def handle(self):
        try:
            self.talk()
        except OSError:
            pass  # the client has seen enough

    def finish(self):
        try:
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.settimeout(0)  # says goodbye, does not wait for the client's
                self.connection.unwrap()
        except OSError:
            pass
        self.connection.close()


class Pop3(Handler):
    def talk(self):
        box = self.server.box
        lie = box.lie
        say = self.wfile.write
        say(b"+OK hello\r\n")
        while True:
            words = self.rfile.readline().split()
            if not words:
                return
            verb = words[0]
            sizes = sum(len(m) for m in box.messages)
            if verb in (b"USER", b"DELE"):
                say(b"+OK\r\n")
            elif verb == b"PASS":
                say(b"-ERR [IN-USE] wait\r\n" if lie == "in-use" else b"+OK\r\n")
            elif verb == b"STLS":
                say(b"-ERR no\r\n" if lie == "no-stls" else b"+OK go\r\n+OK\r\n" if lie == "injected" else b"+OK go\r\n")
                self.begin_tls()
                say = self.wfile.write
            elif verb == b"STAT":
                say(b"+OK %d %d\r\n" % (len(box.messages), sizes + (lie == "stat-octets")))
            elif verb == b"UIDL":
                self.uidl(box, say)
            elif verb == b"RETR":
                self.retr(box.messages[int(words[1]) - 1], lie, say)
            elif verb == b"QUIT":
                if lie != "no-bye":
                    say(b"+OK bye\r\n")
                return

    def uidl(self, box, say):
        lines = [b"%d uid%d" % (n, n) for n in range(1, len(box.messages) + 1)]
        if box.lie == "uidl-short":
            lines.pop()
        if box.lie == "uidl-order":
            lines.reverse()
        if box.lie == "uidl-octet":
            lines[0] += b"\xff"
        end = b"\n" if box.lie == "bare-lf" else b"\r\n"
        say(b"+OK\r\n" + b"".join(line + end for line in lines) + b".\r\n")

    def retr(self, message, lie, say):
        announced = len(message) + (lie == "retr-octets")
        if lie == "retr-flip":
            message = message[:-8] + bytes([message[-8] ^ 1]) + message[-7:]
        if lie == "retr-lost-line":
            at = message.rindex(b"\r\n", 0, -2)
            message = message[:at] + message[-2:]
            announced = len(message)
        stuffed = b"".join((b"." if line[:1] == b"." and lie != "unstuffed" else b"") + line
                           for line in message.splitlines(keepends=True))
        say(b"+OK %d octets\r\n" % announced + stuffed)
        if lie == "cut":
            self.connection.close()
            return
        say(b".\r\n")


class Lmtp(Handler):
    def talk(self):
        box = self.server.box
        say = self.wfile.write
        say(b"220 hello\r\n")
        recipients = 0
        while True:
            verb = self.rfile.readline()[:4]
            if verb == b"LHLO":
                say(b"250-me\r\n250 PIPELINING\r\n")
            elif verb == b"STAR":
                say(b"220 go\r\n")
                self.begin_tls()
                say = self.wfile.write
            elif verb == b"RCPT":
                recipients += 1
                say(b"550 5.1.1 no\r\n" if box.lie == "no-such-user" else b"250 2.1.5 OK\r\n")
            elif verb == b"DATA":
                say(b"354 go\r\n")
                self.data(box)
                refused = b"452 4.3.1 full\r\n" if box.lie == "full" else b"250 2.0.0 OK\r\n"
                say(b"250 2.0.0 OK\r\n" * (recipients - 1) + refused)
                recipients = 0
            elif verb == b"QUIT":
                say(b"221 bye\r\n")
                return
            elif verb == b"MAIL":
                say(b"250 2.1.0 OK\r\n")
            else:
                return

    def data(self, box):
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line[:1] == b"." else line)
        box.messages.append(b"".join(lines))


class Imap(Handler):
    """As much of a server as the generator asks for; while a client idles, the last message comes again."""

    def talk(self):
        box = self.server.box
        lie = box.lie
        say = self.wfile.write
        there = list(box.messages)
        say(b"* BYE too many\r\n" if lie == "turned-away" else b"* OK [CAPABILITY IMAP4rev1 IDLE] hello\r\n")
        while True:
            line = self.rfile.readline()
            tag, _, rest = line.strip().partition(b" ")
            verb = rest.split(b" ")[0]
            if not line:
                return
            if verb == b"LOGIN":
                say(tag + (b" NO [AUTHENTICATIONFAILED] no\r\n" if lie == "wrong-password" else b" OK [CAPABILITY IMAP4rev1] welcome\r\n"))
            elif verb == b"SELECT":
                say(b"* FLAGS (\\Seen)\r\n* %d EXISTS\r\n" % len(there) + tag + b" OK [READ-WRITE] selected\r\n")
            elif verb == b"UID":
                numbers = range(1, len(there) + 1 - (lie == "flags-short"))
                say(b"".join(b"* %d FETCH (UID %d FLAGS ())\r\n" % (n, n) for n in numbers) + tag + b" OK done\r\n")
            elif verb == b"FETCH":
                self.bodies(there, [int(n) for n in rest.split(b" ")[1].split(b":")], lie, say)
                say((b"a0" if lie == "other-tag" else tag) + b" OK done\r\n")
            elif verb == b"IDLE":
                say(b"+ idling\r\n")
                there.append(there[-1])
                say(b"* %d EXISTS\r\n" % len(there))
                assert self.rfile.readline() == b"DONE\r\n"
                say(tag + b" OK done\r\n")
            elif verb == b"LOGOUT":
                say(b"* BYE bye\r\n" + (b"" if lie == "no-ok" else tag + b" OK bye\r\n"))
                return

    def bodies(self, there, numbers, lie, say):
        for n in range(numbers[0], numbers[-1] + 1):
            message = there[n - 1]
            announced = len(message)
            if lie == "fetch-flip":
                message = message[:-8] + bytes([message[-8] ^ 1]) + message[-7:]
            if lie == "literal-long":
                message += b"x"
            say(b"* %d FETCH (UID %d FLAGS () BODY[] {%d}\r\n" % (n + (lie == "fetch-other"), n, announced) + message +
                (b"\r\n" if lie == "open-list" else b")\r\n"))
            if lie == "fetch-one":
                return


class Threaded(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Served:
    def __init__(self, handler, box, implicit=False):
        self.server = Threaded(("127.0.0.1", 0), handler)
        self.server.box = box
        self.server.implicit = implicit
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def load(self, scenario, *options):
        done = subprocess.run([LOAD, "--scenario", scenario, "--address", "127.0.0.1:%d" % self.port, "--last", "8",
                               "--connections", "1", "--max-errors", "1", "--timeout", "5", *options],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        return done.returncode, done.stdout


def deliver(box, *options):
    with Served(Lmtp, box) as lmtp:
        return lmtp.load("lmtp", "--count", "4", "--size", "3000", "--dot-lines", "5", *options)


@pytest.mark.parametrize("options", [[], ["--pipeline", "8"], ["--recipients", "3"], ["--per-connection", "1"]])
def test_an_honest_delivery_passes(options):
    box = Mailbox()
    code, out = deliver(box, *options)
    assert code == 0, out
    assert len(box.messages) == 4
    assert all(len(m) == 3000 and b"\r\n." in m for m in box.messages)


@pytest.mark.parametrize("scenario, options", [
    ("pop3-login", []), ("pop3-check", []), ("pop3-check", ["--pipeline", "8"]), ("pop3-fetch", ["--pipeline", "4"]),
    ("pop3-retr", []), ("pop3-retr", ["--pipeline", "8", "--retr", "one"]), ("pop3-check", ["--rate", "200"])])
def test_an_honest_maildrop_passes(scenario, options):
    box = Mailbox()
    deliver(box)
    with Served(Pop3, box) as pop3:
        code, out = pop3.load(scenario, "--count", "10", "--expect-messages", "4", *options)
    assert code == 0, out


@pytest.mark.parametrize("lie, scenario, words", [
    ("in-use", "pop3-login", "PASS answered: -ERR [IN-USE]"),
    ("uidl-short", "pop3-check", "UIDL has 3 lines, STAT said 4"),
    ("uidl-order", "pop3-check", "UIDL line 1: 4 uid4"),
    ("uidl-octet", "pop3-check", "has octet 0xff"),
    ("bare-lf", "pop3-check", "line without CRLF"),
    ("no-bye", "pop3-check", "closed by the server before its time"),
    ("stat-octets", "pop3-fetch", "the messages have"),
    ("retr-octets", "pop3-retr", "RETR announced 3001 octets and sent 3000"),
    ("retr-flip", "pop3-retr", "does not match its digest"),
    ("retr-lost-line", "pop3-retr", "does not match its digest"),
    ("unstuffed", "pop3-retr", "begins with a dot"),
    ("cut", "pop3-retr", "closed"),
])
def test_a_lying_maildrop_is_named(lie, scenario, words):
    box = Mailbox()
    deliver(box)
    box.lie = lie
    with Served(Pop3, box) as pop3:
        code, out = pop3.load(scenario, "--count", "10")
    assert code == 1, out
    assert words in out


@pytest.mark.parametrize("scenario, messages", [("imap-login", 0), ("imap-check", 0), ("imap-fetch", 20), ("imap-idle", 1)])
def test_an_honest_imap_server_passes(scenario, messages):
    box = Mailbox()
    deliver(box)
    with Served(Imap, box) as imap:
        code, out = imap.load(scenario, *([] if scenario == "imap-idle" else ["--count", "10"]), "--newest", "2", "--hold", "0.3", "--json", "-")
    figures = json.loads(out)
    assert code == 0 and figures["messages"] >= messages, out
    assert figures["operations"] == 10 or scenario == "imap-idle", out


@pytest.mark.parametrize("lie, scenario, words", [
    ("turned-away", "imap-login", "greeting: * BYE"),
    ("wrong-password", "imap-login", "LOGIN answered: a1 NO"),
    ("no-ok", "imap-login", "closed by the server before its time"),
    ("flags-short", "imap-check", "FETCH ended at message 3 of 4"),
    ("fetch-one", "imap-fetch", "FETCH ended at message 3 of 4"),
    ("fetch-other", "imap-fetch", "FETCH of message 4 where 3 was due"),
    ("fetch-flip", "imap-fetch", "does not match its digest"),
    ("fetch-flip", "imap-idle", "does not match its digest"),
    ("literal-long", "imap-fetch", "a FETCH response ends in: x)"),
    ("open-list", "imap-fetch", "a FETCH response ends in"),
    ("other-tag", "imap-fetch", "FETCH answered: a0 OK"),
])
def test_a_lying_imap_server_is_named(lie, scenario, words):
    box = Mailbox()
    deliver(box)
    box.lie = lie
    with Served(Imap, box) as imap:
        code, out = imap.load(scenario, *([] if scenario == "imap-idle" else ["--count", "10"]), "--newest", "2", "--hold", "5")
    assert code == 1 and words in out, out


# ---- TLS ----

@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(str(tmp_path_factory.mktemp("pair")), "mail.bench.example")


def over_tls(pair, mode, *options, scenario="pop3-login", handler=Pop3, lie=None):
    box = Mailbox(lie)
    box.pair = pair
    with Served(handler, box, mode == "implicit") as served:
        code, out = served.load(scenario, "--count", "6", "--tls", mode, "--json", "-", *options)
    return code, json.loads(out), box


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
@pytest.mark.parametrize("resume, full, resumed", [([], 6, 0), (["--resume"], 1, 5)])
def test_honest_tls_is_counted(pair, mode, resume, full, resumed):
    code, figures, _ = over_tls(pair, mode, *resume)
    assert code == 0 and figures["operations"] == 6, figures
    assert (figures["tls_full"], figures["tls_resumed"]) == (full, resumed)


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_an_honest_delivery_over_tls_passes(pair, mode):
    """A message of several records; each connection but the first resumed."""
    code, figures, box = over_tls(pair, mode, "--resume", "--size", "200000", "--per-connection", "2", "--recipients", "2", scenario="lmtp",
                                  handler=Lmtp)
    assert code == 0 and [len(m) for m in box.messages] == [200000] * 6, figures
    assert figures["tls_full"] == 1 and figures["tls_resumed"] >= 2


def test_a_maildrop_over_tls_is_verified(pair):
    box = Mailbox()
    box.pair = pair
    with Served(Lmtp, box, True) as served:
        code, out = served.load("lmtp", "--tls", "implicit", "--count", "4", "--size", "40000", "--dot-lines", "5")
        assert code == 0, out
    for lie, wanted in ((None, 0), ("retr-flip", 1)):
        box.lie = lie
        with Served(Pop3, box, True) as served:
            code, out = served.load("pop3-retr", "--tls", "implicit", "--count", "9", "--pipeline", "3")
        assert code == wanted and (not lie or "does not match its digest" in out), out


@pytest.mark.parametrize("lie, mode, words", [
    ("forgets", "implicit", "the server has not resumed its ticket"), ("forgets", "starttls", "the server has not resumed its ticket"),
    ("no-ticket", "implicit", "the server has given no ticket"), ("old", "implicit", "TLSv1.2, not TLSv1.3"),
    ("no-stls", "starttls", "STLS answered: -ERR"), ("injected", "starttls", "in the clear behind the permission")])
def test_lying_tls_is_named(pair, lie, mode, words):
    code, figures, _ = over_tls(pair, mode, "--resume", lie=lie)
    assert code == 1 and words in figures["error_text"][0], figures


def test_nobody_speaks_tls_there():
    with Served(Pop3, Mailbox()) as served:
        code, out = served.load("pop3-login", "--tls", "implicit", "--count", "3")
    assert code == 1 and "TLS handshake: WRONG_VERSION_NUMBER" in out, out


@pytest.mark.parametrize("lie, words", [
    ("no-such-user", "RCPT answered: 550"), ("full", "end of data answered: 452")])
def test_a_refused_delivery_is_named(lie, words):
    code, out = deliver(Mailbox(lie))
    assert code == 1, out
    assert words in out


def test_a_wrong_count_is_named():
    box = Mailbox()
    deliver(box)
    with Served(Pop3, box) as pop3:
        code, out = pop3.load("pop3-check", "--count", "1", "--expect-messages", "5")
    assert code == 1
    assert "STAT says 4 messages where 5 were expected" in out


def test_nobody_there():
    with Served(Pop3, Mailbox()) as pop3:
        port = pop3.port
    done = subprocess.run([LOAD, "--scenario", "pop3-login", "--address", "127.0.0.1:%d" % port, "--count", "5", "--timeout", "3"],
                          stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "refused" in done.stdout


@pytest.mark.parametrize("words", [
    ["--scenario", "nonsense"], ["--scenario", "pop3-login"], ["--scenario", "lmtp", "--address", "x"],
    ["--scenario", "pop3-login", "--address", "127.0.0.1:1", "--connections", "9", "--last", "8"],
    ["--scenario", "pop3-login", "--address", "127.0.0.1:1", "--tls", "maybe"],
    ["--scenario", "pop3-login", "--address", "127.0.0.1:1", "--resume"],
    ["--scenario", "imap-idle", "--address", "127.0.0.1:1", "--rate", "5"],
    ["--scenario", "pop3-login", "--address", "127.0.0.1:1", "--rate", "5", "--arrivals", "/dev/null"],
    ["--scenario", "lmtp", "--address", "127.0.0.1:1", "--size", "100:1,x:2"], ["--address", "127.0.0.1:1", "--mix", "/dev/null"]])
def test_wrong_options_are_refused(words):
    done = subprocess.run([LOAD, *words], stderr=subprocess.PIPE, text=True, timeout=10, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
