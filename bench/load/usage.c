/* SPDX-License-Identifier: Apache-2.0 */
/* usage: see usage.h. */
#include "bench/load/usage.h"

#include <dirent.h>
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TREE_DEPTH_MAX 8 /* servers fork two or three deep; a loop in /proc cannot be, but bounds cost nothing */

static bool read_file(const char *path, char *out, size_t cap)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return false;
	n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	fclose(f);
	return n > 0;
}

static uint64_t status_field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static uint64_t plain_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Memory and disk. */
static void add_memory(int pid, struct usage *out)
{
	char path[64];
	char status[8192];

	snprintf(path, sizeof(path), "/proc/%d/io", pid);
	if (read_file(path, status, sizeof(status))) {
		out->read_bytes += plain_field(status, "\nread_bytes: ");
		out->write_bytes += plain_field(status, "\nwrite_bytes: ");
	}

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (!read_file(path, status, sizeof(status)))
		return;
	out->rss_bytes += status_field(status, "\nVmRSS:");
	out->anon_bytes += status_field(status, "\nRssAnon:");
	out->processes++;
}

static void add_pid(int pid, struct usage *out)
{
	clockid_t clock;
	struct timespec t;

	if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &t) == 0)
		out->cpu_ns += (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
	add_memory(pid, out);
}

/* Fields 14 to 17 of /proc/<pid>/stat: own and waited-for children's ticks. */
static uint64_t stat_ticks(int pid)
{
	char path[64];
	char text[1024];
	unsigned long long t[4];
	const char *after_name;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_file(path, text, sizeof(text)))
		return 0;
	after_name = strrchr(text, ')');
	if (!after_name || sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu",
	                          &t[0], &t[1], &t[2], &t[3]) != 4)
		return 0;
	return t[0] + t[1] + t[2] + t[3];
}

static void add_tree(int pid, unsigned depth, struct usage *out)
{
	char path[300];
	char children[16384];
	struct dirent *entry;
	DIR *tasks;

	out->cpu_ns += stat_ticks(pid) * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
	add_memory(pid, out);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = depth < TREE_DEPTH_MAX ? opendir(path) : NULL;
	if (!tasks)
		return;
	while ((entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", pid, entry->d_name);
		if (entry->d_name[0] == '.' || !read_file(path, children, sizeof(children)))
			continue;
		char *at = children;
		for (char *next = at;; at = next) {
			int child = (int)strtol(at, &next, 10);
			if (next == at)
				break;
			add_tree(child, depth + 1, out);
		}
	}
	closedir(tasks);
}

static uint64_t cgroup_cpu_ns(const char *folder)
{
	char path[512];
	char text[1024];
	const char *at;

	snprintf(path, sizeof(path), "%s/cpuacct.usage", folder);
	if (read_file(path, text, sizeof(text)))
		return strtoull(text, NULL, 10);
	snprintf(path, sizeof(path), "%s/cpu.stat", folder);
	if (read_file(path, text, sizeof(text)) && (at = strstr(text, "usage_usec ")))
		return strtoull(at + strlen("usage_usec "), NULL, 10) * 1000;
	return 0;
}

static void add_cgroup(const char *folder, struct usage *out)
{
	char path[512];
	int pid;
	FILE *procs;

	out->cpu_ns += cgroup_cpu_ns(folder);
	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	procs = fopen(path, "re");
	if (!procs)
		return;
	while (fscanf(procs, "%d", &pid) == 1)
		add_memory(pid, out);
	fclose(procs);
}

void usage_check(const struct usage_targets *targets)
{
	char path[512];

	for (unsigned i = 0; i < targets->count; i++) {
		const struct usage_target *t = &targets->target[i];

		if (t->kind == USAGE_CGROUP)
			snprintf(path, sizeof(path), "%s/cgroup.procs", t->path);
		else
			snprintf(path, sizeof(path), "/proc/%d/stat", t->pid);
		if (access(path, R_OK) != 0)
			err(2, "server to be measured: %s", path);
	}
}

void usage_read(const struct usage_targets *targets, struct usage *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < targets->count; i++) {
		const struct usage_target *t = &targets->target[i];

		if (t->kind == USAGE_PID)
			add_pid(t->pid, out);
		else if (t->kind == USAGE_TREE)
			add_tree(t->pid, 0, out);
		else
			add_cgroup(t->path, out);
	}
}

uint64_t usage_self_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
