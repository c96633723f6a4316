/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_deliver.c - one body, a copy for each recipient, each on the shard that owns the account.
 *
 * Copies are stored in parallel, LMTP_PARALLEL_MAX of one transaction at once: those for different accounts overlap their
 * syncs, those that meet others in one account join their commit.  Replies leave in the order of RCPT (RFC 2033 section
 * 4.2), a 250 only for a copy that is durable (invariant 1).
 *
 * The session's fiber waits for every copy it began, whatever happens to the connection: what is being stored must have
 * an end that somebody sees, and the jobs, which live in this command's arena, must outlive their fibers.
 *
 * A single copy that belongs on this shard, the usual case with one shard, is stored by the session's fiber itself; all
 * others are tasks of the workers of their shards (lmtp_worker.c).
 */
#include "net/lmtp/lmtp_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "tenancy/tenant_figure.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/fleet/owner.h"
#include "tenancy/usage.h"

#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(copies_stored, "lmtp_copies_stored_total", "copies of messages acknowledged with 250");
METRIC_COUNTER(copies_refused, "lmtp_copies_refused_total", "copies of messages refused after the data");
METRIC_COUNTER(copies_junk, "lmtp_copies_junk_total", "copies of messages that a spam filter marked, stored in the folder Junk");
METRIC_HISTOGRAM(deliver_ns, "lmtp_deliver_ns", "from the end of the data to the last reply, in nanoseconds");

struct delivery;
struct job {
	struct lmtp_task task;
	struct delivery *delivery;
	struct lmtp_rcpt *rcpt;
	unsigned shard;
	enum err err;
	bool begun, done, junk;
	struct owner_place *at; /* xmalloc'd: another node has the account */
	struct lmtp_forward forward;
	struct appended appended;
};

struct delivery {
	struct lmtp_session *l;
	struct body *body;
	struct fiber *fiber;
	unsigned home;
	uint32_t under_way;
	bool marked; /* by a spam filter */
	char date[LMTP_DATE_BYTES_MAX];
};

/* ---- the trace lines in front of a copy ---- */

/* Of "([127.0.0.1])" or "([IPv6:::1])", as RFC 5321 section 4.4 has the client's address, what is before it; a local socket has none. */
static const char *peer_opening(struct slice peer)
{
	if (!peer.len || slice_starts_nocase(peer, SLICE_LIT("unix")))
		return NULL;
	return slice_find(peer, ':') == SIZE_MAX ? " ([" : " ([IPv6:";
}

/* RFC 3848, RFC 6531 section 4.3. */
static const char *with_of(const struct lmtp_session *l)
{
	if (l->handed ? session_client_tls(&l->s) : session_tls_version(&l->s) != NULL)
		return l->utf8 ? "UTF8LMTPS" : "LMTPS";
	return l->utf8 ? "UTF8LMTP" : "LMTP";
}

static struct slice write_prefix(const struct job *job, char out[LMTP_PREFIX_BYTES_MAX])
{
	const struct delivery *d = job->delivery;
	const struct lmtp_session *l = d->l;
	struct slice to = job->rcpt->wire, peer = session_peer_address(&l->s);
	const char *opening = peer_opening(peer);
	int len = snprintf(out, LMTP_PREFIX_BYTES_MAX,
			   "Return-Path: <%.*s>\r\nDelivered-To: %.*s\r\nReceived: from %s%s%.*s%s\r\n\tby %.255s with %s id %.*s\r\n\tfor <%.*s>; %s\r\n",
			   SLICE_ARG(l->from), SLICE_ARG(to), l->lhlo, opening ? opening : "", opening ? (int)peer.len : 0, peer.ptr,
			   opening ? "])" : "", lmtp_settings.host_name, with_of(l), SLICE_ARG(l->id), SLICE_ARG(to), d->date);
	ASSERT(len > 0 && len < LMTP_PREFIX_BYTES_MAX); /* paths and names are bounded where they were parsed */
	return slice_of(out, (size_t)len);
}

/* ---- one copy, on the account's shard ---- */

/* A host's maildrop and whoever may not use IMAP read INBOX only: mail elsewhere would be lost to them. */
static bool has_junk_folder(const struct subject *subject) { return subject->junk && subject->imap && !subject->maildrop; }

static enum err append_copy(struct job *job, struct account *account, struct slice prefix)
{
	const struct subject *subject = job->rcpt->subject;
	uint32_t folder = job->delivery->marked && has_junk_folder(subject) ? lmtp_junk_folder(account) : FOLDER_INBOX;
	struct append copy = {
		.folder = folder,
		.body = job->delivery->body,
		.prefix = prefix,
		.envelope_from = job->delivery->l->from,
		.envelope_rcpt = job->rcpt->wire,
		.quota_bytes = subject->quota_bytes,
		.quota_messages = subject->quota_messages,
	};
	enum err e = account_append(account, &copy, 1, &job->appended);
	if (e == ERR_NOT_FOUND && folder != FOLDER_INBOX) { /* deleted meanwhile */
		copy.folder = FOLDER_INBOX;
		e = account_append(account, &copy, 1, &job->appended);
	}
	job->junk = e == OK && copy.folder != FOLDER_INBOX;
	return e;
}

static void store_copy(struct job *job)
{
	struct account *account;
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer where;
	char prefix[LMTP_PREFIX_BYTES_MAX];
	job->err = owner_open(job->rcpt->subject->account_id, &hold, &account, &where);
	if (job->err != OK && !job->delivery->l->handed && carry_worth(&where)) {
		job->at = xmalloc(sizeof *job->at);
		*job->at = where.at;
	}
	if (job->err != OK)
		return;
	job->err = append_copy(job, account, write_prefix(job, prefix));
	if (job->err == ERR_FENCED)
		owner_fenced(job->rcpt->subject->account_id);
	owner_close(&hold, account);
}

/* ---- jobs: out to a shard, and back ---- */

static void job_run(struct lmtp_task *t) { store_copy(CONTAINER_OF(t, struct job, task)); }

static void job_done(struct lmtp_task *t)
{
	struct job *job = CONTAINER_OF(t, struct job, task);
	if (t->err != OK)
		job->err = t->err;
	job->done = true;
	job->delivery->under_way--;
	fiber_wake(job->delivery->fiber);
}

/* alone: nothing else of this transaction could run meanwhile. */
static void job_begin(struct job *job, bool alone)
{
	job->begun = true;
	if (alone && job->shard == job->delivery->home) {
		store_copy(job);
		job->done = true;
		return;
	}
	job->delivery->under_way++;
	job->task.run = job_run;
	job->task.done = job_done;
	lmtp_task_begin(&job->task, job->shard);
}

/* ---- replies ---- */

static void say(struct lmtp_session *l, const struct lmtp_rcpt *rcpt)
{
	struct reply *r = &l->s.reply;
	reply_put(r, slice_str(rcpt->refusal ? rcpt->refusal : "250 2.0.0 stored as "));
	if (!rcpt->refusal)
		reply_put(r, l->id);
	REPLY_LIT(r, " <");
	reply_put(r, rcpt->wire);
	REPLY_LIT(r, ">\r\n");
}

enum step lmtp_answer_on(struct lmtp_session *l)
{
	for (; l->answer; l->answer = l->answer->next) {
		if (reply_full(&l->s.reply))
			return STEP_RESUME;
		say(l, l->answer);
	}
	lmtp_reset(l);
	return STEP_NEXT;
}

static void note(struct lmtp_session *l, struct lmtp_rcpt *rcpt, const char *refusal, uint64_t bytes, uint32_t uid, bool junk)
{
	rcpt->refusal = refusal;
	*(refusal ? &l->refused : &l->delivered) += 1;
	metric_inc(refusal ? &copies_refused : &copies_stored);
	usage_add(rcpt->subject->tenant_id, refusal ? USAGE_REFUSALS : USAGE_DELIVERIES, 1);
	usage_add(rcpt->subject->tenant_id, USAGE_BYTES_IN, bytes);
	if (junk)
		metric_inc(&copies_junk);
	tenant_figure_add(rcpt->subject->tenant_id, rcpt->subject->tenant, refusal ? TENANT_DELIVERY_REFUSALS : TENANT_DELIVERIES);
	log_event(LOG_INFO, "lmtp.delivery", LOG_U64("session", l->s.id), LOG_STR("tenant", rcpt->subject->tenant), LOG_STR("id", l->id),
		  LOG_STR("from", l->from), LOG_STR("rcpt", rcpt->wire), LOG_STR("user", rcpt->subject->name), LOG_U64("bytes", bytes),
		  LOG_Z("result", refusal ? refusal : "stored"), LOG_Z("use", junk ? "junk" : "inbox"), LOG_U64("uid", uid));
}

static enum step answer(struct lmtp_session *l)
{
	l->answer = l->first_rcpt;
	return lmtp_answer_on(l);
}

enum step lmtp_refuse_all(struct lmtp_session *l, const char *reply)
{
	for (struct lmtp_rcpt *r = l->first_rcpt; r; r = r->next)
		note(l, r, reply, l->data_bytes, 0, false);
	return answer(l);
}

/* ---- all of them ---- */

/* Too many hops, or this address has had the message before, and again. */
static bool loops(struct slice header, const struct lmtp_rcpt *rcpt)
{
	struct lmtp_hops hops = lmtp_count_hops(header, rcpt->wire);
	return hops.received > LMTP_RECEIVED_MAX || hops.delivered_here >= LMTP_DELIVERED_TO_MAX;
}

/* ERR_EXISTS in a job stands for a loop: it has been here before. */
static void prepare(struct delivery *d, struct job *jobs)
{
	struct slice header = body_header(d->body);
	struct lmtp_hops any = lmtp_count_hops(header, slice_of(NULL, 0));
	bool suspicious = any.received > LMTP_RECEIVED_MAX || any.delivered >= LMTP_DELIVERED_TO_MAX;
	uint32_t i = 0;
	for (struct lmtp_rcpt *r = d->l->first_rcpt; r; r = r->next, i++) {
		jobs[i].delivery = d;
		jobs[i].rcpt = r;
		jobs[i].shard = store_shard_of(r->subject->account_id);
		if (suspicious && loops(header, r)) {
			jobs[i].err = ERR_EXISTS;
			jobs[i].begun = jobs[i].done = true;
		}
		fiber_breathe();
	}
}

static void run(struct delivery *d, struct job *jobs, uint32_t count)
{
	uint32_t next = 0;
	while (next < count || d->under_way) {
		for (; next < count && d->under_way < LMTP_PARALLEL_MAX; next++)
			if (!jobs[next].begun)
				job_begin(&jobs[next], next + 1 == count && d->under_way == 0);
		if (d->under_way)
			fiber_park();
	}
}

/* ---- what other nodes own ---- */

static bool same_place(const struct owner_place *a, const struct owner_place *b)
{
	return strcmp(a->node, b->node) == 0 && strcmp(a->incarnation, b->incarnation) == 0 && strcmp(a->address, b->address) == 0;
}

/* Those of one node, from `first` on: one transaction there. `again`: what is not there any more is looked for once more. */
static void forward_group(struct delivery *d, struct job *jobs, uint32_t first, uint32_t count, bool again)
{
	struct owner_place at = *jobs[first].at;
	struct lmtp_forward *list = NULL, **end = &list;
	for (uint32_t i = first; i < count; i++) {
		if (!jobs[i].at || !same_place(jobs[i].at, &at))
			continue;
		jobs[i].forward = (struct lmtp_forward){ .rcpt = jobs[i].rcpt, .err = ERR_TEMP };
		*end = &jobs[i].forward;
		end = &jobs[i].forward.next;
	}
	bool gone = lmtp_forward(d->l, d->body, &at, list) == ERR_AGAIN;
	for (struct lmtp_forward *f = list; f; f = f->next) {
		struct job *job = CONTAINER_OF(f, struct job, forward);
		free(job->at);
		job->at = NULL;
		job->err = f->err;
		if (gone && again)
			job->begun = job->done = false;
	}
}

static void forward(struct delivery *d, struct job *jobs, uint32_t count, bool again)
{
	for (uint32_t i = 0; i < count; i++)
		if (jobs[i].at)
			forward_group(d, jobs, i, count, again);
}

/* What became of it, for the reply and the log. */
static void note_job(const struct job *job)
{
	const char *refusal = job->err == OK	       ? job->forward.refusal
			      : job->err == ERR_EXISTS ? "554 5.4.6 mail loop"
						      : lmtp_words(job->err, job->rcpt->subject->over_quota);
	ASSERT(job->done);
	note(job->delivery->l, job->rcpt, refusal, body_bytes(job->delivery->body), job->appended.uid, job->junk);
}

/* Seconds, session, transaction: unique on this host across restarts. */
static bool name_message(struct lmtp_session *l)
{
	l->id = arena_printf(&l->s.arena, "%llx.%llx.%x", (unsigned long long)clock_wall_s(), (unsigned long long)l->s.id, ++l->transactions);
	return l->id.ptr != NULL;
}

enum step lmtp_deliver(struct lmtp_session *l, struct body *body)
{
	lmtp_verb_deliver();
	uint64_t began_ns = clock_fresh_ns();
	struct delivery d = { .l = l, .body = body, .fiber = fiber_self(), .home = shard_index() };
	d.marked = lmtp_marked(body_header(body));
	d.date[lmtp_date(clock_wall_s(), d.date)] = '\0';
	struct job *jobs = arena_zalloc(&l->s.command, l->rcpts * sizeof *jobs);
	if (!jobs || !name_message(l)) {
		body_unref(body);
		return lmtp_refuse_all(l, lmtp_words(ERR_BUSY, OVER_QUOTA_TEMPORARY));
	}
	prepare(&d, jobs);
	for (unsigned again = 2; again--;) {
		run(&d, jobs, l->rcpts);
		forward(&d, jobs, l->rcpts, again > 0);
	}
	for (uint32_t i = 0; i < l->rcpts; i++)
		note_job(&jobs[i]);
	body_unref(body);
	metric_record(&deliver_ns, clock_fresh_ns() - began_ns);
	return answer(l);
}
