/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.h - how a log's space is got back: relocation, stubs, and the upkeep of a shard.
 *
 * For the room only.  compact_consider (account_private.h) is called after changes.  When over half of a sealed log is dead and
 * that is over COMPACT_DEAD_BYTES_MIN, or when logs under COMPACT_SMALL_BYTES have become more than COMPACT_SMALL_LOGS_MAX, a
 * job takes those logs ("victims"):
 *
 *   C1  a mostly dead log that is still written to is sealed first
 *   C2  each victim is read once: which folders it speaks of, whose flags it changes, what it expunges (restate.c)
 *   C3  live messages whose message or body record lies in a victim are appended again, in batches, as relocation commits:
 *       with GUID and UID kept, flags and MODSEQ as they are at that moment, and structures of our version (compact.c)
 *   C4  everything else that a replay without the victims would miss is said again: the flags of messages whose record lies
 *       in a lower log, expunges, and of the folders UIDNEXT, HIGHESTMODSEQ and floors; if a victim told of folders, keywords
 *       or counters, all of those as they are now (restate.c)
 *   C5  only when the last of these commits has passed the look: a stub, one whole synced record, is renamed over each victim,
 *       and the directory synced; only then does the stub count (F12)
 *   C6  stubs are unlinked lowest first, as long as the lowest log is one
 *
 * A crash or an error at any step leaves duplicates, equal by GUID: the next job does again what is left.  A victim is left
 * alone while a view shows a message that was expunged and lies in it, when it is damaged (its bytes may be wanted), or when
 * it holds records that this program does not know.
 *
 * Bodies in files of their own (B.<guid>) are never copied; when they have no message left, sweep.c unlinks them.
 *
 * Jobs are fibers: COMPACT_JOBS_MAX a shard, COMPACT_BYTES_PER_MS each.
 */
#ifndef PENFOLD_STORAGE_COMPACT_H
#define PENFOLD_STORAGE_COMPACT_H

#include "core/base/bits.h"
#include "core/base/limits.h"
#include "storage/commit.h"
#include "storage/source.h"

struct victim {
	uint32_t number;
	uint64_t end;
	struct source_file *file;
	struct window window;
};

/* UIDs that a victim's record speaks of. */
struct said_range {
	uint32_t folder, first, last;
	uint32_t log;      /* flags: whose record it was */
	uint64_t modseq;   /* expunges */
};
struct said {
	struct said_range *at;
	size_t count, cap;
};

struct body_place {
	uint32_t log, offset;
};

struct batch_item {
	uint32_t folder;
	struct row row;       /* as it was when its records were read */
	size_t message_at;    /* in `records` */
	size_t body_at;       /* SIZE_MAX: the body is not moved with this message, it is at: */
	struct body_place body;
	int body_fd;          /* the victim's */
};

/* Where this job has moved bodies to: a message that shares one with a message moved earlier names its new place. */
struct moved {
	struct body_place *from, *to; /* open addressing; log 0 = free */
	size_t count, size;
};

struct compaction {
	struct account *a;
	struct victim victims[COMPACT_LOGS_MAX];
	uint32_t victim_count;
	/* C2 */
	struct said flags, expunges;
	struct ranges touched; /* folder ids */
	bool all_folders;      /* a victim told of folders, keywords or counters */
	bool unknown;          /* it holds what we do not understand */
	bool damaged;
	/* C3 */
	struct batch_item items[COMPACT_BATCH_MESSAGES];
	uint32_t item_count;
	uint64_t batch_bytes;
	struct buf records;
	struct moved moved;
	/* C4: how far the restating has come */
	size_t flags_at, expunges_at, folder_at;
	uint64_t flags_uid;
	uint32_t rows_left;    /* to look at in this turn */
	bool facts_said, more;
	uint64_t sequence;     /* of the last relocation commit */
};

bool compaction_is_victim(const struct compaction *c, uint32_t log);
/* Runs a build function of this job as a change of its own. Later. */
enum err compaction_commit(struct compaction *c, enum err (*build)(struct change *, struct account *, struct commit *));
struct compaction *compaction_of(struct change *change);

/* C2: reads all victims. ERR_CORRUPT, ERR_READONLY: leave them alone. */
enum err restate_read(struct compaction *c);
/* C4 */
enum err restate_run(struct compaction *c);
void restate_release(struct compaction *c);

/* C5 and C6. */
enum err stub_victims(struct compaction *c, int dir_fd);
/* Unlinks stubs at the low end. */
void stub_sweep(struct account *a, int dir_fd);
/* Does a view show something expunged that lies in a victim? */
bool stub_held(const struct compaction *c);

/* ---- upkeep of a shard: jobs of compact.c and scrub.c ---- */

struct upkeep {
	bool stopping;
	uint32_t jobs;         /* fibers at work */
	uint32_t compactions;  /* of them */
	struct waitq done;
	struct timer timer;    /* the scrubber's next bucket */
};
struct upkeep *upkeep_self(void); /* NULL: the shard has none */
bool upkeep_stopping(void);
/* Scrubs one account now. Later. */
void scrub_one(uint64_t account_id);

#endif
