/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h - removes what nothing refers to any more: leavings of fences, and B files of messages that are gone.
 *
 * For the room only.  Nothing here is needed for the mail to be right; it gives space back.  A B file is named before the
 * record that refers to it is committed, so whoever links one counts in account->linking meanwhile, and waits for a sweep.
 */
#ifndef PENFOLD_STORAGE_SWEEP_H
#define PENFOLD_STORAGE_SWEEP_H

#include "storage/account_private.h"
#include "storage/fence.h"

/* After a takeover, with its look passed: empty logs and stubs at the low end, and B files. Later. */
void sweep_after_takeover(struct account *a, struct account_live *live, const struct fence_names *names);
/* Nobody uses the account any more and a message with a file of its own has gone: starts a fiber that looks. Now. */
void sweep_begin(struct account *a);
/* Before and after naming an external body's file and committing its record. Later; now. */
void sweep_hold(struct account *a);
void sweep_release(struct account *a);

#endif
