#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house's plan, checked on the tree itself: who may include whom, and how files begin.

    python3 tests/lint/floors.py [TOP]        checks the tree; prints TAP, one line per rule, findings as comments
    python3 tests/lint/floors.py --self-test  plants one violation of each rule in a small tree and wants it found

Rules: a file includes its own room and lower floors only; private headers stay in their folder; no circles, between rooms
or between headers; liburing, epoll and hiredis only behind the door; every file opens with its licence and an essay that names
it; header guards spell their path; every bound in limits.h says why.
"""
import os
import re
import sys
import tempfile

FLOORS = {
    "core/base": 0,
    "core/run": 1,
    "storage": 2,
    "tenancy": 2,
    "net": 3,
    "net/fleet": 3,
    "net/peer": 3.5,
    "net/pop3": 4,
    "net/imap": 4,
    "net/lmtp": 4,
    "net/server": 5,
}
TOPS = ("core", "net", "tenancy", "storage")
OUTSIDE = ("bench", "tests", "deploy")  # may include any room; no room includes them
DOOR = "core/run"
ONLY_BEHIND_THE_DOOR = ("liburing", "hiredis", "linux/io_uring", "sys/epoll", "sys/eventfd", "sys/signalfd")
ESSAY_WORDS_MIN = {"public": 25, "private": 6, "source": 4}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r"/\*.*?\*/", re.S)
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def room_of(path):
    """The room of a file: its folder."""
    return os.path.dirname(path)


class Tree:
    def __init__(self, top):
        self.top = top
        self.files = {}
        for start in TOPS:
            for folder, _, names in os.walk(os.path.join(top, start)):
                for name in sorted(names):
                    if name.endswith((".c", ".h", ".S")):
                        path = os.path.relpath(os.path.join(folder, name), top)
                        with open(os.path.join(top, path), encoding="utf-8", errors="surrogateescape") as f:
                            self.files[path] = f.read()

    def includes(self, path):
        """(line, quote or angle, name) of each include, those in comments left out."""
        text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), self.files[path])
        for m in INCLUDE.finditer(text):
            yield text.count("\n", 0, m.start(2)) + 1, m.group(1), m.group(2)


def rule_known_rooms(tree):
    """every file stands in a room"""
    for path in tree.files:
        if room_of(path) not in FLOORS:
            yield f"{path}: {room_of(path)} is no room; rooms are {', '.join(FLOORS)}"


def rule_floors(tree):
    """files include their own room and lower floors only"""
    for path in tree.files:
        own = room_of(path)
        for line, quote, name in tree.includes(path):
            if quote != '"':
                if name.split("/")[0] in TOPS and name in tree.files:
                    yield f'{path}:{line}: <{name}> is ours: include it with quotes'
                continue
            other = room_of(name)
            if name not in tree.files:
                where = "belongs to no room" if name.split("/")[0] in OUTSIDE else "is not a path from the top of the tree"
                yield f'{path}:{line}: "{name}" {where}'
            elif own in FLOORS and other in FLOORS and other != own and FLOORS[other] >= FLOORS[own]:
                what = "a neighbour on the same floor" if FLOORS[other] == FLOORS[own] else "a higher floor"
                yield f"{path}:{line}: {own} (floor {FLOORS[own]}) includes {name} of {what} ({other}, floor {FLOORS[other]})"


def rule_private_headers(tree):
    """private headers stay in their room"""
    for path in tree.files:
        for line, quote, name in tree.includes(path):
            if quote == '"' and name.endswith("_private.h") and room_of(name) != room_of(path):
                yield f"{path}:{line}: {name} is private to {room_of(name)}"


def circles(graph):
    """The circles of a graph, each once, as a list that ends where it begins."""
    done, found = set(), []

    def walk(node, trail):
        if node in trail:
            circle = trail[trail.index(node):]
            if not any(set(circle) == set(c[:-1]) for c in found):
                found.append(circle + [node])
            return
        if node in done:
            return
        for other in sorted(graph.get(node, ())):
            walk(other, trail + [node])
        done.add(node)

    for node in sorted(graph):
        walk(node, [])
    return found


def rule_no_circles(tree):
    """no circles, between rooms or between headers"""
    rooms, headers = {}, {}
    for path in tree.files:
        for _, quote, name in tree.includes(path):
            if quote != '"' or name not in tree.files:
                continue
            if room_of(name) != room_of(path):
                rooms.setdefault(room_of(path), set()).add(room_of(name))
            if path.endswith(".h"):
                headers.setdefault(path, set()).add(name)
    for circle in circles(rooms):
        yield "rooms in a circle: " + " -> ".join(circle)
    for circle in circles(headers):
        yield "headers in a circle: " + " -> ".join(circle)


def rule_door(tree):
    """liburing, epoll and hiredis only behind the door (core/run)"""
    for path in tree.files:
        for line, _, name in tree.includes(path):
            if room_of(path) != DOOR and name.startswith(ONLY_BEHIND_THE_DOOR):
                yield f"{path}:{line}: {name} may be included in {DOOR} only"
            if room_of(path) == DOOR and path.endswith(".h") and not path.endswith("_private.h") and name.startswith(ONLY_BEHIND_THE_DOOR):
                yield f"{path}:{line}: {name} in a header that other rooms see"


def rule_openings(tree):
    """every file opens with its licence and an essay that names it"""
    for path, text in tree.files.items():
        if path.endswith(".S"):
            if "SPDX-License-Identifier: Apache-2.0" not in text[:200]:
                yield f"{path}:1: no SPDX-License-Identifier: Apache-2.0"
            continue
        if not text.startswith(SPDX):
            yield f"{path}:1: does not begin with {SPDX.strip()}"
            continue
        essay = COMMENT.match(text, len(SPDX))
        kind = "source" if path.endswith(".c") else "private" if path.endswith("_private.h") else "public"
        if not essay:
            yield f"{path}:2: no comment that says what this file is"
        elif not re.search(r"\b" + re.escape(os.path.basename(path)) + r"\s+-\s", essay.group()):
            yield f'{path}:2: the opening comment does not begin with "{os.path.basename(path)} - ..."'
        elif len(re.findall(r"\w+", essay.group())) < ESSAY_WORDS_MIN[kind]:
            yield f"{path}:2: an opening of under {ESSAY_WORDS_MIN[kind]} words says too little for a {kind} file"


def rule_guards(tree):
    """header guards spell their path"""
    for path, text in tree.files.items():
        guard = "PENFOLD_" + re.sub(r"[/.]", "_", path).upper()
        if path.endswith(".h") and f"#ifndef {guard}\n#define {guard}\n" not in text:
            yield f"{path}: the include guard is not {guard}"


def rule_bounds(tree):
    """every bound in limits.h says why"""
    governed = False  # a comment line of its own stands for all lines that follow it without a gap
    for number, line in enumerate(tree.files.get("core/base/limits.h", "").split("\n"), 1):
        m = re.match(r"#define\s+(\w+)\s+\S", line)
        if m and not governed and "/*" not in line:
            yield f"core/base/limits.h:{number}: {m.group(1)} has no comment with its reason"
        if not m:
            governed = line.strip().endswith("*/") and not re.match(r"/\* ---- .* ---- \*/", line)


RULES = [rule_known_rooms, rule_floors, rule_private_headers, rule_no_circles, rule_door, rule_openings, rule_guards, rule_bounds]


def check(top):
    """Prints TAP; true when all is well."""
    tree = Tree(top)
    print(f"1..{len(RULES) + 1}")
    good = len(tree.files) > 0
    print(("ok" if good else "not ok") + f" 1 - there is a tree to check ({len(tree.files)} files)")
    for number, rule in enumerate(RULES, 2):
        findings = list(rule(tree))
        print(("not ok" if findings else "ok") + f" {number} - {rule.__doc__}")
        for finding in findings:
            print(f"# {finding}")
        good = good and not findings
    return good


# ---- self-test ----

def opening(path):
    return SPDX + f"/* {os.path.basename(path)} - " + "word " * 30 + "*/\n"


def header(path, body=""):
    guard = "PENFOLD_" + re.sub(r"[/.]", "_", path).upper()
    return opening(path) + f"#ifndef {guard}\n#define {guard}\n{body}#endif\n"


CLEAN = {
    "core/base/limits.h": header("core/base/limits.h", "#define A_MAX 1 /* why */\n"),
    "core/run/io.h": header("core/run/io.h", '#include "core/base/limits.h"\n'),
    "core/run/io.c": opening("core/run/io.c") + '#include "core/run/io.h"\n#include <liburing.h>\n',
    "storage/store.h": header("storage/store.h"),
    "tenancy/auth.h": header("tenancy/auth.h", "/* not an include:\n#include \"net/conn.h\"\n*/\n"),
    "net/conn.h": header("net/conn.h", '#include "storage/store.h"\n'),
    "net/conn.c": opening("net/conn.c") + '#include "net/conn_private.h"\n#include "core/run/io.h"\n',
    "net/conn_private.h": header("net/conn_private.h", '#include "net/conn.h"\n'),
    "net/pop3/pop3.c": opening("net/pop3/pop3.c") + '#include "net/conn.h"\n#include <string.h>\n',
}
PLANTED = [
    (rule_floors, {"core/base/x.h": header("core/base/x.h", '#include "core/run/io.h"\n')}, "higher floor"),
    (rule_floors, {"tenancy/x.c": opening("tenancy/x.c") + '#include "storage/store.h"\n'}, "neighbour"),
    (rule_floors, {"net/pop3/x.c": opening("net/pop3/x.c") + '#include "pop3.h"\n'}, "not a path from the top"),
    (rule_floors, {"net/x.c": opening("net/x.c") + '#include "tests/unit/support/x.h"\n'}, "belongs to no room"),
    (rule_floors, {"net/x.c": opening("net/x.c") + "#include <storage/store.h>\n"}, "with quotes"),
    (rule_known_rooms, {"net/nntp/x.c": opening("net/nntp/x.c")}, "no room"),
    (rule_private_headers, {"net/pop3/x.c": opening("net/pop3/x.c") + '#include "net/conn_private.h"\n'}, "private to net"),
    (rule_no_circles, {"net/conn.h": header("net/conn.h", '#include "net/conn_private.h"\n')}, "headers in a circle"),
    (rule_no_circles, {"storage/x.h": header("storage/x.h", '#include "net/conn.h"\n')}, "rooms in a circle"),
    (rule_door, {"storage/x.c": opening("storage/x.c") + "#include <liburing.h>\n"}, "core/run only"),
    (rule_door, {"net/x.c": opening("net/x.c") + "#include <hiredis/hiredis.h>\n"}, "core/run only"),
    (rule_door, {"net/x.c": opening("net/x.c") + "#include <sys/epoll.h>\n"}, "core/run only"),
    (rule_door, {"core/run/x.h": header("core/run/x.h", "#include <liburing.h>\n")}, "other rooms see"),
    (rule_openings, {"net/x.c": "/* x.c - no licence at all here */\n"}, "does not begin with"),
    (rule_openings, {"net/x.c": SPDX + "int x;\n"}, "no comment"),
    (rule_openings, {"net/x.h": SPDX + "/* x.h - short. */\n"}, "too little"),
    (rule_openings, {"net/x.c": SPDX + "/* y.c - under another name it would be read */\n"}, "does not begin with \"x.c"),
    (rule_openings, {"core/run/x.S": "nop\n"}, "no SPDX"),
    (rule_guards, {"net/x.h": opening("net/x.h") + "#ifndef X_H\n#define X_H\n#endif\n"}, "include guard"),
    (rule_bounds, {"core/base/limits.h": header("core/base/limits.h", "#define A_MAX 1 /* why */\n#define B_MAX 2\n")}, "B_MAX"),
]


def findings_in(files, rule):
    with tempfile.TemporaryDirectory() as top:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
            with open(os.path.join(top, path), "w", encoding="utf-8") as f:
                f.write(text)
        return list(rule(Tree(top)))


def self_test():
    print(f"1..{len(RULES) + len(PLANTED)}")
    good = True
    number = 0
    for rule in RULES:
        number += 1
        found = findings_in(CLEAN, rule)
        good = good and not found
        print(("not ok" if found else "ok") + f" {number} - a clean tree passes: {rule.__doc__}")
        for finding in found:
            print(f"# {finding}")
    for rule, files, expected in PLANTED:
        number += 1
        found = findings_in({**CLEAN, **files}, rule)
        hit = any(expected in finding for finding in found)
        good = good and hit
        print(("ok" if hit else "not ok") + f" {number} - found in {next(iter(files))}: {expected}")
        if not hit:
            print(f"# findings: {found}")
    return good


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(0 if self_test() else 1)
    sys.exit(0 if check(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")) else 1)
