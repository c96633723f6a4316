/* SPDX-License-Identifier: Apache-2.0 */
/* jwt.c - one token: its three parts, its signature, its claims. */
#include "tenancy/jwt_private.h"

#include <jansson.h>
#include <math.h>
#include <openssl/bn.h>
#include <openssl/digest.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <stdlib.h>

#define ES256_HALF_BYTES 32u

const char *const jwt_algorithm_names[JWT_ALGORITHM_COUNT] = { "RS256", "ES256", "EdDSA" };

/* ---- base64url ---- */

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool jwt_base64url(struct slice text, uint8_t *out, size_t room, size_t *len_out)
{
	uint32_t bits = 0;
	size_t len = 0;
	unsigned count = 0;
	if (text.len % 4 == 1 || text.len / 4 * 3 + text.len % 4 > room)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		int v = value_of(text.ptr[i]);
		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		count += 6;
		if (count >= 8) {
			count -= 8;
			out[len++] = (uint8_t)(bits >> count);
		}
	}
	*len_out = len;
	return (bits & ((1U << count) - 1)) == 0; /* one spelling for each: a token cannot be varied */
}

/* A part as a JSON object; NULL: none. Duplicate members are two readings of one token. */
static json_t *object_of(struct slice part, uint8_t *scratch, size_t room)
{
	size_t len;
	json_error_t error;
	if (!jwt_base64url(part, scratch, room, &len))
		return NULL;
	json_t *value = json_loadb((const char *)scratch, len, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(value))
		return value;
	json_decref(value);
	return NULL;
}

/* ---- signature ---- */

/* R and S side by side (RFC 7518 section 3.4), as BoringSSL wants them. */
static bool es256_der(const uint8_t *raw, uint8_t **der_out, size_t *len_out)
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, ES256_HALF_BYTES, NULL), *s = BN_bin2bn(raw + ES256_HALF_BYTES, ES256_HALF_BYTES, NULL);
	bool good = sig && r && s && ECDSA_SIG_set0(sig, r, s);
	if (!good) {
		BN_free(r);
		BN_free(s);
	}
	good = good && ECDSA_SIG_to_bytes(der_out, len_out, sig);
	ECDSA_SIG_free(sig);
	return good;
}

static bool signed_by(const struct jwt_key *k, struct slice what, const uint8_t *signature, size_t len)
{
	uint8_t *der = NULL;
	EVP_MD_CTX md;
	if (k->algorithm == JWT_ES256 && (len != 2 * (size_t)ES256_HALF_BYTES || !es256_der(signature, &der, &len)))
		return false;
	EVP_MD_CTX_init(&md);
	bool good = EVP_DigestVerifyInit(&md, NULL, k->algorithm == JWT_EDDSA ? NULL : EVP_sha256(), NULL, k->key) == 1 &&
		    EVP_DigestVerify(&md, der ? der : signature, len, (const uint8_t *)what.ptr, what.len) == 1;
	EVP_MD_CTX_cleanup(&md);
	OPENSSL_free(der);
	ERR_clear_error();
	return good;
}

/* What the header says of itself may only narrow the choice. NULL, or why the token is none of ours. */
static const char *header_wrong(const json_t *header, const char **alg_out, const char **kid_out)
{
	const json_t *type = json_object_get(header, "typ"), *kid = json_object_get(header, "kid");
	*alg_out = json_string_value(json_object_get(header, "alg"));
	*kid_out = json_string_value(kid);
	if (!*alg_out)
		return "no algorithm";
	if (kid && !*kid_out)
		return "the name of its key is no text";
	if (json_object_get(header, "crit")) /* RFC 7515 section 4.1.11: we know of no extension */
		return "it has critical extensions";
	if (!type)
		return NULL;
	struct slice t = slice_str(json_string_value(type));
	if (slice_starts_nocase(t, SLICE_LIT("application/")))
		t = slice_from(t, 12);
	/* RFC 8725 section 3.11: tokens made for something else stay out */
	return slice_eq_nocase(t, SLICE_LIT("JWT")) || slice_eq_nocase(t, SLICE_LIT("at+jwt")) ? NULL : "it is of another type";
}

static const char *signature_wrong(const struct jwt_keys *keys, const char *alg, const char *kid, struct slice what, const uint8_t *signature, size_t len)
{
	unsigned tried = 0;
	for (size_t i = 0; i < keys->count && tried < JWT_TRIES_MAX; i++) {
		const struct jwt_key *k = &keys->key[i];
		if (strcmp(alg, jwt_algorithm_names[k->algorithm]) != 0 || (kid && k->kid && strcmp(kid, k->kid) != 0))
			continue;
		tried++;
		if (signed_by(k, what, signature, len))
			return NULL;
	}
	return tried ? "its signature is wrong" : "no key is for its algorithm and key name";
}

/* ---- claims ---- */

static bool is_for(const json_t *audience, const char *us)
{
	size_t i;
	const json_t *one;
	if (json_is_string(audience))
		return strcmp(json_string_value(audience), us) == 0;
	json_array_foreach(audience, i, one)
		if (json_is_string(one) && strcmp(json_string_value(one), us) == 0)
			return true;
	return false;
}

/* NumericDate: seconds, perhaps with a fraction; what is out of any sensible range is no date. */
static bool date(const json_t *value, double *out)
{
	if (!json_is_number(value))
		return false;
	*out = json_number_value(value);
	return isfinite(*out) && *out >= 0 && *out < 1e12;
}

static const char *dates_wrong(const json_t *claims, const struct jwt_rules *rules, int64_t now_s)
{
	double exp, nbf = 0;
	const json_t *not_before = json_object_get(claims, "nbf");
	if (!date(json_object_get(claims, "exp"), &exp))
		return "it does not say when it ends";
	if (not_before && !date(not_before, &nbf))
		return "its begin is no date";
	if ((double)now_s >= exp + rules->leeway_s)
		return "it has expired";
	return (double)now_s + rules->leeway_s < nbf ? "it is not valid yet" : NULL;
}

static const char *claims_wrong(const json_t *claims, const struct jwt_rules *rules, int64_t now_s, char name_out[LOGIN_BYTES_MAX + 1])
{
	const char *issuer = json_string_value(json_object_get(claims, "iss"));
	const char *name = json_string_value(json_object_get(claims, rules->username_claim));
	if (!issuer || strcmp(issuer, rules->issuer) != 0)
		return "it is of another issuer";
	if (!is_for(json_object_get(claims, "aud"), rules->audience))
		return "it is for another audience";
	const char *why = dates_wrong(claims, rules, now_s);
	if (why)
		return why;
	if (!name || !*name || strlen(name) > LOGIN_BYTES_MAX)
		return "it names no user";
	if (strcmp(rules->username_claim, "email") == 0 && json_is_false(json_object_get(claims, "email_verified")))
		return "its address is not verified";
	memcpy(name_out, name, strlen(name) + 1);
	return NULL;
}

/* ---- a token ---- */

enum err jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules, struct slice token, int64_t now_s, char name_out[LOGIN_BYTES_MAX + 1],
		    const char **why_out)
{
	size_t first = slice_find(token, '.'), second = slice_rfind(token, '.'), signature_len = 0;
	uint8_t signature[JWT_SIGNATURE_BYTES_MAX];
	const char *alg, *kid;
	*why_out = "it is no signed token";
	if (token.len > JWT_BYTES_MAX || first == SIZE_MAX || first == second ||
	    !jwt_base64url(slice_from(token, second + 1), signature, sizeof signature, &signature_len))
		return ERR_AUTH;
	uint8_t *scratch = xmalloc(JWT_BYTES_MAX);
	struct slice payload = slice_from(slice_upto(token, second), first + 1);
	json_t *header = object_of(slice_upto(token, first), scratch, JWT_BYTES_MAX), *claims = NULL;
	if (header)
		*why_out = header_wrong(header, &alg, &kid);
	if (header && !*why_out)
		*why_out = signature_wrong(keys, alg, kid, slice_upto(token, second), signature, signature_len);
	if (header && !*why_out) {
		claims = object_of(payload, scratch, JWT_BYTES_MAX);
		*why_out = claims ? claims_wrong(claims, rules, now_s, name_out) : "its claims are no object";
	}
	bool good = header && !*why_out;
	json_decref(header);
	json_decref(claims);
	free(scratch);
	return good ? OK : ERR_AUTH;
}
