/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - what a directory of any kind must answer: SQLite now; passwd-file, Redis, chains of them later.
 *
 * Private to this room.  Every call is blocking, runs on offload threads (several at once) or before the shards start, and
 * must bring its own time bound.  Names come folded (name.h).  OK gives a counted answer that the caller owns; ERR_NOT_FOUND
 * is an answer too (it is cached); everything else means "cannot be answered now" and is not.
 */
#ifndef PENFOLD_TENANCY_BACKEND_H
#define PENFOLD_TENANCY_BACKEND_H

#include "core/run/redis.h"
#include "tenancy/record.h"

/* What must be known without asking. */
struct directory_overview {
	bool apop_offered;          /* a tenant keeps reversible secrets */
	uint32_t login_delay_max_s; /* see directory_extremes */
	int32_t expire_days_min;
	bool tls_only;              /* some tenant forbids logins without TLS */
	bool sdps_maildrops;        /* there are hosts that are one maildrop, with two passwords each */
};

/* What such a directory knows of an account. */
struct directory_guest {
	struct slice local, domain; /* folded */
	struct slice stored;        /* empty = no login */
	bool has_quota_bytes, has_quota_messages;
	uint64_t quota_bytes, quota_messages;
};

/* What Redis said. */
struct directory_fetched {
	enum err err; /* OK, ERR_NOT_FOUND, else it cannot be known now */
	struct directory_guest guest; /* but for the names */
	char stored[STORED_PASSWORD_BYTES_MAX];
};

struct directory_backend {
	const char *name;
	enum err (*domain)(void *self, struct slice domain, struct domain_facts **facts_out);
	/* local is empty for an SDPS host's maildrop; domain is canonical (no alias). ERR_AGAIN: ask Redis first, then again with its answer. */
	enum err (*account)(void *self, struct slice local, struct slice domain, const struct directory_fetched *fetched, struct record **record_out);
	enum err (*host)(void *self, struct slice host, struct host_facts **facts_out);
	/* Fills in how each account stands, found by its id; NULL where ids cannot be asked for. */
	enum err (*standings)(void *self, struct standing *standings, size_t count);
	/* A number that differs after every change by anybody; never called from two threads at once. The overview is fresh whenever it differs
	 * from the one before. */
	enum err (*changes)(void *self, uint64_t *version_out, struct directory_overview *overview_out);
	/* See directory_expire_next. */
	enum err (*expire_next)(void *self, uint64_t after, struct directory_expiry *out, size_t max, size_t *count_out);
	/* Removed accounts whose mail is to go; NULL where there is no such list. */
	enum err (*purge_next)(void *self, uint64_t after, uint64_t *account_id_out);
	enum err (*purge_done)(void *self, uint64_t account_id);
	void (*close)(void *self);
};

/* ---- what other directories than SQLite have in it ---- */

/* Its record: id, tenant and settings of its row in SQLite (made if missing), the password of the guest. ERR_NOT_FOUND: the domain is another tenant's. */
enum err directory_sqlite_guest(void *sqlite, const struct directory_source *source, const struct directory_guest *guest, struct record **record_out);
/* Makes the rows of many at once. *refused_out: how many are in domains that are not this tenant's. why_out: a line when it is not OK. */
enum err directory_sqlite_adopt(void *sqlite, const struct directory_source *source, const struct directory_guest *guests, size_t count,
				uint64_t *refused_out, char why_out[256]);

struct directory_passwd;
/* directory_passwd.c: reads the file at once; when that fails it says so in the log, and answers ERR_TEMP until it succeeds. */
struct directory_passwd *directory_passwd_open(const struct directory_source *source, void *sqlite);
void directory_passwd_close(struct directory_passwd *p);
/* Looks, at most every PASSWD_FILE_LOOK_MS, whether the file has changed, and reads it. Never from two threads at once. Returns how often it has been read. */
uint64_t directory_passwd_look(struct directory_passwd *p);
enum err directory_passwd_account(struct directory_passwd *p, struct slice local, struct slice domain, struct record **record_out);
/* A stored password of somebody in this domain, copied; false: none. */
bool directory_passwd_sample(struct directory_passwd *p, struct slice domain, char out[STORED_PASSWORD_BYTES_MAX]);

/* directory_redis.c: a link on each shard. Start and stop on each shard's fiber. */
enum err directory_redis_start(const struct redis_settings *settings);
void directory_redis_stop(void);
/* Later, on a shard. For free(). */
struct directory_fetched *directory_redis_fetch(struct slice local, struct slice domain, uint64_t deadline_ms);
/* The key of a name; for tests. */
#define DIRECTORY_REDIS_KEY_BYTES_MAX (8 + 3 * (LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX))
struct slice directory_redis_key(struct slice local, struct slice domain, char out[DIRECTORY_REDIS_KEY_BYTES_MAX]);

/* directory_chain.c: takes over the SQLite backend; closing it closes that. */
void directory_chain_open(const struct directory_config *config, const struct directory_backend **backend_io, void **self_io);

/* directory_sqlite.c: DATA/directory.db, made or brought up to date if needed. One line in the log when it fails. */
enum err directory_sqlite_open(const char *data_path, const struct directory_backend **backend_out, void **self_out);

#endif
