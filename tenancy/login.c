/* SPDX-License-Identifier: Apache-2.0 */
/* login.c - the one table of logins and recipients. */
#include "tenancy/login.h"

struct reading {
	const struct login_ask *ask;
	enum login_purpose purpose;
	struct login_found *found;
};

static enum err account_at(struct reading *r, struct slice local, enum login_reading how)
{
	enum err e = r->ask->account(r->ask->arg, local, r->found->domain->name, &r->found->record);
	if (!e)
		r->found->reading = how;
	return e;
}

/* The domain becomes the one being tried. */
static enum err enter_domain(struct reading *r, struct slice folded)
{
	struct domain_facts *domain = NULL;
	enum err e = r->ask->domain(r->ask->arg, folded, &domain);
	if (e)
		return e;
	if (r->found->domain)
		fact_unref(&r->found->domain->fact);
	r->found->domain = domain;
	return OK;
}

/* The host is one maildrop: its account has no local part, the one given says whose mail is seen. */
static enum err maildrop_user(struct reading *r, struct slice local)
{
	enum err e = account_at(r, SLICE_LIT(""), LOGIN_SDPS_USER);
	if (e)
		return e;
	memcpy(r->found->user_bytes, local.ptr, local.len);
	r->found->user = slice_of(r->found->user_bytes, local.len);
	return OK;
}

/* Cuts at the separator, the longest name first; past a number of cuts only the shortest is left to try. */
static enum err without_subaddress(struct reading *r, struct slice local)
{
	char separator = r->found->domain->subaddress_separator;
	if (!separator)
		return ERR_NOT_FOUND;
	size_t first = slice_find(local, separator);
	for (int cuts = 0;; cuts++) {
		size_t at = cuts < SUBADDRESS_CUTS_MAX ? slice_rfind(local, separator) : first;
		if (at == SIZE_MAX || at == 0)
			return ERR_NOT_FOUND;
		local = slice_upto(local, at);
		enum err e = account_at(r, local, LOGIN_SUBADDRESS);
		if (e != ERR_NOT_FOUND || at == first)
			return e;
	}
}

/* Readings 1 to 3 of a name in a domain. */
static enum err name_at_domain(struct reading *r, struct slice local, struct slice folded)
{
	enum err e = enter_domain(r, folded);
	if (e)
		return e;
	e = account_at(r, local, LOGIN_EXACT);
	if (e == ERR_NOT_FOUND && r->found->domain->sdps == SDPS_MAILDROP)
		e = maildrop_user(r, local);
	if (e == ERR_NOT_FOUND)
		e = without_subaddress(r, local);
	return e;
}

/* A user of a host that is named by the host table. */
static enum err name_at_host(struct reading *r, struct slice local, struct slice folded)
{
	struct host_facts *host = NULL;
	enum err e = r->ask->host(r->ask->arg, folded, &host);
	if (e)
		return e;
	e = name_at_domain(r, local, host->domain);
	fact_unref(&host->fact);
	if (!e && r->found->reading == LOGIN_EXACT)
		r->found->reading = LOGIN_SDPS_USER;
	return e;
}

/* A whole host: mode maildrop only, elsewhere it is nobody. */
static enum err whole_host(struct reading *r, struct slice folded)
{
	struct host_facts *host = NULL;
	enum err e = r->ask->host(r->ask->arg, folded, &host);
	if (e)
		return e;
	e = host->sdps == SDPS_MAILDROP ? enter_domain(r, host->domain) : ERR_NOT_FOUND;
	fact_unref(&host->fact);
	return e ? e : account_at(r, SLICE_LIT(""), LOGIN_SDPS_HOST);
}

static enum err with_at(struct reading *r, struct slice left, struct slice right)
{
	char domain_bytes[DOMAIN_BYTES_MAX], local_bytes[LOGIN_BYTES_MAX];
	struct slice domain, local;
	if (r->purpose == LOGIN_RCPT) {
		if (name_unquote(left, local_bytes, &left))
			return ERR_SYNTAX;
	}
	if (name_local(left, local_bytes, &local) || name_domain(right, domain_bytes, &domain))
		return ERR_SYNTAX;
	enum err e = name_at_domain(r, local, domain);
	if (e == ERR_NOT_FOUND && r->purpose == LOGIN_SESSION && slice_find(domain, '.') == SIZE_MAX)
		e = name_at_host(r, local, domain);
	return e;
}

/* user<c>rest, split at the last c; ERR_NOT_FOUND if there is no such byte or a side is no name. */
static enum err split(struct slice login, char c, char local_bytes[LOGIN_BYTES_MAX], struct slice *local_out,
		      char right_bytes[DOMAIN_BYTES_MAX], struct slice *right_out)
{
	size_t at = slice_rfind(login, c);
	if (at == SIZE_MAX)
		return ERR_NOT_FOUND;
	if (name_local(slice_upto(login, at), local_bytes, local_out) || name_domain(slice_from(login, at + 1), right_bytes, right_out))
		return ERR_NOT_FOUND;
	return OK;
}

/* Readings 2 to 4 of a bare name; sessions only. */
static enum err other_forms(struct reading *r, struct slice login)
{
	char domain_bytes[DOMAIN_BYTES_MAX], local_bytes[LOGIN_BYTES_MAX];
	struct slice domain, local;
	size_t percent = slice_rfind(login, '%');
	if (percent != SIZE_MAX) {
		enum err e = with_at(r, slice_upto(login, percent), slice_from(login, percent + 1));
		if (e != ERR_NOT_FOUND && e != ERR_SYNTAX)
			return e;
	}
	if (!split(login, '+', local_bytes, &local, domain_bytes, &domain)) {
		enum err e = name_at_host(r, local, domain);
		if (e != ERR_NOT_FOUND)
			return e;
	}
	return name_domain(login, domain_bytes, &domain) ? ERR_NOT_FOUND : whole_host(r, domain);
}

static enum err without_at(struct reading *r, struct slice login)
{
	char local_bytes[LOGIN_BYTES_MAX];
	struct slice local;
	enum err e = ERR_NOT_FOUND;
	bool is_name = !name_local(login, local_bytes, &local);
	if (!is_name && r->purpose == LOGIN_RCPT)
		return ERR_SYNTAX;
	bool has_default = r->ask->default_domain.len && is_name;
	if (has_default) {
		e = enter_domain(r, r->ask->default_domain);
		if (!e)
			e = account_at(r, local, LOGIN_EXACT);
		if (e != ERR_NOT_FOUND)
			return e;
	}
	if (r->purpose == LOGIN_SESSION)
		e = other_forms(r, login);
	if (e == ERR_NOT_FOUND && has_default) {
		e = enter_domain(r, r->ask->default_domain);
		if (!e)
			e = without_subaddress(r, local);
	}
	return e;
}

enum err login_resolve(const struct login_ask *ask, enum login_purpose purpose, struct slice login, struct login_found *found_out)
{
	found_out->record = NULL;
	found_out->domain = NULL;
	found_out->reading = LOGIN_EXACT;
	found_out->user = slice_of(NULL, 0);
	struct reading r = { ask, purpose, found_out };
	if (login.len == 0 || login.len > LOGIN_BYTES_MAX)
		return purpose == LOGIN_RCPT ? ERR_SYNTAX : ERR_NOT_FOUND;
	size_t at = slice_rfind(login, '@');
	enum err e = at != SIZE_MAX ? with_at(&r, slice_upto(login, at), slice_from(login, at + 1)) : without_at(&r, login);
	/* To a session a name that cannot be is a name that is not there: its password is refused like any other. */
	return e == ERR_SYNTAX && purpose == LOGIN_SESSION ? ERR_NOT_FOUND : e;
}

void login_found_release(struct login_found *found)
{
	if (found->record)
		fact_unref(&found->record->fact);
	if (found->domain)
		fact_unref(&found->domain->fact);
	found->record = NULL;
	found->domain = NULL;
}
