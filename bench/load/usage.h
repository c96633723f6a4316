/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: what the server under test has spent, seen from outside.
 *
 * A server is named by one of three things, all may be repeated and are added:
 *   pid     one process, all its threads, dead ones too (its CPU clock: ns);
 *   tree    a process and all its descendants, with the time of exited children
 *           that their parents waited for (from /proc/<pid>/stat: 10 ms steps);
 *   cgroup  a control group's folder (cpuacct.usage of version 1, cpu.stat of
 *           version 2): exact, for servers that fork, and what compare.py uses.
 *
 * Kernel work done for the server in its own threads and io_uring workers is
 * in these figures. Work of interrupts that the loopback does in the sender's
 * context is charged to the sender: half of the TCP cost is the client's.
 *
 * Reads a few /proc files; completes now. A process that is gone counts 0 for
 * memory; a name that never existed is an error of the operator and ends the
 * program at usage_check().
 */
#ifndef BENCH_LOAD_USAGE_H
#define BENCH_LOAD_USAGE_H

#include <stdint.h>

#define USAGE_TARGETS_MAX 16

struct usage_target {
	enum { USAGE_PID, USAGE_TREE, USAGE_CGROUP } kind;
	int pid;
	const char *path;
};

struct usage_targets {
	unsigned count;
	struct usage_target target[USAGE_TARGETS_MAX];
};

struct usage {
	uint64_t cpu_ns;
	uint64_t rss_bytes;  /* resident, shared pages counted once per process */
	uint64_t anon_bytes; /* the anonymous part of it: heap and stacks */
	uint64_t read_bytes; /* from and to devices, as /proc/<pid>/io has them; 0 where it may not be read */
	uint64_t write_bytes;
	unsigned processes;
};

/* Ends the program with a message when a target does not exist. */
void usage_check(const struct usage_targets *targets);

/* All zeros when there are no targets. */
void usage_read(const struct usage_targets *targets, struct usage *out);

/* This process itself: user and system time. */
uint64_t usage_self_ns(void);

#endif
