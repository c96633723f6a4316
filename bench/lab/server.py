# SPDX-License-Identifier: Apache-2.0
"""server: a program under test: started in its control group, waited for, stopped for sure."""

import os
import shutil
import signal
import socket
import subprocess
import time

from .group import Group

# crypt(3) of "secret", SHA-256 with the fewest rounds: what is compared is the login, not the hash.
PASSWORD = "secret"
PASSWORD_HASH = "$5$rounds=1000$penfoldbench$E22oRQ929Ra8799vkx1gQ1ntMhV.h3xtMp6afTe6FGB"
DOMAIN = "demo.example"


class Failed(Exception):
    """A server did not do what it was asked to; the text says what."""


class Server:
    """One server in a folder of its own. Subclasses say command() and what to write before."""

    name = "?"

    def __init__(self, folder, pop3, lmtp, cores="0"):
        self.folder = folder
        self.pop3 = pop3
        self.lmtp = lmtp
        self.pop3s = None  # with TLS from the first byte, where `pair` is set: (chain, key)
        self.pair = None
        self.imap = None
        self.cores = cores
        self.process = None
        self.group = None

    def command(self):
        raise NotImplementedError

    def ports(self):
        return [p for p in (self.pop3, self.lmtp, self.imap, self.pop3s) if p]

    def start(self):
        self.group = Group(self.name, self.cores)
        self.group.prepare()
        log = open(os.path.join(self.folder, self.name + ".out"), "ab")
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                        preexec_fn=self.group.join, start_new_session=True)
        log.close()
        for port in self.ports():
            self._wait_for(port)

    def _wait_for(self, port):
        for _ in range(300):
            if self.process.poll() is not None:
                raise Failed("%s ended at once with %s; see %s" % (self.name, self.process.returncode, self.folder))
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise Failed("%s does not listen on port %d; see %s" % (self.name, port, self.folder))

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._end_stragglers()
        self.process = None
        self.group.remove()

    def _end_stragglers(self):
        """Children that outlive their master: only those in our own group."""
        for _ in range(30):
            left = self.group.processes() or []
            if not left:
                return
            time.sleep(0.1)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def restart(self):
        self.stop()
        self.start()

    def load_arguments(self):
        return self.group.load_arguments(self.process.pid)

    def disk_folder(self):
        return self.folder

    def wipe(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Floor(Server):
    """build/bench/floor with the mailbox it is to pretend."""

    name = "floor"

    def __init__(self, program, folder, pop3, lmtp, cores="0", threads=1):
        super().__init__(folder, pop3, lmtp, cores)
        self.program = program
        self.threads = threads
        self.arguments = []

    def pretend(self, messages=100, size=20480, distinct=1, logs=None):
        """Restarts with another canned mailbox; logs: None answers deliveries without a disk."""
        self.stop()
        self.arguments = ["--messages", str(messages), "--size", str(size), "--distinct", str(distinct)]
        if logs:
            self.arguments += ["--log", self.folder, "--logs", str(logs)]
        self.start()

    def command(self):
        return [self.program, "--pop3", str(self.pop3), "--lmtp", str(self.lmtp), "--threads", str(self.threads)] + \
            self.arguments


class Penfold(Server):
    """build/penfold serve with tenant demo and accounts imported."""

    name = "penfold"
    imap = None

    def __init__(self, program, folder, pop3, lmtp, cores="0", shards=1, people=(), extra=""):
        super().__init__(folder, pop3, lmtp, cores)
        self.program = program
        self.shards = shards
        self.people = people
        self.extra = extra
        self.config = os.path.join(folder, "penfold.yaml")

    def configure(self):
        with open(self.config, "w") as f:
            f.write("data: %s/data\nshards: %d\ndefault_domain: %s\nlisteners:\n"
                    "  - { protocol: pop3, address: \"127.0.0.1:%d\" }\n"
                    "  - { protocol: lmtp, address: \"127.0.0.1:%d\" }\n"
                    % (self.folder, self.shards, DOMAIN, self.pop3, self.lmtp))
            if self.imap:
                f.write("  - { protocol: imap, address: \"127.0.0.1:%d\" }\n" % self.imap)
            if self.pair:
                f.write("  - { protocol: pop3, address: \"127.0.0.1:%d\", tls: implicit }\n"
                        "tls: { certificate: %s, key: %s }\n" % (self.pop3s, *self.pair))
            f.write("" if "limits:" in self.extra else "limits: { exempt: [\"127.0.0.0/8\"] }\n")
            f.write(self.extra)

    def verb(self, *words, stdin=None):
        done = subprocess.run([self.program, "--config", self.config, *words], input=stdin, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
        if done.returncode:
            raise Failed("penfold %s: exit %d: %s" % (" ".join(words), done.returncode, done.stdout.strip()[-500:]))
        return done.stdout

    def create(self):
        """The folder's tenant, domain and accounts; once, before the first start."""
        os.makedirs(os.path.join(self.folder, "data"), exist_ok=True)
        self.configure()
        self.verb("tenant", "add", "demo")
        self.verb("domain", "add", DOMAIN, "--tenant", "demo")
        self.verb("account", "import",
                  stdin="".join("%s@%s:{CRYPT}%s\n" % (who, DOMAIN, PASSWORD_HASH) for who in self.people))

    def command(self):
        self.configure()
        return [self.program, "--config", self.config, "serve"]
