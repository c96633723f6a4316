/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll.c - the epoll back end: for hosts whose kernel, sysctl, seccomp profile or memory limit refuse io_uring.
 *
 * A request is tried first and waits only if it must.  What needs no buffer of ours is tried by begin() itself, so a reply is on its way when
 * begin() returns; a receive is tried by drain(), which lends one buffer to one after the other.  What would have to wait
 * stands in the list of its descriptor until an edge comes (epoll_watch.c).  Calls on files go to the pool (epoll_pool.c), but for reads of
 * what is in memory.
 *
 * Everything that can go on, to be tried or to be reported, stands in one queue, first come first served.  A wait that has something
 * in that queue asks for no events every other time: a reply that left at once costs no epoll_wait of its own.
 *
 * Costs nothing that is locked; one flight (40 bytes) a request, one watch (24 bytes) a descriptor, and
 * 4 bytes a descriptor of the process.
 */
#include "core/run/epoll_private.h"

#include "core/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DATA_WAKE UINT64_MAX
_Static_assert(sizeof(struct flight) == 40 && sizeof(struct watch) == 24, "what an idle connection costs");

static uint32_t slot_of(uint64_t token) { return (uint32_t)token; }
static uint64_t token_of(const struct flight *f, uint32_t slot) { return (uint64_t)f->generation << 32 | slot; }

/* ---- lists of flights: by slot, for the table moves when it grows ---- */

void flights_push(struct epoll *e, struct flights *list, uint32_t slot)
{
	struct flight *f = &e->flight[slot];
	f->next = 0;
	f->prev = list->tail;
	if (list->tail)
		e->flight[list->tail].next = slot;
	else
		list->head = slot;
	list->tail = slot;
}

void flights_remove(struct epoll *e, struct flights *list, uint32_t slot)
{
	struct flight *f = &e->flight[slot];
	if (f->prev)
		e->flight[f->prev].next = f->next;
	else
		list->head = f->next;
	if (f->next)
		e->flight[f->next].prev = f->prev;
	else
		list->tail = f->prev;
	f->prev = f->next = 0;
}

void make_ready(struct epoll *e, uint32_t slot)
{
	e->flight[slot].state = FLIGHT_READY;
	flights_push(e, &e->ready, slot);
}

static void end_with(struct epoll *e, uint32_t slot, int64_t result)
{
	e->flight[slot].state = FLIGHT_ENDED;
	e->flight[slot].result = result;
	flights_push(e, &e->ready, slot);
}

static struct flights *list_of(struct epoll *e, const struct flight *f)
{
	struct watch *w = watch_of(e, f->fd);
	return waits_to_read(f->kind, f->arg) ? &w->in : &w->out;
}

/* To be tried again when something happens to its descriptor. */
static void wait_for_event(struct epoll *e, uint32_t slot)
{
	struct flight *f = &e->flight[slot];
	bool untold = f->kind == IO_CONNECT && !f->prepared; /* no event tells that a unix socket's backlog has room */
	if (untold || !watch_register(e, f->fd, f->kind == IO_ACCEPT)) {
		f->state = FLIGHT_PACED;
		if (!e->paced.head)
			e->paced_ns = sys_boot_ns(e) + IO_PACE_NS;
		flights_push(e, &e->paced, slot);
		return;
	}
	f->state = FLIGHT_WAITING;
	flights_push(e, list_of(e, f), slot);
}

/* ---- open and close ---- */

static void pool_wake(void *owner)
{
	struct epoll *e = owner;
	uint64_t one = 1;
	/* sequentially consistent with the push before it: either we see the shard asleep or it sees the job */
	if (__atomic_load_n(&e->asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&e->asleep, 0, __ATOMIC_SEQ_CST))
		ASSERT(write(e->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EINTR || errno == EAGAIN);
}

static void epoll_close(void *be)
{
	struct epoll *e = be;
	file_pool_release(&e->pool);
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	if (e->fd >= 0)
		close(e->fd);
	table_free(e->flight, e->flight_count * sizeof(*e->flight));
	table_free(e->watch, e->watch_cap * sizeof(*e->watch));
	table_free(e->place, e->place_count * sizeof(*e->place));
	free(e);
}

static enum err epoll_open(const struct io_backend_config *config, void **be_out, char *why, size_t why_bytes)
{
	struct epoll *e = xcalloc(1, sizeof(*e));
	/* edge-triggered, so that nobody has to read it */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = DATA_WAKE };
	e->config = *config;
	file_pool_init(&e->pool, e, pool_wake);
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->fd < 0 || e->wake_fd < 0 || epoll_ctl(e->fd, EPOLL_CTL_ADD, e->wake_fd, &ev) < 0) {
		snprintf(why, why_bytes, "epoll: %s (a limit of open files?)", strerror(errno));
		epoll_close(e);
		*be_out = NULL;
		return ERR_CONFIG;
	}
	*be_out = e;
	return OK;
}

/* ---- begin and cancel ---- */

static struct flight *flight_new(struct epoll *e, uint64_t token)
{
	uint32_t slot = slot_of(token);
	if (slot >= e->flight_count) {
		uint32_t count = (uint32_t)max_u64((uint64_t)slot + 1, e->flight_count ? e->flight_count * 2ull : 512);
		e->flight = table_grow(e->flight, e->flight_count * sizeof(*e->flight), count * sizeof(*e->flight));
		e->flight_count = count;
	}
	struct flight *f = &e->flight[slot];
	ASSERT(f->state == FLIGHT_NONE);
	*f = (struct flight){ .generation = (uint32_t)(token >> 32) };
	return f;
}

/* What is in memory is read at once, as the ring does. */
static int64_t read_at_once(const struct io_request *r)
{
	return r->kind == IO_READ && r->len <= FILE_READ_NOW_BYTES_MAX ? sys_read_now(NULL, r->fd, r->ptr, r->len, r->offset) : -EAGAIN;
}

static void begin_file(struct epoll *e, const struct io_request *r)
{
	struct flight *f = flight_new(e, r->token);
	int64_t n = read_at_once(r);
	f->kind = r->kind;
	f->fd = -1; /* nothing is watched */
	if (n > 0) {
		end_with(e, slot_of(r->token), n);
		return;
	}
	f->state = FLIGHT_FILE;
	f->job = file_pool_begin(&e->pool, r);
}

static void begin_polled(struct epoll *e, const struct io_request *r)
{
	uint32_t slot = slot_of(r->token);
	struct flight *f = flight_new(e, r->token);
	struct io_completion c;
	f->kind = r->kind;
	f->flags = r->flags;
	f->arg = r->arg;
	f->fd = r->fd;
	f->ptr = r->ptr;
	f->len = r->len;
	watch_of(e, f->fd)->flights++;
	if (r->kind == IO_RECV || r->kind == IO_ACCEPT) {
		if ((r->flags & IO_COLD) && !watch_of(e, r->fd)->may_read)
			wait_for_event(e, slot);
		else
			make_ready(e, slot);
	} else if (attempt(e, f, &c)) {
		end_with(e, slot, c.result);
	} else {
		wait_for_event(e, slot);
	}
}

static void epoll_begin(void *be, const struct io_request *r)
{
	struct epoll *e = be;
	if (r->kind <= IO_POLL || (r->kind == IO_READ && r->offset == IO_NO_OFFSET))
		begin_polled(e, r);
	else
		begin_file(e, r);
}

static void epoll_cancel(void *be, uint64_t token)
{
	struct epoll *e = be;
	uint32_t slot = slot_of(token);
	if (slot >= e->flight_count || e->flight[slot].generation != (uint32_t)(token >> 32))
		return;
	struct flight *f = &e->flight[slot];
	switch ((enum flight_state)f->state) {
	case FLIGHT_READY:
		flights_remove(e, &e->ready, slot);
		break;
	case FLIGHT_WAITING:
		flights_remove(e, list_of(e, f), slot);
		break;
	case FLIGHT_PACED:
		flights_remove(e, &e->paced, slot);
		break;
	case FLIGHT_FILE:
		if (!file_pool_withdraw(&e->pool, f->job))
			return; /* it runs, or has run: its end tells (invariant 9) */
		break;
	default:
		return;
	}
	if (f->kind == IO_ACCEPT) /* else a connection might wake us alone, whom it no longer concerns */
		watch_end(e, f->fd);
	end_with(e, slot, -ECANCELED);
}

static void epoll_prefetch(void *be, int fd, uint64_t offset, uint64_t bytes)
{
	struct epoll *e = be;
	struct io_request r = { .kind = IO_NONE, .fd = fd, .offset = offset, .len = min_u64(bytes, 1u << 30) };
	(void)file_pool_begin(&e->pool, &r);
}

/* ---- waiting ---- */

static void paced_again(struct epoll *e)
{
	if (!e->paced.head || sys_boot_ns(e) < e->paced_ns)
		return;
	while (e->paced.head) {
		uint32_t slot = e->paced.head;
		flights_remove(e, &e->paced, slot);
		make_ready(e, slot);
	}
}

static int wait_events(struct epoll *e, struct epoll_event *events, uint64_t timeout_ns)
{
	count_enter(e);
	if (!e->no_pwait2 && timeout_ns != 0 && timeout_ns != UINT64_MAX) {
		struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u) };
		int n = epoll_pwait2(e->fd, events, IO_EVENTS_MAX, &ts, NULL);
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		e->no_pwait2 = true; /* before Linux 5.11, or an old profile: whole milliseconds */
	}
	uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
	return epoll_wait(e->fd, events, IO_EVENTS_MAX, timeout_ns == UINT64_MAX ? -1 : (int)min_u64(ms, 3600000));
}

static void epoll_wait_turn(void *be, uint64_t timeout_ns)
{
	struct epoll *e = be;
	struct epoll_event events[IO_EVENTS_MAX];
	paced_again(e);
	if (e->ready.head) {
		e->passed = !e->passed;
		if (e->passed)
			return;
		timeout_ns = 0;
	}
	e->passed = false;
	if (e->paced.head)
		timeout_ns = min_u64(timeout_ns, IO_PACE_NS);
	if (timeout_ns > 0) {
		__atomic_store_n(&e->asleep, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&e->pool.done, __ATOMIC_SEQ_CST))
			timeout_ns = 0;
	}
	int n = wait_events(e, events, timeout_ns);
	ASSERT(n >= 0 || errno == EINTR);
	__atomic_store_n(&e->asleep, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < n; i++)
		if (events[i].data.u64 != DATA_WAKE)
			watch_event(e, events[i].data.u64, events[i].events);
	paced_again(e);
}

static void take_files(struct epoll *e)
{
	for (struct file_job *j = file_pool_take(&e->pool), *next; j; j = next) {
		next = j->next;
		if (j->request.kind != IO_NONE) /* as begun: nobody else uses this slot before its end is told */
			end_with(e, slot_of(j->request.token), j->result);
		file_pool_free(&e->pool, j);
	}
}

static void report(struct epoll *e, uint32_t slot, struct io_completion *c)
{
	struct flight *f = &e->flight[slot];
	c->token = token_of(f, slot);
	if (c->more) {
		make_ready(e, slot); /* the next connection, after the others' turn */
	} else {
		f->state = FLIGHT_NONE;
		if (f->fd >= 0)
			watch_of(e, f->fd)->flights--;
	}
	e->config.complete(e->config.sink, c);
}

static unsigned epoll_drain(void *be, unsigned max)
{
	struct epoll *e = be;
	unsigned told = 0;
	take_files(e);
	for (unsigned tried = 0; e->ready.head && tried < max; tried++) {
		uint32_t slot = e->ready.head;
		struct flight *f = &e->flight[slot];
		struct io_completion c = { .result = f->result };
		flights_remove(e, &e->ready, slot);
		if (f->state == FLIGHT_READY && !attempt(e, f, &c)) {
			wait_for_event(e, slot);
			continue;
		}
		report(e, slot, &c);
		told++;
	}
	return told;
}

static void epoll_wake(void *be, void *from)
{
	struct epoll *e = be;
	uint64_t one = 1;
	(void)from;
	ASSERT(write(e->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EINTR || errno == EAGAIN);
}

static void epoll_stats(void *be, struct io_backend_stats *out)
{
	struct epoll *e = be;
	*out = (struct io_backend_stats){ .enters = __atomic_load_n(&e->enters, __ATOMIC_RELAXED) };
}

static void epoll_fd_close(void *be, int fd)
{
	watch_closed(fd);
	watch_drop(be, fd);
	sys_close(be, fd);
}

static void epoll_fd_leave(void *be, int fd) { watch_end(be, fd); }

const struct io_backend io_backend_epoll = {
	.name = "epoll",
	.can_splice = true,
	.open = epoll_open,
	.close = epoll_close,
	.begin = epoll_begin,
	.cancel = epoll_cancel,
	.wait = epoll_wait_turn,
	.drain = epoll_drain,
	.wake = epoll_wake,
	.stats = epoll_stats,
	.prefetch = epoll_prefetch,
	.fd_leave = epoll_fd_leave,
	.read_now = sys_read_now,
	IO_BACKEND_SYSCALLS(epoll_fd_close),
};
