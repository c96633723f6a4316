/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_private.h - the inside of LMTP: session, envelope, data, deliveries.  For this folder only.
 *
 *     LHLO -> (MAIL -> RCPT+ -> DATA text CRLF.CRLF | BDAT n octets ... BDAT n LAST octets -> a reply per recipient)* -> QUIT
 *
 * Memory: the LHLO name lives with the session; an envelope (sender, recipients) lives in the session's arena and ends with
 * the transaction; the body belongs to the store's writer and then to all deliveries, counted.
 */
#ifndef PENFOLD_NET_LMTP_LMTP_PRIVATE_H
#define PENFOLD_NET_LMTP_LMTP_PRIVATE_H

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/run/shard.h"
#include "net/peer/carry.h"
#include "net/lmtp/lmtp.h"
#include "storage/store.h"
#include "tenancy/directory.h"

extern struct lmtp_config lmtp_settings;

/* ---- addresses (lmtp_address.c) ---- */

/* What MAIL and RCPT name. All slices lie in the argument or in the arena. */
struct lmtp_path {
	struct slice wire;   /* local part and domain as the client wrote them, source route dropped: for trace lines */
	struct slice lookup; /* the same without quoting: for the directory */
	bool null;           /* <> */
	bool has_domain;
	bool eight_bit;      /* needs SMTPUTF8 */
};
/* "<...>" at the start of text; *rest_out is what follows it. ERR_SYNTAX; ERR_LIMIT: longer than we take. */
enum err lmtp_path_parse(struct arena *arena, struct slice text, struct lmtp_path *path_out, struct slice *rest_out);
bool lmtp_utf8_valid(struct slice s);

/* ---- the data's end (lmtp_data.c) ---- */

/* Finds CRLF.CRLF in bytes that come cut anywhere, and takes the stuffed dots out. */
enum lmtp_dots_at { LMTP_LINE_START, LMTP_MIDDLE, LMTP_CR, LMTP_DOT, LMTP_DOT_CR, LMTP_END };
struct lmtp_dots {
	uint8_t at; /* zero at birth: the data begins with a line */
};
/* The next run of content in *in_io, which moves on. False: no more of it, or the end was reached (at == LMTP_END; *in_io is what
 * follows the final CRLF). */
bool lmtp_dots_next(struct lmtp_dots *d, struct slice *in_io, struct slice *run_out);

/* ---- session ---- */

struct lmtp_rcpt {
	struct lmtp_rcpt *next;
	struct slice wire; /* in the session's arena */
	struct subject *subject;
	const char *refusal; /* after the data: why there is no copy, or NULL */
};

enum lmtp_transfer { LMTP_COMMANDS, LMTP_DATA, LMTP_BDAT };

struct lmtp_session {
	struct session s; /* first */
	char *lhlo;       /* xmalloc'd; NULL before LHLO */
	/* the transaction; all zero outside one, envelope in s.arena */
	bool mail, utf8, chunking;
	uint8_t transfer;     /* what bytes are now */
	struct lmtp_dots dots;
	uint8_t data_err;     /* enum err: why this body is refused; sticky */
	bool chunk_last, chunk_orphan; /* of the BDAT under way: LAST; without a transaction */
	struct slice from;
	uint64_t size_declared;
	struct lmtp_rcpt *first_rcpt, *last_rcpt;
	uint32_t rcpts;
	struct body_writer *writer;
	uint64_t data_bytes, chunk_left;
	struct slice id;               /* of the message, in the arena */
	const struct lmtp_rcpt *answer; /* the next recipient to be answered */
	/* over the session's life */
	bool spoke;
	bool handed; /* from another node, which has the client: what is not ours is not passed on again */
	uint8_t bad_in_row;
	uint32_t transactions, delivered, refused;
};
static_assert_c(sizeof(struct lmtp_session) <= 512, "a parked LMTP session grew");

/* The line for a connection that may not stay. */
size_t lmtp_refused(enum limit limit, char *out);

static inline struct lmtp_session *lmtp_of(struct session *s) { return CONTAINER_OF(s, struct lmtp_session, s); }

/* ---- words (lmtp_words.c) ---- */
/* One reply line, "250 2.0.0 OK"; text is a literal. */
#define LMTP_SAY(l, text) REPLY_LIT(&(l)->s.reply, text "\r\n")
/* A senseless line: says it, or that it was the last one. */
enum step lmtp_bad(struct lmtp_session *l, const char *reply);
/* "452 4.2.2 mailbox is full" and the like, for an outcome. over says how a full mailbox is answered. */
const char *lmtp_words(enum err e, enum over_quota over);

/* ---- commands (lmtp_commands.c) ---- */
enum step lmtp_command(struct lmtp_session *l, struct slice line);
/* Ends the transaction, whatever it has. */
void lmtp_reset(struct lmtp_session *l);
bool lmtp_is_http(struct slice line);

/* ---- data (lmtp_data.c) ---- */
enum step lmtp_data_begin(struct lmtp_session *l);
enum step lmtp_bdat_begin(struct lmtp_session *l, struct slice args);
enum step lmtp_data_bytes(struct lmtp_session *l, struct slice bytes, size_t *used_out);

/* ---- deliveries (lmtp_deliver.c) ---- */
/* A copy for each recipient, then the replies in their order, then the transaction is over. Consumes the body. */
enum step lmtp_deliver(struct lmtp_session *l, struct body *body);
void lmtp_verb_deliver(void); /* names what is timed */
/* The same for each recipient: the body was refused. */
enum step lmtp_refuse_all(struct lmtp_session *l, const char *reply);
/* Goes on with the replies when output has drained. */
enum step lmtp_answer_on(struct lmtp_session *l);
/* ---- recipients whose account another node has (lmtp_forward.c) ---- */
struct lmtp_forward {
	struct lmtp_forward *next;
	const struct lmtp_rcpt *rcpt;
	enum err err;        /* of all that could not be told apart; OK: the owner has it, or refused it: */
	const char *refusal; /* his words, in the session's arena, or NULL: he has it */
	bool accepted;
};
/* One transaction with the owner for all in the list, each with an answer of its own. ERR_AGAIN: he is not the owner any more, and nothing was
 * sent; else OK. Later. */
enum err lmtp_forward(struct lmtp_session *l, const struct body *body, const struct owner_place *at, struct lmtp_forward *list);
bool lmtp_handed(struct session *s, struct subject *subject);

/* ---- work on the shard that owns an account (lmtp_worker.c) ---- */
struct lmtp_task {
	void (*run)(struct lmtp_task *t);  /* there, on a fiber */
	void (*done)(struct lmtp_task *t); /* here again; may be on the loop */
	enum err err;                      /* OK, or ERR_BUSY: it did not run */
	unsigned home, shard;
	fair_class_t class; /* of the fiber that began it */
	struct post post;
	struct link link;
};
/* Its struct must live until done() has run. Completes now. */
void lmtp_task_begin(struct lmtp_task *t, unsigned shard);
/* A session opens and closes here. */
void lmtp_workers_hold(void);
void lmtp_workers_release(void);

/* ---- mail that a spam filter marked (lmtp_junk.c) ---- */
/* Does this header have the field that the configuration names? Now. */
bool lmtp_marked(struct slice header);
/* The account's folder for such mail, made if there is none; FOLDER_INBOX if it cannot be had. Later. */
uint32_t lmtp_junk_folder(struct account *account);

/* ---- trace lines (lmtp_trace.c) ---- */
/* The next header field of *rest_io, its folded lines included; false at the empty line or the end. */
bool lmtp_next_field(struct slice *rest_io, struct slice *field_out);
/* Fields of a header: Received, Delivered-To, and those of the latter that name this address. */
struct lmtp_hops {
	unsigned received, delivered, delivered_here;
};
struct lmtp_hops lmtp_count_hops(struct slice header, struct slice address);
/* RFC 5322 date-time in UTC, "Tue, 14 Jan 2025 09:30:00 +0000"; returns its length. */
#define LMTP_DATE_BYTES_MAX 40
size_t lmtp_date(int64_t wall_s, char out[LMTP_DATE_BYTES_MAX]);

#endif
