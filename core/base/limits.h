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
#define DESCRIPTORS_LEAST 128              /* kept for rings, the directory, listeners, spool files */
#define LOG_RING_LINES_MAX ((size_t)65536)    /* 2 KiB each; a default of 512 rides out a second of a slow disk */
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
#define FIBERS_PER_CLASS_MAX 128           /* stacks of one class (tenant, network) at once: a quarter, so that a flood leaves some */
#define LRU_SHARES 4                       /* a class that holds more than a quarter of a cache loses its own entries first */
#define FIBERS_TURN_NS 200000              /* of a loop's turn for fibers; then the ring is looked at again: who comes now waits that long */
#define FAIR_CLASSES 1024                  /* lines served in turn; tenants and networks share them by hash; 40 KiB a queue */
#define FIBER_SLICE_NS 500000              /* CPU a fiber may hold the shard for before fiber_breathe yields (invariant 8) */
#define SHARDS_MAX 256                     /* cores of the largest machine we have heard of, with room */
#define SHARD_TURN_COMPLETIONS_MAX 256     /* completions and fibers per loop turn, so that timers and posts get their turn */
#define SHARD_STOP_WAIT_MS_MAX 10000       /* how long a stop waits for operations that nobody ends */
#define IO_RECV_BYTES_MAX KIB(16)          /* one lent receive; LMTP bulk wants it large, commands are small */
#define IO_RECV_BUFFERS 128                /* per shard, 2 MiB; a power of two; lent only while `done` runs, so few are enough */
#define IO_REQUESTS_MAX (1u << 21)         /* requests in flight per shard: two a descriptor of a million-connection host */
#define IO_SQ_ENTRIES 512                  /* submissions between two system calls; 32 KiB of locked memory a shard */
#define IO_CQ_ENTRIES 8192                 /* completions a turn may leave behind; 128 KiB of locked memory a shard */
#define IO_MEMLOCK_WAIT_MS_MAX 1000        /* how long a start waits for the locked memory of a process that has just ended */
#define IO_WORKERS_MAX 8                   /* kernel threads a shard's ring may use: fsync and names, see DESIGN section 4; with epoll: our threads a lane */
#define IO_FDS_MAX (1u << 22)              /* descriptors of a process that epoll can watch: four times the kernel's default most */
#define IO_EVENTS_MAX 256                  /* taken by one wait of epoll: a turn's worth */
#define IO_PACE_NS 1000000ull              /* what epoll cannot tell of (a full backlog of a unix socket) is tried again after so long */
#define IO_ACCEPT_PAUSE_MS 100             /* out of descriptors: how long to wait before accepting again */
#define SEND_BUFFER_BYTES KIB(64)          /* one pooled buffer: the file bytes of one gathered send */
#define SEND_BUFFERS_MAX 64                /* per shard, 4 MiB; held only while the disk reads and the socket takes at once */
#define SEND_SPLICE_MIN_BYTES KIB(20)      /* default: file ranges this long are spliced; send.c says what was measured */
#define SEND_IOV_MAX 32                    /* pieces in one gathered send; ten pipelined RETRs */
#define SEND_READS_MAX 10                  /* of them from files */
#define SEND_PIPE_BYTES MIB(1)             /* the shard's pipe: spliced in about 150 us; the kernel's limit for users */
#define SEND_AHEAD_BYTES MIB(2)            /* read ahead for a large send that meets a cold file; page cache, not ours */
#define SEND_TURN_BYTES_MAX MIB(2)         /* spliced by all sends of a shard in one loop turn: about 300 us */
#define FILE_READ_NOW_BYTES_MAX KIB(64)    /* tried from the page cache at once: longer copies would hold the shard */
#define FILE_LIST_BYTES_MAX MIB(16)        /* names of one directory, kept while they are told: 400,000 spool files */
#define FILE_OFFLOAD_WAIT_MS_MAX 60000     /* a file call waits this long for an offload thread: like a slow disk */
#define OFFLOAD_THREADS_DEFAULT 4          /* hashes on the cores that shards leave idle */
#define OFFLOAD_QUEUE_DEFAULT 1024         /* seconds of bcrypt: above it logins are told to wait */
#define SOCKET_BACKLOG 4096                /* connections not yet accepted; the kernel's somaxconn cuts it */
#define SOCKET_KEEPALIVE_IDLE_S 60         /* a peer that vanished is noticed within about two minutes: */
#define SOCKET_KEEPALIVE_INTERVAL_S 15     /* 60 s of silence, then four probes */
#define SOCKET_KEEPALIVE_PROBES 4          /* one lost packet is no reason to give up */
#define SOCKET_RETRANSMITS_GONE 3          /* unanswered, in a row: about 1.5 s on a fast network */
#define SOCKET_UNSENT_BYTES_MAX 131072     /* the kernel keeps behind what is on its way: 1,000 slow readers cost it 128 MiB, not 1.3 GiB; files above 2 MB cost more wake-ups */
#define OFFLOAD_THREADS_MAX 256            /* a guard against a slip in the configuration */

#define REDIS_RUN_ID_BYTES 40                /* as Redis has it: 40 hexadecimal digits */
#define REDIS_PASSWORD_BYTES_MAX 1024        /* of a file with one, line end and all */
#define REDIS_LOOK_MS 1000                   /* how often redis.password_file is looked at */
#define REDIS_LOOK_WAIT_MS_MAX 5000          /* for a thread to look at it */
#define REDIS_ARGS_MAX 64                    /* of one command of ours */
#define REDIS_ASK_ALL_MAX 32                 /* commands of one redis_ask_all: their waits lie on the asker's stack */
#define REDIS_QUEUE_MAX 8192                 /* commands on their way on one connection: each fiber has one, the rest are field writes */
#define REDIS_OUT_BYTES_MAX MIB(4)           /* commands not yet taken by the socket */
#define REDIS_REPLY_BYTES_MAX MIB(4)         /* one reply; ours are below a kilobyte, a listing comes in pages */
#define REDIS_SERVERS_MAX 64                 /* of a cluster, known at once; its masters are fewer */
#define REDIS_SLOTS 16384                    /* the cluster specification's */
#define REDIS_HOPS_MAX 5                     /* MOVED, ASK, NOSCRIPT answers to one command: a cluster that is changing needs two */
#define REDIS_CONNECT_MS_MAX 2000            /* default: connecting and saying who we are */
#define REDIS_ANSWER_MS_MAX 1000             /* default: an answer takes 0.2 ms; above this the server is in trouble */
#define REDIS_RETRY_MS_MIN 20                /* pause before connecting again: a restart is met soon ... */
#define REDIS_RETRY_MS_MAX 2000              /* ... and a server that is gone is not flooded */
#define REDIS_IDLE_MS_MAX 5000               /* without a word: a PING, so that a dead connection is found before it is needed */
#define REDIS_REFRESH_MS 1000                /* a cluster's slots are asked for at most once in this time */
#define REDIS_HOST_BYTES_MAX 255             /* of an address, as DNS has it */

/* ---- storage ---- */
#define BODY_DOTS_MAX 1024u                  /* offsets of dot lines kept with a body; above it a sender scans for them */
#define BODY_HEADER_KEPT_BYTES KIB(64)       /* of a header block, kept in memory while its body lives: loop counts, SDPS rules */
#define BODY_CHUNK_FIRST_BYTES KIB(8)        /* most messages fit in two of these */
#define BODY_CHUNK_BYTES_MAX KIB(64)         /* chunks double up to this */
#define BODY_SPOOL_WRITE_BYTES KIB(128)      /* a spool file is written in pieces of this: memory of a 150 MB message on its way in */
#define BODY_SPOOL_RETRY_MS 250u             /* a spool file that could not be removed for want of a fiber is tried again */
#define VIEW_PAGE_ROWS 512u                  /* messages a page: what a change of a folder copies is a bitmap of it */
#define VIEW_BRANCH_LEAVES 64u               /* pages a branch: 32,768 messages */
#define LOG_READ_BYTES KIB(64)               /* a log is read in pieces of this ... */
#define LOG_READ_FAR_BYTES KIB(4)            /* ... or of this when message bytes longer than ... */
#define LOG_READ_NEAR_BYTES KIB(16)          /* ... this are stepped over */
#define LOG_BAD_RANGES_MAX 32u               /* told apart in one log; more are reported as one */
#define KEYWORDS_MAX 512u                    /* of an account; width of a keyword mask */
#define KEYWORD_BYTES_MAX 64u                /* one keyword's name */
#define KEYWORD_SETS_MAX (1u << 20)          /* in memory, 64 bytes each; one more shows no keywords */
#define KEYWORD_SETS_NEW_MAX 65536u          /* above it no change may make another, until the account is loaded anew */
#define FOLDERS_MAX 10000u                   /* of an account: each costs memory while it is warm */
#define FOLDER_NAME_BYTES_MAX 1000u          /* a whole path; what clients of other servers have got away with */
#define SUBSCRIPTIONS_BYTES_MAX KIB(256)     /* names that are no folders */
#define VANISHED_RANGES_MAX 65536u           /* of a folder (DESIGN section 4): above it the oldest are forgotten and the floor rises */
#define VANISHED_EXACT 64u                   /* of these the newest are kept apart; older neighbours are joined under the newer MODSEQ */
#define COMMIT_HEADS_BYTES_MAX MIB(32)        /* of one commit: a million expunges or 70,000 copies are one command and so one commit */
#define COMMIT_BYTES_MAX MIB(16)             /* a commit takes no further change above it: bounds its time in the disk */
#define COMMIT_PIECES_MAX 512u               /* of one gathered write */
#define COMMIT_CHANGES_MAX 256u              /* changes that share a commit */
#define COMMIT_UNSYNCED_MAX 256u             /* commits of flags written without a sync: the next is synced */
#define SEQUENCE_SKIP ((uint64_t)1 << 20)    /* after an unclean open: no MODSEQ that was shown early is given again */
#define SCRATCH_KEPT_BYTES KIB(256)          /* of heads, kept by a shard between commits */
#define FLUSH_RETRY_MS 50u                   /* flags that could not be synced for want of a fiber are tried again */
#define LIVE_FDS 2u                          /* descriptors of an account in use: its directory and its log */
#define LIVES_FDS_MIN 64u                    /* of a shard, however few log_fds_max leaves */
#define KEEPERS_MAX 32u                      /* fibers that seal accounts to be let go, at once, on a shard */
#define SEAL_BYTES_MAX ((uint64_t)1 << 30)   /* seal_bytes at most: what begins in a log begins below LOG_BYTES_MAX */
#define DISK_ROOM_BYTES MIB(1)               /* free before an account that found a full disk is tried again */
#define DISK_LOOK_MS 200u                    /* how old the knowledge of free space may be */
#define ENVELOPE_BYTES_MAX 1024u             /* a stored envelope address; RFC 5321 allows 256, SMTPUTF8 in UTF-8 more */
#define PREFIX_BYTES_MAX KIB(64)             /* one copy's own header lines */
#define SWEEP_BYTES_MAX MIB(1)               /* GUIDs of files looked at by one sweep: 65,536 */
#define SWEEP_WAIT_MS 5u                     /* how often a delivery looks whether a sweep has ended */
#define STORE_STOP_MS_MAX 5000u              /* at a stop, for jobs and sessions that still use accounts */
#define STORE_STOP_LOOK_MS 5u                /* how often the stop looks at them */
#define EXPUNGE_READ_BYTES KIB(64)           /* records of messages to be expunged are read in pieces of this ... */
#define EXPIRE_DAY_S 86400                   /* a day of expire_days; less where an operator tries it out */
#define EXPIRE_BATCH_MAX 512                 /* messages that retention removes in one commit: a few ms of reading their records */
#define EXPIRE_LOGIN_MAX 4096                /* messages that a login waits for to be removed; the sweep does the rest */
#define EXPIRE_SWEEP_S 21600                 /* default: every account is looked at so often, so that mail goes a quarter of a day late at most */
#define EXPIRE_PACE_MS 10                    /* between two accounts of a sweep: a million take three hours and a few % of a core */
#define EXPIRE_LOOK_MAX 64                   /* accounts that one question of the sweep to the directory brings */
#define EXPUNGE_NEAR_BYTES KIB(16)           /* ... when the next one lies as near as this */
#define LOGS_MAX 65536u                      /* of an account: a cut names them all */
#define RECOVER_OPEN_LOGS_MAX 16u            /* descriptors that one load holds at once */
#define ROW_LOG_BYTES 256u                   /* what a message's records take of a log, about: for compaction's arithmetic */
#define SOURCE_MEMORY_BYTES KIB(32)          /* a message up to this comes with its records in one read, is verified, and sent from memory */
#define SOURCE_GUESS_BYTES KIB(4)            /* of a record, read at first: most prefixes and structures fit */
#define SOURCE_LOOK_BYTES KIB(1)             /* of a message's record, where its bytes are not wanted: its envelope and Received mostly fit */
#define SOURCE_NEAR_BYTES KIB(64)            /* body and message records that lie closer are read at once */
#define AHEAD_WALKS_MAX 4u                   /* walks over messages that a shard reads ahead for */
#define AHEAD_PIECE_BYTES KIB(64)            /* of a log, read at once for a walk: about what is copied while a read is begun ten times */
#define AHEAD_STEP_BYTES_MAX KIB(6)         /* between two looks: where more lies between, copying it costs more than a read */
#define SOURCE_RECORD_BYTES_MAX MIB(4)       /* no message or body record is longer: prefix, dots, one day structure */
#define SOURCE_TRIES_MAX 4u                  /* a message that moves while it is looked for */
#define SOURCE_FILES_MAX (1u << 20)          /* descriptors of one shard, pinned ones too: the kernel has fewer */
#define SOURCE_FDS_MIN 4u                    /* descriptors a shard may keep, whatever log_fds_max says */
#define STATE_BYTES_MAX MIB(512)             /* of a state file: thirty million messages; larger accounts replay */
#define STATE_WORTH_PART 16u                 /* a new one is written when the logs have grown by this part of the last */
#define COMPACT_DEAD_BYTES_MIN MIB(1)        /* less is not worth the syncs */
#define COMPACT_SMALL_BYTES MIB(1)           /* logs under this are small: ... */
#define COMPACT_SMALL_LOGS_MAX 16u           /* ... when there are more, the oldest are merged */
#define COMPACT_LOGS_MAX 32u                 /* in one job: descriptors it may hold */
#define COMPACT_BATCH_MESSAGES 128u          /* in one relocation commit, ... */
#define COMPACT_BATCH_BYTES MIB(4)           /* ... and about so many bytes: others wait for it to be synced */
#define COMPACT_RECORDS_BYTES_MAX (SOURCE_RECORD_BYTES_MAX + MIB(4)) /* their records in memory */
#define COMPACT_RESTATE_BYTES MIB(1)         /* of records in one restating commit, about */
#define COMPACT_RESTATE_ROWS 4096u           /* looked at in one turn of the shard */
#define COMPACT_RANGES_PER_RECORD 512u       /* old expunges share a MODSEQ in such groups */
#define COMPACT_BYTES_PER_MS KIB(64)         /* a job's pace: 64 MB/s */
#define COMPACT_JOBS_MAX 2u                  /* at once on a shard */
#define COMPACT_AGAIN_MS 10000u              /* after a job was given up */
#define COMPACT_PAUSE_MS 1000u               /* after one that ended well: an account's jobs do not follow each other */
#define COMPACT_HELD_WAIT_MS 2000u           /* for a view to let go of what it holds; then the job is given up until later */
#define SOURCE_CONDEMNED_MAX 1024u           /* damaged bodies that a shard remembers */
#define VERIFY_READ_BYTES KIB(256)           /* of a body at once, for fsck and the scrubber */
#define SCRUB_BYTES_PER_MS KIB(16)           /* the scrubber's pace: 16 MB/s a shard, 20 TB in 14 days */
#define SCRUB_AGAIN_MS 1000u                 /* no fiber was free */
#define FSCK_NAMED_BYTES_MAX MIB(64)         /* GUIDs of body files that fsck remembers: four million large messages */

/* ---- tenancy ---- */
#define LOGIN_BYTES_MAX ((size_t)512)          /* what a client may name: RFC 5321's 64 + 1 + 255, and room for a long subaddress */
#define DOMAIN_BYTES_MAX ((size_t)253)         /* RFC 1035: 255 octets on the wire */
#define LOCAL_PART_BYTES_MAX ((size_t)64)      /* RFC 5321 4.5.3.1.1; of an account, its subaddress not counted */
#define NAME_BYTES_MAX (LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX) /* an account's canonical name */
#define TENANT_BYTES_MAX ((size_t)64)          /* a tenant's name: fits a log line and a metric's label */
#define SUBADDRESS_CUTS_MAX 8                  /* a+b+c@d: places tried from the right before the first; each may be a look-up */
#define PASSWORD_BYTES_MAX ((size_t)511)       /* crypt(3) takes no longer one */
#define STORED_PASSWORD_BYTES_MAX ((size_t)512) /* {SCHEME}hash; libcrypt's longest is 384 */
#define SDPS_PASSWORDS_MAX 2                   /* of a host that is one maildrop */
#define CREDENTIALS_PER_ACCOUNT_MAX 32         /* passwords tried at a login: each costs a hash */
#define APP_LABEL_BYTES_MAX ((size_t)64)       /* the name of an application password */
#define APP_SECRET_BYTES ((size_t)24)          /* of one made here: 120 random bits in base32 */
#define APP_SECRET_BYTES_MIN ((size_t)20)      /* of one made elsewhere: it is kept by a fast hash, so it must not be guessable */
#define APP_USED_ENTRIES 4096                  /* application passwords whose last use is remembered, so that it is written once an hour */
#define APP_USED_EVERY_S 3600                  /* "when was this last used" is asked in days; a poller would else write every few minutes */
#define APP_USED_FLUSH_MS 30000                /* uses are gathered that long into one write */
/* What a stored hash may cost, so that an imported one cannot hold an offload thread: about a second at most. */
#define PASSWORD_SHA_ROUNDS_MAX 1000000
#define PASSWORD_BCRYPT_LOG2_MAX 14
#define PASSWORD_SCRYPT_LOG2N_MAX 17           /* yescrypt and scrypt with r = 32: 128 MiB and more are another machine's */
#define PASSWORD_SCRYPT_BYTES_MAX MIB(256)
#define PASSWORD_ARGON2_KIB_MAX ((uint32_t)256 << 10)
#define PASSWORD_ARGON2_WORK_MAX ((uint64_t)1 << 20) /* KiB times passes */
#define PASSWORD_ARGON2_LANES_MAX 8            /* libargon2 starts a thread a lane */
#define PASSWORD_PBKDF2_ROUNDS_MAX 2000000
#define SASLPREP_BYTES_MAX ((size_t)1024)      /* of a name or password and its form: NFKC may make it longer */
#define SCRAM_ROUNDS 4096                      /* RFC 7677 section 4; of keys that are made here */
#define SCRAM_SALT_BYTES 16                    /* of keys that are made here */
#define SCRAM_SALT_BYTES_MAX ((size_t)64)
#define SCRAM_KEY_BYTES_MAX ((size_t)32)       /* SHA-256 */
#define SASL_LINE_BYTES_MAX 12288              /* RFC 5034 section 4: a response in base64; nobody has proved anything yet who sends it */
#define SASL_LONG_MESSAGE_BYTES_MAX ((size_t)9216) /* such a line decoded: tokens and tickets */
#define SASL_MESSAGE_BYTES_MAX ((size_t)1536)  /* a decoded response of other mechanisms: three times 255 octets and more */
#define SASL_BINDING_BYTES_MAX 64              /* a channel binding: SHA-512 of a certificate */
#define SASL_GSSAPI_WHY_BYTES 256              /* what the library says of a failure, for the log */
#define SASL_NAME_BYTES_MAX ((size_t)512)      /* authcid of SCRAM; directories refuse longer ones */
#define JWT_BYTES_MAX ((size_t)9216)           /* a token: what an exchange's line can carry */
#define JWT_SIGNATURE_BYTES_MAX ((size_t)1024) /* RSA with 8,192 bits */
#define JWT_KEYS_MAX 64                        /* of one key file: issuers publish two or three */
#define JWT_TRIES_MAX 8                        /* keys tried on a token that names none: each costs a signature check */
#define JWT_FILE_BYTES_MAX ((size_t)1 << 20)   /* of a key file; a larger one is the wrong file */
#define JWT_LOOK_MS 1000                       /* how often the key file is looked at, when tokens come */
#define DIRECTORY_STRIPES 64                   /* locks of the cache: more than cores that ask at once */
#define DIRECTORY_CACHE_BYTES MIB(64)          /* default; about 400 bytes an account */
#define DIRECTORY_POLL_MS 250                  /* data_version: a change is seen within a second */
#define DIRECTORY_ASK_MS 2000                  /* default deadline of a look-up */
#define DIRECTORY_RETRY_MS 500                 /* after a failed look-up stale answers serve so long without asking again */
#define DIRECTORY_FETCHED_MS 900                /* an answer of Redis serves so long: a change there is seen within a second */
#define DIRECTORY_BUSY_MS 500                  /* SQLite's wait for another process's lock; readers under WAL hardly ever meet one */
#define DIRECTORY_STEPS_MAX 2000000            /* virtual machine steps of one query, twice that at most; a look-up takes some hundred */
#define DIRECTORIES_MAX 8                      /* chained: a look-up of a name that nobody has asks each */
#define PASSWD_FILE_BYTES_MAX MIB(256)         /* read whole and kept in memory: some two million lines */
#define PASSWD_FILE_LOOK_MS 1000               /* between two looks whether it has changed */
#define VERIFIED_CACHE_BYTES MIB(32)           /* default; 32 bytes a login: a million */
#define VERIFIED_TTL_S 900                     /* default; longer than the usual polling interval */
#define DIRECTORY_STANDINGS_MAX 256            /* accounts looked up by id in one job: about a millisecond of a thread */
#define USAGE_TENANTS_MAX 1024                 /* told apart between two writes, a shard: 150 KiB; those above are counted together */
#define USAGE_WRITE_MS 10000                   /* figures a killed process loses at most */
#define HASH_QUEUE_MAX 1024                    /* default; logins waiting for a hash: above it they are shed */
#define HASH_SHARE_MIN 16                      /* places of the queue that one tenant or network has at least, however short it is */
#define HASH_NETWORK_MAX (FIBERS_PER_CLASS_MAX / 2) /* hashes that logins from one network wait for at once: who waits keeps a stack, and its neighbours need some */
#define HOST_LABELS_LOOK_MAX 3                  /* mail.eu.example.com: so many names are tried for the domain of a host that a client names */
#define HASH_WAIT_MS 10000                     /* default; a client gives up after some tens of seconds */
#define LOCK_DELAY_ENTRIES 32768               /* last logins remembered per shard for LOGIN-DELAY: 768 KiB */
#define LOCK_USERS_MAX 1024                    /* users of one SDPS host logged in at once: their locks are one chain */

/* ---- net ---- */
#define NET_CONNECTIONS_MAX 100000         /* default, of all shards together: 100 MB of sessions; more are closed at once */
#define NET_PROTOCOLS_MAX 8                /* sizes of session that a shard pools */
#define NET_SESSION_ARENA_BYTES_MAX KIB(256) /* what a protocol keeps for a session: a thousand recipients */
#define NET_COMMAND_ARENA_BYTES_MAX MIB(1) /* what one command may take while it runs */
#define NET_STALL_MS_MAX 60000             /* default: a client that takes nothing of its output for so long is dropped; seen within a quarter more */
#define NET_WATCH_MS 1000                  /* how often a session whose handler waits looks whether its client is still there */
#define NET_LINGER_MS_MAX 2000             /* after the last reply: for a client that is still sending, so that the reply is not lost */
#define NET_LINGER_BYTES_MAX KIB(256)      /* what is read and thrown away meanwhile */
#define NET_LAG_NS_MAX 5000000             /* a shard that lags more hands fresh connections to another (invariant 8) */
#define GATE_WAIT_MS_MAX 3000              /* for an account that the process before us still has: clients wait longer, MTAs try again */
#define GATE_LOOK_MS 20                    /* how often it is looked at */
#define UPGRADE_START_MS_MAX 60000u         /* until the new process must have got ready: it reads directory and certificates */
#define UPGRADE_OVER_MS 30000u              /* default; then sessions that are at work are told to end too */
#define UPGRADE_LAST_MS 5000u               /* what is left them for that, before the server stops */
#define UPGRADE_REST_MS 2000u               /* a session is at rest after so long without a sign of its client */
#define UPGRADE_ENDS_MIN 16u                /* of those that are, so many end a tick and shard at least */
#define UPGRADE_WATCH_MS 200u               /* how often the new process begins its accepts anew while the older is there */
#define UPGRADE_LOOKS 10u                   /* and so often after its end */
#define UPGRADE_LOOK_MS 5u                  /* whether its shards have started */
#define UPGRADE_TEXT_BYTES_MAX KIB(128)     /* which descriptor is what: 64 shards with 30 listeners; less than a socket's buffer */
#define RELOAD_MS_MAX 10000                 /* until reading the configuration again has begun */
#define STATUS_REFRESH_S 5                  /* of the status page */
#define STATUS_RATE_S_MIN 4                 /* rates of less would jump */
#define TENANT_FIGURE_SLOTS 512             /* tenants that a shard counts apart for metrics: 150 KiB a shard */
#define TENANT_FIGURE_PROBES 8              /* places that are looked at for one */
#define TENANT_FIGURE_TOP 50                /* of them shown; the others as one: a scrape of thousands of tenants is no figure any more */
#define VERB_SLOW_LINES 10                 /* lines of slow commands a second and shard: when all is slow, ten say it */
#define VERB_SLOW_KEPT 32                  /* slow commands that the status page shows */
#define SLOW_MS 1000                       /* a command this slow is told in the log, unless log.slow_ms says otherwise */
#define NET_RETRY_MS 5                     /* no stack and no place in the queue of fibers: when to ask again */
#define NET_BIND_WAIT_MS 2000              /* for an address that a killed process's ring still holds: some milliseconds */
#define NET_BIND_PAUSE_MS 20               /* between two tries: a hundred of them, most starts need one */
#define NET_STOP_WARN_MS 10000             /* a session that does not end is named in the log after so long */
#define LINE_SWALLOW_BYTES_MAX MIB(1)      /* of a line that is too long: then it is no slip, and the connection ends */
#define INPUT_SMALL_BYTES 256              /* unread input: nearly every command; pooled, held only while there is some */
#define INPUT_HEAP_BYTES_MAX KIB(2)        /* above it unread input lies in a pooled buffer while it is worked on */
#define INPUT_KEPT_BYTES_MAX KIB(16)       /* and while nobody works on it, what is longer: a part of a long line costs no more than that */
#define INPUT_BULK_BYTES KIB(64)           /* such a buffer; 2,400 receives for the largest message */
#define REPLY_CHUNK_BYTES 4096             /* a page: most replies fit in one */
#define REPLY_CHUNK_PIECES 16              /* pieces a chunk: five pipelined RETRs */
#define REPLY_BYTES_MAX KIB(64)            /* output in memory; 1,000 clients that read nothing cost 64 MiB */
#define REPLY_PIECES_MAX 192               /* pieces in a chain: each may pin a message */
#define REPLY_SLACK_BYTES KIB(16)          /* above "full", for commands that do not ask; more breaks off the session */
#define REPLY_ROOM_BYTES 1024              /* the largest reply_room */
#define REPLY_COPY_BYTES_MAX 256           /* static text up to here is copied: cheaper than a piece of its own */
#define SEND_BATCH_PIECES 64               /* pieces handed to the kernel at once */
#define SEND_EAGER_BYTES KIB(64)           /* during a burst output waits to be gathered, but not more than this */
#define NET_POOL_SESSIONS_MAX 1024         /* kept for reuse per shard: a busy second's connects */
#define NET_POOL_CHUNKS_MAX 512            /* 2 MiB */
#define NET_POOL_BATCHES_MAX 64            /* 128 KiB */
#define NET_POOL_SMALL_MAX 256             /* 64 KiB */
#define NET_POOL_BULK_MAX 32               /* 2 MiB */

#define PROXY_HEADER_BYTES_MAX ((size_t)4096) /* version 2 could say 64 KiB; a client's certificate name and TLS facts have some hundreds */
#define PROXY_HEADER_MS_MAX 5000u          /* a proxy sends it at once, with or before the client's first byte */
#define PROXY_TRUSTED_MAX 256u             /* networks of one listener */
#define NET_REFUSAL_BYTES_MAX ((size_t)200) /* the one line for a connection that may not stay */

#define RELAY_CONNECTIONS_MAX 32u          /* to the relay for outgoing mail, of this process: each holds a message in memory */
#define RELAY_LINE_BYTES_MAX 2048          /* of its replies; RFC 5321 says 512 */
#define RELAY_LINES_MAX 128u               /* of one reply: extensions are some twenty */
#define RELAY_CHUNK_BYTES KIB(64)          /* of a message, sent at once */
#define RELAY_CONNECT_MS_MAX 5000u         /* a near relay answers at once: a POP3 client waits meanwhile */
#define RELAY_ANSWER_MS_MAX 30000u         /* to one command */
#define RELAY_DATA_MS_MAX 120000u          /* to the end of the data: it may scan the message */

/* TLS: what BoringSSL bounds itself is named in net/tls.h. */
#define TLS_RECORD_BYTES_MAX KIB(16)       /* RFC 8446 5.1; records of bulk data */
#define TLS_RECORD_FIRST_BYTES ((size_t)1350) /* the first records of a reply: each fits a segment, so that nobody waits for the rest of one */
#define TLS_FIRST_BYTES KIB(4)             /* of a long reply, in such records: what a fresh congestion window takes */
#define TLS_RECORD_OVERHEAD_BYTES ((size_t)32) /* 29 in TLS 1.2 with an explicit nonce, 22 in 1.3 */
#define TLS_SEAL_SLACK_BYTES ((size_t)256) /* what TLS itself puts between: the answer to a key update */
#define TLS_SMALL_BYTES KIB(4)             /* a sealed buffer: the replies of a usual burst ... */
#define TLS_PLAIN_BYTES_MAX KIB(64)        /* sealed at once: four records */
#define TLS_PENDING_ALONG_BYTES KIB(2)     /* of TLS's own that leave in one buffer with plain bytes */
#define TLS_BULK_BYTES KIB(68)             /* ... and of a long one, with what records add; a slow reader holds one */
#define TLS_HANDSHAKE_BYTES_MAX KIB(32)    /* a handshake message: a ClientHello with everything in it has 2 KiB */
#define TLS_PENDING_BYTES_MAX KIB(128)     /* what TLS itself has to say: a chain of certificates and tickets */
#define TLS_SIGNATURE_BYTES_MAX 1024       /* RSA with 8,192 bits */
#define TLS_END_POINT_BYTES_MAX 64         /* SHA-512 */
#define TLS_UNIQUE_BYTES_MAX 64            /* a Finished message: 12, where a cipher suite does not say otherwise */
#define TLS_WORK_MS_MAX 10000              /* for an offload thread to begin; then the handshake fails */
#define TLS_SHAKE_MS_MAX 30000             /* a handshake without progress of ours: mail clients on bad lines need ten */
#define TLS_CERTIFICATES_BYTES_MAX MIB(32) /* default: certificates by name in memory, about 4,000 */
#define TLS_PEM_BYTES_MAX MIB(1)           /* a file of certificates or a key; a larger one is the wrong file */
#define TLS_CHAIN_MAX 16                   /* certificates of a chain */
#define TLS_LOOK_MS 1000                   /* how often files are looked at */
#define TLS_EXPIRY_WARN_DAYS 14            /* default: the log warns so long before; certbot renews at 30 */
#define TLS_EXPIRY_TOLD_MAX 1024           /* warnings a day about certificates that expire: a folder of 100,000 must not be a flood in the log */
#define TICKET_SPAN_S 43200                /* a key's time and a ticket's life: longer than between two polls, over a night */
#define TICKET_SECRETS_MAX 8               /* in a file of them */
#define COMPRESS_PLAIN_BYTES_MAX KIB(16)   /* squeezed at once: a third of a millisecond */
#define COMPRESS_LEVEL 3                   /* zlib's: text to a quarter at 50 to 100 MB/s */
#define COMPRESS_HISTORY_BYTES_MAX KIB(32) /* RFC 1951: how far back a client may refer */
#define COMPRESS_STATE_BYTES KIB(40)       /* what zlib holds to expand a stream, its window included */
#define COMPRESS_SESSIONS_MAX 32768u       /* connections with DEFLATE in the process: 40 KiB each at worst, usually what the client has said */
#define NET_POOL_TLS_SMALL_MAX 256         /* 1 MiB */
#define NET_POOL_TLS_BULK_MAX 32           /* 2.1 MiB */

/* ---- who may come in: tenancy/limit.h, guard.h ---- */
#define LIMIT_PER_ADDRESS 200u             /* default; a household or an office behind one address */
#define LIMIT_PER_NET24 1000u              /* default; a provider's pool of addresses */
#define LIMIT_PER_NET64 200u               /* default; in IPv6 a household has a /64 */
#define LIMIT_PER_NET48 1000u              /* default; ... and an office a /48 */
#define LIMIT_WAITING_PER_ADDRESS 100u     /* default; a login takes a second, so that a polling office has few */
#define LIMIT_PER_ACCOUNT 100u             /* default; sessions of one person's devices */
#define LIMIT_EXEMPT_MAX 1024u             /* networks of limits.exempt: looked through for each connection */
#define GUARD_FAILURES_FREE 5u             /* default; wrong passwords from one address that cost nothing: people mistype */
#define GUARD_NAME_FAILURES_FREE 20u       /* default; ... for one login, from wherever: its owner has several devices */
#define GUARD_NET_FACTOR 8u                /* a network of addresses may fail so many times as often as one of them */
#define GUARD_PAIR_FAILURES_FREE 10u       /* ... and somebody who has logged in from there lately, before he is a stranger again */
#define GUARD_DELAY_FIRST_MS 1000u         /* default; doubles with each failure ... */
#define GUARD_DELAY_MS_MAX 15000u          /* default; ... up to this: mail clients wait for 30 s and more */
#define GUARD_OWN_DELAY_MS_MAX 60000u      /* what a tenant may ask for: a client's patience ends there */
#define GUARD_REPEAT_MS_MAX 1000u          /* for a wrong password that has been tried before: a device that was not told of the new one */
#define GUARD_TURNS 4u                     /* logins from one address that may wait at the same time, about */
#define GUARD_FORGET_S 600u                /* default; failures count half after so long */
#define GUARD_HOME_S (7u * 86400)          /* a login that was right is remembered so long: people are away for a weekend */
#define GUARD_WRONG_KEPT 4                 /* wrong passwords remembered of a login and network: old phone, old tablet, old mail program */
#define GUARD_LOGIN_BYTES_MAX ((size_t)320) /* of a login, where it is a key; longer ones share what they begin with */
#define TALLY_CACHE_BYTES_MAX MIB(16)      /* default; about 100,000 addresses and names that are remembered */
#define TALLY_ENTRIES_MAX (1u << 22)       /* with those of all connections */
#define DECISIONS_KEPT 4096u               /* of each kind, for penfold why: 1.3 MiB */
#define DECISIONS_SHOWN_MAX 100u           /* of one question */

/* ---- net/pop3 ---- */
#define POP3_LINE_BYTES_MAX 2048               /* RFC 2449 says 255; a PLAIN response of three times 255 octets is 1,024 in base64 */
#define POP3_PHRASE_BYTES_MAX 256              /* one status line of ours, numbers filled in; RFC 2449 allows 512 */
#define POP3_AUTH_TRIES_MAX 5                  /* default; wrong passwords in one connection */
#define POP3_BAD_COMMANDS_MAX 20               /* default; senseless lines in a row: no client, or one of another protocol */
#define POP3_LOGIN_IDLE_MS_MAX 60000u          /* default; before login nobody thinks for long, and a stranger holds a connection */
#define POP3_IDLE_MS_MAX 600000u               /* default; RFC 1939 section 3: at least 10 minutes */
#define POP3_ENV_LINE_BYTES_MAX ((size_t)508)  /* of *ENV, without CRLF: fetchmail reads lines into 512 bytes */
#define POP3_COPY_BYTES KIB(8)                 /* on the stack: message bytes copied at a time; stuffed, still within REPLY_SLACK_BYTES */
#define POP3_XLST_HEADER_BYTES_MAX KIB(64)     /* of a large message, looked through for a field */
#define POP3_XLST_FIELD_BYTES_MAX KIB(4)       /* of one field in a listing: what is longer is cut */
#define POP3_XMIT_BYTES_MAX MIB(10)            /* default; of a message to be sent, all of it in memory */
#define POP3_XMIT_MEMORY_BYTES_MAX MIB(128)    /* of all of them together, about: above it clients are asked to wait */
#define POP3_XMIT_GRAIN_BYTES KIB(64)          /* in which that is counted */
#define POP3_XMIT_SWALLOW_BYTES_MAX MIB(256)   /* of one that is not taken, to stay in step */
#define POP3_XMIT_HEADER_BYTES_MAX KIB(256)    /* of its header: read in one turn of the shard */
#define POP3_XMIT_RCPTS_MAX 100                /* default; RFC 5321 4.5.3.1.8 */
#define POP3_XMIT_RCPTS_PER_HOUR_MAX 500       /* default, of an account */
#define POP3_XMIT_RATE_ENTRIES 4096            /* accounts whose sending is remembered; of more the oldest is forgotten */
#define POP3_XMIT_SENDERS_MAX 8                /* addresses in From and Sender */
#define POP3_XMIT_PIECES_MAX 64                /* that a message falls into by fields taken out */
#define POP3_XMIT_ADDRESS_BYTES_MAX 320        /* RFC 5321: 64 + 1 + 255 */
#define POP3_RANGE_BYTES_MIN KIB(16)           /* dot lines closer than this on average: copying costs less than the ranges */

/* ---- net/imap ---- */
#define IMAP_LINE_BYTES_MAX KIB(64)             /* one line of a command; RFC 7162 section 4 wants 8,192: clients send sets of thousands of UIDs */
#define IMAP_LOGIN_BYTES_MAX KIB(8)             /* a command before login, its literals included: a stranger's */
#define IMAP_COMMAND_BYTES_MAX KIB(256)         /* a command, its literals included, but for messages */
#define IMAP_COMMAND_ARENA_BYTES_MAX MIB(16)    /* what a command may make of it: LIST of 10,000 names of 1,000 bytes */
#define IMAP_SWALLOW_BYTES_MAX MIB(1)           /* of a literal that is not taken, to stay in step; more ends the session */
#define IMAP_TAG_BYTES_MAX 256                  /* echoed in every answer; clients use some eight */
#define IMAP_NAME_BYTES_MAX ((size_t)3000)      /* of a mailbox on the wire: FOLDER_NAME_BYTES_MAX in modified UTF-7 */
#define IMAP_QUOTED_BYTES_MAX ((size_t)1024)    /* a longer string is answered as a literal */
#define IMAP_KEYWORDS_MAX 64                    /* in one command */
#define IMAP_PATTERNS_MAX 32                    /* of one LIST */
#define IMAP_SET_RANGES_MAX 65536               /* of one set: more than a line holds */
#define IMAP_VANISHED_RANGES_MAX (1u << 20)     /* told at once: 8 MiB while they are */
#define IMAP_CODE_BYTES_MAX KIB(8)              /* a response code of ours: MODIFIED, APPENDUID */
#define IMAP_COPYUID_BYTES_MAX KIB(64)          /* COPYUID of scattered UIDs; longer ones are left out, as RFC 4315 allows */
#define IMAP_FETCH_ITEMS_MAX 256                /* of one FETCH */
#define IMAP_FETCH_FIELDS_MAX 1024              /* header fields named in one section */
#define IMAP_HEADER_BYTES_MAX MIB(1)            /* of a header that is looked through for fields, in memory */
#define IMAP_COPY_BYTES KIB(8)                  /* of a small message, put into the output at once */
#define IMAP_PART_DEPTH_MAX 64                  /* numbers in BODY[1.2.3]: as deep as parts are told apart */
#define IMAP_STRUCTURE_BYTES ((size_t)1000)     /* of an ordinary one */
#define IMAP_STRUCTURE_BYTES_MAX MIB(4)         /* of one ENVELOPE or BODYSTRUCTURE: fields of MIME_FIELDS_BYTES_MAX, quoted */
#define IMAP_DECODE_BYTES KIB(4)                /* on the stack: of a part that is decoded on its way out */
#define IMAP_PARSE_BYTES KIB(32)                 /* of a large message, read at once for its parts */
#define IMAP_SEEN_MESSAGES 256                  /* that FETCH marks in one commit */
#define IMAP_APPEND_MESSAGES_MAX 200            /* of one command (RFC 3502): their bodies are pieces of one commit, COMMIT_PIECES_MAX */
#define IMAP_URL_BYTES_MAX KIB(4)                /* of a URL in CATENATE: a name of IMAP_NAME_BYTES_MAX and a section */
#define IMAP_ID_PAIRS_MAX 30                    /* RFC 2971 section 3.3 */
#define IMAP_SEARCH_KEYS_MAX 4096               /* of one SEARCH: clients OR hundreds of Message-IDs */
#define IMAP_SEARCH_DEPTH_MAX 1024              /* lists, NOTs and ORs inside each other: two bytes of the client each; OR chains of such clients */
#define IMAP_SEARCH_SCRATCH_BYTES_MAX MIB(4)    /* of one header field of IMAP_HEADER_BYTES_MAX, decoded and folded */
#define IMAP_SEARCH_WINDOW_BYTES KIB(16)        /* folded text of a body that is looked through at once */
#define IMAP_SORT_KEYS_MAX 16                   /* criteria of one SORT: there are nine */
#define IMAP_SORT_SHARD_BYTES_MAX MIB(256)      /* of all SORTs and THREADs of a shard: a million messages' subjects */
#define IMAP_PROGRESS_MS 10000u                 /* default; RFC 9585 section 4: a long command is heard of every 10 to 15 seconds */
#define IMAP_AUTH_TRIES_MAX 5                   /* default; wrong passwords in one connection */
#define IMAP_BAD_COMMANDS_MAX 20                /* default; senseless commands in a row */
#define IMAP_LOGIN_IDLE_MS_MAX 60000u           /* default; before login */
#define IMAP_IDLE_MS_MAX 1860000u               /* default; RFC 9051 section 5.4: at least 30 minutes, and clients renew IDLE every 29 */

/* ---- net/lmtp ---- */
#define LMTP_LINE_BYTES_MAX 2048               /* RFC 5321 says 512 and lets extensions add; two paths and their parameters fit */
#define LMTP_PATH_BYTES_MAX ((size_t)512)      /* RFC 5321 says 256; senders in the wild are longer, and refusing them loses mail */
#define LMTP_LOCAL_PART_BYTES_MAX ((size_t)256) /* RFC 5321 says 64 at least; VERP and SRS senders need more */
#define LMTP_DOMAIN_BYTES_MAX ((size_t)255)    /* RFC 5321 4.5.3.1.2 */
#define LMTP_RCPTS_MAX 1000                    /* default; RFC 5321 4.5.3.1.8 wants 100; about 400 bytes each */
#define LMTP_PARALLEL_MAX 16                   /* deliveries of one transaction under way at once, so that a large one leaves room for others */
#define LMTP_WORKERS_MAX 64                    /* of a shard: copies for its accounts being stored at once, each on a stack */
#define LMTP_RECEIVED_MAX 100                  /* hops: RFC 5321 6.3 */
#define LMTP_DELIVERED_TO_MAX 3                /* deliveries to one address: a relay's own, ours, a fetch and hand-in again; then it is a loop */
#define LMTP_BAD_COMMANDS_MAX 20               /* default; senseless lines in a row */
#define LMTP_IDLE_MS_MAX 300000u               /* default; RFC 5321 4.5.3.2.7: 5 minutes */
#define LMTP_SWALLOW_BYTES_MAX ((uint64_t)1 << 30) /* of refused data, to stay in step; who sends more is cut off */
#define LMTP_PREFIX_BYTES_MAX 4096             /* three trace lines with two paths, each used twice, and two host names */

/* ---- net: the roster ---- */
#define ROSTER_NAME_BYTES_MAX ((size_t)256) /* of a login or tenant in a listing: longer ones are cut */
#define WITHDRAW_LOOK_MS 100                /* has the directory changed? With its poll: ended within a second */
#define WITHDRAW_AGAIN_MS 1000              /* the second round, for sessions that were moving between shards in the first */
#define WITHDRAW_GRACE_MS 10000             /* who is told to end and still takes a reply is cut off then */
#define ROSTER_WITHDRAW_MAX 128             /* sessions ended in one go: their last words take a shard some hundred microseconds */
#define ROSTER_ENTRIES_MAX 10000            /* of one listing: 7 MiB, and a shard looks through its part in about 3 ms */

/* ---- net/server ---- */
#define LOG_RING_LINES 2048                /* log lines that wait for a slow disk or pipe; more are dropped and counted */
#define LOG_BURST_MS 2                     /* how long the log writer gathers lines, so that a burst is one write */
#define ADMIN_LINE_BYTES_MAX 4096          /* a request of the tools: a few names of 255 bytes, escaped */
#define DRAIN_TICK_MS 100                  /* how often a shard looks whether it is to drain, and ends some sessions */
#define DRAIN_GRACE_MS 5000u               /* default; for load balancers to see that we are not ready */
#define DRAIN_SPREAD_MS 30000u             /* default; over which sessions end */
#define DRAIN_MS_MAX 86400000u             /* grace and spread of a drain */
#define ADMIN_FLEET_MS_MAX 4000            /* until another node has answered, or is said not to have: well within ADMIN_ANSWER_MS_MAX */
#define ADMIN_ASKS_MAX 16                  /* nodes that are asked at once */
#define ADMIN_PIECE_BYTES ((size_t)1024)   /* of an answer among nodes, a line: within PEER_LINE_BYTES_MAX */
#define LOCKS_LISTED_MAX 10000             /* of one lock list */
#define HTTP_CONNECTIONS_MAX 64            /* scrapers and probes: few, and each asks for a moment */
#define HTTP_IDLE_S_MAX 15                 /* a scraper asks at once */
#define PROBE_ASK_MS 5000                  /* between two questions to the directory ... */
#define PROBE_ASK_S_MAX 20ull              /* ... and how old its last answer may be */
#define HTTP_PULSE_MS 500                  /* how often a shard shows that it turns, and probes what it needs */
#define ADMIN_IDLE_MS_MAX 10000            /* nobody types there */
#define HTTP_ANSWER_BYTES_MAX MIB(16)      /* metrics and the status page, of all tenants that are named there */
#define ADMIN_ANSWER_MS_MAX 10000          /* how long the tools wait for an answer */
#define ADMIN_ANSWER_BYTES_MAX MIB(16)     /* and how much of it they take */
#define LISTENERS_MAX 256            /* entries of the configuration */
#define NOTIFY_PATH_BYTES 108        /* of the service manager's socket: a unix address has no more */
#define NOTIFY_LOOK_MS 100           /* how often it is looked whether there is something to tell it */
#define GIVEN_SOCKETS_MAX 256        /* from the service manager: as many as listeners */

/* ---- net/fleet ---- */
#define FLEET_NODE_BYTES_MAX 63              /* a node's name: one label of a host's, as StatefulSets give them */
#define FLEET_INCARNATION_BYTES 32           /* 128 random bits in hexadecimal: never drawn twice */
#define FLEET_NODES_MAX 256                  /* of one fleet, in a list of homes */
#define FLEET_NODE_FORGET_S 86400            /* a node that died is missed in the answers to operators so long */
#define FLEET_MASTERS_MAX REDIS_SERVERS_MAX  /* of Redis, remembered at once */
#define FLEET_OWNED_MAX ((size_t)1 << 20)    /* accounts owned by one shard: 100 MiB of registry */
#define FLEET_TTL_MS 15000                   /* default: how long a dead node's accounts wait ... */
#define FLEET_RENEW_MS 5000                  /* ... two renewals may be lost ... */
#define FLEET_MARGIN_MS 3000                 /* ... and so much sooner than Redis we think it over: clock rates, a late look */
#define FLEET_IDLE_MS 60000                  /* default: an owner keeps an account without sessions so long */
#define FLEET_TAKE_WAIT_MS 2000              /* default: a login waits so long for another node to let an idle account go */
#define FLEET_WISH_LOOK_MS 200               /* how often a node looks what others want of it */
#define FLEET_WISHES_MAX 64                  /* taken in one look; more come with the next */
#define FLEET_AGAIN_MS 50                    /* between two looks whether another node has let go */
#define FLEET_TICK_MS 250                    /* how late a shard ends sessions whose lease has lapsed; an acknowledgement asks the clock itself */
#define PEER_LINE_BYTES_MAX ((size_t)2048)    /* of what an owner answers: POP3's and LMTP's replies have at most 1,000 */
#define PEER_ANSWERS_BYTES_MAX KIB(256)       /* answers that nobody has read yet: one line for each recipient of a message */
#define PEER_CONNECT_MS_MAX 3000              /* to a node of the same fleet: in the same building */
#define PEER_ANSWER_MS_MAX 15000              /* to a hand-over and the login in it: a cold account is opened, Redis asked */
#define PEER_DATA_MS_MAX 60000                /* to a message: its commit has 30 s */
#define PEER_PASS_BYTES KIB(8)                /* passed on in one go: within REPLY_SLACK_BYTES */
#define PEER_AGE_S_MAX 300                    /* a token's, either way: clocks of one fleet agree better than that */
#define FLEET_LETTING_GO_MAX 16              /* accounts that a shard seals at once for being idle */

/* ---- storage: MIME ---- */
#define MIME_DEPTH_MAX 64                  /* multiparts and messages inside each other; real mail stays below 10 */
#define MIME_PARTS_MAX 1000                /* of one message: 100 B each; a digest of a busy day has some hundreds */
#define MIME_BOUNDARY_BYTES_MAX 250        /* RFC 2046 says 70; senders are known to go above it */
#define MIME_FIELD_BYTES_MAX KIB(64)       /* kept of one field: a To of 1,500 addresses */
#define MIME_FIELDS_BYTES_MAX KIB(256)     /* kept of a message's headers together */
#define MIME_ADDRESSES_MAX 8192            /* of one field: more than MIME_FIELD_BYTES_MAX holds in practice */
#define MIME_PARAMS_MAX 128                /* of one field: 2231 pieces of a name of 8 KiB */

/* ---- storage: structures ---- */
#define BODY_PARSE_BYTES KIB(32)               /* of a message that is coming in, parsed at a time */
#define STRUCTURE_BYTES_MAX KIB(48)            /* stored with a message, else made anew when asked for; less than SOURCE_NEAR_BYTES, with dots */
#define STRUCTURE_KEY_BYTES_MAX 1024u          /* of a sort key: what differs behind it sorts as equal */
#define STRUCTURE_REFERENCES_BYTES_MAX KIB(8)  /* ids that THREAD follows: a hundred */
#define STRUCTURE_PREVIEW_CHARS_MAX 200u       /* RFC 8970 section 3.2: SHOULD 200, MUST 256 */
#define STRUCTURE_PREVIEW_TEXT_BYTES KIB(16)   /* of a part, looked at for its preview: HTML begins with its styles */
#define STRUCTURE_ARENA_BYTES_MAX MIB(2)       /* while keys are made: addresses of a field are several times its size */
#define STRUCTURE_COMPUTED_BYTES_MAX MIB(1)    /* computed structures remembered by a shard, so that a client's next piece costs no pass */

#endif
