/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.h - DATA/directory.db: its tables, how they came to be, and how it is opened.
 *
 * Private to this room.  `PRAGMA application_id` says that the file is ours, `PRAGMA user_version` how many of the steps in
 * schema.c it has been through; the missing ones are done in one transaction by whoever opens it first.  WAL on local
 * disks; on shared stores, where WAL cannot work, a rollback journal.
 *
 * Ids are AUTOINCREMENT: never reused, since an account's mail hangs on its id.  Changes made by hand in the database are as
 * good as ours: triggers keep credential_version and removed_accounts true, constraints keep nonsense out.
 */
#ifndef PENFOLD_TENANCY_SCHEMA_H
#define PENFOLD_TENANCY_SCHEMA_H

#include "core/base/bytes.h"
#include "core/base/err.h"

#include <sqlite3.h>

#define SCHEMA_WHY_BYTES 256

/* Opens, makes or brings up to date. Blocking. ERR_CONFIG (not ours, or newer than this program), ERR_IO, ERR_BUSY; *why_out says it in
 * a line. */
enum err schema_open(const char *data_path, sqlite3 **db_out, char why_out[SCHEMA_WHY_BYTES]);
/* The same file again, as it is: for readers. */
enum err schema_open_reader(const char *data_path, sqlite3 **db_out, char why_out[SCHEMA_WHY_BYTES]);

/* Prepares a statement that lives with the connection; ASSERTs on our own SQL errors, NULL when the file cannot be read. */
sqlite3_stmt *schema_prepare(sqlite3 *db, const char *sql);
enum err schema_err(int sqlite_result);
static inline void schema_bind(sqlite3_stmt *st, int index, struct slice text)
{
	sqlite3_bind_text(st, index, text.len ? text.ptr : "", (int)text.len, SQLITE_STATIC);
}
/* A text column, valid until the next step or reset; empty for NULL. */
static inline struct slice schema_text(sqlite3_stmt *st, int column)
{
	const unsigned char *text = sqlite3_column_text(st, column);
	return slice_of(text ? (const char *)text : "", text ? (size_t)sqlite3_column_bytes(st, column) : 0);
}

#endif
