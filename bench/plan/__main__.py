# SPDX-License-Identifier: Apache-2.0
"""plan: a capacity planner. How many accounts of a profile does this server hold, and what must a provider buy for N of them?

    python3 bench/plan run --profile modern --out build/plan-modern       measures (five minutes), writes the report
    python3 bench/plan profiles                                           what there is to choose from
    python3 bench/plan report  DIR [--accounts N] ...                     the report again, from the raw data
    python3 bench/plan figures DIR                                        every figure of the report, as JSON
    python3 bench/plan verify  DIR                                        is index.html what the raw data say?
    python3 bench/plan compare DIR DIR [--out FILE.html]                  what differs between two reports
    python3 bench/plan record  --log FILE --out DIR                       the anonymous shape of a live server's sessions, from its log
    python3 bench/plan replay  DIR [--speed X]                            plays a recorded shape at the times it had

DIR holds index.html (the report, without any other file), raw.json (all that was measured), runs.csv (the same as a table)
and settings.json (what the plan was asked for). bench/README.md says what the figures mean."""

import argparse
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import namespace
from lab.server import Failed
from plan import compare, figures, folder, page, record, replay, workload
from plan.measure import Measurement, expected_s
from plan.progress import Progress


def add_measuring(p):
    p.add_argument("--build", default="build", help="where penfold and bench/load are")
    p.add_argument("--work", default="/tmp", help="folder for the server's mail: the disk that is to be measured; some GB")
    p.add_argument("--port", type=int, default=23500, help="first of 100 loopback ports")
    p.add_argument("--congestion", default="cubic", help="TCP congestion control, in a network namespace of its own; host: the host's network")
    p.add_argument("--seed", type=int, default=1)


def add_plan(p):
    p.add_argument("--accounts", type=float, help="plan for so many (1,000,000)")
    p.add_argument("--headroom", type=float, help="percent of the found rate that stays free (30)")
    p.add_argument("--spare", type=int, help="nodes that may fail at once (1)")
    p.add_argument("--nic-gbit", type=float, help="a node's network (10)")


def cores():
    n, out = os.cpu_count() or 1, []
    while not out or out[-1] < n:
        out.append(min(n, out[-1] * 2 if out else 1))
    return out


def options():
    p = argparse.ArgumentParser(prog="plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="measure and report")
    run.add_argument("--profile", default="modern", help="name, file, or folder made by record")
    run.add_argument("--out", required=True, metavar="DIR")
    run.add_argument("--shards", type=lambda t: [int(n) for n in t.split(",")], default=cores(), help="numbers of shards (1, 2, 4 ... cores)")
    run.add_argument("--seconds", type=float, default=6.0, help="of steady state in each run")
    run.add_argument("--warmup", type=float, default=1.5, help="before each")
    run.add_argument("--pilot", type=float, default=150, help="operations a second of the first run")
    run.add_argument("--runs", type=int, default=10, help="at most, of one search")
    run.add_argument("--again", type=int, default=8, help="runs repeated, at most, because something else may have been at fault")
    run.add_argument("--minutes", type=float, default=5.5, help="all of it shall take about so long at most")
    run.add_argument("--small", action="store_true", help="hold no more sessions than the profile's load does")
    add_measuring(run)
    add_plan(run)
    for name in ("report", "figures", "verify"):
        v = verbs.add_parser(name)
        v.add_argument("dir", metavar="DIR")
        if name == "report":
            add_plan(v)
    v = verbs.add_parser("compare")
    v.add_argument("a", metavar="DIR")
    v.add_argument("b", metavar="DIR")
    v.add_argument("--out", metavar="FILE.html")
    v = verbs.add_parser("record")
    v.add_argument("--log", required=True, metavar="FILE", help="the server's log, keys or JSON; - is standard input")
    v.add_argument("--out", required=True, metavar="DIR")
    v.add_argument("--accounts", type=float, help="how many accounts the server has (those seen in the log)")
    v = verbs.add_parser("replay")
    v.add_argument("dir", metavar="DIR")
    v.add_argument("--speed", type=float, default=1.0, help="so many times as fast")
    v.add_argument("--shards", type=int, default=1)
    add_measuring(v)
    verbs.add_parser("profiles")
    return p.parse_args()


def asked(o):
    return {name: getattr(o, name) for name in ("accounts", "headroom", "spare", "nic_gbit") if getattr(o, name) is not None}


def measure(o):
    profile = workload.load(o.profile)
    progress = Progress(expected_s(o))
    network = "own namespace, %s" % o.congestion
    if o.congestion == "host" or (why := namespace.enter(o.congestion)):
        network = "the host's" + ("" if o.congestion == "host" else " (%s)" % why)

    def finish(raw):
        folder.write_raw(o.out, raw)
        return folder.write_report(o.out, asked(o))

    f = Measurement(o, profile, progress, network).all(finish)
    progress.end()
    return f


def conclude(f, where):
    print(page.sentence(f))
    print("report: %s/index.html" % where)
    return 0


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # tidy up as for Ctrl-C
    try:
        if o.verb == "run":
            return conclude(measure(o), o.out)
        if o.verb == "report":
            return conclude(folder.write_report(o.dir, asked(o)), o.dir)
        if o.verb == "figures":
            print(json.dumps(figures.derive(*folder.read(o.dir)), indent=1))
            return 0
        if o.verb == "verify":
            return folder.verify(o.dir)
        if o.verb == "compare":
            return compare.run(o.a, o.b, o.out)
        if o.verb == "record":
            return record.run(o.log, o.out, o.accounts)
        if o.verb == "replay":
            return replay.run(o)
        for name in workload.names():
            print("%-16s %s" % (name, workload.load(name).about))
        return 0
    except (Failed, workload.Wrong, folder.Unusable) as e:
        sys.exit("plan: %s" % e)
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
