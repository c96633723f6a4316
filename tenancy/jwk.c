/* SPDX-License-Identifier: Apache-2.0 */
/* jwk.c - public keys from a file: PEM, a JWK set, or one JWK. */
#include "tenancy/jwt_private.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define RSA_BITS_MIN 2048u /* RFC 7518 section 3.3 */
#define RSA_BITS_MAX 8192u
#define EC_HALF_BYTES ((size_t)32)

struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys)
{
	rc_get(&keys->rc);
	return keys;
}

void jwt_keys_put(struct jwt_keys *keys)
{
	if (!keys || !rc_put(&keys->rc))
		return;
	for (size_t i = 0; i < keys->count; i++) {
		EVP_PKEY_free(keys->key[i].key);
		free(keys->key[i].kid);
	}
	free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys) { return keys->count; }

/* Takes the key over if it is one that serves. */
static bool add(struct jwt_keys *keys, EVP_PKEY *key, const char *kid)
{
	struct jwt_key k = { .key = key };
	bool serves = keys->count < JWT_KEYS_MAX;
	switch (EVP_PKEY_id(key)) {
	case EVP_PKEY_RSA:
		k.algorithm = JWT_RS256;
		serves = serves && (unsigned)EVP_PKEY_bits(key) >= RSA_BITS_MIN && (unsigned)EVP_PKEY_bits(key) <= RSA_BITS_MAX;
		break;
	case EVP_PKEY_EC:
		k.algorithm = JWT_ES256;
		serves = serves && EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key))) == NID_X9_62_prime256v1;
		break;
	case EVP_PKEY_ED25519:
		k.algorithm = JWT_EDDSA;
		break;
	default:
		serves = false;
	}
	if (!serves) {
		EVP_PKEY_free(key);
		return false;
	}
	k.kid = kid ? xstrdup(kid) : NULL;
	keys->key[keys->count++] = k;
	return true;
}

/* ---- JWK (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2) ---- */

static bool bytes_of(const json_t *jwk, const char *member, uint8_t *out, size_t room, size_t *len_out)
{
	const char *text = json_string_value(json_object_get(jwk, member));
	return text && jwt_base64url(slice_str(text), out, room, len_out) && *len_out > 0;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
	uint8_t n[RSA_BITS_MAX / 8 + 4], e[16];
	size_t n_len, e_len;
	if (!bytes_of(jwk, "n", n, sizeof n, &n_len) || !bytes_of(jwk, "e", e, sizeof e, &e_len))
		return NULL;
	RSA *rsa = RSA_new();
	BIGNUM *modulus = BN_bin2bn(n, n_len, NULL), *exponent = BN_bin2bn(e, e_len, NULL);
	EVP_PKEY *key = EVP_PKEY_new();
	bool good = rsa && key && RSA_set0_key(rsa, modulus, exponent, NULL);
	if (!good) {
		BN_free(modulus);
		BN_free(exponent);
	}
	good = good && RSA_check_key(rsa) && EVP_PKEY_set1_RSA(key, rsa);
	RSA_free(rsa);
	if (good)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
	uint8_t half[2][EC_HALF_BYTES + 2];
	size_t len[2];
	struct slice curve = slice_str(json_string_value(json_object_get(jwk, "crv")));
	if (!slice_eq(curve, SLICE_LIT("P-256")) || !bytes_of(jwk, "x", half[0], sizeof half[0], &len[0]) ||
	    !bytes_of(jwk, "y", half[1], sizeof half[1], &len[1]) || len[0] != EC_HALF_BYTES || len[1] != EC_HALF_BYTES)
		return NULL;
	EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *x = BN_bin2bn(half[0], len[0], NULL), *y = BN_bin2bn(half[1], len[1], NULL);
	EVP_PKEY *key = EVP_PKEY_new();
	/* a point that is not on the curve is refused here */
	bool good = ec && x && y && key && EC_KEY_set_public_key_affine_coordinates(ec, x, y) && EVP_PKEY_set1_EC_KEY(key, ec);
	EC_KEY_free(ec);
	BN_free(x);
	BN_free(y);
	if (good)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

static EVP_PKEY *ed25519_key(const json_t *jwk)
{
	uint8_t x[34];
	size_t len;
	struct slice curve = slice_str(json_string_value(json_object_get(jwk, "crv")));
	if (!slice_eq(curve, SLICE_LIT("Ed25519")) || !bytes_of(jwk, "x", x, sizeof x, &len) || len != 32)
		return NULL;
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, len);
}

/* The members that say what a key is for: it must be for verifying, with the algorithm that its kind has here. */
static bool is_for_us(const json_t *jwk, enum jwt_algorithm algorithm)
{
	const json_t *use = json_object_get(jwk, "use"), *alg = json_object_get(jwk, "alg"), *ops = json_object_get(jwk, "key_ops"), *op;
	size_t i;
	bool verifies = !ops;
	json_array_foreach(ops, i, op)
		verifies = verifies || slice_eq(slice_str(json_string_value(op)), SLICE_LIT("verify"));
	return verifies && (!use || slice_eq(slice_str(json_string_value(use)), SLICE_LIT("sig"))) &&
	       (!alg || slice_eq(slice_str(json_string_value(alg)), slice_str(jwt_algorithm_names[algorithm])));
}

static void add_jwk(struct jwt_keys *keys, const json_t *jwk)
{
	static const struct {
		const char *kty;
		enum jwt_algorithm algorithm;
		EVP_PKEY *(*make)(const json_t *jwk);
	} kinds[] = { { "RSA", JWT_RS256, rsa_key }, { "EC", JWT_ES256, ec_key }, { "OKP", JWT_EDDSA, ed25519_key } };
	struct slice kty = slice_str(json_string_value(json_object_get(jwk, "kty")));
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (!slice_eq(kty, slice_str(kinds[i].kty)) || !is_for_us(jwk, kinds[i].algorithm))
			continue;
		EVP_PKEY *key = kinds[i].make(jwk);
		if (key)
			add(keys, key, json_string_value(json_object_get(jwk, "kid")));
	}
	ERR_clear_error();
}

static void add_json(struct jwt_keys *keys, const char *text, size_t len)
{
	json_error_t error;
	size_t i;
	const json_t *jwk;
	json_t *top = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *set = json_object_get(top, "keys");
	if (set)
		json_array_foreach(set, i, jwk)
			add_jwk(keys, jwk);
	else
		add_jwk(keys, top);
	json_decref(top);
}

static void add_pem(struct jwt_keys *keys, const char *text, size_t len)
{
	BIO *pem = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *key;
	while (pem && (key = PEM_read_bio_PUBKEY(pem, NULL, NULL, NULL)))
		add(keys, key, NULL);
	BIO_free(pem);
	ERR_clear_error();
}

/* ---- the file ---- */

static char *read_file(const char *path, size_t *len_out, char *why)
{
	struct stat st;
	char *text = NULL;
	FILE *f = fopen(path, "re");
	if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)JWT_FILE_BYTES_MAX) {
		snprintf(why, JWT_WHY_BYTES, "%.160s: %s", path, f ? "no file of keys" : strerror(errno));
	} else {
		text = xmalloc(JWT_FILE_BYTES_MAX + 1);
		*len_out = fread(text, 1, JWT_FILE_BYTES_MAX, f);
	}
	if (f)
		fclose(f);
	return text;
}

enum err jwt_keys_load(const char *path, struct jwt_keys **keys_out, char why_out[JWT_WHY_BYTES])
{
	size_t len = 0, start = 0;
	char *text = read_file(path, &len, why_out);
	*keys_out = NULL;
	if (!text)
		return ERR_CONFIG;
	struct jwt_keys *keys = xcalloc(1, sizeof *keys);
	rc_init(&keys->rc);
	while (start < len && (text[start] == ' ' || text[start] == '\t' || text[start] == '\r' || text[start] == '\n'))
		start++;
	if (start < len && text[start] == '{')
		add_json(keys, text + start, len - start);
	else
		add_pem(keys, text, len);
	free(text);
	if (keys->count) {
		*keys_out = keys;
		return OK;
	}
	jwt_keys_put(keys);
	snprintf(why_out, JWT_WHY_BYTES, "%.160s: no key in it that serves (RSA, P-256 or Ed25519; PEM or JWK set)", path);
	return ERR_CONFIG;
}
