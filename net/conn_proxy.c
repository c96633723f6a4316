/* SPDX-License-Identifier: Apache-2.0 */
/* conn_proxy.c - see conn_proxy.h. */
#include "net/conn_proxy.h"

#include "core/base/log.h"
#include "core/run/socket.h"
#include "net/net_private.h"
#include "net/proxy.h"
#include "tenancy/decision.h"

/* ---- who it is ---- */

static void name_peer(struct session *s, const struct addr *peer)
{
	char text[ADDR_TEXT_BYTES];
	size_t len = addr_format(peer, text);
	len = min_size(len, sizeof(s->peer) - 1);
	memcpy(s->peer, text, len);
	s->peer[len] = '\0';
	struct slice host = session_peer_address(s);
	s->peer_is_local = addr_is_unix(peer) || slice_starts_nocase(host, SLICE_LIT("127.")) || slice_eq(host, SLICE_LIT("::1"));
}

/* A flood is told at its beginning and then ever more rarely. */
static bool worth_a_line(uint32_t count) { return (count & (count - 1)) == 0 || count % 4096 == 0; }

static void tell_refusal(const struct session *s, enum limit limit, uint32_t count)
{
	struct decision d = { .kind = DECISION_REFUSED, .protocol = s->proto->name, .reason = limit_word(limit), .session = s->id };
	decision_note(&d, session_peer_address(s), slice_of(NULL, 0), slice_of(NULL, 0));
	if (worth_a_line(count))
		log_event(LOG_WARN, "net.refused", LOG_Z("protocol", s->proto->name), LOG_Z("peer", s->peer), LOG_Z("limit", limit_word(limit)),
			  LOG_U64("times", count));
}

enum limit conn_admit(struct net_private *c, const struct addr *peer, bool counted)
{
	struct session *s = conn_session(c);
	uint32_t count = 0;
	name_peer(s, peer);
	if (!counted || !s->proto->refused)
		return LIMIT_NONE;
	enum limit limit = source_open(peer, s->proto->logs_in, &s->source, &count);
	c->class = conn_class_of(s);
	c->waits = s->source && s->proto->logs_in;
	if (limit != LIMIT_NONE) {
		STAT_ADD(c->shard, refused, 1);
		tell_refusal(s, limit, count);
	}
	return limit;
}

void conn_admitted(struct net_private *c, struct slice unread)
{
	if (listener_tls(conn_session(c)->listener) != LISTEN_TLS_IMPLICIT) {
		session_wake(c);
		return;
	}
	conn_tls_begin(c, unread); /* greets when the handshake is over */
}

/* ---- the header ---- */

void conn_proxy_begin(struct net_private *c)
{
	c->proxy_next = true;
	conn_timer_at_most(c, PROXY_HEADER_MS_MAX);
	conn_settle(c);
}

static void tell_header(const struct net_private *c, const struct proxy_header *h, const struct addr *proxy)
{
	const struct session *s = conn_session((struct net_private *)(uintptr_t)c);
	log_event(LOG_DEBUG, "proxy.client", LOG_U64("session", s->id), LOG_Z("protocol", s->proto->name), LOG_ADDR("proxy", proxy), LOG_Z("peer", s->peer),
		  LOG_STR("unique_id", h->unique_id), LOG_STR("authority", h->authority), LOG_BOOL("tls", h->tls), LOG_STR("tls_version", h->tls_version),
		  LOG_BOOL("certificate_verified", h->verified), LOG_STR("certificate_name", h->verified ? h->tls_cn : slice_of(NULL, 0)));
}

static void tell_bad(const struct net_private *c, const char *why)
{
	const struct session *s = conn_session((struct net_private *)(uintptr_t)c);
	struct addr proxy = socket_peer(c->fd);
	log_event(LOG_WARN, "proxy.refused", LOG_U64("session", s->id), LOG_Z("protocol", s->proto->name), LOG_ADDR("proxy", &proxy), LOG_Z("reason", why));
}

/* One line, then the end. */
static void turn_away(struct net_private *c, enum limit limit)
{
	struct session *s = conn_session(c);
	if (listener_tls(s->listener) != LISTEN_TLS_IMPLICIT) {
		char line[NET_REFUSAL_BYTES_MAX];
		reply_put(&s->reply, slice_of(line, s->proto->refused(limit, line)));
	}
	conn_end(c, END_PROTOCOL, false);
	session_wake(c);
}

static void header_done(struct net_private *c, const struct proxy_header *h, size_t used)
{
	struct session *s = conn_session(c);
	struct addr proxy = socket_peer(c->fd);
	enum limit limit = conn_admit(c, h->local ? &proxy : &h->source, !h->local);
	if (!h->local)
		tell_header(c, h, &proxy);
	c->proxy_next = false;
	c->proxy_tls = h->tls;
	c->active_ms = clock_now_ms();
	conn_timer_at_most(c, c->idle_ms_max);
	input_use(&c->input, used); /* h's slices die here */
	if (limit != LIMIT_NONE) {
		turn_away(c, limit);
		return;
	}
	if (listener_tls(s->listener) != LISTEN_TLS_IMPLICIT) {
		conn_admitted(c, slice_of(NULL, 0));
		return;
	}
	/* what came behind it is the beginning of TLS */
	struct input rest = c->input;
	input_init(&c->input);
	struct net_shard *sh = c->shard;
	conn_admitted(c, input_unread(&rest));
	input_release(&rest, &sh->input);
}

void conn_proxy_received(struct net_private *c)
{
	struct proxy_header h;
	size_t used;
	if (c->recv.result == 0) {
		if (input_len(&c->input))
			tell_bad(c, "connection ended in the header");
		conn_fail(c, END_CLIENT);
		return;
	}
	STAT_ADD(c->shard, bytes_in, (uint64_t)c->recv.result);
	input_add(&c->input, c->recv.data, &c->shard->input);
	switch (proxy_parse(input_unread(&c->input), &h, &used)) {
	case PROXY_MORE:
		conn_settle(c);
		return;
	case PROXY_DONE:
		header_done(c, &h, used);
		return;
	case PROXY_BAD:
		tell_bad(c, h.why);
		conn_fail(c, END_PROTOCOL);
		return;
	}
	UNREACHABLE();
}
