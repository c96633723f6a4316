/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_open.c - how a connection to Redis begins.
 *
 * On a fiber: find the address (as given, looked up, or asked of a Sentinel), connect, let the filter shake hands, say who we are, and
 * ask the server who it is.  One that is no master, where one is wanted, is left at once: a Sentinel's knowledge may be old, and a write to a
 * replica would be refused anyhow.  Scripts are loaded, so that EVALSHA finds them.  The run id is read last and holds for the
 * life of the connection.
 *
 * Each step has the rest of one deadline, connect_ms_max.  A command that an access list forbids us (CLIENT, ROLE, INFO) is no
 * reason to refuse the server; without INFO it has no run id, and who needs one will say so.
 */
#include "core/run/redis_private.h"

#include "core/base/log.h"
#include "core/run/socket.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- addresses ---- */

struct lookup {
	char host[REDIS_HOST_BYTES_MAX + 1], port[8];
	struct addr found;
};

static void look_up(void *arg)
{
	struct lookup *l = arg;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *list = NULL;
	if (getaddrinfo(l->host, l->port, &hints, &list) == 0 && list)
		l->found = addr_from(list->ai_addr, list->ai_addrlen);
	if (list)
		freeaddrinfo(list);
}

/* "HOST:PORT" apart; brackets of an IPv6 address go. */
static bool split(struct slice text, struct slice *host_out, struct slice *port_out)
{
	size_t colon = slice_rfind(text, ':');
	uint64_t port;
	if (colon == SIZE_MAX || colon == 0 || colon > REDIS_HOST_BYTES_MAX || !slice_u64(slice_from(text, colon + 1), 65535, &port) || !port)
		return false;
	*host_out = slice_upto(text, colon);
	*port_out = slice_from(text, colon + 1);
	if (host_out->ptr[0] == '[' && host_out->ptr[host_out->len - 1] == ']')
		*host_out = slice_of(host_out->ptr + 1, host_out->len - 2);
	return host_out->len > 0 && port_out->len < 6;
}

bool redis_address_ok(struct slice text)
{
	struct addr a;
	struct slice host, port;
	if (addr_parse(text, &a) == OK)
		return addr_is_unix(&a) || addr_port(&a) != 0;
	return split(text, &host, &port);
}

/* Later: names are looked up. */
static bool resolve(struct slice text, struct addr *out)
{
	struct slice host, port;
	if (addr_parse(text, out) == OK)
		return true;
	struct lookup *l = xcalloc(1, sizeof(*l));
	bool fine = split(text, &host, &port);
	if (fine) {
		memcpy(l->host, host.ptr, host.len);
		memcpy(l->port, port.ptr, port.len);
		fine = offload_call(look_up, l, REDIS_CONNECT_MS_MAX) == OK && l->found.len > 0;
		*out = l->found;
	}
	free(l);
	return fine;
}

/* ---- steps ---- */

struct opening {
	struct redis_conn *c;
	uint64_t deadline_ms;
	struct redis_answer answer;
};

static bool connect_to(struct opening *o)
{
	struct redis_conn *c = o->c;
	struct addr a;
	struct io_op op;
	if (!resolve(slice_str(c->at), &a)) {
		redis_conn_break(c, "its name is not known");
		return false;
	}
	if (!redis_conn_lives(c))
		return false; /* closed meanwhile */
	c->fd = socket_stream(&a);
	if (c->fd < 0) {
		redis_conn_break(c, "no descriptor for a connection");
		return false;
	}
	io_await_prepare(&op);
	c->connecting = true;
	io_connect(&op, c->fd, &a.u.sa, a.len);
	int64_t r = io_await(&op, o->deadline_ms);
	c->connecting = false;
	if (redis_conn_lives(c) && r < 0)
		redis_conn_break(c, r == -ETIME ? "no connection in time" : strerrordesc_np((int)-r) ? strerrordesc_np((int)-r) : "no connection");
	redis_conn_settle(c);
	return redis_conn_lives(c);
}

static bool shake_hands(struct opening *o)
{
	struct redis_conn *c = o->c;
	const struct redis_filter *f = c->redis->settings.filter;
	struct slice host = slice_str(c->at), port;
	struct buf nothing;
	if (!f) {
		redis_conn_listen(c);
		return true;
	}
	(void)split(slice_str(c->at), &host, &port);
	c->machine = f->open(f->arg, host);
	if (!c->machine) {
		redis_conn_break(c, "TLS could not begin");
		return false;
	}
	buf_init(&nothing, 1);
	enum err e = f->from_wire(c->machine, slice_of(NULL, 0), &nothing, &c->wire);
	buf_release(&nothing);
	redis_conn_listen(c);
	redis_conn_flush_soon(c);
	while (e == OK && redis_conn_lives(c) && !f->ready(c->machine))
		e = waitq_wait(&c->changed, o->deadline_ms);
	if (e != OK && redis_conn_lives(c))
		redis_conn_break(c, e == ERR_TIMEOUT ? "no TLS handshake in time" : f->failure(c->machine));
	return redis_conn_lives(c);
}

/* One command of the introduction; its answer stays in o->answer until the next. */
static enum err say(struct opening *o, const struct slice *args, size_t count)
{
	redis_answer_release(&o->answer);
	return redis_conn_ask(o->c, args, count, o->deadline_ms, &o->answer);
}

static bool refused(struct opening *o, const char *what)
{
	if (redis_conn_lives(o->c))
		redis_conn_break(o->c, what);
	return false;
}

static bool introduce(struct opening *o)
{
	const struct redis_settings *s = &o->c->redis->settings;
	const char *user = o->c->sentinel ? s->sentinel.user : s->user, *password = o->c->sentinel ? s->sentinel.password : s->password;
	if (!o->c->sentinel && s->secret)
		password = redis_secret_now(s->secret);
	if (password) {
		const struct slice auth[] = { SLICE_LIT("AUTH"), slice_str(user), slice_str(password) };
		const struct slice plain[] = { SLICE_LIT("AUTH"), slice_str(password) };
		if (say(o, user ? auth : plain, user ? 3 : 2) != OK)
			return refused(o, "the server does not take our user and password");
	}
	if (o->c->sentinel)
		return true;
	if (s->client_name) {
		const struct slice name[] = { SLICE_LIT("CLIENT"), SLICE_LIT("SETNAME"), slice_str(s->client_name) };
		(void)say(o, name, 3);
	}
	if (s->database) {
		char number[24];
		number[put_u64(number, s->database)] = 0;
		const struct slice select[] = { SLICE_LIT("SELECT"), slice_str(number) };
		if (say(o, select, 2) != OK)
			return refused(o, "the server has no such database");
	}
	return true;
}

static bool is_master(struct opening *o)
{
	const struct slice role[] = { SLICE_LIT("ROLE") };
	enum err e = say(o, role, 1);
	if (e == ERR_DENIED || e == ERR_SYNTAX)
		return true;
	if (e != OK)
		return refused(o, "the server does not answer yet");
	if (!slice_eq(redis_item_text(&o->answer.value, 0), SLICE_LIT("master")))
		return refused(o, "the server is no master");
	return true;
}

static bool load_scripts(struct opening *o)
{
	const struct redis_settings *s = &o->c->redis->settings;
	for (unsigned i = 0; i < s->script_count; i++) {
		const struct slice load[] = { SLICE_LIT("SCRIPT"), SLICE_LIT("LOAD"), slice_str(s->scripts[i]->text) };
		enum err e = say(o, load, 3);
		if (e == ERR_SYNTAX) {
			log_event(LOG_ERROR, "redis.script", LOG_Z("server", o->c->at), LOG_STR("says", o->answer.value.text));
			return refused(o, "the server does not take our scripts");
		}
		if (e != OK && e != ERR_DENIED) /* an access list may leave us EVAL only */
			return refused(o, "the server does not answer yet");
	}
	return true;
}

/* "run_id:0123..." of INFO. */
static bool learn_run_id(struct opening *o)
{
	const struct slice info[] = { SLICE_LIT("INFO"), SLICE_LIT("server") };
	enum err e = say(o, info, 2);
	struct slice rest = o->answer.value.text, line;
	if (e == ERR_DENIED || e == ERR_SYNTAX)
		return true;
	if (e != OK)
		return refused(o, "the server does not answer yet");
	while (slice_next(&rest, '\n', &line)) {
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (slice_starts_nocase(line, SLICE_LIT("run_id:")) && line.len == 7 + REDIS_RUN_ID_BYTES)
			memcpy(o->c->run_id, line.ptr + 7, REDIS_RUN_ID_BYTES);
	}
	return true;
}

/* ---- Sentinel ---- */

static enum err ask_sentinel(struct redis_conn *c, uint64_t deadline_ms, struct redis_answer *answer_out)
{
	struct redis *r = c->redis;
	const struct slice ask[] = { SLICE_LIT("SENTINEL"), SLICE_LIT("get-master-addr-by-name"), slice_str(r->settings.sentinel.master) };
	redis_conn_open(c);
	return c->state == REDIS_UP ? redis_conn_ask(c, ask, 3, deadline_ms, answer_out) : ERR_TEMP;
}

/* The master's address to c->at, from the first Sentinel that knows; a Sentinel that does not answer is asked last next time. */
static bool find_master(struct opening *o)
{
	struct redis *r = o->c->redis;
	unsigned count = r->settings.sentinel.address_count;
	bool found = false;
	for (unsigned i = 0; i < count && !found && redis_conn_lives(o->c); i++) {
		struct redis_answer answer = { .value = { .kind = REDIS_NIL } };
		struct redis_conn *c = xcalloc(1, sizeof(*c));
		redis_conn_init(c, r, slice_str(r->settings.sentinel.addresses[r->next_sentinel % count]));
		c->sentinel = true;
		r->sentinel_conn = c;
		enum err e = ask_sentinel(c, clock_now_ms() + r->connect_ms_max, &answer);
		struct slice host = redis_item_text(&answer.value, 0), port = redis_item_text(&answer.value, 1);
		found = e == OK && host.len && port.len && host.len <= REDIS_HOST_BYTES_MAX && port.len < 6;
		if (found)
			snprintf(o->c->at, sizeof(o->c->at), slice_find(host, ':') == SIZE_MAX ? "%.*s:%.*s" : "[%.*s]:%.*s", SLICE_ARG(host), SLICE_ARG(port));
		else
			r->next_sentinel++;
		redis_answer_release(&answer);
		redis_conn_break(c, "done");
		while (c->state != REDIS_DOWN)
			(void)waitq_wait(&c->changed, 0);
		r->sentinel_conn = NULL;
		redis_conn_release(c);
		free(c);
	}
	if (!found)
		return refused(o, "no Sentinel names a master");
	o->deadline_ms = clock_now_ms() + r->connect_ms_max;
	return true;
}

/* ---- all of it ---- */

static bool begin(struct opening *o)
{
	const struct redis_settings *s = &o->c->redis->settings;
	if (s->sentinel.master && !o->c->sentinel && !find_master(o))
		return false;
	if (!connect_to(o) || !shake_hands(o) || !introduce(o))
		return false;
	return o->c->sentinel || ((s->cluster || is_master(o)) && load_scripts(o) && learn_run_id(o));
}

void redis_conn_open(struct redis_conn *c)
{
	struct opening o = { .c = c, .deadline_ms = clock_now_ms() + c->redis->connect_ms_max };
	c->state = REDIS_OPENING;
	bool fine = begin(&o) && redis_conn_lives(c); /* it may break behind the last answer */
	redis_answer_release(&o.answer);
	if (!fine)
		return;
	c->state = REDIS_UP;
	c->tried = true;
	if (!c->sentinel) {
		c->failures = 0;
		c->why[0] = 0;
		log_event(LOG_INFO, "redis.up", LOG_Z("server", c->at), LOG_Z("run_id", c->run_id));
		if (c->redis->settings.connected)
			c->redis->settings.connected(c->redis->settings.arg, c->run_id);
	}
	waitq_wake_all(&c->changed);
}
