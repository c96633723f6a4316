/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_xmit.c - XTND XMIT: a client hands in a message over its POP3 connection (draft-hansen-pop3-xtndext-00), where a tenant allows it.
 *
 *     C: XTND XMIT
 *     S: +OK Start sending message.      | -ERR: it could not be sent anyway
 *     C: the message, its dots stuffed, then CRLF.CRLF
 *     S: +OK Message sent successfully   | -ERR [SYS/TEMP] or [SYS/PERM]
 *
 * The relay is asked at the first step, so that who would be refused learns it before he has sent anything.  The whole message is
 * gathered in memory (bounded: one, all of them together), then given to the relay in one go: +OK follows its 250 for every recipient, so that what
 * was accepted is somebody's.  A temporary fault always says [SYS/TEMP]: one known client drops a message after any other -ERR.
 *
 * The end is exactly CR LF . CR LF.  A bare CR or LF is refused after it: what one side takes for an end of line and the next does not
 * is how a second message is smuggled in.  A dot that begins a line and was not doubled is kept, as the one known server does.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/directory.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

METRIC_COUNTER(mails_sent, "pop3_xmit_sent_total", "messages sent by XTND XMIT");
METRIC_COUNTER(mails_refused, "pop3_xmit_refused_total", "messages of XTND XMIT that were not sent, or not to all");

enum place { LINE_START, DOT, DOT_CR, MIDDLE, CR, END };

struct pop3_xmit {
	struct buf message;
	size_t charged_bytes;  /* of the memory of all */
	uint64_t seen_bytes;
	enum place at;
	enum pop3_word word;   /* POP3_W_NOOP, or why it will not be sent */
};

/* ---- memory, of all messages of this process ---- */

static uint64_t memory_bytes; /* atomic */

static bool charge(struct pop3_xmit *x, size_t bytes)
{
	while (x->charged_bytes < bytes) {
		if (__atomic_add_fetch(&memory_bytes, POP3_XMIT_GRAIN_BYTES, __ATOMIC_RELAXED) > POP3_XMIT_MEMORY_BYTES_MAX) {
			__atomic_sub_fetch(&memory_bytes, POP3_XMIT_GRAIN_BYTES, __ATOMIC_RELAXED);
			return false;
		}
		x->charged_bytes += POP3_XMIT_GRAIN_BYTES;
	}
	return true;
}

static void drop_message(struct pop3_xmit *x)
{
	buf_release(&x->message);
	__atomic_sub_fetch(&memory_bytes, x->charged_bytes, __ATOMIC_RELAXED);
	x->charged_bytes = 0;
}

void pop3_xmit_drop(struct pop3_session *p)
{
	if (!p->xmit)
		return;
	drop_message(p->xmit);
	free(p->xmit);
	p->xmit = NULL;
}

/* ---- how much an account sends: recipients in the hour that began with its first ---- */

struct sending {
	uint64_t account_id, since_ms; /* 0 = free */
	uint64_t rcpts;
};
static struct {
	pthread_mutex_t lock;
	struct sending entries[POP3_XMIT_RATE_ENTRIES];
} rates = { .lock = PTHREAD_MUTEX_INITIALIZER };

static size_t rate_set(uint64_t account_id)
{
	return (size_t)((account_id * 0x9E3779B97F4A7C15u) >> 32) % (POP3_XMIT_RATE_ENTRIES / 4) * 4;
}

/* Takes so many, all or none; 0 asks whether one more could be. */
static bool rate_take(uint64_t account_id, uint64_t rcpts)
{
	uint64_t now_ms = clock_now_ms() + 1, most = pop3_settings.xmit.rcpts_per_hour_max;
	size_t set = rate_set(account_id);
	struct sending *found = NULL, *oldest = &rates.entries[set];
	pthread_mutex_lock(&rates.lock);
	for (size_t i = set; i < set + 4; i++) {
		struct sending *s = &rates.entries[i];
		if (s->account_id == account_id)
			found = s;
		if (s->since_ms < oldest->since_ms)
			oldest = s;
	}
	if (!found || now_ms - found->since_ms >= 3600000) {
		found = found ? found : oldest;
		*found = (struct sending){ account_id, now_ms, 0 };
	}
	bool room = found->rcpts + (rcpts ? rcpts : 1) <= most;
	if (room)
		found->rcpts += rcpts;
	pthread_mutex_unlock(&rates.lock);
	return room;
}

/* Nothing was sent after all. */
static void rate_give(uint64_t account_id, uint64_t rcpts)
{
	size_t set = rate_set(account_id);
	pthread_mutex_lock(&rates.lock);
	for (size_t i = set; i < set + 4; i++)
		if (rates.entries[i].account_id == account_id)
			rates.entries[i].rcpts -= min_u64(rcpts, rates.entries[i].rcpts);
	pthread_mutex_unlock(&rates.lock);
}

/* ---- the first step ---- */

static enum pop3_word refusal(struct pop3_session *p)
{
	struct relay_outcome outcome;
	if (!pop3_settings.xmit.relay.address.len)
		return POP3_W_XMIT_OFF;
	if (!rate_take(p->subject->account_id, 0))
		return POP3_W_XMIT_RATE;
	enum err e = relay_check(&pop3_settings.xmit.relay, &outcome);
	if (e != OK)
		log_event(LOG_WARN, "pop3.relay_failed", LOG_U64("session", p->s.id), LOG_ERR(e), LOG_Z("why", outcome.words));
	return e != OK ? POP3_W_XMIT_DOWN : POP3_W_NOOP;
}

enum step pop3_xmit(struct pop3_session *p)
{
	enum pop3_word w = refusal(p);
	if (w != POP3_W_NOOP) {
		pop3_say(p, w, pop3_settings.xmit.rcpts_per_hour_max, 0);
		return STEP_NEXT;
	}
	p->xmit = xcalloc(1, sizeof *p->xmit);
	p->xmit->word = POP3_W_NOOP;
	buf_init(&p->xmit->message, pop3_settings.xmit.message_bytes_max);
	pop3_word(p, POP3_W_XMIT_GO);
	return STEP_DATA;
}

/* ---- the message comes in ---- */

static void refuse(struct pop3_xmit *x, enum pop3_word w)
{
	if (x->word != POP3_W_NOOP)
		return;
	x->word = w;
	drop_message(x); /* the rest is only read */
}

static void add(struct pop3_xmit *x, const char *ptr, size_t len)
{
	if (x->word != POP3_W_NOOP || !len)
		return;
	if (memchr(ptr, 0, len))
		refuse(x, POP3_W_XMIT_BYTES);
	else if (x->message.len + len > x->message.max)
		refuse(x, POP3_W_XMIT_TOO_BIG);
	else if (!charge(x, x->message.len + len))
		refuse(x, POP3_W_BUSY);
	else
		ASSERT(buf_put(&x->message, ptr, len));
}

/* Takes a run of a line's bytes up to its end. */
static const char *take_run(struct pop3_xmit *x, const char *at, const char *end)
{
	const char *start = at;
	while (at < end && *at != '\r' && *at != '\n')
		at++;
	add(x, start, (size_t)(at - start));
	if (at == end)
		return at;
	if (*at == '\n')
		refuse(x, POP3_W_XMIT_BYTES);
	else
		x->at = CR;
	return at + 1;
}

/* One byte or one run. */
static const char *take(struct pop3_xmit *x, const char *at, const char *end)
{
	switch (x->at) {
	case LINE_START:
		x->at = *at == '.' ? DOT : MIDDLE;
		return *at == '.' ? at + 1 : at;
	case DOT:
		x->at = *at == '\r' ? DOT_CR : MIDDLE;
		if (*at == '\r')
			return at + 1;
		if (*at != '.')
			add(x, ".", 1); /* not doubled */
		return at;
	case DOT_CR:
		x->at = *at == '\n' ? END : MIDDLE;
		if (*at == '\n')
			return at + 1;
		refuse(x, POP3_W_XMIT_BYTES);
		return at;
	case CR:
		x->at = *at == '\n' ? LINE_START : MIDDLE;
		if (*at == '\n')
			add(x, "\r\n", 2);
		else
			refuse(x, POP3_W_XMIT_BYTES);
		return *at == '\n' ? at + 1 : at;
	case MIDDLE:
		return take_run(x, at, end);
	case END:
		break;
	}
	UNREACHABLE();
}

/* ---- it goes out ---- */

/* Mail for this address would come to this login: it may write in its name. */
static enum pop3_word check_sender(struct pop3_session *p, struct slice address)
{
	struct subject *subject = NULL;
	enum err e = directory_rcpt(address, &subject);
	if (e != OK)
		return e == ERR_NOT_FOUND || e == ERR_SYNTAX || e == ERR_LIMIT ? POP3_W_XMIT_SENDER : POP3_W_XMIT_DOWN;
	struct slice user = p->subject->sdps_user, local = slice_upto(address, slice_rfind(address, '@'));
	bool own = subject->account_id == p->subject->account_id && !subject->suspended && (!user.len || slice_eq_nocase(local, user));
	subject_unref(subject);
	return own ? POP3_W_NOOP : POP3_W_XMIT_SENDER;
}

static struct slice trace_line(struct pop3_session *p)
{
	char date[64];
	struct tm tm;
	time_t t = (time_t)clock_wall_s();
	struct slice peer = session_peer_address(&p->s);
	bool ip = peer.len && !slice_starts_nocase(peer, SLICE_LIT("unix"));
	date[gmtime_r(&t, &tm) ? strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &tm) : 0] = '\0';
	return arena_printf(&p->s.command, "Received: from %s%.*s%s\r\n\tby %.255s with POP3 (XTND XMIT) id %llx.%llx;\r\n\t%s\r\n",
			    !ip ? "local" : slice_find(peer, ':') == SIZE_MAX ? "[" : "[IPv6:", ip ? (int)peer.len : 0, peer.ptr, ip ? "]" : "",
			    pop3_settings.host_name, (unsigned long long)t, (unsigned long long)p->s.id, date);
}

/* Outcomes of the relay. */
static enum pop3_word word_for(enum err e, const struct relay_outcome *outcome)
{
	switch (e) {
	case OK:
		return POP3_W_XMIT_SENT;
	case ERR_DENIED:
		return outcome->taken ? POP3_W_XMIT_PART : POP3_W_XMIT_REFUSED;
	case ERR_SYNTAX:
		return POP3_W_XMIT_8BIT;
	case ERR_LIMIT:
		return POP3_W_XMIT_TOO_BIG;
	default:
		return outcome->taken ? POP3_W_XMIT_PART_LATER : POP3_W_XMIT_LATER;
	}
}

/* What is put into the words. */
struct numbers {
	uint64_t a, b;
};

static enum pop3_word relay(struct pop3_session *p, struct pop3_mail *mail, struct slice message, struct numbers *numbers_out)
{
	struct relay_outcome outcome;
	struct slice pieces[POP3_XMIT_PIECES_MAX + 1];
	pieces[0] = trace_line(p);
	memcpy(pieces + 1, mail->pieces, mail->pieces_count * sizeof *pieces);
	struct relay_mail out = { mail->sender, mail->rcpts, mail->rcpts_count, pieces, mail->pieces_count + 1, pop3_eight_bit(message) };
	if (!pieces[0].ptr)
		return POP3_W_BUSY;
	enum err e = relay_send(&pop3_settings.xmit.relay, &out, &outcome);
	enum pop3_word w = word_for(e, &outcome);
	if (e != OK && !outcome.taken && !outcome.unsure)
		rate_give(p->subject->account_id, mail->rcpts_count);
	if (outcome.taken)
		*numbers_out = (struct numbers){ outcome.taken, mail->rcpts_count };
	log_event(e == OK ? LOG_INFO : LOG_WARN, "pop3.xmit", LOG_U64("session", p->s.id), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_STR("from", mail->sender), LOG_U64("recipients", mail->rcpts_count), LOG_U64("taken", outcome.taken),
		  LOG_U64("bytes", message.len), LOG_Z("result", e == OK ? "sent" : err_name(e)), LOG_Z("relay", outcome.words));
	return w;
}

static enum pop3_word send_message(struct pop3_session *p, struct slice message, struct numbers *numbers_out)
{
	const struct pop3_xmit_config *c = &pop3_settings.xmit;
	struct pop3_mail *mail = arena_alloc(&p->s.command, sizeof *mail);
	if (!mail)
		return POP3_W_BUSY;
	*numbers_out = (struct numbers){ c->rcpts_max, 0 };
	enum pop3_word w = pop3_mail_read(&p->s.command, message, c->rcpts_max, mail);
	for (size_t i = 0; i < mail->from_count && w == POP3_W_NOOP; i++)
		w = check_sender(p, mail->from[i]);
	if (w != POP3_W_NOOP)
		return w;
	*numbers_out = (struct numbers){ c->rcpts_per_hour_max, 0 };
	if (!rate_take(p->subject->account_id, mail->rcpts_count))
		return POP3_W_XMIT_RATE;
	*numbers_out = (struct numbers){ c->message_bytes_max, 0 };
	return relay(p, mail, message, numbers_out);
}

static enum step finish(struct pop3_session *p)
{
	struct pop3_xmit *x = p->xmit;
	struct numbers numbers = { pop3_settings.xmit.message_bytes_max, 0 };
	enum pop3_word w = x->word;
	if (w == POP3_W_NOOP)
		w = send_message(p, buf_slice(&x->message), &numbers);
	if (w != POP3_W_XMIT_SENT)
		log_event(LOG_INFO, "pop3.xmit_refused", LOG_U64("session", p->s.id), LOG_STR("tenant", p->subject->tenant), LOG_STR("user", p->subject->name),
			  LOG_U64("bytes", x->seen_bytes), LOG_U64("word", w));
	metric_inc(w == POP3_W_XMIT_SENT ? &mails_sent : &mails_refused);
	pop3_xmit_drop(p);
	pop3_say(p, w, numbers.a, numbers.b);
	return STEP_NEXT;
}

enum step pop3_xmit_data(struct pop3_session *p, struct slice bytes, size_t *used_out)
{
	struct pop3_xmit *x = p->xmit;
	const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
	while (at < end && x->at != END)
		at = take(x, at, end);
	*used_out = (size_t)(at - bytes.ptr);
	x->seen_bytes += *used_out;
	if (x->at == END)
		return finish(p);
	if (x->seen_bytes <= POP3_XMIT_SWALLOW_BYTES_MAX)
		return STEP_DATA;
	pop3_say(p, POP3_W_XMIT_TOO_BIG, pop3_settings.xmit.message_bytes_max, 0);
	return STEP_CLOSE;
}
