/* SPDX-License-Identifier: Apache-2.0 */
/*
 * app_used.h - when application passwords were last used, to within an hour.
 *
 * Private to this room.  A login only notes it in memory; a job of the directory's poll writes what has gathered, in one transaction.
 * It lies in a file of its own (DATA/last_used.db), because every change of directory.db makes all cached answers stale.  The
 * file may be deleted: then nobody has been seen.  What cannot be written is noted again at the next use; a use may be lost
 * with the process.
 */
#ifndef PENFOLD_TENANCY_APP_USED_H
#define PENFOLD_TENANCY_APP_USED_H

#include "core/base/bytes.h"
#include "core/base/err.h"

#include <sqlite3.h>

/* Any thread. Now. */
void app_used_note(uint64_t credential_id, int64_t now_s);
/* One thread at a time. Blocking. OK also when there is nothing to write. */
enum err app_used_flush(const char *data_path);
/* Makes the times readable as last_used.used (credential_id, used_s); false: there is no such file yet. Blocking. */
bool app_used_attach(sqlite3 *db, const char *data_path);

#endif
