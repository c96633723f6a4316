/* SPDX-License-Identifier: Apache-2.0 */
/* faults.c - see faults.h. */
#include "tests/unit/support/faults.h"

#include "core/base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct faults faults;

static const struct io_backend *inner_backend(void) { return faults.inner ? faults.inner : &io_backend_uring; }

#define KEPT_MAX 4096

/* What a shortened request points at lives until its completion: found by token. */
struct cut {
	uint64_t token;
	struct iovec iov[1];
	struct msghdr msg;
	struct cut *next;
};

struct faulty {
	void *inner;
	struct io_backend_config config;
	struct io_completion kept[KEPT_MAX]; /* to be reported by a later drain */
	unsigned kept_count;
	struct cut *cuts;
};

static bool chance(unsigned percent)
{
	faults.seed = faults.seed * 6364136223846793005u + 1442695040888963407u;
	return (faults.seed >> 33) % 100 < percent;
}

static uint64_t part_of(uint64_t n)
{
	faults.seed = faults.seed * 6364136223846793005u + 1442695040888963407u;
	return 1 + (faults.seed >> 33) % (n - 1);
}

static void keep(struct faulty *f, const struct io_completion *c)
{
	ASSERT(f->kept_count < KEPT_MAX);
	f->kept[f->kept_count++] = *c;
}

static void drop_cut(struct faulty *f, uint64_t token)
{
	for (struct cut **at = &f->cuts; *at; at = &(*at)->next) {
		struct cut *c = *at;
		if (c->token != token)
			continue;
		*at = c->next;
		free(c);
		return;
	}
}

static void inner_complete(void *sink, const struct io_completion *c)
{
	struct faulty *f = sink;
	drop_cut(f, c->token);
	/* lent bytes and standing requests are reported now or never */
	if (!c->more && !c->data.ptr && chance(faults.late_percent)) {
		faults.delayed++;
		keep(f, c);
		return;
	}
	f->config.complete(f->config.sink, c);
	if (!c->more && !c->data.ptr && chance(faults.duplicate_percent)) {
		faults.duplicated++;
		keep(f, c);
	}
}

static enum err faulty_open(const struct io_backend_config *config, void **be_out, char *why, size_t why_bytes)
{
	struct faulty *f = calloc(1, sizeof(*f));
	struct io_backend_config inner = *config;
	f->config = *config;
	inner.sink = f;
	inner.complete = inner_complete;
	enum err e = inner_backend()->open(&inner, &f->inner, why, why_bytes);
	*be_out = f;
	if (e != OK)
		free(f);
	return e;
}

static void faulty_close(void *be)
{
	struct faulty *f = be;
	inner_backend()->close(f->inner);
	while (f->cuts)
		drop_cut(f, f->cuts->token);
	free(f);
}

/* The first piece, cut: a legal short count of the whole. */
static struct cut *cut_pieces(struct faulty *f, const struct io_request *r, const struct iovec *iov, uint64_t count)
{
	struct cut *c = calloc(1, sizeof(*c));
	c->token = r->token;
	uint64_t i = 0;
	while (i + 1 < count && iov[i].iov_len == 0)
		i++;
	c->iov[0] = iov[i];
	if (iov[i].iov_len > 1)
		c->iov[0].iov_len = part_of(iov[i].iov_len);
	c->next = f->cuts;
	f->cuts = c;
	return c;
}

static void shorten(struct faulty *f, struct io_request *r)
{
	if ((r->kind == IO_READ || r->kind == IO_SEND || r->kind == IO_RECV_INTO) && r->len > 1 && r->offset != IO_NO_OFFSET) {
		r->len = part_of(r->len);
	} else if (r->kind == IO_WRITE) {
		r->ptr = cut_pieces(f, r, r->ptr, r->len)->iov;
		r->len = 1;
	} else if (r->kind == IO_SENDMSG) {
		const struct msghdr *m = r->ptr;
		struct cut *c = cut_pieces(f, r, m->msg_iov, m->msg_iovlen);
		c->msg = (struct msghdr){ .msg_iov = c->iov, .msg_iovlen = 1 };
		r->ptr = &c->msg;
	} else {
		return;
	}
	faults.shortened++;
}

static void faulty_begin(void *be, const struct io_request *request)
{
	struct faulty *f = be;
	struct io_request r = *request;
	faults.begun[r.kind]++;
	if (faults.fail_error && faults.fail_kind == r.kind && faults.fail_after-- == 0) {
		keep(f, &(struct io_completion){ .token = r.token, .result = faults.fail_error });
		faults.fail_error = 0;
		return;
	}
	if (chance(faults.retry_percent)) {
		faults.retried++;
		keep(f, &(struct io_completion){ .token = r.token, .result = chance(50) ? -EINTR : -EAGAIN });
		return;
	}
	if (chance(faults.short_percent))
		shorten(f, &r);
	inner_backend()->begin(f->inner, &r);
}

static void faulty_cancel(void *be, uint64_t token)
{
	struct faulty *f = be;
	inner_backend()->cancel(f->inner, token);
}

static void faulty_wait(void *be, uint64_t timeout_ns)
{
	struct faulty *f = be;
	inner_backend()->wait(f->inner, f->kept_count ? 0 : timeout_ns);
}

static unsigned faulty_drain(void *be, unsigned max)
{
	struct faulty *f = be;
	unsigned before = f->kept_count, n = inner_backend()->drain(f->inner, max);
	struct io_completion *now = malloc((before + 1) * sizeof(*now));
	memcpy(now, f->kept, before * sizeof(*now));
	memmove(f->kept, f->kept + before, (f->kept_count - before) * sizeof(*f->kept));
	f->kept_count -= before;
	for (unsigned i = 0; i < before; i++)
		f->config.complete(f->config.sink, &now[i]);
	free(now);
	return n + before;
}

static void faulty_wake(void *be, void *from)
{
	struct faulty *f = be;
	(void)from;
	inner_backend()->wake(f->inner, NULL);
}

static void faulty_prefetch(void *be, int fd, uint64_t offset, uint64_t bytes)
{
	struct faulty *f = be;
	inner_backend()->prefetch(f->inner, fd, offset, bytes);
}

static void faulty_stats(void *be, struct io_backend_stats *out)
{
	struct faulty *f = be;
	inner_backend()->stats(f->inner, out);
}

static void faulty_fd_close(void *be, int fd)
{
	struct faulty *f = be;
	inner_backend()->fd_close(f->inner, fd);
}

static void faulty_fd_leave(void *be, int fd)
{
	struct faulty *f = be;
	if (inner_backend()->fd_leave)
		inner_backend()->fd_leave(f->inner, fd);
}

const struct io_backend faults_backend = {
	.name = "faults",
	.can_splice = true,
	.open = faulty_open,
	.close = faulty_close,
	.begin = faulty_begin,
	.cancel = faulty_cancel,
	.wait = faulty_wait,
	.drain = faulty_drain,
	.wake = faulty_wake,
	.prefetch = faulty_prefetch,
	.fd_leave = faulty_fd_leave,
	.stats = faulty_stats,
	IO_BACKEND_SYSCALLS(faulty_fd_close),
};
