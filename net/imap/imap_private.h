/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_private.h - the inside of IMAP: session, command in progress, arguments, answers.  For this folder only.
 *
 *     imap_session.c    a session's way through the four states (RFC 9051 section 3), and what net calls
 *     imap_gather.c     lines and literals become one command, at any cut of the input
 *     imap_parse.c      arguments: atoms, strings, lists, numbers, sets, dates
 *     imap_name.c       names of mailboxes: modified UTF-7, what is safe
 *     imap_set.c        sequence sets: which messages
 *     imap_commands.c   the table of commands
 *     imap_words.c      tagged answers, and the table from outcomes to words and codes
 *     imap_progress.c   how far a long command is
 *     imap_catenate.c   parts of messages by URL
 *     imap_update.c     what the client has not been told yet: EXPUNGE, VANISHED, EXISTS, FETCH
 *     imap_search*.c    searching: imap_search.h
 *     imap_thread.c     threads: imap_thread.h
 *     imap_keys.c       what SORT and THREAD compare: imap_keys.h
 *     imap_cmd_*.c      one command a file, with its nearest kin (SELECT and EXAMINE)
 *
 * How a command is written.  It is a function `enum step imap_cmd_x(struct imap_session *p)` with a line in the table, which says
 * in which states it may come.  When it is called, p->cmd is the command in progress; p->cmd->args stands behind the name:
 *
 *     struct slice name;
 *     if (!imap_sp(a) || !imap_mailbox(a, &name) || !imap_end(a))
 *             return imap_bad_args(p);
 *     enum err e = ...the store...;                     (may wait: look again at what may have changed)
 *     return e == OK ? imap_ok(p, "done") : imap_fail(p, e);
 *
 *   Arguments  The whole command lies in one piece in p->cmd->text, its literals where they stood, and does not move while it runs;
 *              slices from the parser point into it or into p->cmd->arena, which lives as long as the command.  A parser call that
 *              returns false has noted why (args.why).  Nothing here recurses; lists are walked by imap_open and imap_close.
 *   Answers    Untagged data goes to p->s.reply.  What is bounded (a few KiB) is just written.  What is not asks reply_full() between
 *              pieces; when it is full, the command keeps its cursor in a struct of its own (in the arena, p->cmd->state), sets
 *              p->cmd->resume and returns STEP_RESUME: resume is called when half has drained.  A fiber never waits for a client.
 *              What the command holds outside its arena is given back by p->cmd->drop, which is called exactly once, however it ends.
 *   The end    is imap_ok, imap_no, imap_bad or imap_fail, as the last act: it tells what has changed in the selected mailbox (if the
 *              table allows it for this command: imap_update.c), then the tagged line, then the command is gone.
 *   Errors     imap_words.c has one table from enum err to NO and a code of RFC 5530; where a command knows better (TRYCREATE), it says
 *              imap_no itself.
 *   Long work  calls fiber_breathe() between messages (invariant 8).  It may yield: what points into rows is looked up again.
 *   More lines of the client (AUTHENTICATE, IDLE) go to p->cmd->continued; literals that are not to be gathered (APPEND) to p->cmd->data.
 *
 * Message numbers are indices of p->view, and one; the view is the session's own and only imap_update.c advances it.  Flags are seen
 * through it as they are now.
 *
 * A parked session is its struct and its view: under 1 KiB with its connection (a test holds it to that).
 */
#ifndef PENFOLD_NET_IMAP_IMAP_PRIVATE_H
#define PENFOLD_NET_IMAP_IMAP_PRIVATE_H

#include "core/base/bits.h"
#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/imap/imap.h"
#include "net/imap/imap_parse.h"
#include "storage/folder.h"
#include "net/fleet/owner.h"
#include "storage/store.h"
#include "tenancy/decision.h"
#include "tenancy/guard.h"
#include "tenancy/source.h"
#include "tenancy/auth.h"

enum imap_state { IMAP_NOT_AUTHENTICATED = 1, IMAP_AUTHENTICATED = 2, IMAP_SELECTED = 4 };

/* What the client has switched on (ENABLE, and what implies it). */
enum { IMAP_CONDSTORE = 1, IMAP_QRESYNC = 2, IMAP_REV2 = 4, IMAP_UTF8 = 8, IMAP_UIDONLY = 16 };

struct imap_session;
struct imap_verb;

/* ---- the command in progress ---- */

enum imap_gathering {
	IMAP_WHOLE,    /* nothing is missing */
	IMAP_GATHERED, /* a literal is coming that becomes part of the text */
	IMAP_SWALLOWED, /* one that is too large: thrown away, to stay in step */
	IMAP_STREAMED  /* one that goes to `data` */
};

/* What is left to be told at the end of a command: imap_update.c. */
struct imap_update {
	uint32_t *gone;      /* message numbers as they are to be told, or UIDs (VANISHED) */
	uint32_t gone_count, gone_cap, gone_at;
	uint32_t flags_at, flags_end; /* next index to look at; behind it nothing has been told to exist */
	uint64_t told_modseq; /* when it is over */
	bool uids;           /* gone holds UIDs */
	bool exists;         /* to be told */
	bool begun, told_gone;
};

struct imap_command {
	struct arena arena;
	struct buf text;
	struct imap_args args;
	struct slice tag;      /* in text; "*" if there was none that could be told */
	const struct imap_verb *verb;
	bool uid;              /* said with UID before it */
	bool any_number;       /* message numbers behind the last are no error in its sets (RFC 7377 section 2) */
	bool too_large;        /* a part was swallowed: BAD at its end */
	uint8_t gathering;     /* enum imap_gathering */
	uint64_t literal_left; /* octets of the literal that is coming */
	enum step (*resume)(struct imap_session *p);
	enum step (*continued)(struct imap_session *p, struct slice line);
	enum step (*data)(struct imap_session *p, struct slice bytes);    /* all of `bytes` belongs to the literal; STEP_DATA goes on */
	enum step (*data_end)(struct imap_session *p);                    /* its last octet has come */
	enum step (*rest)(struct imap_session *p, struct slice line);     /* the line behind a streamed literal */
	void (*drop)(struct imap_session *p);
	void *state;
	struct slice last; /* the tagged line, when it is decided */
	/* what the command itself has told, or was asked not to tell (.SILENT): flags of these UIDs as of this MODSEQ */
	const uint32_t *told_uids;
	size_t told_count;
	uint64_t told_modseq;
	struct imap_update update;
};

/* ---- the session ---- */

struct imap_saved; /* SEARCHRES */

struct imap_session {
	struct session s; /* first */
	uint8_t state;    /* enum imap_state */
	uint8_t enabled;  /* IMAP_CONDSTORE ... */
	uint8_t auth_failures, bad_in_row;
	bool read_only : 1; /* EXAMINE */
	bool spoke : 1;     /* a first line has come */
	bool seated : 1;    /* counted among its account's and tenant's sessions */
	bool lost : 1;      /* another node has the account */
	bool handed : 1;    /* another node has authenticated it and passes it on: it is not passed on again */
	bool long_line : 1; /* the last line was too long; if it had no end, the session ends with it */
	struct imap_command *cmd; /* NULL: none in progress; in IDLE too, so that it costs no more than waiting does */
	char *idle_tag;           /* in IDLE: its tag; poked when the folder changes */
	char *long_tag;           /* of a line that is too long and has not ended */
	struct subject *subject;
	struct account *account;
	struct owner_hold hold; /* keeps the account on this node */
	struct view *view;      /* SELECTED */
	uint32_t folder;
	uint32_t exists_told; /* messages, as the client was told last */
	uint64_t modseq_told; /* flags as of this were told */
	struct folder_watch watch;
	struct imap_saved *saved;
};
static_assert_c(sizeof(struct imap_session) <= 480, "a parked session, connection and view included, stays under 1 KiB");

static inline struct imap_session *imap_of(struct session *s) { return CONTAINER_OF(s, struct imap_session, s); }
static inline bool imap_rev2(const struct imap_session *p) { return p->enabled & IMAP_REV2; }
static inline bool imap_utf8_names(const struct imap_session *p) { return p->enabled & (IMAP_REV2 | IMAP_UTF8); }

extern struct imap_config imap_settings;

/* What is announced behind login: every one of them works. */
#define IMAP_EXTENSIONS                                                                                                        \
	"IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE CONDSTORE QRESYNC LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE "  \
	"STATUS=SIZE BINARY SAVEDATE OBJECTID MULTIAPPEND CATENATE REPLACE UTF8=ACCEPT UIDONLY QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE UNAUTHENTICATE " \
	"INPROGRESS MULTISEARCH ESEARCH SEARCHRES WITHIN PARTIAL PREVIEW SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS"

/* For `penfold why`. */
void imap_note(const struct imap_session *p, enum decision_kind kind, const char *reason, struct slice login, uint32_t delay_ms, uint32_t failures);
/* May what this node remembers of the account be shown? Past the lease's deadline the store is asked (owner.h). False: BYE was said. Later. */
bool imap_may_show(struct imap_session *p);

/* ---- the table (imap_commands.c) ---- */

enum imap_telling {
	IMAP_TELLS_ALL,
	IMAP_TELLS_NO_EXPUNGE, /* FETCH, STORE, SEARCH by message numbers: RFC 9051 section 7.5.1; with UID all */
	IMAP_TELLS_NOTHING
};
struct imap_verb {
	const char *name;
	uint8_t states;  /* where it may come, IMAP_NOT_AUTHENTICATED | ... */
	uint8_t tells;   /* enum imap_telling */
	bool with_uid;   /* UID may stand before it */
	enum step (*run)(struct imap_session *p);
};
/* Runs the whole command in p->cmd->text. */
enum step imap_dispatch(struct imap_session *p);
/* Reads tag and name of what has come so far; false: not even a tag. verb NULL: unknown, or not whole. */
bool imap_read_verb(struct imap_command *cmd);

/* ---- lines and literals (imap_gather.c) ---- */

enum step imap_line(struct imap_session *p, struct slice line);
enum step imap_data(struct imap_session *p, struct slice bytes, size_t *used_out);
struct imap_command *imap_command_begin(struct imap_session *p);
/* The command is over or given up: everything it holds goes. Harmless without one. */
void imap_command_free(struct imap_session *p);
/* Does the line end in a literal? "{12}", "{12+}", "~{12}". A size that no number holds is UINT64_MAX. */
struct imap_literal {
	uint64_t bytes;
	bool sync;    /* the client waits for "+" */
	bool binary;  /* literal8 */
	size_t begin; /* where it begins in the line */
};
bool imap_literal_at_end(struct slice line, struct imap_literal *literal_out);

/* ---- answers (imap_words.c) ---- */

enum imap_status { IMAP_S_OK, IMAP_S_NO, IMAP_S_BAD };
/* The end of a command. `code` without brackets, or NULL. */
enum step imap_end_with(struct imap_session *p, enum imap_status status, const char *code, const char *text);
static inline enum step imap_ok(struct imap_session *p, const char *text) { return imap_end_with(p, IMAP_S_OK, NULL, text); }
static inline enum step imap_ok_code(struct imap_session *p, const char *code, const char *text)
{
	return imap_end_with(p, IMAP_S_OK, code, text);
}
static inline enum step imap_no(struct imap_session *p, const char *code, const char *text)
{
	return imap_end_with(p, IMAP_S_NO, code, text);
}
/* BAD; too many in a row end the session. */
enum step imap_bad(struct imap_session *p, const char *text);
/* BAD with what the parser noted. */
enum step imap_bad_args(struct imap_session *p);
/* OK of a command that has expunged: with HIGHESTMODSEQ for who has enabled QRESYNC (imap_cmd_expunge.c). */
enum step imap_ok_expunged(struct imap_session *p, const char *text);
/* NO for an outcome of store or tenancy. */
enum step imap_fail(struct imap_session *p, enum err e);
/* Writes a string as the client can read it: quoted where that is allowed, else a literal. `nil`: NIL for a slice without pointer. */
void imap_put_string(struct imap_session *p, struct slice s);
void imap_put_mailbox(struct imap_session *p, struct slice name);
/* "(\Seen $Junk)" of a message. */
void imap_put_flags(struct imap_session *p, const struct message *m);
/* Writes ranges as a sequence set ("1:3,7"). `at` of the list, `count`. */
void imap_put_uids(struct imap_session *p, const uint32_t *uids, size_t count);

/* ---- updates (imap_update.c) ---- */

/* Tells what may be told, then the tagged line (cmd->last), then frees the command. */
enum step imap_update_and_end(struct imap_session *p);
/* In IDLE: the same without a tagged line. */
enum step imap_update_idle(struct imap_session *p);
void imap_update_release(struct imap_update *u);
/* Begins "* 5 FETCH (" or, with UIDONLY, "* 1234 UIDFETCH (". */
void imap_put_fetch(struct imap_session *p, uint32_t index, uint32_t uid);
/* " UID n" and " MODSEQ (n)" where they belong to every answer about flags, after FLAGS. */
void imap_put_flags_facts(struct imap_session *p, const struct message *m);

/* ---- IDLE (imap_cmd_idle.c) ---- */

enum step imap_idle_line(struct imap_session *p, struct slice line); /* the client's line that ends it */
enum step imap_idle_poked(struct imap_session *p);
void imap_idle_leave(struct imap_session *p); /* harmless otherwise */

/* ---- the way through (imap_session.c) ---- */

struct owner_place;
enum step imap_enter(struct imap_session *p);      /* on the account's shard, subject set */
void imap_verb_enter(void);                        /* names what is timed: a login that arrived at its shard, */
void imap_verb_held(void);                         /* one that the guard held back, from when it went on */
void imap_leave_folder(struct imap_session *p);    /* SELECTED -> AUTHENTICATED; harmless otherwise */
void imap_leave(struct imap_session *p);           /* gives back all */
/* imap_proxy.c: a login whose account is at another node. OK: it went on there, or was refused there, and this is what to return; ERR_AGAIN, ERR_TEMP as
 * carry_open. Later. */
enum err imap_proxy(struct imap_session *p, const struct owner_place *at, enum step *step_out);
bool imap_handed(struct session *s, struct subject *subject); /* a proto's `handed` */
/* Which SASL mechanisms are offered now: net/sasl.h's bits. */
unsigned imap_mechanisms(const struct imap_session *p);
/* "CAPABILITY IMAP4rev1 ..." for responses and codes. */
struct slice imap_capabilities(const struct imap_session *p, struct arena *arena);

/* ---- sets (imap_set.c) ---- */

struct imap_set {
	struct ranges ranges; /* of UIDs or message numbers */
	bool uid;
	size_t at;            /* cursor: range ... */
	uint32_t next;        /* ... and index of the view */
};
/* Reads a sequence set and judges it by the view; false: the parser has noted why. Released by imap_set_release. */
bool imap_set_read(struct imap_session *p, struct imap_set *set_out);
bool imap_set_read_as(struct imap_session *p, bool uid, struct imap_set *set_out); /* of UIDs or of message numbers */
/* The same with text that was taken before: for another view, or none. */
bool imap_set_judge(struct imap_session *p, struct slice text, bool uid, struct imap_set *set_out);
void imap_set_release(struct imap_set *set);
/* The next message of the set, ascending; false at the end. */
bool imap_set_next(const struct imap_session *p, struct imap_set *set, uint32_t *index_out);
/* All of them as UIDs (xmalloc), ascending; NULL when there is none. */
uint32_t *imap_set_uids(const struct imap_session *p, struct imap_set *set, size_t *count_out);
/* Of a set of UIDs keeps the messages from the `first` to the `last` (from 1), counted from its begin or its end (RFC 9394). May wait. */
void imap_set_keep(const struct imap_session *p, struct imap_set *set, uint32_t first, uint32_t last, bool from_end);

/* ---- flags (imap_flags.c) ---- */

struct imap_flags {
	uint32_t flags;
	struct slice *keywords;
	size_t keyword_count;
};
/* "(\Seen work)", or, if bare is allowed, without parentheses to the end. */
bool imap_flag_list(struct imap_session *p, bool bare, struct imap_flags *flags_out);
/* "FLAGS (...)" and PERMANENTFLAGS' content of the account. */
void imap_put_known_flags(struct imap_session *p, bool permanent);

/* The client has shown that it knows MODSEQs. */
void imap_condstore_on(struct imap_session *p);

/* ---- what vanished (imap_vanished.c) ---- */

struct imap_vanished {
	struct ranges ranges; /* ascending UIDs */
	size_t at;
	bool overflow;
};
/* Of `known` UIDs (NULL: all) those that were expunged after `modseq`; if that is forgotten, all of them that are not there. */
void imap_vanished_collect(struct imap_session *p, uint64_t modseq, const struct ranges *known, struct imap_vanished *v);
/* "* VANISHED (EARLIER) ..."; nothing if none did. False: output is full, call again. */
bool imap_vanished_tell(struct imap_session *p, struct imap_vanished *v);
void imap_vanished_release(struct imap_vanished *v);

/* ---- how far a long command is (imap_progress.c) ---- */

struct imap_progress {
	uint64_t due_ms;
	uint32_t goal, before; /* messages; of those `before` in mailboxes that were looked through before this one */
};
void imap_progress_begin(struct imap_progress *g, uint32_t goal);
/* `done` of the goal's messages have been looked at: tells it if it is time. Now. */
void imap_progress_at(struct imap_session *p, struct imap_progress *g, uint32_t done);

/* ---- commands that are called from elsewhere than the table ---- */
/* A literal of APPEND's message (and its kin) is not gathered. True: it was taken, and *step_out is what to do. */
bool imap_append_literal(struct imap_session *p, const struct imap_literal *literal, enum step *step_out);
#define IMAP_CMD(name) enum step imap_cmd_##name(struct imap_session *p)
IMAP_CMD(append);
IMAP_CMD(authenticate);
IMAP_CMD(capability);
IMAP_CMD(check);
IMAP_CMD(close);
IMAP_CMD(compress);
IMAP_CMD(copy);
IMAP_CMD(create);
IMAP_CMD(delete);
IMAP_CMD(enable);
IMAP_CMD(esearch);
IMAP_CMD(examine);
IMAP_CMD(expunge);
IMAP_CMD(fetch);
IMAP_CMD(getquota);
IMAP_CMD(getquotaroot);
IMAP_CMD(id);
IMAP_CMD(idle);
IMAP_CMD(list);
IMAP_CMD(login);
IMAP_CMD(logout);
IMAP_CMD(lsub);
IMAP_CMD(move);
IMAP_CMD(namespace);
IMAP_CMD(noop);
IMAP_CMD(rename);
IMAP_CMD(replace);
IMAP_CMD(search);
IMAP_CMD(select);
IMAP_CMD(setquota);
IMAP_CMD(sort);
IMAP_CMD(starttls);
IMAP_CMD(status);
IMAP_CMD(store);
IMAP_CMD(subscribe);
IMAP_CMD(thread);
IMAP_CMD(unauthenticate);
IMAP_CMD(unselect);
IMAP_CMD(unsubscribe);
#undef IMAP_CMD

#endif
