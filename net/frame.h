/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - cuts input into lines, however the network cut it into pieces.
 *
 * For session.c.  A frame is the little that must be remembered between two looks: how far an unfinished line has been
 * searched, and whether a line that is too long is being swallowed.  The caller keeps the unread bytes in one piece
 * (input.h) and shows them all each time; what comes out depends on the bytes alone, never on where they were cut.
 *
 * A line ends with CRLF.  A bare LF is part of the line, unless lf_ends_line (for protocols in which it can do no harm); a bare CR and a
 * NUL are always part of it.  A line whose content is longer than line_bytes_max is told once, when its end has been
 * seen, and is not kept; one that goes on past LINE_SWALLOW_BYTES_MAX is told as endless.  Searching is linear:
 * a byte is looked at once.
 */
#ifndef PENFOLD_NET_FRAME_H
#define PENFOLD_NET_FRAME_H

#include "core/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

struct frame {
	uint32_t searched;       /* of the unread bytes: no end of line in them */
	uint32_t swallowed : 31; /* of the line that is too long; 0 = none */
	uint32_t after_cr : 1;   /* the last swallowed byte was CR */
};

struct frame_rules {
	size_t line_bytes_max; /* without its end */
	bool lf_ends_line;
};

enum frame_found {
	FRAME_MORE,     /* no whole line yet */
	FRAME_LINE,     /* *line_out, without its end */
	FRAME_TOO_LONG, /* a whole line was thrown away */
	FRAME_ENDLESS   /* so long that waiting for its end makes no sense */
};

static inline void frame_init(struct frame *f) { *f = (struct frame){ 0, 0, 0 }; }

/* `unread` = all bytes not yet used; *used_out = how many of them to drop (with FRAME_MORE too). Now. */
enum frame_found frame_next(struct frame *f, const struct frame_rules *rules, struct slice unread, struct slice *line_out, size_t *used_out);

#ifdef __cplusplus
}
#endif
#endif
