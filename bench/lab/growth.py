# SPDX-License-Identifier: Apache-2.0
"""growth: does a session or a delivery cost more when the mailbox is larger?

One mailbox per size. Warm: one connection, session after session. Cold: the server started
anew and the page cache dropped (root), one session, its latency from connect to close."""

import os
import time

from . import table
from .bench import say

SIZES = (10, 1000, 100000)
OCTETS = 512


def drop_page_cache():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def cold(bench, server, user, scenario, size, o):
    runs = []
    for _ in range(o.rounds):
        server.stop()
        dropped = drop_page_cache()
        server.start()
        runs.append(bench.run(server, "cold-%d%s" % (size, "" if dropped else "-page-cache"), scenario, user, 1, 1, 1, count=1,
                              timeout=120))
    return table.median([r["latency"] for r in runs], "max_us"), table.median(runs, "server_us")


def run(bench, o):
    bench.add_penfold(["a"])
    server = bench.servers["penfold"]
    lines = []
    for n, size in enumerate(SIZES if not o.quick else SIZES[:2], 1):
        user = "a%d" % n
        began = time.monotonic()
        bench.load.run(server, "lmtp", user, 1, 1, 64 if size > 100 else 1, count=size, size=OCTETS, pipeline=2)
        say("filled %s with %d messages in %.1f s" % (user, size, time.monotonic() - began))
        login, check = (bench.run(server, "warm-%d" % size, scenario, user, 1, 1, 1, seconds=o.seconds, warmup=o.warmup)
                        for scenario in ("pop3-login", "pop3-check"))
        cold_login = cold(bench, server, user, "pop3-login", size, o)
        cold_check = cold(bench, server, user, "pop3-check", size, o)
        one, many = (bench.run(server, "deliver-%d" % size, "lmtp", user, 1, 1, c, seconds=o.seconds, size=4096, pipeline=2)
                     for c in (1, 16))
        lines.append([size, table.show(login["server_us"]), table.show(check["server_us"]),
                      table.show(cold_login[0] / 1000, 2), table.show(cold_check[0] / 1000, 2),
                      table.show(one["server_us"]), table.show(one["per_s"], 0), table.show(many["server_us"]),
                      table.show(many["per_s"], 0)])
    return table.text(["messages", "login us", "check us", "cold login ms", "cold check ms", "delivery us (1)", "/s",
                       "delivery us (16)", "/s"], lines)
