/* SPDX-License-Identifier: Apache-2.0 */
/* password.c - the table of schemes, and what is common to all of them. */
#include "tenancy/password.h"
#include "tenancy/password_private.h"
#include "tenancy/saslprep.h"

#include <stdio.h>

/* ---- {PLAIN} ---- */

static const char *plain_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	(void)s;
	*limit_out = false;
	return t->hash.len && t->hash.len <= PASSWORD_BYTES_MAX ? NULL : "a plain password is empty or too long";
}

static bool equal(struct slice stored, struct slice password)
{
	/* Both sides in a block of one size, so that the time does not tell the secret's length. */
	char a[PASSWORD_BYTES_MAX] = { 0 }, b[PASSWORD_BYTES_MAX] = { 0 };
	memcpy(a, stored.ptr, stored.len);
	memcpy(b, password.ptr, password.len);
	bool same = slice_eq_consttime(slice_of(a, sizeof(a)), slice_of(b, sizeof(b)));
	explicit_bzero(a, sizeof(a));
	explicit_bzero(b, sizeof(b));
	return same & (stored.len == password.len);
}

static bool plain_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	struct saslprep room; /* it is kept as it was set: perhaps in another form than this keyboard's */
	struct slice form = saslprep(t->hash, &room);
	(void)s;
	bool as_set = equal(t->hash, password), in_form = form.len <= PASSWORD_BYTES_MAX && equal(form, password);
	explicit_bzero(&room, sizeof(room));
	return as_set || in_form;
}

static enum err plain_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	int len = snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}%.*s", s->name, SLICE_ARG(password));
	return len > 0 && (size_t)len < STORED_PASSWORD_BYTES_MAX ? OK : ERR_LIMIT;
}

/* ---- the table ---- */

#define CRYPT_SCHEME(name, prefix, make) { name, crypt_refuse, crypt_matches, make, prefix, 0 }
#define ARGON2_SCHEME(name, prefix) { name, argon2_refuse, argon2_matches, argon2_make, prefix, 0 }
#define DIGEST_SCHEME(name, salted, digest) { name, digest_refuse, digest_matches, digest_make, salted, digest }

/* The first is the default for making; a hash in {CRYPT} or without braces is named by its prefix, first match wins. */
static const struct scheme schemes[] = {
	CRYPT_SCHEME("YESCRYPT", "$y$", crypt_make),
	CRYPT_SCHEME("GOST-YESCRYPT", "$gy$", NULL),
	CRYPT_SCHEME("SCRYPT-CRYPT", "$7$", NULL),
	CRYPT_SCHEME("BLF-CRYPT", "$2", crypt_make),
	CRYPT_SCHEME("SHA512-CRYPT", "$6$", crypt_make),
	CRYPT_SCHEME("SHA256-CRYPT", "$5$", crypt_make),
	CRYPT_SCHEME("MD5-CRYPT", "$1$", NULL),
	CRYPT_SCHEME("DES-CRYPT", "", NULL),
	ARGON2_SCHEME("ARGON2ID", "$argon2id$"),
	ARGON2_SCHEME("ARGON2I", "$argon2i$"),
	DIGEST_SCHEME("SSHA512", "salted", DIGEST_SHA512),
	DIGEST_SCHEME("SSHA256", "salted", DIGEST_SHA256),
	DIGEST_SCHEME("SSHA", "salted", DIGEST_SHA1),
	DIGEST_SCHEME("SMD5", "salted", DIGEST_MD5),
	DIGEST_SCHEME("SHA512", NULL, DIGEST_SHA512),
	DIGEST_SCHEME("SHA256", NULL, DIGEST_SHA256),
	DIGEST_SCHEME("SHA", NULL, DIGEST_SHA1),
	{ "PBKDF2", pbkdf2_refuse, pbkdf2_matches, pbkdf2_make, NULL, 0 },
	{ "SCRAM-SHA-256", scram_refuse, scram_matches, scram_make, NULL, DIGEST_SHA256 },
	{ "SCRAM-SHA-1", scram_refuse, scram_matches, scram_make, NULL, DIGEST_SHA1 },
	{ "PLAIN", plain_refuse, plain_matches, plain_make, NULL, 0 },
};
#define SCHEME_PLAIN (&schemes[ARRAY_LEN(schemes) - 1])

/* Other people's names for the same thing. */
static const char *const aliases[][2] = {
	{ "CLEAR", "PLAIN" }, { "CLEARTEXT", "PLAIN" }, { "SHA1", "SHA" }, { "BCRYPT", "BLF-CRYPT" }, { "ARGON2", "ARGON2ID" },
};

static const struct scheme *scheme_by_name(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		if (slice_eq_nocase(name, slice_str(aliases[i][0])))
			name = slice_str(aliases[i][1]);
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (slice_eq_nocase(name, slice_str(schemes[i].name)))
			return &schemes[i];
	return NULL;
}

static const struct scheme *scheme_by_prefix(struct slice hash)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (schemes[i].prefix && (schemes[i].matches == crypt_matches || schemes[i].matches == argon2_matches) &&
		    slice_starts_nocase(hash, slice_str(schemes[i].prefix)))
			return schemes[i].prefix[0] || hash.len == 0 || hash.ptr[0] != '$' ? &schemes[i] : NULL;
	return NULL;
}

/* "{SCHEME.HEX}hash" in parts; NULL when the scheme is unknown or the braces are not right. */
static const struct scheme *parse(struct slice stored, struct hash_text *text_out)
{
	text_out->form = FORM_SCHEME;
	text_out->hash = stored;
	if (stored.len == 0 || stored.len >= STORED_PASSWORD_BYTES_MAX || memchr(stored.ptr, 0, stored.len))
		return NULL;
	if (stored.ptr[0] != '{')
		return stored.ptr[0] == '$' ? scheme_by_prefix(stored) : NULL;
	size_t close = slice_find(stored, '}');
	if (close == SIZE_MAX)
		return NULL;
	struct slice name = slice_of(stored.ptr + 1, close - 1);
	text_out->hash = slice_from(stored, close + 1);
	size_t dot = slice_find(name, '.');
	if (dot != SIZE_MAX) {
		struct slice form = slice_from(name, dot + 1);
		if (slice_eq_nocase(form, SLICE_LIT("HEX")))
			text_out->form = FORM_HEX;
		else if (slice_eq_nocase(form, SLICE_LIT("B64")) || slice_eq_nocase(form, SLICE_LIT("BASE64")))
			text_out->form = FORM_BASE64;
		else
			return NULL;
		name = slice_upto(name, dot);
	}
	return slice_eq_nocase(name, SLICE_LIT("CRYPT")) ? scheme_by_prefix(text_out->hash) : scheme_by_name(name);
}

enum err password_check(struct slice stored, const char **scheme_out, const char **why_out)
{
	struct hash_text text;
	const struct scheme *s = parse(stored, &text);
	*why_out = "unknown password scheme";
	*scheme_out = NULL;
	if (!s)
		return ERR_SYNTAX;
	bool limit = false;
	*why_out = s->refuse(s, &text, &limit);
	if (*why_out)
		return limit ? ERR_LIMIT : ERR_SYNTAX;
	*scheme_out = s->name;
	return OK;
}

bool password_matches(struct slice stored, struct slice password)
{
	struct hash_text text;
	const struct scheme *s = parse(stored, &text);
	bool limit = false;
	if (!s || s->refuse(s, &text, &limit))
		return false;
	/* A password that no hash can stand for is replaced, so that it costs what others cost, and fails. */
	bool possible = password.len && password.len <= PASSWORD_BYTES_MAX && !memchr(password.ptr, 0, password.len);
	bool same = s->matches(s, &text, possible ? password : SLICE_LIT("?"));
	return same && possible;
}

bool password_plain(struct slice stored, struct slice *secret_out)
{
	struct hash_text text;
	bool limit = false;
	const struct scheme *s = parse(stored, &text);
	if (s != SCHEME_PLAIN || s->refuse(s, &text, &limit))
		return false;
	*secret_out = text.hash;
	return true;
}

bool password_keys(struct slice stored, const char *scheme, struct slice *text_out)
{
	struct hash_text text;
	bool limit = false;
	const struct scheme *s = parse(stored, &text);
	if (!s || strcmp(s->name, scheme) != 0 || s->refuse(s, &text, &limit))
		return false;
	*text_out = text.hash;
	return true;
}

enum err password_make(const char *scheme, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	const struct scheme *s = scheme ? scheme_by_name(slice_str(scheme)) : &schemes[0];
	if (!s || !s->make)
		return ERR_SYNTAX;
	if (password.len == 0 || password.len > PASSWORD_BYTES_MAX)
		return ERR_LIMIT;
	for (size_t i = 0; i < password.len; i++)
		if (password.ptr[i] == 0 || password.ptr[i] == '\r' || password.ptr[i] == '\n')
			return ERR_LIMIT;
	/* kept in one form for all keyboards, but where others calculate with the secret as it is (CRAM-MD5, APOP) */
	struct saslprep room;
	enum err e = s->make(s, s == SCHEME_PLAIN ? password : saslprep(password, &room), out);
	explicit_bzero(&room, sizeof(room));
	return e;
}

const char *password_scheme_name(unsigned index)
{
	return index < ARRAY_LEN(schemes) ? schemes[index].name : NULL;
}

bool password_scheme_known(struct slice name)
{
	return scheme_by_name(name) != NULL;
}
