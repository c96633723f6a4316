# SPDX-License-Identifier: Apache-2.0
"""house: the server under test with its accounts and mail, its surroundings, and what the machine can do.

One folder, one Penfold, one control group (root: exact CPU figures and pinned cores), everything on loopback and, with
root, in a network namespace of its own. The same mail serves all numbers of shards: the server is only started again."""

import ctypes
import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import threading
import time

from lab import server as lab_server
from lab.bench import _first_line, cores_for
from lab.server import DOMAIN, PASSWORD, Failed

SYNC_S = 1.5          # how long the disk is asked
SYNC_THREADS = 8
SYNC_BYTES = 65536


class Server(lab_server.Penfold):
    """Penfold with POP3 and IMAP, in the clear and over TLS, and LMTP."""

    def __init__(self, program, folder, port, shards, people, pair):
        super().__init__(program, folder, port + 10, port + 24, cores_for(shards), shards, people)
        self.imap, self.imaps, self.pop3s, self.pair = port + 43, port + 93, port + 95, pair
        self.admin = os.path.join(tempfile.gettempdir(), "penfold-plan-%d.sock" % os.getpid())  # a socket's path is short, a folder's may not be

    def ports(self):
        return [self.pop3, self.lmtp, self.imap, self.imaps, self.pop3s]

    def configure(self):
        with open(self.config, "w") as f:
            f.write("data: %s/data\nadmin_socket: %s\nshards: %d\ndefault_domain: %s\nlisteners:\n" % (
                self.folder, self.admin, self.shards, DOMAIN))
            for protocol, port, tls in (("pop3", self.pop3, "none"), ("lmtp", self.lmtp, "none"), ("imap", self.imap, "none"),
                                        ("pop3", self.pop3s, "implicit"), ("imap", self.imaps, "implicit")):
                f.write("  - { protocol: %s, address: \"127.0.0.1:%d\", tls: %s }\n" % (protocol, port, tls))
            f.write("tls: { certificate: %s, key: %s }\n" % self.pair)
            f.write("limits: { exempt: [\"127.0.0.0/8\"], unauthenticated_max: 0 }\n")

    def port_of(self, stream):
        if stream.scenario == "lmtp":
            return self.lmtp
        if stream.scenario.startswith("imap"):
            return self.imap if stream.tls == "none" else self.imaps
        return self.pop3 if stream.tls == "none" else self.pop3s

    def counters(self):
        """The server's own counters, a flat dict of numbers."""
        figures = json.loads(self.verb("stats", "--json"))
        out = {}

        def walk(prefix, value):
            if isinstance(value, dict):
                for key, inner in value.items():
                    walk(prefix + "." + key if prefix else key, inner)
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                out[prefix] = value
        walk("", figures)
        return out


def take_descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class House:
    """with House(profile, build, work, port) as house: ..."""

    def __init__(self, profile, build, work, port, progress):
        self.profile, self.build, self.port, self.progress = profile, build, port, progress
        self.arrivals = {}  # of each stream a file of times, when a recorded shape is played
        self.load = os.path.abspath(os.path.join(build, "bench/load"))
        program = os.path.abspath(os.path.join(build, "penfold"))
        for needed in (program, self.load):
            if not os.access(needed, os.X_OK):
                raise Failed("%s is not built" % needed)
        self.work = tempfile.mkdtemp(prefix="penfold-plan-", dir=work)
        self.descriptors = take_descriptors()
        self.server = Server(program, os.path.join(self.work, "penfold"), port, 1,
                             ["user%d" % n for n in range(1, profile.accounts + 1)], self._pair())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.server.stop()
        except OSError as e:
            self.progress.say("stopping the server: %s" % e)
        shutil.rmtree(self.work, ignore_errors=True)

    def _pair(self):
        chain, key = os.path.join(self.work, "cert.pem"), os.path.join(self.work, "key.pem")
        done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                               "30", "-subj", "/CN=mail.bench.example", "-keyout", key, "-out", chain],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Failed("openssl: " + done.stderr.strip()[-300:])
        return chain, key

    # ---- the server

    def create(self, shards):
        os.makedirs(self.server.folder)
        self.server.create()
        self.start(shards)

    def start(self, shards):
        """The same mail with so many shards on so many cores."""
        self.server.stop()
        self.server.shards, self.server.cores = shards, cores_for(shards)
        self.server.start()

    def fill(self):
        """What lies in the mailboxes at the beginning: (messages, octets)."""
        messages = octets = 0
        for pool in self.profile.pools.values():
            for first, last, count in pool.parts():
                if not count:
                    continue
                users = last - first + 1
                together = next(n for n in range(min(users, 50), 0, -1) if users % n == 0)
                deliveries = users * count // together
                self.run_load(["--scenario", "lmtp", "--address", "127.0.0.1:%d" % self.server.lmtp, "--first", str(first), "--last",
                               str(last), "--count", str(deliveries), "--recipients", str(together), "--size", str(pool.bytes),
                               "--pipeline", "2", "--connections", str(min(32, deliveries))])
                messages += users * count
                octets += users * count * pool.bytes
        return messages, octets

    # ---- the generator

    def words(self):
        return [self.load, "--user", "user%%d@%s" % DOMAIN, "--password", PASSWORD, "--timeout", "10", "--json",
                os.path.join(self.work, "out.json"), *self.server.load_arguments()]

    def run_load(self, words, cpu=None, may_fail=False):
        """One run's figures. The generator goes first where it shares cores: it must not be late."""
        words = self.words() + words + ([] if cpu is None else ["--cpu", str(cpu)])
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=_go_first)
        while process.poll() is None:
            time.sleep(0.05)
            self.progress.tick()
        complaint = process.stderr.read().strip()
        process.stderr.close()
        if process.returncode not in (0, 1):
            raise Failed("load: %s\n  %s" % (complaint, " ".join(words)))
        with open(os.path.join(self.work, "out.json")) as f:
            figures = json.load(f)
        if process.returncode == 1 and not may_fail:
            raise Failed("load: %s" % "; ".join(figures.get("error_text", ["?"])))
        return figures

    def mix(self, lines, seconds, warmup, seed, cpu=None):
        path = os.path.join(self.work, "mix")
        with open(path, "w") as f:
            f.write("".join(" ".join(line) + "\n" for line in lines))
        return self.run_load(["--mix", path, "--seconds", "%g" % seconds, "--warmup", "%g" % warmup, "--max-errors", "2000", "--seed",
                              str(seed)], cpu, may_fail=True)

    def stream_words(self, stream, accounts, connections=None):
        """The stream's line in a mix, at the rate of so many accounts; rate 0: closed loop."""
        words = ["--tag", stream.name, "--scenario", stream.scenario, "--address", "127.0.0.1:%d" % self.server.port_of(stream),
                 "--first", str(stream.first), "--last", str(stream.last), "--connections", str(connections or stream.connections)]
        if self.arrivals:
            words += ["--arrivals", self.arrivals[stream.name]] if stream.name in self.arrivals else []
        elif not stream.idle and accounts:
            words += ["--rate", "%.6f" % (stream.per_1000_s * accounts / 1000)]
        if stream.tls != "none":
            words += ["--tls", "implicit"] + (["--resume"] if stream.tls == "resumed" else [])
        return words + stream.options

    # ---- what the machine is and does

    def disk(self):
        """What the disk of the data folder can do, asked with the server idle: {"syncs_per_s", "bytes_per_s"}."""
        counts, threads = [0] * SYNC_THREADS, []
        block = os.urandom(SYNC_BYTES)
        until = time.monotonic() + SYNC_S

        def write(number):
            fd = os.open(os.path.join(self.work, "disk%d" % number), os.O_WRONLY | os.O_CREAT, 0o600)
            while time.monotonic() < until:
                os.write(fd, block)
                os.fdatasync(fd)
                counts[number] += 1
            os.close(fd)
            os.unlink(os.path.join(self.work, "disk%d" % number))

        began = time.monotonic()
        for number in range(SYNC_THREADS):
            threads.append(threading.Thread(target=write, args=(number,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        return {"syncs_per_s": sum(counts) / took, "bytes_per_s": sum(counts) * SYNC_BYTES / took, "threads": SYNC_THREADS,
                "block_bytes": SYNC_BYTES}

    def machine(self, network):
        return {
            "cpu": _first_line("/proc/cpuinfo", "model name"), "cores": os.cpu_count(), "kernel": platform.release().partition("-")[0],
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "descriptors": self.descriptors,
            "filesystem": _filesystem(self.work), "network": network, "exact_cpu": bool(self.server.group and self.server.group.measured),
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load_average": os.getloadavg()[0],
        }


def _go_first():
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except OSError:
        pass  # not root: the lag figures tell whether it mattered
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG: it does not outlive us


def _filesystem(path):
    best = ("", "?")
    with open("/proc/self/mounts") as f:
        for line in f:
            mount, kind = line.split()[1:3]
            if (path + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best[0]):
                best = (mount, kind)
    return best[1]


def busy_s():
    """CPU time that this machine has spent on anything since it was started, in seconds."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _wait, irq, soft, steal = [int(n) for n in f.readline().split()[1:9]]
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
