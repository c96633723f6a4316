/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_conn.c - one connection to a Redis server.
 *
 * Commands are written behind each other into one buffer, which leaves at the end of the loop's turn; answers come back in
 * the same order and are handed to those who wait.  Who stops waiting leaves his request in the queue, so that the order holds.
 *
 * Whatever goes wrong breaks the connection: everybody under way is told at once, what is with the kernel is cancelled and joined (invariant 9), and
 * then it is down, until its timer begins it anew.
 */
#include "core/run/redis_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/socket.h"

#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(metric_commands, "redis_commands_total", "Commands sent to Redis");
METRIC_COUNTER(metric_writes, "redis_writes_total", "Writes that carried them");
METRIC_COUNTER(metric_failed, "redis_failed_total", "Commands that were refused, lost with their connection or not answered in time");
METRIC_COUNTER(metric_broken, "redis_broken_total", "Connections to Redis that broke, or could not be made");
METRIC_HISTOGRAM(metric_answer_ms, "redis_answer_ms", "From a command to its answer, in milliseconds of the loop's clock");

static void received(struct io_op *op);
static void sent(struct io_op *op);
static void flush(struct deferred *d);
static void retry(struct timer *t);
static void watch(struct timer *t);

void redis_conn_init(struct redis_conn *c, struct redis *r, struct slice at)
{
	*c = (struct redis_conn){ .redis = r, .fd = -1 };
	ASSERT(at.len < sizeof(c->at));
	if (at.len)
		memcpy(c->at, at.ptr, at.len);
	io_op_init(&c->recv, received);
	io_op_init(&c->send, sent);
	list_init(&c->sent);
	buf_init(&c->plain, REDIS_OUT_BYTES_MAX);
	buf_init(&c->wire, 2 * REDIS_OUT_BYTES_MAX);
	buf_init(&c->sending, 2 * REDIS_OUT_BYTES_MAX);
	link_init(&c->flush.link);
	c->flush.run = flush;
	timer_init(&c->retry, retry);
	timer_init(&c->watch, watch);
	waitq_init(&c->changed);
}

void redis_conn_release(struct redis_conn *c)
{
	ASSERT(redis_conn_at_rest(c) && list_empty(&c->sent));
	timer_clear(&c->retry);
	timer_clear(&c->watch);
	link_remove(&c->flush.link);
	buf_release(&c->plain);
	buf_release(&c->wire);
	buf_release(&c->sending);
}

bool redis_conn_at_rest(const struct redis_conn *c) { return c->state == REDIS_DOWN && !c->opener; }

/* ---- the end of a command ---- */

static void request_over(struct redis_conn *c, struct redis_request *q, enum err e)
{
	link_remove(&q->link);
	c->sent_count--;
	if (e != OK)
		metric_inc(&metric_failed);
	if (q->wait) {
		q->wait->err = e;
		q->wait->request = NULL;
		fiber_wake(q->wait->fiber);
	}
	free(q);
}

static void answered(struct redis_conn *c, const struct redis_value *value, struct arena *memory)
{
	struct redis_request *q = CONTAINER_OF(list_first(&c->sent), struct redis_request, link);
	enum err e = value->kind == REDIS_ERROR ? redis_error_means(value->text) : OK;
	bool demoted = value->kind == REDIS_ERROR && slice_starts_nocase(value->text, SLICE_LIT("READONLY"));
	metric_record(&metric_answer_ms, clock_now_ms() - q->asked_ms);
	if (value->kind == REDIS_ERROR && !q->wait && slice_starts_nocase(value->text, SLICE_LIT("MOVED")))
		(void)redis_cluster_redirect(c->redis, value->text); /* the next one will know */
	if (q->wait) {
		struct redis_answer *a = q->wait->answer;
		a->value = *value;
		a->memory = *memory;
		memcpy(a->run_id, c->run_id, sizeof(a->run_id));
	} else {
		arena_release(memory);
	}
	request_over(c, q, e);
	if (demoted)
		redis_conn_break(c, "the server is no master any more");
}

/* ---- breaking, and coming back ---- */

void redis_conn_settle(struct redis_conn *c)
{
	if (c->state != REDIS_BREAKING || c->recv.pending || c->send.pending || c->connecting)
		return;
	if (c->fd >= 0)
		io_close(c->fd);
	c->fd = -1;
	if (c->machine)
		c->redis->settings.filter->close(c->machine);
	c->machine = NULL;
	redis_codec_close(c->codec);
	c->codec = NULL;
	buf_clear(&c->plain);
	buf_clear(&c->wire);
	buf_clear(&c->sending);
	c->run_id[0] = 0;
	c->state = REDIS_DOWN;
	if (!c->redis->closing && !c->gone && !c->sentinel) {
		/* full jitter: anything up to a ceiling that doubles */
		uint64_t ceiling_ms = min_u64((uint64_t)REDIS_RETRY_MS_MIN << min_size(c->failures, 16), REDIS_RETRY_MS_MAX);
		uint32_t draw;
		random_bytes(&draw, sizeof(draw));
		timer_set(&c->retry, 1 + draw % ceiling_ms);
	}
	waitq_wake_all(&c->changed);
}

/* Once for each reason, not for each attempt. */
static void tell(struct redis_conn *c, const char *why)
{
	if (c->redis->closing || c->sentinel || strcmp(c->why, why) == 0)
		return;
	snprintf(c->why, sizeof(c->why), "%s", why);
	log_event(LOG_WARN, "redis.down", LOG_Z("server", c->at), LOG_Z("why", why), LOG_U64("attempts", c->failures));
}

void redis_conn_break(struct redis_conn *c, const char *why)
{
	if (!redis_conn_lives(c))
		return;
	c->state = REDIS_BREAKING;
	c->tried = true;
	c->failures++;
	metric_inc(&metric_broken);
	tell(c, why);
	timer_clear(&c->watch);
	link_remove(&c->flush.link);
	while (!list_empty(&c->sent))
		request_over(c, LIST_FIRST(&c->sent, struct redis_request, link), ERR_TEMP);
	if (c->fd >= 0)
		io_shutdown(c->fd);
	io_cancel(&c->recv);
	io_cancel(&c->send);
	waitq_wake_all(&c->changed);
	redis_conn_settle(c);
}

static void open_body(void *arg)
{
	struct redis_conn *c = arg;
	if (!c->redis->closing)
		redis_conn_open(c);
	c->opener = false;
	c->tried = true;
	waitq_wake_all(&c->changed);
}

void redis_conn_begin(struct redis_conn *c)
{
	if (c->state != REDIS_DOWN || c->opener || c->redis->closing || c->gone)
		return;
	timer_clear(&c->retry);
	c->opener = true;
	if (fiber_start("redis.open", open_body, c) != OK) {
		c->opener = false;
		timer_set(&c->retry, REDIS_RETRY_MS_MAX);
	}
}

static void retry(struct timer *t)
{
	struct redis_conn *c = CONTAINER_OF(t, struct redis_conn, retry);
	if (c->opener) /* about to end */
		timer_set(&c->retry, REDIS_RETRY_MS_MIN);
	else
		redis_conn_begin(c);
}

/* ---- silence ---- */

static void watch(struct timer *t)
{
	struct redis_conn *c = CONTAINER_OF(t, struct redis_conn, watch);
	uint64_t now = clock_now_ms(), silent_ms = now - c->heard_ms, answer_ms_max = c->redis->answer_ms_max;
	const struct slice ping[] = { SLICE_LIT("PING") };
	struct redis_request *oldest = LIST_FIRST(&c->sent, struct redis_request, link);
	if (!redis_conn_lives(c))
		return;
	/* A server that is only slow is left alone for a while: a new connection would not make it faster. */
	if (oldest && silent_ms > 3 * answer_ms_max && now - oldest->asked_ms > 3 * answer_ms_max) {
		redis_conn_break(c, "the server does not answer");
		return;
	}
	if (!oldest && silent_ms >= REDIS_IDLE_MS_MAX)
		(void)redis_conn_put(c, ping, 1, NULL);
	timer_set(&c->watch, min_u64(answer_ms_max, REDIS_IDLE_MS_MAX));
}

/* ---- bytes out ---- */

void redis_conn_flush_soon(struct redis_conn *c) { shard_defer_late(shard_current, &c->flush); }

/* Commands through the filter, if there is one, to what leaves next. False: broken. */
static bool seal(struct redis_conn *c)
{
	const struct redis_filter *f = c->redis->settings.filter;
	if (!f || !c->plain.len || !f->ready(c->machine))
		return true;
	enum err e = f->to_wire(c->machine, buf_slice(&c->plain), &c->wire);
	buf_clear(&c->plain);
	if (e == OK)
		return true;
	redis_conn_break(c, f->failure(c->machine));
	return false;
}

static void flush(struct deferred *d)
{
	struct redis_conn *c = CONTAINER_OF(d, struct redis_conn, flush);
	if (!redis_conn_lives(c) || c->send.pending || !seal(c))
		return;
	struct buf *from = c->redis->settings.filter ? &c->wire : &c->plain;
	if (!from->len)
		return;
	struct buf out = *from;
	size_t max = from->max;
	*from = c->sending;
	from->max = max;
	c->sending = out;
	c->sending.max = 2 * REDIS_OUT_BYTES_MAX;
	buf_clear(from);
	struct io_piece piece = { .ptr = c->sending.ptr, .len = c->sending.len, .fd = -1 };
	metric_inc(&metric_writes);
	io_send(&c->send, c->fd, &piece, 1);
}

static void sent(struct io_op *op)
{
	struct redis_conn *c = CONTAINER_OF(op, struct redis_conn, send);
	buf_clear(&c->sending);
	if (c->state == REDIS_BREAKING)
		redis_conn_settle(c);
	else if (op->result < 0)
		redis_conn_break(c, "the connection broke while sending");
	else
		flush(&c->flush);
}

/* ---- bytes in ---- */

static bool read_replies(struct redis_conn *c, struct slice bytes)
{
	struct redis_value value;
	struct arena memory;
	bool broken = !redis_codec_feed(c->codec, bytes);
	while (!broken && redis_codec_next(c->codec, &value, &memory, &broken)) {
		if (list_empty(&c->sent)) {
			arena_release(&memory);
			broken = true; /* an answer that nobody asked for: the order is lost */
		} else {
			answered(c, &value, &memory);
			if (!redis_conn_lives(c))
				return false;
		}
	}
	if (broken)
		redis_conn_break(c, "the server says what is no answer");
	return !broken;
}

static bool unseal(struct redis_conn *c, struct slice bytes)
{
	const struct redis_filter *f = c->redis->settings.filter;
	struct buf plain;
	if (!f)
		return read_replies(c, bytes);
	buf_init(&plain, REDIS_REPLY_BYTES_MAX);
	enum err e = f->from_wire(c->machine, bytes, &plain, &c->wire);
	bool fine = e == OK;
	if (fine && plain.len)
		fine = read_replies(c, buf_slice(&plain));
	else if (!fine)
		redis_conn_break(c, f->failure(c->machine));
	buf_release(&plain);
	if (fine)
		redis_conn_flush_soon(c);
	return fine;
}

static void received(struct io_op *op)
{
	struct redis_conn *c = CONTAINER_OF(op, struct redis_conn, recv);
	if (c->state == REDIS_BREAKING) {
		redis_conn_settle(c);
		return;
	}
	c->heard_ms = clock_now_ms();
	if (op->result <= 0) {
		redis_conn_break(c, op->result == 0 ? "the server closed the connection" : "the connection broke");
		return;
	}
	if (!unseal(c, op->data))
		return;
	if (c->state == REDIS_OPENING)
		waitq_wake_all(&c->changed); /* the opener may wait for the filter */
	io_recv(&c->recv, c->fd);
}

void redis_conn_listen(struct redis_conn *c)
{
	c->heard_ms = clock_now_ms();
	c->codec = redis_codec_open();
	io_recv(&c->recv, c->fd);
	timer_set(&c->watch, min_u64(c->redis->answer_ms_max, REDIS_IDLE_MS_MAX));
}

/* ---- commands ---- */

enum err redis_conn_put(struct redis_conn *c, const struct slice *args, size_t count, struct redis_wait *wait)
{
	if (!redis_conn_lives(c))
		return ERR_TEMP;
	if (c->sent_count >= REDIS_QUEUE_MAX || !redis_codec_put(&c->plain, args, count))
		return ERR_BUSY;
	struct redis_request *q = xcalloc(1, sizeof(*q));
	q->wait = wait;
	q->asked_ms = clock_now_ms();
	if (wait)
		wait->request = q;
	list_push_back(&c->sent, &q->link);
	c->sent_count++;
	metric_inc(&metric_commands);
	redis_conn_flush_soon(c);
	return OK;
}

struct late {
	struct timer timer;
	struct fiber *fiber;
	bool rang;
};

static void late_fire(struct timer *t)
{
	struct late *l = CONTAINER_OF(t, struct late, timer);
	l->rang = true;
	fiber_wake(l->fiber);
}

enum err redis_conn_wait(struct redis_wait *wait, uint64_t deadline_ms)
{
	struct late late = { .fiber = fiber_self() };
	uint64_t now = clock_now_ms();
	timer_init(&late.timer, late_fire);
	timer_set(&late.timer, deadline_ms > now ? deadline_ms - now : 0);
	enum fiber_wait before = fiber_wait_for(FIBER_WAIT_REDIS);
	while (wait->request && !late.rang)
		fiber_park();
	(void)fiber_wait_for(before);
	timer_clear(&late.timer);
	if (!wait->request)
		return wait->err;
	wait->request->wait = NULL;
	wait->request = NULL;
	metric_inc(&metric_failed);
	return ERR_TIMEOUT;
}

enum err redis_conn_ask(struct redis_conn *c, const struct slice *args, size_t count, uint64_t deadline_ms, struct redis_answer *answer_out)
{
	struct redis_wait wait = { .fiber = fiber_self(), .answer = answer_out };
	*answer_out = (struct redis_answer){ .value = { .kind = REDIS_NIL } };
	enum err e = redis_conn_put(c, args, count, &wait);
	return e == OK ? redis_conn_wait(&wait, deadline_ms) : e;
}
