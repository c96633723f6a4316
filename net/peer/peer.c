/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c - see peer.h. */
#include "net/peer/peer.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/listen.h"
#include "net/peer/handover.h"
#include "storage/store.h"
#include "tenancy/handed.h"

METRIC_COUNTER(taken_over, "peer_taken_total", "sessions that other nodes handed over to this one");
METRIC_COUNTER(turned_away, "peer_refused_total", "hand-overs that were refused");

static struct peer_config settings;

void peer_configure(const struct peer_config *config) { settings = *config; }
struct slice peer_key(void) { return settings.key; }

struct peer_session {
	struct session s; /* first */
	void *successor;  /* the connection's, from STEP_BECOME on */
};

static enum step begin(struct session *s)
{
	(void)s;
	return STEP_DATA;
}

static enum step refuse(struct session *s, const struct handover *h, const char *why, const char *answer)
{
	metric_inc(&turned_away);
	log_event(LOG_WARN, "peer.refused", LOG_U64("session", s->id), LOG_Z("peer", s->peer), LOG_STR("node", h->node), LOG_STR("protocol", h->protocol),
		  LOG_Z("reason", why));
	reply_printf(&s->reply, "%s\r\n", answer);
	return STEP_CLOSE;
}

static const struct proto *proto_named(struct slice name)
{
	for (size_t i = 0; i < PEER_PROTOS_MAX && settings.protos[i]; i++)
		if (slice_eq(slice_str(settings.protos[i]->name), name) && settings.protos[i]->handed)
			return settings.protos[i];
	return NULL;
}

static bool in_time(const struct handover *h)
{
	uint64_t now_s = (uint64_t)clock_wall_s();
	return h->at_s <= now_s + PEER_AGE_S_MAX && now_s <= h->at_s + PEER_AGE_S_MAX;
}

/* What the sender has seen in Redis is what we are. */
static bool is_us(const struct handover *h)
{
	struct fleet_facts facts;
	fleet_facts(&facts);
	if (!h->incarnation.len && fleet_placement() == PLACEMENT_HOME)
		return true; /* the home is the home, in every incarnation; the sender found it without Redis */
	return slice_eq(h->incarnation, slice_str(facts.incarnation));
}

static enum step hand_on(struct session *s, const struct handover *h, const struct proto *proto, struct subject *subject)
{
	unsigned shard = subject ? store_shard_of(subject->account_id) : shard_index();
	session_stands_for(s, &h->client.source, h->client.tls);
	if (!proto->handed(session_succeed(s, proto), subject))
		UNREACHABLE(); /* asked for below */
	metric_inc(&taken_over);
	log_event(LOG_DEBUG, "peer.taken", LOG_U64("session", s->id), LOG_STR("node", h->node), LOG_STR("protocol", h->protocol), LOG_Z("peer", s->peer));
	reply_printf(&s->reply, "%s\r\n", HANDOVER_TAKEN);
	session_move_to(s, shard);
	return STEP_BECOME;
}

static enum step judge(struct session *s, const struct handover *h)
{
	struct subject *subject = NULL;
	const struct proto *proto = proto_named(h->protocol);
	struct addr from = { .len = 0 };
	if (addr_parse(slice_str(s->peer), &from) != OK)
		from.len = 0;
	if (!session_peer_is_node(s, h->node, &from))
		return refuse(s, h, "certificate: it names neither that node nor its address", HANDOVER_REFUSED);
	if (!in_time(h))
		return refuse(s, h, "time: the clocks of the nodes differ", HANDOVER_REFUSED);
	if (!proto)
		return refuse(s, h, "protocol", HANDOVER_REFUSED);
	if (proto->describe && listeners_paused())
		return refuse(s, h, "this node drains", HANDOVER_REFUSED);
	if (!is_us(h))
		return refuse(s, h, "incarnation", HANDOVER_INCARNATION);
	if (h->subject.len ? subject_unpack(h->subject, &subject) != OK : proto->logs_in)
		return refuse(s, h, "subject", HANDOVER_REFUSED);
	return hand_on(s, h, proto, subject);
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out)
{
	struct handover h;
	size_t used = 0;
	*used_out = 0;
	switch (handover_read(bytes, settings.key, &h, &used)) {
	case HANDOVER_MORE:
		return STEP_DATA;
	case HANDOVER_BAD:
		return refuse(s, &(struct handover){ .why = NULL }, h.why, HANDOVER_REFUSED);
	case HANDOVER_DONE:
		break;
	}
	*used_out = used;
	return judge(s, &h);
}

static enum step never(struct session *s)
{
	(void)s;
	UNREACHABLE();
}

static enum step end(struct session *s)
{
	(void)s;
	return STEP_ABORT;
}

static void closed(struct session *s, enum session_end how) { (void)s, (void)how; }

const struct proto peer_proto = {
	.name = "peer",
	.session_bytes = sizeof(struct peer_session),
	.line_bytes_max = PEER_LINE_BYTES_MAX,
	.idle_ms_max = PEER_ANSWER_MS_MAX, /* the header comes at once */
	.open = begin,
	.too_long = end,
	.resume = never,
	.data = take_data,
	.moved = never,
	.timeout = end,
	.stop = end,
	.closed = closed,
};
