/* SPDX-License-Identifier: Apache-2.0 */
/* manage_usage.c - what tenants used, read from DATA/usage.db beside the directory. */
#include "tenancy/manage_private.h"

#include "tenancy/usage_file.h"

#include <stdio.h>
#include <stdlib.h>

/* Tenants that were removed have no name any more, but what they used is kept. */
static const char sql[] = "SELECT coalesce(u.tenant_id, t.id), t.name, u.sessions, u.logins, u.logins_failed, u.bytes_in, u.bytes_out, u.deliveries, u.refusals"
			  " FROM tenants t LEFT JOIN used.usage u ON u.tenant_id = t.id WHERE ?1 IS NULL OR t.id = ?1"
			  " UNION ALL SELECT u.tenant_id, NULL, u.sessions, u.logins, u.logins_failed, u.bytes_in, u.bytes_out, u.deliveries, u.refusals"
			  " FROM used.usage u WHERE ?1 IS NULL AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = u.tenant_id)"
			  " ORDER BY 2 NULLS LAST, 1";

/* Makes the file if no server has yet. */
static enum err attach(struct manage *m)
{
	const char *main = sqlite3_db_filename(m->db, "main");
	char folder[4096], path[4096 + 16];
	struct usage_file *file;
	if (snprintf(folder, sizeof(folder), "%.*s", (int)slice_rfind(slice_str(main), '/'), main) >= (int)sizeof(folder))
		return manage_fail(m, ERR_CONFIG, "the data folder's path is too long");
	enum err e = usage_file_open(folder, &file);
	usage_file_close(file);
	if (e)
		return manage_fail(m, e, "%s/usage.db cannot be opened", folder);
	snprintf(path, sizeof(path), "%s/usage.db", folder);
	sqlite3_stmt *st = manage_statement(m, "ATTACH ?1 AS used");
	if (!st)
		return manage_db_error(m);
	schema_bind(st, 1, slice_str(path));
	return manage_run(m, st, NULL);
}

enum err manage_usage(struct manage *m, const struct slice *only, bool (*each)(void *arg, const struct manage_usage *u), void *arg)
{
	int64_t id = 0;
	enum err e = only ? manage_tenant_id(m, *only, &id) : OK;
	if (!e && !sqlite3_db_filename(m->db, "used"))
		e = attach(m);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, sql);
	if (!st)
		return manage_db_error(m);
	if (only)
		sqlite3_bind_int64(st, 1, id);
	while ((e = manage_row(m, st)) == OK) {
		struct manage_usage u = { .tenant_id = sqlite3_column_int64(st, 0), .tenant = schema_text(st, 1) };
		for (int i = 0; i < USAGE_COUNTERS; i++)
			u.counters[i] = (uint64_t)sqlite3_column_int64(st, 2 + i);
		if (!each(arg, &u))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}
