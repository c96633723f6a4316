/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manage_sdps.c - SDPS hosts: a domain, its short name, and in mode maildrop the account that takes all of its mail.
 *
 * That account is a row like any other, with an empty local part and its passwords under two labels, so that quota, purge and
 * everything else about accounts holds for it.
 */
#include "tenancy/manage.h"
#include "tenancy/manage_private.h"

static const char *const labels[] = { "", "second" };
static_assert_c(ARRAY_LEN(labels) == SDPS_PASSWORDS_MAX, "a label for each");

/* Enters the domain of a host. */
static enum err enter_host(struct manage *m, struct slice name, enum sdps_mode *mode_out, bool *made_domain_out)
{
	enum err e = manage_enter_domain(m, name);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "SELECT mode, made_domain FROM sdps_hosts WHERE domain_id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, m->domain_id);
	e = manage_row(m, st);
	if (!e) {
		*mode_out = (enum sdps_mode)sqlite3_column_int(st, 0);
		*made_domain_out = sqlite3_column_int(st, 1) != 0;
	}
	if (st)
		sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? manage_fail(m, e, "%.*s is no SDPS host", SLICE_ARG(name)) : e;
}

/* The maildrop of the entered host. */
static enum err maildrop_id(struct manage *m, int64_t *id_out)
{
	sqlite3_stmt *st = manage_statement(m, "SELECT id FROM accounts WHERE domain_id = ?1 AND local_part = ''");
	if (st)
		sqlite3_bind_int64(st, 1, m->domain_id);
	enum err e = manage_row(m, st);
	if (!e)
		*id_out = sqlite3_column_int64(st, 0);
	if (st)
		sqlite3_reset(st);
	return e;
}

enum err manage_maildrop_id(struct manage *m, struct slice host, int64_t *id_out)
{
	enum sdps_mode mode;
	bool made;
	enum err e = enter_host(m, host, &mode, &made);
	if (!e)
		e = maildrop_id(m, id_out);
	return e == ERR_NOT_FOUND ? manage_fail(m, e, "%.*s is no host that is one maildrop", SLICE_ARG(host)) : e;
}

/* ---- passwords ---- */

static enum err passwords_allowed(struct manage *m, enum sdps_mode mode, const struct slice *stored, size_t count)
{
	if (mode != SDPS_MAILDROP && count)
		return manage_fail(m, ERR_DENIED, "in mode accounts every user has a password of its own (account add USER@%.*s)", (int)m->domain_len,
				   m->domain_bytes);
	if (count > SDPS_PASSWORDS_MAX)
		return manage_fail(m, ERR_LIMIT, "a host has at most %d passwords", SDPS_PASSWORDS_MAX);
	enum err e = OK;
	for (size_t i = 0; i < count && !e; i++)
		e = manage_stored_allowed(m, stored[i]);
	return e;
}

static enum err put_passwords(struct manage *m, int64_t id, const struct slice *stored, size_t count)
{
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM credentials WHERE account_id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	enum err e = manage_run(m, st, NULL);
	for (size_t i = 0; i < count && !e; i++)
		e = manage_put_password(m, id, labels[i], stored[i]);
	return e;
}

enum err manage_host_passwords(struct manage *m, struct slice name, const struct slice *stored, size_t count)
{
	enum sdps_mode mode;
	bool made, own = false;
	int64_t id;
	enum err e = enter_host(m, name, &mode, &made);
	if (!e && mode != SDPS_MAILDROP)
		e = passwords_allowed(m, mode, stored, count ? count : 1);
	if (!e)
		e = passwords_allowed(m, mode, stored, count);
	if (!e)
		e = maildrop_id(m, &id);
	if (e == ERR_NOT_FOUND && mode == SDPS_MAILDROP)
		return manage_fail(m, e, "the maildrop of %.*s is gone: remove the host and add it again", SLICE_ARG(name));
	if (!e)
		e = manage_enclose(m, &own);
	return e ? e : manage_conclude(m, own, put_passwords(m, id, stored, count));
}

static enum err scheme_of(struct manage *m, struct slice tenant, char scheme_out[SETTING_TEXT_BYTES])
{
	int64_t id;
	struct setting_value value;
	enum err e = manage_tenant_id(m, tenant, &id);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "SELECT password_scheme FROM tenants WHERE id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	e = manage_row(m, st);
	if (!e) {
		manage_read_value(st, 0, &value);
		setting_format(SET_PASSWORD_SCHEME, &value, scheme_out);
	}
	if (st)
		sqlite3_reset(st);
	return e;
}

enum err manage_tenant_scheme(struct manage *m, struct slice tenant, char scheme_out[SETTING_TEXT_BYTES])
{
	return scheme_of(m, tenant, scheme_out);
}

enum err manage_host_scheme(struct manage *m, struct slice name, char scheme_out[SETTING_TEXT_BYTES])
{
	enum sdps_mode mode;
	bool made;
	enum err e = enter_host(m, name, &mode, &made);
	if (!e)
		e = passwords_allowed(m, mode, NULL, mode != SDPS_MAILDROP);
	if (!e)
		memcpy(scheme_out, m->scheme_bytes, sizeof(m->scheme_bytes));
	return e;
}

/* ---- add ---- */

/* The domain is entered; it is made if there is none of that name. */
static enum err host_domain(struct manage *m, const struct manage_new_host *host, bool *made_out)
{
	int64_t tenant_id;
	enum err e = manage_tenant_id(m, host->tenant, &tenant_id);
	if (e)
		return e;
	e = manage_enter_domain(m, host->name);
	*made_out = e == ERR_NOT_FOUND;
	if (e == ERR_NOT_FOUND) {
		e = manage_domain_add(m, host->name, host->tenant, slice_of("", 0));
		return e ? e : manage_enter_domain(m, host->name);
	}
	if (!e && m->tenant_id != tenant_id)
		return manage_fail(m, ERR_DENIED, "domain %.*s is not tenant %.*s's", SLICE_ARG(host->name), SLICE_ARG(host->tenant));
	if (!e && m->is_alias)
		return manage_fail(m, ERR_DENIED, "%.*s is an alias domain: a host is the domain it stands for", SLICE_ARG(host->name));
	return e;
}

static enum err insert_host(struct manage *m, const struct manage_new_host *host, bool made)
{
	struct slice name = slice_of(m->domain_bytes, m->domain_len), label = slice_upto(name, slice_find(name, '.'));
	if (label.len == name.len)
		return manage_fail(m, ERR_SYNTAX, "a host's name is a full one, with a dot: its first part is the short name");
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO sdps_hosts (domain_id, short_name, mode, made_domain) VALUES (?1, ?2, ?3, ?4)");
	if (st) {
		sqlite3_bind_int64(st, 1, m->domain_id);
		if (!host->no_short_name)
			schema_bind(st, 2, label);
		sqlite3_bind_int(st, 3, (int)host->mode);
		sqlite3_bind_int(st, 4, made);
	}
	enum err e = manage_run(m, st, NULL);
	if (e != ERR_EXISTS)
		return e;
	if (sqlite3_extended_errcode(m->db) == SQLITE_CONSTRAINT_UNIQUE)
		return manage_fail(m, e, "another host has the short name %.*s (--no-short-name does without)", SLICE_ARG(label));
	return manage_fail(m, e, "%.*s is an SDPS host already", SLICE_ARG(name));
}

static enum err insert_maildrop(struct manage *m, const struct manage_new_host *host)
{
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO accounts (domain_id, local_part) VALUES (?1, '')");
	if (st)
		sqlite3_bind_int64(st, 1, m->domain_id);
	enum err e = manage_run(m, st, NULL);
	return e ? e : put_passwords(m, sqlite3_last_insert_rowid(m->db), host->stored, host->stored_count);
}

enum err manage_host_add(struct manage *m, const struct manage_new_host *host)
{
	bool own, made = false;
	ASSERT(host->mode != SDPS_NONE);
	enum err e = manage_enclose(m, &own);
	if (e)
		return e;
	e = host_domain(m, host, &made);
	if (!e)
		e = passwords_allowed(m, host->mode, host->stored, host->stored_count);
	if (!e)
		e = insert_host(m, host, made);
	if (!e && host->mode == SDPS_MAILDROP)
		e = insert_maildrop(m, host);
	return manage_conclude(m, own, e);
}

/* ---- remove ---- */

static enum err run_with_id(struct manage *m, sqlite3_stmt *st, int64_t id)
{
	if (st)
		sqlite3_bind_int64(st, 1, id);
	return manage_run(m, st, NULL);
}

/* Like an account's removal: a trigger notes it in removed_accounts. */
static enum err remove_maildrop(struct manage *m, bool purge, int64_t *id_out)
{
	enum err e = maildrop_id(m, id_out);
	if (e)
		return e == ERR_NOT_FOUND ? OK : e;
	e = run_with_id(m, manage_statement(m, "DELETE FROM accounts WHERE id = ?1 AND local_part = ''"), *id_out);
	if (!e && purge)
		e = run_with_id(m, manage_statement(m, "UPDATE removed_accounts SET purge = 1 WHERE id = ?1 AND purge = 0"), *id_out);
	return e;
}

/* Goes unless accounts or aliases hang on it. */
static enum err remove_domain(struct manage *m, bool *gone_out)
{
	int changed = 0;
	int64_t id = m->domain_id;
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM domains WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM accounts WHERE domain_id = ?1)"
					       " AND NOT EXISTS (SELECT 1 FROM domains a WHERE a.alias_of = ?1)");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	enum err e = manage_run(m, st, &changed);
	*gone_out = !e && changed;
	if (*gone_out)
		m->domain_len = 0;
	return e;
}

enum err manage_host_remove(struct manage *m, struct slice name, bool purge, int64_t *id_out, bool *domain_out)
{
	enum sdps_mode mode;
	bool made, own = false;
	*id_out = 0;
	*domain_out = false;
	enum err e = enter_host(m, name, &mode, &made);
	if (!e)
		e = manage_enclose(m, &own);
	if (e)
		return e;
	e = run_with_id(m, manage_statement(m, "DELETE FROM sdps_hosts WHERE domain_id = ?1"), m->domain_id);
	if (!e)
		e = remove_maildrop(m, purge, id_out);
	if (!e && made)
		e = remove_domain(m, domain_out);
	return manage_conclude(m, own, e);
}

/* ---- list ---- */

enum err manage_hosts(struct manage *m, struct slice tenant, bool (*each)(void *arg, const struct manage_host *h), void *arg)
{
	static const char sql[] = "SELECT d.id, d.name, h.short_name, t.name, h.mode, h.created_s,"
				  " (SELECT count(*) FROM accounts a JOIN credentials c ON c.account_id = a.id WHERE a.domain_id = d.id AND a.local_part = ''),"
				  " (SELECT count(*) FROM accounts a WHERE a.domain_id = d.id AND a.local_part <> '')"
				  " FROM sdps_hosts h JOIN domains d ON d.id = h.domain_id JOIN tenants t ON t.id = d.tenant_id"
				  " WHERE ?1 IS NULL OR t.id = ?1 ORDER BY t.name, d.name";
	int64_t tenant_id;
	enum err e = tenant.len ? manage_tenant_id(m, tenant, &tenant_id) : OK;
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, sql);
	if (!st)
		return manage_db_error(m);
	if (tenant.len)
		sqlite3_bind_int64(st, 1, tenant_id);
	while ((e = manage_row(m, st)) == OK) {
		struct manage_host h = {
			.id = sqlite3_column_int64(st, 0),
			.name = schema_text(st, 1),
			.short_name = schema_text(st, 2),
			.tenant = schema_text(st, 3),
			.mode = (enum sdps_mode)sqlite3_column_int(st, 4),
			.created_s = sqlite3_column_int64(st, 5),
			.passwords = (uint64_t)sqlite3_column_int64(st, 6),
			.accounts = (uint64_t)sqlite3_column_int64(st, 7),
		};
		if (!each(arg, &h))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}
