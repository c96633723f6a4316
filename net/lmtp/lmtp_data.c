/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_data.c - the message's bytes: DATA with its dots, BDAT with its counts, both into one body of the store.
 *
 * The end of DATA is exactly CR LF . CR LF, found by a small machine that works for bytes cut anywhere.  Whatever else looks
 * like an end to somebody (LF . LF, LF . CR LF, CR . CR, CR LF . LF ...) is content to the machine; the store's writer then
 * finds the bare CR or LF in it and the message is refused, after its true end.  The commands of whoever hoped for two
 * messages are thus part of the first, refused one.
 *
 * A body that cannot be taken (too large, bare CR, disk full) is dropped at once and the rest of it is read and thrown
 * away, so that the connection stays in step; LMTP_SWALLOW_BYTES_MAX bounds that.  Only where the client's next command
 * cannot be found any more (a BDAT whose size is no number) is the connection closed.
 */
#include "net/lmtp/lmtp_private.h"

/* ---- CRLF.CRLF ---- */

/* A run of whole and partial lines up to a line that begins with a dot, or to the end of the bytes. Called in MIDDLE. */
static struct slice middle_run(struct lmtp_dots *d, const char *start, const char *from, const char *end)
{
	for (const char *cr = memchr(from, '\r', (size_t)(end - from)); cr; cr = memchr(cr, '\r', (size_t)(end - cr))) {
		if (cr + 1 == end) {
			d->at = LMTP_CR;
			return slice_of(start, (size_t)(end - start));
		}
		if (*++cr != '\n')
			continue;
		cr++;
		if (cr == end || *cr == '.') {
			d->at = LMTP_LINE_START;
			return slice_of(start, (size_t)(cr - start));
		}
	}
	d->at = LMTP_MIDDLE;
	return slice_of(start, (size_t)(end - start));
}

static struct slice next_run(struct lmtp_dots *d, struct slice in)
{
	const char *p = in.ptr, *end = in.ptr + in.len;
	if (d->at == LMTP_CR && *p == '\n') { /* the other half of a CRLF that was cut */
		if (p + 1 == end || p[1] == '.') {
			d->at = LMTP_LINE_START;
			return slice_of(p, 1);
		}
		return middle_run(d, p, p + 1, end);
	}
	return middle_run(d, p, p, end);
}

bool lmtp_dots_next(struct lmtp_dots *d, struct slice *in_io, struct slice *run_out)
{
	while (in_io->len && d->at != LMTP_END) {
		char c = in_io->ptr[0];
		if (d->at == LMTP_LINE_START && c == '.') {
			d->at = LMTP_DOT; /* stuffed, or the end: not content either way */
		} else if (d->at == LMTP_DOT && c == '\r') {
			d->at = LMTP_DOT_CR;
		} else if (d->at == LMTP_DOT_CR && c == '\n') {
			d->at = LMTP_END;
		} else if (d->at == LMTP_DOT_CR) {
			d->at = LMTP_CR; /* the CR was content after all */
			*run_out = SLICE_LIT("\r");
			return true;
		} else {
			*run_out = next_run(d, *in_io);
			*in_io = slice_from(*in_io, run_out->len);
			return true;
		}
		*in_io = slice_from(*in_io, 1);
	}
	return false;
}

/* ---- the body ---- */

static void add(struct lmtp_session *l, struct slice run)
{
	l->data_bytes += run.len;
	if (l->data_err != OK || !l->writer)
		return;
	enum err e = body_write(l->writer, run);
	if (e == OK)
		return;
	l->data_err = (uint8_t)e;
	body_abort(l->writer);
	l->writer = NULL;
}

static bool too_much_to_swallow(const struct lmtp_session *l)
{
	return l->data_bytes > lmtp_settings.message_bytes_max + LMTP_SWALLOW_BYTES_MAX;
}

static enum step cut_off(struct lmtp_session *l)
{
	LMTP_SAY(l, "421 4.3.4 far more than this server takes, closing");
	return STEP_CLOSE;
}

static enum step complete(struct lmtp_session *l)
{
	struct body *body = NULL;
	enum err e = (enum err)l->data_err;
	if (e == OK) {
		e = body_end(l->writer, &body);
		l->writer = NULL;
	}
	return e == OK ? lmtp_deliver(l, body) : lmtp_refuse_all(l, lmtp_words(e, OVER_QUOTA_TEMPORARY));
}

/* ---- DATA ---- */

enum step lmtp_data_begin(struct lmtp_session *l)
{
	if (!l->mail)
		return lmtp_bad(l, "503 5.5.1 MAIL first");
	if (l->chunking)
		return lmtp_bad(l, "503 5.5.1 DATA and BDAT do not mix");
	if (!l->rcpts) {
		LMTP_SAY(l, "503 5.5.1 no valid recipients"); /* RFC 2033 4.2 */
		return STEP_NEXT;
	}
	enum err e = body_begin(BODY_REFUSE, &l->writer);
	if (e != OK) {
		reply_printf(&l->s.reply, "%s\r\n", lmtp_words(e, OVER_QUOTA_TEMPORARY));
		l->writer = NULL;
		return STEP_NEXT;
	}
	l->transfer = LMTP_DATA;
	l->dots = (struct lmtp_dots){ LMTP_LINE_START };
	LMTP_SAY(l, "354 send the message, end it with CRLF.CRLF");
	return STEP_DATA;
}

static enum step data_bytes(struct lmtp_session *l, struct slice bytes, size_t *used_out)
{
	struct slice in = bytes, run;
	while (lmtp_dots_next(&l->dots, &in, &run))
		add(l, run);
	*used_out = bytes.len - in.len;
	if (l->dots.at == LMTP_END) {
		l->transfer = LMTP_COMMANDS;
		return complete(l);
	}
	return too_much_to_swallow(l) ? cut_off(l) : STEP_DATA;
}

/* ---- BDAT ---- */

/* RFC 3030 section 2: exactly one reply to a chunk, RFC 2033 section 4.3: but one per recipient, which may be none, to the last. */
static enum step chunk_end(struct lmtp_session *l)
{
	l->transfer = LMTP_COMMANDS;
	if (l->chunk_orphan)
		return lmtp_bad(l, "503 5.5.1 MAIL first");
	if (l->chunk_last && l->rcpts)
		return complete(l);
	if (l->chunk_last)
		lmtp_reset(l);
	else if (!l->rcpts)
		LMTP_SAY(l, "503 5.5.1 no valid recipients");
	else if (l->data_err != OK)
		reply_printf(&l->s.reply, "%s\r\n", lmtp_words((enum err)l->data_err, OVER_QUOTA_TEMPORARY));
	else
		LMTP_SAY(l, "250 2.0.0 chunk taken");
	return STEP_NEXT;
}

static bool chunk_arguments(struct slice args, uint64_t *bytes_out, bool *last_out)
{
	size_t space = slice_find(args, ' ');
	struct slice mark = space == SIZE_MAX ? slice_of(NULL, 0) : slice_trim(slice_from(args, space));
	*last_out = slice_eq_nocase(mark, SLICE_LIT("LAST"));
	return slice_u64(slice_upto(args, space), UINT64_MAX, bytes_out) && (*last_out || !mark.len);
}

enum step lmtp_bdat_begin(struct lmtp_session *l, struct slice args)
{
	uint64_t bytes;
	bool last;
	if (!chunk_arguments(args, &bytes, &last)) {
		/* How many bytes follow is not known: whatever comes next might be message or command. */
		LMTP_SAY(l, "501 5.5.4 BDAT wants a size in octets, closing");
		return STEP_CLOSE;
	}
	if (bytes > lmtp_settings.message_bytes_max + LMTP_SWALLOW_BYTES_MAX)
		return cut_off(l);
	l->chunk_left = bytes;
	l->chunk_last = last;
	l->chunk_orphan = !l->mail;
	if (l->mail && l->rcpts && !l->chunking)
		l->data_err = (uint8_t)body_begin(BODY_REFUSE, &l->writer);
	if (l->data_err != OK)
		l->writer = NULL;
	l->chunking = l->mail;
	l->transfer = LMTP_BDAT;
	return bytes ? STEP_DATA : chunk_end(l);
}

static enum step chunk_bytes(struct lmtp_session *l, struct slice bytes, size_t *used_out)
{
	struct slice run = slice_upto(bytes, (size_t)min_u64(bytes.len, l->chunk_left));
	add(l, run);
	l->chunk_left -= run.len;
	*used_out = run.len;
	if (!l->chunk_left)
		return chunk_end(l);
	return too_much_to_swallow(l) ? cut_off(l) : STEP_DATA;
}

enum step lmtp_data_bytes(struct lmtp_session *l, struct slice bytes, size_t *used_out)
{
	return l->transfer == LMTP_DATA ? data_bytes(l, bytes, used_out) : chunk_bytes(l, bytes, used_out);
}
