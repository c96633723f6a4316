/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_private.h - the inside of the link to Redis, for this room only.
 *
 *     redis.c          the face: askers and their deadlines, where a command goes, what an error means
 *     redis_conn.c     one connection: its bytes, its queue of commands under way, how it breaks and comes back
 *     redis_open.c     how one begins: address, Sentinel, connect, filter, who we are, who the server is
 *     redis_cluster.c  slots: which server has which key
 *     redis_codec.c    replies as values in an arena; hiredis is known here and nowhere else
 */
#ifndef PENFOLD_CORE_RUN_REDIS_PRIVATE_H
#define PENFOLD_CORE_RUN_REDIS_PRIVATE_H

#include "core/base/addr.h"
#include "core/base/list.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/redis.h"
#include "core/run/shard_private.h"

/* ---- codec ---- */

struct redis_codec;
struct redis_codec *redis_codec_open(void);
void redis_codec_close(struct redis_codec *c);
/* Lends bytes, then call redis_codec_next until it gives false. False: that is no reply of Redis's, or it is too long. */
bool redis_codec_feed(struct redis_codec *c, struct slice bytes);
/* The next whole reply; its memory goes to `memory_out`, to be released there. *broken_out: the same as a false feed. */
bool redis_codec_next(struct redis_codec *c, struct redis_value *value_out, struct arena *memory_out, bool *broken_out);
/* A command in the protocol's form, added to out. False: no room. */
bool redis_codec_put(struct buf *out, const struct slice *args, size_t count);

/* ---- a command under way ---- */

/* On the asker's stack. */
struct redis_wait {
	struct fiber *fiber;
	struct redis_answer *answer;
	struct redis_request *request; /* NULL: over */
	enum err err;
};

struct redis_request {
	struct link link;
	struct redis_wait *wait; /* NULL: nobody waits, or not any more */
	uint64_t asked_ms;
};

/* ---- a connection ---- */

enum redis_conn_state {
	REDIS_DOWN,     /* nothing is there; `retry` may be set */
	REDIS_OPENING,  /* a fiber connects and introduces us */
	REDIS_UP,
	REDIS_BREAKING, /* what is with the kernel has not come back yet */
};

struct redis_conn {
	struct redis *redis;
	char at[REDIS_HOST_BYTES_MAX + 16]; /* address, text; empty: Sentinel names it */
	enum redis_conn_state state;
	bool tried;     /* an attempt has come to its end, well or not */
	bool opener;    /* the fiber is there ... */
	bool connecting; /* ... and has a connect with the kernel */
	bool gone;      /* of a cluster: no server of it any more, to be forgotten */
	bool sentinel;  /* a short-lived one to a Sentinel */
	int fd;
	struct io_op recv, send;
	void *machine; /* of the filter */
	struct redis_codec *codec;
	struct list sent;
	uint32_t sent_count;
	struct buf plain, wire, sending;
	struct deferred flush;
	struct timer retry, watch;
	uint64_t heard_ms;
	uint32_t failures;
	char why[96];       /* the last failure, told once */
	char run_id[REDIS_RUN_ID_BYTES + 1];
	struct waitq changed; /* the state is another, or the filter is ready */
};

struct redis {
	struct redis_settings settings;
	uint32_t connect_ms_max, answer_ms_max;
	bool closing;
	struct redis_conn *conns[REDIS_SERVERS_MAX];
	uint32_t conn_count;
	unsigned next_sentinel;
	struct redis_conn *sentinel_conn; /* being asked */
	/* of a cluster */
	uint8_t *slots; /* which connection; 255: not known */
	uint64_t refreshed_ms;
	bool refreshing;
};

void redis_conn_init(struct redis_conn *c, struct redis *r, struct slice at);
/* Nothing of it may be under way. */
void redis_conn_release(struct redis_conn *c);
/* Starts the fiber that connects; harmless when it is there already. */
void redis_conn_begin(struct redis_conn *c);
/* Queues a command: OK, or why not. `wait` may be NULL. Now. */
enum err redis_conn_put(struct redis_conn *c, const struct slice *args, size_t count, struct redis_wait *wait);
/* Waits; at the deadline the request is left to itself. */
enum err redis_conn_wait(struct redis_wait *wait, uint64_t deadline_ms);
/* For redis_open.c: puts and waits on a connection that is still opening. */
enum err redis_conn_ask(struct redis_conn *c, const struct slice *args, size_t count, uint64_t deadline_ms, struct redis_answer *answer_out);
void redis_conn_break(struct redis_conn *c, const char *why);
/* Something has come back from the kernel: a broken connection whose all has is closed. */
void redis_conn_settle(struct redis_conn *c);
static inline bool redis_conn_lives(const struct redis_conn *c) { return c->state == REDIS_UP || c->state == REDIS_OPENING; }
/* Nothing with the kernel, no fiber. */
bool redis_conn_at_rest(const struct redis_conn *c);
/* Has bytes to go out, or the filter may. */
void redis_conn_flush_soon(struct redis_conn *c);
/* The socket is connected: begins to receive. */
void redis_conn_listen(struct redis_conn *c);

/* The whole way to REDIS_UP, or a break. On a fiber. */
void redis_conn_open(struct redis_conn *c);

/* ---- cluster ---- */

/* NULL: not known, or full. */
struct redis_conn *redis_cluster_conn(struct redis *r, struct slice key);
/* "MOVED 3999 127.0.0.1:6381" or "ASK ...": the connection it names, or NULL. MOVED is remembered. */
struct redis_conn *redis_cluster_redirect(struct redis *r, struct slice error);
/* Asks a server for the slots, on a fiber of its own, if that was not done lately. */
void redis_cluster_refresh_soon(struct redis *r);
/* A connection to this address: an old one or a new one; NULL when there are too many. */
struct redis_conn *redis_conn_to(struct redis *r, struct slice at);

/* An address that can be one. */
bool redis_address_ok(struct slice text);

/* What the server's error asks of us. */
enum err redis_error_means(struct slice text);

#endif
