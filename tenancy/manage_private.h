/* SPDX-License-Identifier: Apache-2.0 */
/* manage_private.h - what manage.c shares with manage_domain.c and manage_account.c. */
#ifndef PENFOLD_TENANCY_MANAGE_PRIVATE_H
#define PENFOLD_TENANCY_MANAGE_PRIVATE_H

#include "core/base/limits.h"
#include "tenancy/manage.h"
#include "tenancy/name.h"
#include "tenancy/schema.h"

#define STATEMENTS_MAX 48

struct manage {
	sqlite3 *db;
	bool begun;
	char why[MANAGE_WHY_BYTES];
	/* statements by the address of their text: prepared once */
	struct {
		const char *sql;
		sqlite3_stmt *st;
	} statements[STATEMENTS_MAX];
	/* the domain of the last account, for imports; domain_len 0 = none */
	char domain_bytes[DOMAIN_BYTES_MAX], tenant_bytes[TENANT_BYTES_MAX], schemes_bytes[SETTING_TEXT_BYTES], scheme_bytes[SETTING_TEXT_BYTES];
	size_t domain_len, tenant_len, schemes_len;
	int64_t domain_id, tenant_id;
	bool plain_passwords, is_alias;
};

/* Sets the line for people and returns e. */
enum err manage_fail(struct manage *m, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As the database says. */
enum err manage_db_error(struct manage *m);

/* A prepared statement, reset and without bindings. `sql` is a literal: it is kept by its address. NULL: the database failed. */
sqlite3_stmt *manage_statement(struct manage *m, const char *sql);
/* Runs a statement that gives no rows; *changed_out (may be NULL) = rows it touched. ERR_EXISTS when a constraint is in the way. */
enum err manage_run(struct manage *m, sqlite3_stmt *st, int *changed_out);
/* The first row of a statement: OK or ERR_NOT_FOUND (manage_why is not set). Reset it afterwards. */
enum err manage_row(struct manage *m, sqlite3_stmt *st);

enum err manage_tenant_id(struct manage *m, struct slice name, int64_t *id_out);
/* Fills the domain fields of *m from a domain's name. ERR_NOT_FOUND, ERR_SYNTAX. */
enum err manage_enter_domain(struct manage *m, struct slice domain);
enum err manage_account_id(struct manage *m, struct slice name, int64_t *id_out);
/* The account that is an SDPS host's maildrop. */
enum err manage_maildrop_id(struct manage *m, struct slice host, int64_t *id_out);
/* Folds user@domain; enters the domain. */
enum err manage_account_name(struct manage *m, struct slice name, char bytes[LOGIN_BYTES_MAX], struct slice *local_out);

/* May this be kept for an account of the entered domain? */
enum err manage_stored_allowed(struct manage *m, struct slice stored);
/* Sets or replaces the password of that label; '' is an account's first. */
enum err manage_put_password(struct manage *m, int64_t account_id, const char *label, struct slice stored);

/* A transaction of one call, unless the caller opened one: *own_out tells manage_conclude. */
enum err manage_enclose(struct manage *m, bool *own_out);
enum err manage_conclude(struct manage *m, bool own, enum err e);

void manage_bind_value(sqlite3_stmt *st, int index, const struct setting_value *value);
void manage_read_value(sqlite3_stmt *st, int column, struct setting_value *value_out);

#endif
