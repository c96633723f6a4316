/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - what all protocols share: a connection, its input, its output, its clock, and the step loop.
 *
 * For net/pop3, net/lmtp, net/imap.  A protocol is a `struct proto`; its session begins with a `struct session` and is
 * one allocation that includes the connection: a parked session costs its struct, under 1 KiB in all.
 *
 * Input is cut into lines by frame.h (CRLF; a bare LF is given as part of the line, unless the protocol says lf_ends_line).  Each complete line is handed to
 * proto->line on a fiber; while it runs no further line is handed out, so handlers read top to bottom and may wait for
 * the store.  They never wait for the client: output goes to the reply chain (reply.h) and is sent by the loop.  What a
 * handler returns says what happens next:
 *
 *   STEP_NEXT    done; the next line, if there is room in the output
 *   STEP_RESUME  output is full and a cursor was saved: the stack is given back and proto->resume is called (on a fiber)
 *                when half has drained
 *   STEP_DATA    bytes now go to proto->data, raw, until it returns something else
 *   STEP_MOVE    the session belongs to another shard (session_move_to said which): it moves, with nothing armed and nothing
 *                in flight; output that no send has begun with travels along; proto->moved is called there on a fiber and
 *                answers.  If the server is stopping, the session ends instead (END_STOP)
 *   STEP_TLS     session_tls_offered() said yes: input that has come is forgotten (invariant 10), what is in the output leaves in the
 *                clear, then the handshake begins; the next line is the client's first behind it
 *   STEP_COMPRESS  session_compress() said OK: what is in the output leaves as it is, then all bytes of both sides are DEFLATE, those
 *                included that have come already behind the line that was worked on
 *   STEP_PAUSE   session_pause said for how long: the stack is given back, what was said before leaves, nothing is read; then proto->resume
 *                is called on a fiber.  A client that goes away meanwhile is noticed after that
 *   STEP_BECOME  another protocol goes on with the connection: session_succeed() made its session.  What is in flight ends first; output and
 *                unread input pass over, and the successor's proto->moved is called, on the shard that session_move_to named.  The
 *                one that ends here has given back all that it had: its closed() is not called
 *   STEP_CLOSE   send what is there, then close
 *   STEP_ABORT   close at once
 *
 * Replies of a burst are gathered: nothing is sent while lines that have arrived are being worked on, up to SEND_EAGER_BYTES.
 *
 * Whatever ends a session, proto->closed is called exactly once, on the shard where the session lives, on a fiber, when no
 * handler is running.  A handler that runs when the end is decided sees session_dying() after its next wait.  After STEP_CLOSE closed()
 * comes *before* the last output leaves, so that who reconnects on seeing the reply finds nothing held any more; what
 * closed() itself adds to the output is sent.  The session is freed, with its arenas, when the last output has left.
 *
 * While no handler runs, a client that goes away is noticed at once; while one waits, within a second if the connection was
 * reset, and not at all if it was only closed: a client may end its sending and still want its replies, and gets them.
 *
 * Invariants upheld here: 7 (line and output bounds), 9 (close is a join), 10 (STEP_TLS).
 */
#ifndef PENFOLD_NET_SESSION_H
#define PENFOLD_NET_SESSION_H

#include "core/base/addr.h"
#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/base/fair.h"
#include "core/base/list.h"
#include "core/run/clock.h"
#include "net/reply.h"
#include "tenancy/limit.h"

struct session;
struct listener;
struct subject;

enum step { STEP_NEXT, STEP_RESUME, STEP_DATA, STEP_MOVE, STEP_TLS, STEP_COMPRESS, STEP_PAUSE, STEP_BECOME, STEP_CLOSE, STEP_ABORT };

enum session_end {
	END_CLIENT,   /* the peer closed or reset */
	END_IDLE,     /* the idle time passed; proto->timeout may have said something */
	END_STALLED,  /* the peer took no output for too long */
	END_STOP,     /* the server stops */
	END_PROTOCOL, /* STEP_CLOSE or STEP_ABORT */
	END_IO        /* a reply could not be completed */
};

/* What a protocol says of one of its sessions when asked (roster.h). Slices are its own, good until it next runs. */
struct session_facts {
	uint64_t account_id, tenant_id; /* 0: not logged in */
	uint64_t credential_version;    /* of the login */
	struct slice login, tenant;     /* canonical name of the account; name of the tenant */
	const char *state;              /* a static word: "authorization" */
	bool unfinished;                /* an end now would cost work: a message half taken, deletions that are not made yet */
};

struct proto {
	const char *name;          /* "pop3" */
	size_t session_bytes;      /* of the struct that begins with struct session */
	size_t line_bytes_max;     /* without its end; a longer line is swallowed to its end and told by too_long */
	/* A line that is longer than that so far: what this one may have, from its first line_bytes_max bytes and one more (or more of them);
	 * the same each time until it has ended. Or NULL: no more. Now. */
	size_t (*long_line_bytes_max)(struct session *s, struct slice begun);
	bool lf_ends_line;         /* a bare LF ends a line too: only where that cannot make one command out of another's text */
	uint32_t idle_ms_max;      /* before and, unless session_set_idle changes it, after login */
	const char *alpn;          /* its name in ALPN (RFC 7301), or NULL */
	bool logs_in;              /* its clients are to log in (session_entered): until then they are bounded apart */
	/* The line for a connection that may not stay, with its end, at most NET_REFUSAL_BYTES_MAX; returns its length. NULL: nobody is limited. */
	size_t (*refused)(enum limit limit, char *out);

	enum step (*open)(struct session *s);                       /* connected: greet. All of these run on a fiber. */
	enum step (*line)(struct session *s, struct slice line);    /* without CRLF; valid until return */
	enum step (*too_long)(struct session *s);
	enum step (*resume)(struct session *s);
	/* Raw bytes, cut anywhere; *used_out tells how many were taken (the rest is given again, or as lines after STEP_NEXT). */
	enum step (*data)(struct session *s, struct slice bytes, size_t *used_out);
	enum step (*moved)(struct session *s);
	/* session_poke was called: told once, between lines, when nothing runs and output has room; or NULL */
	enum step (*poked)(struct session *s);
	enum step (*timeout)(struct session *s);                    /* idle: last words, then it is closed whatever is returned; or NULL */
	enum step (*stop)(struct session *s);                       /* the server stops: likewise; between commands, or within data */
	enum step (*garbled)(struct session *s);                    /* what the client sends is not the DEFLATE that was agreed: likewise */
	void (*closed)(struct session *s, enum session_end how);
	/* A session that another node hands over (net/peer/peer.h), authenticated there: fills the zeroed session; `subject` is the account's, one
	 * reference is given away, or NULL. Now. Its `moved` begins. NULL: none are taken. */
	bool (*handed)(struct session *s, struct subject *subject);
	/* Output has drained to half or less; from the loop, now. Or NULL. */
	void (*drained)(struct session *s);
	/* The client has ended its sending and all it sent was taken: true if the session goes on. Or NULL: it ends. */
	bool (*half_closed)(struct session *s);
	/* Between handlers or while one waits, on the session's shard; now. NULL: these sessions are not in the roster. */
	void (*describe)(const struct session *s, struct session_facts *facts_out);
};

struct session {
	const struct proto *proto;
	struct listener *listener;
	uint64_t id;               /* for the log: unique in this process */
	struct reply reply;        /* output */
	struct arena arena;        /* lives with the session; empty while unused; at most NET_SESSION_ARENA_BYTES_MAX */
	struct arena command;      /* reset before each line; at most NET_COMMAND_ARENA_BYTES_MAX */
	char peer[48];             /* address and port of the client, text: the longest IPv6 form just fits */
	bool peer_is_local;        /* loopback or unix socket */
	uint32_t received_bytes;   /* over its life; stays at UINT32_MAX */
	uint32_t source;           /* tenancy/source.h: where it is counted; 0: nowhere */
};

/* A session of `proto` on a connected socket of our own, as the client of another node: with TLS where fleet peers speak TLS. proto->open runs later, on
 * a fiber of its own, so the caller, who is on a fiber, can fill the session first. Now. */
struct session *session_dial(const struct proto *proto, int fd);
/* For STEP_BECOME: the session that goes on, zeroed but for its proto; it stands where it will stay. session_move_to is to be called. */
struct session *session_succeed(struct session *s, const struct proto *proto);
/* data() took nothing for want of room elsewhere: nothing more is received, and an end of the input waits, until session_go_on. */
void session_hold(struct session *s);
void session_go_on(struct session *s);
/* What was put into the output by somebody else than the session's handler is sent. Harmless while one runs. Not from within it. */
void session_push(struct session *s);
/* Sends what is there, then ends, from outside. */
void session_finish(struct session *s);
/* Nothing more will be put into the output: the other side is told when it has left. */
void session_end_sending(struct session *s);
/* The session is another's, who came to another node: his address from now on (len 0: as it is), and whether he speaks TLS there. */
void session_stands_for(struct session *s, const struct addr *client, bool tls);
/* The TLS that is the client's: here, or with a trusted proxy before us. */
bool session_client_tls(const struct session *s);

/* Milliseconds without a whole line (or, after STEP_DATA, without a byte) after which the session ends. */
void session_set_idle(struct session *s, uint32_t idle_ms_max);
/* Whose work this session is from now on (core/base/fair.h); a new session's class is that of the network it comes from, /24 or /64. On the
 * session's fiber. */
void session_set_class(struct session *s, fair_class_t whose);
void session_class_of_peer(struct session *s);
/* For STEP_MOVE. */
void session_move_to(struct session *s, unsigned shard);
/* For STEP_PAUSE. */
void session_pause(struct session *s, uint32_t delay_ms);
/* The client has logged in: no longer bounded among strangers. Once. */
void session_entered(struct session *s);
/* For proto->stop: not the server stops, but this account may not be here any more (suspended, removed, protocol off, password changed). */
bool session_withdrawn(const struct session *s);
/* The connection is going away: a handler should give up between commits. */
bool session_dying(const struct session *s);
/* Looks whether the client is still there, without taking bytes. Now. False if the connection was reset or has timed out, if the
 * client has left several retransmissions unanswered, or if it has ended its sending. */
bool session_peer_alive(struct session *s);
/* Something that the session may want to tell has happened: proto->poked is called soon, on a fiber, once for many pokes.  From the
 * session's shard, at any time from open to closed; never waits. Now. */
void session_poke(struct session *s);
/* What a handler has said so far leaves now, though it goes on working: for a long command that has something to tell meanwhile. */
void session_send_now(struct session *s);
/* Ends a session from its own shard. */
void session_kill(struct session *s, enum session_end how);
/* Invariant 10: forgets input that has been received and not yet executed; returns how many bytes. */
size_t session_drop_input(struct session *s);
/* TLS may begin now by STEP_TLS: to be announced and taken. */
bool session_tls_offered(const struct session *s);
/* For STEP_COMPRESS, which must follow. ERR_EXISTS: it is on; ERR_LIMIT: too many connections have it. Now. */
enum err session_compress(struct session *s);
bool session_compresses(const struct session *s);
/* "TLSv1.3"; "proxy": between the client and a trusted proxy; NULL: no TLS. */
const char *session_tls_version(const struct session *s);
/* The tls-exporter channel binding (RFC 9266) of a TLS 1.3 connection; false: there is none. Now. */
bool session_tls_exporter(const struct session *s, uint8_t out[32]);
/* tls-server-end-point and tls-unique (RFC 5929): their lengths, 0 where there is none. Now. */
size_t session_tls_end_point(const struct session *s, uint8_t out[TLS_END_POINT_BYTES_MAX]);
size_t session_tls_unique(const struct session *s, uint8_t out[TLS_UNIQUE_BYTES_MAX]);
/* The name in the client's certificate; empty: none. Lives as long as the session. */
struct slice session_tls_client_name(const struct session *s);
/* The name that the client gave us (RFC 6066); empty: none, or no TLS. */
struct slice session_tls_server_name(const struct session *s);
/* A password may be asked for: there is TLS (here, or at a trusted proxy that says so), or the client is on this machine, or the listener says plaintext. */
bool session_login_allowed(const struct session *s);
/* The user at the other end of a unix socket; false if it is none. */
bool session_peer_user(const struct session *s, uint32_t *uid_out);
/* Where nodes speak mutual TLS: the other end's certificate names this node, or this address of it (len 0: none). True without TLS, where the fleet's key
 * is the proof. From proto->open on; now. */
bool session_peer_is_node(const struct session *s, struct slice node, const struct addr *address);
/* The client's address without its port. */
struct slice session_peer_address(const struct session *s);

#endif
