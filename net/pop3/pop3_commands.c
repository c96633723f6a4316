/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_commands.c - the table of commands, and the small ones: CAPA STAT LIST UIDL DELE NOOP RSET UTF8.
 *
 * LIST and UIDL of a large maildrop do not fit the output: they write what fits, keep the number of the next message in
 * the session and give the stack back (STEP_RESUME).  The listing is of the view, so it is the same whenever it goes on.
 */
#include "net/pop3/pop3_private.h"

#include "core/run/fiber.h"
#include "net/verb.h"
#include "tenancy/directory.h"

enum step pop3_bad(struct pop3_session *p, enum pop3_word w)
{
	if (++p->bad_in_row >= pop3_settings.bad_commands_max) {
		pop3_word(p, POP3_W_TOO_MANY_BAD);
		return STEP_CLOSE;
	}
	pop3_word(p, w);
	return STEP_NEXT;
}

/* ---- numbers ---- */

bool pop3_message_or_reply(struct pop3_session *p, struct slice number, uint32_t *index_out)
{
	uint64_t n;
	if (!slice_u64(number, UINT64_MAX, &n)) {
		pop3_word(p, POP3_W_NUMBER);
		return false;
	}
	if (n == 0 || n > view_count(p->view)) {
		pop3_say(p, POP3_W_NO_MESSAGE, view_count(p->view), 0);
		return false;
	}
	if (p->deleted.words && bits_get(&p->deleted, n - 1)) {
		pop3_say(p, POP3_W_IS_DELETED, n, 0);
		return false;
	}
	*index_out = (uint32_t)(n - 1);
	return true;
}

static uint32_t messages_left(const struct pop3_session *p) { return view_count(p->view) - p->deleted_count; }
static uint64_t bytes_left(const struct pop3_session *p) { return view_bytes(p->view) - p->deleted_bytes; }

/* ---- STAT, LIST, UIDL ---- */

static enum step stat_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	char line[64];
	size_t len = 4;
	memcpy(line, "+OK ", 4);
	len += put_u64(line + len, messages_left(p));
	line[len++] = ' ';
	len += put_u64(line + len, bytes_left(p));
	line[len++] = '\r';
	line[len++] = '\n';
	reply_put(&p->s.reply, slice_of(line, len));
	return STEP_NEXT;
}

#define LIST_LINE_BYTES_MAX (10 + 1 + 20 + 2)
#define UIDL_LINE_BYTES_MAX (10 + 1 + UIDL_BYTES_MAX + 2)

/* A message number as text, its last digit apart. Counting it up costs a tenth of writing it anew, and a listing is little
 * else; the digits before the last stay as they are for ten lines, so that copying them never waits for a store. */
struct number {
	char before[15];
	uint8_t len; /* of before */
	char last;
};

static struct number number_of(uint32_t n)
{
	struct number text = { .len = 0, .last = (char)('0' + n % 10) };
	if (n >= 10)
		text.len = (uint8_t)put_u64(text.before, n / 10);
	return text;
}

static void count_up(struct number *n)
{
	if (LIKELY(n->last < '9')) {
		n->last++;
		return;
	}
	n->last = '0';
	size_t i = n->len;
	while (i && n->before[i - 1] == '9')
		n->before[--i] = '0';
	if (i) {
		n->before[i - 1]++;
	} else {
		if (n->len)
			n->before[n->len] = '0';
		n->before[0] = '1';
		n->len++;
	}
}

static inline size_t put_line(const struct pop3_session *p, const struct number *n, uint32_t index, bool uidl, char *out)
{
	memcpy(out, n->before, sizeof n->before); /* more than the number: what follows is written over it */
	size_t len = n->len;
	out[len++] = n->last;
	out[len++] = ' ';
	if (uidl) {
		len += view_uidl(p->view, index, out + len);
	} else {
		struct message m;
		view_message(p->view, index, &m);
		len += put_u64(out + len, m.size);
	}
	out[len++] = '\r';
	out[len++] = '\n';
	return len;
}

/* As many lines as one room holds, from p->at on, straight into the output; p->at moves behind them. */
static void put_lines(struct pop3_session *p, bool uidl, uint32_t count)
{
	char *room = reply_room(&p->s.reply, REPLY_ROOM_BYTES);
	size_t len = 0;
	uint32_t lines = (uint32_t)REPLY_ROOM_BYTES / (uidl ? UIDL_LINE_BYTES_MAX : LIST_LINE_BYTES_MAX);
	uint32_t end = (uint32_t)min_u64(count, (uint64_t)p->at + lines);
	struct number n = number_of(p->at + 1);
	for (; p->at < end; p->at++, count_up(&n))
		if (LIKELY(!p->deleted.words) || !bits_get(&p->deleted, p->at))
			len += put_line(p, &n, p->at, uidl, room + len);
	reply_commit(&p->s.reply, len);
}

enum step pop3_list_on(struct pop3_session *p)
{
	bool uidl = p->cursor == POP3_UIDLS;
	uint32_t count = view_count(p->view);
	for (unsigned rooms = 1; p->at < count; rooms++) {
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		put_lines(p, uidl, count);
		if (rooms % 64 == 0)
			fiber_breathe(); /* only where nearly all is deleted: else output is full long before */
	}
	p->cursor = POP3_NOTHING;
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

static enum step list_all(struct pop3_session *p, enum pop3_cursor cursor)
{
	if (cursor == POP3_UIDLS)
		pop3_word(p, POP3_W_UIDL);
	else
		pop3_say(p, POP3_W_LIST, messages_left(p), bytes_left(p));
	p->cursor = (uint8_t)cursor;
	p->at = 0;
	return pop3_list_on(p);
}

static enum step list_one(struct pop3_session *p, struct slice number, bool uidl)
{
	uint32_t index;
	char line[4 + UIDL_LINE_BYTES_MAX] = "+OK ";
	if (!pop3_message_or_reply(p, number, &index))
		return STEP_NEXT;
	struct number n = number_of(index + 1);
	reply_put(&p->s.reply, slice_of(line, 4 + put_line(p, &n, index, uidl, line + 4)));
	return STEP_NEXT;
}

static enum step list_command(struct pop3_session *p, const struct pop3_line *l)
{
	return l->words.len ? list_one(p, l->words, false) : list_all(p, POP3_LISTING);
}

static enum step uidl_command(struct pop3_session *p, const struct pop3_line *l)
{
	return l->words.len ? list_one(p, l->words, true) : list_all(p, POP3_UIDLS);
}

/* ---- DELE, RSET ---- */

static enum step dele_command(struct pop3_session *p, const struct pop3_line *l)
{
	uint32_t index;
	if (!pop3_message_or_reply(p, l->words, &index))
		return STEP_NEXT;
	pop3_need_bits(p);
	struct message m;
	view_message(p->view, index, &m);
	bits_set(&p->deleted, index);
	p->deleted_count++;
	p->deleted_bytes += m.size;
	pop3_say(p, POP3_W_DELETED, (uint64_t)index + 1, 0);
	return STEP_NEXT;
}

static enum step rset_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	for (size_t i = p->deleted.words ? bits_next(&p->deleted, 0) : SIZE_MAX; i < view_count(p->view); i = bits_next(&p->deleted, i + 1))
		bits_clear(&p->deleted, i); /* not the second half: what was downloaded stays downloaded */
	p->deleted_count = 0;
	p->deleted_bytes = 0;
	pop3_say(p, POP3_W_RESET, messages_left(p), bytes_left(p));
	return STEP_NEXT;
}

/* ---- NOOP, QUIT, UTF8, CAPA ---- */

static enum step noop_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	pop3_word(p, POP3_W_NOOP);
	return STEP_NEXT;
}

static enum step quit_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	return pop3_quit(p);
}

static enum step utf8_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	p->utf8 = true;
	pop3_word(p, POP3_W_UTF8);
	return STEP_NEXT;
}

/* RFC 2595 section 4: behind it the session is as new, but for the language; what was said before is forgotten. */
static enum step stls_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	if (session_tls_version(&p->s))
		return pop3_bad(p, POP3_W_TLS_ON);
	if (!session_tls_offered(&p->s))
		return pop3_bad(p, POP3_W_TLS_OFF);
	if (p->utf8)
		return pop3_bad(p, POP3_W_TLS_LATE); /* RFC 6856 section 2.1 */
	p->name = slice_of(NULL, 0);
	pop3_exchange_drop(p);
	arena_release(&p->s.arena);
	pop3_word(p, POP3_W_TLS);
	return STEP_TLS;
}

/* What may differ by user is announced as RFC 2449 sections 6.5 and 6.7 say: before login the extreme of all, with USER. */
static void capa_policies(struct pop3_session *p)
{
	bool before = p->state == POP3_AUTHORIZATION;
	struct directory_extremes any = directory_extremes();
	uint32_t delay_s = before ? any.login_delay_max_s : p->subject->login_delay_s;
	int32_t days = before ? any.expire_days_min : p->subject->expire_days;
	reply_printf(&p->s.reply, "LOGIN-DELAY %u%s\r\n", delay_s, before && delay_s ? " USER" : "");
	if (days < 0)
		REPLY_LIT(&p->s.reply, "EXPIRE NEVER\r\n");
	else
		reply_printf(&p->s.reply, "EXPIRE %d%s\r\n", days, before ? " USER" : "");
}

static enum step capa_command(struct pop3_session *p, const struct pop3_line *l)
{
	(void)l;
	pop3_word(p, POP3_W_CAPABILITIES);
	/* UTF8 stands without USER: names and passwords are compared as bytes, not by SASLprep (RFC 6856 section 2.2). */
	REPLY_LIT(&p->s.reply, "TOP\r\nUIDL\r\n");
	if (session_login_allowed(&p->s)) { /* RFC 2595 section 4, RFC 5034 section 4: what would be refused is not announced */
		REPLY_LIT(&p->s.reply, "USER\r\n");
		pop3_capa_sasl(p);
	}
	if (p->state == POP3_AUTHORIZATION && session_tls_offered(&p->s))
		REPLY_LIT(&p->s.reply, "STLS\r\n");
	REPLY_LIT(&p->s.reply, "RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\nLANG\r\n");
	if (p->state == POP3_TRANSACTION && p->subject->xtnd)
		reply_printf(&p->s.reply, "XTND%s%s\r\n", p->subject->xtnd & XTND_XLST ? " XLST" : "", p->subject->xtnd & XTND_XMIT ? " XMIT" : "");
	capa_policies(p);
	reply_printf(&p->s.reply, "IMPLEMENTATION %s\r\n.\r\n", pop3_settings.implementation);
	return STEP_NEXT;
}

/* ---- the table ---- */

enum { BEFORE = 1, AFTER = 2, BARE = 4 /* takes no argument */ };

static const struct command {
	uint32_t verb;
	unsigned rules;
	enum step (*run)(struct pop3_session *p, const struct pop3_line *l);
} commands[] = { /* the frequent ones first */
	{ POP3_VERB('R', 'E', 'T', 'R'), AFTER, pop3_retr },
	{ POP3_VERB('D', 'E', 'L', 'E'), AFTER, dele_command },
	{ POP3_VERB('U', 'S', 'E', 'R'), BEFORE, pop3_user },
	{ POP3_VERB('P', 'A', 'S', 'S'), BEFORE, pop3_pass },
	{ POP3_VERB('S', 'T', 'A', 'T'), AFTER | BARE, stat_command },
	{ POP3_VERB('U', 'I', 'D', 'L'), AFTER, uidl_command },
	{ POP3_VERB('L', 'I', 'S', 'T'), AFTER, list_command },
	{ POP3_VERB('Q', 'U', 'I', 'T'), BEFORE | AFTER | BARE, quit_command },
	{ POP3_VERB('T', 'O', 'P', 0), AFTER, pop3_top },
	{ POP3_VERB('C', 'A', 'P', 'A'), BEFORE | AFTER | BARE, capa_command },
	{ POP3_VERB('*', 'E', 'N', 'V'), AFTER, pop3_env },
	{ POP3_VERB('X', 'T', 'N', 'D'), AFTER, pop3_xtnd },
	{ POP3_VERB('N', 'O', 'O', 'P'), AFTER | BARE, noop_command },
	{ POP3_VERB('R', 'S', 'E', 'T'), AFTER | BARE, rset_command },
	{ POP3_VERB('A', 'U', 'T', 'H'), BEFORE, pop3_auth },
	{ POP3_VERB('A', 'P', 'O', 'P'), BEFORE, pop3_apop },
	{ POP3_VERB('S', 'T', 'L', 'S'), BEFORE | BARE, stls_command },
	{ POP3_VERB('U', 'T', 'F', '8'), BEFORE | BARE, utf8_command },
	{ POP3_VERB('L', 'A', 'N', 'G'), BEFORE | AFTER, pop3_lang },
};

/* What the times are told by; a login that arrived at its shard is none of the table. */
#define VERB_ENTER ARRAY_LEN(commands)
#define VERB_HELD (ARRAY_LEN(commands) + 1) /* a login that the guard held back, from when it went on */
static const char *verb_name(unsigned index)
{
	static char names[ARRAY_LEN(commands)][5];
	if (index == VERB_ENTER)
		return "enter";
	if (index == VERB_HELD)
		return "held";
	for (unsigned i = 0; i < 4; i++)
		__atomic_store_n(&names[index][i], (char)(commands[index].verb >> (8 * i)), __ATOMIC_RELAXED);
	return names[index];
}
VERBS_DEFINE(pop3_verbs, "pop3", ARRAY_LEN(commands) + 2, verb_name);

void pop3_verb_enter(void) { verb_is(&pop3_verbs, VERB_ENTER); }
void pop3_verb_held(void) { verb_is(&pop3_verbs, VERB_HELD); }

static const struct command *find(uint32_t verb)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (commands[i].verb == verb)
			return &commands[i];
	return NULL;
}

enum step pop3_command(struct pop3_session *p, struct slice line)
{
	struct pop3_line l;
	if (pop3_parse(line, &l))
		return pop3_bad(p, POP3_W_BAD_BYTES);
	const struct command *c = find(l.verb);
	if (!c)
		return pop3_bad(p, POP3_W_UNKNOWN);
	if (!(c->rules & (p->state == POP3_AUTHORIZATION ? BEFORE : AFTER)))
		return pop3_bad(p, p->state == POP3_AUTHORIZATION ? POP3_W_LOGIN_FIRST : POP3_W_LOGGED_IN);
	if (c->rules & BARE && l.words.len)
		return pop3_bad(p, POP3_W_NO_ARGUMENT);
	p->bad_in_row = 0;
	verb_is(&pop3_verbs, (unsigned)(c - commands));
	return c->run(p, &l);
}
