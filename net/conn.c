/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - a connection: its operations, its timer, and its end.
 *
 * Two operations at most are in flight, one receive and one send.  Their done-functions note what happened and then
 * either wake the step loop (session.c) or let conn_settle() go on.  Receives are one-shot: none is armed while input waits to be
 * worked on or output waits to drain, which is all the back-pressure there is.
 *
 * The timer is set lazily: input and sends only write `active_ms`; when it fires it looks at the clock and goes on
 * sleeping.  So a busy connection touches the wheel a few times a minute.
 */
#include "net/net_private.h"
#include "core/base/log.h"
#include "core/run/socket.h"

#include "core/base/hash.h"

#include <errno.h>
#include <stdlib.h>

static void recv_done(struct io_op *op);
static void send_done(struct io_op *op);
static void timer_fired(struct timer *t);

/* ---- birth ---- */

static size_t whole_bytes(const struct proto *proto) { return sizeof(struct net_private) + proto->session_bytes; }

/* Before it is known whose work it is, a session is its network's: /24, or /64. What comes from exempt addresses (limits.exempt: balancers, the host itself)
 * is nobody's, and held to no share. */
fair_class_t conn_class_of(const struct session *s)
{
	struct addr peer;
	struct slice net = slice_str(s->peer); /* a local socket: all of them */
	if (!s->proto->describe || !s->source)
		return 0; /* so is the admin socket: the house's own */
	if (addr_parse(net, &peer) == OK && peer.u.sa.sa_family == AF_INET)
		net = slice_of(&peer.u.in.sin_addr, 3);
	else if (addr_parse(net, &peer) == OK && peer.u.sa.sa_family == AF_INET6)
		net = slice_of(&peer.u.in6.sin6_addr, 8);
	return fair_class(hash64(net, net_process.class_seed));
}

static void join_shard(struct net_private *c, struct net_shard *sh)
{
	c->shard = sh;
	conn_session(c)->reply.chunks = &sh->chunks;
	list_push_back(&sh->sessions, &c->link);
	STAT_ADD(sh, open, 1);
	c->active_ms = clock_now_ms();
	timer_set(&c->timer, c->idle_ms_max);
}

static void leave_shard(struct net_private *c)
{
	struct net_shard *sh = c->shard;
	timer_clear(&c->timer);
	link_remove(&c->link);
	STAT_ADD(sh, open, (uint64_t)-1);
	if (sh->stopping && list_empty(&sh->sessions))
		waitq_wake_all(&sh->emptied);
}

/* Before anything is spent on it: one line if it can be said in the clear, and the end. */
static void refuse_at_once(struct net_private *c, enum limit limit)
{
	struct session *s = conn_session(c);
	if (limit != LIMIT_ALL && listener_tls(s->listener) != LISTEN_TLS_IMPLICIT) { /* to who should have come by a proxy, nothing */
		char line[NET_REFUSAL_BYTES_MAX];
		socket_say(c->fd, slice_of(line, s->proto->refused(limit, line)));
	}
	io_close(c->fd);
	pool_put(net_session_pool(c->shard, whole_bytes(s->proto)), c);
}

/* On a listener for proxies, from one that is not trusted. */
static bool wants_a_proxy(const struct net_private *c, const struct addr *peer)
{
	struct session *s = conn_session((struct net_private *)(uintptr_t)c);
	if (listener_proxy(s->listener) != LISTEN_PROXY_REQUIRED || listener_trusts(s->listener, peer))
		return false;
	log_event(LOG_WARN, "proxy.not_trusted", LOG_Z("protocol", s->proto->name), LOG_ADDR("peer", peer));
	return true;
}

struct net_private *conn_room(struct net_shard *sh, const struct proto *proto)
{
	struct net_private *c = pool_get(net_session_pool(sh, whole_bytes(proto)));
	memset(c, 0, whole_bytes(proto));
	c->shard = sh;
	conn_session(c)->proto = proto;
	return c;
}

void conn_room_give(struct net_private *c) { pool_put(net_session_pool(c->shard, whole_bytes(conn_session(c)->proto)), c); }

struct session *conn_open(const struct proto *proto, struct listener *listener, int fd)
{
	struct net_shard *sh = net_shard_here();
	struct net_private *c = conn_room(sh, proto);
	struct session *s = conn_session(c);
	s->listener = listener;
	s->id = sh->next_number++ * shard_count() + sh->index;
	reply_init(&s->reply, &sh->chunks);
	arena_init(&s->arena, NET_SESSION_ARENA_BYTES_MAX);
	arena_init(&s->command, NET_COMMAND_ARENA_BYTES_MAX);
	c->fd = fd;
	c->since_s = (uint32_t)(clock_now_ms() / 1000);
	c->shard = sh;
	struct addr peer = socket_peer(fd);
	bool proxied = listener_proxy(listener) != LISTEN_PROXY_NONE && listener_trusts(listener, &peer);
	enum limit limit = wants_a_proxy(c, &peer) ? LIMIT_ALL : conn_admit(c, &peer, !proxied);
	if (limit != LIMIT_NONE) {
		refuse_at_once(c, limit);
		return NULL;
	}
	c->idle_ms_max = proto->idle_ms_max;
	io_op_init(&c->recv, recv_done);
	io_op_init(&c->send, send_done);
	timer_init(&c->timer, timer_fired);
	frame_init(&c->frame);
	input_init(&c->input);
	c->next = NEXT_OPEN;
	__atomic_fetch_add(&net_process.connections, 1, __ATOMIC_RELAXED);
	join_shard(c, sh);
	if (proxied)
		conn_proxy_begin(c);
	else
		conn_admitted(c, slice_of(NULL, 0));
	return s;
}

/* ---- death ---- */

static void count_end(struct net_shard *sh, enum session_end how)
{
	switch (how) {
	case END_CLIENT:
		STAT_ADD(sh, closed_by_client, 1);
		break;
	case END_IDLE:
		STAT_ADD(sh, closed_idle, 1);
		break;
	case END_STALLED:
		STAT_ADD(sh, closed_stalled, 1);
		break;
	case END_STOP:
		STAT_ADD(sh, closed_stopping, 1);
		break;
	case END_PROTOCOL:
		STAT_ADD(sh, closed_by_protocol, 1);
		break;
	case END_IO:
		STAT_ADD(sh, closed_broken, 1);
		break;
	}
}

void conn_end(struct net_private *c, enum session_end how, bool abort)
{
	if (!c->ended) {
		c->ended = true;
		c->end = (uint8_t)how;
		count_end(c->shard, how);
	}
	c->aborted |= abort;
}

void conn_fail(struct net_private *c, enum session_end how)
{
	conn_end(c, how, true);
	if (c->running)
		return; /* the step loop sees it */
	if (c->told)
		conn_settle(c);
	else
		session_wake(c);
}

/* Invariant 9: nothing is pending, so the kernel touches neither descriptor nor memory any more. */
static void destroy(struct net_private *c)
{
	struct session *s = conn_session(c);
	struct net_shard *sh = c->shard;
	ASSERT(c->told && !c->running && !c->recv.pending && !c->sending);
	if (c->filter)
		conn_filter_free(c);
	if (c->zip_next)
		conn_zip_unreserve();
	io_close(c->fd);
	reply_release(&s->reply);
	input_release(&c->input, &sh->input);
	arena_release(&s->arena);
	arena_release(&s->command);
	source_close(s->source, c->waits);
	__atomic_fetch_sub(&net_process.connections, 1, __ATOMIC_RELAXED);
	leave_shard(c);
	pool_put(net_session_pool(sh, whole_bytes(s->proto)), c);
}

/* Ends what is in flight; the last completion destroys. */
static void join(struct net_private *c)
{
	c->phase = CONN_JOINING;
	if (c->aborted)
		socket_reset_on_close(c->fd); /* nobody takes what the kernel still holds */
	if (!c->recv.pending && !c->sending) {
		destroy(c);
		return;
	}
	io_shutdown(c->fd);
	io_cancel(&c->recv);
	io_cancel(&c->send);
	if (c->filter)
		conn_tls_cancel(c);
}

/* A client that is still sending would be answered with a reset, which may overtake our last reply: its bytes are read and
 * thrown away for a moment.  A client that has been heard to the end needs none of that. */
static bool should_linger(const struct net_private *c)
{
	return !c->eof && !c->recv.pending && (input_len(&c->input) || c->frame.swallowed || c->hot || (conn_zips(c) && conn_zip_amid(c)));
}

static void linger(struct net_private *c)
{
	c->phase = CONN_LINGERING;
	c->linger_bytes = 0;
	c->into = false;
	socket_end_sending(c->fd);
	input_release(&c->input, &c->shard->input);
	timer_set(&c->timer, NET_LINGER_MS_MAX);
	io_recv(&c->recv, c->fd);
}

static void lingered(struct net_private *c)
{
	if (c->recv.result > 0) {
		c->linger_bytes += (uint32_t)c->recv.result;
		if (c->linger_bytes < NET_LINGER_BYTES_MAX) {
			io_recv(&c->recv, c->fd);
			return;
		}
	}
	join(c);
}

/* ---- output ---- */

/* How often the output of a send in flight is looked at. */
uint32_t conn_stall_look_ms(void) { return net_process.settings.stall_ms_max / 4 + 1; }

void conn_send(struct net_private *c)
{
	struct reply *r = &conn_session(c)->reply;
	if (c->sending || c->aborted)
		return;
	if (UNLIKELY(c->filter != NULL)) {
		conn_tls_send(c);
		return;
	}
	if (reply_empty(r))
		return;
	struct reply_flight f = reply_gather(r, &c->shard->batches);
	c->batch = f.batch;
	c->looked = false;
	c->active_ms = clock_now_ms();
	conn_timer_at_most(c, conn_stall_look_ms());
	c->sending = true;
	io_send(&c->send, c->fd, f.pieces, f.count);
}

static void flight_over(struct net_private *c)
{
	c->sending = false;
	if (c->batch)
		pool_put(&c->shard->batches, c->batch);
	c->batch = NULL;
}

static void send_failed(struct net_private *c)
{
	struct reply *r = &conn_session(c)->reply;
	int64_t result = c->send.result;
	reply_failed(r);
	STAT_ADD(c->shard, bytes_out, c->send.progress_bytes);
	r->sent_bytes += c->send.progress_bytes;
	if (c->phase == CONN_JOINING) {
		conn_settle(c);
		return;
	}
	if (c->phase == CONN_MOVING)
		c->phase = CONN_LIVE; /* it ends here */
	if (result == -EIO)
		log_event(LOG_ERROR, "net.reply_broken", LOG_U64("session", conn_session(c)->id), LOG_Z("protocol", conn_session(c)->proto->name),
		          LOG_Z("peer", conn_session(c)->peer));
	conn_fail(c, result == -EIO ? END_IO : END_CLIENT);
}

static void send_done(struct io_op *op) { conn_send_over(CONTAINER_OF(op, struct net_private, send)); }

void conn_send_over(struct net_private *c)
{
	struct reply *r = &conn_session(c)->reply;
	if (UNLIKELY(c->filter != NULL) && conn_tls_sent_part(c))
		return;
	flight_over(c);
	if (c->send.result < 0) {
		send_failed(c);
		return;
	}
	if (r->flying) /* else it was TLS's own */
		reply_sent(r);
	if (UNLIKELY(conn_session(c)->proto->drained != NULL) && c->phase == CONN_LIVE && reply_half_drained(r))
		conn_session(c)->proto->drained(conn_session(c));
	STAT_ADD(c->shard, bytes_out, (uint64_t)c->send.result);
	c->active_ms = clock_now_ms();
	conn_timer_at_most(c, c->idle_ms_max); /* a look at this send may have put it off */
	if (c->running) {
		if (r->queued_bytes >= SEND_EAGER_BYTES)
			conn_send(c);
	} else if (c->phase == CONN_LIVE && c->waits_for_output && reply_half_drained(r)) {
		conn_send(c); /* the rest leaves while more is made */
		session_wake(c);
	} else {
		conn_settle(c);
	}
}

/* ---- input ---- */

static void receive(struct net_private *c)
{
	if (c->recv.pending || c->eof || c->waits_for_output || c->tls_next || c->zip_next || c->held)
		return;
	if (UNLIKELY(conn_tls(c) != NULL) ? !conn_tls_wants_input(c) : c->next != NEXT_LINE && c->next != NEXT_DATA && !c->proxy_next)
		return;
	c->into = c->next == NEXT_DATA && c->hot && !c->filter;
	if (!c->into) {
		io_recv(&c->recv, c->fd);
		return;
	}
	/* A lot is expected: straight into our own buffer. */
	size_t room;
	char *at = input_room(&c->input, &c->shard->input, &room);
	ASSERT(room);
	io_recv_into(&c->recv, c->fd, at, room);
}

void conn_count_in(struct net_private *c, size_t bytes)
{
	struct session *s = conn_session(c);
	STAT_ADD(c->shard, bytes_in, bytes);
	s->received_bytes = (uint32_t)min_u64((uint64_t)s->received_bytes + bytes, UINT32_MAX);
}

static void received(struct net_private *c, size_t bytes)
{
	/* More of a line that has begun is no sign of life: whoever never ends one is idle.  A whole line counts, in step_line. */
	bool amid_line = c->next == NEXT_LINE && (input_len(&c->input) || c->frame.swallowed);
	c->hot = bytes >= IO_RECV_BYTES_MAX;
	if (c->into) {
		input_added(&c->input, bytes);
	} else if (UNLIKELY(conn_zips(c))) {
		conn_zip_add(c, c->recv.data); /* and conn_zip_more looks for signs of life */
		c->hot |= c->recv.hot;
		amid_line = true;
	} else {
		input_add(&c->input, c->recv.data, &c->shard->input);
		c->hot |= c->recv.hot; /* the kernel says that it has more */
	}
	c->data_starved = false;
	if (!c->sending && !amid_line)
		c->active_ms = clock_now_ms();
	conn_count_in(c, bytes);
}

static void recv_done(struct io_op *op)
{
	struct net_private *c = CONTAINER_OF(op, struct net_private, recv);
	if (c->phase == CONN_LINGERING) {
		lingered(c);
		return;
	}
	if (c->phase != CONN_LIVE) {
		c->eof |= op->result <= 0;
		c->hot |= op->result > 0; /* it went on sending: see should_linger */
		if (c->phase == CONN_JOINING)
			conn_settle(c);
		return;
	}
	if (op->result < 0) {
		conn_fail(c, END_CLIENT);
		return;
	}
	if (UNLIKELY(c->proxy_next)) {
		conn_proxy_received(c);
		return;
	}
	if (UNLIKELY(conn_tls(c) != NULL)) {
		conn_tls_received(c);
		return;
	}
	if (op->result == 0)
		c->eof = true;
	else
		received(c, (size_t)op->result);
	if (!c->running)
		session_wake(c);
}

/* ---- what should be going on ---- */

/* To the shard that owns the account. Nothing is armed and nothing in flight; unsent output and unread input travel along. */
static void depart(struct net_private *c)
{
	ASSERT(!c->recv.pending && !c->sending && !c->batch);
	unsigned to = c->move_to;
	__atomic_fetch_add(&net_process.moving, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&net_process.stopping, __ATOMIC_SEQ_CST)) {
		/* The other shard may have ended already: it ends here, after a look by the step loop. */
		__atomic_fetch_sub(&net_process.moving, 1, __ATOMIC_SEQ_CST);
		c->phase = CONN_LIVE;
		conn_end(c, END_STOP, false);
		session_wake(c);
		return;
	}
	STAT_ADD(c->shard, moved, 1);
	arena_release(&conn_session(c)->command);
	leave_shard(c);
	io_leave(c->fd);
	c->queue.post = (struct post){ .run = conn_arrived };
	shard_post(to, &c->queue.post);
}

void conn_arrived(struct post *p)
{
	struct net_private *c = CONTAINER_OF(p, struct net_private, queue.post);
	struct net_shard *sh = net_shard_here();
	c->phase = CONN_LIVE;
	c->want_stop = sh->stopping;
	join_shard(c, sh);
	__atomic_fetch_sub(&net_process.moving, 1, __ATOMIC_SEQ_CST);
	session_wake(c);
}

/*
 * Another protocol goes on with the connection: nothing is in flight, so the state may lie elsewhere from now on.  The arenas are the old
 * session's and go; the chain of output and the unread input pass over.
 */
static struct net_private *transplant(struct net_private *c)
{
	struct net_private *n = *conn_successor(c);
	struct session *from = conn_session(c), *to = conn_session(n), base = *from;
	ASSERT(!c->recv.pending && !c->sending && !c->batch);
	leave_shard(c);
	arena_release(&from->arena);
	arena_release(&from->command);
	base.proto = to->proto;
	*to = base;
	arena_init(&to->arena, NET_SESSION_ARENA_BYTES_MAX);
	arena_init(&to->command, NET_COMMAND_ARENA_BYTES_MAX);
	*n = *c;
	n->becomes = false;
	io_op_init(&n->recv, recv_done);
	io_op_init(&n->send, send_done);
	timer_init(&n->timer, timer_fired);
	n->link = (struct link){ 0 };
	frame_init(&n->frame);
	join_shard(n, n->shard);
	conn_room_give(c);
	return n;
}

static void flushed(struct net_private *c)
{
	if (should_linger(c))
		linger(c);
	else
		join(c);
}

static uint32_t pause_left_ms(const struct net_private *c)
{
	uint64_t now = clock_now_ms();
	return c->queue.pause_until_ms > now ? (uint32_t)(c->queue.pause_until_ms - now) : 0;
}

static void settle_live(struct net_private *c)
{
	conn_send(c);
	if (UNLIKELY(c->tls_next) && !c->sending) {
		c->tls_next = false;
		conn_tls_begin(c, slice_of(NULL, 0)); /* comes back here */
		return;
	}
	if (UNLIKELY(c->zip_next) && !c->sending) {
		c->zip_next = false;
		conn_zip_begin(c);
		session_wake(c);
		return;
	}
	if (UNLIKELY(c->shut_next) && !c->sending && reply_empty(&conn_session(c)->reply)) {
		c->shut_next = false;
		if (!conn_tls(c))
			socket_end_sending(c->fd);
		else if (conn_tls_shut(c))
			conn_send(c);
	}
	if (!c->recv.pending) /* invariant 9: else its buffer may be the kernel's */
		input_trim(&c->input, &c->shard->input);
	if (UNLIKELY(conn_zips(c)))
		conn_zip_park(c);
	receive(c);
	if (c->paused)
		conn_timer_at_most(c, pause_left_ms(c));
	if (conn_session(c)->command.chunk)
		arena_release(&conn_session(c)->command);
}

void conn_settle(struct net_private *c)
{
	ASSERT(!c->running);
	if (c->told && c->phase < CONN_FLUSHING)
		c->phase = CONN_FLUSHING;
	if (c->phase == CONN_JOINING) {
		if (!c->recv.pending && !c->sending)
			destroy(c);
		return;
	}
	if (c->aborted) {
		join(c);
		return;
	}
	switch ((enum conn_phase)c->phase) {
	case CONN_LIVE:
		settle_live(c);
		break;
	case CONN_MOVING:
		if (c->sending)
			break;
		if (c->becomes)
			c = transplant(c);
		if (c->move_to != c->shard->index) {
			depart(c);
		} else {
			c->phase = CONN_LIVE;
			session_wake(c);
		}
		break;
	case CONN_FLUSHING:
		conn_send(c);
		if (conn_tls(c) && !c->sending && conn_tls_shut(c))
			conn_send(c);
		if (!c->sending)
			flushed(c);
		break;
	case CONN_LINGERING:
	case CONN_JOINING:
		break;
	}
}

/* ---- time ---- */

void conn_timer_at_most(struct net_private *c, uint32_t delay_ms)
{
	if (!timer_is_set(&c->timer) || c->timer.at_ms > clock_now_ms() + delay_ms)
		timer_set(&c->timer, delay_ms);
}

/* Sleeps on until `ms_max` after the last activity; false if that has passed. */
static bool sleep_on(struct net_private *c, uint32_t ms_max)
{
	uint64_t now = clock_now_ms(), until = c->active_ms + ms_max;
	if (now >= until)
		return false;
	timer_set(&c->timer, until - now);
	return true;
}

/*
 * False if the client has taken nothing for too long.  What counts is what it has acknowledged: the kernel tells us of room only
 * when a third of its buffer is free, which a client on a slow line may need minutes for.  The first look at a send only notes
 * where it stands.
 */
static bool output_moves(struct net_private *c)
{
	uint32_t acknowledged = (uint32_t)(c->send.progress_bytes - socket_unacknowledged(c->fd));
	if (acknowledged != c->acknowledged || !c->looked) {
		c->acknowledged = acknowledged;
		c->looked = true;
		c->active_ms = clock_now_ms();
	}
	if (!sleep_on(c, net_process.settings.stall_ms_max))
		return false;
	conn_timer_at_most(c, conn_stall_look_ms());
	return true;
}

/* A handler has been waiting for a while: is anybody there to hear its answer? */
static void watch(struct net_private *c)
{
	if (!c->ended && socket_peer_gone(c->fd))
		conn_end(c, END_CLIENT, true);
	if (c->sending && !output_moves(c))
		conn_end(c, END_STALLED, true);
	conn_timer_at_most(c, NET_WATCH_MS);
}

static void proxy_silent(struct net_private *c)
{
	const struct session *s = conn_session(c);
	log_event(LOG_WARN, "proxy.silent", LOG_U64("session", s->id), LOG_Z("protocol", s->proto->name), LOG_Z("proxy", s->peer));
	conn_fail(c, END_IDLE);
}

static void pause_over(struct net_private *c)
{
	uint32_t left = pause_left_ms(c);
	if (left) {
		timer_set(&c->timer, left);
		return;
	}
	c->paused = false;
	c->active_ms = clock_now_ms();
	session_wake(c);
	conn_timer_at_most(c, c->idle_ms_max);
}

static void timer_fired(struct timer *t)
{
	struct net_private *c = CONTAINER_OF(t, struct net_private, timer);
	if (c->running) {
		watch(c);
	} else if (c->phase == CONN_LINGERING) {
		join(c);
	} else if (c->phase == CONN_JOINING) {
		return; /* cancelled: completions come */
	} else if (c->sending) {
		if (!output_moves(c))
			conn_fail(c, END_STALLED);
	} else if (c->proxy_next) {
		if (!sleep_on(c, PROXY_HEADER_MS_MAX))
			proxy_silent(c);
	} else if (c->paused) {
		pause_over(c);
	} else if (conn_tls(c) && conn_tls_shaking(c)) {
		if (!sleep_on(c, TLS_SHAKE_MS_MAX))
			conn_fail(c, END_IDLE);
	} else if (!sleep_on(c, c->idle_ms_max)) {
		c->want_timeout = true;
		session_wake(c);
	}
}
