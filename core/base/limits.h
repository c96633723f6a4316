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
#define SETTINGS_FILE_BYTES_MAX MIB(1)        /* a configuration is written by hand; a larger file is the wrong file */
#define SETTINGS_KEYS_MAX ((size_t)16384)     /* keys and entries in one file, each with its line remembered */
#define SETTINGS_FIELDS_MAX 64                /* keys of one mapping in a schema of ours */
#define SETTINGS_MESSAGE_BYTES 1024           /* one line for the operator */
#define SETTINGS_KEY_BYTES 256                /* a key with its path, as in messages */

/* ---- core/run ---- */
#define FIBER_STACK_BYTES KIB(64)          /* a command's depth is ours, not the client's: parsers are iterative */
#define FIBERS_PER_SHARD_MAX 512           /* 32 MiB of stacks; commands above it queue */
#define FIBER_QUEUE_MAX 16384              /* starts waiting for a stack: one a connection of a busy shard, 24 B each */
#define FIBER_SLICE_NS 500000              /* CPU a fiber may hold the shard for before fiber_breathe yields (invariant 8) */
#define SHARDS_MAX 256                     /* cores of the largest machine we have heard of, with room */
#define SHARD_TURN_COMPLETIONS_MAX 256     /* completions and fibers per loop turn, so that timers and posts get their turn */
#define SHARD_STOP_WAIT_MS_MAX 10000       /* how long a stop waits for operations that nobody ends */
#define IO_RECV_BYTES_MAX KIB(16)          /* one lent receive; LMTP bulk wants it large, commands are small */
#define IO_RECV_BUFFERS 128                /* per shard, 2 MiB; a power of two; lent only while `done` runs, so few are enough */
#define IO_REQUESTS_MAX (1u << 21)         /* requests in flight per shard: two a descriptor of a million-connection host */
#define IO_SQ_ENTRIES 512                  /* submissions between two system calls; 32 KiB of locked memory a shard */
#define IO_CQ_ENTRIES 8192                 /* completions a turn may leave behind; 128 KiB of locked memory a shard */
#define IO_WORKERS_MAX 8                   /* kernel threads a shard's ring may use: fsync and names, see DESIGN section 4 */
#define IO_ACCEPT_PAUSE_MS 100             /* out of descriptors: how long to wait before accepting again */
#define SEND_BUFFER_BYTES KIB(64)          /* one pooled buffer: the file bytes of one gathered send */
#define SEND_BUFFERS_MAX 64                /* per shard, 4 MiB; held only while the disk reads and the socket takes at once */
#define SEND_IOV_MAX 32                    /* pieces in one gathered send; ten pipelined RETRs */
#define SEND_READS_MAX 10                  /* of them from files */
#define SEND_PIPES_MAX 16                  /* per shard; held within a turn only, but a few are kept open */
#define OFFLOAD_THREADS_MAX 256            /* a guard against a slip in the configuration */

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
#define LOGIN_BYTES_MAX ((size_t)512)          /* what a client may name: RFC 5321's 64 + 1 + 255, and room for a long subaddress */
#define DOMAIN_BYTES_MAX ((size_t)253)         /* RFC 1035: 255 octets on the wire */
#define LOCAL_PART_BYTES_MAX ((size_t)64)      /* RFC 5321 4.5.3.1.1; of an account, its subaddress not counted */
#define NAME_BYTES_MAX (LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX) /* an account's canonical name */
#define TENANT_BYTES_MAX ((size_t)64)          /* a tenant's name: fits a log line and a metric's label */
#define SUBADDRESS_CUTS_MAX 8                  /* a+b+c@d: places tried from the right before the first; each may be a look-up */
#define PASSWORD_BYTES_MAX ((size_t)511)       /* crypt(3) takes no longer one */
#define STORED_PASSWORD_BYTES_MAX ((size_t)512) /* {SCHEME}hash; libcrypt's longest is 384 */
#define CREDENTIALS_PER_ACCOUNT_MAX 32         /* passwords tried at a login: each costs a hash */
/* What a stored hash may cost, so that an imported one cannot hold an offload thread: about a second at most. */
#define PASSWORD_SHA_ROUNDS_MAX 1000000
#define PASSWORD_BCRYPT_LOG2_MAX 14
#define PASSWORD_SCRYPT_LOG2N_MAX 17           /* yescrypt and scrypt with r = 32: 128 MiB and more are another machine's */
#define PASSWORD_SCRYPT_BYTES_MAX MIB(256)
#define PASSWORD_ARGON2_KIB_MAX ((uint32_t)256 << 10)
#define PASSWORD_ARGON2_WORK_MAX ((uint64_t)1 << 20) /* KiB times passes */
#define PASSWORD_ARGON2_LANES_MAX 8            /* libargon2 starts a thread a lane */
#define PASSWORD_PBKDF2_ROUNDS_MAX 2000000
#define DIRECTORY_STRIPES 64                   /* locks of the cache: more than cores that ask at once */
#define DIRECTORY_CACHE_BYTES MIB(64)          /* default; about 400 bytes an account */
#define DIRECTORY_POLL_MS 250                  /* data_version: a change is seen within a second */
#define DIRECTORY_ASK_MS 2000                  /* default deadline of a look-up */
#define DIRECTORY_RETRY_MS 500                 /* after a failed look-up stale answers serve so long without asking again */
#define DIRECTORY_BUSY_MS 500                  /* SQLite's wait for another process's lock; readers under WAL hardly ever meet one */
#define DIRECTORY_STEPS_MAX 2000000            /* virtual machine steps of one query; a look-up takes some hundred */
#define VERIFIED_CACHE_BYTES MIB(32)           /* default; 32 bytes a login: a million */
#define VERIFIED_TTL_S 900                     /* default; longer than the usual polling interval */
#define HASH_QUEUE_MAX 1024                    /* default; logins waiting for a hash: above it they are shed */
#define HASH_WAIT_MS 10000                     /* default; a client gives up after some tens of seconds */
#define LOCK_DELAY_ENTRIES 32768               /* last logins remembered per shard for LOGIN-DELAY: 512 KiB */

/* ---- net ---- */

/* ---- net/pop3 ---- */

/* ---- net/lmtp ---- */

/* ---- net/server ---- */

#endif
