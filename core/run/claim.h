/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim.h - numbers that two processes of one machine share out between them, by locks of a file's bytes (F_OFD_SETLK, fcntl(2)).
 *
 * For storage/gate.c.  A claim belongs to the open file: all of a process's threads have it together, and it ends with the process however that ends.  The
 * kernel keeps claims in a list that it walks, neighbours joined: some tens of thousands are bearable, for as long as an upgrade takes.
 * All calls complete now and never wait.
 */
#ifndef PENFOLD_CORE_RUN_CLAIM_H
#define PENFOLD_CORE_RUN_CLAIM_H

#include "core/base/base.h"

/* 0; -EAGAIN: another process has it. Claimed twice is claimed once. */
int claim_take(int fd, uint64_t number);
void claim_give(int fd, uint64_t number); /* harmless when we have it not */
void claim_give_all(int fd);

#endif
