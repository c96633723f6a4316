/* SPDX-License-Identifier: Apache-2.0 */
/*
 * login_fuzz.c - names, stored passwords, passwd-file lines and settings made of any bytes.
 *
 * The first byte chooses the parser.  Beside "does not crash": a name that is found folds to itself, what is asked of the
 * directory is always folded, and a stored password that is accepted names its scheme.
 */
#include "core/base/base.h"
#include "tenancy/login.h"
#include "tenancy/passwd_file.h"
#include "tenancy/password.h"
#include "tenancy/setting.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void folded_domain(struct slice domain)
{
	char bytes[DOMAIN_BYTES_MAX];
	struct slice again;
	ASSERT(!name_domain(domain, bytes, &again) && slice_eq(domain, again));
}

/* A directory that knows what the fuzzer's first bytes say, so that every reading is reached. */
static uint8_t knows;

static enum err ask_domain(void *arg, struct slice domain, struct domain_facts **out)
{
	(void)arg;
	folded_domain(domain);
	if (!(knows & 1))
		return ERR_NOT_FOUND;
	*out = domain_facts_new(&(struct domain_facts){ .name = domain, .subaddress_separator = knows & 2 ? '+' : 0, .sdps = knows & 4 ? SDPS_MAILDROP : SDPS_NONE });
	return OK;
}

static enum err ask_account(void *arg, struct slice local, struct slice domain, struct record **out)
{
	(void)arg;
	char bytes[LOGIN_BYTES_MAX];
	struct slice again;
	ASSERT(local.len <= LOGIN_BYTES_MAX);
	ASSERT(!local.len || (!name_local(local, bytes, &again) && slice_eq(local, again)));
	folded_domain(domain);
	bool there = knows & 8 ? local.len == 0 : local.len < 4;
	if (!there)
		return ERR_NOT_FOUND;
	*out = record_new(&(struct subject){ .account_id = 1, .name = local }, NULL, 0);
	return OK;
}

static enum err ask_host(void *arg, struct slice host, struct host_facts **out)
{
	(void)arg;
	folded_domain(host);
	if (!(knows & 16))
		return ERR_NOT_FOUND;
	*out = host_facts_new(&(struct host_facts){ .domain = SLICE_LIT("host.example"), .sdps = knows & 4 ? SDPS_MAILDROP : SDPS_ACCOUNTS });
	return OK;
}

static void login(struct slice s)
{
	struct login_ask ask = { ask_domain, ask_account, ask_host, NULL, knows & 32 ? SLICE_LIT("home.example") : slice_of(NULL, 0) };
	struct login_found found;
	for (int purpose = LOGIN_SESSION; purpose <= LOGIN_RCPT; purpose++) {
		enum err e = login_resolve(&ask, (enum login_purpose)purpose, s, &found);
		ASSERT((e == OK) == (found.record != NULL));
		ASSERT(e != ERR_SYNTAX || purpose == LOGIN_RCPT);
		login_found_release(&found);
	}
}

static void stored(struct slice s)
{
	const char *scheme, *why;
	struct slice secret;
	enum err e = password_check(s, &scheme, &why);
	ASSERT((e == OK) == (scheme != NULL) && (e == OK) == (why == NULL));
	ASSERT(!password_plain(s, &secret) || (e == OK && !strcmp(scheme, "PLAIN")));
	/* cheap ones only: the others cost milliseconds, as they should */
	if (e || !strcmp(scheme, "PLAIN") || strstr(scheme, "SHA") == scheme || strstr(scheme, "SSHA") == scheme)
		ASSERT(!password_matches(s, SLICE_LIT("\0")));
}

static void setting(struct slice s)
{
	struct setting_value value, again;
	char text[SETTING_TEXT_BYTES];
	for (unsigned i = 0; i < SET_COUNT; i++)
		if (!setting_parse((enum setting_id)i, s, &value)) {
			setting_format((enum setting_id)i, &value, text);
			ASSERT(!setting_parse((enum setting_id)i, slice_str(text), &again));
			ASSERT(value.is_default || again.is_default || (value.number == again.number && !strcmp(value.text, again.text)));
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct passwd_line line;
	const char *why;
	if (size < 2)
		return 0;
	struct slice s = slice_of(data + 2, size - 2);
	knows = data[1];
	switch (data[0] % 4) {
	case 0:
		login(s);
		break;
	case 1:
		stored(s);
		break;
	case 2:
		(void)passwd_line_parse(s, &line, &why);
		break;
	default:
		setting(s);
		break;
	}
	return 0;
}
