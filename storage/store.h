/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the face of the store: accounts, folders, messages, bodies.
 *
 * For protocols (POP3, LMTP, later IMAP) and tools.  An account is one directory with an append-only log; format.h has
 * every byte and the essay of why a crash cannot lose what was acknowledged.
 *
 * Everything about an account happens on the shard that owns it (store_shard_of), on a fiber; calls marked "later" may
 * park.  A call that changes something returns OK only when the change is durable and passed the fence's look
 * (invariants 1, 4, 13); only then do views show it.  On any other outcome nothing was changed, but for ERR_IO and
 * ERR_FENCED, after which the change may or may not be found later (never half of it).
 *
 * Errors: ERR_QUOTA, ERR_FULL (reserve reached), ERR_READONLY (damage or fence), ERR_IO, ERR_FENCED (another owner),
 * ERR_CORRUPT (stored bytes of this message are damaged), ERR_NOT_FOUND, ERR_EXISTS, ERR_LIMIT, ERR_BUSY.
 */
#ifndef PENFOLD_STORAGE_STORE_H
#define PENFOLD_STORAGE_STORE_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/run/io.h"

struct account;
struct view;
struct body;
struct body_writer;

#define FOLDER_INBOX 1u /* every account has it from its first commit */

/* ---- the store of this process and shard ---- */

struct store_config {
	const char *data_path;
	uint64_t warm_bytes_max;    /* of all shards together: accounts kept in memory without sessions */
	uint64_t seal_bytes;        /* a log is sealed at this size (64 MiB) */
	uint64_t memory_body_bytes; /* up to here a message is gathered in memory (256 KiB) */
	uint64_t file_body_bytes;   /* above it the spool file is the body (1 MiB) */
	uint64_t message_bytes_max; /* 150 MB */
	uint64_t reserve_bytes;     /* free space below which only deletions are written (64 MiB) */
	uint32_t flags_sync_ms;     /* STORE is synced within this (1000); 0 = before OK */
	uint32_t commit_ms_max;     /* a commit not begun by then is refused */
	uint32_t scrub_days;        /* every log is read once in so many days (14); 0 = off */
	uint32_t log_fds_max;       /* descriptors kept open for logs, of all shards together */
	/* Several processes work on this folder (DESIGN section 5, placement `any`): each account is kept by the fence alone, the folder's lock
	 * is shared, tools still want it alone. `node` tells their spool folders apart; NULL: there is one process. */
	bool shared;
	int lock_fd; /* the folder's lock, from the process that we replace (store_lock_fd); -1: taken anew */
	const char *node;
};
void store_config_default(struct store_config *config_out);

/* Once per process, from the main thread, before the shards start: locks the folder, checks its format, makes it
 * durable (syncfs). ERR_IN_USE: another process has it. Blocking. */
enum err store_lock(const struct store_config *config);
void store_unlock(void);
int store_lock_fd(void); /* for a process that is to replace this one: whoever has a copy has the lock */
/* On each shard, on a fiber. */
enum err store_start(const struct store_config *config);
void store_stop(void); /* seals what is owned; later */

unsigned store_shard_of(uint64_t account_id);

/* ---- accounts ---- */

/* Opens (or makes) an account that the directory knows. Counted: each needs its account_close. Later. */
enum err account_open(uint64_t account_id, struct account **account_out);
void account_close(struct account *account);
/* Seals an account that nobody uses, and forgets it. OK also when it was not in memory; ERR_IN_USE: sessions or jobs of ours are there; ERR_BUSY:
 * it must be kept (its disk failed). Whatever becomes of the seal, the next owner's fence sees to it. Later. */
enum err account_let_go(uint64_t account_id);
/* After a time in which somebody else may have owned it: memory that is not what the disk says is dropped. Later. ERR_FENCED: it is not,
 * and sessions are still there; ERR_IO. */
enum err account_confirm(uint64_t account_id);
/* The number of the newest log that is known; 0: none was ever made. Now. */
uint32_t account_newest_log(const struct account *account);
/* The account's newest log is older than what is known to have been: a backup, or the wrong disk. It can only be read from now on, and
 * an alarm says so. Now. */
void account_distrust(struct account *account, uint32_t newest_seen);
/* Removes an account's directory for good; ERR_IN_USE while sessions hold it. Later. */
enum err account_destroy(uint64_t account_id);

struct account_usage {
	uint64_t bytes, messages; /* of all folders, as quota counts them: wire sizes */
	bool read_only;
};
void account_usage(const struct account *account, struct account_usage *usage_out); /* now */
uint64_t account_number(const struct account *account);                             /* its id; now */

/* ---- bodies: a message on its way in, shared by all its recipients ---- */

enum body_policy {
	BODY_REFUSE, /* LMTP: bare CR, bare LF and NUL are ERR_SYNTAX */
	BODY_MEND    /* APPEND, import: bare LF and bare CR become CRLF; NUL is ERR_SYNTAX */
};
/* Begins a body; may be called on any shard. */
enum err body_begin(enum body_policy policy, struct body_writer **writer_out);
/* Adds bytes, cut anywhere. Spills to a spool file above memory_body_bytes. Later. ERR_LIMIT above
 * message_bytes_max; the writer stays in error after any failure and must be ended by body_abort. */
enum err body_write(struct body_writer *writer, struct slice bytes);
/* Completes: ends with CRLF (added if missing), has its GUID, hash, header length, dot offsets. The writer is gone
 * either way. Later. */
enum err body_end(struct body_writer *writer, struct body **body_out);
void body_abort(struct body_writer *writer);
struct body *body_ref(struct body *body); /* any thread */
void body_unref(struct body *body);       /* any thread; the last one frees memory and spool file */
uint64_t body_bytes(const struct body *body);
/* The header block, up to and including the empty line; in memory while the body lives, cut at
 * BODY_HEADER_KEPT_BYTES. Now. */
struct slice body_header(const struct body *body);

/* ---- changes ---- */

/* Flags of a message; keywords are numbers of the account's table above these. */
enum { FLAG_SEEN = 1, FLAG_ANSWERED = 2, FLAG_FLAGGED = 4, FLAG_DELETED = 8, FLAG_DRAFT = 16, FLAG_FORWARDED = 32 };

struct append {
	uint32_t folder;
	struct body *body; /* not consumed */
	const struct slice *keywords; /* IMAP keywords; a new name is given a number in the same commit */
	size_t keyword_count;
	/* this copy's own header lines, CRLF, before the body: Return-Path, Delivered-To, Received */
	struct slice prefix;
	uint32_t flags;
	int64_t internal_date_s; /* 0 = now */
	int16_t internal_date_zone_min;
	struct slice envelope_from; /* without angle brackets; empty = null sender */
	struct slice envelope_rcpt;
	struct slice uidl;                    /* literal UIDL (import), else empty */
	uint32_t uid;                         /* import: this UID, which must be >= UIDNEXT; else 0 */
	uint64_t quota_bytes, quota_messages; /* judged under the commit; 0 = none */
	/* This message (uid 0: none) is expunged in the same commit, and quota counts the difference: IMAP's REPLACE. Of one item alone.
	 * ERR_DENIED: it was gone already. */
	uint32_t replaces_folder, replaces_uid;
};
struct appended {
	uint32_t uid, uidvalidity;
	uint64_t modseq;
};
/* Stores count messages in one commit. Later. */
enum err account_append(struct account *account, const struct append *items, size_t count, struct appended *out);

struct copy {
	uint32_t from, to;    /* folders */
	const uint32_t *uids; /* ascending */
	size_t count;
	bool move;                            /* and expunge them from where they were, in the same commit */
	uint64_t quota_bytes, quota_messages; /* as above; a move adds nothing */
};
/* Copies messages inside an account: their bodies are named, not copied. out[i].uid = 0: that message was gone. One
 * commit. Later. */
enum err account_copy(struct account *account, const struct copy *copy, struct appended *out);
/* Makes a folder of this name and moves messages (ascending) into it, in one commit: IMAP's RENAME of INBOX. ERR_EXISTS, ERR_SYNTAX. Later. */
enum err account_move_to_new(struct account *account, uint32_t from, const uint32_t *uids, size_t count, struct slice name, uint32_t *folder_out);

/* Removes messages by UID (ascending). UIDs that are gone already are skipped; *removed_out counts the others.
 * Later. */
enum err account_expunge(struct account *account, uint32_t folder, const uint32_t *uids, size_t count,
			 size_t *removed_out);

/* Retention: removes what came into the folder (save date) before before_s, lowest UID first, in commits of at most EXPIRE_BATCH_MAX, until
 * nothing of that age is left or `max` are gone (rounded up to such a commit). Costs one record read, or none, where nothing is due. Each commit is
 * durable as account_expunge's; *removed_out counts those that are, on failure too. Later. */
enum err account_expire(struct account *account, uint32_t folder, int64_t before_s, size_t max, size_t *removed_out);

enum flags_how { FLAGS_ADD, FLAGS_REMOVE, FLAGS_SET };
/* Changes flags of messages by UID. Shown at once, synced within flags_sync_ms. Later. */
enum err account_flags(struct account *account, uint32_t folder, const uint32_t *uids, size_t count, enum flags_how how,
		       uint32_t flags, const struct slice *keywords, size_t keyword_count, uint64_t *modseq_out);
/* The same, with what is judged under the commit, of each message. Arrays have room for `count` and may be NULL: nothing is asked.
 *   failed[i]  uids[i] has a MODSEQ above `unchanged_since` and stays as it is (RFC 7162 section 3.1.3)
 *   news[i]    uids[i] had a MODSEQ above `known`: others changed it, and who asks has not heard of it */
struct flags_terms {
	uint64_t unchanged_since, known;
	bool *failed, *news;
};
enum err account_flags_since(struct account *account, uint32_t folder, const uint32_t *uids, size_t count, enum flags_how how, uint32_t flags,
			     const struct slice *keywords, size_t keyword_count, const struct flags_terms *terms, uint64_t *modseq_out);
/* The keywords of a message's set (struct message), in order; *cursor_io begins at 0. False at the end. Now. */
bool account_keyword_next(const struct account *account, uint32_t set, uint32_t *cursor_io, struct slice *name_out);
/* Every keyword that the account's table has, the same way. Now. */
bool account_keyword_known(const struct account *account, uint32_t *cursor_io, struct slice *name_out);
bool keyword_good(struct slice name); /* RFC 9051 atom, at most KEYWORD_BYTES_MAX */

/* ---- folders ---- */

struct folder_info {
	uint32_t id, uidvalidity, uidnext, messages, unseen;
	uint64_t modseq; /* HIGHESTMODSEQ */
	uint64_t bytes;
	struct slice name; /* UTF-8, '/' between levels; valid until the next wait */
	bool subscribed;
	bool noselect;
	uint32_t special_use; /* 0 or one of FOLDER_USE_... in folder.h */
};
enum err folder_find(struct account *account, struct slice name, struct folder_info *info_out); /* now */
enum err folder_info(struct account *account, uint32_t folder, struct folder_info *info_out);   /* now */
/* Walks folders in order of name; *cursor_io begins at 0. False at the end. Now. */
bool folder_next(struct account *account, uint32_t *cursor_io, struct folder_info *info_out);
/* later */
enum err folder_create(struct account *account, struct slice name, uint32_t special_use, uint32_t *folder_out);
/* later */
enum err folder_delete(struct account *account, uint32_t folder);
/* the whole tree below it; later */
enum err folder_rename(struct account *account, uint32_t folder, struct slice new_name);
/* The trees below a name that is no folder itself; later. */
enum err folder_rename_below(struct account *account, struct slice name, struct slice new_name);
enum err folder_subscribe(struct account *account, struct slice name, bool on); /* later */
/* An account that nothing was ever written to has an INBOX without a UIDVALIDITY (folder_info gives 0). This gives it one, on disk; harmless for
 * others. To be called before a UIDVALIDITY is shown: it may never change. Later. */
enum err account_begun(struct account *account);
/* Subscribed names that are no folders, in no order; *cursor_io begins at 0. Now. */
bool folder_subscription_next(const struct account *account, uint32_t *cursor_io, struct slice *name_out);

/* ---- views: a folder as it was at one moment ---- */

/* Pins the newest version. Messages that arrive or vanish later do not change it, and bodies it names stay
 * readable. Later. */
enum err view_open(struct account *account, uint32_t folder, struct view **view_out);
/* SDPS: only messages whose envelope recipient has this local part. Later. */
enum err view_open_for(struct account *account, uint32_t folder, struct slice rcpt_local_part, struct view **view_out);
void view_close(struct view *view);
uint32_t view_count(const struct view *view);
uint64_t view_bytes(const struct view *view); /* sum of wire sizes */
uint32_t view_uidvalidity(const struct view *view);

struct message {
	uint32_t uid;
	uint64_t size; /* wire octets: prefix + body */
	uint32_t flags;
	uint32_t keywords; /* a set: account_keyword_next */
	uint64_t modseq;
};
void view_message(const struct view *view, uint32_t index, struct message *message_out); /* index < count; now */
#define UIDL_BYTES_MAX 70
/* Writes the UIDL (RFC 1939: 1 to 70 of 0x21-0x7E), no NUL; returns its length. Now. */
size_t view_uidl(const struct view *view, uint32_t index, char out[UIDL_BYTES_MAX]);

/* ---- for sessions that stay (IMAP): what has changed since ---- */

/* The first message with UID >= uid; view_count when there is none. Now. */
uint32_t view_index(const struct view *view, uint32_t uid);
/* The first message at or behind `from` whose MODSEQ is above `modseq`; pages without such are stepped over. False: none. Now. */
bool view_next_changed(const struct view *view, uint32_t from, uint64_t modseq, uint32_t *index_out);
/* Is this the folder's newest version? Now. */
bool view_newest(const struct view *view);
/*
 * Pins the newest version in the place of the one the view has.  `gone` is called for every message that has left, in order, with its
 * index in the old version; behind the call the view is the new one, and indices count anew.  Not for views of one recipient.  False, and nothing changed:
 * the folder is deleted.  Now.
 */
bool view_advance(struct view **view_io, void (*gone)(void *arg, uint32_t uid, uint32_t index), void *arg);
/*
 * What was expunged after `modseq`, as far as it is remembered, oldest first: ranges of UIDs that may overlap and hold UIDs that never
 * were.  Returns false, without a call, if something after `modseq` may have been forgotten: then all that is missing counts as
 * vanished (RFC 7162 section 3.2.5.2).  Now.
 */
bool folder_vanished(struct account *account, uint32_t folder, uint64_t modseq, void (*range)(void *arg, uint32_t first, uint32_t last),
		     void *arg);

/*
 * A watch is told when its folder has changed: messages came or went, flags changed, or it was deleted.  `changed` runs on the
 * account's shard in the midst of a commit that has passed its look (for flags: was written): it must not wait and not call the
 * store, but wake somebody.  It is told for every commit; who is slow looks once for many.
 */
struct folder_watch {
	struct link link;
	void (*changed)(struct folder_watch *watch);
};
enum err folder_watch(struct account *account, uint32_t folder, struct folder_watch *watch); /* ERR_NOT_FOUND; now */
void folder_unwatch(struct folder_watch *watch);                                             /* harmless twice; now */

/* Where a message's wire bytes are. Valid until message_close; bytes never change meanwhile (invariant 3). */
struct message_source {
	struct slice prefix;    /* in memory */
	int fd;                 /* body: this file ... */
	uint64_t offset, bytes; /* ... this range */
	const char *body;       /* the same bytes in memory, verified; NULL: only in the file (large messages) */
	uint64_t header_bytes;  /* of the body: up to and including the empty line */
	const uint64_t *dots;   /* offsets, relative to the body, of lines that begin with '.' */
	uint32_t dot_count;
	bool dots_unknown; /* too many to list: scan */
	const struct body_record *record; /* for structure.h */
	struct slice envelope_from, envelope_rcpt;
	int64_t internal_date_s;
	int16_t internal_date_zone_min;
	int64_t save_date_s; /* when it came into this folder; 0 = not known */
	uint8_t guid[16];    /* of the body: RFC 8474's EMAILID */
	void *pin;
};
/* Looks the message's record up, verifies its checksum, pins the file. Later. ERR_CORRUPT, ERR_IO. */
enum err message_open(struct view *view, uint32_t index, struct message_source *source_out);
void message_close(struct message_source *source);
/* As message_open, but what the records say is all there is: no bytes can be read (fd -1, body NULL). Closed the same way. Later. */
enum err message_look(struct view *view, uint32_t index, struct message_source *source_out);
/* One that was looked at becomes one that is open: what pointed into it moves. On failure it stays as it was. Later; now if it is open. */
enum err message_fill(struct view *view, uint32_t index, struct message_source *source_io);

#endif
