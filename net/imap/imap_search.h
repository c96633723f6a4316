/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_search.h - searching between its files, for SEARCH, SORT and THREAD (RFC 9051 section 6.4.4, RFC 5256).
 *
 *     imap_search_parse.c  what the client wrote becomes a program: keys and operators in postfix order
 *     imap_search_eval.c   the program and one message: true or false
 *     imap_search_text.c   strings: in header fields, in bodies of any size, by streaming
 *     imap_search_return.c RETURN (...), and the answers SEARCH, SORT and ESEARCH
 *
 * A program is a list, never a tree, so that neither reading nor running it recurses; both are linear in the command.
 *
 * Cheap keys first.  A key has a phase: what the row tells, what the record tells, the fields that its structure keeps, the header, the
 * body; only the last two read the message.  A message is judged phase by
 * phase with the later keys unknown; as soon as the whole is true or false whatever they may be (Kleene's logic), the rest is
 * never read.  In each phase all strings are looked for in one pass.
 *
 * A search never waits for its client: results are collected in a bitset of the view (125 KB for a million messages) and told when it
 * is over.  It breathes between messages, and within large ones (invariant 8).
 */
#ifndef PENFOLD_NET_IMAP_IMAP_SEARCH_H
#define PENFOLD_NET_IMAP_IMAP_SEARCH_H

#include "net/imap/imap_fetch.h"

enum search_op {
	/* operators */
	SEARCH_AND, SEARCH_OR, SEARCH_NOT,
	/* by the row */
	SEARCH_ALL, SEARCH_NONE, SEARCH_SET, SEARCH_FLAG, SEARCH_KEYWORD, SEARCH_LARGER, SEARCH_SMALLER, SEARCH_MODSEQ,
	/* by the record */
	SEARCH_BEFORE, SEARCH_ON, SEARCH_SINCE, SEARCH_SAVED_BEFORE, SEARCH_SAVED_ON, SEARCH_SAVED_SINCE, SEARCH_OLDER, SEARCH_YOUNGER,
	SEARCH_EMAILID,
	/* by the header */
	SEARCH_SENT_BEFORE, SEARCH_SENT_ON, SEARCH_SENT_SINCE, SEARCH_HEADER,
	/* by the body; TEXT looks at the header before */
	SEARCH_BODY, SEARCH_TEXT
};
enum search_phase { PHASE_ROW, PHASE_RECORD, PHASE_KEPT, PHASE_HEADER, PHASE_BODY, PHASE_COUNT };
enum search_value { SEARCH_FALSE, SEARCH_TRUE, SEARCH_UNKNOWN };

struct search_key {
	uint8_t op;          /* enum search_op */
	bool kept;           /* HEADER: of a field that structures keep */
	uint32_t operands;   /* of AND */
	uint64_t number;     /* size, MODSEQ, seconds, flag's bit */
	int64_t day;         /* since 1970-01-01 */
	struct slice name;   /* field, keyword, id */
	struct slice needle; /* folded */
	struct imap_set set;
	struct slice set_text; /* as the client wrote it */
	uint32_t last_keywords; /* KEYWORD: the set that was looked at last, and what came of it */
	bool last_had;
};

struct search_program {
	struct search_key *keys; /* postfix */
	size_t count, cap;
	uint8_t *values, *stack; /* of the message in hand; enum search_value */
	bool modseq;             /* the MODSEQ key was used: answers tell it */
	bool has_phase[PHASE_COUNT];
	bool has_text;           /* TEXT: in the header too */
	const struct search_key *only; /* a set outside of which nothing can match, or NULL */
	int64_t now_s;
	struct slice charset;    /* of the strings as the client wrote them; empty: UTF-8 */
	struct arena scratch;    /* for one field */
	struct buf decoded, folded;
	bool damaged;            /* a message could not be read */
	struct imap_progress *progress; /* of a search that goes through several mailboxes, or NULL */
};

/* Reads "[CHARSET x] key key ..." to the end of the command; with `charset_first` "x key ..." (SORT, THREAD). The program lives in the
 * command's arena; what it holds beside is given back by search_release, also after a failure. */
enum search_read { SEARCH_READ, SEARCH_READ_BAD /* args.why */, SEARCH_READ_CHARSET /* unknown */, SEARCH_READ_UIDONLY /* message numbers */ };
enum search_read search_read(struct imap_session *p, struct search_program *s, bool charset_first);
/* The program goes on with another view, p->view: its sets are judged again. `selected`: "$" is of this mailbox; of others it is empty. */
void search_turn_to(struct imap_session *p, struct search_program *s, bool selected);
void search_release(struct search_program *s);
/* The answer to what search_read did not like. */
enum step search_refuse(struct imap_session *p, enum search_read why);

/* Sets the bits of the view's messages that match. ERR_CLOSED: the connection is dying. May wait. */
enum err search_run(struct imap_session *p, struct search_program *s, struct bits *found);

/* ---- evaluation (imap_search_eval.c), for search_run and tests ---- */

/* What the program is worth with the values that its keys have. */
enum search_value search_judge(const struct search_program *s);

/* ---- strings (imap_search_text.c) ---- */

/* Finds sent dates and SEARCH_HEADER of kept fields in the message's structure: fills the unknown values in, if all such fields are there. */
enum err search_kept(struct search_program *s, struct imap_source *source);
/* Finds SEARCH_HEADER, sent dates and TEXT in the message's header: fills the unknown values in. */
enum err search_header(struct search_program *s, struct imap_source *source);
/* Finds BODY and TEXT in the body. */
enum err search_body(struct search_program *s, struct imap_source *source);
/* Is the folded needle in this text? */
bool search_contains(struct slice folded, struct slice needle);

/* ---- RETURN and answers (imap_search_return.c) ---- */

enum { RETURN_MIN = 1, RETURN_MAX = 2, RETURN_ALL = 4, RETURN_COUNT = 8, RETURN_SAVE = 16, RETURN_PARTIAL = 32 };
struct search_return {
	bool extended;  /* answer ESEARCH */
	uint8_t wanted; /* RETURN_... */
	bool partial_from_end;
	uint32_t partial_first, partial_last; /* first <= last */
};
/* "(MIN PARTIAL 1:10)" behind RETURN. */
bool search_return_read(struct imap_session *p, struct search_return *r);
/* "1:10" or "-1:-10" (RFC 9394): 1 <= first <= last. */
bool imap_partial_range(struct imap_args *a, uint32_t *first_out, uint32_t *last_out, bool *from_end_out);

/* An answer on its way out: `order` (SORT) or the bits. */
struct search_answer {
	const char *name;       /* "SEARCH", "SORT" */
	struct search_return r;
	const struct bits *found;
	const uint32_t *order;  /* indices in their order, or NULL: ascending */
	uint32_t count;
	uint64_t modseq;        /* to tell, or 0 */
	struct slice mailbox;   /* with uidvalidity: told with the answer (RFC 7377) */
	uint32_t uidvalidity;   /* or 0 */
	/* cursor */
	uint8_t stage;
	uint32_t at, end;       /* place in the order, or index of the view */
	uint32_t left;          /* of a set that is being told */
	bool open;              /* a number was told already */
};
/* Before the first call of search_tell: counts. */
void search_answer_begin(struct imap_session *p, struct search_answer *a, bool with_modseq);
/* False: output is full, call again. */
bool search_tell(struct imap_session *p, struct search_answer *a);
/* SAVE: keeps the result for "$". False: too scattered to be kept. */
bool search_save(struct imap_session *p, const struct search_answer *a);

/* ---- SEARCHRES ---- */

struct imap_saved {
	struct ranges uids;
};
void imap_saved_forget(struct imap_session *p);

#endif
