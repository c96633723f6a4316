# SPDX-License-Identifier: Apache-2.0
"""group: a control group per server, so that all its processes are pinned and counted.

With root and version 1 (folders cpuacct and cpuset) or version 2 the server's CPU is
exact, including processes that come and go and io_uring's own workers, which taskset does
not pin. Without, `Group` falls back to taskset and the process tree (10 ms steps)."""

import os
import time

ROOT = "/sys/fs/cgroup"


def _write(path, text):
    with open(path, "w") as f:
        f.write(text)


def _tree_ticks(root):
    """Of a process, its children that have ended, and those that run, from /proc."""
    parents, ticks = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
        ticks[int(name)] = sum(int(fields[i]) for i in (11, 12, 13, 14))
    total = 0
    for pid in ticks:
        at = pid
        while at and at != root:
            at = parents.get(at, 0)
        total += ticks[pid] if at == root else 0
    return total


class Group:
    """Call prepare() before, join() in the child between fork and exec, remove() at the end."""

    def __init__(self, name, cores):
        self.name = "penfold-bench-%d-%s" % (os.getpid(), name)
        self.cores = cores
        self.folders = []
        self.measured = None

    def prepare(self):
        try:
            if os.path.isdir(ROOT + "/cpuacct"):
                self._version1()
            elif os.path.exists(ROOT + "/cgroup.controllers"):
                self._version2()
        except OSError:
            self.remove()

    def _version1(self):
        account = os.path.join(ROOT, "cpuacct", self.name)
        os.mkdir(account)
        self.folders.append(account)
        self.measured = account
        if os.path.isdir(ROOT + "/cpuset"):
            cpus = os.path.join(ROOT, "cpuset", self.name)
            os.mkdir(cpus)
            self.folders.append(cpus)
            with open(ROOT + "/cpuset/cpuset.mems") as f:
                _write(cpus + "/cpuset.mems", f.read())
            _write(cpus + "/cpuset.cpus", self.cores)

    def _version2(self):
        folder = os.path.join(ROOT, self.name)
        os.mkdir(folder)
        self.folders.append(folder)
        self.measured = folder
        try:
            _write(ROOT + "/cgroup.subtree_control", "+cpu +cpuset")
            _write(folder + "/cpuset.cpus", self.cores)
        except OSError:
            pass  # counted, but pinned by affinity alone

    def join(self):
        for folder in self.folders:
            _write(folder + "/cgroup.procs", str(os.getpid()))
        low, _, high = self.cores.partition("-")
        os.sched_setaffinity(0, range(int(low), int(high or low) + 1))

    def load_arguments(self, pid):
        if self.measured:
            return ["--server-cgroup", self.measured]
        return ["--server-tree", str(pid)]

    def cpu_us(self, pid):
        """User and system time of all of the server's processes so far."""
        if self.measured and os.path.exists(self.measured + "/cpuacct.usage"):
            with open(self.measured + "/cpuacct.usage") as f:
                return int(f.read()) // 1000
        if self.measured:
            with open(self.measured + "/cpu.stat") as f:
                return int(f.readline().split()[1])
        return _tree_ticks(pid) * (1000000 // os.sysconf("SC_CLK_TCK"))

    def processes(self):
        if not self.measured:
            return None
        with open(self.measured + "/cgroup.procs") as f:
            return [int(line) for line in f]

    def remove(self):
        for folder in self.folders:
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.1)
        self.folders = []
        self.measured = None
