/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - a folder's messages: one row each, and versions of who is in it.
 *
 * A `struct rows` is embedded in its folder.  It holds a row per message, in UID order, and the newest version of the
 * membership.  A view (store.h) pins a version: what arrives or goes later does not change it.  Flags and MODSEQ live once,
 * in the row, and are seen through every version.
 *
 *     version ── branch ── leaf: 512 bits, who is in ──► page: up to 512 rows, shared by all versions
 *        │         └────── leaf ...
 *        └────── branch ...   (64 leaves each)
 *
 * Versions, branches, leaves and pages are shared by reference count.  What only the newest version refers to is changed in
 * place; else the leaf and its path are copied: about 1 KiB, however large the folder.  Pages grow as they fill and become
 * dense again when most of their rows have gone and no older version needs them.  A folder of ten messages costs about 40
 * bytes a message and 150 beside.
 *
 * A row of an expunged message stays until the last view that shows it is closed, and so must its body: `held` lists them,
 * so that compaction leaves the logs alone that hold them.
 *
 * Memory belongs to the rows; a `struct row *` is valid until the next change or wait.  Nothing here waits, all calls
 * complete now, and none fails but for what is said.  Everything happens on the account's shard.
 */
#ifndef PENFOLD_STORAGE_VIEW_H
#define PENFOLD_STORAGE_VIEW_H

#include "core/base/list.h"
#include "storage/store.h"

/* What a folder knows of a message without I/O: 40 bytes. Places are byte offsets of records in logs. */
struct row {
	uint64_t modseq;
	uint64_t size : 40;      /* wire octets: prefix + body */
	uint64_t rcpt_hash : 24; /* row_rcpt_hash of the envelope recipient's local part (SDPS); 0 = unknown: look */
	uint32_t uid;
	uint32_t flags : 8;      /* FLAG_..., ROW_UIDL */
	uint32_t keywords : 24;  /* number of the account's keyword set; 0 = none */
	uint32_t record_log, record_offset; /* the message record */
	uint32_t body_log, body_offset;     /* the body record */
};
static_assert_c(sizeof(struct row) == 40, "a million warm messages cost 40 MB");
#define ROW_FLAGS 0x3fu /* the bits that a client can set */
#define ROW_UIDL 0x40u  /* has a literal UIDL, beside */
#define ROW_SIZE_MAX ((1ull << 40) - 1)

uint32_t row_rcpt_hash(struct slice local_part); /* 24 bits, never 0; ASCII case does not count */

struct version;
struct literals;
struct held; /* expunged, but shown by a view */

struct rows {
	struct version *newest; /* NULL: empty */
	struct literals *literals;
	struct list views;      /* oldest first */
	struct list held;
	uint64_t number;        /* counts versions that were pinned */
	uint32_t uid_last;      /* the highest that was ever added */
};

void rows_init(struct rows *r);
void rows_release(struct rows *r); /* no view may be open */

uint32_t rows_count(const struct rows *r);
uint64_t rows_bytes(const struct rows *r); /* sum of sizes */
/* Memory in use by rows and versions, for the accounts' cache. */
size_t rows_memory_bytes(const struct rows *r);
/* Gives back what growing pages keep in advance: for an account that goes to rest. */
void rows_trim(struct rows *r);

/* Adds a message. Its UID must not be there.  In order of UID this is O(1); between others (a replay that meets relocated
 * records) it is slower and allowed only while nothing is pinned or held. */
void rows_append(struct rows *r, const struct row *row);
/* Takes a message out of the newest version; false if it is not in it. *row_out (may be NULL) is the row as it was. */
bool rows_remove(struct rows *r, uint32_t uid, struct row *row_out);
/* The row of a message of the newest version, or NULL. Places may be changed through it; flags by rows_flags. */
struct row *rows_find(const struct rows *r, uint32_t uid);
/* Sets flags (of ROW_FLAGS), keywords and MODSEQ; false if the message is not there. */
bool rows_flags(struct rows *r, uint32_t uid, uint32_t flags, uint32_t keywords, uint64_t modseq);

/* The first message of the newest version with UID >= uid, or NULL. */
struct row *rows_from(const struct rows *r, uint32_t uid);
/* Calls `each` for every message of the newest version in order until it returns false. Nothing may be added or removed meanwhile. */
void rows_each(const struct rows *r, bool (*each)(void *arg, struct row *row), void *arg);
/* The same for messages whose MODSEQ is above `modseq`: whole pages without such are skipped. */
void rows_each_changed(const struct rows *r, uint64_t modseq, bool (*each)(void *arg, struct row *row), void *arg);
/* The same for expunged messages that a view still shows. */
void rows_each_held(const struct rows *r, bool (*each)(void *arg, struct row *row), void *arg);

/* ---- literal UIDLs (import): kept beside the rows ---- */

/* May this message have this literal? ERR_SYNTAX: not 1 to 70 of 0x21-0x7E. ERR_EXISTS: another message has it, or the formula would
 * give it to another UID of this UIDVALIDITY, now or later (invariant 6). `uid` = 0: not known yet. */
enum err rows_uidl_check(const struct rows *r, uint32_t uidvalidity, uint32_t uid, struct slice literal);
/* Keeps a literal that passed the check for the row of this UID, before or after rows_append. It must not have one. */
void rows_uidl_set(struct rows *r, uint32_t uid, struct slice literal);
struct slice rows_uidl(const struct rows *r, uint32_t uid); /* the literal, or empty; valid until the next change */
#define UIDL_FORMULA_BYTES 16
/* The formula of folders without literals: %08x%08x of UID and UIDVALIDITY. */
void uidl_formula(uint32_t uid, uint32_t uidvalidity, char out[UIDL_FORMULA_BYTES]);

/* ---- views ---- */

struct view {
	struct rows *rows;
	struct version *version;
	struct link link;       /* of rows->views */
	uint64_t number;
	uint32_t count, uidvalidity;
	char uidvalidity_hex[8]; /* the second half of every UIDL by the formula: a listing is little else */
	uint64_t bytes;
	uint32_t *filter;       /* SDPS: indices into the version, ascending; NULL = all */
	/* where the last look-up was: the next is mostly its neighbour */
	const struct leaf *leaf;
	uint32_t leaf_first, leaf_count, next_index, next_slot;
	/* for the store: what the view belongs to */
	struct account *account;
	uint32_t folder;
};

/* Pins the newest version. view_close (store.h) is rows_unpin and what the account counts. */
struct view *rows_pin(struct rows *r, uint32_t uidvalidity);
/* Unpins and frees. `released` (may be NULL) is called for every expunged message that only this view kept. */
void rows_unpin(struct view *v, void (*released)(void *arg, const struct row *row), void *arg);
/* The row at an index of the view (index < count). Of an expunged message: its last state. */
struct row *view_row(const struct view *v, uint32_t index);
/* Narrows a view to the messages that `keep` wants (SDPS). keep may wait, after which its row is no longer valid. */
void view_filter(struct view *v, bool (*keep)(void *arg, const struct row *row), void *arg);

/* What became of the messages of one version in a later one: calls in UID order. Branches and leaves that both share are skipped. */
struct view_change {
	uint32_t uid;
	uint32_t index; /* gone: its index in the old version; come: in the new one */
	bool come;
};
void version_diff(const struct version *old, const struct version *new_, bool (*each)(void *arg, const struct view_change *change),
                  void *arg);

#endif
