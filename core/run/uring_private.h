/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_private.h - shared by uring.c and uring_refused.c.
 */
#ifndef PENFOLD_CORE_RUN_URING_PRIVATE_H
#define PENFOLD_CORE_RUN_URING_PRIVATE_H

#include "core/run/backend.h"

/* What the explanation is made of; read from the system by uring_explain, given by tests to uring_reason. */
struct uring_facts {
	const char *step;         /* the call that failed */
	int error;                /* its errno */
	int sysctl_disabled;      /* kernel.io_uring_disabled, -1 = no such sysctl */
	bool seccomp_filtered;    /* "Seccomp: 2" in /proc/self/status */
	uint64_t memlock_bytes;   /* RLIMIT_MEMLOCK, UINT64_MAX = no limit */
	const char *kernel;       /* release */
	unsigned kernel_major, kernel_minor;
};

/* One line: what refuses io_uring and what the operator can do about it. */
void uring_reason(const struct uring_facts *facts, char *why, size_t why_bytes);
void uring_explain(const char *step, int error, char *why, size_t why_bytes);

#endif
