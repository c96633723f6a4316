/* SPDX-License-Identifier: Apache-2.0 */
/* password_crypt.c - crypt(3) and Argon2, and what their hashes say about their own cost. */
#include "core/run/clock.h"
#include "tenancy/password_private.h"

#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- cost, read from the hash ---- */

/* The digits of crypt(3)'s base 64; -1 for others. */
static int64_t itoa64(char c)
{
	static const char digits[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? at - digits : -1;
}

/* $5$rounds=N$salt$hash */
static bool sha_affordable(struct slice hash)
{
	struct slice rest = slice_from(hash, 3), rounds = SLICE_LIT("rounds=");
	if (!slice_starts_nocase(rest, rounds))
		return true;
	rest = slice_from(rest, rounds.len);
	uint64_t n;
	return slice_u64(slice_upto(rest, slice_find(rest, '$')), PASSWORD_SHA_ROUNDS_MAX, &n);
}

/* $2b$NN$ */
static bool bcrypt_affordable(struct slice hash)
{
	struct slice rest = slice_from(hash, slice_find(slice_from(hash, 1), '$') + 2);
	uint64_t n;
	return slice_u64(slice_upto(rest, slice_find(rest, '$')), PASSWORD_BCRYPT_LOG2_MAX, &n);
}

/* $y$jNR$salt: flavour j, one digit for log2(N) - 1, one for r - 1; longer forms are nobody's in practice. */
static bool yescrypt_affordable(struct slice hash)
{
	struct slice rest = slice_from(hash, slice_find(slice_from(hash, 1), '$') + 2);
	struct slice params = slice_upto(rest, slice_find(rest, '$'));
	if (params.len != 3 || params.ptr[0] != 'j')
		return false;
	int64_t log2n = itoa64(params.ptr[1]) + 1, r = itoa64(params.ptr[2]) + 1;
	return log2n > 0 && r > 0 && log2n <= PASSWORD_SCRYPT_LOG2N_MAX && ((uint64_t)r << log2n) * 128 <= PASSWORD_SCRYPT_BYTES_MAX;
}

/* $7$NRRRRRPPPPPsalt: log2(N), then r and p as five digits each, least first. */
static bool scrypt_affordable(struct slice hash)
{
	if (hash.len < 3 + 11)
		return false;
	int64_t log2n = itoa64(hash.ptr[3]), r = 0, p = 0;
	for (int i = 4; i >= 0; i--) {
		int64_t r_digit = itoa64(hash.ptr[4 + i]), p_digit = itoa64(hash.ptr[9 + i]);
		if (r_digit < 0 || p_digit < 0)
			return false;
		r = r * 64 + r_digit;
		p = p * 64 + p_digit;
	}
	if (log2n < 0 || log2n > PASSWORD_SCRYPT_LOG2N_MAX || r > 64 || p > 4)
		return false;
	return (((uint64_t)(r * p)) << log2n) * 128 <= PASSWORD_SCRYPT_BYTES_MAX;
}

static bool crypt_affordable(struct slice hash)
{
	static const struct {
		const char *prefix;
		bool (*affordable)(struct slice hash);
	} costs[] = {
		{ "$y$", yescrypt_affordable }, { "$gy$", yescrypt_affordable }, { "$7$", scrypt_affordable }, { "$2", bcrypt_affordable },
		{ "$5$", sha_affordable },	{ "$6$", sha_affordable },
	};
	for (size_t i = 0; i < ARRAY_LEN(costs); i++)
		if (slice_starts_nocase(hash, slice_str(costs[i].prefix)))
			return costs[i].affordable(hash);
	return true; /* the older ones have one cost */
}

/* ---- crypt(3) ---- */

/* How long a whole hash is: a setting string (salt without hash) would verify nothing and must not pass for one. */
static bool crypt_whole(const struct scheme *s, struct slice hash)
{
	if (!s->prefix[0])
		return hash.len == 13 && hash.ptr[0] != '_'; /* traditional DES; BSDi's and "big" ones are refused */
	size_t dollar = slice_rfind(hash, '$');
	size_t tail = hash.len - dollar - 1;
	static const struct {
		const char *name;
		size_t tail;
	} tails[] = { { "MD5-CRYPT", 22 }, { "SHA256-CRYPT", 43 }, { "SHA512-CRYPT", 86 }, { "BLF-CRYPT", 53 } };
	for (size_t i = 0; i < ARRAY_LEN(tails); i++)
		if (!strcmp(s->name, tails[i].name))
			return tail == tails[i].tail;
	return tail == 43 && dollar > 4; /* yescrypt and scrypt: 256 bits */
}

const char *crypt_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	char setting[STORED_PASSWORD_BYTES_MAX];
	if (t->form != FORM_SCHEME || t->hash.len >= CRYPT_OUTPUT_SIZE || !slice_starts_nocase(t->hash, slice_str(s->prefix)))
		return "the hash is not of the scheme that it names";
	if (!crypt_whole(s, t->hash))
		return "the hash is not whole";
	memcpy(setting, t->hash.ptr, t->hash.len);
	setting[t->hash.len] = 0;
	int salt = crypt_checksalt(setting);
	if (salt == CRYPT_SALT_INVALID || salt == CRYPT_SALT_METHOD_DISABLED)
		return "crypt(3) here does not know this hash";
	*limit_out = !crypt_affordable(t->hash);
	return *limit_out ? "the hash costs more than a login may" : NULL;
}

bool crypt_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	(void)s;
	char phrase[PASSWORD_BYTES_MAX + 1], setting[STORED_PASSWORD_BYTES_MAX];
	memcpy(phrase, password.ptr, password.len);
	phrase[password.len] = 0;
	memcpy(setting, t->hash.ptr, t->hash.len);
	setting[t->hash.len] = 0;
	struct crypt_data *data = xcalloc(1, sizeof(*data)); /* 32 KiB: too much for a stack */
	const char *made = crypt_rn(phrase, setting, data, (int)sizeof(*data));
	bool same = made && slice_eq_consttime(slice_str(made), t->hash);
	explicit_bzero(data, sizeof(*data));
	explicit_bzero(phrase, sizeof(phrase));
	free(data);
	return same;
}

enum err crypt_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	char salt[CRYPT_GENSALT_OUTPUT_SIZE], phrase[PASSWORD_BYTES_MAX + 1];
	const char *prefix = !strcmp(s->prefix, "$2") ? "$2b$" : s->prefix;
	if (!crypt_gensalt_rn(prefix, 0, NULL, 0, salt, sizeof(salt)))
		return ERR_TEMP;
	memcpy(phrase, password.ptr, password.len);
	phrase[password.len] = 0;
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	const char *made = crypt_rn(phrase, salt, data, (int)sizeof(*data));
	int len = made ? snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}%s", s == NULL || !strcmp(s->name, "YESCRYPT") ? "CRYPT" : s->name, made) : -1;
	explicit_bzero(data, sizeof(*data));
	explicit_bzero(phrase, sizeof(phrase));
	free(data);
	return len > 0 && (size_t)len < STORED_PASSWORD_BYTES_MAX ? OK : ERR_TEMP;
}

/* ---- Argon2: $argon2id$v=19$m=65536,t=3,p=1$salt$hash ---- */

#define ARGON2_MAKE_PASSES 3
#define ARGON2_MAKE_KIB 32768 /* 32 MiB: about 60 ms */
#define ARGON2_SALT_BYTES 16
#define ARGON2_HASH_BYTES 32

static argon2_type argon2_type_of(const struct scheme *s)
{
	return !strcmp(s->name, "ARGON2ID") ? Argon2_id : Argon2_i;
}

/* "m=65536" */
static bool argon2_number(struct slice *rest_io, char key, uint64_t max, uint64_t *value_out)
{
	struct slice word;
	return slice_next(rest_io, ',', &word) && word.len > 2 && word.ptr[0] == key && word.ptr[1] == '=' &&
	       slice_u64(slice_from(word, 2), max, value_out) && *value_out > 0;
}

const char *argon2_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	struct slice prefix = slice_str(s->prefix), rest = slice_from(t->hash, prefix.len), part;
	if (t->form != FORM_SCHEME || !slice_starts_nocase(t->hash, prefix))
		return "the hash is not of the scheme that it names";
	if (!slice_next(&rest, '$', &part))
		return "the hash is not whole";
	if (part.len > 1 && part.ptr[0] == 'v' && !slice_next(&rest, '$', &part))
		return "the hash is not whole";
	uint64_t kib, passes, lanes;
	if (!argon2_number(&part, 'm', UINT32_MAX, &kib) || !argon2_number(&part, 't', UINT32_MAX, &passes) ||
	    !argon2_number(&part, 'p', UINT32_MAX, &lanes) || part.len)
		return "the parameters of the hash are not readable";
	*limit_out = kib > PASSWORD_ARGON2_KIB_MAX || kib * passes > PASSWORD_ARGON2_WORK_MAX || lanes > PASSWORD_ARGON2_LANES_MAX;
	if (*limit_out)
		return "the hash costs more than a login may";
	struct slice salt;
	if (!slice_next(&rest, '$', &salt) || salt.len < 11 || rest.len < 16)
		return "the hash is not whole";
	return NULL;
}

bool argon2_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	char encoded[STORED_PASSWORD_BYTES_MAX];
	memcpy(encoded, t->hash.ptr, t->hash.len);
	encoded[t->hash.len] = 0;
	return argon2_verify(encoded, password.ptr, password.len, argon2_type_of(s)) == ARGON2_OK;
}

enum err argon2_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	unsigned char salt[ARGON2_SALT_BYTES];
	random_bytes(salt, sizeof(salt));
	int len = snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}", s->name);
	int e = argon2_hash(ARGON2_MAKE_PASSES, ARGON2_MAKE_KIB, 1, password.ptr, password.len, salt, sizeof(salt), NULL, ARGON2_HASH_BYTES,
			    out + len, STORED_PASSWORD_BYTES_MAX - (size_t)len, argon2_type_of(s), ARGON2_VERSION_13);
	return e == ARGON2_OK ? OK : ERR_TEMP;
}
