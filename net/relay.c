/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.c - one transaction of RFC 5321 or RFC 2033 as its client.
 *
 * No pipelining: a relay is near, and one answer at a time says whose fault an error is.  What the relay says is as little
 * trusted as what clients say: lines, their number and their time are bounded.
 */
#include "net/relay.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/socket.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(mails_relayed, "relay_mails_sent_total", "messages that the relay took for every recipient");
METRIC_COUNTER(mails_refused, "relay_mails_failed_total", "messages that it refused, or that did not reach it");

static uint32_t connections; /* of this process; atomic */

struct link_to_relay {
	const struct relay *relay;
	struct relay_outcome *outcome;
	int fd;
	bool eight_bit_mime, has_size;
	uint64_t size_max; /* 0 = it did not say */
	size_t at, end;    /* of in: what came and was not read yet */
	char in[RELAY_LINE_BYTES_MAX];
	char line[RELAY_LINE_BYTES_MAX];
	size_t line_len;
	char out[RELAY_CHUNK_BYTES];
};

/* What went wrong, in printable ASCII, told once. */
static void note(struct link_to_relay *l, struct slice words)
{
	char *out = l->outcome->words;
	if (out[0])
		return;
	size_t len = min_size(words.len, RELAY_WORDS_BYTES - 1);
	for (size_t i = 0; i < len; i++)
		out[i] = words.ptr[i] >= 0x20 && words.ptr[i] < 0x7f ? words.ptr[i] : '?';
	out[len] = '\0';
}

static enum err fail(struct link_to_relay *l, const char *words)
{
	note(l, slice_str(words));
	l->line_len = 0; /* no answer */
	return ERR_TEMP;
}

/* ---- bytes ---- */

static enum err put(struct link_to_relay *l, const char *ptr, size_t len, uint64_t deadline_ms)
{
	struct io_op op;
	struct io_piece piece = { .ptr = ptr, .len = len, .fd = -1 };
	io_await_prepare(&op);
	io_send(&op, l->fd, &piece, 1);
	int64_t r = io_await(&op, deadline_ms);
	return r == (int64_t)len ? OK : fail(l, r == -ETIME ? "the relay takes nothing" : "the connection to the relay broke");
}

static enum err get(struct link_to_relay *l, uint64_t deadline_ms)
{
	struct io_op op;
	io_await_prepare(&op);
	io_recv_into(&op, l->fd, l->in, sizeof l->in);
	int64_t r = io_await(&op, deadline_ms);
	if (r <= 0)
		return fail(l, r == -ETIME ? "the relay does not answer" : "the relay closed the connection");
	l->at = 0;
	l->end = (size_t)r;
	return OK;
}

static enum err get_line(struct link_to_relay *l, uint64_t deadline_ms)
{
	l->line_len = 0;
	for (;;) {
		if (l->at == l->end) {
			enum err e = get(l, deadline_ms);
			if (e)
				return e;
		}
		char c = l->in[l->at++];
		if (c == '\n')
			break;
		if (l->line_len == sizeof l->line)
			return fail(l, "the relay says lines without end");
		l->line[l->line_len++] = c;
	}
	if (l->line_len && l->line[l->line_len - 1] == '\r')
		l->line_len--;
	return OK;
}

/* ---- replies ---- */

/* One line of the answer to our introduction. */
static void note_extension(struct link_to_relay *l, struct slice text)
{
	if (slice_eq_nocase(text, SLICE_LIT("8BITMIME")))
		l->eight_bit_mime = true;
	if (!slice_eq_nocase(slice_upto(text, 4), SLICE_LIT("SIZE")) || (text.len > 4 && text.ptr[4] != ' '))
		return;
	l->has_size = true;
	if (!slice_u64(slice_trim(slice_from(text, 4)), UINT64_MAX, &l->size_max))
		l->size_max = 0;
}

/* What a reply is to. */
enum occasion { GREETING, INTRODUCTION, COMMAND, DATA, VERDICT };

/* A whole reply: OK for 2xx, to DATA for 3xx. */
static enum err get_reply(struct link_to_relay *l, uint32_t ms_max, enum occasion occasion)
{
	uint64_t deadline_ms = clock_now_ms() + ms_max, code = 0;
	for (unsigned lines = 0;; lines++) {
		enum err e = get_line(l, deadline_ms);
		if (e)
			return e;
		struct slice line = slice_of(l->line, l->line_len);
		if (line.len < 3 || !slice_u64(slice_upto(line, 3), 599, &code) || code < 200 || lines == RELAY_LINES_MAX)
			return fail(l, "the relay says what is no reply");
		if (occasion == INTRODUCTION)
			note_extension(l, slice_from(line, 4));
		if (line.len > 3 && line.ptr[3] == '-')
			continue;
		if (code >= 400)
			note(l, line);
		if (code < 400)
			return (code < 300) == (occasion != DATA) ? OK : fail(l, "the relay says what is no answer");
		return code < 500 ? ERR_TEMP : ERR_DENIED;
	}
}

static enum err ask(struct link_to_relay *l, enum occasion occasion, const char *fmt, ...) PRINTF_LIKE(3, 4);
static enum err ask(struct link_to_relay *l, enum occasion occasion, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(l->out, sizeof l->out, fmt, ap);
	va_end(ap);
	ASSERT(n > 0 && (size_t)n < sizeof l->out); /* addresses are bounded by whoever read them */
	enum err e = put(l, l->out, (size_t)n, clock_now_ms() + l->relay->answer_ms_max);
	return e ? e : get_reply(l, l->relay->answer_ms_max, occasion);
}

/* ---- the connection ---- */

static enum err introduce(struct link_to_relay *l)
{
	uint32_t ms_max = l->relay->connect_ms_max;
	enum err e = get_reply(l, ms_max, GREETING);
	if (e)
		return e;
	int n = snprintf(l->out, sizeof l->out, "%s %.255s\r\n", l->relay->protocol == RELAY_LMTP ? "LHLO" : "EHLO", l->relay->host_name);
	e = put(l, l->out, (size_t)n, clock_now_ms() + ms_max);
	return e ? e : get_reply(l, ms_max, INTRODUCTION);
}

static enum err connect_to(struct link_to_relay *l)
{
	struct io_op op;
	const struct addr *a = &l->relay->address;
	l->fd = socket_stream(a);
	if (l->fd < 0)
		return fail(l, "no descriptor for a connection to the relay");
	io_await_prepare(&op);
	io_connect(&op, l->fd, &a->u.sa, a->len);
	int64_t r = io_await(&op, clock_now_ms() + l->relay->connect_ms_max);
	return r < 0 ? fail(l, "the relay cannot be reached") : introduce(l);
}

static enum err open_link(const struct relay *relay, struct relay_outcome *outcome, struct link_to_relay **link_out)
{
	*outcome = (struct relay_outcome){ .taken = 0 };
	*link_out = NULL;
	ASSERT(relay->address.len);
	if (__atomic_add_fetch(&connections, 1, __ATOMIC_RELAXED) > RELAY_CONNECTIONS_MAX) {
		__atomic_sub_fetch(&connections, 1, __ATOMIC_RELAXED);
		return ERR_BUSY;
	}
	struct link_to_relay *l = *link_out = xcalloc(1, sizeof *l);
	l->relay = relay;
	l->outcome = outcome;
	enum err e = connect_to(l);
	return e == ERR_DENIED ? ERR_TEMP : e; /* who refuses us before he knows the message may be mended */
}

/* `in_order`: between two commands. A QUIT whose answer nobody waits for. */
static void close_link(struct link_to_relay *l, bool in_order)
{
	if (!l)
		return;
	if (l->fd >= 0 && in_order)
		(void)put(l, "QUIT\r\n", 6, clock_now_ms() + l->relay->answer_ms_max);
	if (l->fd >= 0)
		io_close(l->fd);
	free(l);
	__atomic_sub_fetch(&connections, 1, __ATOMIC_RELAXED);
}

enum err relay_check(const struct relay *relay, struct relay_outcome *outcome_out)
{
	struct link_to_relay *l;
	enum err e = open_link(relay, outcome_out, &l);
	close_link(l, e == OK);
	return e;
}

/* ---- the message ---- */

static uint64_t mail_bytes(const struct relay_mail *m)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < m->pieces_count; i++)
		sum += m->pieces[i].len;
	return sum;
}

/* What the relay has said to be impossible is not tried. */
static enum err check_limits(struct link_to_relay *l, const struct relay_mail *m)
{
	if (m->eight_bit && !l->eight_bit_mime) {
		note(l, SLICE_LIT("the relay does not offer 8BITMIME"));
		return ERR_SYNTAX;
	}
	if (l->size_max && mail_bytes(m) > l->size_max) {
		note(l, SLICE_LIT("the message is larger than the relay takes"));
		return ERR_LIMIT;
	}
	return OK;
}

static enum err envelope(struct link_to_relay *l, const struct relay_mail *m)
{
	char size[32] = "";
	if (l->has_size)
		snprintf(size, sizeof size, " SIZE=%llu", (unsigned long long)mail_bytes(m));
	enum err e = ask(l, COMMAND, "MAIL FROM:<%.*s>%s%s\r\n", SLICE_ARG(m->sender), size, m->eight_bit ? " BODY=8BITMIME" : "");
	for (size_t i = 0; i < m->rcpts_count && !e; i++)
		e = ask(l, COMMAND, "RCPT TO:<%.*s>\r\n", SLICE_ARG(m->rcpts[i]));
	return e ? e : ask(l, DATA, "DATA\r\n");
}

/* Sends what is gathered in out when it is full, or at the end. */
struct writer {
	size_t len;
	bool line_start;
};

static enum err flush(struct link_to_relay *l, struct writer *w)
{
	enum err e = w->len ? put(l, l->out, w->len, clock_now_ms() + l->relay->answer_ms_max) : OK;
	w->len = 0;
	fiber_breathe();
	return e;
}

/* A piece with its dots stuffed: whole lines, or what of one lies in the piece. */
static enum err write_piece(struct link_to_relay *l, struct writer *w, struct slice piece)
{
	while (piece.len) {
		const char *lf = memchr(piece.ptr, '\n', piece.len);
		size_t run = lf ? (size_t)(lf - piece.ptr) + 1 : piece.len;
		run = min_size(run, sizeof l->out / 2);
		if (w->len + run + 1 > sizeof l->out) {
			enum err e = flush(l, w);
			if (e)
				return e;
		}
		if (w->line_start && piece.ptr[0] == '.')
			l->out[w->len++] = '.';
		memcpy(l->out + w->len, piece.ptr, run);
		w->len += run;
		w->line_start = piece.ptr[run - 1] == '\n';
		piece = slice_from(piece, run);
	}
	return OK;
}

static enum err write_data(struct link_to_relay *l, const struct relay_mail *m)
{
	struct writer w = { .len = 0, .line_start = true };
	enum err e = OK;
	for (size_t i = 0; i < m->pieces_count && !e; i++)
		e = write_piece(l, &w, m->pieces[i]);
	if (!e)
		e = flush(l, &w);
	ASSERT(e || w.line_start);
	if (e)
		return e;
	/* From here on the relay may have it, whatever becomes of the connection. */
	l->outcome->unsure = true;
	return put(l, ".\r\n", 3, clock_now_ms() + l->relay->answer_ms_max);
}

static bool is_answer(const struct link_to_relay *l) { return l->line_len >= 3 && (l->line[0] == '4' || l->line[0] == '5'); }

/* SMTP: one reply for all. LMTP: one for each recipient, in order (RFC 2033 section 4.2). A temporary refusal says more than one for good:
 * who tries again reaches those, too. */
static enum err read_verdicts(struct link_to_relay *l, const struct relay_mail *m)
{
	size_t replies = l->relay->protocol == RELAY_LMTP ? m->rcpts_count : 1;
	enum err worst = OK;
	for (size_t i = 0; i < replies; i++) {
		enum err e = get_reply(l, l->relay->data_ms_max, VERDICT);
		if (e == ERR_TEMP && !is_answer(l))
			return e; /* the connection is gone */
		if (!e)
			l->outcome->taken += l->relay->protocol == RELAY_LMTP ? 1 : m->rcpts_count;
		else if (worst != ERR_TEMP)
			worst = e;
	}
	l->outcome->unsure = false;
	return worst;
}

enum err relay_send(const struct relay *relay, const struct relay_mail *mail, struct relay_outcome *outcome_out)
{
	struct link_to_relay *l;
	bool in_order = true;
	ASSERT(mail->rcpts_count);
	enum err e = open_link(relay, outcome_out, &l);
	if (!e)
		e = check_limits(l, mail);
	if (!e)
		e = envelope(l, mail);
	if (!e) {
		in_order = false;
		e = write_data(l, mail);
		if (!e) {
			e = read_verdicts(l, mail);
			in_order = !outcome_out->unsure;
		}
	}
	close_link(l, in_order && (e == OK || e == ERR_DENIED));
	metric_inc(e ? &mails_refused : &mails_relayed);
	return e;
}
