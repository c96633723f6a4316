/* SPDX-License-Identifier: Apache-2.0 */
/* manage_app.c - application passwords. */
#include "tenancy/app_used.h"
#include "tenancy/manage.h"
#include "tenancy/manage_private.h"
#include "tenancy/password.h"

/* Under these labels an account's own passwords lie (manage_sdps.c). */
static bool label_taken(struct slice label)
{
	return label.len == 0 || slice_eq(label, SLICE_LIT("second"));
}

static enum err check_label(struct manage *m, struct slice label)
{
	bool good = label.len <= APP_LABEL_BYTES_MAX && utf8_valid(label);
	for (size_t i = 0; i < label.len; i++)
		good = good && (unsigned char)label.ptr[i] >= ' ' && label.ptr[i] != 0x7F;
	if (good && !label_taken(label))
		return OK;
	return manage_fail(m, ERR_SYNTAX, "the name of an application password is 1 to %zu bytes of text, and not \"second\"", APP_LABEL_BYTES_MAX);
}

static enum err insert(struct manage *m, int64_t account_id, struct slice label, struct slice stored, unsigned protocols)
{
	sqlite3_stmt *st = manage_statement(m, "SELECT count(*) FROM credentials WHERE account_id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, account_id);
	enum err e = manage_row(m, st);
	int64_t count = e ? 0 : sqlite3_column_int64(st, 0);
	if (st)
		sqlite3_reset(st);
	if (e)
		return e;
	if (count >= CREDENTIALS_PER_ACCOUNT_MAX)
		return manage_fail(m, ERR_LIMIT, "an account has at most %d passwords", CREDENTIALS_PER_ACCOUNT_MAX);
	st = manage_statement(m, "INSERT INTO credentials (account_id, label, stored, app, protocols, created_s) VALUES (?1, ?2, ?3, 1, ?4, unixepoch())");
	if (st) {
		sqlite3_bind_int64(st, 1, account_id);
		schema_bind(st, 2, label);
		schema_bind(st, 3, stored);
		if (protocols)
			sqlite3_bind_int64(st, 4, protocols);
	}
	e = manage_run(m, st, NULL);
	return e == ERR_EXISTS ? manage_fail(m, e, "the account has an application password %.*s already", SLICE_ARG(label)) : e;
}

enum err manage_app_password_add(struct manage *m, struct slice account, struct slice label, struct slice stored, unsigned protocols)
{
	int64_t id;
	bool own = false;
	enum err e = manage_account_id(m, account, &id);
	if (!e)
		e = check_label(m, label);
	if (!e)
		e = manage_enclose(m, &own);
	return e ? e : manage_conclude(m, own, insert(m, id, label, stored, protocols));
}

enum err manage_app_password_remove(struct manage *m, struct slice account, struct slice label)
{
	int64_t id;
	int changed = 0;
	enum err e = manage_account_id(m, account, &id);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM credentials WHERE account_id = ?1 AND label = ?2 AND app = 1");
	if (st) {
		sqlite3_bind_int64(st, 1, id);
		schema_bind(st, 2, label);
	}
	e = manage_run(m, st, &changed);
	if (!e && !changed)
		return manage_fail(m, ERR_NOT_FOUND, "the account has no application password %.*s", SLICE_ARG(label));
	return e;
}

enum err manage_app_passwords(struct manage *m, struct slice account, bool (*each)(void *arg, const struct manage_app_password *p), void *arg)
{
	static const char seen[] = "SELECT c.label, coalesce(c.created_s, 0), coalesce(u.used_s, 0), coalesce(c.protocols, 7) FROM credentials c"
				   " LEFT JOIN last_used.used u ON u.credential_id = c.id WHERE c.account_id = ?1 AND c.app = 1 ORDER BY c.label",
			  unseen[] = "SELECT label, coalesce(created_s, 0), 0, coalesce(protocols, 7) FROM credentials"
				     " WHERE account_id = ?1 AND app = 1 ORDER BY label";
	int64_t id;
	enum err e = manage_account_id(m, account, &id);
	if (e)
		return e;
	const char *file = sqlite3_db_filename(m->db, "main"), *slash = file ? strrchr(file, '/') : NULL;
	char folder[4096] = "";
	if (slash && (size_t)(slash - file) < sizeof(folder))
		memcpy(folder, file, (size_t)(slash - file));
	bool attached = sqlite3_db_filename(m->db, "last_used") || (!m->begun && app_used_attach(m->db, folder));
	sqlite3_stmt *st = attached ? manage_statement(m, seen) : NULL;
	if (!st) /* not made yet, or being made */
		st = manage_statement(m, unseen);
	if (!st)
		return manage_db_error(m);
	sqlite3_bind_int64(st, 1, id);
	while ((e = manage_row(m, st)) == OK) {
		struct manage_app_password p = { schema_text(st, 0), sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2),
						 (unsigned)sqlite3_column_int(st, 3) };
		if (!each(arg, &p))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}
