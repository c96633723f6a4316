/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll_watch.c - which descriptors a shard hears of, and what it knows of them.
 *
 * A descriptor is registered once, when something first waits for it, for both directions and edge-triggered: a connection costs one
 * epoll_ctl in its life.  An edge is told once, so it is remembered (may_read) until a read has found nothing, or less than it asked for.
 *
 * Registrations end by themselves when a descriptor is closed, and its number comes back as another's.  So numbers have
 * generations, counted up by whoever closes one (backend.h: fd_close; any thread): a watch of an older generation is void, and so is an event
 * that was fetched before the close.  A connection that moves to another shard leaves (fd_leave); whatever else is still registered where nobody asks anything of it
 * any more is let go at its next event.
 *
 * A listener may be several shards' at once: EPOLLEXCLUSIVE, so that one connection does not wake all of them.
 */
#include "core/run/epoll_private.h"

#include "core/base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

/* ---- tables: pages of their own, so that growing copies nothing and what was never used costs nothing ---- */

void *table_grow(void *table, size_t before, size_t after)
{
#ifdef __SANITIZE_THREAD__ /* does not see pages move */
	table = xrealloc(table, after);
	memset((char *)table + before, 0, after - before);
	return table;
#else
	void *grown = table ? mremap(table, before, after, MREMAP_MAYMOVE)
		            : mmap(NULL, after, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(grown != MAP_FAILED); /* as xrealloc: there is no going on without memory */
	return grown;
#endif
}

void table_free(void *table, size_t bytes)
{
#ifdef __SANITIZE_THREAD__
	(void)bytes;
	free(table);
#else
	if (table)
		munmap(table, bytes);
#endif
}

/* ---- generations: process-wide, atomic; made in blocks as numbers are used, and never given back ---- */

#define BLOCK_FDS 4096u
static uint32_t *blocks[IO_FDS_MAX / BLOCK_FDS];

static uint32_t *generation_at(int fd)
{
	ASSERT(fd >= 0 && (unsigned)fd < IO_FDS_MAX);
	uint32_t **place = &blocks[(unsigned)fd / BLOCK_FDS], *block = __atomic_load_n(place, __ATOMIC_ACQUIRE);
	if (!block) {
		uint32_t *fresh = xcalloc(BLOCK_FDS, sizeof(*fresh));
		if (__atomic_compare_exchange_n(place, &block, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			block = fresh;
		else
			free(fresh);
	}
	return &block[(unsigned)fd % BLOCK_FDS];
}

/* Never 0, which means "not registered". */
static uint32_t watch_generation(int fd) { return __atomic_load_n(generation_at(fd), __ATOMIC_ACQUIRE) | 1u; }
void watch_closed(int fd)
{
	if ((unsigned)fd < IO_FDS_MAX)
		__atomic_add_fetch(generation_at(fd), 2, __ATOMIC_ACQ_REL);
}

/* ---- watches: a table by descriptor of places in a denser one, for a shard watches few of the process's descriptors ---- */

static uint32_t take_place(struct epoll *e)
{
	uint32_t place = e->watch_free;
	if (place) {
		e->watch_free = e->watch[place].in.head;
	} else {
		if (e->watch_used + 1 >= e->watch_cap) {
			uint32_t cap = e->watch_cap ? e->watch_cap * 2 : 512;
			e->watch = table_grow(e->watch, e->watch_cap * sizeof(*e->watch), cap * sizeof(*e->watch));
			e->watch_cap = cap;
		}
		place = ++e->watch_used; /* place 0 stays unused */
	}
	e->watch[place] = (struct watch){ .generation = 0 };
	return place;
}

static struct watch *watch_find(struct epoll *e, int fd)
{
	uint32_t place = (uint32_t)fd < e->place_count ? e->place[fd] : 0;
	return place ? &e->watch[place] : NULL;
}

struct watch *watch_of(struct epoll *e, int fd)
{
	ASSERT(fd >= 0);
	if ((uint32_t)fd >= e->place_count) {
		uint32_t count = (uint32_t)max_u64((uint64_t)fd + 1, e->place_count ? e->place_count * 2ull : 1024);
		e->place = table_grow(e->place, e->place_count * sizeof(*e->place), count * sizeof(*e->place));
		e->place_count = count;
	}
	if (!e->place[fd])
		e->place[fd] = take_place(e);
	struct watch *w = &e->watch[e->place[fd]];
	if (w->generation && w->generation != watch_generation(fd)) /* another's number now */
		*w = (struct watch){ .in = w->in, .out = w->out, .flights = w->flights };
	return w;
}

void watch_drop(struct epoll *e, int fd)
{
	struct watch *w = watch_find(e, fd);
	if (!w || w->flights)
		return;
	w->in.head = e->watch_free;
	e->watch_free = e->place[fd];
	e->place[fd] = 0;
}

bool watch_register(struct epoll *e, int fd, bool listener)
{
	struct watch *w = watch_of(e, fd);
	if (w->generation)
		return true;
	uint32_t generation = watch_generation(fd);
	struct epoll_event ev = { .events = EPOLLET | EPOLLIN | (listener ? EPOLLEXCLUSIVE : EPOLLOUT | EPOLLRDHUP),
		                  .data.u64 = (uint64_t)generation << 32 | (uint32_t)fd };
	count_enter(e);
	int r = epoll_ctl(e->fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? errno : 0;
	if (r == EEXIST) { /* closed behind the door's back while somebody else keeps the file open */
		(void)epoll_ctl(e->fd, EPOLL_CTL_DEL, fd, NULL);
		r = epoll_ctl(e->fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? errno : 0;
	}
	w->generation = r ? 0 : generation;
	w->may_read = w->ended = false;
	return r == 0;
}

void watch_end(struct epoll *e, int fd)
{
	struct watch *w = watch_find(e, fd);
	if (!w)
		return;
	if (w->generation == watch_generation(fd)) {
		count_enter(e);
		(void)epoll_ctl(e->fd, EPOLL_CTL_DEL, fd, NULL);
	}
	*w = (struct watch){ .in = w->in, .out = w->out, .flights = w->flights };
	watch_drop(e, fd);
}

static void all_ready(struct epoll *e, struct flights *list)
{
	while (list->head) {
		uint32_t slot = list->head;
		flights_remove(e, list, slot);
		make_ready(e, slot);
	}
}

void watch_event(struct epoll *e, uint64_t data, uint32_t events)
{
	int fd = (int)(uint32_t)data;
	struct watch *w = watch_find(e, fd);
	if (!w || w->generation != (uint32_t)(data >> 32))
		return; /* fetched before a close */
	if (w->flights == 0) { /* a session that is busy hears of it when it asks again */
		watch_end(e, fd);
		return;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		w->ended = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		w->may_read = true;
		all_ready(e, &w->in);
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		all_ready(e, &w->out);
}
