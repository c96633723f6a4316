/* SPDX-License-Identifier: Apache-2.0 */
/* Every form of DESIGN section 6 in one table, against a directory of arrays. */
#include "tenancy/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the directory ---- */

static const struct {
	const char *name, *canonical;
	char separator;
	enum sdps_mode sdps;
} domains[] = {
	{ "example.org", "example.org", '+', SDPS_NONE },
	{ "alias.example", "example.org", '+', SDPS_NONE },
	{ "off.example", "off.example", 0, SDPS_NONE },
	{ "dash.example", "dash.example", '-', SDPS_NONE },
	{ "xn--bcher-kva.example", "xn--bcher-kva.example", '+', SDPS_NONE },
	{ "home.example", "home.example", '+', SDPS_NONE }, /* the default domain */
	{ "vision25.example.net", "vision25.example.net", '+', SDPS_ACCOUNTS },
	{ "demon.example.net", "demon.example.net", '+', SDPS_MAILDROP },
	{ "demon-alias.example", "demon.example.net", '+', SDPS_MAILDROP },
	{ "broken.example", "broken.example", '+', SDPS_NONE },
};

static const char *const accounts[] = {
	"john@example.org", "a+b@example.org", "a@example.org", "per%cent@example.org", "x@y@example.org", "j\xc3\xb6rg@example.org",
	"o'brien@example.org", "%s%n@example.org", "tag+ged@off.example", "plain@off.example", "lists-dev@dash.example", "lists@dash.example",
	"anna@xn--bcher-kva.example", "bare@home.example", "john+vision25@home.example", "mary%example.org@home.example", "demonic@home.example",
	"john@vision25.example.net", "mary@vision25.example.net", "mary@example.org", "@demon.example.net", "own@demon.example.net",
};

static const struct {
	const char *name, *domain;
	enum sdps_mode sdps;
} hosts[] = {
	{ "vision25", "vision25.example.net", SDPS_ACCOUNTS },
	{ "vision25.example.net", "vision25.example.net", SDPS_ACCOUNTS },
	{ "demon", "demon.example.net", SDPS_MAILDROP },
	{ "demon.example.net", "demon.example.net", SDPS_MAILDROP },
};

static enum err ask_domain(void *arg, struct slice name, struct domain_facts **out)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(domains); i++)
		if (slice_eq(name, slice_str(domains[i].name))) {
			*out = domain_facts_new(&(struct domain_facts){ .name = slice_str(domains[i].canonical),
									 .subaddress_separator = domains[i].separator,
									 .sdps = domains[i].sdps,
									 .plaintext_login = true });
			return OK;
		}
	return ERR_NOT_FOUND;
}

static enum err ask_account(void *arg, struct slice local, struct slice domain, struct record **out)
{
	(void)arg;
	char name[1024];
	snprintf(name, sizeof(name), "%.*s@%.*s", SLICE_ARG(local), SLICE_ARG(domain));
	if (slice_eq(domain, SLICE_LIT("broken.example")))
		return slice_eq(local, SLICE_LIT("gone")) ? ERR_NOT_FOUND : ERR_TEMP;
	for (size_t i = 0; i < ARRAY_LEN(accounts); i++)
		if (!strcmp(accounts[i], name)) {
			*out = record_new(&(struct subject){ .account_id = i + 1, .name = slice_str(accounts[i]) }, NULL, 0);
			return OK;
		}
	return ERR_NOT_FOUND;
}

static enum err ask_host(void *arg, struct slice name, struct host_facts **out)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (slice_eq(name, slice_str(hosts[i].name))) {
			*out = host_facts_new(&(struct host_facts){ .domain = slice_str(hosts[i].domain), .sdps = hosts[i].sdps });
			return OK;
		}
	return ERR_NOT_FOUND;
}

static const struct login_ask with_default = { ask_domain, ask_account, ask_host, NULL, { "home.example", 12 } };
static const struct login_ask without_default = { ask_domain, ask_account, ask_host, NULL, { NULL, 0 } };

/* ---- the table ---- */

enum { D = 1, N = 2 }; /* asked with and without a default domain */

static const struct row {
	const char *login;
	int defaults;
	/* "account", or "!error"; NULL = as for the session */
	const char *session, *rcpt;
	enum login_reading reading;
	const char *user;
} rows[] = {
	/* user@domain, case, alias, IDN */
	{ "john@example.org", D | N, "john@example.org", NULL, LOGIN_EXACT, NULL },
	{ "JoHn@EXAMPLE.Org", D | N, "john@example.org", NULL, LOGIN_EXACT, NULL },
	{ "john@example.org.", D | N, "john@example.org", NULL, LOGIN_EXACT, NULL },
	{ "john@alias.example", D | N, "john@example.org", NULL, LOGIN_EXACT, NULL },
	{ "anna@b\xc3\xbc" "cher.example", D | N, "anna@xn--bcher-kva.example", NULL, LOGIN_EXACT, NULL },
	{ "anna@B\xc3\x9c" "CHER.example", D | N, "anna@xn--bcher-kva.example", NULL, LOGIN_EXACT, NULL },
	{ "anna@XN--BCHER-KVA.example", D | N, "anna@xn--bcher-kva.example", NULL, LOGIN_EXACT, NULL },
	{ "anna@b\xc3\xbc" "cher\xe3\x80\x82" "example", D | N, "anna@xn--bcher-kva.example", NULL, LOGIN_EXACT, NULL },
	{ "j\xc3\xb6rg@example.org", D | N, "j\xc3\xb6rg@example.org", NULL, LOGIN_EXACT, NULL },
	{ "nobody@example.org", D | N, "!not-found", NULL, 0, NULL },
	{ "john@nowhere.example", D | N, "!not-found", NULL, 0, NULL },
	/* split at the last '@' */
	{ "x@y@example.org", D | N, "x@y@example.org", NULL, LOGIN_EXACT, NULL },
	{ "\"x@y\"@example.org", D | N, "!not-found", "x@y@example.org", LOGIN_EXACT, NULL },
	{ "\"jo\\hn\"@example.org", D | N, "!not-found", "john@example.org", LOGIN_EXACT, NULL },
	/* subaddress: longest name wins, an exact one above all */
	{ "john+tag@example.org", D | N, "john@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "john+tag@alias.example", D | N, "john@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "john+a+b+c+d+e+f+g+h+i+j+k@example.org", D | N, "john@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "john+@example.org", D | N, "john@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "a+b@example.org", D | N, "a+b@example.org", NULL, LOGIN_EXACT, NULL },
	{ "a+b+c@example.org", D | N, "a+b@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "a+c@example.org", D | N, "a@example.org", NULL, LOGIN_SUBADDRESS, NULL },
	{ "+tag@example.org", D | N, "!not-found", NULL, 0, NULL },
	{ "plain+tag@off.example", D | N, "!not-found", NULL, 0, NULL },
	{ "tag+ged@off.example", D | N, "tag+ged@off.example", NULL, LOGIN_EXACT, NULL },
	{ "lists-dev-x@dash.example", D | N, "lists-dev@dash.example", NULL, LOGIN_SUBADDRESS, NULL },
	{ "lists+x@dash.example", D | N, "!not-found", NULL, 0, NULL },
	/* '%' for '@': sessions only, and never against an exact account */
	{ "john%example.org", N, "john@example.org", "!not-found", LOGIN_EXACT, NULL },
	{ "john%example.org", D, "john@example.org", "!not-found", LOGIN_EXACT, NULL },
	{ "john+tag%example.org", D | N, "john@example.org", "!not-found", LOGIN_SUBADDRESS, NULL },
	{ "per%cent%example.org", D | N, "per%cent@example.org", "!not-found", LOGIN_EXACT, NULL },
	{ "per%cent@example.org", D | N, "per%cent@example.org", NULL, LOGIN_EXACT, NULL },
	{ "mary%example.org", D, "mary%example.org@home.example", NULL, LOGIN_EXACT, NULL },
	{ "mary%example.org", N, "mary@example.org", "!not-found", LOGIN_EXACT, NULL },
	/* no domain: the default one */
	{ "bare", D, "bare@home.example", NULL, LOGIN_EXACT, NULL },
	{ "BARE", D, "bare@home.example", NULL, LOGIN_EXACT, NULL },
	{ "bare", N, "!not-found", NULL, 0, NULL },
	{ "bare+tag", D, "bare@home.example", NULL, LOGIN_SUBADDRESS, NULL },
	/* SDPS, users with accounts of their own */
	{ "mary+vision25", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "mary+vision25.example.net", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "mary+tag+vision25", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SUBADDRESS, NULL },
	{ "mary@vision25", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "mary%vision25", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "MARY@Vision25", D | N, "mary@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "mary@vision25.example.net", D | N, "mary@vision25.example.net", NULL, LOGIN_EXACT, NULL },
	{ "vision25", D | N, "!not-found", NULL, 0, NULL },
	/* ... an exact account beats it */
	{ "john+vision25", D, "john+vision25@home.example", NULL, LOGIN_EXACT, NULL },
	{ "john+vision25", N, "john@vision25.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	/* SDPS, the host one maildrop */
	{ "demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_HOST, NULL },
	{ "demon.example.net", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_HOST, NULL },
	{ "fred+demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred" },
	{ "Fred@demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred" },
	{ "fred@demon.example.net", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "fred" },
	{ "fr+ed@demon.example.net", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "fr+ed" },
	{ "own@demon.example.net", D | N, "own@demon.example.net", NULL, LOGIN_EXACT, NULL },
	{ "FRED+DEMON.Example.Net", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred" },
	{ "fred%demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred" },
	{ "fred%demon.example.net", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred" },
	{ "fred+tag+demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "fred+tag" },
	{ "fred@demon-alias.example", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "fred" },
	{ "anything.at-all@demon.example.net", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "anything.at-all" },
	{ "\"fr ed\"@demon.example.net", D | N, "@demon.example.net", "@demon.example.net", LOGIN_SDPS_USER, "\"fr ed\"" },
	{ "own+tag@demon.example.net", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "own+tag" },
	{ "own+demon", D | N, "own@demon.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "OWN@demon", D | N, "own@demon.example.net", "!not-found", LOGIN_SDPS_USER, NULL },
	{ "demon@demon", D | N, "@demon.example.net", "!not-found", LOGIN_SDPS_USER, "demon" },
	{ "demonic", D, "demonic@home.example", NULL, LOGIN_EXACT, NULL },
	{ "demonic", N, "!not-found", NULL, 0, NULL },
	{ "fred+demon@demon.example.net", D | N, "@demon.example.net", NULL, LOGIN_SDPS_USER, "fred+demon" },
	{ "fred+nohost", N, "!not-found", NULL, 0, NULL },
	{ "fred@nohost", D | N, "!not-found", NULL, 0, NULL },
	{ "@demon", D | N, "!not-found", "!syntax", 0, NULL },
	{ "fred+", D | N, "!not-found", NULL, 0, NULL },
	{ "+demon", D | N, "!not-found", NULL, 0, NULL },
	/* a question without answer ends it: no other reading may step in */
	{ "any@broken.example", D | N, "!temp", NULL, 0, NULL },
	{ "gone+any@broken.example", D | N, "!temp", NULL, 0, NULL },
	{ "any%broken.example", N, "!temp", "!not-found", 0, NULL },
	/* what is no name: to a session it is nobody, to a sender a bad address */
	{ "", D | N, "!not-found", "!syntax", 0, NULL },
	{ "@", D | N, "!not-found", "!syntax", 0, NULL },
	{ "@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@ex ample.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@.example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@example..org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@[127.0.0.1]", D | N, "!not-found", "!syntax", 0, NULL },
	{ "john@\xff\xfe.example", D | N, "!not-found", "!syntax", 0, NULL },
	{ "jo\thn@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "jo\rhn@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "\xc3(@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "\"\"@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "\"john@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	{ "\"john\\\"@example.org", D | N, "!not-found", "!syntax", 0, NULL },
	/* bytes that mean something elsewhere are bytes here */
	{ "o'brien@example.org", D | N, "o'brien@example.org", NULL, LOGIN_EXACT, NULL },
	{ "' OR 1=1 --@example.org", D | N, "!not-found", NULL, 0, NULL },
	{ "%s%n@example.org", D | N, "%s%n@example.org", NULL, LOGIN_EXACT, NULL },
	{ ")(uid=*@example.org", D | N, "!not-found", NULL, 0, NULL },
	{ "%{user}@example.org", D | N, "!not-found", NULL, 0, NULL },
};

static void check(const struct row *row, const struct login_ask *ask, enum login_purpose purpose, const char *expect)
{
	struct login_found found;
	char got[1024];
	enum err e = login_resolve(ask, purpose, slice_str(row->login), &found);
	if (e)
		snprintf(got, sizeof(got), "!%s", err_name(e));
	else
		snprintf(got, sizeof(got), "%.*s", SLICE_ARG(found.record->subject.name));
	if (strcmp(got, expect))
		fail_msg("%s (%s): %s, expected %s", row->login, purpose == LOGIN_RCPT ? "rcpt" : "session", got, expect);
	if (!e) {
		if (purpose == LOGIN_SESSION && found.reading != row->reading)
			fail_msg("%s: reading %d, expected %d", row->login, (int)found.reading, (int)row->reading);
		if (purpose == LOGIN_SESSION && !slice_eq(found.user, slice_str(row->user)))
			fail_msg("%s: sees mail of %.*s", row->login, SLICE_ARG(found.user));
	}
	login_found_release(&found);
}

static void every_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int d = D; d <= N; d++) {
			if (!(rows[i].defaults & d))
				continue;
			const struct login_ask *ask = d == D ? &with_default : &without_default;
			check(&rows[i], ask, LOGIN_SESSION, rows[i].session);
			check(&rows[i], ask, LOGIN_RCPT, rows[i].rcpt ? rows[i].rcpt : rows[i].session);
		}
}

static void nul_and_length(void **state)
{
	(void)state;
	struct login_found found;
	assert_int_equal(login_resolve(&with_default, LOGIN_SESSION, SLICE_LIT("john\0@example.org"), &found), ERR_NOT_FOUND);
	login_found_release(&found);
	assert_int_equal(login_resolve(&with_default, LOGIN_RCPT, SLICE_LIT("john@example.org\0.evil"), &found), ERR_SYNTAX);
	login_found_release(&found);
	char longest[LOGIN_BYTES_MAX + 1];
	memset(longest, '+', sizeof(longest));
	memcpy(longest, "john", 4);
	memcpy(longest + LOGIN_BYTES_MAX - 12, "@example.org", 12);
	assert_int_equal(login_resolve(&with_default, LOGIN_RCPT, slice_of(longest, LOGIN_BYTES_MAX), &found), OK);
	assert_int_equal(found.reading, LOGIN_SUBADDRESS);
	login_found_release(&found);
	assert_int_equal(login_resolve(&with_default, LOGIN_RCPT, slice_of(longest, LOGIN_BYTES_MAX + 1), &found), ERR_SYNTAX);
	login_found_release(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_form), cmocka_unit_test(nul_and_length) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
