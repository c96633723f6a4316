#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The test runner behind `make test`: builds, runs everything, and ends with one line, "N passed, N failed".

    python3 tests/run.py [--build build] [--only build,lint,unit,fuzz,e2e] [--rooms core/run,storage,net]
                         [--backend epoll] [--fuzz-seconds 5] [--jobs 2] [--make make] [--make-arg SAN=thread ...]
    python3 tests/run.py --self-test       the runner itself, as TAP

What it runs, by stage:
    build  make all bench-build unit-build fuzz-build; a failure is one failed test, and what could be built is still run
    lint   tests/lint/*.py and this runner's self-test (TAP)
    unit   one cmocka program for each tests/unit/**/*_test.c (TAP)
    fuzz   each tests/fuzz/*_fuzz.c for some seconds, over its stored corpus
    e2e    pytest over tests/e2e, tests/wire and tests/model (JUnit), with PENFOLD set to the program under test; then a short choice
           of them (EPOLL_CHOICE) on the epoll back end. With --backend all of the unit and e2e tests run on that one.

A program that crashes, hangs past its time, runs fewer tests than it promised, or none, counts as failed.
Exit status: 0 when nothing failed and something passed, else 1.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
STAGES = ("build", "lint", "unit", "fuzz", "e2e")
OUTPUT_LINES_MAX = 400  # of one failed program, from its end
UNIT_SECONDS_MAX = 180  # a sanitizer build on a busy machine included
LINT_SECONDS_MAX = 300
E2E_SECONDS_MAX = 1800
BUILD_SECONDS_MAX = 1800
DESCRIPTORS_MIN = 4096


class Tally:
    """What has been counted so far; failures keep their story for the end."""

    def __init__(self):
        self.passed = self.skipped = 0
        self.failures = []

    def add(self, label, passed, skipped, failures, seconds):
        """failures: [(test, story)]"""
        self.passed += passed
        self.skipped += skipped
        self.failures += [(f"{label}: {test}" if test else label, story) for test, story in failures]
        counts = f"{passed} passed" + (f", {len(failures)} failed" if failures else "") + (f", {skipped} skipped" if skipped else "")
        print(f"{'FAIL' if failures else 'ok  '} {label} ({counts}, {seconds:.1f} s)", flush=True)

    def close(self):
        """Prints all failures in full and the closing line; returns the exit status."""
        for test, story in self.failures:
            print(f"\n---- FAILED {test}")
            print("\n".join(story.splitlines()[-OUTPUT_LINES_MAX:]))
        if not self.passed and not self.failures:
            self.failures.append(("no test was run", ""))
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"\n{self.passed} passed, {len(self.failures)} failed{skipped}", flush=True)
        return 1 if self.failures else 0


def run(argv, seconds, env=None, cwd=TOP):
    """(exit status or None after the time, output). A program left over is killed with all that it started."""
    # into a file: whoever inherits a pipe could keep us reading
    with tempfile.TemporaryFile() as out:
        try:
            p = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd,
                                 env={**os.environ, **(env or {})}, start_new_session=True)
        except OSError as e:
            return 127, f"cannot be started (was it built?): {e}"
        try:
            status = p.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            p.wait()
        out.seek(0)
        return status, out.read().decode("utf-8", "backslashreplace")


def ending(status, seconds):
    """How a program ended, in words; None when it ended well."""
    if status is None:
        return f"still running after {seconds} s"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else None


TAP_LINE = re.compile(r"^(not )?ok (\d+)\s*(?:-\s*)?(.*)$")
TAP_PLAN = re.compile(r"^1\.\.(\d+)\s*$", re.M)


def judge_tap(status, output, seconds):
    """(passed, skipped, failures) of a program that speaks TAP, as cmocka does (which writes "not ok 3 # SKIP name")."""
    passed = skipped = 0
    failures = []
    story = []
    for line in output.splitlines():
        m = TAP_LINE.match(line)
        if not m:
            if failures and line.startswith("# ") and story is failures[-1][1]:
                story.append(line[2:])
            continue
        story = []
        if "# SKIP" in line.upper():
            skipped += 1
        elif m.group(1):
            failures.append((m.group(3), story))
        else:
            passed += 1
    failures = [(name, "\n".join(lines)) for name, lines in failures]
    promised = sum(int(n) for n in TAP_PLAN.findall(output))
    seen = passed + skipped + len(failures)
    end = ending(status, seconds)
    if not promised or not seen:
        failures.append(("", f"ran no test ({end or 'exit status 0'})\n{output}"))
    elif seen < promised:
        failures.append(("", f"stopped after {seen} of {promised} tests ({end or 'exit status 0'})\n{output}"))
    elif end and not failures:
        failures.append(("", f"all tests passed, but: {end}\n{output}"))
    elif failures:
        failures[-1] = (failures[-1][0], failures[-1][1] + f"\n-- the program's whole output:\n{output}")
    return passed, skipped, failures


def judge_status(status, output, seconds):
    """One test: the program's end."""
    end = ending(status, seconds)
    return (0, 0, [("", f"{end}\n{output}")]) if end else (1, 0, [])


def judge_junit(path, status, output, seconds):
    """pytest's report; its text is shown for what the report does not tell."""
    passed = skipped = 0
    failures = []
    try:
        cases = list(xml.etree.ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError) as e:
        return 0, 0, [("", f"no report ({e}; {ending(status, seconds) or 'exit status 0'})\n{output}")]
    for case in cases:
        name = f"{case.get('classname', '')}.{case.get('name', '')}".lstrip(".")
        bad = [e for e in case if e.tag in ("failure", "error")]
        if bad:
            texts = [f"{e.get('message', '')}\n{e.text or ''}" for e in bad] + [e.text or "" for e in case if e.tag.startswith("system-")]
            failures.append((name, "\n".join(texts)))
        elif any(e.tag == "skipped" for e in case):
            skipped += 1
        else:
            passed += 1
    if not cases:
        failures.append(("", f"ran no test\n{output}"))
    elif ending(status, seconds) and not failures:
        failures.append(("", f"{ending(status, seconds)}\n{output}"))
    return passed, skipped, failures


# ---- stages: each gives (label, argv, seconds, env, judge) ----

SANITIZER_ENV = {
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


def unit_programs(args):
    for source in sorted(glob.glob("tests/unit/**/*_test.c", recursive=True, root_dir=TOP)):
        room = os.path.dirname(source)[len("tests/unit/"):]
        if args.rooms and not any(room == r or room.startswith(r + "/") for r in args.rooms.split(",")):
            continue
        name = source[len("tests/unit/"):-len(".c")]
        yield f"unit {name[:-len('_test')]}", os.path.join(args.build, "tests", name)


def backend_env(args):
    return {"PENFOLD_IO_BACKEND": args.backend} if args.backend else {}


def unit_jobs(args):
    env = {"CMOCKA_MESSAGE_OUTPUT": "TAP", **SANITIZER_ENV, **backend_env(args)}
    for label, program in unit_programs(args):
        yield label, [os.path.join(TOP, program)], UNIT_SECONDS_MAX, env, judge_tap


def lint_jobs(_args):
    for script in sorted(glob.glob("tests/lint/*.py", root_dir=TOP)):
        name = os.path.basename(script)[:-len(".py")]
        yield f"lint {name}", [sys.executable, script], LINT_SECONDS_MAX, None, judge_tap
        yield f"lint {name} self-test", [sys.executable, script, "--self-test"], LINT_SECONDS_MAX, None, judge_tap
    yield "lint run self-test", [sys.executable, "tests/run.py", "--self-test"], LINT_SECONDS_MAX, None, judge_tap


def fuzz_jobs(args):
    for source in sorted(glob.glob("tests/fuzz/*_fuzz.c", root_dir=TOP)):
        name = os.path.basename(source)[:-len("_fuzz.c")]
        grown = os.path.join(args.build, "fuzz", "corpus", name)  # what is found here stays out of the tree
        kept = os.path.join("tests", "fuzz", "corpus", name)
        os.makedirs(os.path.join(TOP, grown), exist_ok=True)
        argv = [os.path.join(TOP, args.build, "fuzz", name), f"-max_total_time={args.fuzz_seconds}", "-timeout=10", "-rss_limit_mb=2048",
                f"-artifact_prefix={os.path.join(args.build, 'fuzz', name)}-", grown]
        argv += [kept] if os.path.isdir(os.path.join(TOP, kept)) else []
        yield f"fuzz {name}", argv, args.fuzz_seconds + 120, SANITIZER_ENV, judge_status


# What must work on epoll whatever else: every kind of request of the door, every protocol, and a crash. Under 40 s.
EPOLL_CHOICE = ("tests/e2e/test_wire.py", *(f"tests/e2e/test_{t}" for t in (
    "pop3.py::test_mail_arrives_while_the_maildrop_is_held", "pop3.py::test_half_closed_client_gets_all_its_replies",
    "pop3.py::test_big_message_streams", "pop3.py::test_slow_readers_hurt_nobody", "imap.py::test_idle_is_woken",
    "imap.py::test_acknowledged_is_kept", "imap.py::test_many_messages_stream", "imap.py::test_tls", "lmtp.py::test_bdat_cut_anywhere",
    "lmtp.py::test_many_deliverers_at_once", "kill.py::test_kill")))


def pytest_job(args, label, targets, env):
    report = os.path.join(TOP, args.build, f"{label.replace(' ', '-')}.xml")
    if os.path.exists(report):
        os.unlink(report)
    env = {"PENFOLD": os.path.join(TOP, args.build, "penfold"), "PENFOLD_BUILD": os.path.join(TOP, args.build), "PYTHONDONTWRITEBYTECODE": "1", **env}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *targets]
    return label, argv, E2E_SECONDS_MAX, env, lambda *end: judge_junit(report, *end)


def e2e_jobs(args):
    folders = [d for d in ("tests/e2e", "tests/wire", "tests/model") if glob.glob(f"{d}/**/test_*.py", recursive=True, root_dir=TOP)]
    if folders:
        yield pytest_job(args, f"e2e {args.backend}" if args.backend else "e2e", folders, backend_env(args))
    if folders and not args.backend:
        yield pytest_job(args, "e2e short on epoll", EPOLL_CHOICE, {"PENFOLD_IO_BACKEND": "epoll", "KILLS": "4"})


def run_stage(jobs, workers, tally):
    def one(job):
        label, argv, seconds, env, judge = job
        begun = time.monotonic()
        status, output = run(argv, seconds, env)
        return label, judge(status, output, seconds), time.monotonic() - begun

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for label, (passed, skipped, failures), seconds in pool.map(one, jobs):
            tally.add(label, passed, skipped, failures, seconds)


def build(args, stages, tally):
    """Keeps going after an error, so that one broken room does not hide the others' results."""
    targets = (["all", "bench-build"] if "e2e" in stages else []) + (["fuzz-build"] if "fuzz" in stages else [])
    if "unit" in stages:
        targets += [program for _, program in unit_programs(args)]
    if not targets:
        return
    begun = time.monotonic()
    argv = [args.make, "-k", f"-j{args.jobs}", f"BUILD={args.build}", *args.make_arg, *targets]
    # our own make may have been started by one with a job server of its own
    env = {"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": "0", "MAKEOVERRIDES": ""}
    status, output = run(argv, BUILD_SECONDS_MAX, env)
    tally.add("build", *judge_status(status, output, BUILD_SECONDS_MAX), time.monotonic() - begun)


def take_all_descriptors():
    """Tests hold thousands of connections; an ordinary user's soft limit is 1024 on Debian. Inherited by all that is run."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < DESCRIPTORS_MIN:
        print(f"note: only {hard} descriptors may be open (ulimit -Hn); tests that need {DESCRIPTORS_MIN} will fail", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--only", default=",".join(STAGES))
    p.add_argument("--rooms", default="")
    p.add_argument("--backend", default="", choices=("", "auto", "io_uring", "epoll"))
    p.add_argument("--fuzz-seconds", type=int, default=5)
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    p.add_argument("--make", default="make")
    p.add_argument("--make-arg", action="append", default=[])
    p.add_argument("--self-test", action="store_true")
    args = p.parse_args()
    if args.self_test:
        return self_test()
    args.build = os.path.relpath(os.path.join(TOP, args.build), TOP)
    stages = args.only.split(",")
    unknown = set(stages) - set(STAGES)
    if unknown:
        p.error(f"no such stage: {', '.join(sorted(unknown))}")
    take_all_descriptors()
    tally = Tally()
    if "build" in stages:
        build(args, stages, tally)
    for stage, jobs, workers in (("lint", lint_jobs, args.jobs), ("unit", unit_jobs, args.jobs), ("fuzz", fuzz_jobs, args.jobs),
                                 ("e2e", e2e_jobs, 1)):
        if stage in stages:
            run_stage(jobs(args), workers, tally)
    return tally.close()


# ---- self-test: programs that misbehave must be counted as failed ----

CASES = [
    # what, shell program, seconds, (passed, skipped, failed), words in the story
    ("passes", "echo 1..2; echo 'ok 1 - a'; echo 'ok 2 - b'", 10, (2, 0, 0), ""),
    ("skips as cmocka does", "echo 1..2; echo 'ok 1 - a'; echo 'not ok 2 # SKIP b'", 10, (1, 1, 0), ""),
    ("fails one of two", "echo 1..2; echo 'not ok 1 - a'; echo '# because'; echo 'ok 2 - b'; exit 1", 10, (1, 0, 1), "because"),
    ("fails, but ends with 0", "echo 1..1; echo 'not ok 1 - a'", 10, (0, 0, 1), ""),
    ("crashes half-way", "echo 1..3; echo 'ok 1 - a'; kill -SEGV $$", 10, (1, 0, 1), "stopped after 1 of 3 tests (killed by SIGSEGV)"),
    ("crashes at once", "kill -ABRT $$", 10, (0, 0, 1), "ran no test (killed by SIGABRT)"),
    ("says nothing", "true", 10, (0, 0, 1), "ran no test"),
    ("promises nothing", "echo 1..0", 10, (0, 0, 1), "ran no test"),
    ("leaks at its end", "echo 1..1; echo 'ok 1 - a'; echo leak; exit 23", 10, (1, 0, 1), "exit status 23"),
    ("hangs", "echo 1..2; echo 'ok 1 - a'; sleep 60", 1, (1, 0, 1), "still running after 1 s"),
    ("leaves a child behind", "echo 1..1; echo 'ok 1 - a'; sleep 60 &", 5, (1, 0, 0), ""),
    ("does not exist", None, 5, (0, 0, 1), "cannot be started"),
]


def self_test():
    print(f"1..{len(CASES) + 4}")
    good = True
    number = 0

    def verdict(right, what, detail=""):
        nonlocal number, good
        number += 1
        good = good and right
        print(("ok" if right else "not ok") + f" {number} - {what}" + ("" if right else f"\n# {detail}"))

    for what, shell, seconds, expected, words in CASES:
        status, output = run(["/bin/sh", "-c", shell] if shell else ["/nonexistent"], seconds)
        passed, skipped, failures = judge_tap(status, output, seconds)
        story = "\n".join(text for _, text in failures)
        verdict((passed, skipped, len(failures)) == expected and words in story, f"a program that {what}", f"{passed} {skipped} {failures}")

    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "r.xml")
        with open(report, "w", encoding="utf-8") as f:
            f.write('<testsuites><testsuite><testcase classname="c" name="a"/><testcase classname="c" name="b"><failure message="boo">why'
                    '</failure></testcase><testcase name="s"><skipped/></testcase></testsuite></testsuites>')
        passed, skipped, failures = judge_junit(report, 1, "", 1)
        verdict((passed, skipped) == (1, 1) and failures == [("c.b", "boo\nwhy")], "a report with a failure and a skip", str(failures))
        verdict(len(judge_junit(os.path.join(folder, "none"), 0, "text", 1)[2]) == 1, "no report at all")
        with open(report, "w", encoding="utf-8") as f:
            f.write("<testsuites/>")
        verdict(len(judge_junit(report, 5, "text", 1)[2]) == 1, "a report without tests")
    verdict(len(judge_status(-11, "", 1)[2]) == 1 and judge_status(0, "", 1) == (1, 0, []), "a program judged by its end")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
