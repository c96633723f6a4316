/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manage.h - changes to the embedded directory: tenants, domains, accounts.
 *
 * For the command line (and later the admin socket): plain blocking calls on DATA/directory.db by one thread, whether a
 * server runs or not; a running one sees a committed change within a second.  Each call is one transaction unless
 * manage_begin opened a larger one.
 *
 * Outcomes: OK; ERR_NOT_FOUND (no such tenant, domain, account); ERR_EXISTS (already there, or something still hangs on
 * it); ERR_SYNTAX (not a name, not a value, a password that is not accepted); ERR_DENIED (another tenant's, or not
 * allowed by the tenant); ERR_LIMIT; ERR_BUSY, ERR_FULL, ERR_IO, ERR_CORRUPT, ERR_CONFIG (the file).  Whatever is not OK has
 * one line for people in manage_why().
 *
 * What rows point at is valid during the call of `each` only; it returns false to stop.
 */
#ifndef PENFOLD_TENANCY_MANAGE_H
#define PENFOLD_TENANCY_MANAGE_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "tenancy/directory.h"
#include "tenancy/setting.h"
#include "tenancy/usage.h"

#define MANAGE_WHY_BYTES 512

struct manage;
/* Makes the file and its folder if they are not there. why_out is filled on error. */
enum err manage_open(const char *data_path, struct manage **manage_out, char why_out[MANAGE_WHY_BYTES]);
void manage_close(struct manage *m); /* what was begun and not committed is undone */
const char *manage_why(const struct manage *m);

enum err manage_begin(struct manage *m);
enum err manage_commit(struct manage *m);
void manage_undo(struct manage *m);

/* ---- tenants ---- */

struct manage_tenant {
	int64_t id;
	struct slice name;
	int64_t created_s;
	uint64_t domains, accounts;
	struct setting_value settings[SET_COUNT];
};
enum err manage_tenant_add(struct manage *m, struct slice name);
enum err manage_tenant_remove(struct manage *m, struct slice name); /* ERR_EXISTS: it has domains */
enum err manage_tenant_set(struct manage *m, struct slice name, enum setting_id id, const struct setting_value *value);
/* All by name, or one (ERR_NOT_FOUND). */
enum err manage_tenants(struct manage *m, const struct slice *only, bool (*each)(void *arg, const struct manage_tenant *t), void *arg);

/* ---- domains ---- */

struct manage_domain {
	int64_t id;
	struct slice name, tenant, alias_of; /* alias_of empty = none */
	int64_t created_s;
	uint64_t accounts;
};
/* tenant may be empty for an alias: its target's. alias_of may be empty. An alias stands for a domain that is none itself, of the same tenant. */
enum err manage_domain_add(struct manage *m, struct slice name, struct slice tenant, struct slice alias_of);
enum err manage_domain_remove(struct manage *m, struct slice name); /* ERR_EXISTS: accounts or aliases hang on it */
/* By tenant and name; tenant may be empty = all. */
enum err manage_domains(struct manage *m, struct slice tenant, bool (*each)(void *arg, const struct manage_domain *d), void *arg);

/* ---- SDPS hosts: domains that have a short name for logins, see login.h ---- */

struct manage_host {
	int64_t id;
	struct slice name, short_name, tenant; /* short_name empty = none */
	enum sdps_mode mode;
	uint64_t passwords, accounts; /* of the maildrop; beside it */
	int64_t created_s;
};
struct manage_new_host {
	struct slice name, tenant; /* name: two labels or more; its domain is added if it is not there */
	enum sdps_mode mode;
	bool no_short_name;        /* else the first label: ERR_EXISTS when another host has it */
	const struct slice *stored; /* {SCHEME}hash; SDPS_MAILDROP only, at most SDPS_PASSWORDS_MAX */
	size_t stored_count;
};
enum err manage_host_add(struct manage *m, const struct manage_new_host *host);
/* All of a maildrop's passwords are replaced by these. ERR_DENIED: users of this host have passwords of their own. */
enum err manage_host_passwords(struct manage *m, struct slice name, const struct slice *stored, size_t count);
/* The maildrop goes as an account does (*id_out, 0 = there was none), and the domain if it came with the host and nothing else hangs on it:
 * *domain_out tells. */
enum err manage_host_remove(struct manage *m, struct slice name, bool purge, int64_t *id_out, bool *domain_out);
/* By tenant and name; tenant may be empty = all. */
enum err manage_hosts(struct manage *m, struct slice tenant, bool (*each)(void *arg, const struct manage_host *h), void *arg);
/* The scheme that a tenant sets passwords in, or the one of a host's tenant. */
enum err manage_tenant_scheme(struct manage *m, struct slice tenant, char scheme_out[SETTING_TEXT_BYTES]);
enum err manage_host_scheme(struct manage *m, struct slice name, char scheme_out[SETTING_TEXT_BYTES]);

/* ---- accounts ---- */

struct manage_account {
	int64_t id;
	struct slice name, tenant; /* user@domain */
	const char *scheme;        /* of its password; NULL = it has none */
	int64_t created_s;
	struct setting_value settings[SET_COUNT]; /* only those with of_account; the account's own */
};
/* stored: {SCHEME}hash, or empty = no login. ERR_SYNTAX, ERR_LIMIT, ERR_DENIED when it may not be stored. `tenant` (may be empty) must be
 * the domain's. */
enum err manage_account_add(struct manage *m, struct slice name, struct slice tenant, struct slice stored);
enum err manage_account_password(struct manage *m, struct slice name, struct slice stored);
/* @host is the maildrop of an SDPS host. */
enum err manage_account_set(struct manage *m, struct slice name, enum setting_id id, const struct setting_value *value);
/* ---- application passwords: several to an account, long random secrets under labels ---- */

struct manage_app_password {
	struct slice label;
	int64_t created_s, used_s; /* used_s: to within an hour; 0 = never, or not known */
	unsigned protocols;        /* bits 1 << enum auth_protocol */
};
/* stored: a fast hash of a long random secret, see app_password.h. protocols 0 = all. ERR_EXISTS: the label is taken; ERR_LIMIT: too many. */
enum err manage_app_password_add(struct manage *m, struct slice account, struct slice label, struct slice stored, unsigned protocols);
enum err manage_app_password_remove(struct manage *m, struct slice account, struct slice label);
/* By label. */
enum err manage_app_passwords(struct manage *m, struct slice account, bool (*each)(void *arg, const struct manage_app_password *p), void *arg);

/* The scheme that its tenant sets passwords in, for password_make; scheme_out is NUL-terminated. `name` need only have a known domain. */
enum err manage_account_scheme(struct manage *m, struct slice name, char scheme_out[SETTING_TEXT_BYTES]);
/* The row goes; the mail stays on disk until it is purged. */
enum err manage_account_remove(struct manage *m, struct slice name, bool purge, int64_t *id_out);
/* By name; tenant and domain may be empty. `only` (may be empty) is one account's name: ERR_NOT_FOUND without it. */
enum err manage_accounts(struct manage *m, struct slice tenant, struct slice domain, struct slice only,
			 bool (*each)(void *arg, const struct manage_account *a), void *arg);

/* ---- what tenants used ---- */

struct manage_usage {
	int64_t tenant_id;   /* 0: of no tenant, or of more tenants than are counted apart */
	struct slice tenant; /* empty: removed, or tenant_id is 0 */
	uint64_t counters[USAGE_COUNTERS];
};
/* As last written (usage.h), by tenant's name, those without one last; `only` (may be NULL) is one tenant. */
enum err manage_usage(struct manage *m, const struct slice *only, bool (*each)(void *arg, const struct manage_usage *u), void *arg);

/* ---- removed accounts whose mail is still there ---- */

struct manage_removed {
	int64_t id;
	struct slice name, tenant;
	int64_t removed_s;
	bool purge; /* asked for, not yet done */
};
enum err manage_removed(struct manage *m, bool (*each)(void *arg, const struct manage_removed *r), void *arg);
/* Asks for the purge of one (by its id, or every one of its name) or of all: name empty. *count_out: how many. */
enum err manage_purge(struct manage *m, struct slice name, uint64_t *count_out);
/* The mail of this one is gone. */
enum err manage_purged(struct manage *m, int64_t id);

#endif
