/* SPDX-License-Identifier: Apache-2.0 */
/*
 * password_digest.c - plain and salted digests, and PBKDF2, as LDAP servers and Dovecot write them.
 *
 * {SSHA256}: base64(SHA-256(password, salt), salt), the salt being what follows the digest; hex with .HEX.
 * {PBKDF2}: $1$salt$rounds$ and 40 hex digits of PBKDF2-HMAC-SHA1, the salt taken as text.
 */
#include "core/run/clock.h"
#include "tenancy/password_private.h"

#include <nettle/base16.h>
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdio.h>

#define DIGEST_SALT_BYTES 16
#define DIGEST_DECODED_BYTES_MAX (STORED_PASSWORD_BYTES_MAX)
#define PBKDF2_SALT_BYTES_MAX 128
#define PBKDF2_MAKE_ROUNDS 600000

static const struct nettle_hash *digest_of(const struct scheme *s)
{
	switch ((enum digest_kind)s->digest) {
	case DIGEST_MD5:
		return &nettle_md5;
	case DIGEST_SHA1:
		return &nettle_sha1;
	case DIGEST_SHA256:
		return &nettle_sha256;
	case DIGEST_SHA512:
		return &nettle_sha512;
	}
	UNREACHABLE();
}

/* At most STORED_PASSWORD_BYTES_MAX characters become at most as many bytes. */
static bool decode_hex(struct slice text, uint8_t *out, size_t *len_out)
{
	struct base16_decode_ctx ctx;
	base16_decode_init(&ctx);
	*len_out = DIGEST_DECODED_BYTES_MAX;
	return base16_decode_update(&ctx, len_out, out, text.len, text.ptr) && base16_decode_final(&ctx);
}

static bool decode_base64(struct slice text, uint8_t *out, size_t *len_out)
{
	struct base64_decode_ctx ctx;
	base64_decode_init(&ctx);
	*len_out = DIGEST_DECODED_BYTES_MAX;
	return base64_decode_update(&ctx, len_out, out, text.len, text.ptr) && base64_decode_final(&ctx);
}

/* Digest and salt of a stored hash. */
static bool digest_decode(const struct scheme *s, const struct hash_text *t, uint8_t out[DIGEST_DECODED_BYTES_MAX], size_t *len_out)
{
	size_t digest_bytes = digest_of(s)->digest_size;
	if (t->hash.len == 0)
		return false;
	/* Without a form base64 is the rule, but hex is common for unsalted ones, where the length tells them apart. */
	bool hex = t->form == FORM_HEX || (t->form == FORM_SCHEME && !s->prefix && t->hash.len == 2 * digest_bytes);
	if (!(hex ? decode_hex : decode_base64)(t->hash, out, len_out))
		return false;
	return s->prefix ? *len_out > digest_bytes : *len_out == digest_bytes;
}

const char *digest_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	uint8_t bytes[DIGEST_DECODED_BYTES_MAX];
	size_t len;
	*limit_out = false;
	return digest_decode(s, t, bytes, &len) ? NULL : "the hash is not whole";
}

static void digest_sum(const struct nettle_hash *hash, struct slice password, const uint8_t *salt, size_t salt_bytes, uint8_t *out)
{
	union {
		struct md5_ctx md5;
		struct sha1_ctx sha1;
		struct sha256_ctx sha256;
		struct sha512_ctx sha512;
	} ctx;
	ASSERT(hash->context_size <= sizeof(ctx));
	hash->init(&ctx);
	hash->update(&ctx, password.len, (const uint8_t *)password.ptr);
	hash->update(&ctx, salt_bytes, salt);
	hash->digest(&ctx, hash->digest_size, out);
	explicit_bzero(&ctx, sizeof(ctx));
}

bool digest_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	const struct nettle_hash *hash = digest_of(s);
	uint8_t bytes[DIGEST_DECODED_BYTES_MAX], sum[SHA512_DIGEST_SIZE];
	size_t len;
	if (!digest_decode(s, t, bytes, &len))
		return false;
	digest_sum(hash, password, bytes + hash->digest_size, len - hash->digest_size, sum);
	return slice_eq_consttime(slice_of(sum, hash->digest_size), slice_of(bytes, hash->digest_size));
}

enum err digest_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	const struct nettle_hash *hash = digest_of(s);
	uint8_t bytes[SHA512_DIGEST_SIZE + DIGEST_SALT_BYTES];
	if (!s->prefix) /* without salt: taken over from others, never made */
		return ERR_SYNTAX;
	uint8_t *salt = bytes + hash->digest_size;
	random_bytes(salt, DIGEST_SALT_BYTES);
	digest_sum(hash, password, salt, DIGEST_SALT_BYTES, bytes);
	int len = snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}", s->name);
	size_t all = hash->digest_size + DIGEST_SALT_BYTES;
	base64_encode_raw(out + len, all, bytes);
	out[(size_t)len + BASE64_ENCODE_RAW_LENGTH(all)] = 0;
	return OK;
}

/* ---- PBKDF2 ---- */

struct pbkdf2 {
	struct slice salt;
	uint64_t rounds;
	uint8_t sum[SHA1_DIGEST_SIZE];
};

static const char *pbkdf2_parse(struct slice hash, struct pbkdf2 *p_out, bool *limit_out)
{
	struct slice word;
	uint8_t sum[DIGEST_DECODED_BYTES_MAX];
	size_t len;
	struct slice rest = slice_from(hash, 3);
	*limit_out = false;
	if (!slice_starts_nocase(hash, SLICE_LIT("$1$")) || !slice_next(&rest, '$', &p_out->salt) || p_out->salt.len == 0 ||
	    p_out->salt.len > PBKDF2_SALT_BYTES_MAX || !slice_next(&rest, '$', &word) || !slice_u64(word, UINT32_MAX, &p_out->rounds) ||
	    p_out->rounds == 0 || !decode_hex(rest, sum, &len) || len != sizeof(p_out->sum))
		return "the hash is not whole";
	memcpy(p_out->sum, sum, sizeof(p_out->sum));
	*limit_out = p_out->rounds > PASSWORD_PBKDF2_ROUNDS_MAX;
	return *limit_out ? "the hash costs more than a login may" : NULL;
}

const char *pbkdf2_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	(void)s;
	struct pbkdf2 p;
	return t->form == FORM_SCHEME ? pbkdf2_parse(t->hash, &p, limit_out) : "the hash is not of the scheme that it names";
}

bool pbkdf2_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	(void)s;
	struct pbkdf2 p;
	bool limit;
	uint8_t sum[SHA1_DIGEST_SIZE];
	if (pbkdf2_parse(t->hash, &p, &limit))
		return false;
	pbkdf2_hmac_sha1(password.len, (const uint8_t *)password.ptr, (unsigned)p.rounds, p.salt.len, (const uint8_t *)p.salt.ptr, sizeof(sum), sum);
	return slice_eq_consttime(slice_of(sum, sizeof(sum)), slice_of(p.sum, sizeof(p.sum)));
}

enum err pbkdf2_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	uint8_t random[DIGEST_SALT_BYTES], sum[SHA1_DIGEST_SIZE];
	char salt[BASE16_ENCODE_LENGTH(DIGEST_SALT_BYTES) + 1] = { 0 }, hex[BASE16_ENCODE_LENGTH(SHA1_DIGEST_SIZE) + 1] = { 0 };
	random_bytes(random, sizeof(random));
	base16_encode_update(salt, sizeof(random), random);
	pbkdf2_hmac_sha1(password.len, (const uint8_t *)password.ptr, PBKDF2_MAKE_ROUNDS, sizeof(salt) - 1, (const uint8_t *)salt, sizeof(sum), sum);
	base16_encode_update(hex, sizeof(sum), sum);
	snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}$1$%s$%d$%s", s->name, salt, PBKDF2_MAKE_ROUNDS, hex);
	return OK;
}
