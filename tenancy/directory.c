/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory.c - the face of the directory: a back end, the cache before it, and the poll that notices changes.
 *
 * One directory per process; its state is written before the shards start and after they ended, but for the two marked
 * atomic.  The poll is a timer of shard 0 that starts a fiber, which asks on an offload thread.
 */
#include "tenancy/directory.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "tenancy/app_used.h"
#include "tenancy/backend.h"
#include "tenancy/directory_cache.h"
#include "tenancy/directory_private.h"

static struct {
	const struct directory_backend *backend;
	void *self;
	struct directory_cache *cache;
	char default_domain[DOMAIN_BYTES_MAX];
	struct slice default_domain_name;
	struct directory_config config;
	bool apop_offered;   /* atomic, as the next two */
	uint32_t login_delay_max_s;
	int32_t expire_days_min;
	bool sdps_maildrops; /* atomic, as the next */
	bool tls_only;
	uint64_t changes;    /* atomic */
	uint64_t version;    /* the poll's own, as the next */
	uint64_t flush_ms;   /* when uses of application passwords are written again */
	/* shard 0 */
	struct timer timer;
	bool polling, stopping;
	struct waitq idle;
} directory;

/* ---- the cache's questions: an account's key is local@domain, split at the last '@' ---- */

static enum err load(void *arg, enum fact_kind kind, struct slice key, const void *fetched, struct fact **fact_out)
{
	(void)arg;
	enum err e = ERR_NOT_FOUND;
	if (kind == FACT_DOMAIN) {
		struct domain_facts *domain = NULL;
		e = directory.backend->domain(directory.self, key, &domain);
		*fact_out = domain ? &domain->fact : NULL;
	} else if (kind == FACT_HOST) {
		struct host_facts *host = NULL;
		e = directory.backend->host(directory.self, key, &host);
		*fact_out = host ? &host->fact : NULL;
	} else {
		struct record *record = NULL;
		size_t at = slice_rfind(key, '@');
		e = directory.backend->account(directory.self, slice_upto(key, at), slice_from(key, at + 1), fetched, &record);
		*fact_out = record ? &record->fact : NULL;
	}
	return e;
}

static void *fetch(void *arg, enum fact_kind kind, struct slice key, uint64_t deadline_ms)
{
	(void)arg;
	size_t at = slice_rfind(key, '@');
	ASSERT(kind == FACT_ACCOUNT);
	return directory_redis_fetch(slice_upto(key, at), slice_from(key, at + 1), deadline_ms);
}

static bool redis_wanted(void)
{
	for (unsigned i = 0; i < directory.config.source_count; i++)
		if (directory.config.sources[i].kind == DIRECTORY_REDIS)
			return true;
	return false;
}

static enum err ask_domain(void *arg, struct slice domain, struct domain_facts **facts_out)
{
	struct fact *fact = NULL;
	enum err e = directory_cache_get(arg, FACT_DOMAIN, domain, &fact);
	if (!e)
		*facts_out = CONTAINER_OF(fact, struct domain_facts, fact);
	return e;
}

static enum err ask_account(void *arg, struct slice local, struct slice domain, struct record **record_out)
{
	char key[LOGIN_BYTES_MAX + 1 + DOMAIN_BYTES_MAX];
	struct fact *fact = NULL;
	ASSERT(local.len <= LOGIN_BYTES_MAX && domain.len <= DOMAIN_BYTES_MAX);
	if (local.len > LOCAL_PART_BYTES_MAX) /* no account has such a name: nothing to ask, nothing to keep */
		return ERR_NOT_FOUND;
	memcpy(key, local.ptr, local.len);
	key[local.len] = '@';
	memcpy(key + local.len + 1, domain.ptr, domain.len);
	enum err e = directory_cache_get(arg, FACT_ACCOUNT, slice_of(key, local.len + 1 + domain.len), &fact);
	if (!e)
		*record_out = CONTAINER_OF(fact, struct record, fact);
	return e;
}

static enum err ask_host(void *arg, struct slice name, struct host_facts **facts_out)
{
	struct fact *fact = NULL;
	enum err e = directory_cache_get(arg, FACT_HOST, name, &fact);
	if (!e)
		*facts_out = CONTAINER_OF(fact, struct host_facts, fact);
	return e;
}

uint64_t directory_changes(void)
{
	return __atomic_load_n(&directory.changes, __ATOMIC_ACQUIRE);
}

enum err directory_find(enum login_purpose purpose, struct slice login, struct login_found *found_out)
{
	struct login_ask ask = {
		.domain = ask_domain,
		.account = ask_account,
		.host = ask_host,
		.arg = directory.cache,
		.default_domain = directory.default_domain_name,
	};
	uint64_t changes = directory_changes();
	enum err e = login_resolve(&ask, purpose, login, found_out);
	found_out->changes = changes;
	return e;
}

enum err directory_rcpt(struct slice address, struct subject **subject_out)
{
	struct login_found found;
	enum err e = directory_find(LOGIN_RCPT, address, &found);
	*subject_out = e ? NULL : subject_ref(&found.record->subject);
	login_found_release(&found);
	return e;
}

enum err directory_domain(struct slice domain, bool *served_out)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice name;
	struct domain_facts *facts = NULL;
	*served_out = false;
	enum err e = name_domain(domain, bytes, &name);
	if (!e)
		e = ask_domain(directory.cache, name, &facts);
	if (e)
		return e == ERR_NOT_FOUND ? OK : e;
	fact_unref(&facts->fact);
	*served_out = true;
	return OK;
}

enum err directory_domain_facts(struct slice domain, struct domain_facts **facts_out)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice name = directory.default_domain_name;
	enum err e = domain.len ? name_domain(domain, bytes, &name) : name.len ? OK : ERR_NOT_FOUND;
	return e ? e : ask_domain(directory.cache, name, facts_out);
}

/* What stands behind the last '@', or '%'; a host behind a '+'; else the default domain. */
static enum err domain_of_login(struct slice login, struct domain_facts **facts_out)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice name = directory.default_domain_name;
	struct host_facts *host = NULL;
	size_t at = slice_rfind(login, '@');
	if (at == SIZE_MAX)
		at = slice_rfind(login, '%');
	if (at == SIZE_MAX)
		at = slice_rfind(login, '+');
	if (at != SIZE_MAX && name_domain(slice_from(login, at + 1), bytes, &name))
		return ERR_NOT_FOUND;
	if (!name.len)
		return ERR_NOT_FOUND;
	enum err e = ask_domain(directory.cache, name, facts_out);
	if (e != ERR_NOT_FOUND || ask_host(directory.cache, name, &host))
		return e;
	e = ask_domain(directory.cache, host->domain, facts_out);
	fact_unref(&host->fact);
	return e;
}

bool directory_wants_tls(struct slice login)
{
	struct domain_facts *domain = NULL;
	if (!__atomic_load_n(&directory.tls_only, __ATOMIC_RELAXED) || login.len > LOGIN_BYTES_MAX || domain_of_login(login, &domain))
		return false;
	bool wants = !domain->plaintext_login;
	fact_unref(&domain->fact);
	return wants;
}

bool directory_apop_offered(struct slice host)
{
	bool offered = __atomic_load_n(&directory.apop_offered, __ATOMIC_RELAXED);
	struct domain_facts *domain;
	for (int labels = 0; offered && labels < HOST_LABELS_LOOK_MAX && slice_find(host, '.') != SIZE_MAX; labels++) {
		if (directory_domain_facts(host, &domain) == OK) {
			offered = domain->plain_passwords;
			fact_unref(&domain->fact);
			break;
		}
		host = slice_from(host, slice_find(host, '.') + 1);
	}
	return offered;
}

bool directory_has_maildrops(void)
{
	return __atomic_load_n(&directory.sdps_maildrops, __ATOMIC_RELAXED);
}

struct directory_extremes directory_extremes(void)
{
	return (struct directory_extremes){ __atomic_load_n(&directory.login_delay_max_s, __ATOMIC_RELAXED),
					    __atomic_load_n(&directory.expire_days_min, __ATOMIC_RELAXED) };
}

/* ---- changes ---- */

/* Blocking. */
static enum err look_for_changes(void)
{
	uint64_t version = 0;
	struct directory_overview overview;
	enum err e = directory.backend->changes(directory.self, &version, &overview);
	if (e || version == directory.version)
		return e;
	directory.version = version;
	__atomic_store_n(&directory.apop_offered, overview.apop_offered, __ATOMIC_RELAXED);
	__atomic_store_n(&directory.login_delay_max_s, overview.login_delay_max_s, __ATOMIC_RELAXED);
	__atomic_store_n(&directory.expire_days_min, overview.expire_days_min, __ATOMIC_RELAXED);
	__atomic_store_n(&directory.tls_only, overview.tls_only, __ATOMIC_RELAXED);
	__atomic_store_n(&directory.sdps_maildrops, overview.sdps_maildrops, __ATOMIC_RELAXED);
	/* In this order: who has seen the new count finds nothing older than the change. */
	directory_cache_drop(directory.cache);
	__atomic_add_fetch(&directory.changes, 1, __ATOMIC_RELEASE);
	return OK;
}

static void poll_job(void *arg)
{
	(void)arg;
	/* A failure is told by the back end; until it answers again what is cached serves. */
	(void)look_for_changes();
	uint64_t now_ms = clock_now_ms();
	if (now_ms >= directory.flush_ms) {
		directory.flush_ms = now_ms + APP_USED_FLUSH_MS;
		(void)app_used_flush(directory.config.data_path);
	}
}

static void poll_fiber(void *arg)
{
	(void)arg;
	/* Behind a queue of hashes the poll waits like any other job: a full pool costs freshness, not logins. */
	(void)offload_call(poll_job, NULL, directory.config.ask_ms_max);
	directory.polling = false;
	if (directory.stopping)
		waitq_wake_all(&directory.idle);
	else
		timer_set(&directory.timer, directory.config.poll_ms);
}

static void poll_due(struct timer *t)
{
	directory.polling = true;
	if (fiber_start("directory.poll", poll_fiber, NULL)) {
		directory.polling = false;
		timer_set(t, directory.config.poll_ms);
	}
}

enum err directory_start(void)
{
	enum err e = redis_wanted() ? directory_redis_start(directory.config.redis) : OK;
	if (e || shard_index() != 0)
		return e;
	directory.stopping = directory.polling = false;
	waitq_init(&directory.idle);
	timer_init(&directory.timer, poll_due);
	timer_set(&directory.timer, directory.config.poll_ms);
	return OK;
}

void directory_stop(void)
{
	if (redis_wanted())
		directory_redis_stop();
	if (shard_index() != 0)
		return;
	directory.stopping = true;
	timer_clear(&directory.timer);
	while (directory.polling)
		waitq_wait(&directory.idle, 0);
}

/* ---- removed accounts ---- */

struct purge {
	uint64_t id;
	bool done;
	enum err result;
};

static void purge_job(void *arg)
{
	struct purge *p = arg;
	if (!directory.backend->purge_next)
		p->result = ERR_NOT_FOUND;
	else if (p->done)
		p->result = directory.backend->purge_done(directory.self, p->id);
	else
		p->result = directory.backend->purge_next(directory.self, p->id, &p->id);
}

enum err directory_purge_next(uint64_t after, uint64_t *account_id_out)
{
	struct purge p = { .id = after };
	enum err e = offload_call(purge_job, &p, directory.config.ask_ms_max);
	*account_id_out = p.id;
	return e ? e : p.result;
}

enum err directory_purge_done(uint64_t account_id)
{
	struct purge p = { .id = account_id, .done = true };
	enum err e = offload_call(purge_job, &p, directory.config.ask_ms_max);
	return e ? e : p.result;
}

struct expire {
	uint64_t after;
	struct directory_expiry *out;
	size_t count;
	enum err result;
};

static void expire_job(void *arg)
{
	struct expire *x = arg;
	x->result = directory.backend->expire_next(directory.self, x->after, x->out, EXPIRE_LOOK_MAX, &x->count);
}

enum err directory_expire_next(uint64_t after, struct directory_expiry *out, size_t *count_out)
{
	struct expire x = { .after = after, .out = out };
	enum err e = offload_call(expire_job, &x, directory.config.ask_ms_max);
	*count_out = x.count;
	return e ? e : x.result;
}

/* ---- how accounts stand ---- */

struct standings {
	struct standing *of;
	size_t count;
	enum err result;
};

static void standings_job(void *arg)
{
	struct standings *s = arg;
	s->result = directory.backend->standings(directory.self, s->of, s->count);
}

enum err directory_standings(struct standing *standings, size_t count)
{
	struct standings s = { standings, count, OK };
	ASSERT(count <= DIRECTORY_STANDINGS_MAX);
	if (!directory.backend->standings)
		return ERR_NOT_FOUND;
	enum err e = offload_call(standings_job, &s, directory.config.ask_ms_max);
	return e ? e : s.result;
}

/* ---- life ---- */

enum err directory_open(const struct directory_config *config)
{
	ASSERT(!directory.backend);
	directory.config = *config;
	if (!directory.config.cache_bytes_max)
		directory.config.cache_bytes_max = DIRECTORY_CACHE_BYTES;
	if (!directory.config.poll_ms)
		directory.config.poll_ms = DIRECTORY_POLL_MS;
	if (!directory.config.ask_ms_max)
		directory.config.ask_ms_max = DIRECTORY_ASK_MS;
	directory.default_domain_name = slice_of(NULL, 0);
	if (config->default_domain && name_domain(slice_str(config->default_domain), directory.default_domain, &directory.default_domain_name)) {
		log_event(LOG_ERROR, "directory.default_domain", LOG_Z("value", config->default_domain), LOG_Z("why", "not a domain name"));
		return ERR_CONFIG;
	}
	enum err e = directory_sqlite_open(config->data_path, &directory.backend, &directory.self);
	if (e)
		return e;
	if (config->source_count)
		directory_chain_open(&directory.config, &directory.backend, &directory.self);
	directory.cache = directory_cache_open(directory.config.cache_bytes_max, directory.config.ask_ms_max, load, fetch, NULL);
	directory.version = directory.flush_ms = 0;
	e = look_for_changes();
	if (e)
		directory_close();
	return e;
}

void directory_close(void)
{
	if (!directory.backend)
		return;
	(void)app_used_flush(directory.config.data_path);
	directory_cache_close(directory.cache);
	directory.backend->close(directory.self);
	directory.cache = NULL;
	directory.backend = NULL;
	directory.self = NULL;
}

void directory_stats(struct directory_stats *stats_out)
{
	struct directory_cache_stats c = { 0 };
	if (directory.cache)
		directory_cache_stats(directory.cache, &c);
	*stats_out = (struct directory_stats){
		.hits = c.hits,
		.misses = c.misses,
		.joined = c.joined,
		.stale_served = c.stale_served,
		.failed = c.failed,
		.cache_bytes = c.bytes,
		.cache_entries = c.entries,
		.changes = __atomic_load_n(&directory.changes, __ATOMIC_RELAXED),
	};
}
