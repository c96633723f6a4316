/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - lines out of bytes.
 *
 * The length of a line's content is known only at its end, but a lower bound is known before: everything seen so far, less
 * a last CR that may turn out to belong to the end.  "Too long" is decided by the length or by that bound, so the answer
 * is the same wherever the input is cut.
 */
#include "net/frame.h"
#include "core/base/limits.h"

static enum frame_found ended(struct frame *f, const struct frame_rules *rules, struct slice unread, size_t lf, bool cr, struct slice *line_out,
                              size_t *used_out)
{
	size_t content = f->swallowed + lf - cr;
	frame_init(f);
	*used_out = lf + 1;
	if (content > LINE_SWALLOW_BYTES_MAX)
		return FRAME_ENDLESS;
	if (content > rules->line_bytes_max)
		return FRAME_TOO_LONG;
	*line_out = slice_upto(unread, content);
	return FRAME_LINE;
}

static enum frame_found unfinished(struct frame *f, const struct frame_rules *rules, struct slice unread, size_t *used_out)
{
	bool cr = unread.len ? unread.ptr[unread.len - 1] == '\r' : f->after_cr;
	size_t content = f->swallowed + unread.len - cr;
	if (content <= rules->line_bytes_max) {
		f->searched = (uint32_t)unread.len;
		*used_out = 0;
		return FRAME_MORE;
	}
	*used_out = unread.len;
	f->swallowed = (uint32_t)(f->swallowed + unread.len) & 0x7fffffffu; /* the caller ends at LINE_SWALLOW_BYTES_MAX */
	f->after_cr = cr;
	f->searched = 0;
	return content > LINE_SWALLOW_BYTES_MAX ? FRAME_ENDLESS : FRAME_MORE;
}

enum frame_found frame_next(struct frame *f, const struct frame_rules *rules, struct slice unread, struct slice *line_out, size_t *used_out)
{
	size_t at = f->searched;
	ASSERT(at <= unread.len);
	while (at < unread.len) {
		const char *lf = memchr(unread.ptr + at, '\n', unread.len - at);
		if (!lf)
			break;
		size_t i = (size_t)(lf - unread.ptr);
		bool cr = i ? unread.ptr[i - 1] == '\r' : f->after_cr;
		if (cr || rules->lf_ends_line)
			return ended(f, rules, unread, i, cr, line_out, used_out);
		at = i + 1;
	}
	return unfinished(f, rules, unread, used_out);
}
