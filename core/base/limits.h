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
#define TABLE_ENTRIES_MAX ((size_t)1 << 30)   /* a table's tags are 32 bits: above it they would tell too little */
#define LOG_LINE_BYTES_MAX 2048               /* on the caller's stack, and below PIPE_BUF so that a pipe takes it whole */
#define LOG_VALUE_BYTES_MAX 512               /* of one value, escaped: what a client sent leaves room for the other fields */
#define METRIC_CELLS_MAX 65536                /* 8-byte cells of all metrics together, per thread: 512 KiB */

/* ---- core/run ---- */
#define FIBER_STACK_BYTES KIB(64)          /* a command's depth is ours, not the client's: parsers are iterative */
#define FIBERS_PER_SHARD_MAX 512           /* 32 MiB of stacks; commands above it queue */

/* ---- storage ---- */
#define BODY_DOTS_MAX 1024u                  /* offsets of dot lines kept with a body; above it a sender scans for them */
#define BODY_HEADER_KEPT_BYTES KIB(64)       /* of a header block, kept in memory while its body lives: loop counts, SDPS rules */
#define BODY_CHUNK_FIRST_BYTES KIB(8)        /* most messages fit in two of these */
#define BODY_CHUNK_BYTES_MAX KIB(64)         /* chunks double up to this */
#define BODY_SPOOL_WRITE_BYTES KIB(128)      /* a spool file is written in pieces of this: memory of a 150 MB message on its way in */
#define BODY_SPOOL_RETRY_MS 250u             /* a spool file that could not be removed for want of a fiber is tried again */
#define VIEW_PAGE_ROWS 512u                  /* messages a page: what a change of a folder copies is a bitmap of it */
#define VIEW_BRANCH_LEAVES 64u               /* pages a branch: 32,768 messages */

/* ---- tenancy ---- */

/* ---- net ---- */

/* ---- net/pop3 ---- */

/* ---- net/lmtp ---- */

/* ---- net/server ---- */

#endif
