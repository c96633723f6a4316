/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_refused.c - why there is no ring, in words that an operator can act on.
 *
 * Four things refuse one: the sysctl kernel.io_uring_disabled (EPERM), a container's seccomp profile (EPERM or ENOSYS; the default
 * profiles of Docker and containerd 2 do), too little locked memory (ENOMEM, counted per user id over all processes), and a kernel
 * older than 5.19, which lacks rings of receive buffers.
 */
#include "core/run/uring_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

void uring_reason(const struct uring_facts *f, char *why, size_t why_bytes)
{
	bool denied = f->error == EPERM || f->error == EACCES;
	if (denied && f->sysctl_disabled > 0) {
		snprintf(why, why_bytes,
		         "io_uring is switched off by sysctl kernel.io_uring_disabled=%d: set it to 0, or to 1 and put this user's group in "
		         "kernel.io_uring_group",
		         f->sysctl_disabled);
	} else if ((denied || f->error == ENOSYS) && f->seccomp_filtered) {
		snprintf(why, why_bytes,
		         "io_uring is refused by this container's seccomp profile (%s): run with a profile that allows io_uring_setup, "
		         "io_uring_enter and io_uring_register",
		         f->step);
	} else if (f->error == ENOMEM) {
		char limit[32] = "no limit";
		if (f->memlock_bytes != UINT64_MAX)
			snprintf(limit, sizeof(limit), "%llu KiB", (unsigned long long)(f->memlock_bytes >> 10));
		snprintf(why, why_bytes,
		         "no locked memory left for io_uring (%s; RLIMIT_MEMLOCK is %s, shared by all processes of this user): raise it "
		         "(LimitMEMLOCK=, --ulimit memlock=), give this server a user id of its own, or run fewer shards",
		         f->step, limit);
	} else if (f->error == ENOSYS || f->error == EINVAL || f->kernel_major < 5 || (f->kernel_major == 5 && f->kernel_minor < 19)) {
		snprintf(why, why_bytes, "this kernel (%s) is too old for io_uring as it is used here (%s: %s): Linux 5.19 is needed, 6.1 wanted",
		         f->kernel, f->step, strerror(f->error));
	} else {
		snprintf(why, why_bytes, "%s: %s (a security module, or a limit of open files?)", f->step, strerror(f->error));
	}
}

static int read_sysctl(void)
{
	int value = -1;
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

static bool read_seccomp(void)
{
	char line[128];
	bool filtered = false;
	FILE *f = fopen("/proc/self/status", "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "Seccomp:", 8) == 0)
			filtered = atoi(line + 8) == 2;
	fclose(f);
	return filtered;
}

void uring_explain(const char *step, int error, char *why, size_t why_bytes)
{
	struct utsname name = { 0 };
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY };
	struct uring_facts f = { .step = step, .error = error, .sysctl_disabled = read_sysctl(), .seccomp_filtered = read_seccomp() };
	uname(&name);
	getrlimit(RLIMIT_MEMLOCK, &limit);
	f.kernel = name.release;
	(void)sscanf(name.release, "%u.%u", &f.kernel_major, &f.kernel_minor);
	f.memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
	uring_reason(&f, why, why_bytes);
}
