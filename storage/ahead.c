/* SPDX-License-Identifier: Apache-2.0 */
/* ahead.c - see ahead.h. */
#include "storage/ahead.h"

#include "core/base/limits.h"
#include "core/run/file.h"

#include <stdlib.h>

struct walk {
	uint64_t serial; /* of the descriptor; 0: free */
	uint64_t last;   /* where it looked last */
	uint64_t used;   /* when, in looks */
	char *ptr;       /* AHEAD_PIECE_BYTES */
	uint64_t offset; /* of the piece */
	size_t len;
	bool reading; /* somebody waits for it */
};

struct ahead {
	struct walk walks[AHEAD_WALKS_MAX];
	uint64_t looks;
};

void ahead_start(void) { shard_set_local(SHARD_SLOT_AHEAD, xcalloc(1, sizeof(struct ahead))); }

void ahead_stop(void)
{
	struct ahead *h = shard_local(SHARD_SLOT_AHEAD);
	for (size_t i = 0; i < AHEAD_WALKS_MAX; i++)
		free(h->walks[i].ptr);
	free(h);
	shard_set_local(SHARD_SLOT_AHEAD, NULL);
}

/* This descriptor's walk; a new one takes the place of the one that was used longest ago. NULL: all of them wait for the disk. */
static struct walk *find(struct ahead *h, uint64_t serial, uint64_t at)
{
	struct walk *oldest = NULL;
	for (struct walk *w = h->walks; w < h->walks + AHEAD_WALKS_MAX; w++) {
		if (w->serial == serial)
			return w;
		if (!w->reading && (!oldest || w->used < oldest->used))
			oldest = w;
	}
	if (oldest) {
		oldest->serial = serial;
		oldest->last = at;
		oldest->len = 0;
	}
	return oldest;
}

static bool inside(const struct walk *w, uint64_t from, uint64_t end) { return from >= w->offset && end <= w->offset + w->len; }

static bool read_piece(const struct account *a, struct walk *w, int fd, uint32_t log, uint64_t from)
{
	const struct log *l = account_log(a, log);
	uint64_t end = l ? min_u64(l->end, from + AHEAD_PIECE_BYTES) : 0;
	if (w->reading || end <= from)
		return false;
	if (!w->ptr)
		w->ptr = xmalloc(AHEAD_PIECE_BYTES);
	w->reading = true;
	w->len = 0;
	int64_t n = file_read(fd, w->ptr, (size_t)(end - from), from);
	w->reading = false;
	w->offset = from;
	w->len = n > 0 ? (size_t)n : 0;
	return w->len > 0;
}

/* How long the record there says that it is; 0: not all of it is in the piece. */
static uint64_t record_bytes(const struct walk *w, uint64_t offset)
{
	struct record_header h;
	if (offset % 8 != 0 || !inside(w, offset, offset + sizeof(h)))
		return 0;
	memcpy(&h, w->ptr + (offset - w->offset), sizeof(h));
	return h.bytes >= sizeof(h) && inside(w, offset, offset + h.bytes) ? h.bytes : 0;
}

static bool copy(const struct walk *w, uint64_t body_offset, uint64_t record_offset, struct window *window)
{
	uint64_t bytes = record_bytes(w, record_offset);
	if (!bytes || !record_bytes(w, body_offset))
		return false;
	window->offset = body_offset;
	window->len = (size_t)(record_offset + bytes - body_offset);
	window->ptr = xmalloc(window->len);
	memcpy(window->ptr, w->ptr + (body_offset - w->offset), window->len);
	return true;
}

bool ahead_take(const struct account *a, const struct source_file *file, uint32_t log, uint64_t body_offset, uint64_t record_offset,
                struct window *window)
{
	struct ahead *h = shard_local(SHARD_SLOT_AHEAD);
	struct walk *w = h ? find(h, source_serial(file), body_offset) : NULL;
	if (!w || w->reading)
		return false;
	uint64_t step = body_offset - w->last; /* a walk that goes back is none */
	w->last = body_offset;
	w->used = ++h->looks;
	if (copy(w, body_offset, record_offset, window))
		return true;
	return step > 0 && step <= AHEAD_STEP_BYTES_MAX && read_piece(a, w, source_fd(file), log, body_offset) &&
	       copy(w, body_offset, record_offset, window);
}
