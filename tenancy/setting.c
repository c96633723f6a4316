/* SPDX-License-Identifier: Apache-2.0 */
/* setting.c - the table of settings and their text forms. */
#include "tenancy/setting.h"

#include "core/base/cidr.h"
#include "core/base/limits.h"
#include "tenancy/password.h"

#include <inttypes.h>
#include <stdio.h>

static const struct setting settings[SET_COUNT] = {
	[SET_SUSPENDED] = { "suspended", SETTING_BOOL, true, false, 0, NULL, "nobody logs in, mail is refused" },
	[SET_POP3] = { "pop3", SETTING_BOOL, true, false, 1, NULL, "may log in by POP3" },
	[SET_IMAP] = { "imap", SETTING_BOOL, true, false, 1, NULL, "may log in by IMAP" },
	[SET_LMTP] = { "lmtp", SETTING_BOOL, true, false, 1, NULL, "takes mail" },
	[SET_QUOTA_BYTES] = { "quota_bytes", SETTING_BYTES, true, false, 0, NULL, "room per account" },
	[SET_QUOTA_MESSAGES] = { "quota_messages", SETTING_COUNT, true, false, 0, NULL, "messages per account" },
	[SET_OVER_QUOTA] = { "over_quota", SETTING_OVER_QUOTA, false, false, 1, NULL, "mail for a full account is refused for now (452) or for good (552)" },
	[SET_LOGIN_DELAY_S] = { "login_delay_s", SETTING_SECONDS, false, false, 0, NULL, "seconds between two POP3 logins of an account" },
	[SET_EXPIRE_DAYS] = { "expire_days", SETTING_DAYS, false, false, -1, NULL, "mail in INBOX is deleted after so many days; 0: once it was downloaded by POP3" },
	[SET_SUBADDRESS_SEPARATOR] = { "subaddress_separator", SETTING_SEPARATOR, false, false, '+', NULL, "user+anything is user" },
	[SET_PLAIN_PASSWORDS] = { "plain_passwords", SETTING_BOOL, false, false, 0, NULL, "passwords may be kept readable; APOP needs it" },
	[SET_SCHEMES] = { "schemes", SETTING_SCHEMES, false, false, 0, "all", "password schemes that may be stored" },
	[SET_PASSWORD_SCHEME] = { "password_scheme", SETTING_SCHEME, false, false, 0, "YESCRYPT", "scheme of passwords set here" },
	[SET_XTND] = { "xtnd", SETTING_XTND, false, false, 0, NULL, "POP3's XTND: xlst lists header fields, xmit sends mail" },
	[SET_MASTER] = { "master", SETTING_MASTER, true, true, 0, NULL, "may log in as any account of its tenant, or of the server, with its own password" },
	[SET_SESSIONS_MAX] = { "sessions_max", SETTING_COUNT, false, false, 0, NULL, "sessions of all accounts together; none: limits.per_tenant" },
	[SET_ACCOUNT_SESSIONS_MAX] = { "account_sessions_max", SETTING_COUNT, false, false, 0, NULL, "sessions of an account; none: limits.per_account" },
	[SET_GUESS_DELAY_MAX_S] = { "guess_delay_max_s", SETTING_SECONDS, false, false, -1, NULL, "longest delay behind failed logins" },
	[SET_TRUSTED_NETWORKS] = { "trusted_networks", SETTING_NETWORKS, false, false, 0, "", "no delay behind failed logins from there" },
	[SET_PLAINTEXT_LOGIN] = { "plaintext_login", SETTING_BOOL, false, false, 1, NULL, "logins without TLS, where the listener takes them" },
	[SET_DELETION] = { "deletion", SETTING_DELETION, false, false, 0, NULL, "what POP3 deletes is gone, or goes to the folder Trash" },
	[SET_END_ON_PASSWORD_CHANGE] = { "end_on_password_change", SETTING_BOOL, false, false, 0, NULL, "a changed password ends the account's open sessions" },
	[SET_JUNK] = { "junk", SETTING_BOOL, true, false, 1, NULL, "mail that the spam filter marked goes to the folder Junk (lmtp.junk_header)" },
};

const struct setting *setting_get(enum setting_id id)
{
	ASSERT(id < SET_COUNT);
	return &settings[id];
}

bool setting_find(struct slice name, enum setting_id *id_out)
{
	char folded[32];
	if (name.len >= sizeof(folded))
		return false;
	for (size_t i = 0; i < name.len; i++)
		folded[i] = name.ptr[i] == '-' ? '_' : name.ptr[i];
	for (unsigned i = 0; i < SET_COUNT; i++)
		if (slice_eq_nocase(slice_of(folded, name.len), slice_str(settings[i].name))) {
			*id_out = (enum setting_id)i;
			return true;
		}
	return false;
}

static bool word_in(struct slice text, const char *const *words)
{
	for (; *words; words++)
		if (slice_eq_nocase(text, slice_str(*words)))
			return true;
	return false;
}

static bool parse_bool(struct slice text, int64_t *number_out)
{
	static const char *const yes[] = { "yes", "true", "on", "1", NULL }, *const no[] = { "no", "false", "off", "0", NULL };
	*number_out = word_in(text, yes);
	return *number_out || word_in(text, no);
}

/* Digits and one of K M G T (powers of 1024), an optional B. */
static bool parse_bytes(struct slice text, int64_t *number_out)
{
	static const char units[] = "KMGT";
	if (text.len > 1 && (text.ptr[text.len - 1] == 'B' || text.ptr[text.len - 1] == 'b'))
		text.len--;
	unsigned shift = 0;
	if (text.len) {
		char last = text.ptr[text.len - 1];
		const char *unit = last ? strchr(units, last & ~0x20) : NULL;
		if (unit) {
			shift = 10 * (unsigned)(unit - units + 1);
			text.len--;
		}
	}
	uint64_t n;
	if (!slice_u64(text, (uint64_t)INT64_MAX >> shift, &n))
		return false;
	*number_out = (int64_t)(n << shift);
	return true;
}

static bool parse_number(enum setting_kind kind, struct slice text, int64_t *number_out)
{
	static const char *const none[] = { "none", "never", "off", "unlimited", NULL };
	if (word_in(text, none)) {
		*number_out = kind == SETTING_DAYS ? -1 : 0;
		return true;
	}
	if (kind == SETTING_BYTES)
		return parse_bytes(text, number_out);
	if (kind == SETTING_SEPARATOR) {
		*number_out = text.len ? text.ptr[0] : 0;
		return text.len == 1 && strchr("+-_.=#~!/", text.ptr[0]) && text.ptr[0];
	}
	uint64_t n;
	uint64_t max = kind == SETTING_SECONDS ? 7 * 86400 : kind == SETTING_DAYS ? 36500 : UINT32_MAX;
	if (!slice_u64(text, max, &n))
		return false;
	*number_out = (int64_t)n;
	return true;
}

/* Indices are bits of XTND_XLST and XTND_XMIT. */
static const char *const xtnd_words[] = { "off", "xlst", "xmit", "all" };

static bool parse_xtnd(struct slice text, int64_t *number_out)
{
	for (size_t i = 0; i < ARRAY_LEN(xtnd_words); i++)
		if (slice_eq_nocase(text, slice_str(xtnd_words[i]))) {
			*number_out = (int64_t)i;
			return true;
		}
	return false;
}

/* Indices are enum master. */
static const char *const master_words[] = { "none", "tenant", "server" };

static bool parse_master(struct slice text, int64_t *number_out)
{
	for (size_t i = 0; i < ARRAY_LEN(master_words); i++)
		if (slice_eq_nocase(text, slice_str(master_words[i]))) {
			*number_out = (int64_t)i;
			return true;
		}
	return false;
}

/* Canonical names with one blank between them. */
static bool parse_schemes(struct slice text, bool one, char out[SETTING_TEXT_BYTES])
{
	struct slice rest = text, word;
	size_t len = 0;
	unsigned count = 0;
	char blanks[SETTING_TEXT_BYTES];
	if (text.len == 0 || text.len >= sizeof(blanks))
		return false;
	for (size_t i = 0; i < text.len; i++)
		blanks[i] = text.ptr[i] == ',' ? ' ' : text.ptr[i];
	rest.ptr = blanks;
	while (slice_next(&rest, ' ', &word)) {
		if (word.len == 0)
			continue;
		if (!password_scheme_known(word) || len + word.len + 2 > SETTING_TEXT_BYTES || (one && count))
			return false;
		if (count++)
			out[len++] = ' ';
		for (size_t i = 0; i < word.len; i++)
			out[len++] = word.ptr[i] >= 'a' && word.ptr[i] <= 'z' ? (char)(word.ptr[i] - 32) : word.ptr[i];
	}
	out[len] = 0;
	return count > 0;
}

/* As they were given, with one blank between them. */
static bool parse_networks(struct slice text, char out[SETTING_TEXT_BYTES])
{
	char blanks[SETTING_TEXT_BYTES];
	struct slice rest, word;
	struct cidr net;
	size_t len = 0;
	if (text.len >= sizeof(blanks))
		return false;
	for (size_t i = 0; i < text.len; i++)
		blanks[i] = text.ptr[i] == ',' ? ' ' : text.ptr[i];
	rest = slice_of(blanks, text.len);
	while (slice_next(&rest, ' ', &word)) {
		if (!word.len)
			continue;
		if (cidr_parse(word, &net) != OK)
			return false;
		if (len)
			out[len++] = ' ';
		memcpy(out + len, word.ptr, word.len);
		len += word.len;
	}
	out[len] = 0;
	return len > 0;
}

enum err setting_parse(enum setting_id id, struct slice text, struct setting_value *value_out)
{
	const struct setting *s = setting_get(id);
	bool good = true;
	*value_out = (struct setting_value){ 0 };
	if (text.len == 0 || slice_eq_nocase(text, SLICE_LIT("default"))) {
		value_out->is_default = true;
		return OK;
	}
	switch (s->kind) {
	case SETTING_BOOL:
		good = parse_bool(text, &value_out->number);
		break;
	case SETTING_OVER_QUOTA:
		value_out->number = slice_eq_nocase(text, SLICE_LIT("permanent"));
		good = value_out->number || slice_eq_nocase(text, SLICE_LIT("temporary"));
		break;
	case SETTING_SCHEMES:
	case SETTING_SCHEME:
		value_out->is_default = s->kind == SETTING_SCHEMES && slice_eq_nocase(text, SLICE_LIT("all"));
		value_out->is_text = !value_out->is_default;
		good = value_out->is_default || parse_schemes(text, s->kind == SETTING_SCHEME, value_out->text);
		break;
	case SETTING_XTND:
		good = parse_xtnd(text, &value_out->number);
		break;
	case SETTING_MASTER:
		good = parse_master(text, &value_out->number);
		break;
	case SETTING_NETWORKS:
		value_out->is_default = slice_eq_nocase(text, SLICE_LIT("none"));
		value_out->is_text = !value_out->is_default;
		good = value_out->is_default || parse_networks(text, value_out->text);
		break;
	case SETTING_DELETION:
		value_out->number = slice_eq_nocase(text, SLICE_LIT("trash"));
		good = value_out->number || slice_eq_nocase(text, SLICE_LIT("expunge"));
		break;
	case SETTING_BYTES:
	case SETTING_COUNT:
	case SETTING_SECONDS:
	case SETTING_DAYS:
	case SETTING_SEPARATOR:
		good = parse_number(s->kind, text, &value_out->number);
		break;
	}
	return good ? OK : ERR_SYNTAX;
}

static void format_bytes(int64_t n, char out[SETTING_TEXT_BYTES])
{
	static const char units[] = "KMGT";
	int unit = -1;
	while (n && n % 1024 == 0 && unit < 3) {
		n /= 1024;
		unit++;
	}
	snprintf(out, SETTING_TEXT_BYTES, "%" PRId64 "%.*s", n, unit >= 0, unit >= 0 ? units + unit : "");
}

void setting_format(enum setting_id id, const struct setting_value *value, char out[SETTING_TEXT_BYTES])
{
	const struct setting *s = setting_get(id);
	int64_t n = value->is_default ? s->number : value->number;
	const char *word = NULL;
	switch (s->kind) {
	case SETTING_BOOL:
		word = n ? "yes" : "no";
		break;
	case SETTING_OVER_QUOTA:
		word = n ? "permanent" : "temporary";
		break;
	case SETTING_SCHEMES:
	case SETTING_SCHEME:
		word = value->is_default ? s->text : value->text;
		break;
	case SETTING_XTND:
		word = xtnd_words[n & 3];
		break;
	case SETTING_MASTER:
		word = n >= 0 && n < (int64_t)ARRAY_LEN(master_words) ? master_words[n] : "none";
		break;
	case SETTING_DELETION:
		word = n ? "trash" : "expunge";
		break;
	case SETTING_DAYS:
		word = n < 0 ? "never" : NULL;
		break;
	case SETTING_NETWORKS:
		word = value->is_default ? "none" : value->text;
		break;
	case SETTING_BYTES:
	case SETTING_COUNT:
	case SETTING_SECONDS:
	case SETTING_SEPARATOR:
		word = n < 0 ? "default" : n ? NULL : "none";
		break;
	}
	if (word)
		snprintf(out, SETTING_TEXT_BYTES, "%s", word);
	else if (s->kind == SETTING_BYTES)
		format_bytes(n, out);
	else if (s->kind == SETTING_SEPARATOR)
		snprintf(out, SETTING_TEXT_BYTES, "%c", (char)n);
	else
		snprintf(out, SETTING_TEXT_BYTES, "%" PRId64, n);
}

const char *setting_expected(enum setting_kind kind)
{
	switch (kind) {
	case SETTING_BOOL:
		return "yes or no";
	case SETTING_BYTES:
		return "bytes (500M, 2G) or none";
	case SETTING_COUNT:
		return "a number or none";
	case SETTING_SECONDS:
		return "seconds (at most a week) or none";
	case SETTING_DAYS:
		return "days or never";
	case SETTING_SEPARATOR:
		return "one of + - _ . = # ~ ! / or none";
	case SETTING_OVER_QUOTA:
		return "temporary or permanent";
	case SETTING_SCHEMES:
		return "names of password schemes or all";
	case SETTING_SCHEME:
		return "the name of a password scheme";
	case SETTING_NETWORKS:
		return "networks (192.0.2.0/24, 2001:db8::/32) or none";
	case SETTING_XTND:
		return "off, xlst, xmit or all";
	case SETTING_MASTER:
		return "none, tenant or server";
	case SETTING_DELETION:
		return "expunge or trash";
	}
	UNREACHABLE();
}

bool setting_scheme_allowed(struct slice schemes, bool plain_passwords, const char *scheme)
{
	struct slice word;
	if (!strcmp(scheme, "PLAIN"))
		return plain_passwords;
	if (schemes.len == 0)
		return true;
	while (slice_next(&schemes, ' ', &word))
		if (slice_eq_nocase(word, slice_str(scheme)) || (slice_eq_nocase(word, SLICE_LIT("CRYPT")) && strstr(scheme, "CRYPT")))
			return true;
	return false;
}
