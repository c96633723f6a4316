/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expunge.c - account_expunge: messages out of a folder, all or none.
 */
#include "storage/account_private.h"

#include "core/base/limits.h"
#include "storage/commit.h"
#include "storage/source.h"

#include <stdlib.h>

struct expunge_change {
	struct change c;
	uint32_t folder;
	const uint32_t *uids;
	size_t count;
	uint8_t *guids;           /* of uids[i]; zero if its record does not read */
	struct uid_range *ranges; /* room for count */
	uint8_t *range_guids;     /* the same */
	size_t removed;
	bool external;
};

/* What is still there, as ranges. */
static uint32_t expunge_collect(struct expunge_change *ec, const struct folder *f)
{
	uint32_t ranges = 0, last = 0;

	ec->removed = 0;
	for (size_t i = 0; i < ec->count; i++) {
		uint32_t uid = ec->uids[i];
		const struct row *row = uid > last ? rows_find(&f->rows, uid) : NULL;
		if (!row)
			continue;
		ec->external = ec->external || row->flags & ROW_EXTERNAL;
		if (ranges > 0 && ec->ranges[ranges - 1].last + 1 == uid)
			ec->ranges[ranges - 1].last = uid;
		else
			ec->ranges[ranges++] = (struct uid_range){ uid, uid };
		memcpy(ec->range_guids + ec->removed++ * GUID_BYTES, ec->guids + i * GUID_BYTES, GUID_BYTES);
		last = uid;
	}
	return ranges;
}

static enum err expunge_build(struct change *c, struct account *a, struct commit *commit)
{
	struct expunge_change *ec = CONTAINER_OF(c, struct expunge_change, c);
	const struct folder *f = account_folder(a, ec->folder);
	struct expunge_record r = { .fixed = { .folder = ec->folder }, .ranges = ec->ranges, .guids = ec->range_guids };

	if (!f)
		return ERR_NOT_FOUND;
	if (commit_plan(commit)->expunges)
		return ERR_AGAIN; /* what is counted must be counted once */
	r.fixed.range_count = expunge_collect(ec, f);
	r.fixed.guid_count = (uint32_t)ec->removed;
	if (ec->removed == 0)
		return OK;
	commit_plan(commit)->expunges = true;
	if (!expunge_put(commit_heads(commit), 0, &r))
		return commit_empty(commit) ? ERR_LIMIT : ERR_AGAIN;
	return OK;
}

/* Reads message records one after another; those that lie near each other come with one read. */
struct guid_reader {
	struct account *a;
	struct source_file *file;
	uint32_t log; /* of the file */
	struct window window;
};

static void reader_close(struct guid_reader *r)
{
	if (r->file)
		source_unpin(r->file);
	r->file = NULL;
	window_release(&r->window);
}

/* `guess`: how much is worth reading if the record is not in the window. */
static enum err reader_guid(struct guid_reader *r, const struct row *row, uint64_t guess, uint8_t guid_out[GUID_BYTES])
{
	const struct row at = *row; /* reading waits, and rows may move */
	struct message_record m;
	struct record record;
	enum err e = OK;

	if (r->file && r->log != at.record_log)
		reader_close(r);
	if (!r->file) {
		r->log = at.record_log;
		e = source_pin_log(r->a, at.record_log, &r->file);
		if (e != OK)
			return e;
	}
	if (r->window.ptr && (at.record_offset < r->window.offset ||
			      at.record_offset + RECORD_HEADER_BYTES > r->window.offset + r->window.len))
		window_release(&r->window);
	e = window_need(&r->window, source_fd(r->file), at.record_offset, r->window.ptr ? RECORD_HEADER_BYTES : guess);
	if (e == OK && (!window_record(&r->window, at.record_offset, &record) || record.type != RECORD_MESSAGE ||
			!message_get(&record, &m) || m.fixed.uid != at.uid))
		e = ERR_CORRUPT;
	if (e == OK)
		memcpy(guid_out, m.fixed.guid, GUID_BYTES);
	return e;
}

/* Does the next message's record lie near, so that a longer read brings both? */
static uint64_t guess_for(const struct expunge_change *ec, const struct folder *f, size_t i, const struct row *row)
{
	const struct row *next = i + 1 < ec->count ? rows_find(&f->rows, ec->uids[i + 1]) : NULL;

	if (!next || next->record_log != row->record_log || next->record_offset < row->record_offset ||
	    next->record_offset - row->record_offset > EXPUNGE_NEAR_BYTES)
		return SOURCE_GUESS_BYTES;
	return EXPUNGE_READ_BYTES;
}

/* The records are asked for their GUIDs before the commit: reading waits, and a commit must not. */
static enum err expunge_read(struct account *a, struct expunge_change *ec)
{
	struct guid_reader reader = { .a = a };
	enum err e = OK;

	for (size_t i = 0; i < ec->count && e == OK; i++) {
		const struct folder *f = account_folder(a, ec->folder);
		const struct row *row = f ? rows_find(&f->rows, ec->uids[i]) : NULL;
		if (row)
			e = reader_guid(&reader, row, guess_for(ec, f, i, row), ec->guids + i * GUID_BYTES);
		if (e == ERR_CORRUPT) { /* a damaged message can be deleted like any other */
			window_release(&reader.window);
			e = OK;
		}
	}
	reader_close(&reader);
	return e;
}

/* As many as fit into one commit: one command is one commit (invariant 13), and a million UIDs fit. */
enum err account_expunge(struct account *account, uint32_t folder, const uint32_t *uids, size_t count,
			 size_t *removed_out)
{
	struct expunge_change ec = {
		.c = { .build = expunge_build, .frees = true }, .folder = folder, .uids = uids, .count = count
	};
	enum err e;

	ASSERT(account->refs > 0);
	*removed_out = 0;
	if (account->read_only)
		return ERR_READONLY;
	if (count == 0)
		return OK;
	ec.guids = xcalloc(count, GUID_BYTES);
	ec.range_guids = xmalloc(count * GUID_BYTES);
	ec.ranges = xmalloc(count * sizeof(*ec.ranges));
	e = expunge_read(account, &ec);
	if (e == OK)
		e = commit_run(account, &ec.c);
	if (e == OK) {
		*removed_out = ec.removed;
		account->orphans = account->orphans || ec.external;
	}
	free(ec.guids);
	free(ec.range_guids);
	free(ec.ranges);
	return e;
}
