/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expire.c - account_expire: what has lain in a folder for long enough goes.
 *
 * The date is when the message came into the folder (its record's save date), which grows with the UID: so the walk begins at the lowest UID
 * and ends at the first message that is too young, and an account without old mail costs one record, or none: the first message's
 * date is remembered beside the account.  Where the clock stood wrong for a while, mail behind such a message waits for it.
 */
#include "storage/account_private.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "storage/source.h"

#include <stdlib.h>

/* The first message from `uid` on; false: none. */
static bool row_from(struct account *a, uint32_t folder, uint32_t uid, struct row *out)
{
	const struct folder *f = account_folder(a, folder); /* afresh: reading waits */
	const struct row *row = f ? rows_from(&f->rows, uid) : NULL;
	if (row)
		*out = *row; /* rows may move */
	return row != NULL;
}

/* Collects what came before `before_s`, lowest UID first. A damaged message has no date: it stays, and hides no other. */
static enum err expire_collect(struct account *a, uint32_t folder, int64_t before_s, uint32_t *uids, size_t max, size_t *count_out)
{
	struct window window = { 0 };
	struct message_record m;
	struct row row;
	uint64_t next = 1;
	enum err e = OK;

	*count_out = 0;
	while (*count_out < max && next <= UINT32_MAX && row_from(a, folder, (uint32_t)next, &row)) {
		bool known = folder == FOLDER_INBOX && row.uid == a->expire_uid;
		int64_t saved_s = a->expire_save_s;
		next = (uint64_t)row.uid + 1;
		if (!known) {
			e = source_message(a, folder, &row, &window, &m);
			saved_s = e == OK ? m.fixed.save_date_s : 0;
			window_release(&window);
			window = (struct window){ 0 };
		}
		if (e == ERR_CORRUPT) {
			e = OK;
			continue;
		}
		if (e != OK || saved_s >= before_s) {
			if (e == OK && !known && folder == FOLDER_INBOX && *count_out == 0) {
				a->expire_uid = row.uid;
				a->expire_save_s = saved_s;
			}
			break;
		}
		uids[(*count_out)++] = row.uid;
		fiber_breathe(); /* invariant 8: records may all lie in the page cache */
	}
	return e;
}

enum err account_expire(struct account *account, uint32_t folder, int64_t before_s, size_t max, size_t *removed_out)
{
	enum err e = OK;
	size_t count = EXPIRE_BATCH_MAX;

	ASSERT(account->refs > 0);
	*removed_out = 0;
	uint32_t *uids = xmalloc(EXPIRE_BATCH_MAX * sizeof(*uids));
	while (e == OK && count == EXPIRE_BATCH_MAX && *removed_out < max) {
		size_t removed = 0;
		e = expire_collect(account, folder, before_s, uids, EXPIRE_BATCH_MAX, &count);
		if (e == OK && count > 0)
			e = account_expunge(account, folder, uids, count, &removed);
		*removed_out += removed;
		fiber_breathe();
	}
	free(uids);
	return e;
}
