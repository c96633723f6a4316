# SPDX-License-Identifier: Apache-2.0
"""idle: what a session costs that is logged in and does nothing, in octets of resident memory."""

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
            if name != "penfold":
                server.restart()
            f = bench.run(server, "idle", "pop3-idle", "i%d", 1, 10000, sessions, hold=3, timeout=120)
            grown = [f["server_end"][k] - f["server_before"][k] for k in ("rss_bytes", "anon_bytes")]
            slope = (f["server_end"]["rss_bytes"] - before[1]) / (sessions - before[0]) if before else None
            lines.append([name, sessions, "%.1f" % (f["server_before"]["rss_bytes"] / 1e6),
                          "%.1f" % (f["server_end"]["rss_bytes"] / 1e6), "%.0f" % (grown[0] / sessions),
                          "%.0f" % (grown[1] / sessions), table.show(slope, 0), "%.2f" % f["open_s"]])
            before = (sessions, f["server_end"]["rss_bytes"])
    text = table.text(["server", "sessions", "RSS before MB", "RSS held MB", "octets each", "anonymous each",
                       "each beyond the first step", "opened in s"], lines)
    if "penfold" in bench.servers:
        text += "\n\npenfold stats:\n" + bench.servers["penfold"].verb("stats")
    return text
