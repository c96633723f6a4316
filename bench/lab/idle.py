# SPDX-License-Identifier: Apache-2.0
"""idle: what a session costs that is logged in and does nothing, in octets of resident memory.

Everybody has logged in once before, a few at a time, so that what a server keeps of an account
beyond its session (caches with bounds of their own) is there already and is told apart."""

from . import table


def run(bench, o):
    bench.add_penfold(["i"])
    bench.add_floor()
    bench.add_dovecot(["i"])
    lines = []
    for name, server in bench.servers.items():
        steps = [200, 500] if name.startswith("dovecot") else [1000, o.sessions]
        if name == "floor":
            server.pretend(messages=0)
        before = None
        for sessions in steps:
            server.restart()
            warm = bench.run(server, "idle-warm", "pop3-login", "i%d", 1, sessions, 16, count=sessions)
            f = bench.run(server, "idle", "pop3-idle", "i%d", 1, 10000, sessions, hold=3, timeout=120)
            grown = [f["server_end"][k] - f["server_before"][k] for k in ("rss_bytes", "anon_bytes")]
            slope = (grown[0] - before[1]) / (sessions - before[0]) if before else None
            lines.append([name, sessions, "%.1f" % (warm["server_before"]["rss_bytes"] / 1e6),
                          "%.1f" % (f["server_before"]["rss_bytes"] / 1e6),
                          "%.1f" % (f["server_end"]["rss_bytes"] / 1e6), "%.0f" % (grown[0] / sessions),
                          "%.0f" % (grown[1] / sessions), table.show(slope, 0), "%.2f" % f["open_s"]])
            before = (sessions, grown[0])
    text = table.text(["server", "sessions", "RSS fresh MB", "all seen once MB", "held MB", "octets each", "anonymous each",
                       "each beyond the first step", "opened in s"], lines)
    if "penfold" in bench.servers:
        text += "\n\npenfold stats:\n" + bench.servers["penfold"].verb("stats")
    return text
