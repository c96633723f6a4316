/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.h - a link to Redis: one per shard and purpose, over our own ring.
 *
 * For whoever keeps something in Redis (net/fleet: leases, owners, locks; tenancy: a directory).  hiredis serves as the codec only; the
 * connection, its deadlines, its bytes and its buffers are ours, so nothing here blocks a shard (invariant 8).  What is asked in one
 * turn of the loop leaves in one write, and answers are matched by order.  A link belongs to the shard that opened it and is
 * used there only.
 *
 *     redis_ask    waits for the answer, on a fiber, at most until its deadline
 *     redis_tell   sends and forgets; what goes wrong is counted
 *     redis_run    a script, by EVALSHA; a server that does not know it gets its text
 *
 * What stands behind the address: one server; or a master that Sentinels name (asked anew at every connection, and the server must
 * itself say that it is the master); or a Redis Cluster (slots by CLUSTER SLOTS, MOVED and ASK are followed).  TCP, unix
 * sockets, and whatever a filter makes of the bytes: TLS lives on a higher floor, which lends it (struct redis_filter).
 *
 * What is promised.  A command is sent at most once to a server that may have executed it: after a lost connection or a passed deadline the
 * asker gets ERR_TEMP or ERR_TIMEOUT, and the command *may have been executed, or may be later*.  Commands of one link to one server
 * are executed in the order in which they were asked.  Each answer bears the server's run id: a connection leads to one process
 * for all its life, so the id read when it was made holds for every answer that came over it.
 * A connection to a server that stops being the master is broken off (at its first READONLY; Sentinel also cuts it).
 *
 * While a link is down asking fails at once (ERR_TEMP), so that nobody piles up; only the very first connection is waited for.  It comes
 * back by itself, after a pause that grows with the failures and is drawn at random, so that a fleet does not come back as one.
 *
 * Memory: a value belongs to its answer and is gone with redis_answer_release.  Bounds: REDIS_... in limits.h; a server that answers more than
 * they allow loses the connection.
 */
#ifndef PENFOLD_CORE_RUN_REDIS_H
#define PENFOLD_CORE_RUN_REDIS_H

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

struct redis;

/* ---- settings ---- */

/* What stands between the bytes of commands and the wire, one machine a connection: TLS.  All calls complete now, on the
 * link's shard. */
struct redis_filter {
	void *(*open)(void *arg, struct slice host); /* host: as the address names it, without the port; NULL: cannot be had */
	void (*close)(void *machine);
	/* Bytes came from the wire; first called with none. Puts what they say into plain, and what must go out into wire. */
	enum err (*from_wire)(void *machine, struct slice bytes, struct buf *plain, struct buf *wire);
	/* Only when ready. */
	enum err (*to_wire)(void *machine, struct slice plain, struct buf *wire);
	bool (*ready)(const void *machine);          /* its handshake is over */
	const char *(*failure)(const void *machine); /* why it failed, for the log */
	void *arg;
};

/* A script and the name that Redis gives it, the SHA-1 of its text. redis_script_init fills it, once, before shards run. */
struct redis_script {
	const char *text;
	char sha[41];
};
void redis_script_init(struct redis_script *script);

/* A password that may change while links are open. Any thread; now. */
struct redis_secret;
struct redis_secret *redis_secret_open(const char *text);
/* True: it is another one than before. */
bool redis_secret_set(struct redis_secret *secret, const char *text);
/* Good until redis_secret_close, whatever is set meanwhile. */
const char *redis_secret_now(const struct redis_secret *secret);
void redis_secret_close(struct redis_secret *secret); /* NULL is harmless */

struct redis_settings {
	/* "HOST:PORT", "[IPV6]:PORT", "unix:/PATH"; a HOST that is a name is looked up at each connection, on the offload pool.
	 * One; of a cluster some (the rest is learned). Unused with Sentinel. */
	const char *const *addresses;
	unsigned address_count;
	const char *user, *password; /* NULL: none. A password without a user is the default user's */
	const struct redis_secret *secret; /* if not NULL: instead of password, as it is when a connection is made */
	unsigned database;           /* SELECT; 0 with a cluster */
	const char *client_name;     /* CLIENT SETNAME, or NULL */
	bool cluster;
	struct {
		const char *master; /* its name there; NULL: no Sentinel */
		const char *const *addresses;
		unsigned address_count;
		const char *user, *password;
	} sentinel;
	const struct redis_filter *filter; /* NULL: bytes go as they are */
	const struct redis_script *const *scripts; /* made known to every server at the connection */
	unsigned script_count;
	uint32_t connect_ms_max, answer_ms_max; /* 0: REDIS_CONNECT_MS_MAX, REDIS_ANSWER_MS_MAX */
	/* A server is connected (again), and no command has gone there yet. Must not wait. May be NULL. */
	void (*connected)(void *arg, const char *run_id);
	void *arg;
};

/* Begins to connect; fails only on addresses that are none (ERR_CONFIG). The settings, and what they point at, must outlive the link. Now. */
enum err redis_open(const struct redis_settings *settings, struct redis **redis_out);
/* Ends the connections and waits for that; who still waits for an answer gets ERR_TEMP. Later. NULL is harmless. */
void redis_close(struct redis *redis);

/* ---- values ---- */

enum redis_kind { REDIS_NIL, REDIS_STATUS, REDIS_ERROR, REDIS_STRING, REDIS_INTEGER, REDIS_ARRAY };
struct redis_value {
	enum redis_kind kind;
	struct slice text; /* STATUS, ERROR, STRING; empty for the others */
	int64_t integer;
	const struct redis_value *items; /* ARRAY */
	size_t count;
};

struct redis_answer {
	struct redis_value value;
	char run_id[REDIS_RUN_ID_BYTES + 1]; /* of the server that gave it; empty: it would not say */
	struct arena memory;
};
/* Harmless on a zeroed one, and twice. Now. */
void redis_answer_release(struct redis_answer *answer);
/* Item of an array as text; empty if it is none, or not there. Now. */
struct slice redis_item_text(const struct redis_value *array, size_t index);

/* ---- commands ---- */

struct redis_command {
	const struct slice *args; /* { "HGET", "key", "field" } */
	size_t count;             /* at most REDIS_ARGS_MAX */
	size_t key;               /* which of them is the key that says where a cluster keeps it; 0: none, any server */
	uint32_t ms_max;          /* until the answer; 0: the settings' answer_ms_max */
};

/*
 * OK: answer_out->value is what the server said.  Otherwise nothing is in it but, for the server's own errors, that value (kind REDIS_ERROR):
 *   ERR_TEMP     no connection, it broke, or the server says that it cannot now (LOADING, CLUSTERDOWN, READONLY, OOM, ...)
 *   ERR_TIMEOUT  no answer in time
 *   ERR_BUSY     too much is under way on this link
 *   ERR_DENIED   the server does not let us (NOAUTH, WRONGPASS, NOPERM)
 *   ERR_SYNTAX   the server does not take the command (a key of another type, a script's error)
 * The answer must be released in any case.  Later.
 */
enum err redis_ask(struct redis *redis, const struct redis_command *command, struct redis_answer *answer_out);
/* Several, in this order and in one write; answers_out has a place for each, errs_out too. Returns the first that went wrong. Later. */
enum err redis_ask_all(struct redis *redis, const struct redis_command *commands, size_t count, struct redis_answer *answers_out,
		       enum err *errs_out);
/* Sends, and does not wait: ERR_TEMP and ERR_BUSY mean that it was not even sent. Now. */
enum err redis_tell(struct redis *redis, const struct redis_command *command);

/* As redis_ask and redis_tell; keys are keys[0 .. key_count), of which the first says where a cluster runs it. */
struct redis_run {
	const struct redis_script *script;
	const struct slice *keys, *args;
	size_t key_count, arg_count; /* together at most REDIS_ARGS_MAX - 3 */
	uint32_t ms_max;
};
enum err redis_run(struct redis *redis, const struct redis_run *run, struct redis_answer *answer_out);
enum err redis_run_tell(struct redis *redis, const struct redis_run *run);

/* ---- what is known of the servers ---- */

bool redis_is_cluster(const struct redis *redis); /* now */
/* Another link has found another master: this one's connection is broken off, and the address asked again. Not for a cluster, where MOVED tells.
 * Now. */
void redis_distrust(struct redis *redis);
/* Connected, as far as it knows. Now. */
bool redis_is_up(struct redis *redis);

/* The run id of the server that has this key (an empty key: the one server, or any) and is connected; false: none is. Now. */
bool redis_run_id(struct redis *redis, struct slice key, char run_id_out[REDIS_RUN_ID_BYTES + 1]);
/* Calls `each` for every connected server that keys are sent to. Now; `each` must not wait. */
void redis_each_server(struct redis *redis, void (*each)(void *arg, const char *run_id, struct slice sample_key_tag), void *arg);
/* The slot of a key in a Redis Cluster (CRC16 of the hash tag, or of the whole). Now. */
unsigned redis_slot(struct slice key);

#endif
