/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_sqlite.c - the embedded directory: look-ups in DATA/directory.db.
 *
 * Calls come on offload threads, several at once; each takes a connection of a small pool for the time of its query, so a
 * connection is used by one thread at a time and there are as many as offload threads.  A query is a few index steps; it is
 * cut off after DIRECTORY_STEPS_MAX, and waits at most DIRECTORY_BUSY_MS for another process's lock.
 *
 * If the file is replaced (a restored backup, say), its inode tells: all connections are opened anew.
 */
#include "tenancy/backend.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "tenancy/schema.h"
#include "tenancy/setting.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum statement { ST_DOMAIN, ST_ACCOUNT, ST_PASSWORDS, ST_VERSION, ST_OVERVIEW, ST_HOST, ST_PURGE, ST_EXPIRE, ST_STANDING, ST_COUNT };

static const char *const sql[ST_COUNT] = {
	[ST_DOMAIN] = "SELECT coalesce(p.name, d.name), t.id, t.subaddress_separator,"
		      " (SELECT c.stored FROM accounts a JOIN credentials c ON c.account_id = a.id"
		      "  WHERE a.domain_id = coalesce(p.id, d.id) AND c.app = 0 ORDER BY a.local_part LIMIT 1), coalesce(h.mode, 0),"
		      " t.guess_delay_max_s, t.trusted_networks, t.plaintext_login, t.plain_passwords"
		      " FROM domains d LEFT JOIN domains p ON p.id = d.alias_of JOIN tenants t ON t.id = coalesce(p.tenant_id, d.tenant_id)"
		      " LEFT JOIN sdps_hosts h ON h.domain_id = coalesce(p.id, d.id)"
		      " WHERE d.name = ?1",
	[ST_ACCOUNT] = "SELECT a.id, a.credential_version, t.id, t.name,"
		       " max(coalesce(a.suspended, 0), coalesce(t.suspended, 0)),"
		       " coalesce(a.pop3, t.pop3), coalesce(a.imap, t.imap), coalesce(a.lmtp, t.lmtp),"
		       " coalesce(a.quota_bytes, ?5, t.quota_bytes), coalesce(a.quota_messages, ?6, t.quota_messages),"
		       " t.over_quota, t.login_delay_s, t.expire_days, t.subaddress_separator, t.plain_passwords,"
		       " coalesce(h.mode, 0), t.xtnd, coalesce(a.master, 0), t.account_sessions_max, t.sessions_max,"
		       " t.deletion, coalesce(a.junk, t.junk)"
		       " FROM domains d JOIN tenants t ON t.id = d.tenant_id JOIN accounts a ON a.domain_id = d.id"
		       " LEFT JOIN sdps_hosts h ON h.domain_id = d.id"
		       " WHERE d.name = ?1 AND a.local_part = ?2 AND d.alias_of IS NULL"
		       /* another directory's names are asked for by that directory only, ?3, and of its tenant only, ?4 */
		       " AND (a.source IS NULL OR ?3) AND (?4 IS NULL OR t.name = ?4)",
	[ST_PASSWORDS] = "SELECT stored, id, app, coalesce(protocols, 7) FROM credentials WHERE account_id = ?1 ORDER BY app DESC, id LIMIT ?2",
	[ST_VERSION] = "PRAGMA data_version",
	[ST_OVERVIEW] = "SELECT coalesce(max(plain_passwords), 0), coalesce(max(login_delay_s), 0),"
			" coalesce(min(expire_days) FILTER (WHERE expire_days >= 0), -1),"
			" EXISTS (SELECT 1 FROM sdps_hosts WHERE mode = 2), coalesce(min(plaintext_login), 1) = 0 FROM tenants",
	/* by its short name, which has no dot, or its full one, which has */
	[ST_HOST] = ("SELECT d.name, h.mode FROM sdps_hosts h JOIN domains d ON d.id = h.domain_id WHERE h.short_name = ?1"
		    " UNION ALL SELECT d.name, h.mode FROM domains d JOIN sdps_hosts h ON h.domain_id = d.id WHERE d.name = ?1 LIMIT 1"),
	[ST_PURGE] = "SELECT min(id) FROM removed_accounts WHERE purge = 1 AND id > ?1",
	/* everybody, that a question costs the same wherever the few with a retention lie */
	[ST_EXPIRE] = "SELECT a.id, coalesce(t.expire_days, -1) FROM accounts a JOIN domains d ON d.id = a.domain_id JOIN tenants t ON t.id = d.tenant_id"
		      " WHERE a.id > ?1 ORDER BY a.id LIMIT ?2",
	[ST_STANDING] = "SELECT a.credential_version, max(coalesce(a.suspended, 0), coalesce(t.suspended, 0)),"
			" coalesce(a.pop3, t.pop3), coalesce(a.imap, t.imap), t.end_on_password_change"
			" FROM accounts a JOIN domains d ON d.id = a.domain_id JOIN tenants t ON t.id = d.tenant_id WHERE a.id = ?1",
};

struct conn {
	struct conn *next;
	sqlite3 *db;
	uint32_t epoch; /* of the file that it has open */
	unsigned ticks; /* of DIRECTORY_STEPS_MAX, in this query */
	sqlite3_stmt *statements[ST_COUNT];
};

struct sqlite_directory {
	char *data_path;
	pthread_mutex_t lock; /* of what follows */
	struct conn *free;
	uint32_t epoch;
	bool failing;         /* told once */
	/* only the one who asks for changes */
	struct conn *watcher;
	dev_t dev;
	ino_t ino;
	struct directory_overview overview;
	uint64_t overview_version;
};

static void conn_close(struct conn *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < ST_COUNT; i++)
		sqlite3_finalize(c->statements[i]);
	sqlite3_close(c->db);
	free(c);
}

/* SQLite counts a prepared statement's steps over all of its runs, so that one tick may fall into any query: the second tells. */
static int too_long(void *arg)
{
	struct conn *c = arg;
	return ++c->ticks > 1;
}

static struct conn *conn_open(struct sqlite_directory *d, uint32_t epoch, char why[SCHEMA_WHY_BYTES])
{
	struct conn *c = xcalloc(1, sizeof(*c));
	c->epoch = epoch;
	if (schema_open_reader(d->data_path, &c->db, why)) {
		conn_close(c);
		return NULL;
	}
	sqlite3_progress_handler(c->db, DIRECTORY_STEPS_MAX, too_long, c);
	for (size_t i = 0; i < ST_COUNT; i++) {
		c->statements[i] = schema_prepare(c->db, sql[i]);
		if (!c->statements[i]) {
			snprintf(why, SCHEMA_WHY_BYTES, "directory.db: %s", sqlite3_errmsg(c->db));
			conn_close(c);
			return NULL;
		}
	}
	return c;
}

/* Says once that the directory fails, and once that it is back. */
static void tell(struct sqlite_directory *d, bool failing, const char *why)
{
	pthread_mutex_lock(&d->lock);
	bool news = d->failing != failing;
	d->failing = failing;
	pthread_mutex_unlock(&d->lock);
	if (news && failing)
		log_event(LOG_ERROR, "directory.failed", LOG_Z("why", why), LOG_Z("effect", "what is cached serves on"));
	else if (news)
		log_event(LOG_INFO, "directory.back");
}

static struct conn *conn_take(struct sqlite_directory *d)
{
	char why[SCHEMA_WHY_BYTES];
	pthread_mutex_lock(&d->lock);
	uint32_t epoch = d->epoch;
	struct conn *c = d->free;
	if (c)
		d->free = c->next;
	pthread_mutex_unlock(&d->lock);
	if (c && c->epoch == epoch) {
		c->ticks = 0;
		return c;
	}
	conn_close(c);
	c = conn_open(d, epoch, why);
	if (!c)
		tell(d, true, why);
	return c;
}

/* Gives the connection back; a failed one is closed, the next query tries a new one. */
static enum err conn_give(struct sqlite_directory *d, struct conn *c, enum err result)
{
	bool answered = result == OK || result == ERR_NOT_FOUND;
	tell(d, !answered, answered ? "" : sqlite3_errmsg(c->db));
	if (!answered) {
		conn_close(c);
		return ERR_TEMP;
	}
	pthread_mutex_lock(&d->lock);
	c->next = d->free;
	d->free = c;
	pthread_mutex_unlock(&d->lock);
	return result;
}

/* A row: OK. None: ERR_NOT_FOUND. */
static enum err first_row(sqlite3_stmt *st)
{
	int r = sqlite3_step(st);
	return r == SQLITE_ROW ? OK : r == SQLITE_DONE ? ERR_NOT_FOUND : ERR_TEMP;
}

/* The statement reset, so that its read transaction ends; what was bound is forgotten. */
static void done(sqlite3_stmt *st)
{
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
}

static int64_t number(sqlite3_stmt *st, int column, enum setting_id id)
{
	return sqlite3_column_type(st, column) == SQLITE_NULL ? setting_get(id)->number : sqlite3_column_int64(st, column);
}

/* The numbers in the table are those of the enum. */
static enum sdps_mode mode_of(sqlite3_stmt *st, int column)
{
	static_assert_c(SDPS_ACCOUNTS == 1 && SDPS_MAILDROP == 2, "as the schema has them");
	int mode = sqlite3_column_int(st, column);
	return mode == SDPS_ACCOUNTS || mode == SDPS_MAILDROP ? (enum sdps_mode)mode : SDPS_NONE;
}

/* ---- questions ---- */

static enum err ask_domain(void *self, struct slice domain, struct domain_facts **facts_out)
{
	struct sqlite_directory *d = self;
	struct conn *c = conn_take(d);
	if (!c)
		return ERR_TEMP;
	sqlite3_stmt *st = c->statements[ST_DOMAIN];
	schema_bind(st, 1, domain);
	enum err e = first_row(st);
	if (!e)
		*facts_out = domain_facts_new(&(struct domain_facts){
			.name = schema_text(st, 0),
			.tenant_id = (uint64_t)sqlite3_column_int64(st, 1),
			.subaddress_separator = (char)number(st, 2, SET_SUBADDRESS_SEPARATOR),
			.sample = schema_text(st, 3),
			.sdps = mode_of(st, 4),
			.has_guess_delay = sqlite3_column_type(st, 5) != SQLITE_NULL,
			.guess_delay_max_s = (uint32_t)sqlite3_column_int64(st, 5),
			.trusted_networks = schema_text(st, 6),
			.plaintext_login = number(st, 7, SET_PLAINTEXT_LOGIN) != 0,
			.plain_passwords = number(st, 8, SET_PLAIN_PASSWORDS) != 0,
		});
	done(st);
	return conn_give(d, c, e);
}

static struct subject subject_of_row(sqlite3_stmt *st)
{
	return (struct subject){
		.account_id = (uint64_t)sqlite3_column_int64(st, 0),
		.credential_version = (uint64_t)sqlite3_column_int64(st, 1),
		.tenant_id = (uint64_t)sqlite3_column_int64(st, 2),
		.tenant = schema_text(st, 3),
		.suspended = sqlite3_column_int64(st, 4) != 0,
		.pop3 = number(st, 5, SET_POP3) != 0,
		.imap = number(st, 6, SET_IMAP) != 0,
		.lmtp = number(st, 7, SET_LMTP) != 0,
		.quota_bytes = (uint64_t)number(st, 8, SET_QUOTA_BYTES),
		.quota_messages = (uint64_t)number(st, 9, SET_QUOTA_MESSAGES),
		.over_quota = number(st, 10, SET_OVER_QUOTA) ? OVER_QUOTA_PERMANENT : OVER_QUOTA_TEMPORARY,
		.login_delay_s = (uint32_t)number(st, 11, SET_LOGIN_DELAY_S),
		.expire_days = (int32_t)number(st, 12, SET_EXPIRE_DAYS),
		.subaddress_separator = (char)number(st, 13, SET_SUBADDRESS_SEPARATOR),
		.apop = number(st, 14, SET_PLAIN_PASSWORDS) != 0,
		.sdps = mode_of(st, 15),
		.xtnd = (uint8_t)number(st, 16, SET_XTND),
		.sessions_max = (uint32_t)number(st, 18, SET_ACCOUNT_SESSIONS_MAX),
		.tenant_sessions_max = (uint32_t)number(st, 19, SET_SESSIONS_MAX),
		.delete_to_trash = number(st, 20, SET_DELETION) != 0,
		.junk = number(st, 21, SET_JUNK) != 0,
	};
}

/* The stored passwords, copied into one buffer that lives until the record is made. */
static enum err passwords(struct conn *c, uint64_t account_id, struct buf *text, struct slice out[CREDENTIALS_PER_ACCOUNT_MAX],
			  struct credential credentials_out[CREDENTIALS_PER_ACCOUNT_MAX], uint32_t *count_out)
{
	sqlite3_stmt *st = c->statements[ST_PASSWORDS];
	size_t starts[CREDENTIALS_PER_ACCOUNT_MAX];
	uint32_t n = 0;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)account_id);
	sqlite3_bind_int(st, 2, CREDENTIALS_PER_ACCOUNT_MAX);
	int r;
	while ((r = sqlite3_step(st)) == SQLITE_ROW && n < CREDENTIALS_PER_ACCOUNT_MAX) {
		struct slice stored = schema_text(st, 0);
		starts[n] = text->len;
		if (!buf_put(text, stored.ptr, stored.len)) /* longer than the schema allows: as if there were none */
			break;
		credentials_out[n] = (struct credential){ .id = (uint64_t)sqlite3_column_int64(st, 1),
							  .app = sqlite3_column_int(st, 2) != 0,
							  .protocols = (uint8_t)sqlite3_column_int(st, 3) };
		out[n++].len = stored.len;
	}
	done(st);
	for (uint32_t i = 0; i < n; i++) /* only now: the buffer moves while it grows */
		out[i].ptr = text->ptr + starts[i];
	*count_out = n;
	return r == SQLITE_DONE || r == SQLITE_ROW ? OK : ERR_TEMP;
}

static void bind_guest(sqlite3_stmt *st, const struct directory_source *source, const struct directory_guest *guest)
{
	sqlite3_bind_int(st, 3, 1);
	schema_bind(st, 4, slice_str(source->tenant));
	if (guest->has_quota_bytes)
		sqlite3_bind_int64(st, 5, (sqlite3_int64)guest->quota_bytes);
	if (guest->has_quota_messages)
		sqlite3_bind_int64(st, 6, (sqlite3_int64)guest->quota_messages);
}

/* Of another directory's account the password is that directory's; application passwords are here for all. Without one there is no login. */
static void guests_password(const struct directory_guest *guest, struct slice stored[], struct credential credentials[], uint32_t *count_io)
{
	uint32_t apps = 0;
	for (uint32_t i = 0; i < *count_io && guest->stored.len; i++)
		if (credentials[i].app && apps + 1 < CREDENTIALS_PER_ACCOUNT_MAX) {
			stored[apps] = stored[i];
			credentials[apps++] = credentials[i];
		}
	*count_io = apps;
	if (!guest->stored.len)
		return;
	stored[apps] = guest->stored;
	credentials[apps] = (struct credential){ .protocols = CREDENTIAL_ALL_PROTOCOLS };
	*count_io = apps + 1;
}

static enum err find_account(struct sqlite_directory *d, struct slice local, struct slice domain, const struct directory_source *source,
			     const struct directory_guest *guest, struct record **record_out)
{
	struct conn *c = conn_take(d);
	if (!c)
		return ERR_TEMP;
	sqlite3_stmt *st = c->statements[ST_ACCOUNT];
	schema_bind(st, 1, domain);
	schema_bind(st, 2, local);
	if (guest)
		bind_guest(st, source, guest);
	enum err e = first_row(st);
	if (!e) {
		char name[NAME_BYTES_MAX + LOGIN_BYTES_MAX];
		struct slice stored[CREDENTIALS_PER_ACCOUNT_MAX];
		struct credential credentials[CREDENTIALS_PER_ACCOUNT_MAX];
		uint32_t count = 0;
		struct buf text;
		buf_init(&text, CREDENTIALS_PER_ACCOUNT_MAX * STORED_PASSWORD_BYTES_MAX);
		struct subject subject = subject_of_row(st);
		int master = sqlite3_column_int(st, 17);
		/* While the row is held its read transaction is: the passwords are those of the same moment. */
		e = passwords(c, subject.account_id, &text, stored, credentials, &count);
		if (guest)
			guests_password(guest, stored, credentials, &count);
		memcpy(name, local.ptr, local.len);
		name[local.len] = '@';
		memcpy(name + local.len + 1, domain.ptr, domain.len);
		subject.name = slice_of(name, local.len + 1 + domain.len);
		subject.maildrop = local.len == 0;
		if (!e)
			*record_out = record_new_with(&subject, (enum master)master, stored, credentials, count);
		if (text.ptr)
			explicit_bzero(text.ptr, text.len);
		buf_release(&text);
	}
	done(st);
	return conn_give(d, c, e);
}

static enum err ask_account(void *self, struct slice local, struct slice domain, const struct directory_fetched *fetched, struct record **record_out)
{
	(void)fetched;
	return find_account(self, local, domain, NULL, NULL, record_out);
}

enum err directory_sqlite_guest(void *sqlite, const struct directory_source *source, const struct directory_guest *guest, struct record **record_out)
{
	uint64_t refused = 0;
	char why[SCHEMA_WHY_BYTES];
	enum err e = find_account(sqlite, guest->local, guest->domain, source, guest, record_out);
	if (e != ERR_NOT_FOUND) /* else it is seen for the first time, or was removed by hand */
		return e;
	e = directory_sqlite_adopt(sqlite, source, guest, 1, &refused, why);
	if (e)
		return ERR_TEMP;
	return refused ? ERR_NOT_FOUND : find_account(sqlite, guest->local, guest->domain, source, guest, record_out);
}

static enum err ask_host(void *self, struct slice host, struct host_facts **facts_out)
{
	struct sqlite_directory *d = self;
	struct conn *c = conn_take(d);
	if (!c)
		return ERR_TEMP;
	sqlite3_stmt *st = c->statements[ST_HOST];
	schema_bind(st, 1, host);
	enum err e = first_row(st);
	if (!e)
		*facts_out = host_facts_new(&(struct host_facts){ .domain = schema_text(st, 0), .sdps = mode_of(st, 1) });
	done(st);
	return conn_give(d, c, e);
}

/* ---- rows for other directories' accounts ---- */

enum { ADOPT_TENANT, ADOPT_DOMAIN, ADOPT_NEW_DOMAIN, ADOPT_ACCOUNT, ADOPT_COUNT };
static const char *const adopt_sql[ADOPT_COUNT] = {
	[ADOPT_TENANT] = "SELECT id FROM tenants WHERE name = ?1",
	[ADOPT_DOMAIN] = "SELECT id FROM domains WHERE name = ?1 AND tenant_id = ?2 AND alias_of IS NULL",
	[ADOPT_NEW_DOMAIN] = "INSERT INTO domains (name, tenant_id) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
	[ADOPT_ACCOUNT] = "INSERT INTO accounts (domain_id, local_part, source) VALUES (?1, ?2, ?3) ON CONFLICT (domain_id, local_part) DO NOTHING",
};

/* The domain's id, made if nobody has it; 0: it is another's. */
static enum err adopt_domain(sqlite3_stmt *const st[ADOPT_COUNT], struct slice domain, int64_t tenant_id, int64_t *id_out)
{
	enum err e = OK;
	*id_out = 0;
	for (int tries = 0; tries < 2 && !e; tries++) {
		schema_bind(st[ADOPT_DOMAIN], 1, domain);
		sqlite3_bind_int64(st[ADOPT_DOMAIN], 2, tenant_id);
		e = first_row(st[ADOPT_DOMAIN]);
		*id_out = e ? 0 : sqlite3_column_int64(st[ADOPT_DOMAIN], 0);
		done(st[ADOPT_DOMAIN]);
		if (e != ERR_NOT_FOUND || tries)
			return e == ERR_NOT_FOUND ? OK : e;
		schema_bind(st[ADOPT_NEW_DOMAIN], 1, domain);
		sqlite3_bind_int64(st[ADOPT_NEW_DOMAIN], 2, tenant_id);
		e = schema_err(sqlite3_step(st[ADOPT_NEW_DOMAIN]));
		done(st[ADOPT_NEW_DOMAIN]);
	}
	return e;
}

/* Guests come ordered by domain, so that each is asked for once. */
static enum err adopt_all(sqlite3_stmt *const st[ADOPT_COUNT], const struct directory_source *source, const struct directory_guest *guests, size_t count,
			  uint64_t *refused_out)
{
	struct slice domain = slice_of("", 0);
	int64_t domain_id = 0, tenant_id;
	schema_bind(st[ADOPT_TENANT], 1, slice_str(source->tenant));
	enum err e = first_row(st[ADOPT_TENANT]);
	tenant_id = e ? 0 : sqlite3_column_int64(st[ADOPT_TENANT], 0);
	done(st[ADOPT_TENANT]);
	for (size_t i = 0; i < count && !e; i++) {
		if (!slice_eq(domain, guests[i].domain))
			e = adopt_domain(st, domain = guests[i].domain, tenant_id, &domain_id);
		*refused_out += !e && !domain_id;
		if (e || !domain_id)
			continue;
		sqlite3_bind_int64(st[ADOPT_ACCOUNT], 1, domain_id);
		schema_bind(st[ADOPT_ACCOUNT], 2, guests[i].local);
		schema_bind(st[ADOPT_ACCOUNT], 3, slice_str(source->path ? source->path : "redis"));
		e = schema_err(sqlite3_step(st[ADOPT_ACCOUNT]));
		done(st[ADOPT_ACCOUNT]);
	}
	return e;
}

enum err directory_sqlite_adopt(void *sqlite, const struct directory_source *source, const struct directory_guest *guests, size_t count,
				uint64_t *refused_out, char why_out[SCHEMA_WHY_BYTES])
{
	struct sqlite_directory *d = sqlite;
	sqlite3_stmt *st[ADOPT_COUNT] = { NULL };
	sqlite3 *db;
	*refused_out = 0;
	enum err e = schema_open(d->data_path, &db, why_out);
	if (e)
		return e;
	for (size_t i = 0; i < ADOPT_COUNT && !e; i++) {
		st[i] = schema_prepare(db, adopt_sql[i]);
		e = st[i] ? OK : ERR_IO;
	}
	if (!e)
		e = schema_err(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
	if (!e)
		e = adopt_all(st, source, guests, count, refused_out);
	if (!e)
		e = schema_err(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL));
	if (e)
		snprintf(why_out, SCHEMA_WHY_BYTES, "directory.db: %s", e == ERR_NOT_FOUND ? "there is no such tenant" : sqlite3_errmsg(db));
	for (size_t i = 0; i < ADOPT_COUNT; i++)
		sqlite3_finalize(st[i]);
	sqlite3_close(db);
	return e;
}

/* ---- how accounts stand ---- */

static enum err standing(struct conn *c, struct standing *s)
{
	sqlite3_stmt *st = c->statements[ST_STANDING];
	c->ticks = 0; /* of each query */
	sqlite3_bind_int64(st, 1, (sqlite3_int64)s->account_id);
	enum err e = first_row(st);
	s->found = e == OK;
	if (s->found) {
		s->credential_version = (uint64_t)sqlite3_column_int64(st, 0);
		s->suspended = sqlite3_column_int64(st, 1) != 0;
		s->pop3 = number(st, 2, SET_POP3) != 0;
		s->imap = number(st, 3, SET_IMAP) != 0;
		s->end_on_password_change = number(st, 4, SET_END_ON_PASSWORD_CHANGE) != 0;
	}
	done(st);
	return e == ERR_NOT_FOUND ? OK : e;
}

static enum err ask_standings(void *self, struct standing *standings, size_t count)
{
	struct sqlite_directory *d = self;
	struct conn *c = conn_take(d);
	if (!c)
		return ERR_TEMP;
	enum err e = OK;
	for (size_t i = 0; i < count && !e; i++)
		e = standing(c, &standings[i]);
	return conn_give(d, c, e);
}

/* ---- removed accounts ---- */

static enum err purge_next(void *self, uint64_t after, uint64_t *account_id_out)
{
	struct sqlite_directory *d = self;
	struct conn *c = conn_take(d);
	if (!c)
		return ERR_TEMP;
	sqlite3_stmt *st = c->statements[ST_PURGE];
	sqlite3_bind_int64(st, 1, (sqlite3_int64)after);
	enum err e = first_row(st);
	if (!e && sqlite3_column_type(st, 0) == SQLITE_NULL)
		e = ERR_NOT_FOUND;
	if (!e)
		*account_id_out = (uint64_t)sqlite3_column_int64(st, 0);
	done(st);
	return conn_give(d, c, e);
}

static enum err expire_next(void *self, uint64_t after, struct directory_expiry *out, size_t max, size_t *count_out)
{
	struct sqlite_directory *d = self;
	struct conn *c = conn_take(d);
	*count_out = 0;
	if (!c)
		return ERR_TEMP;
	sqlite3_stmt *st = c->statements[ST_EXPIRE];
	sqlite3_bind_int64(st, 1, (sqlite3_int64)after);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)max);
	enum err e = ERR_NOT_FOUND;
	while (*count_out < max && (e = first_row(st)) == OK)
		out[(*count_out)++] = (struct directory_expiry){ (uint64_t)sqlite3_column_int64(st, 0), (int32_t)sqlite3_column_int64(st, 1) };
	if (*count_out == max || e == ERR_NOT_FOUND)
		e = *count_out ? OK : ERR_NOT_FOUND;
	done(st);
	return conn_give(d, c, e);
}

/* Rare: a connection of its own, since the pool's only read. */
static enum err purge_done(void *self, uint64_t account_id)
{
	struct sqlite_directory *d = self;
	char why[SCHEMA_WHY_BYTES];
	sqlite3 *db;
	enum err e = schema_open(d->data_path, &db, why);
	if (e)
		return ERR_TEMP;
	sqlite3_stmt *st = schema_prepare(db, "DELETE FROM removed_accounts WHERE id = ?1 AND purge = 1");
	if (st)
		sqlite3_bind_int64(st, 1, (sqlite3_int64)account_id);
	e = st && sqlite3_step(st) == SQLITE_DONE ? OK : ERR_TEMP;
	sqlite3_finalize(st);
	sqlite3_close(db);
	return e;
}

/* ---- changes ---- */

/* Opens the watcher again when the name leads to another file. */
static enum err watch(struct sqlite_directory *d)
{
	char path[4096], why[SCHEMA_WHY_BYTES];
	struct stat st;
	snprintf(path, sizeof(path), "%s/directory.db", d->data_path);
	if (stat(path, &st)) {
		tell(d, true, "directory.db is gone");
		return ERR_TEMP;
	}
	if (d->watcher && st.st_dev == d->dev && st.st_ino == d->ino)
		return OK;
	conn_close(d->watcher);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	pthread_mutex_lock(&d->lock);
	uint32_t epoch = ++d->epoch;
	pthread_mutex_unlock(&d->lock);
	d->watcher = conn_open(d, epoch, why);
	if (!d->watcher)
		tell(d, true, why);
	return d->watcher ? OK : ERR_TEMP;
}

static enum err changes(void *self, uint64_t *version_out, struct directory_overview *overview_out)
{
	struct sqlite_directory *d = self;
	enum err e = watch(d);
	if (e)
		return e;
	struct conn *c = d->watcher;
	c->ticks = 0;
	sqlite3_stmt *st = c->statements[ST_VERSION];
	e = first_row(st);
	uint64_t version = e ? 0 : (uint64_t)c->epoch << 32 | (uint32_t)sqlite3_column_int64(st, 0);
	done(st);
	if (!e && version != d->overview_version) {
		st = c->statements[ST_OVERVIEW];
		e = first_row(st);
		if (!e)
			d->overview = (struct directory_overview){ sqlite3_column_int(st, 0) != 0, (uint32_t)sqlite3_column_int(st, 1),
								   sqlite3_column_int(st, 2), sqlite3_column_int(st, 4) != 0, sqlite3_column_int(st, 3) != 0 };
		done(st);
	}
	if (e) {
		tell(d, true, sqlite3_errmsg(c->db));
		conn_close(c);
		d->watcher = NULL;
		return ERR_TEMP;
	}
	d->overview_version = version;
	*version_out = version;
	*overview_out = d->overview;
	return OK;
}

static void close_all(void *self)
{
	struct sqlite_directory *d = self;
	if (!d)
		return;
	while (d->free) {
		struct conn *c = d->free;
		d->free = c->next;
		conn_close(c);
	}
	conn_close(d->watcher);
	pthread_mutex_destroy(&d->lock);
	free(d->data_path);
	free(d);
}

static const struct directory_backend backend = {
	.name = "sqlite",
	.domain = ask_domain,
	.account = ask_account,
	.host = ask_host,
	.standings = ask_standings,
	.changes = changes,
	.expire_next = expire_next,
	.purge_next = purge_next,
	.purge_done = purge_done,
	.close = close_all,
};

enum err directory_sqlite_open(const char *data_path, const struct directory_backend **backend_out, void **self_out)
{
	char why[SCHEMA_WHY_BYTES];
	sqlite3 *db;
	enum err e = schema_open(data_path, &db, why);
	if (e) {
		log_event(LOG_ERROR, "directory.open", LOG_Z("why", why));
		return e;
	}
	struct sqlite_directory *d = xcalloc(1, sizeof(*d));
	d->data_path = xstrdup(data_path);
	pthread_mutex_init(&d->lock, NULL);
	e = watch(d); /* before the writer closes: the log of changes stays open between the two */
	sqlite3_close(db);
	if (e) {
		close_all(d);
		return e;
	}
	*backend_out = &backend;
	*self_out = d;
	return OK;
}
