# SPDX-License-Identifier: Apache-2.0
"""bench: one comparison's surroundings: folder, ports, servers, mailboxes, and what the machine was."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

from peers import dovecot

from .load import Load
from .server import PASSWORD, Failed, Floor, Penfold

# Kinds of mailbox: letter, users, messages, octets of each. `l` is delivered to; one message first, so that no row
# pays for making mailboxes.
MAILBOXES = {
    "a": (64, 10, 2048),
    "b": (64, 100, 2048),
    "c": (16, 10000, 1024),
    "r": (16, 10, 20480),
    "m": (16, 3, 2 * 1024 * 1024),
    "l": (1000, 1, 4096),
    "i": (10000, 0, 0),
}


def say(words):
    print(words, file=sys.stderr, flush=True)


class Bench:
    """Starts what is asked for, fills it, and takes it all down again, whatever happens."""

    def __init__(self, o):
        self.o = o
        self.work = tempfile.mkdtemp(prefix="penfold-compare-", dir=o.work)
        os.chmod(self.work, 0o755)
        self.load = Load(os.path.join(o.build, "bench/load"), cpu=1)
        self.servers = {}
        self.filled = set()
        self.raw = {"machine": machine(), "runs": []}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers.values():
            try:
                server.stop()
            except OSError as e:
                say("stopping %s: %s" % (server.name, e))
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- servers

    def _folder(self, name):
        path = os.path.join(self.work, name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)
        return path

    def people(self, kinds):
        return ["%s%d" % (kind, n) for kind in kinds for n in range(1, MAILBOXES[kind][0] + 1)]

    def make_pair(self):
        """A self-signed certificate, P-256: (chain, key)."""
        chain, key = (os.path.join(self._folder("pair"), name) for name in ("cert.pem", "key.pem"))
        done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                               "30", "-subj", "/CN=mail.bench.example", "-keyout", key, "-out", chain],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Failed("openssl: " + done.stderr.strip()[-300:])
        return chain, key

    def add_penfold(self, kinds, shards=1, pair=None, imap=False):
        program = os.path.join(self.o.build, "penfold")
        if self.o.no_penfold:
            return
        if not os.access(program, os.X_OK):
            raise Failed("%s is not built" % program)
        port = self.o.port
        server = Penfold(os.path.abspath(program), self._folder("penfold"), port + 10, port + 24, cores_for(shards), shards,
                         self.people(kinds))
        if pair:
            server.pop3s, server.pair = port + 95, pair
        if imap:
            server.imap = port + 43
        server.create()
        server.start()
        self.servers["penfold"] = server

    def add_penfold_on(self, backend, kinds, nth):
        """One of several on one build, named by its back end, with IMAP."""
        program = os.path.abspath(os.path.join(self.o.build, "penfold"))
        port = self.o.port + 100 * nth
        server = Penfold(program, self._folder(backend), port + 10, port + 24, cores_for(1), 1, self.people(kinds),
                         extra="io: { backend: %s }\n" % backend)
        server.name, server.imap = backend, port + 43
        server.create()
        server.start()
        self.servers[backend] = server

    @staticmethod
    def password():
        return PASSWORD.encode()

    def add_floor(self, threads=1):
        port = self.o.port + 100
        server = Floor(os.path.abspath(os.path.join(self.o.build, "bench/floor")), self._folder("floor"), port + 10,
                       port + 24, cores_for(threads), threads)
        server.start()
        self.servers["floor"] = server

    def add_dovecot(self, kinds, store="maildir", cores=1, pair=None):
        why = "not asked for" if self.o.no_dovecot else dovecot.missing()
        if why:
            say("without Dovecot: " + why)
            return
        port = self.o.port + (200 if store == "maildir" else 300)
        server = dovecot.Dovecot(self._folder("dovecot-" + store), port + 10, port + 24, port + 43, cores_for(cores), store,
                                 self.people(kinds))
        server.name = "dovecot-" + store
        if pair:
            server.pop3s, server.pair = port + 95, pair
        server.create()
        server.start()
        self.servers[server.name] = server

    def spread(self, cores):
        """The same servers on so many cores: restarted, mail kept. The generator then shares them."""
        self.load.cpu = 1 if cores == 1 else None
        for server in self.servers.values():
            server.stop()
            server.cores = cores_for(cores)
            if isinstance(server, Penfold):
                server.shards = cores
            elif isinstance(server, Floor):
                server.threads = cores
            server.start()

    # ---- mail

    def fill(self, kind, servers):
        users, messages, size = MAILBOXES[kind]
        for server in servers:
            name = server.name
            if name == "floor" or not messages or (name, kind) in self.filled:
                continue
            began = time.monotonic()
            if messages >= 1000 and hasattr(server, "copy_mailbox"):
                self.load.fill(server, kind + "%d", 1, 1, messages, size)
                server.copy_mailbox(kind + "1", ["%s%d" % (kind, n) for n in range(2, users + 1)])
            else:
                self.load.fill(server, kind + "%d", 1, users, messages, size)
            self.filled.add((name, kind))
            say("filled %s: %d mailboxes of %d messages of %d octets in %.1f s" % (
                name, users, messages, size, time.monotonic() - began))

    # ---- runs

    def run(self, server, row, scenario, user, first, last, connections, **options):
        figures = self.load.run(server, scenario, user, first, last, connections, **options)
        figures.update(row=row, load_average=os.getloadavg()[0], cores=server.cores)
        self.raw["runs"].append(figures)
        return figures

    def save(self, name, table):
        if not self.o.out:
            return
        os.makedirs(self.o.out, exist_ok=True)
        with open(os.path.join(self.o.out, name + ".json"), "w") as f:
            json.dump(self.raw, f, indent=1)
        with open(os.path.join(self.o.out, name + ".txt"), "w") as f:
            f.write(table + "\n")


def cores_for(n):
    return "0" if n == 1 else "0-%d" % (n - 1)


def _first_line(path, prefix=""):
    try:
        with open(path) as f:
            for line in f:
                if line.startswith(prefix):
                    return line.partition(":")[2].strip() if prefix else line.strip()
    except OSError:
        pass
    return "?"


def machine():
    return {
        "kernel": platform.release(),
        "cpu": _first_line("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "congestion_control": _first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load_average": os.getloadavg(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
