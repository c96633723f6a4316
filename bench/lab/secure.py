# SPDX-License-Identifier: Apache-2.0
"""secure: what TLS 1.3 adds to a login session, against what the library's handshake alone costs here.

In each round every server has a plain login session, one with a full handshake and one that
resumes, and the bare handshake (bench/micro) runs on the servers' core in between, so that all
see the same machine. The ratio that counts is

    TLS session / (plain session + bare handshake)

which is 1 for a server to which TLS costs nothing but the handshake."""

import json
import os
import statistics
import subprocess

from . import table
from .bench import MAILBOXES, say
from .server import Failed

TARGET = 1.3
WAYS = {"plain": {}, "full": {"tls": "implicit"}, "resumed": {"tls": "implicit", "resume": True}}


def bare(o):
    """CPU microseconds of BoringSSL's handshake on the server's side: {"full": .., "resumed": ..}."""
    program = os.path.join(o.build, "bench/micro")
    words = ["taskset", "-c", "0", program, "--benchmark_filter=^handshake_", "--benchmark_format=json", "--benchmark_min_time=0.5"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    except OSError as e:
        raise Failed("%s is not built: %s" % (program, e)) from None
    if done.returncode:
        raise Failed("%s: %s" % (program, done.stderr.strip()[-300:]))
    return {b["name"].split("/")[0].replace("handshake_", ""): b["real_time"] for b in json.loads(done.stdout)["benchmarks"]}


def one(bench, server, way, o):
    connections = 16 if server.name.startswith("dovecot") else 64
    figures = bench.run(server, "tls-" + way, "pop3-login", "a%d", 1, MAILBOXES["a"][0], connections, seconds=o.seconds,
                        warmup=o.warmup, **WAYS[way])
    shakes = figures["tls_full"] + figures["tls_resumed"]
    if way == "resumed" and figures["tls_resumed"] < shakes or way == "full" and figures["tls_resumed"]:
        raise Failed("%s: %d full and %d resumed handshakes where all should be %s" % (
            server.name, figures["tls_full"], figures["tls_resumed"], way))
    return figures["server_us"]


def run(bench, o):
    pair = bench.make_pair()
    bench.add_penfold(["a"], pair=pair)
    bench.add_dovecot(["a"], pair=pair)
    servers = list(bench.servers.values())
    bench.fill("a", servers)
    shakes = {"full": [], "resumed": []}
    costs = {server.name: {way: [] for way in WAYS} for server in servers}
    for n in range(o.rounds):
        for way, us in bare(o).items():
            shakes[way].append(us)
        for server in servers:
            for way in WAYS:
                costs[server.name][way].append(one(bench, server, way, o))
        say("round %d: handshake %s  %s" % (n + 1, "  ".join("%s %.0f us" % (w, v[-1]) for w, v in shakes.items()), "  ".join(
            "%s %s" % (name, " ".join("%s %.0f us" % (w, v[-1]) for w, v in c.items())) for name, c in costs.items())))
    bench.raw["handshake_us"] = shakes
    return report(shakes, costs)


def report(shakes, costs):
    middle = statistics.median
    lines = []
    for name, cost in costs.items():
        plain = middle(cost["plain"])
        lines.append([name, "plain", table.show(plain), "-", "-", "-"])
        for way in ("full", "resumed"):
            shake, whole = middle(shakes[way]), middle(cost[way])
            each = [w / (p + s) for w, p, s in zip(cost[way], cost["plain"], shakes[way])]
            ratio = table.judged(whole / (plain + shake), TARGET if name == "penfold" else None, True)
            lines.append([name, "TLS 1.3 " + way, table.show(whole), table.show(shake), ratio, "%.2f-%.2f" % (min(each), max(each))])
    return table.text(["server", "login session", "CPU us", "bare handshake us", "session / (plain + handshake)", "single rounds"], lines)
