/* SPDX-License-Identifier: Apache-2.0 */
/* usage_file.c - see usage_file.h. */
#include "tenancy/usage_file.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "tenancy/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char create[] = "CREATE TABLE IF NOT EXISTS usage ("
			     " tenant_id INTEGER PRIMARY KEY," /* 0: others */
			     " sessions INTEGER NOT NULL DEFAULT 0,"
			     " logins INTEGER NOT NULL DEFAULT 0,"
			     " logins_failed INTEGER NOT NULL DEFAULT 0,"
			     " bytes_in INTEGER NOT NULL DEFAULT 0,"
			     " bytes_out INTEGER NOT NULL DEFAULT 0,"
			     " deliveries INTEGER NOT NULL DEFAULT 0,"
			     " refusals INTEGER NOT NULL DEFAULT 0"
			     ") STRICT;";
/* Parameters in the order of enum usage_counter, after the tenant. */
static const char add_sql[] = "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (tenant_id) DO UPDATE SET"
			      " sessions = sessions + excluded.sessions, logins = logins + excluded.logins,"
			      " logins_failed = logins_failed + excluded.logins_failed, bytes_in = bytes_in + excluded.bytes_in,"
			      " bytes_out = bytes_out + excluded.bytes_out, deliveries = deliveries + excluded.deliveries,"
			      " refusals = refusals + excluded.refusals";
static_assert_c(USAGE_COUNTERS == 7, "the columns above");

const char *const usage_names[USAGE_COUNTERS] = { "sessions", "logins", "logins_failed", "bytes_in", "bytes_out", "deliveries", "refusals" };

struct usage_file {
	sqlite3 *db;
	sqlite3_stmt *add;
};

static enum err failed(struct usage_file *f, const char *path)
{
	int code = sqlite3_errcode(f->db);
	log_event(LOG_ERROR, "usage.failed", LOG_Z("file", path), LOG_Z("why", sqlite3_errmsg(f->db)), LOG_Z("effect", "tried again later"));
	enum err e = schema_err(code);
	return e ? e : ERR_IO;
}

enum err usage_file_open(const char *data_path, struct usage_file **file_out)
{
	char path[4096];
	*file_out = NULL;
	if (snprintf(path, sizeof(path), "%s/usage.db", data_path) >= (int)sizeof(path))
		return ERR_CONFIG;
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600); /* not with the umask's permissions */
	if (fd < 0) {
		log_event(LOG_ERROR, "usage.failed", LOG_Z("file", path), LOG_ERRNO(errno));
		return err_from_errno(errno);
	}
	close(fd);
	struct usage_file *f = xcalloc(1, sizeof(*f));
	enum err e = OK;
	if (sqlite3_open_v2(path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(f->db, DIRECTORY_BUSY_MS) != SQLITE_OK ||
	    sqlite3_exec(f->db, "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = NORMAL;", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(f->db, create, NULL, NULL, NULL) != SQLITE_OK || !(f->add = schema_prepare(f->db, add_sql)))
		e = failed(f, path);
	if (e) {
		usage_file_close(f);
		return e;
	}
	*file_out = f;
	return OK;
}

void usage_file_close(struct usage_file *f)
{
	if (!f)
		return;
	sqlite3_finalize(f->add);
	sqlite3_close(f->db);
	free(f);
}

static int add_row(sqlite3_stmt *st, const struct usage_row *row)
{
	sqlite3_bind_int64(st, 1, (sqlite3_int64)row->tenant_id);
	for (int i = 0; i < USAGE_COUNTERS; i++)
		sqlite3_bind_int64(st, 2 + i, (sqlite3_int64)row->counters[i]);
	int r = sqlite3_step(st);
	sqlite3_reset(st);
	return r;
}

enum err usage_file_add(struct usage_file *f, const struct usage_row *rows, size_t count)
{
	bool good = sqlite3_exec(f->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
	for (size_t i = 0; i < count && good; i++)
		good = add_row(f->add, &rows[i]) == SQLITE_DONE;
	good = good && sqlite3_exec(f->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
	if (good)
		return OK;
	enum err e = failed(f, sqlite3_db_filename(f->db, "main"));
	sqlite3_exec(f->db, "ROLLBACK", NULL, NULL, NULL);
	return e;
}
