/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_retr.c - RETR and TOP: a status line, the message as stored with its dots stuffed, the closing dot.
 *
 * The store knows where the lines are that begin with a dot.  A small message has come to memory with its records and is
 * copied into the output from there.  A large one leaves as ranges of its file, cut before each such line, with one more
 * dot between: nothing is read here, and the handler returns before the first byte is sent.  Where such lines are many (or
 * uncounted), and for a TOP that ends within the body, it passes through a buffer on the stack in pieces of POP3_COPY_BYTES.
 *
 * Either way output may be full: the place in the message is kept in a pop3_send and the stack is given back.  The file
 * stays pinned as long as a range of it may be sent: each range holds a reference, and the session one until it has
 * queued the last.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/fiber.h"
#include "core/run/file.h"

#include <stdlib.h>

METRIC_COUNTER(messages_sent, "pop3_messages_sent_total", "RETR answered with a message");
METRIC_COUNTER(messages_damaged, "pop3_messages_damaged_total", "RETR or TOP of a message whose stored bytes are damaged");

struct pop3_send {
	struct message_source source;
	uint32_t references; /* ranges in the output, and the session */
	uint32_t dot;        /* next of source.dots */
	uint64_t at, end;    /* of the body */
	uint64_t lines_left; /* of the body, below the header; UINT64_MAX = all */
	bool scan;           /* for dots and ends of lines; else source.dots tells */
	bool line_start;
	bool retrieves;      /* RETR, of ... */
	uint32_t index;      /* ... this message */
};

static void unref(void *arg)
{
	struct pop3_send *send = arg;
	ASSERT(send->references > 0);
	if (--send->references == 0) {
		message_close(&send->source);
		free(send);
	}
}

void pop3_send_drop(struct pop3_session *p)
{
	if (p->send)
		unref(p->send);
	p->send = NULL;
	if (p->cursor == POP3_SENDING)
		p->cursor = POP3_NOTHING;
}

/* ---- as ranges ---- */

static void put_range(struct pop3_session *p, struct pop3_send *send, uint64_t end)
{
	if (end > send->at) {
		send->references++;
		reply_file(&p->s.reply, send->source.fd, send->source.offset + send->at, end - send->at, unref, send);
	}
	send->at = end;
}

/* False: output is full. */
static bool send_ranges(struct pop3_session *p, struct pop3_send *send)
{
	const struct message_source *m = &send->source;
	for (; send->dot < m->dot_count && m->dots[send->dot] < send->end; send->dot++) {
		if (reply_full(&p->s.reply))
			return false;
		put_range(p, send, m->dots[send->dot]);
		REPLY_LIT(&p->s.reply, "."); /* RFC 1939 section 3 */
	}
	put_range(p, send, send->end);
	return true;
}

/* ---- through our hands ---- */

/* One run of bytes of the body, its dots known. */
static void put_dotted(struct pop3_session *p, struct pop3_send *send, struct slice bytes)
{
	const struct message_source *m = &send->source;
	uint64_t end = send->at + bytes.len;
	for (; send->dot < m->dot_count && m->dots[send->dot] < end; send->dot++) {
		size_t run = (size_t)(m->dots[send->dot] - send->at);
		reply_put(&p->s.reply, slice_upto(bytes, run));
		REPLY_LIT(&p->s.reply, "."); /* RFC 1939 section 3 */
		bytes = slice_from(bytes, run);
		send->at += run;
	}
	reply_put(&p->s.reply, bytes);
	send->at = end;
}

/* One run of bytes of the body, stuffed; the lines below the header are counted, and the last one wanted sets send->end. */
static void put_stuffed(struct pop3_session *p, struct pop3_send *send, struct slice bytes)
{
	const char *at = bytes.ptr, *end = bytes.ptr + bytes.len, *start = at;
	while (at < end) {
		if (send->line_start && *at == '.') {
			reply_put(&p->s.reply, slice_of(start, (size_t)(at - start)));
			REPLY_LIT(&p->s.reply, ".");
			start = at;
		}
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		const char *next = lf ? lf + 1 : end;
		send->line_start = lf != NULL;
		send->at += (uint64_t)(next - at);
		at = next;
		if (lf && send->at > send->source.header_bytes && send->lines_left != UINT64_MAX && --send->lines_left == 0) {
			send->end = send->at;
			break;
		}
	}
	reply_put(&p->s.reply, slice_of(start, (size_t)(at - start)));
}

static void put_piece(struct pop3_session *p, struct pop3_send *send, struct slice bytes)
{
	if (send->scan)
		put_stuffed(p, send, bytes);
	else
		put_dotted(p, send, bytes);
}

/* False: output is full. */
static bool send_memory(struct pop3_session *p, struct pop3_send *send)
{
	while (send->at < send->end) {
		if (reply_full(&p->s.reply))
			return false;
		put_piece(p, send, slice_of(send->source.body + send->at, (size_t)min_u64(POP3_COPY_BYTES, send->end - send->at)));
	}
	return true;
}

/* ERR_AGAIN: output is full. ERR_CLOSED: nobody listens. ERR_IO: the file ended or could not be read, in the midst of the answer. */
static __attribute__((noinline)) enum err send_copied(struct pop3_session *p, struct pop3_send *send)
{
	char buffer[POP3_COPY_BYTES];
	while (send->at < send->end) {
		if (reply_full(&p->s.reply))
			return ERR_AGAIN;
		size_t want = (size_t)min_u64(sizeof buffer, send->end - send->at);
		int64_t got = file_read(send->source.fd, buffer, want, send->source.offset + send->at);
		if (session_dying(&p->s))
			return ERR_CLOSED;
		if (got < (int64_t)want)
			return ERR_IO;
		put_piece(p, send, slice_of(buffer, want));
		fiber_breathe();
	}
	return OK;
}

/* ---- the answer ---- */

static enum err send_some(struct pop3_session *p, struct pop3_send *send)
{
	if (send->source.body)
		return send_memory(p, send) ? OK : ERR_AGAIN;
	if (send->scan)
		return send_copied(p, send);
	return send_ranges(p, send) ? OK : ERR_AGAIN;
}

enum step pop3_send_on(struct pop3_session *p)
{
	enum err e = send_some(p, p->send);
	if (e == ERR_AGAIN) {
		p->cursor = POP3_SENDING;
		return STEP_RESUME;
	}
	if (e == OK && p->send->retrieves)
		pop3_retrieved(p, p->send->index);
	pop3_send_drop(p);
	if (e == ERR_IO)
		log_event(LOG_ERROR, "pop3.send_failed", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name));
	if (e != OK)
		return STEP_ABORT; /* half a message is out: only the end of the connection tells the client */
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

static bool must_scan(const struct message_source *m)
{
	return m->dots_unknown || (!m->body && m->dot_count > m->bytes / POP3_RANGE_BYTES_MIN);
}

/* A message by SMTPUTF8 (LMTP's trace line says so) with 8-bit bytes in its header: RFC 6856 section 2.1. The header is read
 * for such messages only. */
bool pop3_eight_bit(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] > 127)
			return true;
	return false;
}

static __attribute__((noinline)) bool header_is_eight_bit(const struct message_source *m)
{
	char buffer[POP3_COPY_BYTES];
	for (uint64_t at = 0; at < m->header_bytes; at += sizeof buffer) {
		size_t want = (size_t)min_u64(sizeof buffer, m->header_bytes - at);
		int64_t got = file_read(m->fd, buffer, want, m->offset + at);
		if (got < (int64_t)want)
			return false; /* the answer itself will fail in its own words */
		if (pop3_eight_bit(slice_of(buffer, want)))
			return true;
	}
	return false;
}

bool pop3_is_smtputf8(const struct message_source *m)
{
	return m->prefix.len && memmem(m->prefix.ptr, m->prefix.len, " with UTF8LMTP id ", 18);
}

static bool needs_utf8(const struct pop3_session *p, const struct message_source *m)
{
	if (p->utf8 || !pop3_is_smtputf8(m))
		return false;
	if (m->body)
		return pop3_eight_bit(m->prefix) || pop3_eight_bit(slice_of(m->body, (size_t)m->header_bytes));
	return pop3_eight_bit(m->prefix) || header_is_eight_bit(m);
}

/* Opens the message for sending, or says why not. */
static struct pop3_send *open_or_reply(struct pop3_session *p, uint32_t index)
{
	struct message_source source;
	enum err e = message_open(p->view, index, &source);
	if (e != OK) {
		if (e == ERR_CORRUPT)
			metric_inc(&messages_damaged);
		log_event(LOG_WARN, "pop3.message_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name),
			  LOG_U64("message", (uint64_t)index + 1), LOG_ERR(e));
		pop3_fail(p, e);
		return NULL;
	}
	if (needs_utf8(p, &source)) {
		message_close(&source);
		pop3_word(p, POP3_W_NEEDS_UTF8);
		return NULL;
	}
	struct pop3_send *send = xmalloc(sizeof *send);
	*send = (struct pop3_send){ .source = source, .references = 1, .end = source.bytes, .lines_left = UINT64_MAX, .line_start = true };
	return send;
}

/* Our own lines before the body; an imported message has none. They never begin with a dot, but this is no place to rely on it. */
static void put_prefix(struct pop3_session *p, struct slice prefix)
{
	while (prefix.len) {
		size_t lf = slice_find(prefix, '\n');
		size_t len = lf == SIZE_MAX ? prefix.len : lf + 1;
		if (prefix.ptr[0] == '.')
			REPLY_LIT(&p->s.reply, ".");
		reply_put(&p->s.reply, slice_upto(prefix, len));
		prefix = slice_from(prefix, len);
	}
}

static enum step send_message(struct pop3_session *p, struct pop3_send *send)
{
	p->send = send;
	put_prefix(p, send->source.prefix);
	return pop3_send_on(p);
}

enum step pop3_retr(struct pop3_session *p, const struct pop3_line *l)
{
	uint32_t index;
	if (!pop3_message_or_reply(p, l->words, &index))
		return STEP_NEXT;
	struct pop3_send *send = open_or_reply(p, index);
	if (!send)
		return STEP_NEXT;
	uint64_t octets = send->source.prefix.len + send->source.bytes;
	send->scan = must_scan(&send->source);
	send->retrieves = true;
	send->index = index;
	p->retrieved++;
	p->retrieved_bytes += octets;
	metric_inc(&messages_sent);
	pop3_say(p, POP3_W_OCTETS, octets, 0);
	return send_message(p, send);
}

/* A line has two bytes at least: when the body cannot have more lines than were asked for, TOP is RETR in other words. */
static void limit_lines(struct pop3_send *send, uint64_t lines)
{
	uint64_t header = min_u64(send->source.header_bytes, send->source.bytes);
	if (lines == 0)
		send->end = header;
	else if (lines <= (send->source.bytes - header) / 2)
		send->lines_left = lines;
}

enum step pop3_top(struct pop3_session *p, const struct pop3_line *l)
{
	uint32_t index;
	uint64_t number, lines;
	if (!pop3_two_numbers(l->words, &number, &lines)) {
		pop3_word(p, POP3_W_SYNTAX);
		return STEP_NEXT;
	}
	if (!pop3_message_or_reply(p, slice_upto(l->words, slice_find(l->words, ' ')), &index))
		return STEP_NEXT;
	struct pop3_send *send = open_or_reply(p, index);
	if (!send)
		return STEP_NEXT;
	limit_lines(send, lines);
	send->scan = send->lines_left != UINT64_MAX || must_scan(&send->source);
	pop3_word(p, POP3_W_TOP);
	return send_message(p, send);
}
