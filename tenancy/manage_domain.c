/* SPDX-License-Identifier: Apache-2.0 */
/* manage_domain.c - domains and alias domains. */
#include "tenancy/manage.h"
#include "tenancy/manage_private.h"

static enum err domain_name(struct manage *m, struct slice name, char bytes[DOMAIN_BYTES_MAX], struct slice *name_out)
{
	enum err e = name_domain(name, bytes, name_out);
	return e ? manage_fail(m, e, "that is not a domain name") : OK;
}

enum err manage_enter_domain(struct manage *m, struct slice domain)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice name;
	enum err e = domain_name(m, domain, bytes, &name);
	if (e)
		return e;
	if (m->domain_len && slice_eq(name, slice_of(m->domain_bytes, m->domain_len)))
		return OK;
	m->domain_len = 0;
	sqlite3_stmt *st = manage_statement(m, "SELECT d.id, t.id, t.name, t.schemes, t.plain_passwords, t.password_scheme, d.alias_of IS NOT NULL"
					       " FROM domains d JOIN tenants t ON t.id = d.tenant_id WHERE d.name = ?1");
	if (st)
		schema_bind(st, 1, name);
	e = manage_row(m, st);
	if (e)
		return e == ERR_NOT_FOUND ? manage_fail(m, e, "there is no domain %.*s", SLICE_ARG(name)) : e;
	struct slice tenant = slice_upto(schema_text(st, 2), sizeof(m->tenant_bytes));
	struct slice schemes = slice_upto(schema_text(st, 3), sizeof(m->schemes_bytes));
	struct setting_value scheme;
	memcpy(m->domain_bytes, name.ptr, name.len);
	memcpy(m->tenant_bytes, tenant.ptr, tenant.len);
	memcpy(m->schemes_bytes, schemes.ptr, schemes.len);
	m->tenant_len = tenant.len;
	m->schemes_len = schemes.len;
	m->domain_id = sqlite3_column_int64(st, 0);
	m->tenant_id = sqlite3_column_int64(st, 1);
	m->plain_passwords = sqlite3_column_int(st, 4) != 0;
	manage_read_value(st, 5, &scheme);
	setting_format(SET_PASSWORD_SCHEME, &scheme, m->scheme_bytes);
	m->is_alias = sqlite3_column_int(st, 6) != 0;
	m->domain_len = name.len;
	sqlite3_reset(st);
	return OK;
}

/* The domain that an alias stands for: not an alias itself, and the tenant's own. */
static enum err alias_target(struct manage *m, struct slice alias_of, struct slice tenant, int64_t *tenant_id_out, int64_t *target_out)
{
	enum err e = manage_enter_domain(m, alias_of);
	if (e)
		return e;
	if (m->is_alias)
		return manage_fail(m, ERR_DENIED, "%.*s is an alias itself", SLICE_ARG(alias_of));
	if (tenant.len && *tenant_id_out != m->tenant_id) /* another tenant's domains are as if they were not there */
		return manage_fail(m, ERR_NOT_FOUND, "tenant %.*s has no domain %.*s", SLICE_ARG(tenant), SLICE_ARG(alias_of));
	*tenant_id_out = m->tenant_id;
	*target_out = m->domain_id;
	return OK;
}

enum err manage_domain_add(struct manage *m, struct slice name, struct slice tenant, struct slice alias_of)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice folded;
	int64_t tenant_id = 0, target = 0;
	enum err e = domain_name(m, name, bytes, &folded);
	if (!e && tenant.len)
		e = manage_tenant_id(m, tenant, &tenant_id);
	else if (!e && !alias_of.len)
		e = manage_fail(m, ERR_SYNTAX, "a domain needs a tenant");
	if (!e && alias_of.len)
		e = alias_target(m, alias_of, tenant, &tenant_id, &target);
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, "INSERT INTO domains (name, tenant_id, alias_of) VALUES (?1, ?2, ?3)");
	if (st) {
		schema_bind(st, 1, folded);
		sqlite3_bind_int64(st, 2, tenant_id);
		if (target)
			sqlite3_bind_int64(st, 3, target);
	}
	e = manage_run(m, st, NULL);
	return e == ERR_EXISTS ? manage_fail(m, e, "domain %.*s is already there", SLICE_ARG(folded)) : e;
}

enum err manage_domain_remove(struct manage *m, struct slice name)
{
	enum err e = manage_enter_domain(m, name);
	if (e)
		return e;
	int64_t id = m->domain_id;
	m->domain_len = 0;
	sqlite3_stmt *st = manage_statement(m, "DELETE FROM domains WHERE id = ?1");
	if (st)
		sqlite3_bind_int64(st, 1, id);
	e = manage_run(m, st, NULL);
	return e == ERR_EXISTS ? manage_fail(m, e, "accounts, alias domains or an SDPS host still hang on %.*s: remove them first", SLICE_ARG(name)) : e;
}

enum err manage_domains(struct manage *m, struct slice tenant, bool (*each)(void *arg, const struct manage_domain *d), void *arg)
{
	static const char sql[] = "SELECT d.id, d.name, t.name, p.name, d.created_s, (SELECT count(*) FROM accounts a WHERE a.domain_id = d.id)"
				  " FROM domains d JOIN tenants t ON t.id = d.tenant_id LEFT JOIN domains p ON p.id = d.alias_of"
				  " WHERE ?1 IS NULL OR t.id = ?1 ORDER BY t.name, d.name";
	int64_t tenant_id;
	enum err e = tenant.len ? manage_tenant_id(m, tenant, &tenant_id) : OK;
	if (e)
		return e;
	sqlite3_stmt *st = manage_statement(m, sql);
	if (!st)
		return manage_db_error(m);
	if (tenant.len)
		sqlite3_bind_int64(st, 1, tenant_id);
	while ((e = manage_row(m, st)) == OK) {
		struct manage_domain d = {
			.id = sqlite3_column_int64(st, 0),
			.name = schema_text(st, 1),
			.tenant = schema_text(st, 2),
			.alias_of = schema_text(st, 3),
			.created_s = sqlite3_column_int64(st, 4),
			.accounts = (uint64_t)sqlite3_column_int64(st, 5),
		};
		if (!each(arg, &d))
			break;
	}
	sqlite3_reset(st);
	return e == ERR_NOT_FOUND ? OK : e;
}
