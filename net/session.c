/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - the step loop: what a session does next, on a fiber.
 *
 * A session is woken when something came that may let it go on: input, room in the output, a time, a kill.  Its fiber then calls handlers
 * one after another until there is nothing to do without the client, and gives its stack back.  Everything in a burst
 * runs on one fiber, and its output leaves as one send when the fiber ends (conn_settle).
 *
 * With no stack and no place in the queue of fibers a session waits in the shard's list `runnable`, which costs nothing;
 * whichever session's fiber ends next goes on with it.
 */
#include "net/net_private.h"
#include "core/base/log.h"
#include "core/run/socket.h"
#include "net/verb.h"

/* ---- one step ---- */

/* Applies what a handler returned; false when the loop must stop here. */
static bool apply(struct net_private *c, enum step step)
{
	c->next = NEXT_LINE;
	switch (step) {
	case STEP_NEXT:
		return true;
	case STEP_RESUME:
		c->next = NEXT_RESUME;
		c->waits_for_output = true;
		return true;
	case STEP_DATA:
		c->next = NEXT_DATA;
		return true;
	case STEP_MOVE:
		ASSERT(c->move_to < shard_count());
		c->next = NEXT_MOVED;
		if (c->move_to == c->shard->index)
			return true;
		ASSERT(!c->recv.pending);
		c->phase = CONN_MOVING;
		return false;
	case STEP_TLS:
		ASSERT(!c->recv.pending && !c->filter && listener_tls(conn_session(c)->listener) == LISTEN_TLS_STARTTLS);
		session_drop_input(conn_session(c)); /* invariant 10: what came with the command came in the clear */
		c->tls_next = true;
		return false;
	case STEP_COMPRESS:
		ASSERT(!c->recv.pending && c->zip_next);
		return false;
	case STEP_PAUSE:
		c->next = NEXT_RESUME;
		c->paused = true;
		return c->want_stop; /* then not even that */
	case STEP_BECOME:
		ASSERT(c->move_to < shard_count() && c->becomes && !c->recv.pending);
		c->next = NEXT_MOVED;
		c->phase = CONN_MOVING;
		return false;
	case STEP_CLOSE:
	case STEP_ABORT:
		conn_end(c, END_PROTOCOL, step == STEP_ABORT);
		return false;
	}
	UNREACHABLE();
}

/* Last words: whatever the handler returns, the session ends. */
static bool last_words(struct net_private *c, enum step (*say)(struct session *s), enum session_end how)
{
	enum step step = say ? say(conn_session(c)) : STEP_CLOSE;
	conn_end(c, how, step == STEP_ABORT);
	return false;
}

static bool starved(struct net_private *c)
{
	const struct proto *proto = conn_session(c)->proto;
	if (UNLIKELY(conn_zips(c)) && !c->held && !(c->data_starved && input_len(&c->input))) {
		if (conn_zip_more(c))
			return true;
		if (conn_zip_broken(c))
			return last_words(c, proto->garbled, END_PROTOCOL);
	}
	if (c->eof && !c->held && (!proto->half_closed || !proto->half_closed(conn_session(c))))
		conn_end(c, END_CLIENT, false); /* what was asked before is still answered */
	return false;
}

static enum step take_line(struct session *s, struct slice line)
{
	struct verb_run run;
	verb_begin(&run);
	enum step step = s->proto->line(s, line);
	verb_end(&run, s);
	return step;
}

/* Of resume and moved. */
static enum step go_on(struct session *s, enum step (*how)(struct session *s))
{
	struct verb_run run;
	verb_begin(&run);
	enum step step = how(s);
	verb_end(&run, s);
	return step;
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out)
{
	struct verb_run run;
	verb_begin(&run);
	enum step step = s->proto->data(s, bytes, used_out);
	verb_end(&run, s);
	return step;
}

static bool step_line(struct net_private *c)
{
	struct session *s = conn_session(c);
	struct frame_rules rules = { s->proto->line_bytes_max, s->proto->lf_ends_line };
	if (reply_full(&s->reply)) {
		c->waits_for_output = true;
		return true;
	}
	struct slice line, unread = input_unread(&c->input);
	size_t used;
	if (unread.len > rules.line_bytes_max && s->proto->long_line_bytes_max && !c->frame.swallowed)
		rules.line_bytes_max = s->proto->long_line_bytes_max(s, unread);
	enum frame_found found = frame_next(&c->frame, &rules, unread, &line, &used);
	input_use(&c->input, used);
	if (found == FRAME_MORE)
		return starved(c);
	if (!c->sending)
		c->active_ms = clock_now_ms();
	STAT_ADD(c->shard, lines, 1);
	arena_reset(&s->command);
	if (found == FRAME_LINE)
		return apply(c, take_line(s, line));
	if (found == FRAME_ENDLESS)
		return last_words(c, s->proto->too_long, END_PROTOCOL);
	return apply(c, s->proto->too_long(s));
}

static bool step_data(struct net_private *c)
{
	struct session *s = conn_session(c);
	struct slice bytes = input_unread(&c->input);
	if (!bytes.len || c->data_starved)
		return starved(c);
	size_t used = 0;
	enum step step = take_data(s, bytes, &used);
	ASSERT(used <= bytes.len);
	input_use(&c->input, used);
	c->data_starved = used == 0;
	c->hot |= step == STEP_CLOSE; /* broken off in the midst of what the client sends: see should_linger */
	return apply(c, step);
}

/* Calls one handler; false when there is nothing to do now. */
static bool step_once(struct net_private *c)
{
	struct session *s = conn_session(c);
	bool between = c->next == NEXT_LINE || c->next == NEXT_DATA || c->paused;
	if (c->want_stop && between)
		return last_words(c, s->proto->stop, END_STOP);
	if (c->want_timeout && between)
		return last_words(c, s->proto->timeout, END_IDLE);
	if (c->paused)
		return false;
	if (c->waits_for_output && !reply_half_drained(&s->reply))
		return false;
	c->waits_for_output = false;
	if (c->want_poke && c->next == NEXT_LINE && !reply_full(&s->reply)) {
		c->want_poke = false;
		return apply(c, s->proto->poked(s));
	}
	switch ((enum next_call)c->next) {
	case NEXT_OPEN:
		return apply(c, s->proto->open(s));
	case NEXT_LINE:
		return step_line(c);
	case NEXT_RESUME:
		return apply(c, go_on(s, s->proto->resume));
	case NEXT_DATA:
		return step_data(c);
	case NEXT_MOVED:
		return apply(c, go_on(s, s->proto->moved));
	}
	UNREACHABLE();
}

/* ---- the loop ---- */

static bool overrun(struct net_private *c)
{
	if (!conn_session(c)->reply.overrun)
		return false;
	log_event(LOG_ERROR, "net.reply_overrun", LOG_U64("session", conn_session(c)->id), LOG_Z("protocol", conn_session(c)->proto->name));
	conn_end(c, END_IO, true);
	return true;
}

static void work(struct net_private *c)
{
	struct session *s = conn_session(c);
	unsigned steps = 0;
	bool ready = !c->proxy_next && !c->zip_next && (!conn_tls(c) || conn_tls_ready(c));
	while (ready && !c->ended && step_once(c) && !overrun(c)) {
		if (s->reply.queued_bytes >= SEND_EAGER_BYTES)
			conn_send(c);
		if (++steps % 8 == 0)
			fiber_breathe(); /* invariant 8: a burst is no reason to hold the shard */
	}
	if (c->ended && !c->told) {
		c->told = true;
		if (c->becomes) { /* it ends on the way: it has nothing any more, its successor has */
			struct net_private *n = *conn_successor(c);
			conn_session(n)->proto->closed(conn_session(n), (enum session_end)c->end);
			c->becomes = false;
			conn_room_give(n);
		} else if (c->next != NEXT_OPEN || conn_session(c)->listener == listener_of_peers()) { /* else it never began: a handshake that failed */
			s->proto->closed(s, (enum session_end)c->end);
		}
	}
}

/* A handler may wait for long: the timer looks after its client. */
static void session_waits(struct net_private *c) { conn_timer_at_most(c, NET_WATCH_MS); }

static struct net_private *next_runnable(struct net_shard *sh)
{
	struct link *l = list_pop_front(&sh->runnable);
	return l ? CONTAINER_OF(l, struct net_private, queue.runnable) : NULL;
}

static void session_fiber(void *arg)
{
	struct net_private *c = arg;
	struct net_shard *sh = c->shard;
	while (c) {
		fiber_set_class(c->class);
		work(c);
		c->running = false;
		conn_settle(c); /* c may be gone now, or on another shard */
		sh->fiber_ended = true;
		c = next_runnable(sh);
		if (c) {
			session_waits(c);
			fiber_breathe();
		}
	}
}

/* `running` is set: gets a fiber, now or later. */
static void find_fiber(struct net_private *c)
{
	struct net_shard *sh = c->shard;
	sh->fiber_ended = false;
	if (fiber_run_for(c->class, conn_session(c)->proto->name, session_fiber, c) != OK) {
		list_push_back(&sh->runnable, &c->queue.runnable);
		if (!timer_is_set(&sh->retry))
			timer_set(&sh->retry, NET_RETRY_MS);
		return;
	}
	/* Nothing else has run meanwhile, so if no session's fiber has ended, this one waits or has not begun: c is alive. */
	if (!sh->fiber_ended)
		session_waits(c);
}

void session_wake(struct net_private *c)
{
	ASSERT(!c->running);
	c->running = true;
	find_fiber(c);
}

void session_retry(struct timer *t)
{
	struct net_shard *sh = CONTAINER_OF(t, struct net_shard, retry);
	struct net_private *c = next_runnable(sh);
	if (c)
		find_fiber(c); /* its fiber goes on with the others */
	if (!list_empty(&sh->runnable) && !timer_is_set(&sh->retry))
		timer_set(&sh->retry, NET_RETRY_MS);
}

void session_stop(struct net_private *c)
{
	c->want_stop = true;
	if (!c->running && (c->proxy_next || (conn_tls(c) && conn_tls_shaking(c))))
		conn_fail(c, END_STOP);
	else if (!c->running && c->phase == CONN_LIVE)
		session_wake(c);
}

/* ---- for protocols ---- */

void session_poke(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (c->want_poke || c->ended || !s->proto->poked)
		return;
	c->want_poke = true;
	if (!c->running && c->phase == CONN_LIVE && (!conn_tls(c) || conn_tls_ready(c)))
		session_wake(c);
}

struct session *session_dial(const struct proto *proto, int fd)
{
	ASSERT(fiber_self());
	return conn_open(proto, listener_of_peers(), fd);
}

struct session *session_succeed(struct session *s, const struct proto *proto)
{
	struct net_private *c = session_conn(s);
	ASSERT(!c->becomes && s->proto->session_bytes >= sizeof(struct session) + sizeof(struct net_private *));
	*conn_successor(c) = conn_room(c->shard, proto);
	c->becomes = true;
	return conn_session(*conn_successor(c));
}

void session_hold(struct session *s) { session_conn(s)->held = true; }

void session_go_on(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (!c->held)
		return;
	c->held = c->data_starved = false;
	if (!c->running && c->phase == CONN_LIVE)
		session_wake(c);
}

void session_push(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (c->running)
		conn_send(c);
	else if (c->phase == CONN_LIVE)
		conn_settle(c);
}

void session_finish(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (c->ended)
		return;
	conn_end(c, END_PROTOCOL, false);
	if (!c->running && c->phase == CONN_LIVE)
		session_wake(c);
}

void session_end_sending(struct session *s)
{
	session_conn(s)->shut_next = true;
	session_push(s);
}

void session_set_idle(struct session *s, uint32_t idle_ms_max)
{
	struct net_private *c = session_conn(s);
	c->idle_ms_max = idle_ms_max;
	conn_timer_at_most(c, idle_ms_max);
}

void session_set_class(struct session *s, fair_class_t class)
{
	session_conn(s)->class = class;
	fiber_set_class(class);
}

void session_class_of_peer(struct session *s) { session_set_class(s, conn_class_of(s)); }

void session_move_to(struct session *s, unsigned shard) { session_conn(s)->move_to = (uint8_t)shard; }

bool session_withdrawn(const struct session *s)
{
	const struct net_private *c = (const struct net_private *)(const void *)s - 1;
	return c->withdrawn;
}

void session_pause(struct session *s, uint32_t delay_ms) { session_conn(s)->queue.pause_until_ms = clock_now_ms() + delay_ms; }

void session_entered(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (c->waits)
		source_entered(s->source);
	c->waits = false;
}

bool session_dying(const struct session *s)
{
	const struct net_private *c = (const struct net_private *)(const void *)s - 1;
	return c->ended;
}

bool session_peer_alive(struct session *s)
{
	const struct net_private *c = session_conn(s);
	return !c->ended && !c->eof && !socket_peer_gone(c->fd);
}

void session_send_now(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (!c->ended)
		conn_send(c); /* one in flight: what is said now leaves with the next */
}

void session_kill(struct session *s, enum session_end how)
{
	struct net_private *c = session_conn(s);
	if (!c->aborted)
		conn_fail(c, how);
}

size_t session_drop_input(struct session *s)
{
	struct net_private *c = session_conn(s);
	size_t dropped = input_len(&c->input);
	input_use(&c->input, dropped);
	frame_init(&c->frame);
	return dropped;
}

static const struct net_private *conn_of(const struct session *s) { return (const struct net_private *)(const void *)s - 1; }

enum err session_compress(struct session *s)
{
	struct net_private *c = session_conn(s);
	if (conn_zips(c) || c->zip_next)
		return ERR_EXISTS;
	c->zip_next = conn_zip_reserve();
	return c->zip_next ? OK : ERR_LIMIT;
}

bool session_compresses(const struct session *s) { return conn_zips(conn_of(s)) || conn_of(s)->zip_next; }

bool session_tls_offered(const struct session *s)
{
	const struct net_private *c = conn_of(s);
	return !c->filter && !c->tls_next && !c->proxy_tls && listener_tls(s->listener) == LISTEN_TLS_STARTTLS;
}

const char *session_tls_version(const struct session *s)
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) ? tls_facts(conn_tls(c)).version : c->proxy_tls ? "proxy" : NULL;
}

bool session_tls_exporter(const struct session *s, uint8_t out[32])
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) && tls_exporter(conn_tls(c), out);
}

size_t session_tls_end_point(const struct session *s, uint8_t out[TLS_END_POINT_BYTES_MAX])
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) ? tls_end_point(conn_tls(c), out) : 0;
}

size_t session_tls_unique(const struct session *s, uint8_t out[TLS_UNIQUE_BYTES_MAX])
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) ? tls_unique(conn_tls(c), out) : 0;
}

struct slice session_tls_server_name(const struct session *s)
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) ? tls_server_name(conn_tls(c)) : slice_of(NULL, 0);
}

struct slice session_tls_client_name(const struct session *s)
{
	const struct net_private *c = conn_of(s);
	return conn_tls(c) ? tls_client_name(conn_tls(c)) : slice_of(NULL, 0);
}

bool session_login_allowed(const struct session *s)
{
	return conn_tls(conn_of(s)) || conn_of(s)->proxy_tls || s->peer_is_local || listener_plaintext(s->listener);
}

void session_stands_for(struct session *s, const struct addr *client, bool tls)
{
	struct net_private *c = session_conn(s);
	if (client->len)
		(void)conn_admit(c, client, false);
	c->proxy_tls = tls;
}

bool session_client_tls(const struct session *s)
{
	bool of_node = listener_tls_rules(s->listener)->mutual != NULL; /* then it is the node's, not the client's */
	return conn_of(s)->proxy_tls || (conn_tls(conn_of(s)) && !of_node);
}

bool session_peer_is_node(const struct session *s, struct slice node, const struct addr *address)
{
	const struct net_private *c = conn_of(s);
	return !listener_tls_rules(s->listener)->mutual || (conn_tls(c) && tls_peer_named(conn_tls(c), node, address));
}

bool session_peer_user(const struct session *s, uint32_t *uid_out) { return socket_peer_user(conn_of(s)->fd, uid_out); }

struct slice session_peer_address(const struct session *s)
{
	struct slice peer = slice_str(s->peer);
	if (peer.len && peer.ptr[0] == '[') {
		size_t close = slice_find(peer, ']');
		return slice_of(peer.ptr + 1, min_size(close, peer.len) - 1);
	}
	if (slice_starts_nocase(peer, SLICE_LIT("unix:")))
		return peer;
	size_t colon = slice_rfind(peer, ':');
	return slice_upto(peer, colon); /* all of it if there is none */
}
