/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.c - a login and its proof become a subject.
 *
 * The road of a password: who is meant (directory, mostly cached) - was it right a moment ago (verified.h) - else a turn at
 * a hash, then the offload pool.  Whoever is not found walks the same road with a hash of the same cost that cannot match
 * (invariant 11): that of a neighbour in the domain, or one of the default scheme.
 *
 * The turns: at most hash_parallel_max hashes run at once, at most hash_queue_max logins wait, over all shards, each until its deadline
 * (invariants 7 and 12).  Who waits stands in the line of the tenant whose login it is, or, for a name in nobody's domain, of the
 * network it comes from; the lines are served in turn (core/base/fair.h).  The last quarter of the places
 * is for tenants and networks that have less than a quarter of all themselves, so that guessing at one tenant leaves room for the others, and
 * guessing from one network for the tenant's own users.
 */
#include "tenancy/auth.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "tenancy/cross_wait.h"
#include "tenancy/directory_private.h"
#include "tenancy/password.h"
#include "tenancy/tenant_class.h"
#include "tenancy/usage.h"
#include "tenancy/verified.h"

#include <nettle/base16.h>
#include <nettle/md5.h>
#include <unistd.h>

static struct {
	struct auth_config config;
	struct verified *verified;
	char dummy[STORED_PASSWORD_BYTES_MAX]; /* what unknown names are checked against; nobody knows its password */
	pthread_mutex_t lock;                  /* of what follows */
	struct fair waiting;                   /* struct cross_wait */
	uint32_t from[FAIR_CLASSES];           /* of them, by the class of the fiber that waits: before login, its network */
	uint32_t running;
	struct auth_stats stats;
} auth;

/* ---- turns ---- */

static bool has_place(fair_class_t class, fair_class_t from)
{
	uint32_t max = auth.config.hash_queue_max, share = (uint32_t)max_u64(max / 4, HASH_SHARE_MIN);
	bool modest = auth.waiting.line[class].count < share && auth.from[from] < share;
	return auth.waiting.count < (modest ? max : max - max / 4);
}

static enum err turn_take(fair_class_t class, uint64_t deadline_ms)
{
	fair_class_t from = fiber_class();
	struct cross_wait w;
	pthread_mutex_lock(&auth.lock);
	if (auth.running < auth.config.hash_parallel_max) {
		auth.running++;
		pthread_mutex_unlock(&auth.lock);
		return OK;
	}
	if (!has_place(class, from)) {
		auth.stats.shed++;
		pthread_mutex_unlock(&auth.lock);
		return ERR_BUSY;
	}
	cross_wait_init(&w);
	fair_push(&auth.waiting, class, &w.link);
	auth.from[from]++;
	pthread_mutex_unlock(&auth.lock);
	enum err e = cross_wait_fair(&w, &auth.waiting, class, &auth.lock, deadline_ms);
	pthread_mutex_lock(&auth.lock);
	auth.from[from]--;
	auth.stats.shed += e != OK;
	pthread_mutex_unlock(&auth.lock);
	return e;
}

/* The turn passes to the first of the line whose turn it is. */
static void turn_give(void)
{
	pthread_mutex_lock(&auth.lock);
	struct link *next = fair_pop(&auth.waiting);
	if (next)
		cross_wake(CONTAINER_OF(next, struct cross_wait, link));
	else
		auth.running--;
	pthread_mutex_unlock(&auth.lock);
}

static void count(uint64_t *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* ---- the hash ---- */

struct check {
	fair_class_t class; /* in whose line it waits */
	const struct record *record; /* NULL: nobody */
	struct slice dummy;
	struct slice password;
	uint32_t hashes_min;         /* a wrong password costs at least so many */
	bool right;
};

static void check_job(void *arg)
{
	struct check *c = arg;
	uint32_t hashes = 0, known = c->record ? c->record->passwords_count : 0;
	c->right = false;
	for (; hashes < known && !c->right; hashes++)
		c->right = password_matches(c->record->passwords[hashes], c->password);
	for (; hashes < c->hashes_min && !c->right; hashes++)
		(void)password_matches(c->dummy, c->password);
}

/* An SDPS host's maildrop has two passwords, so that a wrong one costs two hashes: then it does so, too, for every login that could name a
 * host or share a domain with one, or time would tell which do (invariant 11). */
static uint32_t hashes_min(struct slice login, const struct login_found *found)
{
	if (!directory_has_maildrops())
		return 1;
	if (found->domain && found->domain->sdps == SDPS_MAILDROP)
		return SDPS_PASSWORDS_MAX;
	size_t at = slice_rfind(login, '@');
	bool short_host = at == SIZE_MAX || slice_find(slice_from(login, at + 1), '.') == SIZE_MAX;
	return short_host ? SDPS_PASSWORDS_MAX : 1;
}

static enum err hash(struct check *c)
{
	uint64_t deadline_ms = clock_now_ms() + auth.config.hash_wait_ms_max;
	enum err e = turn_take(c->class, deadline_ms);
	if (e)
		return e;
	uint64_t now_ms = clock_now_ms();
	count(&auth.stats.hashes);
	e = offload_call(check_job, c, deadline_ms > now_ms ? deadline_ms - now_ms : 1);
	turn_give();
	return e;
}

/* ---- the answer ---- */

static bool protocol_allowed(const struct subject *s, enum auth_protocol protocol)
{
	switch (protocol) {
	case AUTH_POP3:
		return s->pop3;
	case AUTH_IMAP:
		return s->imap;
	case AUTH_LMTP:
		return s->lmtp;
	}
	UNREACHABLE();
}

/* Whose login it would have been: the domain's, for a name that nobody has. */
static void charge(const struct login_found *found, enum usage_counter counter)
{
	usage_add(found->record ? found->record->subject.tenant_id : found->domain ? found->domain->tenant_id : 0, counter, 1);
}

static enum err refuse(const struct login_found *found)
{
	count(&auth.stats.refused);
	charge(found, USAGE_LOGINS_FAILED);
	return ERR_AUTH;
}

/* The proof was right. */
static enum err admit_as_of(const struct auth_request *request, const struct login_found *found, struct subject **subject_out)
{
	struct subject *s = &found->record->subject;
	if (s->suspended || !protocol_allowed(s, request->protocol)) {
		count(&auth.stats.denied);
		charge(found, USAGE_LOGINS_FAILED);
		return ERR_DENIED;
	}
	charge(found, USAGE_LOGINS);
	if (found->user.len) /* one user of a host's maildrop */
		*subject_out = &record_for_user(found->record, found->user)->subject;
	else
		*subject_out = subject_ref(s);
	return OK;
}

/* A hash takes its time, and its turn more: a suspension that was seen meanwhile has ended the sessions there were and must hold for this
 * one too.  A proof is worth nothing for a name that now means another account or has another password. */
static enum err admit(const struct auth_request *request, const struct login_found *found, struct subject **subject_out)
{
	if (found->changes == directory_changes())
		return admit_as_of(request, found, subject_out);
	const struct subject *then = &found->record->subject;
	struct login_found now;
	enum err e = directory_find(LOGIN_SESSION, request->login, &now);
	if (e == OK && (now.record->subject.account_id != then->account_id || now.record->subject.credential_version != then->credential_version))
		e = ERR_NOT_FOUND;
	e = e == OK ? admit_as_of(request, &now, subject_out) : e == ERR_NOT_FOUND ? refuse(found) : e;
	login_found_release(&now);
	return e;
}

static enum err prove_password(const struct auth_request *request, const struct login_found *found, struct slice password, struct subject **subject_out)
{
	struct verified_mac mac = { { 0, 0 } };
	bool known = found->record && found->record->passwords_count;
	if (known) {
		mac = verified_mac(auth.verified, found->record, password);
		if (verified_has(auth.verified, mac, clock_now_ms())) {
			count(&auth.stats.verified_hits);
			return admit(request, found, subject_out);
		}
	}
	bool sample = found->domain && found->domain->sample.len;
	struct check c = {
		.class = found->domain ? tenant_class(found->domain->tenant_id) : fiber_class(),
		.record = found->record,
		.dummy = sample ? found->domain->sample : slice_str(auth.dummy),
		.password = password,
		.hashes_min = hashes_min(request->login, found),
	};
	enum err e = hash(&c);
	if (e)
		return e;
	if (!c.right)
		return refuse(found);
	verified_put(auth.verified, mac, clock_now_ms());
	return admit(request, found, subject_out);
}

enum err auth_password(const struct auth_request *request, struct slice password, struct subject **subject_out)
{
	struct login_found found;
	*subject_out = NULL;
	enum err e = directory_find(LOGIN_SESSION, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND)
		e = prove_password(request, &found, password, subject_out);
	login_found_release(&found);
	return e;
}

/* ---- APOP ---- */

/* MD5(timestamp, secret) in hex, against what the client sent. */
static bool apop_right(struct slice timestamp, struct slice secret, struct slice digest)
{
	struct md5_ctx ctx;
	uint8_t sum[MD5_DIGEST_SIZE];
	char hex[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)], given[BASE16_ENCODE_LENGTH(MD5_DIGEST_SIZE)];
	if (digest.len != sizeof(given))
		return false;
	for (size_t i = 0; i < sizeof(given); i++)
		given[i] = digest.ptr[i] >= 'A' && digest.ptr[i] <= 'F' ? (char)(digest.ptr[i] + 32) : digest.ptr[i];
	md5_init(&ctx);
	md5_update(&ctx, timestamp.len, (const uint8_t *)timestamp.ptr);
	md5_update(&ctx, secret.len, (const uint8_t *)secret.ptr);
	md5_digest(&ctx, sizeof(sum), sum);
	base16_encode_update(hex, sizeof(sum), sum);
	explicit_bzero(&ctx, sizeof(ctx));
	return slice_eq_consttime(slice_of(hex, sizeof(hex)), slice_of(given, sizeof(given)));
}

enum err auth_apop(const struct auth_request *request, struct slice timestamp, struct slice digest, struct subject **subject_out)
{
	struct login_found found;
	struct slice secret, none = slice_str(auth.dummy);
	*subject_out = NULL;
	enum err e = directory_find(LOGIN_SESSION, request->login, &found);
	if (e == OK || e == ERR_NOT_FOUND) {
		struct record *r = found.record;
		bool right = false, any = false;
		for (uint32_t i = 0; r && r->subject.apop && i < r->passwords_count; i++)
			if (password_plain(r->passwords[i], &secret)) {
				any = true;
				right = apop_right(timestamp, secret, digest) || right;
			}
		if (!any) /* the same work for nobody */
			(void)apop_right(timestamp, none, digest);
		e = right ? admit(request, &found, subject_out) : refuse(&found);
	}
	login_found_release(&found);
	return e;
}

bool auth_apop_offered(void)
{
	return directory_apop_offered();
}

/* ---- life ---- */

enum err auth_open(const struct auth_config *config)
{
	uint8_t random[32];
	auth.config = *config;
	if (!auth.config.cache_bytes_max)
		auth.config.cache_bytes_max = VERIFIED_CACHE_BYTES;
	if (!auth.config.cache_ttl_s)
		auth.config.cache_ttl_s = VERIFIED_TTL_S;
	if (!auth.config.hash_queue_max)
		auth.config.hash_queue_max = HASH_QUEUE_MAX;
	if (!auth.config.hash_wait_ms_max)
		auth.config.hash_wait_ms_max = HASH_WAIT_MS;
	if (!auth.config.hash_parallel_max) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		auth.config.hash_parallel_max = cpus > 1 ? (uint32_t)cpus - 1 : 1;
	}
	random_bytes(random, sizeof(random));
	char phrase[BASE16_ENCODE_LENGTH(sizeof(random))];
	base16_encode_update(phrase, sizeof(random), random);
	enum err e = password_make(NULL, slice_of(phrase, sizeof(phrase)), auth.dummy);
	if (e) {
		log_event(LOG_ERROR, "auth.open", LOG_Z("why", "no password could be hashed with the default scheme"));
		return e;
	}
	pthread_mutex_init(&auth.lock, NULL);
	fair_init(&auth.waiting);
	memset(auth.from, 0, sizeof(auth.from));
	auth.running = 0;
	auth.stats = (struct auth_stats){ 0 };
	auth.verified = verified_open(auth.config.cache_bytes_max, auth.config.cache_ttl_s);
	return OK;
}

void auth_close(void)
{
	if (!auth.verified)
		return;
	ASSERT(fair_empty(&auth.waiting));
	verified_close(auth.verified);
	auth.verified = NULL;
	pthread_mutex_destroy(&auth.lock);
}

void auth_stats(struct auth_stats *stats_out)
{
	pthread_mutex_lock(&auth.lock);
	*stats_out = auth.stats;
	stats_out->hashing = auth.running;
	stats_out->waiting = auth.waiting.count;
	pthread_mutex_unlock(&auth.lock);
}
