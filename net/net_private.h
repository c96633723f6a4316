/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_private.h - the inside of a session, for the files of this room.
 *
 *     listen.c    sockets, accepting, start and stop of a shard's share
 *     net_shard.c what the room keeps per shard: pools, the list of sessions, counters
 *     conn.c      a connection's operations and timer: receive, send, close as a join
 *     conn_proxy.c  the PROXY header before everything else; may a connection stay
 *     conn_tls.c  the filter that is TLS, and tls.c certificate.c certificates.c ticket.c behind it
 *     conn_zip.c  the one that is DEFLATE; both share the way out
 *     session.c   what a session does next: the step loop on its fiber, moves
 *     input.c frame.c reply.c send.c pool.c     bytes in, lines, bytes out, memory
 *
 * The life of a connection (enum conn_phase):
 *
 *                 STEP_MOVE            the send is done: posted to the other shard
 *            +------------> MOVING ----------------------------------+
 *            |                                                        |
 *   open --> LIVE <--------------------------------------------------+
 *            |  an end was decided, proto->closed has returned
 *            v
 *         FLUSHING --------------------> LINGERING      the last output leaves; then, if the client may still be
 *            |  all has left                 |           sending, what comes is thrown away so that no reset
 *            |  or nobody takes it           |           overtakes our last reply
 *            v                               v
 *         JOINING: shut down, cancel, wait for every completion, close, free (invariant 9)
 *
 * conn_settle() is the one place that looks at the state and starts what should be going on: it is called whenever a handler has
 * come to rest or an operation has ended.  At most one fiber works for a session (`running`); while it does, nobody else touches
 * input or state, except that operations which end note it, and ends are decided (`ended`) by timers and kills.
 *
 * TLS is a filter at two places: between recv_done and input_add, and between reply_gather and io_send (conn_tls.h).  A
 * session knows nothing of it, and the door neither.
 */
#ifndef PENFOLD_NET_NET_PRIVATE_H
#define PENFOLD_NET_NET_PRIVATE_H

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"
#include "net/conn_proxy.h"
#include "net/conn_tls.h"
#include "net/conn_zip.h"
#include "net/frame.h"
#include "net/input.h"
#include "net/listen.h"
#include "net/pool.h"
#include "net/send.h"
#include "net/session.h"
#include "tenancy/source.h"

/* ---- per shard ---- */

struct net_shard {
	unsigned index;
	struct list sessions;
	uint64_t next_number;
	bool stopping, handed_over;
	bool fiber_ended; /* see session_wake */
	struct list runnable; /* sessions for which there was no fiber */
	struct timer retry;
	struct waitq emptied; /* listeners_stop waits for the last session here */
	struct pool chunks, batches;
	struct pool tls_flights, tls_small, tls_bulk; /* conn_tls.c */
	struct zip_shard *zip; /* conn_zip.c; NULL until somebody wants it */
	struct input_pools input;
	struct pool session[NET_PROTOCOLS_MAX];
	unsigned session_pools;
	struct listener_share *shares; /* listen.c */
	struct net_stats *stats;       /* in net_process: changed by this shard only, read by anybody at any time */
};

struct net_stats_line {
	_Alignas(64) struct net_stats stats; /* no two shards write to one cache line */
};

/* What all shards share: written before they start, then read; counters are atomic. */
struct net_process {
	struct net_settings settings;
	struct listener *listeners;
	unsigned listeners_count;
	struct net_stats_line shard[SHARDS_MAX];
	uint32_t connections;                /* atomic: open on all shards */
	uint32_t moving;                     /* atomic: posted and not yet arrived */
	uint32_t stopping;                   /* atomic: no more moves */
	uint32_t compressed;                 /* atomic: connections with DEFLATE, or about to */
	uint32_t ready;                      /* atomic: shards that can take sessions */
	uint32_t handed_over;                /* atomic: the sockets are another process's */
	uint64_t class_seed;                 /* nobody can choose a network that shares a tenant's class */
};
extern struct net_process net_process;

#define STAT_ADD(sh, field, n) __atomic_store_n(&(sh)->stats->field, (sh)->stats->field + (n), __ATOMIC_RELAXED)

void net_shard_open(void);
void net_shard_close(void);
static inline struct net_shard *net_shard_here(void) { return shard_local(SHARD_SLOT_NET); }
struct pool *net_session_pool(struct net_shard *sh, size_t bytes);

/* ---- a connection ---- */

enum conn_phase { CONN_LIVE, CONN_MOVING, CONN_FLUSHING, CONN_LINGERING, CONN_JOINING };

/* What the step loop calls next. */
enum next_call { NEXT_OPEN, NEXT_LINE, NEXT_RESUME, NEXT_DATA, NEXT_MOVED };

/*
 * The connection lies before its session in one allocation, so neither needs a pointer to the other:
 *
 *     struct net_private | struct session, the rest of proto->session_bytes
 */
struct net_private {
	struct net_shard *shard;
	struct link link; /* in the shard's sessions */
	struct io_op recv, send;
	struct timer timer; /* one for all: idle, stall, watch, linger */
	union {
		struct link runnable; /* waits for a fiber */
		struct post post;     /* moves */
		uint64_t pause_until_ms;
	} queue;
	uint64_t active_ms;     /* last line or data, or last sign that output is being taken */
	struct io_piece *batch; /* of the send in flight */
	struct conn_filter *filter; /* NULL: bytes leave as they are */
	int fd;
	uint32_t idle_ms_max;
	union {
		uint32_t acknowledged; /* of the send in flight, by the client: at the last look, low bits */
		uint32_t linger_bytes; /* nothing is in flight then */
	};
	fair_class_t class;
	uint8_t move_to;
	uint8_t phase : 4, next : 4; /* with their neighbours they fill eight octets: a parked session must not grow */
	uint8_t end;
	bool into : 1;             /* the receive goes into the input's own buffer */
	bool ended : 1;            /* `end` is decided */
	bool aborted : 1;          /* no output any more */
	bool told : 1;             /* proto->closed has been called */
	bool running : 1;          /* a fiber works here, or is on its way */
	bool sending : 1;          /* a send is in flight; with TLS, also while it reads and seals */
	bool tls_next : 1;         /* TLS begins when the output has left */
	bool zip_next : 1;         /* likewise DEFLATE */
	bool eof : 1;              /* the peer has ended its sending */
	bool waits_for_output : 1; /* to drain by half */
	bool data_starved : 1;     /* proto->data took nothing of what there is */
	bool hot : 1;              /* the last receive was full: more is there */
	bool looked : 1;           /* acknowledged holds for this send */
	bool want_timeout : 1, want_stop : 1, want_poke : 1;
	bool paused : 1;           /* STEP_PAUSE */
	bool proxy_next : 1;       /* a PROXY header comes first: conn_proxy.c */
	bool proxy_tls : 1;        /* the client speaks TLS with a trusted proxy */
	bool waits : 1;            /* counted among those that have not logged in */
	bool becomes : 1;          /* STEP_BECOME: conn_successor */
	bool held : 1;             /* session_hold */
	bool shut_next : 1;        /* our sending ends when the output has left */
	bool withdrawn : 1;        /* want_stop for its account's sake */
	struct frame frame;
	uint32_t since_s; /* boot time of its birth; fills a hole */
	struct input input;
};
static_assert_c(SHARDS_MAX <= UINT8_MAX + 1, "move_to holds a shard");
static_assert_c(sizeof(struct net_private) % _Alignof(struct session) == 0, "the session follows at once");
static_assert_c(sizeof(struct net_private) <= 280, "with a POP3 session 768 octets, a size class of the allocator: 896 is the next");

/* NULL: none. */
static inline struct tls *conn_tls(const struct net_private *c) { return c->filter ? c->filter->tls : NULL; }
static inline bool conn_zips(const struct net_private *c) { return c->filter && c->filter->zip; }

static inline struct session *conn_session(struct net_private *c) { return (struct session *)(void *)(c + 1); }
static inline struct net_private *session_conn(struct session *s) { return (struct net_private *)(void *)s - 1; }

/* Of a session that becomes another: where the one that ends had its own, which it has left by then. */
static inline struct net_private **conn_successor(struct net_private *c) { return (struct net_private **)(void *)(conn_session(c) + 1); }

/* Opens a session on a connected socket and greets. From the loop, or from a fiber: then it greets later. NULL: it was refused. */
struct session *conn_open(const struct proto *proto, struct listener *listener, int fd);
/* Starts whatever the state asks for; frees the session at the end of its life, or sends it away. Not while running. */
void conn_settle(struct net_private *c);
fair_class_t conn_class_of(const struct session *s);
void conn_send(struct net_private *c);
/* The send in flight is over, with its result in c->send. */
void conn_send_over(struct net_private *c);
uint32_t conn_stall_look_ms(void);
/* Decides that the session ends. Does not wake it. */
void conn_end(struct net_private *c, enum session_end how, bool abort);
/* Ends it now: nothing more is sent. */
void conn_fail(struct net_private *c, enum session_end how);
/* Bytes came from the client. */
void conn_count_in(struct net_private *c, size_t bytes);
void conn_timer_at_most(struct net_private *c, uint32_t delay_ms);
void conn_arrived(struct post *p);
/* Room for a session of `proto`, zeroed. */
struct net_private *conn_room(struct net_shard *sh, const struct proto *proto);
void conn_room_give(struct net_private *c);

/* Runs the step loop on a fiber; from the loop at once. Not while running. */
void session_wake(struct net_private *c);
/* For a session that is parked: last words now. For one that runs: at its next line. */
void session_stop(struct net_private *c);
void session_retry(struct timer *t);

/* What the configuration says of a listener (listen.c). */
const struct tls_rules *listener_tls_rules(const struct listener *l);
enum listen_tls listener_tls(const struct listener *l);
bool listener_plaintext(const struct listener *l);
/* Stands for connections that we open to other nodes. */
struct listener *listener_of_peers(void);
enum listen_proxy listener_proxy(const struct listener *l);
/* Its PROXY header is to be believed. */
bool listener_trusts(const struct listener *l, const struct addr *proxy);

#endif
