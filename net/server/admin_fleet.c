/* SPDX-License-Identifier: Apache-2.0 */
/* admin_fleet.c - see admin_fleet.h. */
#include "net/server/admin_fleet.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/peer/carry.h"

#include <stdlib.h>
#include <string.h>

/* Of one round; it lives on the asker's stack, who waits for all its fibers: each of them has the round's deadline. */
struct round {
	char *line; /* with its CRLF */
	struct admin_reply *replies;
	size_t count, next;
	uint64_t deadline_ms;
	unsigned fibers;
	struct waitq done;
};

static uint32_t left_ms(const struct round *r)
{
	uint64_t now_ms = clock_now_ms();
	return r->deadline_ms > now_ms ? (uint32_t)(r->deadline_ms - now_ms) : 0;
}

/* ---- one node ---- */

struct text {
	struct buf bytes;
	json_t *json;
};

static void parse(void *arg)
{
	struct text *t = arg;
	struct slice s = buf_slice(&t->bytes);
	t->json = json_loadb(s.ptr, s.len, JSON_REJECT_DUPLICATES, NULL);
}

/* Invariant 7: what another node says is bounded too. */
static bool read_text(struct round *r, struct carry *c, struct buf *to)
{
	struct slice line;
	uint64_t bytes;
	if (carry_line(c, left_ms(r), &line) != OK || !slice_u64(line, ADMIN_ANSWER_BYTES_MAX, &bytes))
		return false;
	while (buf_slice(to).len < bytes)
		if (carry_line(c, left_ms(r), &line) != OK || !line.len || !buf_put(to, line.ptr, line.len))
			return false;
	return buf_slice(to).len == bytes;
}

static const char *converse(struct round *r, struct carry *c, json_t **answer_out)
{
	struct text t = { .json = NULL };
	const char *why = NULL;
	buf_init(&t.bytes, ADMIN_ANSWER_BYTES_MAX);
	if (carry_put(c, slice_str(r->line), left_ms(r)) != OK || !read_text(r, c, &t.bytes))
		why = "it did not answer in time";
	else if (offload_call(parse, &t, ADMIN_FLEET_MS_MAX) != OK) /* megabytes of it would hold the shard (invariant 8) */
		why = "this node is too busy to read its answer";
	else if (!json_is_object(t.json))
		why = "its answer is not JSON";
	buf_release(&t.bytes);
	if (!why)
		*answer_out = json_incref(t.json);
	json_decref(t.json);
	return why;
}

static void ask_one(struct round *r, struct admin_reply *reply)
{
	struct carry *c = NULL;
	reply->why = reply->node.why;
	if (reply->why)
		return;
	if (!carry_on()) {
		reply->why = "this node has no peer settings to ask it with";
		return;
	}
	if (!left_ms(r)) {
		reply->why = "there was no time to ask it";
		return;
	}
	enum err e = carry_ask("admin", &reply->node.at, left_ms(r), &c);
	if (e == OK)
		reply->why = converse(r, c, &reply->answer);
	else
		reply->why = e == ERR_AGAIN ? "it has just been restarted" : "it cannot be reached, or refuses";
	carry_close(c, false);
}

/* ---- all of them ---- */

static void ask_some(void *arg)
{
	struct round *r = arg;
	while (r->next < r->count)
		ask_one(r, &r->replies[r->next++]);
	r->fibers--;
	waitq_wake_all(&r->done);
}

static void run_round(struct round *r)
{
	waitq_init(&r->done);
	r->deadline_ms = clock_now_ms() + ADMIN_FLEET_MS_MAX;
	for (size_t i = 0; i < min_size(r->count, ADMIN_ASKS_MAX); i++)
		r->fibers += fiber_start("fleet ask", ask_some, r) == OK;
	if (!r->fibers && r->count) { /* this shard has no stacks to spare: one after the other */
		r->fibers++;
		ask_some(r);
	}
	while (r->fibers)
		(void)waitq_wait(&r->done, 0);
}

static size_t keep_only(struct fleet_peer *peers, size_t count, const char *only)
{
	for (size_t i = 0; *only && i < count; i++) {
		if (strcmp(peers[i].at.node, only) != 0)
			continue;
		peers[0] = peers[i];
		return 1;
	}
	return *only ? 0 : count;
}

enum err admin_ask_others(json_t *request, const char *only, struct admin_reply **replies_out, size_t *count_out)
{
	struct fleet_peer *peers;
	struct round r = { .next = 0 };
	enum err e = fleet_peers(&peers, &r.count);
	*replies_out = NULL;
	*count_out = 0;
	if (e != OK)
		return e;
	r.count = keep_only(peers, r.count, only);
	r.replies = xcalloc(r.count + 1, sizeof(*r.replies));
	for (size_t i = 0; i < r.count; i++)
		r.replies[i].node = peers[i];
	free(peers);
	char *text = json_dumps(request, JSON_COMPACT);
	ASSERT(text);
	size_t bytes = strlen(text) + 3;
	r.line = xmalloc(bytes);
	memcpy(r.line, text, bytes - 3);
	memcpy(r.line + bytes - 3, "\r\n", 3);
	free(text);
	run_round(&r);
	free(r.line);
	*replies_out = r.replies;
	*count_out = r.count;
	return OK;
}

void admin_replies_free(struct admin_reply *replies, size_t count)
{
	for (size_t i = 0; i < count; i++)
		json_decref(replies[i].answer);
	free(replies);
}
