/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage_file.h - DATA/usage.db: one row a tenant, sums since the file was made.
 *
 * Private to this room.  A rollback journal, so that it works on shared stores too; written a few times a minute.  Blocking.
 */
#ifndef PENFOLD_TENANCY_USAGE_FILE_H
#define PENFOLD_TENANCY_USAGE_FILE_H

#include "tenancy/usage.h"

struct usage_row {
	uint64_t tenant_id;
	uint64_t counters[USAGE_COUNTERS];
};

struct usage_file;
/* Opens or makes it. ERR_IO, ERR_DENIED, ERR_CORRUPT, ...: told in the log. */
enum err usage_file_open(const char *data_path, struct usage_file **file_out);
void usage_file_close(struct usage_file *file); /* NULL is harmless */
/* Adds all rows or none. */
enum err usage_file_add(struct usage_file *file, const struct usage_row *rows, size_t count);

#endif
