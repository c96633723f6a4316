/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.c - store.h's message_open and the opening of views: from a row to bytes that can be sent.
 *
 * Body and message records mostly lie side by side, with the bytes right behind them: one read of the right length then
 * brings everything of a small message, and what came through memory is verified.  Of a large one the records are read and
 * verified, and its bytes leave the file without passing through here.
 */
#include "storage/source.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/ahead.h"

#include <stdlib.h>

METRIC_COUNTER(damaged, "store_messages_damaged_total", "messages that could not be read because stored bytes are damaged");

struct pin {
	struct source_file *log, *file; /* log: where the body's record is; file: B.<guid>, or NULL */
	struct window message, body;    /* body: empty when both records are in one window */
	struct body_record record;      /* of the body; its slices lie in a window */
};

static void pin_free(struct pin *p)
{
	if (p->log)
		source_unpin(p->log);
	if (p->file)
		source_unpin(p->file);
	window_release(&p->message);
	window_release(&p->body);
	free(p);
}

/* Are both records in one stretch, the body's first? */
static bool near(const struct row *row)
{
	return row->body_log == row->record_log && row->body_offset < row->record_offset &&
	       row->record_offset - row->body_offset <= SOURCE_NEAR_BYTES;
}

static uint64_t guess_of(const struct row *row, bool bytes)
{
	if (!bytes || row->size > SOURCE_MEMORY_BYTES) /* then the bytes are sent from the file, and what is read here is kept until they have left */
		return SOURCE_LOOK_BYTES;
	return SOURCE_GUESS_BYTES + row->size;
}

/* Reads both records, and a small message's bytes if they are wanted; *window_out is where the body's record is. */
static enum err read_records(struct account *a, uint32_t folder, const struct row *row, bool bytes, struct pin *p, struct message_record *message,
                             struct window **window_out)
{
	struct body_record *body = &p->record;
	struct record r;
	enum err e = source_pin_log(a, row->body_log, &p->log);
	if (e)
		return e;
	bool both = near(row);
	struct window *w = *window_out = both ? &p->message : &p->body;
	if (bytes || !both || !ahead_take(a, p->log, row->body_log, row->body_offset, row->record_offset, w))
		e = window_need(w, source_fd(p->log), row->body_offset, guess_of(row, bytes) + (both ? row->record_offset - row->body_offset : 0));
	if (!e)
		e = source_message(a, folder, row, &p->message, message);
	if (e)
		return e;
	if (!window_record(w, row->body_offset, &r) || r.type != RECORD_BODY || !body_get(&r, body) ||
	    memcmp(body->fixed.guid, message->fixed.guid, GUID_BYTES) != 0 || message->prefix.len + body->fixed.bytes != row->size)
		return ERR_CORRUPT;
	return OK;
}

/* Where the bytes are: in the window, in the log, or in a file of their own. */
static enum err find_bytes(struct account *a, const struct row *row, struct pin *p, const struct window *w, const struct body_record *body,
                           struct message_source *out)
{
	const struct body_fixed *f = &body->fixed;
	out->bytes = f->bytes;
	if (f->flags & BODY_EXTERNAL) {
		struct file_info info;
		enum err e = source_pin_body(a, f->guid, &p->file);
		if (e)
			return e;
		out->fd = source_fd(p->file);
		if (file_stat(out->fd, &info) < 0)
			return ERR_IO;
		return info.bytes == f->bytes ? OK : ERR_CORRUPT;
	}
	if (f->data_distance > LOG_BYTES_MAX + COMMIT_BYTES_MAX)
		return ERR_CORRUPT;
	out->fd = source_fd(p->log);
	out->offset = row->body_offset + f->data_distance;
	if (out->offset + f->bytes > w->offset + w->len) /* too long to be verified now: what the scrubber knows must do */
		return source_condemned(a, row->body_log, out->offset) ? ERR_CORRUPT : OK;
	out->body = w->ptr + (out->offset - w->offset);
	return hash64(slice_of(out->body, (size_t)f->bytes), 0) == f->hash ? OK : ERR_CORRUPT;
}

static enum err open_row(struct account *a, uint32_t folder, const struct row *row, bool bytes, struct message_source *out)
{
	struct pin *p = xcalloc(1, sizeof(*p));
	const struct body_record *body = &p->record;
	struct message_record message;
	struct window *w;
	*out = (struct message_source){ .fd = -1 };
	enum err e = read_records(a, folder, row, bytes, p, &message, &w);
	out->bytes = body->fixed.bytes;
	if (!e && bytes)
		e = find_bytes(a, row, p, w, body, out);
	if (e) {
		pin_free(p);
		return e;
	}
	out->prefix = message.prefix;
	out->header_bytes = body->fixed.header_bytes;
	out->dots = body->dots;
	out->dot_count = body->fixed.dot_count;
	out->dots_unknown = (body->fixed.flags & BODY_DOTS_UNKNOWN) != 0;
	out->record = body;
	out->envelope_from = message.from;
	out->envelope_rcpt = message.rcpt;
	out->internal_date_s = message.fixed.internal_date_s;
	out->internal_date_zone_min = message.fixed.internal_date_zone_min;
	out->save_date_s = message.fixed.save_date_s;
	memcpy(out->guid, message.fixed.guid, GUID_BYTES);
	out->pin = p;
	return OK;
}

static bool same_place(const struct row *x, const struct row *y)
{
	return x->record_log == y->record_log && x->record_offset == y->record_offset && x->body_log == y->body_log &&
	       x->body_offset == y->body_offset;
}

static enum err open_index(struct view *view, uint32_t index, bool bytes, struct message_source *source_out)
{
	struct account *a = view->account;
	for (unsigned tries = 0;; tries++) {
		if (a->state == ACCOUNT_LOST)
			return ERR_FENCED;
		struct row row = *view_row(view, index);
		enum err e = open_row(a, view->folder, &row, bytes, source_out);
		/* moved by a compaction while we waited: look again where it is now */
		bool moved = !same_place(&row, view_row(view, index));
		if (!e || !moved || tries + 1 == SOURCE_TRIES_MAX) {
			if (e == ERR_AGAIN) /* its log is a stub, and yet it did not move */
				e = ERR_CORRUPT;
			if (e == ERR_CORRUPT) {
				metric_inc(&damaged);
				log_event(LOG_ALARM, "store.message_damaged", LOG_U64("account", a->id), LOG_U64("folder", view->folder),
				          LOG_U64("uid", row.uid), LOG_U64("log", row.record_log), LOG_U64("offset", row.record_offset));
			}
			return e;
		}
	}
}

enum err message_open(struct view *view, uint32_t index, struct message_source *source_out)
{
	return open_index(view, index, true, source_out);
}

enum err message_look(struct view *view, uint32_t index, struct message_source *source_out)
{
	return open_index(view, index, false, source_out);
}

enum err message_fill(struct view *view, uint32_t index, struct message_source *source_io)
{
	struct message_source open;
	enum err e;
	if (source_io->body || source_io->fd >= 0)
		return OK;
	e = message_open(view, index, &open);
	if (e == OK) {
		message_close(source_io);
		*source_io = open;
	}
	return e;
}

void message_close(struct message_source *source)
{
	ASSERT(source->pin != NULL);
	pin_free(source->pin);
	*source = (struct message_source){ .fd = -1 };
}
