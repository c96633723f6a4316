/* SPDX-License-Identifier: Apache-2.0 */
/* engine: see engine.h. */
#include "bench/load/engine.h"

#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/load/arrivals.h"
#include "bench/load/clock.h"
#include "bench/load/driver.h"

#define EVENTS_PER_TURN 256
#define OPENING_MAX 128   /* connections being opened at once: a listener's backlog is finite */
#define LEAVE_S 10        /* patience for good-byes */

struct stream {
	struct engine *e;
	const struct options *o;
	const struct driver *driver;
	struct result *r;
	struct conn *conns;
	struct arrivals arrivals;

	/* free places: a ring of connections, first freed first used */
	struct conn **place;
	unsigned place_cap;
	unsigned place_head;
	unsigned places_free;

	unsigned ready;
	unsigned busy;          /* operations in flight */
	unsigned to_reopen;

	uint64_t begun;
	uint64_t counted_ns;    /* up to where present_s goes */
	uint64_t last_done_ns;
};

struct engine {
	const struct options *o;
	struct window *w;
	struct stream *stream;
	unsigned streams;
	int epoll;
	char *in;
	bool leaving;
	uint64_t origin_ns;     /* when arrivals began */
	uint64_t measure_ns;    /* the window's ends */
	uint64_t stop_ns;
	uint64_t next_sweep_ns;
	bool started;           /* the window is open, its figures taken */
	bool stopped;
};

const struct options *engine_options(const struct conn *c) { return c->stream->o; }
const struct driver *engine_driver(const struct conn *c) { return c->stream->driver; }
int engine_epoll(const struct conn *c) { return c->stream->e->epoll; }

static bool open_loop(const struct stream *s)
{
	return s->o->rate > 0 || s->o->arrivals;
}

/* ---- places ------------------------------------------------------------- */

static void push_place(struct stream *s, struct conn *c)
{
	s->place[(s->place_head + s->places_free++) % s->place_cap] = c;
}

static struct conn *pop_place(struct stream *s)
{
	struct conn *c = s->place[s->place_head];

	s->place_head = (s->place_head + 1) % s->place_cap;
	s->places_free--;
	return c;
}

static unsigned places_each(const struct stream *s)
{
	return s->driver->windowed ? s->o->pipeline : 1;
}

static void touch(struct conn *c, uint64_t now)
{
	c->deadline_ns = now + (uint64_t)(c->stream->o->timeout_s * 1e9);
}

/* Adds what has been present since the last time; to be called before the number changes. */
static void count_present(struct stream *s, uint64_t now)
{
	if (s->e->started && !s->e->stopped && now > s->counted_ns)
		s->r->present_s += ns_to_s(now - s->counted_ns) * (double)(s->busy + s->arrivals.waiting);
	s->counted_ns = now > s->counted_ns ? now : s->counted_ns;
}

void engine_ready(struct conn *c)
{
	struct stream *s = c->stream;

	c->ready = true;
	c->deadline_ns = 0;
	s->ready++;
	for (unsigned i = 0; i < places_each(s) && !s->driver->idle; i++)
		push_place(s, c);
}

void engine_done(struct conn *c, uint64_t intended_ns, uint64_t units, uint64_t bytes)
{
	struct stream *s = c->stream;
	const struct engine *e = s->e;
	uint64_t now = clock_ns();
	bool inside = e->started && !e->stopped && now >= e->measure_ns && now <= e->stop_ns;

	if (inside) {
		s->r->operations++;
		s->r->units += units;
		s->r->payload_bytes += bytes;
		s->last_done_ns = now;
	}
	if (open_loop(s) ? intended_ns >= e->measure_ns && intended_ns <= e->stop_ns : inside)
		histogram_add(&s->r->latency, now - intended_ns);
}

void engine_handshake(struct conn *c, bool resumed)
{
	const struct stream *s = c->stream;

	/* those of kept connections come before the window and belong to the run all the same */
	if (s->e->stopped || (!s->e->started && !s->driver->kept))
		return;
	if (resumed)
		s->r->handshakes_resumed++;
	else
		s->r->handshakes_full++;
}

void engine_taken(struct conn *c)
{
	uint64_t now = clock_ns();

	count_present(c->stream, now);
	c->places_busy++;
	c->stream->busy++;
	touch(c, now);
}

void engine_free(struct conn *c)
{
	struct stream *s = c->stream;

	count_present(s, clock_ns());
	c->places_busy--;
	s->busy--;
	if (!c->places_busy)
		c->deadline_ns = 0;
	if (!s->driver->idle)
		push_place(s, c);
}

/* The failed connection's free places must not be used until it is open again. */
static void forget_places(struct stream *s, const struct conn *c)
{
	unsigned n = s->places_free;

	while (n--) {
		struct conn *other = pop_place(s);
		if (other != c)
			push_place(s, other);
	}
}

void engine_fail(struct conn *c, const char *format, ...)
{
	struct stream *s = c->stream;
	va_list args;

	if (s->r->errors < ERRORS_SHOWN) {
		va_start(args, format);
		vsnprintf(s->r->error[s->r->errors], ERROR_BYTES_MAX, format, args);
		va_end(args);
	}
	s->r->errors += c->places_busy ? c->places_busy : 1;
	conn_close(c, true);
	c->deadline_ns = 0;
	count_present(s, clock_ns());
	s->busy -= c->places_busy;
	if (s->driver->kept) {
		c->places_busy = 0;
		if (c->ready) {
			forget_places(s, c);
			s->ready--;
		}
		c->ready = false;
		s->to_reopen += !c->reopen;
		c->reopen = true;
		return;
	}
	while (c->places_busy) {
		c->places_busy--;
		push_place(s, c);
	}
}

/* ---- arrivals -------------------------------------------------------------- */

/* All that were due by now; they have been present since then, however late we look. */
static void draw_due(struct stream *s, uint64_t now)
{
	const struct engine *e = s->e;

	while (s->arrivals.next_ns <= now && s->arrivals.next_ns < e->stop_ns) {
		uint64_t at = s->arrivals.next_ns;

		if (at >= e->measure_ns) {
			s->r->offered++;
			histogram_add(&s->r->lag, clock_ns() - at);
		}
		if (e->started && !e->stopped)
			s->r->present_s += ns_to_s(now - (at > e->measure_ns ? at : e->measure_ns));
		arrivals_due(&s->arrivals, s->o, e->origin_ns);
	}
}

/* ---- starting operations ------------------------------------------------- */

static void begin(struct stream *s, uint64_t intended_ns, uint64_t now)
{
	struct conn *c = pop_place(s);

	s->begun++;
	s->busy++;
	c->places_busy++;
	touch(c, now);
	s->driver->begin(c, intended_ns);
	conn_flush(c);
}

static void start_open(struct stream *s)
{
	uint64_t now = clock_ns();

	count_present(s, now);
	draw_due(s, now);
	while (s->places_free && s->arrivals.waiting)
		begin(s, arrivals_take(&s->arrivals), now);
}

static void start_closed(struct stream *s)
{
	uint64_t now = clock_ns();

	while (s->places_free && now < s->e->stop_ns && (!s->o->count || s->begun < s->o->count)) {
		count_present(s, now);
		begin(s, now, now);
		if (s->places_free)
			now = clock_ns();
		if (s->r->errors >= s->o->errors_max)
			return;
	}
}

static void start_due(struct engine *e)
{
	for (unsigned i = 0; i < e->streams; i++) {
		struct stream *s = &e->stream[i];

		if (s->driver->idle)
			continue;
		if (open_loop(s))
			start_open(s);
		else
			start_closed(s);
	}
}

static void open_one(struct stream *s, struct conn *c, uint64_t now)
{
	c->reopen = false;
	touch(c, now);
	s->driver->open(c);
	conn_flush(c);
}

static bool over(const struct engine *e)
{
	for (unsigned i = 0; i < e->streams; i++) {
		if (e->stream[i].r->errors >= e->stream[i].o->errors_max)
			return true;
	}
	return false;
}

static void reopen_failed(struct engine *e)
{
	uint64_t now = clock_ns();

	for (unsigned n = 0; n < e->streams; n++) {
		struct stream *s = &e->stream[n];

		if (!s->to_reopen || e->leaving || over(e))
			continue;
		s->to_reopen = 0;
		for (unsigned i = 0; i < s->o->connections; i++) {
			if (s->conns[i].reopen)
				open_one(s, &s->conns[i], now);
		}
	}
}

/* ---- the loop ------------------------------------------------------------ */

static void sweep(struct engine *e, uint64_t now)
{
	if (now < e->next_sweep_ns)
		return;
	e->next_sweep_ns = now + NS_PER_S / 4;
	for (unsigned n = 0; n < e->streams; n++) {
		struct stream *s = &e->stream[n];

		for (unsigned i = 0; i < s->o->connections; i++) {
			struct conn *c = &s->conns[i];
			if (c->deadline_ns && c->deadline_ns < now)
				engine_fail(c, "no answer within %.1f s", s->o->timeout_s);
		}
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

static void open_kept(struct stream *s)
{
	struct engine *e = s->e;
	uint64_t from = clock_ns();
	uint64_t give_up = from + (uint64_t)((s->o->timeout_s + 0.01 * s->o->connections) * 1e9);
	unsigned next = 0;

	while (s->driver->kept && s->ready < s->o->connections && !over(e) && clock_ns() < give_up) {
		while (next < s->o->connections && next - s->ready < OPENING_MAX && !over(e))
			open_one(s, &s->conns[next++], clock_ns());
		turn(e, clock_ns() + NS_PER_S / 10);
		reopen_failed(e);
	}
	s->r->open_s = ns_to_s(clock_ns() - from);
	s->r->opened = s->ready;
}

/* What the connections have carried so far, all of a stream. */
static void count_bytes(const struct stream *s, uint64_t *in_out, uint64_t *out_out)
{
	*in_out = *out_out = 0;
	for (unsigned i = 0; i < s->o->connections; i++) {
		*in_out += s->conns[i].bytes_in;
		*out_out += s->conns[i].bytes_out;
	}
}

/* The window begins when we look, not when we should have: whatever was due before belongs to the warm-up. */
static void window_open(struct engine *e, uint64_t now)
{
	e->measure_ns = now;
	for (unsigned i = 0; i < e->streams; i++) {
		struct stream *s = &e->stream[i];

		count_present(s, now);
		if (open_loop(s))
			draw_due(s, now);
		s->r->present_start = s->busy + s->arrivals.waiting;
		count_bytes(s, &s->r->bytes_in, &s->r->bytes_out);
	}
	usage_read(&e->o->server, &e->w->server_start);
	e->w->self_cpu_ns = usage_self_ns();
	e->started = true;
}

static void window_close(struct engine *e, uint64_t now)
{
	uint64_t end = now;

	e->stop_ns = now; /* as above: all that were due until now were offered in it */
	usage_read(&e->o->server, &e->w->server_end);
	e->w->self_cpu_ns = usage_self_ns() - e->w->self_cpu_ns;
	if (e->o->count && e->stream[0].last_done_ns) /* one stream, bounded by its count */
		end = e->stream[0].last_done_ns;
	for (unsigned i = 0; i < e->streams; i++) {
		struct stream *s = &e->stream[i];
		uint64_t in, out;

		count_present(s, now);
		if (open_loop(s))
			draw_due(s, now);
		s->r->present_end = s->busy + s->arrivals.waiting;
		count_bytes(s, &in, &out);
		s->r->bytes_in = in - s->r->bytes_in;
		s->r->bytes_out = out - s->r->bytes_out;
	}
	e->w->seconds = ns_to_s(end - e->measure_ns);
	e->stop_ns = end;
	e->stopped = true;
}

static bool counted_out(const struct engine *e)
{
	const struct stream *s = e->stream;

	return e->o->count && s->begun >= e->o->count && s->busy == 0;
}

static uint64_t next_time(const struct engine *e)
{
	uint64_t at = e->started ? e->stop_ns : e->measure_ns;

	for (unsigned i = 0; i < e->streams; i++) {
		const struct stream *s = &e->stream[i];

		if (s->arrivals.next_ns < at) /* noticed in time, even where it must wait for a place */
			at = s->arrivals.next_ns;
	}
	return at;
}

static void measure(struct engine *e)
{
	const struct options *o = e->o;
	uint64_t now = clock_ns();
	bool hold = !o->mix && e->stream[0].driver->idle;

	e->origin_ns = now;
	e->measure_ns = now + (uint64_t)(o->warmup_s * 1e9);
	e->stop_ns = e->measure_ns + (uint64_t)((hold ? o->hold_s : o->seconds) * 1e9);
	for (unsigned i = 0; i < e->streams; i++)
		arrivals_begin(&e->stream[i].arrivals, e->stream[i].o, now);
	if (o->warmup_s <= 0)
		window_open(e, now);
	while ((now = clock_ns()) < e->stop_ns && !over(e) && !counted_out(e)) {
		if (!e->started && now >= e->measure_ns)
			window_open(e, now);
		start_due(e);
		turn(e, next_time(e));
		reopen_failed(e);
	}
	window_close(e, now);
}

static bool settled(const struct engine *e)
{
	for (unsigned i = 0; i < e->streams; i++) {
		const struct stream *s = &e->stream[i];

		if (s->busy || s->arrivals.waiting || s->arrivals.next_ns < e->stop_ns)
			return false;
	}
	return true;
}

/* What is in flight may end; arrivals that were due may still start. */
static void drain(struct engine *e)
{
	uint64_t give_up = clock_ns() + (uint64_t)(e->o->timeout_s * 1e9);

	while (!over(e) && clock_ns() < give_up) {
		for (unsigned i = 0; i < e->streams; i++) {
			if (open_loop(&e->stream[i]))
				start_open(&e->stream[i]);
		}
		if (settled(e))
			break;
		turn(e, give_up);
	}
	for (unsigned i = 0; i < e->streams; i++) {
		struct stream *s = &e->stream[i];

		s->r->unfinished = s->busy;
		s->r->unstarted = s->arrivals.waiting;
		s->r->errors += s->r->unfinished + s->r->unstarted;
	}
}

/* Says goodbye, or ends what cannot. */
static void leave(struct engine *e)
{
	uint64_t give_up = clock_ns() + LEAVE_S * NS_PER_S;
	unsigned open = 1;

	e->leaving = true;
	for (unsigned n = 0; n < e->streams; n++) {
		struct stream *s = &e->stream[n];

		for (unsigned i = 0; i < s->o->connections; i++) {
			struct conn *c = &s->conns[i];
			if (c->fd >= 0 && s->driver->leave && c->ready && !c->places_busy) {
				s->driver->leave(c);
				conn_flush(c);
			} else {
				conn_close(c, true);
			}
		}
	}
	while (open && clock_ns() < give_up) {
		turn(e, clock_ns() + NS_PER_S / 20);
		open = 0;
		for (unsigned n = 0; n < e->streams; n++) {
			for (unsigned i = 0; i < e->stream[n].o->connections; i++)
				open += e->stream[n].conns[i].fd >= 0;
		}
	}
}

static void stream_init(struct stream *s, struct engine *e, const struct options *o, struct result *r, unsigned number)
{
	size_t state = (o->scenario->state_bytes + 63) & ~(size_t)63;
	char *states = aligned_alloc(64, state * o->connections);
	void *shared = o->scenario->prepare ? o->scenario->prepare(o) : NULL;

	*s = (struct stream){.e = e, .o = o, .driver = o->scenario, .r = r};
	memset(r, 0, sizeof(*r));
	s->conns = calloc(o->connections, sizeof(*s->conns));
	s->place_cap = o->connections * places_each(s);
	s->place = calloc(s->place_cap, sizeof(struct conn *));
	if (!s->conns || !s->place || !states)
		err(2, "%u connections", o->connections);
	arrivals_open(&s->arrivals, o, o->seed * 1000003 + number);
	for (unsigned i = 0; i < o->connections; i++) {
		struct conn *c = &s->conns[i];

		c->stream = s;
		c->state = states + i * state;
		c->shared = shared;
		c->fd = -1;
		c->index = i;
		if (!o->scenario->kept)
			engine_ready(c);
	}
}

void engine_run(const struct options *o, const struct options *streams, unsigned count, struct window *w, struct result *r)
{
	static struct stream stream[STREAMS_MAX];
	struct engine e = {.o = o, .w = w, .stream = stream, .streams = count, .stop_ns = NEVER};

	memset(w, 0, sizeof(*w));
	e.epoll = epoll_create1(EPOLL_CLOEXEC);
	e.in = malloc(IN_BYTES);
	if (e.epoll < 0 || !e.in)
		err(2, "epoll");
	for (unsigned i = 0; i < count; i++)
		stream_init(&stream[i], &e, &streams[i], &r[i], i);
	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); /* arrivals are timed in microseconds */
	usage_read(&o->server, &w->server_before);
	for (unsigned i = 0; i < count; i++)
		open_kept(&stream[i]);
	measure(&e);
	drain(&e);
	leave(&e);
	close(e.epoll);
}
