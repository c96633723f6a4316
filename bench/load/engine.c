/* SPDX-License-Identifier: Apache-2.0 */
/* engine: see engine.h. */
#include "bench/load/engine.h"

#include <err.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/load/clock.h"
#include "bench/load/driver.h"

#define EVENTS_PER_TURN 256
#define OPENING_MAX 128   /* connections being opened at once: a listener's backlog is finite */
#define LEAVE_S 10        /* patience for good-byes */
#define NEVER UINT64_MAX

struct engine {
	const struct options *o;
	const struct driver *driver;
	struct result *r;
	struct conn *conns;
	int epoll;
	char *in;

	/* free places: a ring of connections, first freed first used */
	struct conn **place;
	unsigned place_cap;
	unsigned place_head;
	unsigned places_free;

	unsigned ready;
	unsigned busy;          /* operations in flight */
	unsigned to_reopen;
	bool leaving;

	uint64_t begun;
	uint64_t measure_ns;    /* the window's ends */
	uint64_t stop_ns;
	uint64_t arrival_ns;    /* open loop: the next one */
	uint64_t last_done_ns;
	uint64_t next_sweep_ns;
	uint64_t random;
	bool started;           /* the window is open, its figures taken */
	bool stopped;
};

const struct options *engine_options(const struct conn *c) { return c->engine->o; }
const struct driver *engine_driver(const struct conn *c) { return c->engine->driver; }
int engine_epoll(const struct conn *c) { return c->engine->epoll; }

/* ---- places ------------------------------------------------------------- */

static void push_place(struct engine *e, struct conn *c)
{
	e->place[(e->place_head + e->places_free++) % e->place_cap] = c;
}

static struct conn *pop_place(struct engine *e)
{
	struct conn *c = e->place[e->place_head];

	e->place_head = (e->place_head + 1) % e->place_cap;
	e->places_free--;
	return c;
}

static unsigned places_each(const struct engine *e)
{
	return e->driver->windowed ? e->o->pipeline : 1;
}

static void touch(struct conn *c, uint64_t now)
{
	c->deadline_ns = now + (uint64_t)(c->engine->o->timeout_s * 1e9);
}

void engine_ready(struct conn *c)
{
	struct engine *e = c->engine;

	c->ready = true;
	c->deadline_ns = 0;
	e->ready++;
	for (unsigned i = 0; i < places_each(e); i++)
		push_place(e, c);
}

void engine_done(struct conn *c, uint64_t intended_ns, uint64_t units, uint64_t bytes)
{
	struct engine *e = c->engine;
	uint64_t now = clock_ns();
	bool inside = e->started && !e->stopped && now >= e->measure_ns && now <= e->stop_ns;

	if (inside) {
		e->r->operations++;
		e->r->units += units;
		e->r->payload_bytes += bytes;
		e->last_done_ns = now;
	}
	if (e->o->rate > 0 ? intended_ns >= e->measure_ns && intended_ns <= e->stop_ns : inside)
		histogram_add(&e->r->latency, now - intended_ns);
}

void engine_handshake(struct conn *c, bool resumed)
{
	struct engine *e = c->engine;

	/* those of kept connections come before the window and belong to the run all the same */
	if (e->stopped || (!e->started && !e->driver->kept))
		return;
	if (resumed)
		e->r->handshakes_resumed++;
	else
		e->r->handshakes_full++;
}

void engine_free(struct conn *c)
{
	c->places_busy--;
	c->engine->busy--;
	if (!c->places_busy)
		c->deadline_ns = 0;
	push_place(c->engine, c);
}

/* The failed connection's free places must not be used until it is open again. */
static void forget_places(struct engine *e, const struct conn *c)
{
	unsigned n = e->places_free;

	while (n--) {
		struct conn *other = pop_place(e);
		if (other != c)
			push_place(e, other);
	}
}

void engine_fail(struct conn *c, const char *format, ...)
{
	struct engine *e = c->engine;
	va_list args;

	if (e->r->errors < ERRORS_SHOWN) {
		va_start(args, format);
		vsnprintf(e->r->error[e->r->errors], ERROR_BYTES_MAX, format, args);
		va_end(args);
	}
	e->r->errors += c->places_busy ? c->places_busy : 1;
	conn_close(c, true);
	c->deadline_ns = 0;
	e->busy -= c->places_busy;
	if (e->driver->kept) {
		c->places_busy = 0;
		if (c->ready) {
			forget_places(e, c);
			e->ready--;
		}
		c->ready = false;
		e->to_reopen += !c->reopen;
		c->reopen = true;
		return;
	}
	while (c->places_busy) {
		c->places_busy--;
		push_place(e, c);
	}
}

/* ---- starting operations ------------------------------------------------- */

static void begin(struct engine *e, uint64_t intended_ns, uint64_t now)
{
	struct conn *c = pop_place(e);

	e->begun++;
	e->busy++;
	c->places_busy++;
	touch(c, now);
	e->driver->begin(c, intended_ns);
	conn_flush(c);
}

static double exponential(struct engine *e)
{
	uint64_t x = e->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	e->random = x;
	return -log(((double)((x * 0x2545f4914f6cdd1dull) >> 11) + 1.0) / 9007199254740994.0);
}

static void start_due(struct engine *e)
{
	uint64_t now = clock_ns();

	if (e->driver->idle)
		return;
	if (e->o->rate > 0) {
		while (e->places_free && e->arrival_ns <= now && e->arrival_ns < e->stop_ns) {
			begin(e, e->arrival_ns, now);
			e->arrival_ns += (uint64_t)(exponential(e) / e->o->rate * 1e9);
			if (e->o->count && e->begun >= e->o->count)
				e->arrival_ns = NEVER;
		}
		return;
	}
	while (e->places_free && now < e->stop_ns && (!e->o->count || e->begun < e->o->count)) {
		begin(e, now, now);
		if (e->places_free)
			now = clock_ns();
		if (e->r->errors >= e->o->errors_max)
			return;
	}
}

static void open_one(struct engine *e, struct conn *c, uint64_t now)
{
	c->reopen = false;
	touch(c, now);
	e->driver->open(c);
	conn_flush(c);
}

static void reopen_failed(struct engine *e)
{
	uint64_t now = clock_ns();

	if (!e->to_reopen || e->leaving || e->r->errors >= e->o->errors_max)
		return;
	e->to_reopen = 0;
	for (unsigned i = 0; i < e->o->connections; i++) {
		if (e->conns[i].reopen)
			open_one(e, &e->conns[i], now);
	}
}

/* ---- the loop ------------------------------------------------------------ */

static void sweep(struct engine *e, uint64_t now)
{
	if (now < e->next_sweep_ns)
		return;
	e->next_sweep_ns = now + NS_PER_S / 4;
	for (unsigned i = 0; i < e->o->connections; i++) {
		struct conn *c = &e->conns[i];
		if (c->deadline_ns && c->deadline_ns < now)
			engine_fail(c, "no answer within %.1f s", e->o->timeout_s);
	}
}

/* Waits for events until `until`, handles them. */
static void turn(struct engine *e, uint64_t until)
{
	struct epoll_event event[EVENTS_PER_TURN];
	uint64_t now = clock_ns();
	uint64_t left = until > now ? until - now : 0;
	struct timespec wait;
	int n;

	if (left > NS_PER_S / 4)
		left = NS_PER_S / 4; /* the sweep's step */
	wait = (struct timespec){.tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S)};
	n = epoll_pwait2(e->epoll, event, EVENTS_PER_TURN, &wait, NULL);
	if (n < 0 && errno != EINTR)
		err(2, "epoll_pwait2");
	now = clock_ns();
	for (int i = 0; i < n; i++) {
		struct conn *c = event[i].data.ptr;

		if (c->deadline_ns)
			touch(c, now);
		conn_event(c, event[i].events, e->in);
	}
	sweep(e, now);
}

static bool over(const struct engine *e)
{
	return e->r->errors >= e->o->errors_max;
}

static void open_kept(struct engine *e)
{
	uint64_t from = clock_ns();
	uint64_t give_up = from + (uint64_t)((e->o->timeout_s + 0.01 * e->o->connections) * 1e9);
	unsigned next = 0;

	while (e->driver->kept && e->ready < e->o->connections && !over(e) && clock_ns() < give_up) {
		while (next < e->o->connections && next - e->ready < OPENING_MAX && !over(e))
			open_one(e, &e->conns[next++], clock_ns());
		turn(e, clock_ns() + NS_PER_S / 10);
		reopen_failed(e);
	}
	e->r->open_s = ns_to_s(clock_ns() - from);
	e->r->opened = e->ready;
}

static void window_open(struct engine *e)
{
	usage_read(&e->o->server, &e->r->server_start);
	e->r->self_cpu_ns = usage_self_ns();
	e->started = true;
}

static void window_close(struct engine *e, uint64_t now)
{
	uint64_t end = e->o->count && e->last_done_ns ? e->last_done_ns : now;

	usage_read(&e->o->server, &e->r->server_end);
	e->r->self_cpu_ns = usage_self_ns() - e->r->self_cpu_ns;
	e->r->window_s = ns_to_s(end - e->measure_ns);
	e->stop_ns = end;
	e->stopped = true;
}

static bool counted_out(const struct engine *e)
{
	return e->o->count && e->begun >= e->o->count && e->busy == 0;
}

static uint64_t next_time(const struct engine *e)
{
	uint64_t at = e->started ? e->stop_ns : e->measure_ns;

	if (e->o->rate > 0 && e->places_free && e->arrival_ns < at)
		at = e->arrival_ns;
	return at;
}

static void measure(struct engine *e)
{
	const struct options *o = e->o;
	uint64_t now = clock_ns();

	e->measure_ns = now + (uint64_t)(o->warmup_s * 1e9);
	e->stop_ns = e->measure_ns + (uint64_t)((e->driver->idle ? o->hold_s : o->seconds) * 1e9);
	e->arrival_ns = now;
	if (o->warmup_s <= 0)
		window_open(e);
	while ((now = clock_ns()) < e->stop_ns && !over(e) && !counted_out(e)) {
		if (!e->started && now >= e->measure_ns)
			window_open(e);
		start_due(e);
		turn(e, next_time(e));
		reopen_failed(e);
	}
	window_close(e, now);
}

/* What is in flight may end; arrivals that were due may still start. */
static void drain(struct engine *e)
{
	uint64_t give_up = clock_ns() + (uint64_t)(e->o->timeout_s * 1e9);

	while (!over(e) && clock_ns() < give_up) {
		if (e->o->rate > 0)
			start_due(e);
		if (e->busy == 0 && (e->o->rate <= 0 || e->arrival_ns >= e->stop_ns))
			break;
		turn(e, give_up);
	}
	e->r->unfinished = e->busy;
	while (e->o->rate > 0 && e->arrival_ns < e->stop_ns && e->r->unstarted < 1000000000) {
		e->r->unstarted++;
		e->arrival_ns += (uint64_t)(1e9 / e->o->rate);
	}
	e->r->errors += e->r->unfinished + e->r->unstarted;
}

static void leave(struct engine *e)
{
	uint64_t give_up = clock_ns() + LEAVE_S * NS_PER_S;
	unsigned open = 1;

	e->leaving = true;
	for (unsigned i = 0; i < e->o->connections; i++) {
		struct conn *c = &e->conns[i];
		if (c->fd >= 0 && e->driver->leave && c->ready && !c->places_busy) {
			e->driver->leave(c);
			conn_flush(c);
		} else {
			conn_close(c, true);
		}
	}
	while (open && clock_ns() < give_up) {
		turn(e, clock_ns() + NS_PER_S / 20);
		open = 0;
		for (unsigned i = 0; i < e->o->connections; i++)
			open += e->conns[i].fd >= 0;
	}
}

static void set_up(struct engine *e, const struct options *o)
{
	size_t state = (o->scenario->state_bytes + 63) & ~(size_t)63;
	char *states = aligned_alloc(64, state * o->connections);
	void *shared = o->scenario->prepare ? o->scenario->prepare(o) : NULL;

	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	e->in = malloc(IN_BYTES);
	e->conns = calloc(o->connections, sizeof(*e->conns));
	e->place_cap = o->connections * places_each(e);
	e->place = calloc(e->place_cap, sizeof(struct conn *));
	if (e->epoll < 0 || !e->in || !e->conns || !e->place || !states)
		err(2, "%u connections", o->connections);
	for (unsigned i = 0; i < o->connections; i++) {
		struct conn *c = &e->conns[i];

		c->engine = e;
		c->state = states + i * state;
		c->shared = shared;
		c->fd = -1;
		c->index = i;
		if (!o->scenario->kept)
			engine_ready(c);
	}
	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); /* arrivals are timed in microseconds */
}

void engine_run(const struct options *o, struct result *r)
{
	struct engine e = {.o = o, .driver = o->scenario, .r = r, .stop_ns = NEVER, .random = o->seed * 2 + 1};

	memset(r, 0, sizeof(*r));
	set_up(&e, o);
	usage_read(&o->server, &r->server_before);
	open_kept(&e);
	measure(&e);
	drain(&e);
	leave(&e);
	close(e.epoll);
}
