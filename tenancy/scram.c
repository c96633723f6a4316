/* SPDX-License-Identifier: Apache-2.0 */
/* scram.c - the sums of SCRAM, by nettle: libgsasl computes them only within an exchange of its own, on the calling thread. */
#include "tenancy/scram.h"
#include "core/run/clock.h"
#include "tenancy/password_private.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <stdio.h>

size_t scram_key_bytes(enum auth_hash hash)
{
	return hash == AUTH_SHA256 ? SHA256_DIGEST_SIZE : SHA1_DIGEST_SIZE;
}

void scram_hmac(enum auth_hash hash, struct slice key, struct slice data, uint8_t out[SCRAM_KEY_BYTES_MAX])
{
	if (hash == AUTH_SHA256) {
		struct hmac_sha256_ctx ctx;
		hmac_sha256_set_key(&ctx, key.len, (const uint8_t *)key.ptr);
		hmac_sha256_update(&ctx, data.len, (const uint8_t *)data.ptr);
		hmac_sha256_digest(&ctx, SHA256_DIGEST_SIZE, out);
		explicit_bzero(&ctx, sizeof(ctx));
	} else {
		struct hmac_sha1_ctx ctx;
		hmac_sha1_set_key(&ctx, key.len, (const uint8_t *)key.ptr);
		hmac_sha1_update(&ctx, data.len, (const uint8_t *)data.ptr);
		hmac_sha1_digest(&ctx, SHA1_DIGEST_SIZE, out);
		explicit_bzero(&ctx, sizeof(ctx));
	}
}

/* H() */
static void digest(enum auth_hash hash, const uint8_t *key, uint8_t out[SCRAM_KEY_BYTES_MAX])
{
	if (hash == AUTH_SHA256) {
		struct sha256_ctx ctx;
		sha256_init(&ctx);
		sha256_update(&ctx, SHA256_DIGEST_SIZE, key);
		sha256_digest(&ctx, SHA256_DIGEST_SIZE, out);
	} else {
		struct sha1_ctx ctx;
		sha1_init(&ctx);
		sha1_update(&ctx, SHA1_DIGEST_SIZE, key);
		sha1_digest(&ctx, SHA1_DIGEST_SIZE, out);
	}
}

void scram_derive(enum auth_hash hash, struct slice password, struct scram_keys *k)
{
	uint8_t salted[SCRAM_KEY_BYTES_MAX], client[SCRAM_KEY_BYTES_MAX];
	size_t n = scram_key_bytes(hash);
	if (hash == AUTH_SHA256)
		pbkdf2_hmac_sha256(password.len, (const uint8_t *)password.ptr, k->rounds, k->salt_len, k->salt, n, salted);
	else
		pbkdf2_hmac_sha1(password.len, (const uint8_t *)password.ptr, k->rounds, k->salt_len, k->salt, n, salted);
	scram_hmac(hash, slice_of(salted, n), SLICE_LIT("Client Key"), client);
	digest(hash, client, k->stored);
	scram_hmac(hash, slice_of(salted, n), SLICE_LIT("Server Key"), k->server);
	explicit_bzero(salted, sizeof(salted));
	explicit_bzero(client, sizeof(client));
}

bool scram_proof_right(enum auth_hash hash, const struct scram_keys *k, struct slice auth_message, struct slice proof)
{
	uint8_t key[SCRAM_KEY_BYTES_MAX], sum[SCRAM_KEY_BYTES_MAX];
	size_t n = scram_key_bytes(hash);
	if (proof.len != n)
		return false;
	scram_hmac(hash, slice_of(k->stored, n), auth_message, key);
	for (size_t i = 0; i < n; i++)
		key[i] ^= (uint8_t)proof.ptr[i];
	digest(hash, key, sum);
	explicit_bzero(key, sizeof(key));
	return slice_eq_consttime(slice_of(sum, n), slice_of(k->stored, n));
}

void scram_signature(enum auth_hash hash, const struct scram_keys *k, struct slice auth_message, uint8_t out[SCRAM_KEY_BYTES_MAX])
{
	scram_hmac(hash, slice_of(k->server, scram_key_bytes(hash)), auth_message, out);
}

/* ---- as stored ---- */

static bool decode(struct slice text, uint8_t *out, size_t max, size_t *len_out)
{
	struct base64_decode_ctx ctx;
	uint8_t bytes[BASE64_DECODE_LENGTH(2 * SCRAM_SALT_BYTES_MAX)];
	size_t len = sizeof(bytes);
	if (text.len > 2 * SCRAM_SALT_BYTES_MAX)
		return false;
	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &len, bytes, text.len, text.ptr) || !base64_decode_final(&ctx) || len > max)
		return false;
	memcpy(out, bytes, len);
	*len_out = len;
	return true;
}

bool scram_read(enum auth_hash hash, struct slice text, struct scram_keys *k, bool *limit_out)
{
	struct slice rounds, salt, stored, server = text;
	uint64_t n;
	size_t salt_len, stored_len, server_len;
	*limit_out = false;
	*k = (struct scram_keys){ 0 };
	if (!slice_next(&server, ',', &rounds) || !slice_next(&server, ',', &salt) || !slice_next(&server, ',', &stored) ||
	    !slice_u64(rounds, UINT32_MAX, &n) || n == 0 || !decode(salt, k->salt, sizeof(k->salt), &salt_len) || salt_len == 0 ||
	    !decode(stored, k->stored, sizeof(k->stored), &stored_len) || stored_len != scram_key_bytes(hash) ||
	    !decode(server, k->server, sizeof(k->server), &server_len) || server_len != scram_key_bytes(hash))
		return false;
	k->salt_len = (uint8_t)salt_len;
	k->rounds = (uint32_t)n;
	*limit_out = n > PASSWORD_PBKDF2_ROUNDS_MAX;
	return true;
}

static enum auth_hash hash_of(const struct scheme *s)
{
	return s->digest == DIGEST_SHA256 ? AUTH_SHA256 : AUTH_SHA1;
}

const char *scram_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out)
{
	struct scram_keys k;
	*limit_out = false;
	if (t->form != FORM_SCHEME || !scram_read(hash_of(s), t->hash, &k, limit_out))
		return "the keys are not whole";
	return *limit_out ? "the hash costs more than a login may" : NULL;
}

bool scram_matches(const struct scheme *s, const struct hash_text *t, struct slice password)
{
	struct scram_keys k, made;
	bool limit;
	size_t n = scram_key_bytes(hash_of(s));
	if (!scram_read(hash_of(s), t->hash, &k, &limit) || limit)
		return false;
	made = k;
	scram_derive(hash_of(s), password, &made);
	return slice_eq_consttime(slice_of(made.stored, n), slice_of(k.stored, n));
}

enum err scram_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX])
{
	struct scram_keys k = { .salt_len = SCRAM_SALT_BYTES, .rounds = SCRAM_ROUNDS };
	size_t n = scram_key_bytes(hash_of(s));
	random_bytes(k.salt, k.salt_len);
	scram_derive(hash_of(s), password, &k);
	size_t len = (size_t)snprintf(out, STORED_PASSWORD_BYTES_MAX, "{%s}%u,", s->name, k.rounds);
	const struct slice parts[] = { slice_of(k.salt, k.salt_len), slice_of(k.stored, n), slice_of(k.server, n) };
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		base64_encode_raw(out + len, parts[i].len, (const uint8_t *)parts[i].ptr);
		len += BASE64_ENCODE_RAW_LENGTH(parts[i].len);
		out[len++] = i + 1 < ARRAY_LEN(parts) ? ',' : '\0';
	}
	return OK;
}
