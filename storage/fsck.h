/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.h - is what is stored whole?  For `penfold fsck`, and for the scrubber.
 *
 * Reads every log of an account (or of all), every body's bytes, every file, and says what it finds, one finding at a time,
 * in words for an operator.  It never changes a log and never removes mail: with `rebuild`, caches (state files) are
 * thrown away and made anew, and that is all.
 *
 * fsck_account and fsck_all run on a fiber of a process that holds the folder's lock (store_lock) and serves nothing; they
 * read all of a log through.  The memory they take is that of the account, about 40 bytes a message, and 32 bytes a body.
 */
#ifndef PENFOLD_STORAGE_FSCK_H
#define PENFOLD_STORAGE_FSCK_H

#include "core/base/bytes.h"
#include "core/base/err.h"

enum finding_kind {
	FINDING_TEAR,           /* a write that a crash cut off; nobody was told that it was done */
	FINDING_DAMAGE,         /* bytes that had been synced are not what they were */
	FINDING_LOG_MISSING,    /* a file that should be there is not */
	FINDING_LOG_UNREADABLE, /* its beginning is not whole: nothing in it counts */
	FINDING_LOG_FOREIGN,    /* it belongs to another account */
	FINDING_UNKNOWN,        /* records of a newer version: the account is served read-only */
	FINDING_BODY_DAMAGED,   /* a message's bytes are not what they were */
	FINDING_BODY_MISSING,   /* a message's file B.<guid> is missing or has the wrong size */
	FINDING_BODY_LOST,      /* a message whose body no log has */
	FINDING_MESSAGE_DAMAGED, /* a message's own record does not read */
	FINDING_STRUCTURE,      /* what a record says of its message's parts makes no sense: it is made anew when it is asked for */
	FINDING_ORPHAN,         /* a file B.<guid> that no message names; removed when the account is used next */
	FINDING_UIDL_TWICE,     /* two messages of a folder with one UIDL */
	FINDING_COUNTERS,       /* what a seal said of the account's usage is not what is there */
	FINDING_STATE_WRONG,    /* a state file that counts, but says something else than the logs */
	FINDING_STATE_STALE,    /* a state file that does not count */
	FINDING_IO,             /* the disk did not read */
	FINDING_STRAY,          /* a name that nothing of ours has */
	FINDING_COUNT
};
enum finding_severity {
	FINDING_NOTE,    /* nothing is wrong */
	FINDING_WARNING, /* nothing is lost, but look */
	FINDING_ERROR    /* something that was promised is damaged or missing */
};

struct finding {
	enum finding_kind kind;
	uint64_t account_id;
	/* what of these is known; 0 = does not apply */
	uint32_t log;
	uint64_t start, end;   /* of the log's bytes */
	uint32_t folder, uid;
	struct slice name;     /* of a file, valid during the call */
};
typedef void (*finding_fn)(void *arg, const struct finding *finding);

/* A stable short word for scripts: "body_damaged". */
const char *finding_name(enum finding_kind kind);
enum finding_severity finding_severity(enum finding_kind kind);
const char *finding_severity_name(enum finding_severity severity); /* "note", "warning", "error" */
/* One sentence: where (but for the account), what it means and what to do; no newline. Returns its length, at most size - 1; NUL-terminated. */
#define FINDING_TEXT_BYTES 512
size_t finding_text(const struct finding *finding, char *out, size_t size);
/* The same as one JSON object on one line, without newline. */
size_t finding_json(const struct finding *finding, char *out, size_t size);

struct fsck_options {
	bool rebuild;    /* state files are made anew */
	bool skip_bodies; /* records only: quick */
};
struct fsck_totals {
	uint64_t accounts, logs, commits, messages, bodies, bytes_read, bytes_stored;
	uint64_t findings[FINDING_COUNT];
};

/* Checks one account. ERR_NOT_FOUND: it has no directory. ERR_IO: the disk did not read; findings say where. Later. */
enum err fsck_account(int data_dir_fd, uint64_t account_id, const struct fsck_options *options, finding_fn each, void *arg,
                      struct fsck_totals *totals_io);
/* All accounts of the folder. Later. */
enum err fsck_all(int data_dir_fd, const struct fsck_options *options, finding_fn each, void *arg, struct fsck_totals *totals_io);

#endif
