#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone: as C, and, but for private ones, as C++ (the benchmarks include them from there).

    python3 tests/lint/headers.py [--self-test]    prints TAP, one line per header
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

TOPS = ("core", "net", "tenancy", "storage")
COMMON = ["-fsyntax-only", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
AS_C = [os.environ.get("CC", "gcc"), "-x", "c", "-std=gnu11", *COMMON, "-Wconversion", "-Wshadow", "-Wstrict-prototypes"]
AS_CXX = [os.environ.get("CXX", "g++"), "-x", "c++", "-std=c++17", *COMMON]


def headers(top):
    for start in TOPS:
        for folder, _, names in os.walk(os.path.join(top, start)):
            for name in names:
                if name.endswith(".h"):
                    yield os.path.relpath(os.path.join(folder, name), top)


def compile_alone(top, path):
    """The compiler's complaints, or an empty text."""
    complaints = ""
    for argv in [AS_C] + ([] if path.endswith("_private.h") else [AS_CXX]):
        # through a one-line file of its own, since a header as the main file gets a warning about itself; twice: guards
        done = subprocess.run([*argv, "-I.", "-"], input=f'#include "{path}"\n#include "{path}"\n', cwd=top, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            complaints += f"as {'C' if argv is AS_C else 'C++'}:\n{done.stderr}"
    return complaints


def check(top):
    paths = sorted(headers(top))
    print(f"1..{max(len(paths), 1)}")
    if not paths:
        print("not ok 1 - there are headers to check")
        return False
    good = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (path, complaints) in enumerate(zip(paths, pool.map(lambda p: compile_alone(top, p), paths)), 1):
            print(("not ok" if complaints else "ok") + f" {number} - {path} compiles alone")
            for line in complaints.splitlines():
                print(f"# {line}")
            good = good and not complaints
    return good


PLANTED = [
    ("needs another header", "static inline size_t x_size(void) { return 0; }\n", "as C:"),
    ("is not C++", "static inline int *x_new(void *template) { return template; }\n", "as C++:"),
    ("has no guard", "struct x { int y; };\n", "redefinition"),
]


def self_test():
    print(f"1..{len(PLANTED) + 1}")
    good = True
    with tempfile.TemporaryDirectory() as top:
        os.mkdir(os.path.join(top, "core"))
        cases = [("is fine", "#ifndef X\n#define X\nint x_of(int y);\n#endif\n", None), *PLANTED]
        for number, (what, text, expected) in enumerate(cases, 1):
            with open(os.path.join(top, "core", "x.h"), "w", encoding="utf-8") as f:
                f.write(text)
            complaints = compile_alone(top, "core/x.h")
            right = expected in complaints if expected else complaints == ""
            good = good and right
            print(("ok" if right else "not ok") + f" {number} - a header that {what}")
    return good


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(0 if self_test() else 1)
    sys.exit(0 if check(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")) else 1)
