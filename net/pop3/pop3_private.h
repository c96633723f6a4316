/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_private.h - the inside of POP3: session, words, handlers.  For this folder only.
 *
 * The states are RFC 1939's (sections 4 to 6):
 *
 *                    USER+PASS, APOP, AUTH: proof right,
 *      connect       lock, account and view opened                   QUIT
 *     --------->  AUTHORIZATION ------------------------> TRANSACTION ----> UPDATE --> closed
 *                  |  ^    |                                 |                |
 *                  |  |    | QUIT, time-out, gone            | time-out,      | deletions durable: +OK
 *                  +--+    v                                 | gone, killed   | not durable: -ERR, nothing deleted
 *              wrong, busy: closed                           v
 *              -ERR, stays                       closed, nothing deleted
 *
 * The proof is checked where the connection was accepted; then the session moves to the shard that owns the account and
 * the lock is taken there (pop3_enter).  The connection may therefore be on another shard after a refused login: nothing
 * in AUTHORIZATION depends on which.
 *
 * Memory: the USER name and a SASL exchange live in the session's arena, released at login; a session in TRANSACTION owns
 * one subject, account, view and lock, a bitset from its first DELE on, and while a message is being sent a pop3_send.
 */
#ifndef PENFOLD_NET_POP3_POP3_PRIVATE_H
#define PENFOLD_NET_POP3_POP3_PRIVATE_H

#include "core/base/bits.h"
#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/fleet/owner.h"
#include "net/pop3/pop3.h"
#include "net/sasl.h"
#include "storage/store.h"
#include "tenancy/auth.h"
#include "tenancy/decision.h"
#include "tenancy/guard.h"
#include "tenancy/maildrop_lock.h"
#include "tenancy/source.h"

enum pop3_state { POP3_AUTHORIZATION, POP3_TRANSACTION, POP3_UPDATE };

/* What a line is, other than a command: the client's part of AUTH. */
enum pop3_exchange { POP3_NO_EXCHANGE /* else enum sasl_mechanism + 1 */ };

/* What to go on with when output has drained. */
enum pop3_cursor { POP3_NOTHING, POP3_PROVING, POP3_LISTING, POP3_UIDLS, POP3_SENDING, POP3_XLISTING };

enum pop3_language { POP3_EN, POP3_DE, POP3_LANGUAGE_COUNT };

struct pop3_send;
struct pop3_xmit;
struct attempt;
struct pop3_session {
	struct session s; /* first */
	uint8_t state, exchange, language, cursor;
	uint8_t auth_failures, bad_in_row;
	bool utf8 : 1;    /* UTF8 was said: RFC 6856 */
	bool spoke : 1;   /* a first line has come */
	bool seated : 1;  /* counted among its account's and tenant's sessions */
	bool usurped : 1; /* the lock passed to another session: no update */
	bool handed : 1;  /* another node has authenticated it and passes it on: it is not passed on again */
	bool lapsed : 1;  /* the node's lease ran out, or another has the account: no update */

	/* AUTHORIZATION */
	struct slice name;   /* USER; in TRANSACTION, XLST's header field. In the arena */
	uint64_t stamp[2];   /* APOP's timestamp; 0,0 = not offered */

	/* TRANSACTION */
	struct subject *subject;
	struct account *account;
	struct view *view;
	struct maildrop_lock lock;
	struct bits deleted; /* words NULL before the first DELE; where mail goes once downloaded, a second half tells which was */
	uint32_t deleted_count, at; /* at: the cursor's message */
	union {
		uint64_t deleted_bytes;
		struct attempt *attempt; /* AUTHORIZATION: a login that waits (POP3_PROVING) */
	};
	struct pop3_send *send;
	union {
		struct pop3_xmit *xmit;
		struct sasl *sasl; /* AUTHORIZATION, while `exchange` says so: AUTH under way; in the arena */
	};
	uint32_t until; /* XLST's last message, and one */
	uint32_t retrieved;
	uint64_t retrieved_bytes;
};
/* A parked session, connection and account's share of it included, is to stay under 1 KiB. */
static_assert_c(sizeof(struct pop3_session) <= 488, "with the connection 768 octets, a size class of the allocator: 896 is the next");

static inline struct pop3_session *pop3_of(struct session *s) { return CONTAINER_OF(s, struct pop3_session, s); }

extern struct pop3_config pop3_settings;

/* ---- words (pop3_words.c): every text that a person may read, in each language ---- */
enum pop3_word {
	/* +OK */
	POP3_W_BYE, POP3_W_BYE_DELETED, POP3_W_NAME_TAKEN, POP3_W_ENTERED, POP3_W_CAPABILITIES, POP3_W_MECHANISMS, POP3_W_LIST,
	POP3_W_UIDL, POP3_W_OCTETS, POP3_W_TOP, POP3_W_DELETED, POP3_W_RESET, POP3_W_NOOP, POP3_W_UTF8, POP3_W_LANGUAGE, POP3_W_LANGUAGES, POP3_W_ENVELOPE, POP3_W_XLST, POP3_W_XMIT_GO, POP3_W_XMIT_SENT, POP3_W_TLS,
	/* -ERR */
	POP3_W_UNKNOWN, POP3_W_SYNTAX, POP3_W_TOO_LONG, POP3_W_BAD_BYTES, POP3_W_NO_ARGUMENT, POP3_W_LOGIN_FIRST, POP3_W_LOGGED_IN,
	POP3_W_TOO_MANY_BAD, POP3_W_NUMBER, POP3_W_NO_MESSAGE, POP3_W_IS_DELETED, POP3_W_USER_FIRST, POP3_W_APOP_OFF, POP3_W_MECHANISM,
	POP3_W_CANCELLED, POP3_W_BASE64, POP3_W_WRONG, POP3_W_TOO_MANY_TRIES, POP3_W_LOGIN_DELAY, POP3_W_NO_LANGUAGE, POP3_W_NEEDS_UTF8, POP3_W_TOO_BIG,
	POP3_W_STOPPING, POP3_W_WITHDRAWN, POP3_W_NOT_DELETED, POP3_W_LOST, POP3_W_DENIED, POP3_W_IN_USE, POP3_W_TEMPORARY, POP3_W_BUSY, POP3_W_LIMIT, POP3_W_FULL,
	POP3_W_DAMAGED, POP3_W_READONLY, POP3_W_XTND_UNKNOWN, POP3_W_XLST_FEW, POP3_W_XLST_MANY, POP3_W_XMIT_MANY, POP3_W_XMIT_OFF, POP3_W_XMIT_DOWN,
	POP3_W_XMIT_RATE, POP3_W_XMIT_TOO_BIG, POP3_W_XMIT_BYTES, POP3_W_XMIT_HEADER, POP3_W_XMIT_ADDRESS, POP3_W_XMIT_NOBODY, POP3_W_XMIT_TOO_MANY,
	POP3_W_XMIT_SENDER, POP3_W_XMIT_RESENT, POP3_W_XMIT_8BIT, POP3_W_XMIT_REFUSED, POP3_W_XMIT_LATER, POP3_W_XMIT_PART, POP3_W_XMIT_PART_LATER,
	POP3_W_WAIT, POP3_W_TLS_FIRST, POP3_W_NO_CLEAR, POP3_W_TLS_OFF, POP3_W_TLS_ON, POP3_W_TLS_LATE, POP3_W_GUESSING, POP3_W_SESSIONS_ACCOUNT, POP3_W_SESSIONS_TENANT,
	POP3_W_COUNT
};
/* One status line. %1 and %2 in the text are a and b. */
void pop3_say(struct pop3_session *p, enum pop3_word w, uint64_t a, uint64_t b);
static inline void pop3_word(struct pop3_session *p, enum pop3_word w) { pop3_say(p, w, 0, 0); }
/* The line for an outcome of store or tenancy. */
void pop3_fail(struct pop3_session *p, enum err e);
/* The line for a connection that may not stay. */
size_t pop3_refused(enum limit limit, char *out);
/* Expands a word's text (without status and code) into out; returns its length. For LANG, whose reply has a tag before it. */
size_t pop3_expand(enum pop3_word w, enum pop3_language lang, uint64_t a, uint64_t b, char out[POP3_PHRASE_BYTES_MAX]);

/* ---- parsing (pop3_parse.c) ---- */
#define POP3_VERB(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
struct pop3_line {
	uint32_t verb;     /* POP3_VERB of it in upper case, 0 = not one of ours */
	bool has_argument; /* a space followed the verb */
	struct slice rest; /* all behind that one space, exactly */
	struct slice words; /* rest without blanks at its ends */
};
/* ERR_SYNTAX: bytes that no command may hold (NUL, CR, LF, other controls). */
enum err pop3_parse(struct slice line, struct pop3_line *out);
/* A message number or a count: digits only, at most max. */
bool pop3_two_numbers(struct slice words, uint64_t *first_out, uint64_t *second_out);
/* An HTTP request line: a browser was led here. */
bool pop3_is_http(struct slice line);

/* ---- commands (pop3_commands.c) ---- */
enum step pop3_command(struct pop3_session *p, struct slice line);
/* A senseless line: says w, or that it was the last one. */
enum step pop3_bad(struct pop3_session *p, enum pop3_word w);
/* The message a number names; says why not. */
bool pop3_message_or_reply(struct pop3_session *p, struct slice number, uint32_t *index_out);
enum step pop3_list_on(struct pop3_session *p);

/* ---- the way in (pop3_auth.c) ---- */
enum step pop3_user(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_pass(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_apop(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_auth(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_exchange_line(struct pop3_session *p, struct slice line);
/* Harmless when there is none. */
void pop3_exchange_drop(struct pop3_session *p);
/* CAPA's line of mechanisms. */
void pop3_capa_sasl(struct pop3_session *p);
/* The wait that guard.h asked for is over. */
enum step pop3_prove_on(struct pop3_session *p);
/* Forgets a login that waits. Harmless without one. */
void pop3_proof_drop(struct pop3_session *p);
/* For `penfold why`. */
void pop3_note(const struct pop3_session *p, enum decision_kind kind, const char *reason, struct slice login, struct slice account, uint32_t delay_ms, uint32_t failures);
#define POP3_STAMP_BYTES_MAX 320
size_t pop3_stamp(const struct pop3_session *p, char out[POP3_STAMP_BYTES_MAX]);

/* ---- to another node and from one (pop3_proxy.c) ---- */
/* The account is another node's: on with the session there, with what that node says to the login. ERR_AGAIN: it is not his any more. */
enum err pop3_proxy(struct pop3_session *p, const struct owner_place *at, enum step *step_out);
bool pop3_handed(struct session *s, struct subject *subject);

/* ---- the way through (pop3_session.c) ---- */
/* On the account's shard, with p->subject set: lock, account, view, reply. */
enum step pop3_enter(struct pop3_session *p);
void pop3_verb_enter(void); /* name what is timed */
void pop3_verb_held(void);
/* Gives back all that TRANSACTION holds. Harmless twice. */
void pop3_leave(struct pop3_session *p);
enum step pop3_quit(struct pop3_session *p);
/* A message has been sent whole: with EXPIRE 0 it goes at QUIT (RFC 2449 section 6.7), DELE or not, RSET or not. */
void pop3_retrieved(struct pop3_session *p, uint32_t index);
/* The bitset of deletions, made at its first use. */
void pop3_need_bits(struct pop3_session *p);

/* ---- messages (pop3_retr.c) ---- */
enum step pop3_retr(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_top(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_send_on(struct pop3_session *p);
void pop3_send_drop(struct pop3_session *p);

/* Did it come by SMTPUTF8? */
bool pop3_is_smtputf8(const struct message_source *m);
bool pop3_eight_bit(struct slice s);

/* ---- SDPS (pop3_sdps.c) ---- */
enum step pop3_env(struct pop3_session *p, const struct pop3_line *l);

/* ---- XTND (pop3_xtnd.c, pop3_xmit.c) ---- */
enum step pop3_xtnd(struct pop3_session *p, const struct pop3_line *l);
enum step pop3_xlst_on(struct pop3_session *p);
enum step pop3_xmit(struct pop3_session *p);
enum step pop3_xmit_data(struct pop3_session *p, struct slice bytes, size_t *used_out);
void pop3_xmit_drop(struct pop3_session *p);

/* ---- the header of a message to be sent (pop3_mail.c) ---- */
struct pop3_mail {
	struct slice *rcpts; /* of To, Cc and Bcc, each once; addr-spec, ASCII */
	size_t rcpts_count;
	struct slice from[POP3_XMIT_SENDERS_MAX]; /* of From, then Sender */
	size_t from_count;
	struct slice sender;  /* of Sender, else the first of From */
	struct slice pieces[POP3_XMIT_PIECES_MAX]; /* the message without Bcc and Return-Path */
	size_t pieces_count;
};
/* POP3_W_NOOP, or the words of a refusal. `mail_out` points into the message and the arena. */
enum pop3_word pop3_mail_read(struct arena *arena, struct slice message, size_t rcpts_max, struct pop3_mail *mail_out);

/* ---- languages (pop3_lang.c) ---- */
enum step pop3_lang(struct pop3_session *p, const struct pop3_line *l);

#endif
