/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account_private.h - an account in memory, for the storage room only: who may touch what.
 *
 *     store_shard ── table of accounts ──► account ── folders ── rows (view.h), vanished history
 *                                             │   └── logs: what is known of each file
 *                                             └── live: descriptors and the commit queue, only while it is used
 *
 * One way changes memory: apply_commit (apply.c), which takes the heads of a whole commit apart.  Replay calls it for what it
 * reads, a commit for what it has just synced and looked after; so memory is always what a replay would make of the logs.
 * The exceptions are few and named: the plan of a commit being built (*_planned, valid only while it is built), places in
 * `logs`, and rest/wake of caches.  apply_commit never waits, so whoever does not wait sees whole commits only.
 *
 * How an account comes to be changed (commit.h): a fiber fills a struct change with a function that judges it against memory and
 * adds records, and waits.  One fiber at a time leads: it builds, writes, syncs, looks, applies, and wakes the others.
 *
 * Lifetimes.  `struct account` exists while it is in the table: loading, in use (refs > 0, or jobs of ours) or warm.  `live` exists
 * while descriptors are worth keeping.  Folders live until they are deleted and no view shows them.
 */
#ifndef PENFOLD_STORAGE_ACCOUNT_PRIVATE_H
#define PENFOLD_STORAGE_ACCOUNT_PRIVATE_H

#include "core/base/lru.h"
#include "core/base/table.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "storage/body.h"
#include "storage/format.h"
#include "storage/store.h"
#include "storage/view.h"

/* ---- logs ---- */

/* What is known of one log. Numbers ascend in the table; a log that was unlinked leaves it. */
struct log {
	uint32_t number;
	bool stub;              /* its name is a stub, synced: nothing in it counts, no expunge is kept because of it */
	bool damaged;           /* a range of it was set aside, below ... */
	uint64_t set_aside_end; /* ... here */
	uint64_t end;           /* its commits are below this; nothing behind it is ever read */
	uint64_t inode;         /* of the file that was opened under the name */
	uint64_t live_bytes;    /* about: records and bodies that rows refer to (compaction's measure) */
};

/* A commit, by place: what a state file covers up to. */
struct log_position {
	uint32_t log;         /* 0 = none */
	uint64_t offset, end; /* of the commit */
	uint64_t header_hash;
	uint64_t sequence;
};

struct log *account_log(const struct account *a, uint32_t number); /* NULL: not in the table */

/* ---- folders ---- */

#define ROW_EXTERNAL 0x80u /* row.flags: the body is a file of its own, B.<guid> */

struct vanished_range {
	uint64_t modseq;
	uint32_t first, last;
};
/* What was expunged, in order of MODSEQ; at most VANISHED_RANGES_MAX, then the oldest go and the floor rises. */
struct vanished {
	struct vanished_range *at;
	uint32_t count, cap;
	uint64_t floor; /* at and below it nothing is known */
};

struct folder {
	uint32_t id, uidvalidity, uidnext;
	uint32_t uidnext_planned; /* while the commit of planned_sequence is built: what it has given so far */
	uint32_t special_use;
	uint32_t unseen;
	uint8_t uidl_formula;
	bool subscribed, noselect;
	bool gone;        /* deleted, but views still show it */
	bool restate;     /* its state was lost in a damaged range, and it was given another */
	bool provisional; /* a replay has met its messages, but not yet itself */
	uint64_t planned_sequence;
	uint64_t modseq;
	struct rows rows;
	struct vanished vanished;
	struct list watches; /* struct folder_watch */
	uint16_t name_bytes;
	char *name; /* UTF-8, not terminated */
};
/* Tells the folder's watches. Now. */
void folder_tell(struct folder *f);

struct folder *account_folder(const struct account *a, uint32_t id); /* NULL: none, or gone */

/* ---- accounts ---- */

enum account_state {
	ACCOUNT_LOADING, /* in the table so that others wait; nothing else is valid */
	/* read, not owned: the newest log is sealed, or there is none yet; the first change takes it, or makes it (fence.h) */
	ACCOUNT_SEALED,
	ACCOUNT_OWNED,   /* we made the newest log */
	/* fenced, or memory cannot be trusted: every call answers ERR_FENCED, the last close drops it */
	ACCOUNT_LOST,
};

/* A range that a load found bad and that no FACT_SET_ASIDE names yet: the first commit after it says so, with the
 * raised UIDNEXTs. */
struct repair {
	uint32_t log;
	bool damage;
	uint64_t start, end;
};

struct keywords; /* keyword.h: the table of names, and the sets that rows refer to */

struct account {
	struct table_node node; /* key: id */
	struct lru_node warm;   /* pinned by refs and jobs */
	uint64_t id;
	struct account_live *live; /* NULL at rest */
	/* of whoever loads, opens or lets it go: wait there, then look the account up again; NULL: nobody */
	struct waitq *busy;
	struct log *logs;          /* ascending; the last one is the newest */
	struct folder **folders;   /* by id */
	struct folder **by_name;   /* the same in order of name; NULL: not needed since a name changed */
	struct keywords *keywords; /* NULL: none used */
	struct repair *repairs;
	char *subscriptions; /* names that are no folders, each ended by NUL, or NULL */
	uint64_t salt;
	uint64_t sequence;        /* of the last commit, or the last number that was skipped */
	uint64_t bytes, messages; /* usage: all folders */
	struct log_position last; /* the last commit that was applied */
	uint64_t state_end;       /* last.end when the state file was last written, and its log below */
	uint32_t state_log;
	uint64_t state_bytes; /* of that file */
	uint32_t log_count, folder_count, subscriptions_bytes;
	uint32_t next_folder, last_uidvalidity;
	uint32_t repair_count;
	uint32_t refs; /* account_open minus account_close */
	uint32_t expire_uid;    /* of a message of INBOX whose save date is known (expire.c); 0: none */
	int64_t expire_save_s;
	uint8_t state; /* enum account_state */
	/* never let go: a failed sync could not be cut off, so the disk must not be read again */
	bool keep;
	bool starved;              /* read-only because the disk was full at its load: loaded again when there is room */
	bool read_only;            /* unknown records, or no new log could be opened: reading goes on */
	bool ignore_state;         /* state_load finds nothing: fsck replays */
	bool compacting;           /* compact.c is at work on it */
	uint32_t gone_folders;     /* deleted, but views still show them: not in `folders` */
	uint64_t compact_again_ms; /* not before */
	bool evicted;              /* not in the LRU: a keeper lets it go */
	/* a message with a file of its own was expunged: sweep.c looks when nobody is there */
	bool orphans;
	bool sweeping;
	uint32_t linking; /* B files being named whose records are not committed yet */
	bool resized;     /* memory has changed since it was last counted */
};

/* What an account has only while it is used. account_live_get makes it, and it stays for a while after the last put. */
struct account_live {
	struct lru_node lru; /* pinned between get and put, and while something is unsynced */
	struct account *account;
	bool opening; /* somebody opens the descriptors; wait on idle */
	int dir_fd;
	/* the owned log, for appending; -1 until owned. compact.c and source.c open their own */
	int log_fd;
	char own_name[LOG_NAME_BYTES];
	char next_name[LOG_NAME_BYTES]; /* of the log after the owned one: what the look looks for */
	/* the owned log */
	uint64_t log_at;       /* the next commit begins here */
	uint64_t previous_end; /* where the last commit ended */
	uint64_t synced_end;
	/* the commit queue (commit.c) */
	struct list queue;        /* struct change */
	bool leading;             /* somebody builds or writes; others only queue */
	struct waitq idle;        /* woken when nobody leads any more */
	struct timer flags_timer; /* when written flags must be synced */
	uint32_t unsynced;        /* commits written but not synced */
};

/* Nothing of it is on disk: nobody has changed it yet, and who only looks leaves no trace. */
static inline bool account_unborn(const struct account *a) { return a->state == ACCOUNT_SEALED && a->log_count == 0; }

/* Keeps an account in memory while a job of ours is at work on it (compaction, scrubbing). Now. */
void account_pin(struct account *a);
void account_unpin(struct account *a);

/* Descriptors for this account: opens the directory (makes it for an unborn account) if need be and pins `live` until account_live_put. Later.
 * ERR_IO, ERR_FENCED. */
enum err account_live_get(struct account *a, struct account_live **live_out);
void account_live_put(struct account_live *live);

/* ---- one way to change memory ---- */

/*
 * Takes a whole commit at `offset` of `log` into memory: heads must be good (commit_heads_good) and stay valid during the call.
 * ERR_CORRUPT: a record is malformed in itself; ERR_READONLY: unknown records that may not be ignored. In both cases all
 * records that could be understood were applied and the account has become read-only. Now.
 */
enum err apply_commit(struct account *a, uint32_t log, uint64_t offset, const struct commit_header *header,
		      struct slice heads);

/* Drops everything that apply_commit made, for a load that begins again. */
void account_forget(struct account *a);

/* Bytes of memory that the account takes, for the LRU. */
size_t account_memory_bytes(const struct account *a);

/* flags.c.  Names of messages on their way in: a change that brings new ones is `alone`, and each gets its number in the same commit. Now. */
struct keyword_set;
struct commit;
struct keywords_fresh; /* keyword.h */
bool keywords_all_known(const struct account *a, const struct slice *names, size_t count);
/* The bits of names. ERR_LIMIT: the table is full. `fresh` may be NULL if all are known. */
enum err keywords_claim(const struct account *a, struct commit *commit, struct keywords_fresh *fresh, const struct slice *names, size_t count,
			struct keyword_set *set_out);

/* ---- the store of a shard ---- */

struct store_shard {
	struct store_config config;
	int data_fd; /* DATA */
	struct table accounts;
	struct lru_line warm_lines[FAIR_CLASSES], lives_lines[FAIR_CLASSES];
	struct lru warm;
	struct lru lives;        /* bytes = descriptors */
	uint8_t incarnation[16]; /* of this process and shard */
	uint64_t takes;
	bool stopping;
	struct list evicted; /* accounts without a place in the LRU, by warm.link: the keepers let them go */
	uint32_t keepers;    /* at work */
	struct waitq keepers_done;
	struct scratch *scratch;               /* commit.c: free ones */
	uint64_t free_bytes, free_bytes_at_ms; /* of the disk, as it was */
};
struct store_shard *store_self(void);
void store_wrote(uint64_t bytes);          /* to a log: so much less is free until the next look */
bool store_disk_has_room(void);            /* for a new log, and some more */
bool store_disk_low(void);                  /* less than the reserve is free: only what frees may be written */
struct account *account_known(uint64_t id); /* in memory, or NULL; now */

/* ---- what the room's other parts provide ---- */

/* state.c.  Writes a state file of what is in memory, up to a->last, without syncing. Later. Failing is harmless. */
void state_save(struct account *a, int dir_fd);
/*
 * Fills a fresh account from its state file if that counts: the commit it covers up to is in one of a->logs (which are filled:
 * numbers, ends, stubs), below its end, and whole. Sets a->last. ERR_NOT_FOUND: there is none that counts, nothing was changed. Later.
 */
enum err state_load(struct account *a, int dir_fd);

/* compact.c.  Called after a change, when nobody leads: looks whether a log is worth compacting and starts a job if
 * so. Now. */
void compact_consider(struct account *a);

/* scrub.c.  Started and stopped with the shard. */
enum err scrub_start(void);
void scrub_stop(void);

/* source.c.  Descriptors of logs for reading, per shard. */
enum err source_start(void);
void source_stop(void);
/* Closes what is cached of an account: it is let go, or a log of it is about to become a stub. Now. */
void source_forget(const struct account *a);
/* A body's place as the rows have it: reads its record; for expunge (GUIDs). Later. */
enum err source_guid(struct account *a, const struct row *row, uint8_t guid_out[GUID_BYTES]);

#endif
