/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - every bound in the house, named with its unit and its reason (invariant 7).
 *
 * A bound that an operator may want to change is a default here and a key in deploy/penfold.yaml; the others are fixed.
 */
#ifndef PENFOLD_CORE_BASE_LIMITS_H
#define PENFOLD_CORE_BASE_LIMITS_H

#include "core/base/base.h"

/* ---- core/base ---- */
#define ARENA_FIRST_CHUNK_BYTES ((size_t)512) /* an idle session that took a few words stays under 1 KiB */
#define ARENA_CHUNK_BYTES_MAX KIB(64)         /* chunks double up to this: what a reset keeps is no more than it */

/* ---- core/run ---- */
#define FIBER_STACK_BYTES KIB(64)          /* a command's depth is ours, not the client's: parsers are iterative */
#define FIBERS_PER_SHARD_MAX 512           /* 32 MiB of stacks; commands above it queue */

/* ---- storage ---- */

/* ---- tenancy ---- */

/* ---- net ---- */

/* ---- net/pop3 ---- */

/* ---- net/lmtp ---- */

/* ---- net/server ---- */

#endif
