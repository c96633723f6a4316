/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_chain.c - several directories, asked in the order of the configuration.
 *
 * Tenants, domains, hosts and what is set for accounts are SQLite's in any case; the chain decides whose accounts and passwords count.
 * A name that a directory does not have goes on to the next.  One that cannot answer ends the look-up with its error: it may have
 * had the name, and another's answer could let in who has been locked out (DESIGN section 7: "wait", never "unknown").
 */
#include "tenancy/backend.h"

#include "core/base/limits.h"

#include <stdlib.h>

struct chained {
	const struct directory_source *source;
	struct directory_passwd *passwd; /* NULL: SQLite, or Redis, which fibers ask */
};

struct chain {
	const struct directory_backend *sqlite;
	void *self;
	unsigned count;
	struct chained directories[DIRECTORIES_MAX];
	uint64_t seen, version; /* the poll's own: what all of them said last, and a number that differs after each change */
};

static enum err from_redis(struct chain *c, const struct directory_source *source, struct slice local, struct slice domain,
			   const struct directory_fetched *fetched, struct record **record_out)
{
	if (!fetched)
		return ERR_AGAIN;
	if (fetched->err)
		return fetched->err;
	struct directory_guest guest = fetched->guest;
	guest.local = local;
	guest.domain = domain;
	return directory_sqlite_guest(c->self, source, &guest, record_out);
}

static enum err account(void *self, struct slice local, struct slice domain, const struct directory_fetched *fetched, struct record **record_out)
{
	struct chain *c = self;
	enum err e = ERR_NOT_FOUND;
	if (local.len == 0) /* the maildrop of an SDPS host: no other directory knows such */
		return c->sqlite->account(c->self, local, domain, NULL, record_out);
	for (unsigned i = 0; i < c->count && e == ERR_NOT_FOUND; i++) {
		const struct chained *d = &c->directories[i];
		if (d->passwd)
			e = directory_passwd_account(d->passwd, local, domain, record_out);
		else if (d->source->kind == DIRECTORY_REDIS)
			e = from_redis(c, d->source, local, domain, fetched, record_out);
		else
			e = c->sqlite->account(c->self, local, domain, NULL, record_out);
	}
	return e;
}

/* Invariant 11: where only a file has passwords, unknown names cost what one of the file costs. */
static enum err domain(void *self, struct slice name, struct domain_facts **facts_out)
{
	struct chain *c = self;
	char sample[STORED_PASSWORD_BYTES_MAX];
	enum err e = c->sqlite->domain(c->self, name, facts_out);
	for (unsigned i = 0; i < c->count && !e && !(*facts_out)->sample.len; i++)
		if (c->directories[i].passwd && directory_passwd_sample(c->directories[i].passwd, (*facts_out)->name, sample)) {
			struct domain_facts facts = **facts_out, *bare = *facts_out;
			facts.sample = slice_str(sample);
			*facts_out = domain_facts_new(&facts);
			fact_unref(&bare->fact);
		}
	explicit_bzero(sample, sizeof(sample));
	return e;
}

static enum err host(void *self, struct slice name, struct host_facts **facts_out)
{
	struct chain *c = self;
	return c->sqlite->host(c->self, name, facts_out);
}

/* By id, and ids are of SQLite's rows: guests have one, too. */
static enum err standings(void *self, struct standing *of, size_t count)
{
	struct chain *c = self;
	return c->sqlite->standings(c->self, of, count);
}

static enum err changes(void *self, uint64_t *version_out, struct directory_overview *overview_out)
{
	struct chain *c = self;
	uint64_t files = 0, version = 0;
	/* Files are looked at also while SQLite cannot be asked: they may well be read. */
	for (unsigned i = 0; i < c->count; i++)
		files += c->directories[i].passwd ? directory_passwd_look(c->directories[i].passwd) : 0;
	enum err e = c->sqlite->changes(c->self, &version, overview_out);
	if (e)
		return e;
	/* Reads only grow in number, so that equal sums are equal parts; both parts are far below 2^63. */
	uint64_t now = version * 0x9E3779B97F4A7C15u + files;
	if (now != c->seen || !c->version)
		c->version++;
	c->seen = now;
	*version_out = c->version;
	return OK;
}

static enum err purge_next(void *self, uint64_t after, uint64_t *account_id_out)
{
	struct chain *c = self;
	return c->sqlite->purge_next(c->self, after, account_id_out);
}

static enum err expire_next(void *self, uint64_t after, struct directory_expiry *out, size_t max, size_t *count_out)
{
	struct chain *c = self;
	return c->sqlite->expire_next(c->self, after, out, max, count_out);
}

static enum err purge_done(void *self, uint64_t account_id)
{
	struct chain *c = self;
	return c->sqlite->purge_done(c->self, account_id);
}

static void close_all(void *self)
{
	struct chain *c = self;
	for (unsigned i = 0; i < c->count; i++)
		directory_passwd_close(c->directories[i].passwd);
	c->sqlite->close(c->self);
	free(c);
}

static const struct directory_backend backend = {
	.name = "chain",
	.domain = domain,
	.account = account,
	.host = host,
	.standings = standings,
	.changes = changes,
	.expire_next = expire_next,
	.purge_next = purge_next,
	.purge_done = purge_done,
	.close = close_all,
};

void directory_chain_open(const struct directory_config *config, const struct directory_backend **backend_io, void **self_io)
{
	ASSERT(config->source_count <= DIRECTORIES_MAX);
	struct chain *c = xcalloc(1, sizeof(*c));
	c->sqlite = *backend_io;
	c->self = *self_io;
	for (unsigned i = 0; i < config->source_count; i++) {
		c->directories[i].source = &config->sources[i];
		if (config->sources[i].kind == DIRECTORY_PASSWD_FILE)
			c->directories[i].passwd = directory_passwd_open(&config->sources[i], c->self);
	}
	c->count = config->source_count;
	*backend_io = &backend;
	*self_io = c;
}
