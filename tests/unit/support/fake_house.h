/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_house.h - a house of cardboard around one protocol: sessions, replies, store, tenancy and shards, all in memory and
 * all at once, so that a protocol's handlers can be driven in process by unit tests and fuzz targets.
 *
 * To be included by exactly one file of a program; it defines the functions of the faces net/session.h, net/reply.h,
 * storage/store.h, tenancy/(directory, auth, maildrop_lock, usage).h and the few of core/run that the protocols call, so that the
 * linker takes none of them from the libraries.  Lines are cut by the real net/frame.c.
 *
 * What it keeps honest: a message source is counted until it is closed, a range is released only when "sent"
 * (fake_drain), bytes read through a source must lie inside it, a lock is held once, subjects are counted, and
 * fake_check_clean says whether all came back.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_FAKE_HOUSE_H
#define PENFOLD_TESTS_UNIT_SUPPORT_FAKE_HOUSE_H

#include "core/base/arena.h"
#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "core/run/shard.h"
#include "net/peer/carry.h"
#include "net/frame.h"
#include "net/relay.h"
#include "net/session.h"
#include "storage/store.h"
#include "tenancy/auth.h"
#include "tenancy/directory.h"
#include "tenancy/decision.h"
#include "tenancy/guard.h"
#include "tenancy/maildrop_lock.h"
#include "net/fleet/owner.h"
#include "tenancy/source.h"
#include "tenancy/usage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FAKE_ACCOUNTS 9
#define FAKE_MESSAGES 64
#define FAKE_FD 1000 /* + account * FAKE_MESSAGES + place */

struct body {
	char *bytes;
	size_t len, header;
	uint64_t *dots;
	uint32_t dot_count;
	int references;
};
struct fake_message {
	struct body *body;
	char *prefix, *from, *rcpt;
	size_t prefix_len;
	uint32_t uid, folder;
};
struct account {
	uint64_t id;
	struct fake_message messages[FAKE_MESSAGES];
	uint32_t count, uidnext;
	const char *folder_name; /* of a second folder, FAKE_FOLDER; NULL: there is none */
	uint32_t folder_use;
	bool subscribed;
	int opened;
	struct maildrop_lock *holders[4]; /* more than one: users of an SDPS host */
};
struct view {
	struct account *account;
	uint32_t count;
	struct fake_message messages[FAKE_MESSAGES];
	uint32_t places[FAKE_MESSAGES]; /* in the account */
};
struct body_writer {
	struct buf bytes;
	enum err err;
	bool after_cr;
};

static struct fake_house {
	struct account account[FAKE_ACCOUNTS];
	struct buf out;            /* what the client has been sent */
	size_t unsent;             /* of it, not yet drained */
	size_t full_bytes;         /* reply_full above this; 0 = never */
	struct { void (*release)(void *); void *arg; } pins[4096];
	unsigned pin_count;
	int sources, subjects, views, writers, bodies;
	const char *certificate; /* the name in the client's */
	bool exporter; /* there is TLS 1.3, with a channel binding of 32 times 7 */
	bool tls, tls_offered, clear_refused; /* of the one session there is */
	bool dying, withdrawn, peer_gone, killed, dots_unknown, in_memory, apop, bearer;
	int moved_to;
	struct directory_extremes extremes;
	uint64_t used[USAGE_COUNTERS]; /* of all tenants together */
	uint8_t xtnd;
	uint32_t login_delay_s, many; /* many: views pretend to hold so many messages, all like the first */
	enum err err_auth, err_lock, err_open, err_view, err_message, err_expunge, err_append, err_begin, err_write, err_rcpt, err_create;
	bool folder_vanishes; /* between being found and being written to */
	bool no_junk, no_imap, maildrop; /* of all subjects */
	bool read_short;
	struct buf relayed;
	enum err err_relay_check, err_relay;
	enum err guard; /* what guard_ask says */
	enum limit limit; /* what seats_take says */
	bool stay_parked;
	int guard_told, seats, refusals, notes[DECISION_KIND_COUNT];
	const char *reason; /* of the last note */
	size_t relay_taken;
	uint64_t now_ms;
	unsigned relays;
	/* the fleet */
	enum where where;
	struct maildrop_lock *lock; /* the last one asked for */
	void (*lock_end)(struct maildrop_lock *lock, enum owner_end why);
	bool late;           /* the lease has lapsed ... */
	unsigned late_after; /* ... or will have, at the n-th question */
	unsigned fenced;
	/* retention, deletion, clear logins */
	int32_t expire_days;
	int64_t expire_before_s; /* of the last account_expire; each takes the first message, if `expire_first` */
	bool expire_first, trash, wants_tls;
	unsigned trashed, made_trash;
} fake;

/* ---- replies ---- */
static void fake_room(size_t bytes) { fake.unsent += bytes; }
void reply_put(struct reply *r, struct slice text)
{
	(void)r;
	ASSERT(buf_put(&fake.out, text.ptr, text.len));
	fake_room(text.len);
}
void reply_static(struct reply *r, struct slice text) { reply_put(r, text); }
void reply_printf(struct reply *r, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0 && (size_t)n < sizeof text);
	reply_put(r, slice_of(text, (size_t)n));
}
void reply_u64(struct reply *r, uint64_t value)
{
	char text[20];
	reply_put(r, slice_of(text, put_u64(text, value)));
}
static char fake_reply_room[REPLY_ROOM_BYTES];
char *reply_room(struct reply *r, size_t bytes)
{
	(void)r;
	ASSERT(bytes <= sizeof fake_reply_room);
	return fake_reply_room;
}
void reply_commit(struct reply *r, size_t bytes) { reply_put(r, slice_of(fake_reply_room, bytes)); }
bool reply_full(const struct reply *r)
{
	(void)r;
	return fake.pin_count > ARRAY_LEN(fake.pins) / 2 || (fake.full_bytes && fake.unsent >= fake.full_bytes);
}
static struct body *fake_body_of(int fd)
{
	unsigned n = (unsigned)(fd - FAKE_FD);
	ASSERT(fd >= FAKE_FD && n < FAKE_ACCOUNTS * FAKE_MESSAGES);
	struct body *b = fake.account[n / FAKE_MESSAGES].messages[n % FAKE_MESSAGES].body;
	ASSERT(b);
	return b;
}
void reply_file(struct reply *r, int fd, uint64_t offset, uint64_t bytes, void (*release)(void *arg), void *arg)
{
	struct body *b = fake_body_of(fd);
	ASSERT(fake.sources > 0 && offset >= 7 && bytes <= b->len && offset - 7 <= b->len - bytes);
	reply_put(r, slice_of(b->bytes + offset - 7, bytes));
	ASSERT(fake.pin_count < ARRAY_LEN(fake.pins));
	fake.pins[fake.pin_count].release = release;
	fake.pins[fake.pin_count++].arg = arg;
}
static void fake_drain(void)
{
	fake.unsent = 0;
	for (unsigned i = 0; i < fake.pin_count; i++)
		if (fake.pins[i].release)
			fake.pins[i].release(fake.pins[i].arg);
	fake.pin_count = 0;
}

/* ---- sessions ---- */
void session_pause(struct session *s, uint32_t ms) { (void)s, (void)ms; }
void session_entered(struct session *s) { (void)s; }
void session_set_idle(struct session *s, uint32_t ms) { (void)s, (void)ms; }
void session_move_to(struct session *s, unsigned shard)
{
	(void)s;
	fake.moved_to = (int)shard;
}
bool session_dying(const struct session *s) { return (void)s, fake.dying; }
bool session_peer_alive(struct session *s) { return (void)s, !fake.peer_gone; }
void usage_add(uint64_t tenant_id, enum usage_counter counter, uint64_t n) { (void)tenant_id, fake.used[counter] += n; }
void session_set_class(struct session *s, fair_class_t class) { (void)s, (void)class; }
void session_class_of_peer(struct session *s) { (void)s; }
bool session_withdrawn(const struct session *s) { return (void)s, fake.withdrawn; }
void session_kill(struct session *s, enum session_end how)
{
	(void)s, (void)how;
	fake.killed = true;
}
size_t session_drop_input(struct session *s) { return (void)s, 0; }
bool session_tls_offered(const struct session *s) { return (void)s, fake.tls_offered && !fake.tls; }
bool session_tls_exporter(const struct session *s, uint8_t out[32]) { return (void)s, memset(out, 7, 32), fake.exporter; }
size_t session_tls_end_point(const struct session *s, uint8_t out[TLS_END_POINT_BYTES_MAX]) { return (void)s, (void)out, 0; }
size_t session_tls_unique(const struct session *s, uint8_t out[TLS_UNIQUE_BYTES_MAX]) { return (void)s, (void)out, 0; }
struct slice session_tls_client_name(const struct session *s) { return (void)s, slice_str(fake.certificate); }
struct slice session_tls_server_name(const struct session *s) { return (void)s, slice_of(NULL, 0); }
const char *session_tls_version(const struct session *s) { return (void)s, fake.tls ? "TLSv1.3" : NULL; }
bool session_login_allowed(const struct session *s) { return (void)s, fake.tls || !fake.clear_refused; }
struct slice session_peer_address(const struct session *s) { return (void)s, SLICE_LIT("192.0.2.7"); }

/* ---- shards, fibers, clocks, files ---- */
static int fake_stack_token;
enum err offload_call(void (*fn)(void *arg), void *arg, uint64_t wait_ms_max)
{
	(void)wait_ms_max;
	fn(arg);
	return OK;
}
unsigned shard_index(void) { return 0; }
unsigned shard_count(void) { return 2; }
void shard_post(unsigned shard, struct post *p)
{
	(void)shard;
	p->run(p);
}
enum err shard_call(unsigned shard, const char *what, void (*fn)(void *arg), void *arg)
{
	(void)shard, (void)what;
	fn(arg);
	return OK;
}
struct fiber *fiber_self(void) { return (struct fiber *)(void *)&fake_stack_token; }
enum err fiber_start(const char *what, void (*fn)(void *arg), void *arg)
{
	(void)what;
	fn(arg);
	return OK;
}
void fiber_park(void) { ASSERT(!"nothing here is ever waited for"); }
void fiber_wake(struct fiber *f) { (void)f; }
void fiber_breathe(void) {}
enum fiber_wait fiber_wait_for(enum fiber_wait what) { (void)what; return FIBER_WAIT_STORE; }
void *fiber_local(void) { return NULL; }
void fiber_set_local(void *local) { (void)local; }
struct fiber_waited fiber_waited(void) { return (struct fiber_waited){ 0 }; }
void fiber_stats(struct fiber_stats *out) { *out = (struct fiber_stats){ .running = 1 }; }
int64_t clock_wall_s(void) { return 1736847000; } /* Tue, 14 Jan 2025 09:30:00 +0000 */
int64_t clock_wall_ms(void) { return clock_wall_s() * 1000; }
uint64_t clock_fresh_ns(void) { return 1; }
uint64_t clock_now_ms(void) { return 1000 + fake.now_ms; }
void random_bytes(void *out, size_t bytes) { memset(out, 0x5a, bytes); }
int64_t file_read(int fd, void *buf, size_t bytes, uint64_t offset)
{
	struct body *b = fake_body_of(fd);
	ASSERT(fake.sources > 0 && offset >= 7 && offset - 7 <= b->len);
	size_t n = min_size(bytes, b->len - (size_t)(offset - 7));
	if (fake.read_short && n)
		n--;
	memcpy(buf, b->bytes + offset - 7, n);
	return (int64_t)n;
}

/* ---- store ---- */
unsigned store_shard_of(uint64_t account_id) { return account_id % 2 ? 1 : 0; }
enum err account_open(uint64_t account_id, struct account **account_out)
{
	if (fake.err_open)
		return fake.err_open;
	ASSERT(account_id < FAKE_ACCOUNTS);
	*account_out = &fake.account[account_id];
	(*account_out)->id = account_id;
	(*account_out)->opened++;
	return OK;
}
void account_close(struct account *a)
{
	ASSERT(a->opened > 0);
	a->opened--;
}
static uint64_t fake_size(const struct fake_message *m) { return m->prefix_len + m->body->len; }
void account_usage(const struct account *a, struct account_usage *out)
{
	ASSERT(a->opened > 0);
	*out = (struct account_usage){ 0, a->count, false };
	for (uint32_t i = 0; i < a->count; i++)
		out->bytes += fake_size(&a->messages[i]);
}
enum err body_begin(enum body_policy policy, struct body_writer **out)
{
	ASSERT(policy == BODY_REFUSE);
	if (fake.err_begin)
		return fake.err_begin;
	*out = xcalloc(1, sizeof **out);
	buf_init(&(*out)->bytes, KIB(256));
	fake.writers++;
	return OK;
}
static enum err fake_body_check(struct body_writer *w, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '\0' || (c == '\n') != w->after_cr)
			return ERR_SYNTAX;
		w->after_cr = c == '\r';
	}
	return OK;
}
enum err body_write(struct body_writer *w, struct slice bytes)
{
	ASSERT(w->err == OK); /* a writer in error is ended by body_abort */
	w->err = fake.err_write ? fake.err_write : fake_body_check(w, bytes);
	if (w->err == OK && !buf_put(&w->bytes, bytes.ptr, bytes.len))
		w->err = ERR_LIMIT;
	return w->err;
}
void body_abort(struct body_writer *w)
{
	buf_release(&w->bytes);
	free(w);
	fake.writers--;
}
static struct body *fake_body(struct slice s)
{
	struct body *b = xcalloc(1, sizeof *b);
	b->bytes = xmalloc(s.len + 1);
	if (s.len)
		memcpy(b->bytes, s.ptr, s.len);
	b->len = b->header = s.len;
	b->dots = xcalloc(s.len + 1, sizeof *b->dots);
	b->references = 1;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == '.' && (i == 0 || s.ptr[i - 1] == '\n'))
			b->dots[b->dot_count++] = i;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '\n' && (i < 2 || s.ptr[i - 2] == '\n')) {
			b->header = i + 1;
			break;
		}
	}
	fake.bodies++;
	return b;
}
enum err body_end(struct body_writer *w, struct body **out)
{
	enum err e = w->err == OK && w->after_cr ? ERR_SYNTAX : w->err;
	struct slice s = buf_slice(&w->bytes);
	if (e == OK && s.len && s.ptr[s.len - 1] != '\n') {
		ASSERT(buf_put(&w->bytes, "\r\n", 2));
		s = buf_slice(&w->bytes);
	}
	if (e == OK)
		*out = fake_body(s);
	body_abort(w);
	return e;
}
struct body *body_ref(struct body *b)
{
	b->references++;
	return b;
}
void body_unref(struct body *b)
{
	ASSERT(b->references > 0);
	if (--b->references)
		return;
	free(b->bytes);
	free(b->dots);
	free(b);
	fake.bodies--;
}
uint64_t body_bytes(const struct body *b) { return b->len; }
struct slice body_header(const struct body *b) { return slice_of(b->bytes, b->header); }

#define FAKE_FOLDER 7u
bool folder_next(struct account *a, uint32_t *cursor_io, struct folder_info *info_out)
{
	if (fake.trash) { /* POP3's deletions: there is no folder but Trash */
		ASSERT(a->opened > 0);
		*info_out = (struct folder_info){ .id = 7, .special_use = 7 };
		return fake.made_trash && (*cursor_io)++ == 0;
	}
	uint32_t at = (*cursor_io)++;
	if (at > 1 || (at == 1 && !a->folder_name))
		return false;
	*info_out = (struct folder_info){ .id = at ? FAKE_FOLDER : FOLDER_INBOX, .name = slice_str(at ? a->folder_name : "INBOX"),
					  .special_use = at ? a->folder_use : 0 };
	return true;
}
enum err folder_create(struct account *a, struct slice name, uint32_t special_use, uint32_t *folder_out)
{
	if (fake.trash) {
		ASSERT(a->opened > 0 && slice_eq(name, SLICE_LIT("Trash")) && special_use == 7);
		fake.made_trash++;
		*folder_out = 7;
		return OK;
	}
	ASSERT(a->opened > 0);
	if (fake.err_create == ERR_EXISTS) { /* somebody else has just made it */
		a->folder_name = "Junk";
		a->folder_use = special_use;
	}
	if (fake.err_create)
		return fake.err_create;
	ASSERT(!a->folder_name && slice_eq(name, SLICE_LIT("Junk")));
	a->folder_name = "Junk";
	a->folder_use = special_use;
	*folder_out = FAKE_FOLDER;
	return OK;
}
enum err folder_subscribe(struct account *a, struct slice name, bool on) { return (void)name, a->subscribed = on, OK; }

static void fake_store(struct account *a, struct body *body, struct slice prefix, struct slice from, struct slice rcpt)
{
	ASSERT(a->count < FAKE_MESSAGES);
	struct fake_message *m = &a->messages[a->count++];
	*m = (struct fake_message){ body_ref(body), slice_dup(prefix), slice_dup(from), slice_dup(rcpt), prefix.len, ++a->uidnext, FOLDER_INBOX };
}
enum err account_append(struct account *a, const struct append *items, size_t count, struct appended *out)
{
	ASSERT(a->opened > 0);
	for (size_t i = 0; i < count; i++) {
		struct account_usage u;
		account_usage(a, &u);
		if (fake.err_append)
			return fake.err_append;
		if (items[i].folder != FOLDER_INBOX && fake.folder_vanishes)
			return ERR_NOT_FOUND;
		if (a->count == FAKE_MESSAGES || (items[i].quota_messages && u.messages >= items[i].quota_messages))
			return ERR_QUOTA;
		fake_store(a, items[i].body, items[i].prefix, items[i].envelope_from, items[i].envelope_rcpt);
		a->messages[a->count - 1].folder = items[i].folder;
		out[i] = (struct appended){ a->uidnext, 1, 1 };
	}
	return OK;
}
/* For tests: as the next, with an envelope. */
static inline void fake_put_for(unsigned account, const char *from, const char *rcpt, struct slice bytes)
{
	struct body *b = fake_body(bytes);
	fake_store(&fake.account[account], b, SLICE_LIT(""), slice_str(from), slice_str(rcpt));
	body_unref(b);
}
/* For tests: a message that is there from the beginning. */
static inline void fake_put(unsigned account, const char *prefix, struct slice bytes)
{
	struct body *b = fake_body(bytes);
	fake_store(&fake.account[account], b, slice_str(prefix), SLICE_LIT("ann@example.org"), SLICE_LIT("x"));
	body_unref(b);
}
static void fake_forget(struct fake_message *m)
{
	body_unref(m->body);
	free(m->prefix);
	free(m->from);
	free(m->rcpt);
}
enum err account_expunge(struct account *a, uint32_t folder, const uint32_t *uids, size_t count, size_t *removed_out)
{
	ASSERT(a->opened > 0 && folder == FOLDER_INBOX);
	if (fake.err_expunge)
		return fake.err_expunge;
	*removed_out = 0;
	for (size_t k = 0; k < count; k++) {
		ASSERT(k == 0 || uids[k] > uids[k - 1]);
		for (uint32_t i = 0; i < a->count; i++) {
			if (a->messages[i].uid != uids[k])
				continue;
			fake_forget(&a->messages[i]);
			memmove(&a->messages[i], &a->messages[i + 1], (--a->count - i) * sizeof a->messages[0]);
			++*removed_out;
			break;
		}
	}
	return OK;
}
enum err account_expire(struct account *a, uint32_t folder, int64_t before_s, size_t max, size_t *removed_out)
{
	ASSERT(max > 0);
	fake.expire_before_s = before_s;
	*removed_out = 0;
	return fake.expire_first && a->count ? account_expunge(a, folder, &a->messages[0].uid, 1, removed_out) : OK;
}
enum err folder_find(struct account *a, struct slice name, struct folder_info *out)
{
	ASSERT(a->opened > 0 && slice_eq(name, SLICE_LIT("Trash")) && out);
	return ERR_NOT_FOUND;
}
enum err account_copy(struct account *a, const struct copy *copy, struct appended *out)
{
	size_t removed = 0;
	ASSERT(copy->move && copy->to == 7);
	for (size_t i = 0; i < copy->count; i++)
		out[i].uid = (uint32_t)i + 1;
	enum err e = account_expunge(a, copy->from, copy->uids, copy->count, &removed);
	fake.trashed += (unsigned)removed;
	return e;
}
enum err view_open(struct account *a, uint32_t folder, struct view **out)
{
	ASSERT(a->opened > 0 && folder == FOLDER_INBOX);
	if (fake.err_view)
		return fake.err_view;
	*out = xcalloc(1, sizeof **out);
	(*out)->account = a;
	(*out)->count = a->count;
	memcpy((*out)->messages, a->messages, sizeof a->messages);
	for (uint32_t i = 0; i < FAKE_MESSAGES; i++)
		(*out)->places[i] = i;
	if (fake.many)
		(*out)->count = fake.many;
	fake.views++;
	return OK;
}
enum err view_open_for(struct account *a, uint32_t folder, struct slice local, struct view **out)
{
	enum err e = view_open(a, folder, out);
	struct view *v = *out;
	if (e)
		return e;
	v->count = 0;
	for (uint32_t i = 0; i < a->count; i++) {
		struct slice rcpt = slice_str(a->messages[i].rcpt);
		if (!slice_eq_nocase(slice_upto(rcpt, slice_rfind(rcpt, '@')), local))
			continue;
		v->messages[v->count] = a->messages[i];
		v->places[v->count++] = i;
	}
	return OK;
}
void view_close(struct view *v)
{
	free(v);
	fake.views--;
}
uint32_t view_count(const struct view *v) { return v->count; }
static const struct fake_message *fake_at(const struct view *v, uint32_t index) { return &v->messages[fake.many ? 0 : index]; }
uint64_t view_bytes(const struct view *v)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < v->count; i++)
		sum += fake_size(fake_at(v, i));
	return sum;
}
void view_message(const struct view *v, uint32_t index, struct message *out)
{
	ASSERT(index < v->count);
	*out = (struct message){ .uid = fake_at(v, index)->uid, .size = fake_size(fake_at(v, index)) };
}
size_t view_uidl(const struct view *v, uint32_t index, char out[UIDL_BYTES_MAX])
{
	ASSERT(index < v->count);
	return (size_t)snprintf(out, UIDL_BYTES_MAX, "u%u.1", v->messages[index].uid);
}
/* No test deletes while it retrieves from another session, so a view's places are the account's. */
enum err message_open(struct view *v, uint32_t index, struct message_source *out)
{
	ASSERT(index < v->count);
	if (fake.err_message)
		return fake.err_message;
	const struct fake_message *m = &v->messages[index];
	*out = (struct message_source){
		.prefix = slice_of(m->prefix, m->prefix_len),
		.fd = FAKE_FD + (int)((v->account - fake.account) * FAKE_MESSAGES + v->places[index]),
		.offset = 7, /* not 0, as in a log */
		.bytes = m->body->len,
		.body = fake.in_memory ? m->body->bytes : NULL,
		.header_bytes = m->body->header,
		.dots = m->body->dots,
		.dot_count = fake.dots_unknown ? 0 : m->body->dot_count,
		.dots_unknown = fake.dots_unknown,
		.envelope_from = slice_str(m->from),
		.envelope_rcpt = slice_str(m->rcpt),
		.internal_date_s = 1736847000,
		.pin = &fake,
	};
	fake.sources++;
	return OK;
}
void message_close(struct message_source *s)
{
	ASSERT(s->pin == &fake);
	s->pin = NULL;
	fake.sources--;
}

/* ---- tenancy: who there is ---- */
static const struct fake_person {
	const char *name, *password;
	uint64_t id, quota_bytes, quota_messages;
	bool suspended, no_mail;
	enum over_quota over;
	const char *host_user; /* "" and more: a login to an SDPS host's maildrop */
} fake_people[] = {
	{ "ann@demo.example", "secret", 1, 0, 0, false, false, OVER_QUOTA_TEMPORARY, NULL },
	{ "bob@demo.example", " two words ", 2, 0, 0, false, false, OVER_QUOTA_TEMPORARY, NULL },
	{ "full@demo.example", "x", 3, 10, 0, false, false, OVER_QUOTA_TEMPORARY, NULL },
	{ "fuller@demo.example", "x", 4, 0, 1, false, false, OVER_QUOTA_PERMANENT, NULL },
	{ "gone@demo.example", "x", 5, 0, 0, true, false, OVER_QUOTA_TEMPORARY, NULL },
	{ "mute@demo.example", "x", 6, 0, 0, false, true, OVER_QUOTA_TEMPORARY, NULL },
	{ "b\xc3\xb6" "b@demo.example", "x", 7, 0, 0, false, false, OVER_QUOTA_TEMPORARY, NULL },
	{ "vision25", "secret", 8, 0, 0, false, false, OVER_QUOTA_TEMPORARY, "" },
	{ "fred+vision25", "secret", 8, 0, 0, false, false, OVER_QUOTA_TEMPORARY, "fred" },
	{ "jane+vision25", "secret", 8, 0, 0, false, false, OVER_QUOTA_TEMPORARY, "jane" },
};
static struct subject *fake_subject(const struct fake_person *p)
{
	struct subject *s = xcalloc(1, sizeof *s);
	*s = (struct subject){ .account_id = p->id, .tenant_id = 1, .name = slice_str(p->name), .tenant = SLICE_LIT("demo"), .suspended = p->suspended,
			       .pop3 = true, .imap = !fake.no_imap, .junk = !fake.no_junk, .lmtp = !p->no_mail, .quota_bytes = p->quota_bytes, .quota_messages = p->quota_messages,
			       .over_quota = p->over, .login_delay_s = fake.login_delay_s, .expire_days = fake.expire_days, .delete_to_trash = fake.trash, .xtnd = fake.xtnd,
			       .sdps = p->host_user ? SDPS_MAILDROP : SDPS_NONE, .maildrop = p->host_user || fake.maildrop, .sdps_user = slice_str(p->host_user) };
	fake.subjects++;
	return s;
}
static const struct fake_person *fake_find(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(fake_people); i++)
		if (slice_eq_nocase(name, slice_str(fake_people[i].name)))
			return &fake_people[i];
	return NULL;
}
struct subject *subject_ref(struct subject *subject) { (void)subject; UNREACHABLE(); } /* only for who passes a session on */
void subject_unref(struct subject *s)
{
	free(s);
	fake.subjects--;
}
enum err guard_ask(uint32_t source, struct slice login, struct slice password, struct guard_pass *pass_out)
{
	(void)login;
	(void)password;
	*pass_out = (struct guard_pass){ .source = source, .reason = "address", .delay_ms = fake.guard == ERR_AGAIN ? 10 : 0 };
	return fake.guard;
}
uint32_t guard_tell(const struct guard_pass *pass, enum err outcome)
{
	(void)pass;
	fake.guard_told += outcome == ERR_AUTH;
	return 0;
}
enum limit seats_take(const struct subject *subject, bool shared)
{
	(void)shared;
	(void)subject;
	fake.seats += fake.limit == LIMIT_NONE;
	return fake.limit;
}
void decision_note(struct decision *d, struct slice peer, struct slice login, struct slice account)
{
	(void)peer, (void)login, (void)account;
	fake.notes[d->kind]++;
	fake.reason = d->reason;
}
uint64_t source_count_refusal(enum limit limit) { return (uint64_t)(fake.refusals += limit == LIMIT_GUESSING); }
void seats_give(const struct subject *subject, bool shared)
{
	(void)shared;
	(void)subject;
	fake.seats--;
}
enum err auth_in_clear(struct slice login) { return (void)login, fake.wants_tls ? ERR_DENIED : OK; }
enum err auth_in_turn(void (*job)(void *), void *arg) { return job(arg), OK; }
enum err auth_password(const struct auth_request *request, struct slice password, struct subject **out)
{
	const struct fake_person *p = fake_find(request->login);
	if (fake.err_auth)
		return fake.err_auth;
	if (request->in_clear && fake.wants_tls)
		return ERR_DENIED;
	if (!p || !slice_eq(password, slice_str(p->password)) || (request->authzid.len && !slice_eq(request->authzid, request->login)))
		return ERR_AUTH;
	if (p->suspended)
		return ERR_DENIED;
	*out = fake_subject(p);
	return OK;
}
enum err auth_apop(const struct auth_request *request, struct slice timestamp, struct slice digest, struct subject **out)
{
	const struct fake_person *p = fake_find(request->login);
	ASSERT(timestamp.len && timestamp.ptr[0] == '<' && timestamp.ptr[timestamp.len - 1] == '>');
	if (!p || !slice_eq(digest, SLICE_LIT("0123456789abcdef0123456789abcdef")))
		return ERR_AUTH;
	*out = fake_subject(p);
	return OK;
}
/* The sums of these are tested where they are done (sasl_test.c): here there is nobody with a right proof. */
enum err auth_cram_md5(const struct auth_request *request, struct slice challenge, struct slice digest, struct subject **out)
{
	(void)request, (void)digest, (void)out;
	ASSERT(challenge.len && challenge.ptr[0] == '<');
	return ERR_AUTH;
}
enum err auth_scram_salt(const struct auth_request *request, enum auth_hash hash, uint8_t *salt, size_t *len, uint32_t *rounds)
{
	(void)request, (void)hash;
	memset(salt, 1, *len = 16);
	*rounds = 4096;
	return OK;
}
enum err auth_scram_proof(const struct auth_request *request, enum auth_hash hash, struct slice message, struct slice proof, uint8_t *signature,
			  struct subject **out)
{
	(void)request, (void)hash, (void)message, (void)proof, (void)signature, (void)out;
	return ERR_AUTH;
}
bool auth_apop_offered(struct slice host) { return (void)host, fake.apop; }
/* The one good token is anybody's. */
bool auth_bearer_offered(void) { return fake.bearer; }
enum err auth_bearer(const struct auth_request *request, struct slice token, struct subject **out)
{
	const struct fake_person *p = fake_find(request->login.len ? request->login : SLICE_LIT("ann@demo.example"));
	if (fake.err_auth)
		return fake.err_auth;
	if (!p || !slice_eq(token, SLICE_LIT("good")))
		return ERR_AUTH;
	*out = fake_subject(p);
	return OK;
}
enum err auth_proved(const struct auth_request *request, struct subject **out)
{
	const struct fake_person *p = fake_find(request->login);
	if (!p || (request->authzid.len && fake_find(request->authzid) != p))
		return ERR_AUTH;
	*out = fake_subject(p);
	return OK;
}
struct directory_extremes directory_extremes(void) { return fake.extremes; }
enum err directory_rcpt(struct slice address, struct subject **out)
{
	char plain[1024];
	size_t at = slice_rfind(address, '@');
	if (fake.err_rcpt)
		return fake.err_rcpt;
	if (at == SIZE_MAX)
		return ERR_SYNTAX;
	size_t plus = slice_find(slice_upto(address, at), '+');
	int n = snprintf(plain, sizeof plain, "%.*s%.*s", (int)min_size(plus, at), address.ptr, SLICE_ARG(slice_from(address, at)));
	const struct fake_person *p = fake_find(slice_of(plain, (size_t)n));
	if (!p)
		return ERR_NOT_FOUND;
	*out = fake_subject(p);
	return OK;
}
enum err directory_domain(struct slice domain, bool *served_out)
{
	*served_out = slice_eq_nocase(domain, SLICE_LIT("demo.example"));
	return OK;
}
enum err maildrop_lock(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s)
{
	(void)peer, (void)login_delay_s;
	if (fake.err_lock)
		return fake.err_lock;
	struct account *a = &fake.account[account_id];
	struct maildrop_lock **place = NULL;
	for (size_t i = 0; i < ARRAY_LEN(a->holders); i++) {
		struct maildrop_lock *h = a->holders[i];
		if (h && (!h->user.len || !lock->user.len || slice_eq(h->user, lock->user))) {
			if (!h->probe || h->probe(h))
				return ERR_IN_USE;
			h->held = false;
			h = a->holders[i] = NULL;
		}
		if (!h)
			place = &a->holders[i];
	}
	ASSERT(place);
	*place = lock;
	lock->account_id = account_id;
	lock->held = true;
	return OK;
}
void maildrop_unlock(struct maildrop_lock *lock)
{
	struct account *a = &fake.account[lock->account_id];
	for (size_t i = 0; i < ARRAY_LEN(a->holders) && lock->held; i++)
		if (a->holders[i] == lock)
			a->holders[i] = NULL;
	lock->held = false;
}

/* ---- the fleet: this node owns everything, unless fake.where says otherwise ---- */
enum err owner_open(uint64_t account_id, struct owner_hold *hold, struct account **account_out, struct owner_answer *answer_out)
{
	(void)hold;
	*answer_out = (struct owner_answer){ .where = fake.where, .err = fake.where == WHERE_HERE ? OK : ERR_TEMP };
	return answer_out->err = answer_out->err ? answer_out->err : account_open(account_id, account_out);
}
void owner_close(struct owner_hold *hold, struct account *account)
{
	(void)hold;
	account_close(account);
}
enum err owner_open_maildrop(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s,
			     void (*end)(struct maildrop_lock *lock, enum owner_end why), struct account **account_out,
			     struct owner_answer *answer_out)
{
	*answer_out = (struct owner_answer){ .where = fake.where, .err = fake.where == WHERE_HERE ? OK : ERR_TEMP };
	fake.lock = lock;
	fake.lock_end = end;
	if (answer_out->err == OK) {
		answer_out->err = maildrop_lock(lock, account_id, peer, login_delay_s);
		answer_out->too_soon = answer_out->err == ERR_BUSY;
	}
	if (answer_out->err == OK && (answer_out->err = account_open(account_id, account_out)) != OK)
		maildrop_unlock(lock);
	return answer_out->err;
}
void owner_close_maildrop(struct maildrop_lock *lock, struct account *account)
{
	if (account)
		account_close(account);
	maildrop_unlock(lock);
}
bool owner_in_time(const struct maildrop_lock *lock)
{
	(void)lock;
	if (fake.late_after && --fake.late_after == 0)
		fake.late = true;
	return !fake.late;
}
void owner_fenced(uint64_t account_id)
{
	(void)account_id;
	fake.fenced++;
}

/* ---- the relay ---- */
enum err relay_check(const struct relay *relay, struct relay_outcome *outcome_out)
{
	ASSERT(relay->address.len);
	*outcome_out = (struct relay_outcome){ .taken = 0 };
	return fake.err_relay_check;
}
/* What it was given is in fake.relayed: sender, recipients, an empty line, the message. */
enum err relay_send(const struct relay *relay, const struct relay_mail *m, struct relay_outcome *outcome_out)
{
	ASSERT(relay->address.len && m->rcpts_count);
	*outcome_out = (struct relay_outcome){ .taken = fake.err_relay ? fake.relay_taken : m->rcpts_count };
	buf_clear(&fake.relayed);
	ASSERT(buf_printf(&fake.relayed, "%.*s%s\n", SLICE_ARG(m->sender), m->eight_bit ? " 8" : ""));
	for (size_t i = 0; i < m->rcpts_count; i++)
		ASSERT(buf_printf(&fake.relayed, "%.*s\n", SLICE_ARG(m->rcpts[i])));
	ASSERT(buf_printf(&fake.relayed, "\n"));
	for (size_t i = 0; i < m->pieces_count; i++)
		ASSERT(buf_put(&fake.relayed, m->pieces[i].ptr, m->pieces[i].len));
	ASSERT(fake.relayed.len > 2 && fake.relayed.ptr[fake.relayed.len - 1] == '\n' && fake.relayed.ptr[fake.relayed.len - 2] == '\r');
	ASSERT(buf_put(&fake.relayed, "", 1));
	fake.relays++;
	return fake.err_relay;
}

/* ---- driving a session ---- */
struct fake_session {
	struct session *s;
	struct frame frame;
	struct buf in;
	enum step next; /* STEP_NEXT: lines; STEP_DATA: data; STEP_CLOSE, STEP_ABORT: over */
};

static void fake_follow(struct fake_session *f, enum step step)
{
	if (step == STEP_PAUSE && fake.stay_parked)
		step = STEP_ABORT; /* the client is gone before the wait is over */
	while (step == STEP_RESUME || step == STEP_MOVE || step == STEP_PAUSE) {
		fake_drain();
		step = step != STEP_MOVE ? f->s->proto->resume(f->s) : f->s->proto->moved(f->s);
	}
	f->next = step;
}
static void fake_open(struct fake_session *f, const struct proto *proto)
{
	*f = (struct fake_session){ .s = xcalloc(1, proto->session_bytes) };
	fake.tls = false;
	f->s->proto = proto;
	f->s->id = 42;
	strcpy(f->s->peer, "192.0.2.7:1234");
	arena_init(&f->s->arena, NET_SESSION_ARENA_BYTES_MAX);
	arena_init(&f->s->command, NET_COMMAND_ARENA_BYTES_MAX);
	frame_init(&f->frame);
	buf_init(&f->in, MIB(16));
	fake_follow(f, proto->open(f->s));
}
static void fake_used(struct fake_session *f, size_t bytes)
{
	memmove(f->in.ptr, f->in.ptr + bytes, f->in.len - bytes);
	f->in.len -= bytes;
}
static bool fake_step(struct fake_session *f)
{
	const struct proto *proto = f->s->proto;
	struct slice line;
	size_t used;
	if (f->next == STEP_DATA) {
		if (!f->in.len)
			return false;
		enum step step = proto->data(f->s, buf_slice(&f->in), &used);
		ASSERT(used > 0 && used <= f->in.len);
		fake_used(f, used);
		fake_follow(f, step);
		return true;
	}
	struct frame_rules rules = { proto->line_bytes_max, proto->lf_ends_line };
	if (f->in.len > rules.line_bytes_max && proto->long_line_bytes_max && !f->frame.swallowed)
		rules.line_bytes_max = proto->long_line_bytes_max(f->s, buf_slice(&f->in));
	enum frame_found found = frame_next(&f->frame, &rules, buf_slice(&f->in), &line, &used);
	if (found == FRAME_MORE) {
		fake_used(f, used);
		return false;
	}
	arena_reset(&f->s->command);
	if (found == FRAME_LINE)
		fake_follow(f, proto->line(f->s, line));
	else
		fake_follow(f, proto->too_long(f->s));
	fake_used(f, used);
	if (f->next == STEP_TLS) { /* as net does it: what came along is forgotten */
		ASSERT(fake.tls_offered && !fake.tls);
		buf_clear(&f->in);
		fake.tls = true;
		f->next = STEP_NEXT;
	}
	return true;
}
static void fake_feed(struct fake_session *f, struct slice bytes)
{
	ASSERT(buf_put(&f->in, bytes.ptr, bytes.len));
	while (f->next != STEP_CLOSE && f->next != STEP_ABORT && fake_step(f))
		;
}
/* In pieces of `piece` bytes. */
static inline void fake_feed_cut(struct fake_session *f, struct slice bytes, size_t piece)
{
	for (size_t at = 0; at < bytes.len; at += piece)
		fake_feed(f, slice_upto(slice_from(bytes, at), piece));
}
static void fake_close(struct fake_session *f)
{
	f->s->proto->closed(f->s, f->next == STEP_CLOSE ? END_PROTOCOL : END_CLIENT);
	fake_drain();
	arena_release(&f->s->arena);
	arena_release(&f->s->command);
	buf_release(&f->in);
	free(f->s);
}
static void fake_begin(void)
{
	memset(&fake, 0, sizeof fake);
	fake.extremes.expire_days_min = fake.expire_days = -1;
	buf_init(&fake.out, MIB(64));
	buf_init(&fake.relayed, MIB(64));
	fake.moved_to = -1;
}
/* ---- other nodes: there are none here (tests/e2e/test_peer.py has some) ---- */
bool session_client_tls(const struct session *s) { return session_tls_version(s) != NULL; }
bool carry_on(void) { return false; }
enum err carry_open(const struct session *client, const char *protocol, const struct subject *subject, const struct owner_place *at, bool login, struct carry **carry_out)
{
	(void)client, (void)protocol, (void)subject, (void)at, (void)login, (void)carry_out;
	UNREACHABLE();
}
enum err carry_line(struct carry *c, uint32_t ms_max, struct slice *line_out) { (void)c, (void)ms_max, (void)line_out; UNREACHABLE(); }
enum err carry_put(struct carry *c, struct slice bytes, uint32_t ms_max) { (void)c, (void)bytes, (void)ms_max; UNREACHABLE(); }
enum err carry_file(struct carry *c, int fd, uint64_t bytes, void (*release)(void *arg), void *arg) { (void)c, (void)fd, (void)bytes, (void)release, (void)arg; UNREACHABLE(); }
void carry_close(struct carry *c, bool in_order) { (void)c, (void)in_order; UNREACHABLE(); }
enum step carry_pass_on(struct session *s, struct carry *c, struct subject *subject, uint32_t idle_ms_max) { (void)s, (void)c, (void)subject, (void)idle_ms_max; UNREACHABLE(); }

/* Everything that was taken has been given back, but the stored messages. */
static void fake_check_clean(void)
{
	ASSERT(fake.sources == 0 && fake.subjects == 0 && fake.views == 0 && fake.writers == 0);
	int stored = 0;
	for (unsigned i = 0; i < FAKE_ACCOUNTS; i++) {
		ASSERT(fake.account[i].opened == 0);
		for (size_t k = 0; k < ARRAY_LEN(fake.account[i].holders); k++)
			ASSERT(!fake.account[i].holders[k]);
		for (uint32_t k = 0; k < fake.account[i].count; k++)
			stored += fake.account[i].messages[k].body->references;
	}
	(void)stored;
}
static void fake_end(void)
{
	fake_check_clean();
	for (unsigned i = 0; i < FAKE_ACCOUNTS; i++)
		for (uint32_t k = 0; k < fake.account[i].count; k++)
			fake_forget(&fake.account[i].messages[k]);
	ASSERT(fake.bodies == 0);
	buf_release(&fake.out);
	buf_release(&fake.relayed);
}

#endif
