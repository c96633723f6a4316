/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_copy.c - COPY, MOVE (RFC 6851) and their UID forms: one commit (invariant 13), bodies are named, not copied.
 *
 * COPYUID (RFC 4315) pairs UIDs by order.  For MOVE it goes out before the expunges, as RFC 6851 section 4.3 asks, and those are told by the
 * update at the command's end.
 */
#include "net/imap/imap_private.h"

#include <stdlib.h>

/* Those that were copied, as two sets of one length. */
static size_t keep_copied(uint32_t *uids, const struct appended *out, uint32_t *to, size_t count)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++)
		if (out[i].uid) {
			uids[kept] = uids[i];
			to[kept++] = out[i].uid;
		}
	return kept;
}

static void format_uids(struct buf *b, const uint32_t *uids, size_t count)
{
	for (size_t i = 0; i < count;) {
		size_t last = i;
		while (last + 1 < count && uids[last + 1] == uids[last] + 1)
			last++;
		buf_printf(b, last > i ? "%s%u:%u" : "%s%u", i ? "," : "", uids[i], uids[last]);
		i = last + 1;
	}
}

static enum step answer(struct imap_session *p, bool move, uint32_t uidvalidity, const uint32_t *from, const uint32_t *to, size_t count)
{
	struct buf code;
	enum step step;
	if (!count)
		return imap_ok(p, "none of them was there");
	buf_init(&code, IMAP_COPYUID_BYTES_MAX);
	buf_printf(&code, "COPYUID %u ", uidvalidity);
	format_uids(&code, from, count);
	buf_put(&code, " ", 1);
	format_uids(&code, to, count);
	bool fits = buf_put(&code, "", 1) && code.len < IMAP_COPYUID_BYTES_MAX - 32; /* else something may be missing in it: say nothing */
	if (!fits)
		step = imap_ok(p, move ? "moved" : "copied");
	else if (move) {
		reply_printf(&p->s.reply, "* OK [");
		reply_put(&p->s.reply, slice_of(code.ptr, code.len - 1));
		REPLY_LIT(&p->s.reply, "] moved\r\n");
		step = imap_ok(p, "moved");
	} else {
		step = imap_ok_code(p, code.ptr, "copied");
	}
	buf_release(&code);
	return step;
}

static enum step transfer(struct imap_session *p, struct imap_set *set, uint32_t folder, bool move)
{
	size_t count;
	uint32_t *uids = imap_set_uids(p, set, &count);
	struct appended *out = xcalloc(max_size(count, 1), sizeof *out);
	uint32_t *to = xcalloc(max_size(count, 1), sizeof *to), uidvalidity = 0;
	struct copy copy = { .from = p->folder, .to = folder, .uids = uids, .count = count, .move = move, .quota_bytes = p->subject->quota_bytes,
			     .quota_messages = p->subject->quota_messages };
	enum err e = count ? account_copy(p->account, &copy, out) : OK;
	for (size_t i = 0; i < count; i++)
		uidvalidity = out[i].uid ? out[i].uidvalidity : uidvalidity;
	enum step step = e == ERR_NOT_FOUND ? imap_no(p, "TRYCREATE", "no such mailbox")
			 : e != OK	    ? imap_fail(p, e)
					    : answer(p, move, uidvalidity, uids, to, keep_copied(uids, out, to, count));
	free(uids);
	free(out);
	free(to);
	return step;
}

static enum step copy_command(struct imap_session *p, bool move)
{
	struct imap_args *a = &p->cmd->args;
	struct imap_set set;
	struct slice name;
	struct folder_info info;
	if (!imap_sp(a) || !imap_set_read(p, &set))
		return imap_bad_args(p);
	enum step step;
	if (!imap_sp(a) || !imap_mailbox(a, &name) || !imap_end(a))
		step = imap_bad_args(p);
	else if (move && p->read_only)
		step = imap_no(p, "NOPERM", "the mailbox was opened by EXAMINE");
	else if (folder_find(p->account, name, &info) != OK || info.noselect)
		step = imap_no(p, "TRYCREATE", "no such mailbox");
	else if (move && info.id == p->folder)
		step = imap_no(p, "CANNOT", "it is there already");
	else
		step = transfer(p, &set, info.id, move);
	imap_set_release(&set);
	return step;
}

enum step imap_cmd_copy(struct imap_session *p) { return copy_command(p, false); }
enum step imap_cmd_move(struct imap_session *p) { return copy_command(p, true); }
