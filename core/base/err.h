/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - the closed set of outcomes.
 *
 * An outcome is named by what the caller should do about it, never by who found it.  Every call that can fail returns
 * an `enum err`; OK is 0.  A protocol owns one table from these to its own words (pop3_words.c, lmtp_words.c), so a new
 * member here must be given words there (the tables are static_asserted against ERR_COUNT).
 *
 * Where it happened and errno belong to the log line that is written where the failure is noticed, not to the value.
 */
#ifndef PENFOLD_CORE_BASE_ERR_H
#define PENFOLD_CORE_BASE_ERR_H

#include "core/base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum err {
	OK = 0,
	ERR_AGAIN,     /* not now: more input or more room is needed; not a failure */
	ERR_CLOSED,    /* the other side is gone: give up quietly */
	ERR_TIMEOUT,   /* a deadline of our own passed: temporary for the client */
	ERR_LIMIT,     /* a named bound was reached: tell this client which */
	ERR_SYNTAX,    /* bad input: tell this client */
	ERR_AUTH,      /* wrong name or password (never say which) */
	ERR_DENIED,    /* known, but not allowed (suspended, protocol off) */
	ERR_NOT_FOUND, /* no such message, folder, recipient */
	ERR_EXISTS,    /* already there */
	ERR_QUOTA,     /* over the account's quota */
	ERR_FULL,      /* the disk is full */
	ERR_IN_USE,    /* somebody else holds the maildrop */
	ERR_BUSY,      /* a queue of ours is full, or too soon: come back later */
	ERR_IO,        /* the disk or the kernel failed: temporary for the client, loud in the log */
	ERR_CORRUPT,   /* stored bytes are damaged: permanent for this message */
	ERR_FENCED,    /* another owner has the account: drop what is held and ask again */
	ERR_READONLY,  /* the account may be read, not written */
	ERR_TEMP,      /* a dependency is down: come back later */
	ERR_CONFIG,    /* the operator's input is wrong */
	ERR_COUNT
};

/* A short stable word for logs ("quota"); completes now. */
const char *err_name(enum err e);

/* What to do about an errno of a file or socket call (positive errno). */
enum err err_from_errno(int errno_value);

#ifdef __cplusplus
}
#endif
#endif
