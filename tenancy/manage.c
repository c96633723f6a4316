/* SPDX-License-Identifier: Apache-2.0 */
/* manage.c - the managing end of the directory: opening, transactions, tenants. */
#include "tenancy/manage.h"
#include "tenancy/manage_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_MS 15000 /* for another writer: an import takes some seconds */

enum err manage_fail(struct manage *m, enum err e, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(m->why, sizeof(m->why), fmt, args);
	va_end(args);
	return e;
}

enum err manage_db_error(struct manage *m)
{
	return manage_fail(m, schema_err(sqlite3_errcode(m->db)), "directory.db: %s", sqlite3_errmsg(m->db));
}

enum err manage_open(const char *data_path, struct manage **manage_out, char why_out[MANAGE_WHY_BYTES])
{
	char why[SCHEMA_WHY_BYTES];
	struct manage *m = xcalloc(1, sizeof(*m));
	*manage_out = NULL;
	enum err e = schema_open(data_path, &m->db, why);
	if (e) {
		snprintf(why_out, MANAGE_WHY_BYTES, "%s", why);
		free(m);
		return e;
	}
	sqlite3_busy_timeout(m->db, WAIT_MS);
	*manage_out = m;
	return OK;
}

void manage_close(struct manage *m)
{
	if (!m)
		return;
	manage_undo(m);
	for (size_t i = 0; i < STATEMENTS_MAX; i++)
		sqlite3_finalize(m->statements[i].st);
	sqlite3_close(m->db);
	free(m);
}

const char *manage_why(const struct manage *m)
{
	return m->why;
}

/* ---- statements ---- */

sqlite3_stmt *manage_statement(struct manage *m, const char *sql)
{
	for (size_t i = 0; i < STATEMENTS_MAX; i++) {
		if (m->statements[i].sql == sql) {
			sqlite3_reset(m->statements[i].st);
			sqlite3_clear_bindings(m->statements[i].st);
			return m->statements[i].st;
		}
		if (!m->statements[i].sql) {
			m->statements[i].st = schema_prepare(m->db, sql);
			if (m->statements[i].st)
				m->statements[i].sql = sql;
			return m->statements[i].st;
		}
	}
	UNREACHABLE();
}

enum err manage_run(struct manage *m, sqlite3_stmt *st, int *changed_out)
{
	int r = st ? sqlite3_step(st) : SQLITE_ERROR;
	enum err e = r == SQLITE_DONE ? OK : manage_db_error(m);
	if (changed_out)
		*changed_out = e ? 0 : sqlite3_changes(m->db);
	if (st)
		sqlite3_reset(st);
	return e;
}

enum err manage_row(struct manage *m, sqlite3_stmt *st)
{
	int r = st ? sqlite3_step(st) : SQLITE_ERROR;
	return r == SQLITE_ROW ? OK : r == SQLITE_DONE ? ERR_NOT_FOUND : manage_db_error(m);
}

/* ---- transactions ---- */

enum err manage_begin(struct manage *m)
{
	ASSERT(!m->begun);
	enum err e = manage_run(m, manage_statement(m, "BEGIN IMMEDIATE"), NULL);
	m->begun = !e;
	return e;
}

enum err manage_commit(struct manage *m)
{
	ASSERT(m->begun);
	enum err e = manage_run(m, manage_statement(m, "COMMIT"), NULL);
	m->begun = e != OK;
	return e;
}

void manage_undo(struct manage *m)
{
	m->domain_len = 0; /* it may have been made in what is undone */
	if (m->begun)
		sqlite3_exec(m->db, "ROLLBACK", NULL, NULL, NULL);
	m->begun = false;
}

/* ---- values of settings ---- */

void manage_bind_value(sqlite3_stmt *st, int index, const struct setting_value *value)
{
	if (value->is_default)
		sqlite3_bind_null(st, index);
	else if (value->is_text)
		sqlite3_bind_text(st, index, value->text, -1, SQLITE_TRANSIENT);
	else
		sqlite3_bind_int64(st, index, value->number);
}

void manage_read_value(sqlite3_stmt *st, int column, struct setting_value *value_out)
{
	*value_out = (struct setting_value){ .is_default = true };
	if (sqlite3_column_type(st, column) == SQLITE_NULL)
		return;
	value_out->is_default = false;
	value_out->is_text = sqlite3_column_type(st, column) == SQLITE_TEXT;
	value_out->number = sqlite3_column_int64(st, column);
	snprintf(value_out->text, sizeof(value_out->text), "%.*s", SLICE_ARG(schema_text(st, column)));
}

/* ---- tenants ---- */

static enum err tenant_name(struct manage *m, struct slice name, char bytes[TENANT_BYTES_MAX], struct slice *name_out)
{
	if (!name_tenant(name, bytes, name_out))
		return OK;
	return manage_fail(m, ERR_SYNTAX, "a tenant's name is 1 to %zu letters, digits, dots, hyphens and underscores", TENANT_BYTES_MAX);
}

enum err manage_tenant_id(struct manage *m, struct slice name, int64_t *id_out)
{
	char bytes[TENANT_BYTES_MAX];
	struct slice folded;
	enum err e = tenant_name(m, name, bytes, &folded);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "SELECT id FROM tenants WHERE name = ?1");
	if (st)
		schema_bind(st, 1, folded);
	e = manage_row(m, st);
	if (!e)
		*id_out = sqlite3_column_int64(st, 0);
	if (st)
		sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? manage_fail(m, e, "there is no tenant %.*s", SLICE_ARG(folded)) : e;
}

enum err manage_tenant_add(struct manage *m, struct slice name)
{
	char bytes[TENANT_BYTES_MAX];
	struct slice folded;
	enum err e = tenant_name(m, name, bytes, &folded);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO tenants (name) VALUES (?1)");
	if (st)
		schema_bind(st, 1, folded);
	e = manage_run(m, st, NULL);
	return e == ERR_EXISTS ? manage_fail(m, e, "tenant %.*s is already there", SLICE_ARG(folded)) : e;
}

enum err manage_tenant_remove(struct manage *m, struct slice name)
{
	int64_t id;
	enum err e = manage_tenant_id(m, name, &id);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM tenants WHERE id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	e = manage_run(m, st, NULL);
	return e == ERR_EXISTS ? manage_fail(m, e, "tenant %.*s still has domains: remove them first", SLICE_ARG(name)) : e;
}

/* The column's name comes from our own table of settings, so that it may stand in the text. Rare: not kept. */
static enum err update_setting(struct manage *m, const char *table, int64_t row, enum setting_id id, const struct setting_value *value)
{
	char text[128];
	snprintf(text, sizeof(text), "UPDATE %s SET %s = ?1 WHERE id = ?2", table, setting_get(id)->name);
	sqlite3_stmt *st = schema_prepare(m->db, text);
	if (!st)
		return manage_db_error(m);
	manage_bind_value(st, 1, value);
	sqlite3_bind_int64(st, 2, row);
	enum err e = manage_run(m, st, NULL);
	sqlite3_finalize(st);
	return e;
}

enum err manage_tenant_set(struct manage *m, struct slice name, enum setting_id id, const struct setting_value *value)
{
	int64_t row;
	if (setting_get(id)->account_only)
		return manage_fail(m, ERR_SYNTAX, "%s is set for an account, not for a tenant", setting_get(id)->name);
	enum err e = manage_tenant_id(m, name, &row);
	m->domain_len = 0;
	return e ? e : update_setting(m, "tenants", row, id, value);
}

static void tenant_of_row(sqlite3_stmt *st, struct manage_tenant *t)
{
	*t = (struct manage_tenant){
		.id = sqlite3_column_int64(st, 0),
		.name = schema_text(st, 1),
		.created_s = sqlite3_column_int64(st, 2),
		.domains = (uint64_t)sqlite3_column_int64(st, 3),
		.accounts = (uint64_t)sqlite3_column_int64(st, 4),
	};
	for (unsigned i = 0; i < SET_COUNT; i++)
		manage_read_value(st, (int)(5 + i), &t->settings[i]);
}

enum err manage_tenants(struct manage *m, const struct slice *only, bool (*each)(void *arg, const struct manage_tenant *t), void *arg)
{
	/* columns in the order of enum setting_id */
	static const char sql[] = "SELECT t.id, t.name, t.created_s, (SELECT count(*) FROM domains d WHERE d.tenant_id = t.id),"
				  " (SELECT count(*) FROM domains d JOIN accounts a ON a.domain_id = d.id WHERE d.tenant_id = t.id),"
				  " t.suspended, t.pop3, t.imap, t.lmtp, t.quota_bytes, t.quota_messages, t.over_quota, t.login_delay_s, t.expire_days,"
				  " t.subaddress_separator, t.plain_passwords, t.schemes, t.password_scheme, t.xtnd, NULL,"
				  " t.sessions_max, t.account_sessions_max, t.guess_delay_max_s, t.trusted_networks, t.plaintext_login, t.deletion,"
				  " t.end_on_password_change, t.junk"
				  " FROM tenants t WHERE ?1 IS NULL OR t.id = ?1 ORDER BY t.name";
	static_assert_c(SET_COUNT == 23, "the columns above");
	int64_t id = 0;
	enum err e = only ? manage_tenant_id(m, *only, &id) : OK;
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, sql);
	if (!st)
		return manage_db_error(m);
	if (only)
		sqlite3_bind_int64(st, 1, id);
	struct manage_tenant t;
	while ((e = manage_row(m, st)) == OK) {
		tenant_of_row(st, &t);
		if (!each(arg, &t))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}

/* Here because of update_setting. */
enum err manage_account_set(struct manage *m, struct slice name, enum setting_id id, const struct setting_value *value)
{
	int64_t row;
	if (!setting_get(id)->of_account)
		return manage_fail(m, ERR_SYNTAX, "%s is set for a tenant, not for an account", setting_get(id)->name);
	bool maildrop = name.len && name.ptr[0] == '@';
	enum err e = maildrop ? manage_maildrop_id(m, slice_from(name, 1), &row) : manage_account_id(m, name, &row);
	return e ? e : update_setting(m, "accounts", row, id, value);
}
