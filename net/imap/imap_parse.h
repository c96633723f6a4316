/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_parse.h - the arguments of a command: RFC 9051 section 9's small tokens, one call each.
 *
 * For the commands of this folder, tests and fuzz targets.  Works on one whole command, whose literals lie where they stood
 * ("{3}\r\nabc"); nothing is copied but quoted strings with escapes and names of mailboxes (into the arena).  A call takes exactly
 * what it names and returns true, or returns false and leaves a reason in `why`; where it then stands is of no use.  Nothing
 * recurses, every byte is looked at a bounded number of times, and no byte is special but by the grammar: NUL is in none of it.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_PARSE_H
#define PENFOLD_NET_IMAP_IMAP_PARSE_H

#include "core/base/arena.h"
#include "core/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

struct imap_args {
	const char *at, *end;
	struct arena *arena;
	bool utf8;       /* quoted strings may hold UTF-8, and names are UTF-8 (ENABLE IMAP4rev2 or UTF8=ACCEPT) */
	const char *why; /* static words for BAD */
	bool bad_name;   /* the form was right, but no mailbox can have this name */
};

void imap_args_init(struct imap_args *a, struct slice text, struct arena *arena, bool utf8);
static inline bool imap_at_end(const struct imap_args *a) { return a->at == a->end; }
bool imap_end(struct imap_args *a);                  /* nothing follows */
bool imap_sp(struct imap_args *a);                   /* exactly one space */
static inline bool imap_peek(const struct imap_args *a, char c) { return a->at < a->end && *a->at == c; }
bool imap_skip(struct imap_args *a, char c);         /* takes the byte if it is there; notes nothing */
bool imap_need(struct imap_args *a, char c);
bool imap_word(struct imap_args *a, const char *word); /* takes the word if it stands here whole, in any case; notes nothing */
bool imap_tag(struct imap_args *a, struct slice *out);
bool imap_atom(struct imap_args *a, struct slice *out);
bool imap_string(struct imap_args *a, struct slice *out);  /* quoted or literal */
bool imap_nstring(struct imap_args *a, struct slice *out); /* the same or NIL (ptr NULL) */
bool imap_astring(struct imap_args *a, struct slice *out);
bool imap_list_mailbox(struct imap_args *a, struct slice *out); /* a pattern: '%', '*' and ']' in atoms; bytes as they came */
bool imap_mailbox(struct imap_args *a, struct slice *out);      /* a safe name, UTF-8, '/' between levels; INBOX in this case */
bool imap_number(struct imap_args *a, uint64_t max, uint64_t *out);
bool imap_set_text(struct imap_args *a, struct slice *out);     /* "1:3,*" as it stands, or "$" */
bool imap_date(struct imap_args *a, int64_t *day_out); /* "1-Feb-1994", quoted or not; days since 1970-01-01 */
bool imap_date_time(struct imap_args *a, int64_t *seconds_out, int16_t *zone_min_out); /* quoted: RFC 9051 date-time */
/* "()" or "(a b)": imap_open takes '('; imap_more is true before each member, taking the space between, and false at ')', which it takes. */
bool imap_open(struct imap_args *a);
bool imap_more(struct imap_args *a, bool *first_io);

/* ---- names (imap_name.c) ---- */

/* Modified UTF-7 (RFC 3501 section 5.1.3) to UTF-8 and back. False: not in form. The arena's bound too is false. */
bool imap_mutf7_decode(struct arena *arena, struct slice in, struct slice *out);
bool imap_mutf7_encode(struct arena *arena, struct slice in, struct slice *out);
bool imap_utf8_good(struct slice s); /* shortest forms, no surrogates, up to U+10FFFF */
/* May a mailbox have this name (UTF-8)? No control character, no empty level, no level of "." or "..", no '%' or '*'. */
bool imap_name_good(struct slice name);
/* What a client wrote (mUTF-7, or UTF-8 if `utf8`) to the name that the store knows; a '/' at its end goes. NULL, or why not. */
const char *imap_name_read(struct arena *arena, struct slice in, bool utf8, struct slice *out);

#ifdef __cplusplus
}
#endif
#endif
