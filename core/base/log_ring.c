/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_ring.c - a bounded queue of slots with sequence numbers.
 *
 * Slot i is free for the line with number n (n mod size = i) when its sequence is n, and holds it when it is n + 1; taking
 * it out makes it n + size, free for the next round.  `in` and `out` are the next numbers to put and to take.
 */
#include "core/base/log_ring.h"
#include "core/base/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#define LINES_A_WRITE 16

struct slot {
	uint64_t sequence;
	uint32_t len;
	char text[LOG_LINE_BYTES_MAX];
};

struct log_ring {
	struct slot *slots;
	uint64_t mask;
	void (*wake)(void *arg);
	void *wake_arg;
	_Alignas(64) uint64_t in;
	_Alignas(64) uint64_t out;
	uint64_t told_dropped;
	bool woken; /* wake was called and no drain has begun since */
};

struct log_ring *log_ring_open(size_t lines, void (*wake)(void *arg), void *arg)
{
	ASSERT(lines > 0 && lines <= LOG_RING_LINES_MAX);
	size_t size = 2; /* with one slot, full and empty would look alike */
	while (size < lines)
		size *= 2;
	struct log_ring *r = aligned_alloc(64, sizeof(*r));
	ASSERT(r);
	*r = (struct log_ring){ .mask = size - 1, .wake = wake, .wake_arg = arg, .told_dropped = log_dropped() };
	r->slots = xcalloc(size, sizeof(*r->slots));
	for (size_t i = 0; i < size; i++)
		r->slots[i].sequence = i;
	return r;
}

void log_ring_close(struct log_ring *r)
{
	free(r->slots);
	free(r);
}

/* The slot of the next line, once nobody else can get it; NULL when it is not ready (full, or empty). `lag` is how far a
 * ready slot's sequence is ahead of the number: 0 to put, 1 to take. */
static struct slot *claim(struct log_ring *r, uint64_t *next, uint64_t lag, uint64_t *number_out)
{
	uint64_t n = __atomic_load_n(next, __ATOMIC_RELAXED);
	for (;;) {
		struct slot *s = &r->slots[n & r->mask];
		int64_t ahead = (int64_t)(__atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE) - n - lag);
		if (ahead < 0)
			return NULL;
		if (ahead > 0) { /* another thread was faster */
			n = __atomic_load_n(next, __ATOMIC_RELAXED);
			continue;
		}
		if (__atomic_compare_exchange_n(next, &n, n + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			*number_out = n;
			return s;
		}
	}
}

bool log_ring_sink(void *ring, enum log_level level, struct slice line)
{
	struct log_ring *r = ring;
	uint64_t n;
	(void)level;
	ASSERT(line.len <= LOG_LINE_BYTES_MAX);
	struct slot *s = claim(r, &r->in, 0, &n);
	if (s) {
		memcpy(s->text, line.ptr, line.len);
		s->len = (uint32_t)line.len;
		__atomic_store_n(&s->sequence, n + 1, __ATOMIC_RELEASE);
	}
	/* full: the line that filled it has woken the writer, or this one does */
	if (!__atomic_exchange_n(&r->woken, true, __ATOMIC_SEQ_CST) && r->wake)
		r->wake(r->wake_arg);
	return s != NULL;
}

/* All of it, or what the descriptor takes: a log that cannot be written must not stop the process. */
static void write_all(int fd, struct iovec *iov, int count)
{
	while (count) {
		ssize_t n = writev(fd, iov, count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		for (; count && (size_t)n >= iov->iov_len; iov++, count--)
			n -= (ssize_t)iov->iov_len;
		if (count) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
}

static size_t drain_some(struct log_ring *r, int fd)
{
	struct iovec iov[LINES_A_WRITE];
	struct slot *slots[LINES_A_WRITE];
	uint64_t numbers[LINES_A_WRITE];
	int count = 0;
	while (count < LINES_A_WRITE && (slots[count] = claim(r, &r->out, 1, &numbers[count]))) {
		iov[count] = (struct iovec){ slots[count]->text, slots[count]->len };
		count++;
	}
	write_all(fd, iov, count);
	for (int i = 0; i < count; i++)
		__atomic_store_n(&slots[i]->sequence, numbers[i] + r->mask + 1, __ATOMIC_RELEASE);
	return (size_t)count;
}

static void tell_dropped(struct log_ring *r, int fd)
{
	uint64_t dropped = log_dropped();
	uint64_t told = __atomic_exchange_n(&r->told_dropped, dropped, __ATOMIC_RELAXED);
	if (dropped <= told)
		return;
	char text[LOG_LINE_BYTES_MAX];
	struct slice line = log_build(text, LOG_WARN, LOG_FIELDS("log.dropped", LOG_U64("lines", dropped - told)));
	struct iovec iov = { text, line.len };
	write_all(fd, &iov, 1);
}

size_t log_ring_drain(struct log_ring *r, int fd)
{
	/* before looking: a line that comes behind our last look wakes again */
	__atomic_store_n(&r->woken, false, __ATOMIC_SEQ_CST);
	size_t total = 0;
	for (size_t n; (n = drain_some(r, fd)) > 0;)
		total += n;
	tell_dropped(r, fd);
	return total;
}
