/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structure.h - what is known of a stored message without reading it: its parts, the fields of its envelope, a preview, and the keys that
 * SORT and THREAD compare.  For FETCH, SEARCH, SORT and THREAD of IMAP.
 *
 * It is made once, while the message comes in (body.h), and kept in its body record in the encoding of STRUCTURE_VERSION (drawn in
 * structure_private.h); copies share it, compaction carries it along.  A record without one, or with one of another version, was
 * written by an older program, or the structure did not fit (STRUCTURE_BYTES_MAX): then it is computed from the stored bytes, with
 * the same result, and the last few that were are kept (STRUCTURE_COMPUTED_BYTES_MAX a shard).  So callers need not know which of both happened.
 *
 * Everything is as the *body* has it: the prefix of the message's record (Return-Path, Delivered-To, Received) has none of these fields,
 * and offsets count from the body's first octet.
 *
 * Memory: a structure is one handle, shared and read only; what it points to lives as long.  structure_close gives it back.
 */
#ifndef PENFOLD_STORAGE_STRUCTURE_H
#define PENFOLD_STORAGE_STRUCTURE_H

#include "storage/mime.h"
#include "storage/store.h"

/* Texts are folded by mime_casemap, so that they are compared bytewise; one longer than STRUCTURE_KEY_BYTES_MAX is cut. Absent: empty. */
struct structure_keys {
	struct slice subject;            /* base subject (RFC 5256 section 2.1) */
	struct slice from, to, cc;       /* the mailbox of the first address (SORT FROM, TO, CC) */
	struct slice from_name, to_name; /* its name, or else mailbox@host (SORT DISPLAYFROM, DISPLAYTO; RFC 5957) */
	/* not folded: Message-ID in RFC 5256's form; ids of References, else the first of In-Reply-To, each ended by a NUL, at most
	 * STRUCTURE_REFERENCES_BYTES_MAX: then the first and the newest ones */
	struct slice message_id, references;
	struct mime_date date; /* of the Date field */
	bool dated;            /* there is such a date; else SORT takes the internal one */
	bool reply;            /* the subject says so, or that it was forwarded */
};

struct structure {
	const struct mime_tree *tree; /* tree->parts[0].fields is what ENVELOPE is made of, as sent */
	struct slice preview;         /* UTF-8 without line ends, at most STRUCTURE_PREVIEW_CHARS_MAX characters (RFC 8970); empty: no text */
	struct structure_keys keys;
};

/* Of a message that is open or looked at (message_look): if it was stored or is remembered; else NULL, and structure_open makes it. Now. */
const struct structure *structure_known(const struct message_source *source);
/* Of an open message. Now if it is known; else later, in time linear in the message. ERR_IO. */
enum err structure_open(const struct message_source *source, const struct structure **structure_out);
void structure_close(const struct structure *structure); /* NULL is allowed; now */

/* ERR_LIMIT never; a message in memory has a structure too (tests, tools). Now. */
const struct structure *structure_of_bytes(struct slice body);

/* Per shard: the memory of computed ones. */
void structure_start(void);
void structure_stop(void);

#endif
