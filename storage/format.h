/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - every byte of an account on disk, and why a crash cannot lose an acknowledged message.
 *
 * ============================================================ 1. Files
 *
 *     DATA/format                 "penfold store 1\n": what this folder is; held by an exclusive lock while a process serves it
 *     DATA/spool/                 messages on their way in (body.h); DATA/spool.NODE/ where several nodes share the folder
 *     DATA/a/HH/HH/IIIIIIIIIIIIIIII/   an account: 16 hex digits of its id below two levels of a hash of the id
 *         L.<n>                   logs: the account itself. n counts from 1, decimal, no leading zero
 *         B.<guid>                the bytes of one message too large for a log
 *         anything else           caches (state.h) and temporary names; may be deleted at any time
 *
 * A log is made of commits, a commit of records.  Integers are little-endian; everything is a multiple of 8 bytes long and
 * begins at a multiple of 8; padding is zero.  Commits begin at the file's first byte:
 *
 *     log      [ commit ][ commit ] ... (gap) ... [ commit ]
 *     commit   [ header 64 ][ heads: record, record, ... ][ data: the bytes of its bodies, each padded to 8 ]
 *     record   [ type 2 | flags 1 | version 1 | bytes 4 | hash 8 ][ payload ]
 *
 * All heads of a commit come before all its data, so that replay reads heads and steps over message bytes, and one gathered
 * write puts a message on disk straight from the memory it was received in.
 *
 * ============================================================ 2. What a crash can do, and what it meets
 *
 * Promises are made only about commits that were written, then synced (fdatasync), and then passed the fence's look (fence.h).
 *
 * (a) Power fails during a write.  Of an unsynced tail any part may be on disk, in any order, any of it as zeros or as old
 *     bytes.  A commit is whole if its header's hash, its heads' hash and its bodies' hashes are right; a tail that is not
 *     whole is a *tear*.  Nobody was promised it.  What comes before it was synced before it was written or is whole too,
 *     because each commit says where the one before it ended.
 * (b) Bytes never change in place and a log is never truncated or overwritten, so no write can harm an older commit: the
 *     owner that finds a tear does not repair it but goes on in a new file, whose first commit, the *cut*, says how far each
 *     older log is valid.  A tear can therefore never come to life later, not even when the write that caused it arrives late.
 * (c) A sync fails.  The kernel may have dropped the pages and forgotten: the file is never synced or appended to again.
 *     The next log's cut ends it where it was last known synced; what was not acknowledged is gone and was told so.
 * (d) The process dies between sync and answer.  The change is there, the client does not know: a message may be delivered
 *     twice, never lost.
 * (e) A name is lost.  A log counts only after its directory was synced; a log that has no whole cut is nobody's.
 * (f) Another process believes that it owns the account.  See fence.h: whoever's commit was not below the newer owner's cut
 *     finds the newer name in its look and acknowledges nothing.
 * (g) The disk is full in the middle of a write.  The range is given up: the next commit begins behind it and names, as
 *     "previous end", where it began.  A gap so named is deliberate; a whole commit inside a named gap does not count.
 * (h) Stored bytes rot.  Each commit says up to where the log was known to be synced when it was written.  A bad range below
 *     such a mark was promised to somebody: *damage*.  It is set aside and told loudly; above every mark it is a tear.
 *     Either way the UIDs that it might have given are not given again: UIDNEXT rises by its length / FORMAT_MESSAGE_BYTES_MIN.
 * (i) A message holds bytes that look like a commit.  A header's hash is seeded with the account's random salt, the log's
 *     number and the header's own offset: who does not know the salt cannot write one, and a copied one is in the wrong place.
 * (j) Compaction is interrupted.  Live records are first appended to the newest log ("relocated", with their GUID, UID,
 *     MODSEQ and flags), synced and looked at, before a stub takes the old log's name: at every step one or two copies exist,
 *     equal by GUID, and the one in the newer log wins.
 *
 * What must hold for this: fdatasync makes a file's bytes and size durable, fsync of a directory its names; a rename is
 * atomic; O_EXCL is exclusive.  Hash collisions (2^-64 for an accidental one) are not handled.
 *
 * ============================================================ 3. Growing
 *
 * A record of an unknown type, version or fact with RECORD_IGNORABLE is skipped; without it the account is opened
 * read-only rather than understood wrongly.  The same for unknown bits in `required` of an open record and in a commit's
 * flags.  Zero is the value of everything not drawn here.
 *
 * The encoders and decoders below are pure.  Encoders append to a buf and return false when it is full.  Decoders accept
 * any bytes, never read outside them, and return slices and pointers into them; those are valid as long as the bytes.
 */
#ifndef PENFOLD_STORAGE_FORMAT_H
#define PENFOLD_STORAGE_FORMAT_H

#include "core/base/bytes.h"
#include "core/base/hash.h"

#define FORMAT_VERSION 1u
#define FORMAT_FILE_TEXT "penfold store 1\n"
#define GUID_BYTES 16

/* ---- the header of a commit ---- */

#define LOG_BYTES_MAX ((uint64_t)1 << 32) /* places in logs are 32 bits: nothing begins above it */

#define COMMIT_MAGIC 0x31434650u /* "PFC1" */
#define COMMIT_HEADER_BYTES 64u
struct commit_header {
	uint32_t magic;
	uint16_t version;  /* FORMAT_VERSION */
	uint16_t flags;    /* none yet */
	uint64_t sequence; /* counts commits of the account; the MODSEQ of what it changes */
	uint64_t bytes;    /* of the whole commit */
	uint32_t heads_bytes;
	uint32_t records;
	uint64_t previous_end; /* where the last commit before it ended in this log */
	uint64_t synced_end;   /* the log was known synced up to here when this was written */
	uint64_t heads_hash;   /* hash64 of the heads, seed 0 */
	uint64_t header_hash;  /* hash64 of the 56 bytes above, seeded (see format_seed) */
};
static_assert_c(sizeof(struct commit_header) == COMMIT_HEADER_BYTES, "drawn");
static_assert_c(offsetof(struct commit_header, heads_bytes) == 24 &&
			offsetof(struct commit_header, previous_end) == 32 &&
			offsetof(struct commit_header, header_hash) == 56,
		"drawn");

/* ---- records ---- */

enum record_type {
	RECORD_OPEN = 1, /* first of every log, but for stubs */
	RECORD_CUT = 2,  /* second of every log: where the older ones end */
	RECORD_FOLDER = 3,
	RECORD_BODY = 4,
	RECORD_MESSAGE = 5,
	RECORD_FLAGS = 6,
	RECORD_EXPUNGE = 7,
	RECORD_FACT = 8,
	RECORD_SEAL = 9,  /* last of a log: nothing follows */
	RECORD_STUB = 10, /* the only record of a stub */
	RECORD_MOVED = 11 /* last of an account that has moved to another store; written by no version yet */
};
#define RECORD_IGNORABLE 1u /* skip it if you do not know it */
/* said again by compaction: it bears its own MODSEQ and changes nothing that sessions see */
#define RECORD_RELOCATED 2u

#define RECORD_HEADER_BYTES 16u
struct record_header {
	uint16_t type;
	uint8_t flags;
	uint8_t version; /* of the payload's layout: 1 */
	uint32_t bytes;  /* with this header and padding */
	/* hash64 of the payload, seeded with the 8 bytes above: a record read alone can be trusted alone */
	uint64_t hash;
};
static_assert_c(sizeof(struct record_header) == RECORD_HEADER_BYTES, "drawn");

/* A record's payload begins with one of the fixed parts below; what varies follows in the order named. */

/* open: node name */
struct open_fixed {
	uint16_t format; /* FORMAT_VERSION */
	uint16_t node_bytes;
	uint32_t zero;
	uint64_t required; /* features that a reader must know; none yet */
	uint64_t account_id;
	uint64_t log; /* its own number */
	/* of the account, the same in all its logs; the seed of the header that holds it takes 0 for it */
	uint64_t salt;
	uint8_t incarnation[16]; /* of the process that made the log */
	uint64_t take;           /* counts that process's takes of accounts */
	int64_t wall_ms;         /* when */
};
static_assert_c(sizeof(struct open_fixed) == 72, "drawn");

/* cut: count times {log, end}, newest log first. Logs that are not named end at 0. */
struct cut_fixed {
	uint32_t count;
	uint32_t flags; /* CUT_... */
};
#define CUT_UNCLEAN 1u /* the newest older log was not sealed */
#define CUT_FAILED_SYNC 2u
#define CUT_DAMAGE 4u
struct cut_end {
	uint64_t log, end;
};
static_assert_c(sizeof(struct cut_fixed) == 8 && sizeof(struct cut_end) == 16, "drawn");

/* folder: name, name2. Names are UTF-8, levels separated by '/'. */
enum folder_op {
	FOLDER_CREATE = 1,
	FOLDER_RENAME = 2, /* `name` and everything below it becomes `name2` */
	FOLDER_DELETE = 3,
	FOLDER_SUBSCRIBE = 4, /* by name, which need not exist */
	FOLDER_UNSUBSCRIBE = 5,
	FOLDER_SET_USE = 6,
	FOLDER_STATE = 7 /* relocated: all of a folder as it is now; makes it if missing */
};
enum { UIDL_FORMULA_HEX = 1 /* %08x of the UID, then %08x of UIDVALIDITY */ };
#define FOLDER_FLAG_SUBSCRIBED 1u
#define FOLDER_FLAG_NOSELECT 2u
struct folder_fixed {
	uint8_t op;
	uint8_t uidl_formula;
	uint16_t name_bytes, name2_bytes;
	uint16_t flags;
	uint32_t folder; /* its id, never reused */
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t special_use;    /* FOLDER_USE_... of folder.h */
	uint64_t modseq;         /* state: HIGHESTMODSEQ */
	uint64_t vanished_floor; /* state: below it the history of expunged UIDs is not kept */
};
static_assert_c(sizeof(struct folder_fixed) == 40, "drawn");

/* body: dots (u64 each), parts (struct part_disk each), envelope, structure, preview, sort and thread keys, each in the
 * encoding of structure_version (structure_private.h); version 0 has none of them. Then, behind all heads, the bytes. */
#define BODY_EXTERNAL 1u     /* the bytes are B.<guid> */
#define BODY_DOTS_UNKNOWN 2u /* more than BODY_DOTS_MAX lines begin with a dot: scan */
#define STRUCTURE_NONE 0u
struct body_fixed {
	uint8_t guid[GUID_BYTES]; /* = EMAILID */
	uint64_t bytes;           /* wire octets, CRLF, ending in CRLF */
	uint64_t data_distance;   /* from the record's first byte to the body's; 0 = external */
	uint64_t hash;            /* hash64 of the bytes, seed 0 */
	uint64_t header_bytes;    /* up to and including the empty line */
	uint32_t flags;
	uint32_t dot_count;
	uint16_t structure_version;
	uint16_t preview_bytes;
	uint32_t part_count;
	uint32_t envelope_bytes, structure_bytes;
	uint32_t keys_bytes;
	uint32_t zero;
};
static_assert_c(sizeof(struct body_fixed) == 80, "drawn");
struct part_disk {
	uint64_t header_offset; /* relative to the body */
	uint64_t body_offset;
	uint64_t body_bytes;
	uint64_t decoded_bytes; /* UINT64_MAX = not known */
	uint32_t lines;
	uint16_t parent; /* index; its own for the root */
	uint8_t encoding, kind;
	uint64_t zero;
};
static_assert_c(sizeof(struct part_disk) == 48, "drawn");

/* message: keyword mask (u64 each, bit = number in the account's table), prefix, literal UIDL, envelope sender,
 * envelope recipient */
struct message_fixed {
	uint8_t guid[GUID_BYTES]; /* of its body, wherever that is */
	uint32_t folder, uid;
	uint32_t flags; /* FLAG_... of store.h */
	uint16_t keyword_words;
	uint16_t uidl_bytes;
	uint64_t bytes;  /* wire octets: prefix + body */
	uint64_t modseq; /* relocated: as it is now; else 0 = the commit's sequence */
	int64_t internal_date_s, save_date_s;
	uint64_t thread_id; /* THREADID; 0 = not computed */
	int16_t internal_date_zone_min;
	uint16_t from_bytes, rcpt_bytes, zero;
	uint32_t prefix_bytes;
	/* where the body's record was when this was written; 0 = in this commit. Only a hint: the GUID decides */
	uint32_t body_log, body_offset;
	uint32_t body_flags; /* BODY_EXTERNAL, if its body is */
};
static_assert_c(sizeof(struct message_fixed) == 96, "drawn");
#define FORMAT_MESSAGE_BYTES_MIN (RECORD_HEADER_BYTES + 96u)

/* flags: keyword mask to set, keyword mask to clear (keyword_words u64 each), ranges. Cleared first, then set. */
struct flags_fixed {
	uint32_t folder;
	uint32_t set, clear;
	uint16_t keyword_words;
	uint16_t flags;  /* FLAGS_CLEAR_KEYWORDS */
	uint64_t modseq; /* as above */
	uint32_t range_count, zero;
};
static_assert_c(sizeof(struct flags_fixed) == 32, "drawn");
#define FLAGS_CLEAR_KEYWORDS 1u /* all of them, whatever the table holds */
struct uid_range {
	uint32_t first, last; /* both belong to it */
};

/* expunge: ranges, then the GUIDs of the messages in order of UID, 16 bytes each, or none (relocated) */
struct expunge_fixed {
	uint32_t folder;
	uint32_t range_count, guid_count, zero;
	uint64_t modseq; /* as above */
};
static_assert_c(sizeof(struct expunge_fixed) == 24, "drawn");

/* fact: data */
enum fact_kind {
	FACT_KEYWORD = 1, /* value = number in the table, data = the keyword */
	FACT_LAST_UIDVALIDITY = 2,
	FACT_NEXT_FOLDER = 3,    /* the next folder id to be given is at least value */
	FACT_UIDNEXT = 4,        /* folder; at least value */
	FACT_VANISHED_FLOOR = 5, /* folder; at least value */
	FACT_FOLDERS = 6,        /* data = ids of all folders that exist (u32 each), ascending: any other is deleted */
	FACT_SUBSCRIPTIONS = 7,  /* data = every subscribed name that is no folder, each followed by NUL */
	FACT_SEQUENCE = 8,       /* sequences up to value are used */
	FACT_MODSEQ = 9,         /* folder; HIGHESTMODSEQ is at least value */
	FACT_SET_ASIDE = 10,     /* data = {log, start, end} u64 each: a damaged range, known and reported */
	FACT_COUNTERS = 11       /* data = u64 each: messages, bytes; what the usage was, for fsck */
};
struct fact_fixed {
	uint16_t kind, zero;
	uint32_t folder;
	uint64_t value;
	uint32_t data_bytes, zero2;
};
static_assert_c(sizeof(struct fact_fixed) == 24, "drawn");

/* seal: nothing varies */
enum seal_reason { SEAL_SIZE = 1, SEAL_LET_GO = 2, SEAL_COMPACT = 3 };
struct seal_fixed {
	uint32_t reason, zero;
	int64_t wall_ms;
	uint64_t messages, bytes; /* the account's usage, for fsck */
};
static_assert_c(sizeof(struct seal_fixed) == 32, "drawn");

/* stub: nothing varies */
struct stub_fixed {
	uint64_t log;          /* its own number */
	uint64_t relocated_to; /* the log that has what was alive */
	uint64_t sequence;     /* of the last relocation commit */
	uint8_t incarnation[16];
};
static_assert_c(sizeof(struct stub_fixed) == 40, "drawn");

/* ---- commits: encode and decode ---- */

static inline uint64_t format_pad8(uint64_t n) { return (n + 7) & ~(uint64_t)7; }

/* The seed of a header's hash. For the commit at offset 0 the salt counts as 0, since that commit tells it. */
uint64_t format_seed(uint64_t salt, uint64_t log, uint64_t offset);
/* Fills magic, version, hashes; the other fields are the caller's. `out` has room for COMMIT_HEADER_BYTES. */
void commit_header_put(struct commit_header *header, struct slice heads, uint64_t salt, uint64_t log, uint64_t offset,
		       void *out);
/* True if these bytes are the header of a commit of this log at this offset: magic, hash, and lengths that make
 * sense. */
bool commit_header_get(const void *bytes, uint64_t salt, uint64_t log, uint64_t offset,
		       struct commit_header *header_out);
bool commit_header_known(const struct commit_header *header); /* version and flags are ours; else: read-only */
bool commit_heads_good(const struct commit_header *header, struct slice heads);
/* Looks for a header in bytes that lie at `offset` (a multiple of 8) of the log; the index of the first, or
 * SIZE_MAX. */
size_t commit_header_find(struct slice bytes, uint64_t salt, uint64_t log, uint64_t offset,
			  struct commit_header *header_out);

/* ---- records: encode and decode ---- */

struct record {
	uint16_t type;
	uint8_t flags, version;
	uint32_t bytes; /* of the whole record */
	size_t offset;  /* where it begins in the heads */
	struct slice payload;
};
/* Walks the heads of a commit; *offset_io begins at 0. RECORD_NEXT_.... */
int record_next(struct slice heads, size_t *offset_io, struct record *record_out);
#define RECORD_NEXT_END 0
#define RECORD_NEXT_OK 1
#define RECORD_NEXT_BAD (-1)
/* The record at the beginning of the bytes, alone; false if it is not whole. */
bool record_get(struct slice bytes, struct record *record_out);
/* Is this a type and version that this program knows? */
bool record_known(const struct record *r);

struct open_record {
	struct open_fixed fixed;
	struct slice node;
};
struct cut_record {
	struct cut_fixed fixed;
	const struct cut_end *ends; /* aligned to 8 if the heads are */
};
struct folder_record {
	struct folder_fixed fixed;
	struct slice name, name2;
};
struct body_record {
	struct body_fixed fixed;
	const uint64_t *dots;
	const struct part_disk *parts;
	struct slice envelope, structure, preview, keys;
};
struct message_record {
	struct message_fixed fixed;
	const uint64_t *keywords;
	struct slice prefix, uidl, from, rcpt;
};
struct flags_record {
	struct flags_fixed fixed;
	const uint64_t *keywords_set, *keywords_clear;
	const struct uid_range *ranges;
};
struct expunge_record {
	struct expunge_fixed fixed;
	const struct uid_range *ranges;
	const uint8_t *guids;
};
struct fact_record {
	struct fact_fixed fixed;
	struct slice data;
};

/* Each appends one record; lengths and counts in `fixed` are filled from the slices, other counts are the caller's.
 * `flags` are RECORD_... bits. */
bool open_put(struct buf *heads, const struct open_record *r);
bool cut_put(struct buf *heads, const struct cut_record *r);
bool folder_put(struct buf *heads, unsigned flags, const struct folder_record *r);
bool body_put(struct buf *heads, unsigned flags, const struct body_record *r);
bool message_put(struct buf *heads, unsigned flags, const struct message_record *r);
bool flags_put(struct buf *heads, unsigned flags, const struct flags_record *r);
bool expunge_put(struct buf *heads, unsigned flags, const struct expunge_record *r);
bool fact_put(struct buf *heads, unsigned flags, const struct fact_record *r);
bool seal_put(struct buf *heads, const struct seal_fixed *r);
bool stub_put(struct buf *heads, const struct stub_fixed *r);

/* The distance to a body's bytes is known only when all heads are: sets it in the body record at `offset` of the
 * heads, and its hash anew. */
void body_set_distance(struct buf *heads, size_t offset, uint64_t distance);

/* Each takes a record of its type apart; false if the payload is malformed. Heads must be aligned to 8 in memory. */
bool open_get(const struct record *r, struct open_record *out);
bool cut_get(const struct record *r, struct cut_record *out);
bool folder_get(const struct record *r, struct folder_record *out);
bool body_get(const struct record *r, struct body_record *out);
bool message_get(const struct record *r, struct message_record *out);
bool flags_get(const struct record *r, struct flags_record *out);
bool expunge_get(const struct record *r, struct expunge_record *out);
bool fact_get(const struct record *r, struct fact_record *out);
bool seal_get(const struct record *r, struct seal_fixed *out);
bool stub_get(const struct record *r, struct stub_fixed *out);

/* Where a cut says that a log ends; 0 if it is not named. */
uint64_t cut_end_of(const struct cut_record *cut, uint64_t log);

/* ---- names ---- */

#define LOG_NAME_BYTES 16 /* "L.4294967295", NUL included */
#define LOG_NUMBER_MAX UINT32_MAX
void log_name(uint64_t log, char name_out[LOG_NAME_BYTES]);
bool log_name_number(const char *name, uint32_t *log_out);
#define ACCOUNT_PATH_BYTES 32 /* "a/HH/HH/IIIIIIIIIIIIIIII", NUL included */
void account_path(uint64_t account_id, char path_out[ACCOUNT_PATH_BYTES]);

#endif
