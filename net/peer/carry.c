/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry.c - both ends of a session that is passed on.
 *
 *     client ----> [ struct pipe ]  ----> [ struct far ] ----> owner
 *            <----                  <----                <----
 *
 * Each is a session of its own with its connection, TLS or not, on one shard.  Bytes that one receives go into the other's output; when that is
 * full the receiving one holds (session_hold), and goes on when it has drained.  Either may end first and then forgets itself in the other.
 * Until the client's session has become a pipe (`ready`) the far end holds: a successor is not yet a session.
 */
#include "net/peer/carry.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"
#include "core/run/socket.h"
#include "net/fleet/fleet.h"
#include "net/peer/handover.h"
#include "net/peer/peer.h"
#include "tenancy/directory.h"
#include "tenancy/handed.h"

#include <stdlib.h>

METRIC_COUNTER(passed_on, "peer_passed_on_total", "sessions passed on to the node that owns their account");
METRIC_COUNTER(not_reached, "peer_unreached_total", "hand-overs to other nodes that could not be made");
METRIC_COUNTER(bytes_passed, "peer_passed_bytes_total", "bytes passed along between clients and other nodes");

/* What is said first, and to whom. */
struct greeting {
	struct owner_place at;
	size_t bytes;
	char header[PROXY_HEADER_BYTES_MAX];
};

struct pipe;
struct far {
	struct session s; /* first */
	struct carry *carry; /* whose fiber reads the lines, or NULL */
	struct pipe *near;   /* the client's end, or NULL */
	struct greeting *greeting; /* until it has been said */
	bool login;
};

struct pipe {
	struct session s; /* first */
	struct far *far;  /* NULL: gone */
	struct subject *subject;
	uint32_t idle_ms_max;
	bool ready;
};

struct carry {
	struct far *far; /* NULL: gone */
	struct waitq changed;
	struct buf lines; /* each with its LF */
	size_t at;
};

static struct far *far_of(struct session *s) { return CONTAINER_OF(s, struct far, s); }
static struct pipe *pipe_of(struct session *s) { return CONTAINER_OF(s, struct pipe, s); }

bool carry_on(void) { return fleet_proxies(); }

/* ---- passing ---- */

static enum step pass(struct session *from, struct session *to, struct slice bytes, size_t *used_out)
{
	*used_out = 0;
	if (!to || reply_full(&to->reply)) {
		session_hold(from);
		return STEP_DATA;
	}
	*used_out = min_size(bytes.len, PEER_PASS_BYTES);
	reply_put(&to->reply, slice_upto(bytes, *used_out));
	metric_add(&bytes_passed, (int64_t)*used_out);
	session_push(to);
	return STEP_DATA;
}

static enum step abort_it(struct session *s)
{
	(void)s;
	return STEP_ABORT;
}

static enum step close_it(struct session *s)
{
	(void)s;
	return STEP_CLOSE;
}

static enum step never(struct session *s)
{
	(void)s;
	UNREACHABLE();
}

/* ---- the owner's end ---- */

static enum step far_open(struct session *s)
{
	struct far *f = far_of(s);
	struct greeting *g = f->greeting;
	struct addr address;
	if (addr_parse(slice_str(g->at.address), &address) != OK)
		address.len = 0;
	bool right = session_peer_is_node(s, slice_str(g->at.node), &address);
	if (right)
		reply_put(&s->reply, slice_of(g->header, g->bytes));
	else
		log_event(LOG_ERROR, "peer.not_that_node", LOG_Z("node", g->at.node), LOG_Z("address", g->at.address),
			  LOG_Z("hint", "its certificate names neither the node nor its address"));
	free(g);
	f->greeting = NULL;
	return right ? STEP_NEXT : STEP_ABORT;
}

static enum step far_line(struct session *s, struct slice line)
{
	struct far *f = far_of(s);
	if (!f->carry || !buf_put(&f->carry->lines, line.ptr, line.len) || !buf_put(&f->carry->lines, "\n", 1))
		return STEP_ABORT;
	waitq_wake_all(&f->carry->changed);
	bool in = slice_starts_nocase(line, SLICE_LIT("+OK")) || slice_starts_nocase(line, SLICE_LIT("+ OK ")); /* POP3, IMAP */
	return f->login && in ? STEP_DATA : STEP_NEXT;
}

static enum step far_data(struct session *s, struct slice bytes, size_t *used_out)
{
	struct pipe *near = far_of(s)->near;
	return pass(s, near && near->ready ? &near->s : NULL, bytes, used_out);
}

static void far_drained(struct session *s)
{
	struct far *f = far_of(s);
	if (f->carry)
		waitq_wake_all(&f->carry->changed);
	if (f->near && f->near->ready)
		session_go_on(&f->near->s);
}

static void far_closed(struct session *s, enum session_end how)
{
	struct far *f = far_of(s);
	(void)how;
	free(f->greeting);
	if (f->carry) {
		f->carry->far = NULL;
		waitq_wake_all(&f->carry->changed);
	}
	if (f->near) {
		f->near->far = NULL;
		if (f->near->ready)
			session_finish(&f->near->s);
	}
}

static const struct proto far_proto = {
	.name = "far",
	.session_bytes = sizeof(struct far),
	.line_bytes_max = PEER_LINE_BYTES_MAX,
	.idle_ms_max = PEER_DATA_MS_MAX,
	.open = far_open,
	.line = far_line,
	.too_long = abort_it,
	.resume = never,
	.data = far_data,
	.moved = never,
	.timeout = abort_it,
	.stop = close_it,
	.closed = far_closed,
	.drained = far_drained,
};

/* ---- the client's end ---- */

static enum step pipe_moved(struct session *s)
{
	struct pipe *p = pipe_of(s);
	p->ready = true;
	session_set_idle(s, p->idle_ms_max);
	if (!p->far)
		return STEP_CLOSE;
	session_go_on(&p->far->s);
	return STEP_DATA;
}

static enum step pipe_data(struct session *s, struct slice bytes, size_t *used_out)
{
	struct pipe *p = pipe_of(s);
	return pass(s, p->far ? &p->far->s : NULL, bytes, used_out);
}

static void pipe_drained(struct session *s)
{
	struct pipe *p = pipe_of(s);
	if (p->far)
		session_go_on(&p->far->s);
}

static bool pipe_half_closed(struct session *s)
{
	struct pipe *p = pipe_of(s);
	if (p->far)
		session_end_sending(&p->far->s);
	return p->far != NULL;
}

static void pipe_closed(struct session *s, enum session_end how)
{
	struct pipe *p = pipe_of(s);
	log_event(LOG_INFO, "peer.end", LOG_U64("session", s->id), LOG_Z("peer", s->peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_BOOL("by_owner", p->far == NULL), LOG_U64("how", how));
	if (p->far) {
		p->far->near = NULL;
		session_kill(&p->far->s, END_CLIENT);
	}
	subject_unref(p->subject);
	p->subject = NULL;
}

static void pipe_describe(const struct session *s, struct session_facts *out)
{
	const struct pipe *p = CONTAINER_OF(s, const struct pipe, s);
	out->state = "proxied";
	if (!p->subject)
		return;
	out->account_id = p->subject->account_id;
	out->tenant_id = p->subject->tenant_id;
	out->login = p->subject->name;
	out->tenant = p->subject->tenant;
}

static const struct proto pipe_proto = {
	.name = "proxied",
	.session_bytes = sizeof(struct pipe),
	.line_bytes_max = PEER_LINE_BYTES_MAX,
	.idle_ms_max = PEER_DATA_MS_MAX,
	.open = never,
	.too_long = never,
	.resume = never,
	.data = pipe_data,
	.moved = pipe_moved,
	.timeout = abort_it,
	.stop = close_it,
	.closed = pipe_closed,
	.drained = pipe_drained,
	.half_closed = pipe_half_closed,
	.describe = pipe_describe,
};

/* ---- opening ---- */

/* NULL: it does not fit. `client` NULL: this node. */
static struct greeting *greet(const struct session *client, const char *protocol, const struct subject *subject, const struct owner_place *at)
{
	char packed[PROXY_HEADER_BYTES_MAX];
	struct fleet_facts facts;
	fleet_facts(&facts);
	struct handover h = {
		.protocol = slice_str(protocol),
		.incarnation = slice_str(at->incarnation),
		.node = slice_str(facts.node),
		.at_s = (uint64_t)clock_wall_s(),
	};
	if (client) {
		h.client.tls = session_client_tls(client);
		h.client.tls_version = slice_str(session_tls_version(client));
	}
	if (!client || addr_parse(slice_str(client->peer), &h.client.source) != OK)
		h.client.source.len = 0;
	if (subject) {
		h.subject = slice_of(packed, subject_pack(subject, packed, sizeof packed));
		if (!h.subject.len)
			return NULL;
	}
	struct greeting *g = xmalloc(sizeof *g);
	g->at = *at;
	g->bytes = handover_write(&h, peer_key(), g->header);
	if (g->bytes)
		return g;
	free(g);
	return NULL;
}

static int connect_to(const struct owner_place *at, uint64_t deadline_ms)
{
	struct addr address;
	struct io_op op;
	if (addr_parse(slice_str(at->address), &address) != OK)
		return -1;
	int fd = socket_stream(&address);
	if (fd < 0)
		return -1;
	io_await_prepare(&op);
	io_connect(&op, fd, &address.u.sa, address.len);
	if (io_await(&op, min_u64(deadline_ms, clock_now_ms() + PEER_CONNECT_MS_MAX)) >= 0)
		return fd;
	io_close(fd);
	return -1;
}

static struct carry *dial(const struct owner_place *at, struct greeting *greeting, bool login, uint64_t deadline_ms)
{
	int fd = connect_to(at, deadline_ms);
	if (fd < 0)
		return NULL;
	struct session *s = session_dial(&far_proto, fd);
	if (!s)
		return NULL;
	struct far *f = far_of(s);
	struct carry *c = xcalloc(1, sizeof *c);
	waitq_init(&c->changed);
	buf_init(&c->lines, PEER_ANSWERS_BYTES_MAX);
	c->far = f;
	f->carry = c;
	f->greeting = greeting;
	f->login = login;
	return c;
}

static enum err verdict(struct carry *c, uint64_t deadline_ms)
{
	struct slice line;
	uint64_t now_ms = clock_now_ms();
	enum err e = carry_line(c, deadline_ms > now_ms ? (uint32_t)(deadline_ms - now_ms) : 0, &line);
	if (e != OK)
		return ERR_TEMP;
	if (slice_eq(line, SLICE_LIT(HANDOVER_TAKEN)))
		return OK;
	return slice_eq(line, SLICE_LIT(HANDOVER_INCARNATION)) ? ERR_AGAIN : ERR_TEMP;
}

static enum err open_it(const struct session *client, const char *protocol, const struct subject *subject, const struct owner_place *at, bool login,
			uint32_t ms_max, struct carry **carry_out)
{
	uint64_t deadline_ms = clock_now_ms() + ms_max, session = client ? client->id : 0;
	struct greeting *greeting = greet(client, protocol, subject, at);
	struct carry *c = greeting ? dial(at, greeting, login, deadline_ms) : NULL;
	if (!c)
		free(greeting);
	enum err e = c ? verdict(c, deadline_ms) : ERR_TEMP;
	*carry_out = e == OK ? c : NULL;
	if (e == OK)
		return OK;
	carry_close(c, false);
	metric_inc(&not_reached);
	log_event(LOG_WARN, "peer.not_taken", LOG_U64("session", session), LOG_Z("node", at->node), LOG_Z("address", at->address), LOG_Z("protocol", protocol),
		  LOG_Z("why", e == ERR_AGAIN ? "incarnation" : c ? "refused, or no answer" : "cannot be reached"));
	return e;
}

enum err carry_open(const struct session *client, const char *protocol, const struct subject *subject, const struct owner_place *at, bool login,
		    struct carry **carry_out)
{
	enum err e = open_it(client, protocol, subject, at, login, PEER_ANSWER_MS_MAX, carry_out);
	if (e == ERR_TEMP && subject)
		owner_ask_for(at, subject->account_id); /* a node that drains takes no sessions, but lets go */
	return e;
}

enum err carry_ask(const char *protocol, const struct owner_place *at, uint32_t ms_max, struct carry **carry_out)
{
	return open_it(NULL, protocol, NULL, at, false, ms_max, carry_out);
}

/* ---- speaking ---- */

enum err carry_line(struct carry *c, uint32_t ms_max, struct slice *line_out)
{
	uint64_t deadline_ms = clock_now_ms() + ms_max;
	for (;;) {
		struct slice rest = slice_from(buf_slice(&c->lines), c->at);
		size_t end = slice_find(rest, '\n');
		if (end != SIZE_MAX) {
			*line_out = slice_upto(rest, end);
			c->at += end + 1;
			return OK;
		}
		if (!c->far)
			return ERR_CLOSED;
		buf_clear(&c->lines); /* all has been read: what line_out showed before ends here */
		c->at = 0;
		if (waitq_wait(&c->changed, deadline_ms) != OK)
			return ERR_TIMEOUT;
	}
}

enum err carry_put(struct carry *c, struct slice bytes, uint32_t ms_max)
{
	uint64_t deadline_ms = clock_now_ms() + ms_max;
	while (bytes.len) {
		if (!c->far)
			return ERR_CLOSED;
		struct reply *r = &c->far->s.reply;
		if (!reply_full(r)) {
			size_t n = min_size(bytes.len, PEER_PASS_BYTES);
			reply_put(r, slice_upto(bytes, n));
			bytes = slice_from(bytes, n);
			session_push(&c->far->s);
			continue;
		}
		if (waitq_wait(&c->changed, deadline_ms) != OK)
			return ERR_TIMEOUT;
	}
	return OK;
}

enum err carry_file(struct carry *c, int fd, uint64_t bytes, void (*release)(void *arg), void *arg)
{
	if (!c->far) {
		release(arg);
		return ERR_CLOSED;
	}
	reply_file(&c->far->s.reply, fd, 0, bytes, release, arg);
	session_push(&c->far->s);
	return OK;
}

void carry_close(struct carry *c, bool in_order)
{
	if (!c)
		return;
	if (c->far) {
		struct far *f = c->far;
		f->carry = NULL;
		if (in_order)
			session_finish(&f->s);
		else if (!f->near)
			session_kill(&f->s, END_CLIENT);
	}
	buf_release(&c->lines);
	free(c);
}

enum step carry_pass_on(struct session *s, struct carry *c, struct subject *subject, uint32_t idle_ms_max)
{
	struct pipe *p = pipe_of(session_succeed(s, &pipe_proto));
	p->subject = subject_ref(subject);
	p->idle_ms_max = idle_ms_max;
	p->far = c->far;
	if (c->far) {
		c->far->near = p;
		session_set_idle(&c->far->s, idle_ms_max);
	}
	carry_close(c, false);
	session_move_to(s, shard_index());
	metric_inc(&passed_on);
	return STEP_BECOME;
}
