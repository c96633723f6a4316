/* SPDX-License-Identifier: Apache-2.0 */
/* manage_account.c - accounts, their passwords, and what removed ones left behind. */
#include "tenancy/manage.h"
#include "tenancy/manage_private.h"
#include "tenancy/password.h"

enum err manage_account_name(struct manage *m, struct slice name, char bytes[LOGIN_BYTES_MAX], struct slice *local_out)
{
	size_t at = slice_rfind(name, '@');
	if (at == SIZE_MAX)
		return manage_fail(m, ERR_SYNTAX, "an account's name is user@domain");
	if (name_account_local(slice_upto(name, at), bytes, local_out))
		return manage_fail(m, ERR_SYNTAX,
				   "before the '@' there are 1 to %zu bytes without blanks, quotes, brackets, commas, colons and control characters",
				   LOCAL_PART_BYTES_MAX);
	enum err e = manage_enter_domain(m, slice_from(name, at + 1));
	if (e)
		return e;
	return m->is_alias ? manage_fail(m, ERR_DENIED, "%.*s is an alias domain: accounts are in the domain it stands for",
					 SLICE_ARG(slice_from(name, at + 1)))
			   : OK;
}

enum err manage_account_id(struct manage *m, struct slice name, int64_t *id_out)
{
	char bytes[LOGIN_BYTES_MAX];
	struct slice local;
	enum err e = manage_account_name(m, name, bytes, &local);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "SELECT id FROM accounts WHERE domain_id = ?1 AND local_part = ?2");
	if (st) {
		sqlite3_bind_int64(st, 1, m->domain_id);
		schema_bind(st, 2, local);
	}
	e = manage_row(m, st);
	if (!e)
		*id_out = sqlite3_column_int64(st, 0);
	if (st)
		sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? manage_fail(m, e, "there is no account %.*s", SLICE_ARG(name)) : e;
}

enum err manage_stored_allowed(struct manage *m, struct slice stored)
{
	const char *scheme, *why;
	enum err e = password_check(stored, &scheme, &why);
	if (e)
		return manage_fail(m, e, "%s", why);
	if (setting_scheme_allowed(slice_of(m->schemes_bytes, m->schemes_len), m->plain_passwords, scheme))
		return OK;
	if (!strcmp(scheme, "PLAIN"))
		return manage_fail(m, ERR_DENIED, "tenant %.*s does not keep plain passwords (plain_passwords=yes allows it)", (int)m->tenant_len,
				   m->tenant_bytes);
	return manage_fail(m, ERR_DENIED, "tenant %.*s does not allow %s", (int)m->tenant_len, m->tenant_bytes, scheme);
}

enum err manage_put_password(struct manage *m, int64_t account_id, const char *label, struct slice stored)
{
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO credentials (account_id, stored, label) VALUES (?1, ?2, ?3)"
					       " ON CONFLICT (account_id, label) DO UPDATE SET stored = excluded.stored, changed_s = unixepoch()");
	if (st) {
		sqlite3_bind_int64(st, 1, account_id);
		schema_bind(st, 2, stored);
		schema_bind(st, 3, slice_str(label));
	}
	return manage_run(m, st, NULL);
}

enum err manage_enclose(struct manage *m, bool *own_out)
{
	*own_out = !m->begun;
	return *own_out ? manage_begin(m) : OK;
}

enum err manage_conclude(struct manage *m, bool own, enum err e)
{
	if (own && !e)
		e = manage_commit(m);
	if (own && e)
		manage_undo(m);
	return e;
}

static enum err insert_account(struct manage *m, struct slice local, struct slice stored)
{
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO accounts (domain_id, local_part) VALUES (?1, ?2)");
	if (st) {
		sqlite3_bind_int64(st, 1, m->domain_id);
		schema_bind(st, 2, local);
	}
	enum err e = manage_run(m, st, NULL);
	if (e == ERR_EXISTS)
		return manage_fail(m, e, "account %.*s@%.*s is already there", SLICE_ARG(local), (int)m->domain_len, m->domain_bytes);
	if (!e && stored.len)
		e = manage_put_password(m, sqlite3_last_insert_rowid(m->db), "", stored);
	return e;
}

enum err manage_account_add(struct manage *m, struct slice name, struct slice tenant, struct slice stored)
{
	char bytes[LOGIN_BYTES_MAX];
	struct slice local;
	bool own = false;
	enum err e = manage_account_name(m, name, bytes, &local);
	if (!e && tenant.len && !slice_eq_nocase(tenant, slice_of(m->tenant_bytes, m->tenant_len)))
		e = manage_fail(m, ERR_DENIED, "domain %.*s is not tenant %.*s's", (int)m->domain_len, m->domain_bytes, SLICE_ARG(tenant));
	if (!e && stored.len)
		e = manage_stored_allowed(m, stored);
	if (!e)
		e = manage_enclose(m, &own);
	if (e)
		return e;
	return manage_conclude(m, own, insert_account(m, local, stored));
}

enum err manage_account_password(struct manage *m, struct slice name, struct slice stored)
{
	int64_t id;
	enum err e = manage_account_id(m, name, &id);
	if (!e)
		e = manage_stored_allowed(m, stored);
	return e ? e : manage_put_password(m, id, "", stored);
}

enum err manage_account_scheme(struct manage *m, struct slice name, char scheme_out[SETTING_TEXT_BYTES])
{
	char bytes[LOGIN_BYTES_MAX];
	struct slice local;
	enum err e = manage_account_name(m, name, bytes, &local);
	if (!e)
		memcpy(scheme_out, m->scheme_bytes, sizeof(m->scheme_bytes));
	return e;
}

enum err manage_account_remove(struct manage *m, struct slice name, bool purge, int64_t *id_out)
{
	bool own = false;
	enum err e = manage_account_id(m, name, id_out);
	if (!e)
		e = manage_enclose(m, &own);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM accounts WHERE id = ?1"); /* a trigger notes it in removed_accounts */
	if (st)
		sqlite3_bind_int64(st, 1, *id_out);
	e = manage_run(m, st, NULL);
	if (!e && purge) {
		st = manage_statement(m, "UPDATE removed_accounts SET purge = 1 WHERE id = ?1");
		if (st)
			sqlite3_bind_int64(st, 1, *id_out);
		e = manage_run(m, st, NULL);
	}
	return manage_conclude(m, own, e);
}

/* ---- lists ---- */

static void account_of_row(sqlite3_stmt *st, struct manage_account *a)
{
	static const enum setting_id columns[] = { SET_SUSPENDED, SET_POP3, SET_IMAP, SET_LMTP, SET_QUOTA_BYTES, SET_QUOTA_MESSAGES, SET_MASTER, SET_JUNK };
	const char *why;
	*a = (struct manage_account){
		.id = sqlite3_column_int64(st, 0),
		.name = schema_text(st, 1),
		.tenant = schema_text(st, 2),
		.created_s = sqlite3_column_int64(st, 3),
	};
	struct slice stored = schema_text(st, 4);
	if (stored.len && password_check(stored, &a->scheme, &why))
		a->scheme = "unknown";
	for (unsigned i = 0; i < SET_COUNT; i++)
		a->settings[i].is_default = true;
	for (unsigned i = 0; i < ARRAY_LEN(columns); i++)
		manage_read_value(st, (int)(5 + i), &a->settings[columns[i]]);
}

enum err manage_accounts(struct manage *m, struct slice tenant, struct slice domain, struct slice only,
			 bool (*each)(void *arg, const struct manage_account *a), void *arg)
{
	static const char sql[] = "SELECT a.id, a.local_part || '@' || d.name, t.name, a.created_s, c.stored,"
				  " a.suspended, a.pop3, a.imap, a.lmtp, a.quota_bytes, a.quota_messages, a.master, a.junk"
				  " FROM accounts a JOIN domains d ON d.id = a.domain_id JOIN tenants t ON t.id = d.tenant_id"
				  " LEFT JOIN credentials c ON c.account_id = a.id AND c.label = ''"
				  " WHERE (?1 IS NULL OR t.id = ?1) AND (?2 IS NULL OR d.id = ?2) AND (?3 IS NULL OR a.id = ?3)"
				  " ORDER BY d.name, a.local_part";
	int64_t tenant_id, account_id;
	enum err e = OK;
	if (tenant.len)
		e = manage_tenant_id(m, tenant, &tenant_id);
	if (!e && domain.len)
		e = manage_enter_domain(m, domain);
	int64_t domain_id = m->domain_id;
	if (!e && only.len)
		e = manage_account_id(m, only, &account_id);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, sql);
	if (!st)
		return manage_db_error(m);
	if (tenant.len)
		sqlite3_bind_int64(st, 1, tenant_id);
	if (domain.len)
		sqlite3_bind_int64(st, 2, domain_id);
	if (only.len)
		sqlite3_bind_int64(st, 3, account_id);
	struct manage_account a;
	while ((e = manage_row(m, st)) == OK) {
		account_of_row(st, &a);
		if (!each(arg, &a))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}

/* ---- removed accounts ---- */

enum err manage_removed(struct manage *m, bool (*each)(void *arg, const struct manage_removed *r), void *arg)
{
	sqlite3_stmt *st = manage_statement(m, "SELECT id, name, tenant, removed_s, purge FROM removed_accounts ORDER BY id");
	enum err e;
	if (!st)
		return manage_db_error(m);
	while ((e = manage_row(m, st)) == OK) {
		struct manage_removed r = {
			.id = sqlite3_column_int64(st, 0),
			.name = schema_text(st, 1),
			.tenant = schema_text(st, 2),
			.removed_s = sqlite3_column_int64(st, 3),
			.purge = sqlite3_column_int(st, 4) != 0,
		};
		if (!each(arg, &r))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}

enum err manage_purge(struct manage *m, struct slice name, uint64_t *count_out)
{
	sqlite3_stmt *st = manage_statement(m, "UPDATE removed_accounts SET purge = 1 WHERE ?1 = '' OR name = lower(?1) OR id = ?2");
	uint64_t id = 0;
	int changed = 0;
	if (st) {
		schema_bind(st, 1, name);
		if (slice_u64(name, INT64_MAX, &id))
			sqlite3_bind_int64(st, 2, (sqlite3_int64)id);
	}
	enum err e = manage_run(m, st, &changed);
	*count_out = (uint64_t)changed;
	if (!e && name.len && !changed)
		return manage_fail(m, ERR_NOT_FOUND, "there is no removed account %.*s", SLICE_ARG(name));
	return e;
}

enum err manage_purged(struct manage *m, int64_t id)
{
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM removed_accounts WHERE id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	return manage_run(m, st, NULL);
}
