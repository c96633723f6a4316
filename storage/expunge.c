/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expunge.c - account_expunge: messages out of a folder, all or none.
 */
#include "storage/account_private.h"

#include "storage/commit.h"

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

/* The records are asked for their GUIDs before the commit: reading waits, and a commit must not. */
static enum err expunge_read(struct account *a, struct expunge_change *ec)
{
	for (size_t i = 0; i < ec->count; i++) {
		const struct folder *f = account_folder(a, ec->folder);
		const struct row *row = f ? rows_find(&f->rows, ec->uids[i]) : NULL;
		enum err e = row ? source_guid(a, row, ec->guids + i * GUID_BYTES) : OK;
		if (e != OK && e != ERR_CORRUPT) /* a damaged message can be deleted like any other */
			return e;
	}
	return OK;
}

/* As many as fit into one commit: one command is one commit (invariant 13), and a million UIDs fit. */
enum err account_expunge(struct account *account, uint32_t folder, const uint32_t *uids, size_t count, size_t *removed_out)
{
	struct expunge_change ec = { .c = { .build = expunge_build, .frees = true }, .folder = folder, .uids = uids, .count = count };
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
