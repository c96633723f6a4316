/* SPDX-License-Identifier: Apache-2.0 */
/* app_used.c - uses of application passwords, gathered. A place of the table is chosen by the id: two that meet there take turns, and
 * are written more often than once an hour, never wrongly. */
#include "tenancy/app_used.h"

#include "core/base/limits.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct used {
	uint64_t id;
	int64_t used_s;
	bool unwritten;
};

static struct {
	pthread_mutex_t lock; /* of what follows; process-wide */
	struct used table[APP_USED_ENTRIES];
	bool any;
} used = { .lock = PTHREAD_MUTEX_INITIALIZER };

void app_used_note(uint64_t credential_id, int64_t now_s)
{
	pthread_mutex_lock(&used.lock);
	struct used *u = &used.table[credential_id % APP_USED_ENTRIES];
	if (u->id != credential_id || now_s - u->used_s >= APP_USED_EVERY_S || now_s < u->used_s) {
		*u = (struct used){ credential_id, now_s, true };
		used.any = true;
	}
	pthread_mutex_unlock(&used.lock);
}

static bool path_of(const char *data_path, char path[4096])
{
	return snprintf(path, 4096, "%s/last_used.db", data_path) < 4096;
}

static enum err write_all(sqlite3 *db)
{
	sqlite3_stmt *st = NULL;
	if (sqlite3_exec(db,
			 "PRAGMA synchronous = NORMAL; CREATE TABLE IF NOT EXISTS used (credential_id INTEGER PRIMARY KEY, used_s INTEGER NOT NULL) STRICT;"
			 "BEGIN IMMEDIATE",
			 NULL, NULL, NULL) ||
	    sqlite3_prepare_v2(db,
			       "INSERT INTO used VALUES (?1, ?2) ON CONFLICT (credential_id) DO UPDATE SET used_s = max(used_s, excluded.used_s)",
			       -1, &st, NULL))
		return ERR_TEMP;
	bool good = true;
	for (size_t i = 0; i < APP_USED_ENTRIES && good; i++) {
		pthread_mutex_lock(&used.lock);
		struct used u = used.table[i];
		used.table[i].unwritten = false;
		pthread_mutex_unlock(&used.lock);
		if (!u.unwritten)
			continue;
		sqlite3_bind_int64(st, 1, (sqlite3_int64)u.id);
		sqlite3_bind_int64(st, 2, u.used_s);
		good = sqlite3_step(st) == SQLITE_DONE;
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
	return good && !sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) ? OK : ERR_TEMP;
}

enum err app_used_flush(const char *data_path)
{
	char path[4096];
	sqlite3 *db = NULL;
	pthread_mutex_lock(&used.lock);
	bool any = used.any;
	used.any = false;
	pthread_mutex_unlock(&used.lock);
	if (!any || !path_of(data_path, path))
		return OK;
	enum err e = ERR_TEMP;
	if (!sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL)) {
		sqlite3_busy_timeout(db, DIRECTORY_BUSY_MS);
		e = write_all(db);
	}
	sqlite3_close(db);
	return e;
}

bool app_used_attach(sqlite3 *db, const char *data_path)
{
	char path[4096];
	sqlite3_stmt *st = NULL;
	if (!path_of(data_path, path) || access(path, R_OK) || sqlite3_prepare_v2(db, "ATTACH ?1 AS last_used", -1, &st, NULL))
		return false;
	sqlite3_bind_text(st, 1, path, -1, SQLITE_STATIC);
	bool attached = sqlite3_step(st) == SQLITE_DONE;
	sqlite3_finalize(st);
	return attached;
}
