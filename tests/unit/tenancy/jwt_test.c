/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens signed with fresh keys, then tampered with, mislabelled, expired, for others; key files good and bad. */
#include "tenancy/jwt.h"

#include "tests/unit/support/fiber_main.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW 1700000000
#define S(text) slice_str(text)

static EVP_PKEY *rsa, *ec, *ed, *other_ec;
static char folder[400], path[512];
static const struct jwt_rules rules = { "https://issuer.example", "penfold", "email", 60 };
static char name[LOGIN_BYTES_MAX + 1];

/* ---- keys ---- */

static EVP_PKEY *make_rsa(int bits)
{
	EVP_PKEY *key = EVP_PKEY_new();
	RSA *r = RSA_new();
	BIGNUM *e = BN_new();
	assert_true(BN_set_word(e, RSA_F4) && RSA_generate_key_ex(r, bits, e, NULL) && EVP_PKEY_assign_RSA(key, r));
	BN_free(e);
	return key;
}

static EVP_PKEY *make_ec(int curve)
{
	EVP_PKEY *key = EVP_PKEY_new();
	EC_KEY *k = EC_KEY_new_by_curve_name(curve);
	assert_true(EC_KEY_generate_key(k) && EVP_PKEY_assign_EC_KEY(key, k));
	return key;
}

static int begin(void **state)
{
	uint8_t seed[32];
	(void)state;
	for (size_t i = 0; i < sizeof seed; i++)
		seed[i] = (uint8_t)(i * 7 + 1);
	rsa = make_rsa(2048);
	ec = make_ec(NID_X9_62_prime256v1);
	other_ec = make_ec(NID_X9_62_prime256v1);
	ed = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
	assert_non_null(ed);
	snprintf(folder, sizeof folder, "%s", test_folder());
	snprintf(path, sizeof path, "%s/keys", folder);
	return 0;
}

static int end(void **state)
{
	(void)state;
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(other_ec);
	EVP_PKEY_free(ed);
	return 0;
}

static const char *url64(const uint8_t *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	static char ring[8][4096];
	static unsigned turn;
	char *out = ring[turn++ % 8];
	size_t n = 0;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t g = (uint32_t)bytes[i] << 16 | (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < len ? bytes[i + 2] : 0);
		for (unsigned k = 0; k < 4 && k <= len - i; k++)
			out[n++] = digits[g >> (18 - 6 * k) & 63];
	}
	out[n] = 0;
	return out;
}

static const char *number64(const BIGNUM *n, size_t width)
{
	uint8_t bytes[1024];
	size_t len = width ? width : BN_num_bytes(n);
	assert_true(BN_bn2bin_padded(bytes, len, n));
	return url64(bytes, len);
}

static char *jwk_of(EVP_PKEY *key, const char *more)
{
	static char out[4][4096];
	static unsigned turn;
	char *text = out[turn++ % 4];
	if (EVP_PKEY_id(key) == EVP_PKEY_RSA) {
		const BIGNUM *n, *e;
		RSA_get0_key(EVP_PKEY_get0_RSA(key), &n, &e, NULL);
		snprintf(text, 4096, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", number64(n, 0), number64(e, 0), more);
	} else if (EVP_PKEY_id(key) == EVP_PKEY_EC) {
		BIGNUM *x = BN_new(), *y = BN_new();
		const EC_KEY *k = EVP_PKEY_get0_EC_KEY(key);
		assert_true(EC_POINT_get_affine_coordinates_GFp(EC_KEY_get0_group(k), EC_KEY_get0_public_key(k), x, y, NULL));
		snprintf(text, 4096, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"%s}", number64(x, 32), number64(y, 32), more);
		BN_free(x);
		BN_free(y);
	} else {
		uint8_t x[32];
		size_t len = sizeof x;
		assert_true(EVP_PKEY_get_raw_public_key(key, x, &len));
		snprintf(text, 4096, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"%s}", url64(x, len), more);
	}
	return text;
}

static struct jwt_keys *load(const char *text)
{
	struct jwt_keys *keys;
	char why[JWT_WHY_BYTES];
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	if (jwt_keys_load(path, &keys, why) != OK) {
		assert_non_null(strstr(why, path));
		return NULL;
	}
	return keys;
}

static struct jwt_keys *load_set(const char *a, const char *b, const char *c)
{
	char text[16384];
	snprintf(text, sizeof text, "{\"keys\":[%s%s%s%s%s]}", a, b ? "," : "", b ? b : "", c ? "," : "", c ? c : "");
	return load(text);
}

/* ---- tokens ---- */

static size_t sign(EVP_PKEY *key, struct slice what, uint8_t *out, size_t room)
{
	EVP_MD_CTX md;
	size_t len = room;
	EVP_MD_CTX_init(&md);
	assert_true(EVP_DigestSignInit(&md, NULL, EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256(), NULL, key));
	assert_true(EVP_DigestSign(&md, out, &len, (const uint8_t *)what.ptr, what.len));
	EVP_MD_CTX_cleanup(&md);
	if (EVP_PKEY_id(key) == EVP_PKEY_EC) {
		ECDSA_SIG *sig = ECDSA_SIG_from_bytes(out, len);
		const BIGNUM *r, *s;
		ECDSA_SIG_get0(sig, &r, &s);
		assert_true(BN_bn2bin_padded(out, 32, r) && BN_bn2bin_padded(out + 32, 32, s));
		ECDSA_SIG_free(sig);
		len = 64;
	}
	return len;
}

static char token[16384];
static void make(EVP_PKEY *key, const char *header, const char *claims)
{
	uint8_t signature[1024];
	snprintf(token, sizeof token, "%s.", url64((const uint8_t *)header, strlen(header)));
	strcat(token, url64((const uint8_t *)claims, strlen(claims)));
	size_t len = sign(key, S(token), signature, sizeof signature);
	strcat(token, ".");
	strcat(token, url64(signature, len));
}

/* The login, or why there is none. */
static const char *verify(const struct jwt_keys *keys)
{
	const char *why;
	return jwt_verify(keys, &rules, S(token), NOW, name, &why) == OK ? name : why;
}

#define GOOD "{\"iss\":\"https://issuer.example\",\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"ann@demo.example\"}"

static void every_algorithm(void **state)
{
	(void)state;
	struct jwt_keys *keys = load_set(jwk_of(rsa, ",\"kid\":\"r\",\"use\":\"sig\",\"alg\":\"RS256\""), jwk_of(ec, ",\"kid\":\"e\",\"key_ops\":[\"verify\"]"),
					 jwk_of(ed, ""));
	assert_int_equal(jwt_keys_count(keys), 3);
	make(rsa, "{\"alg\":\"RS256\",\"kid\":\"r\",\"typ\":\"JWT\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	make(ec, "{\"alg\":\"ES256\",\"kid\":\"e\",\"typ\":\"at+jwt\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	make(ed, "{\"alg\":\"EdDSA\",\"kid\":\"any\",\"typ\":\"application/at+JWT\"}", GOOD); /* the key has no name */
	assert_string_equal(verify(keys), "ann@demo.example");
	make(ec, "{\"alg\":\"ES256\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	make(ec, "{\"alg\":\"ES256\",\"kid\":\"r\"}", GOOD);
	assert_non_null(strstr(verify(keys), "no key"));
	make(other_ec, "{\"alg\":\"ES256\",\"kid\":\"e\"}", GOOD);
	assert_non_null(strstr(verify(keys), "signature is wrong"));
	jwt_keys_put(keys);
}

/* The algorithm is the key's. */
static void confusion(void **state)
{
	(void)state;
	struct jwt_keys *keys = load_set(jwk_of(rsa, ""), jwk_of(ec, ""), NULL);
	static const char *const headers[] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\"}", "{\"alg\":\"HS256\"}", "{\"alg\":\"RS512\"}", "{\"alg\":\"ES256\"}",
					       "{\"alg\":\"\"}", "{}", "{\"alg\":1}", "[]", "{\"alg\":\"RS256\",\"alg\":\"RS256\"}",
					       "{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"b64\":false}", "{\"alg\":\"RS256\",\"typ\":\"logout+jwt\"}",
					       "{\"alg\":\"RS256\",\"typ\":7}", "{\"alg\":\"RS256\",\"kid\":7}", "{\"alg\":\"RS256\\u0000\"}" };
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		make(rsa, headers[i], GOOD);
		assert_string_not_equal(verify(keys), "ann@demo.example");
	}
	/* no signature, an empty one, and HMAC with the public key as secret */
	make(rsa, "{\"alg\":\"none\"}", GOOD);
	*(strrchr(token, '.') + 1) = 0;
	assert_string_not_equal(verify(keys), "ann@demo.example");
	make(rsa, "{\"alg\":\"HS256\"}", GOOD);
	char *dot = strrchr(token, '.'), *pem = jwk_of(rsa, "");
	uint8_t mac[32];
	unsigned len;
	HMAC(EVP_sha256(), pem, strlen(pem), (const uint8_t *)token, (size_t)(dot - token), mac, &len);
	snprintf(dot + 1, 64, "%s", url64(mac, len));
	assert_string_not_equal(verify(keys), "ann@demo.example");
	jwt_keys_put(keys);
}

static void tampered(void **state)
{
	(void)state;
	struct jwt_keys *keys = load_set(jwk_of(ec, ""), NULL, NULL);
	make(ec, "{\"alg\":\"ES256\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	for (size_t i = 0; token[i]; i++) { /* every character of it changed by its lowest bit of six */
		static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
		char was = token[i];
		const char *at = strchr(digits, was);
		token[i] = at ? digits[(at - digits) ^ 1] : '_';
		assert_string_not_equal(verify(keys), "ann@demo.example");
		token[i] = was;
	}
	size_t len = strlen(token);
	for (size_t cut = 0; cut < len; cut++) {
		char was = token[cut];
		token[cut] = 0;
		assert_string_not_equal(verify(keys), "ann@demo.example");
		token[cut] = was;
	}
	strcpy(token + len, "=");
	assert_string_not_equal(verify(keys), "ann@demo.example");
	strcpy(token + len, ".e30");
	assert_string_not_equal(verify(keys), "ann@demo.example");
	memset(token, 'A', sizeof token - 1);
	assert_string_not_equal(verify(keys), "ann@demo.example");
	jwt_keys_put(keys);
}

static void claims(void **state)
{
	(void)state;
	static const struct { const char *claims, *outcome; } cases[] = {
#define BASE "\"iss\":\"https://issuer.example\",\"email\":\"ann@demo.example\","
		{ "{" BASE "\"aud\":[\"x\",\"penfold\"],\"exp\":1700000100}", "ann@demo.example" },
		{ "{" BASE "\"aud\":[\"x\",7,\"pen\"],\"exp\":1700000100}", "it is for another audience" },
		{ "{" BASE "\"aud\":\"Penfold\",\"exp\":1700000100}", "it is for another audience" },
		{ "{" BASE "\"aud\":{\"penfold\":1},\"exp\":1700000100}", "it is for another audience" },
		{ "{" BASE "\"exp\":1700000100}", "it is for another audience" },
		{ "{" BASE "\"aud\":\"penfold\"}", "it does not say when it ends" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":\"1700000100\"}", "it does not say when it ends" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":-1}", "it does not say when it ends" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1e300}", "it does not say when it ends" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1699999941}", "ann@demo.example" }, /* within the leeway */
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1699999940}", "it has expired" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1699999940.5}", "ann@demo.example" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1700000100,\"nbf\":1700000060}", "ann@demo.example" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1700000100,\"nbf\":1700000061}", "it is not valid yet" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1700000100,\"nbf\":\"x\"}", "its begin is no date" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1700000100,\"email_verified\":false}", "its address is not verified" },
		{ "{" BASE "\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"bob@demo.example\"}", "its claims are no object" },
		{ "{\"iss\":\"https://issuer.example/\",\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"a\"}", "it is of another issuer" },
		{ "{\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"a\"}", "it is of another issuer" },
		{ "{\"iss\":\"https://issuer.example\",\"aud\":\"penfold\",\"exp\":1700000100,\"sub\":\"a\"}", "it names no user" },
		{ "{\"iss\":\"https://issuer.example\",\"aud\":\"penfold\",\"exp\":1700000100,\"email\":[\"a\"]}", "it names no user" },
		{ "{\"iss\":\"https://issuer.example\",\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"\"}", "it names no user" },
		{ "{\"iss\":\"https://issuer.example\",\"aud\":\"penfold\",\"exp\":1700000100,\"email\":\"a\\u0000b\"}", "its claims are no object" },
		{ "[]", "its claims are no object" },
		{ "", "its claims are no object" },
	};
	struct jwt_keys *keys = load_set(jwk_of(ed, ""), NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make(ed, "{\"alg\":\"EdDSA\"}", cases[i].claims);
		assert_string_equal(verify(keys), cases[i].outcome);
	}
	jwt_keys_put(keys);
}

static void key_files(void **state)
{
	(void)state;
	char text[4096];
	EVP_PKEY *small = make_rsa(1024), *p384 = make_ec(NID_secp384r1);
	/* a key that is for something else, of another curve, too small, off its curve, symmetric: passed over, and alone no file of keys */
	assert_null(load_set(jwk_of(rsa, ",\"use\":\"enc\""), jwk_of(ec, ",\"alg\":\"ES512\""), jwk_of(ed, ",\"key_ops\":[\"sign\"]")));
	assert_null(load_set(jwk_of(small, ""), "{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}", "7"));
	assert_null(load("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\",\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\"}"));
	assert_null(load(""));
	assert_null(load("{"));
	assert_null(load("{\"keys\":7}"));
	assert_null(load("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"));
	struct jwt_keys *keys = load_set(jwk_of(small, ""), jwk_of(ed, ",\"kid\":\"x\""), NULL);
	assert_int_equal(jwt_keys_count(keys), 1);
	jwt_keys_put(keys);
	keys = load(jwk_of(ec, "")); /* one JWK by itself */
	make(ec, "{\"alg\":\"ES256\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	jwt_keys_put(keys);
	BIO *pem = BIO_new(BIO_s_mem());
	const uint8_t *bytes = NULL;
	size_t len = 0;
	assert_true(PEM_write_bio_PUBKEY(pem, p384) && PEM_write_bio_PUBKEY(pem, rsa) && PEM_write_bio_PUBKEY(pem, ec) && BIO_mem_contents(pem, &bytes, &len));
	snprintf(text, sizeof text, "%.*s", (int)len, (const char *)bytes);
	BIO_free(pem);
	keys = load(text);
	assert_int_equal(jwt_keys_count(keys), 2);
	make(rsa, "{\"alg\":\"RS256\",\"kid\":\"whatever\"}", GOOD);
	assert_string_equal(verify(keys), "ann@demo.example");
	jwt_keys_put(keys);
	EVP_PKEY_free(small);
	EVP_PKEY_free(p384);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_algorithm), cmocka_unit_test(confusion), cmocka_unit_test(tampered), cmocka_unit_test(claims),
					    cmocka_unit_test(key_files) };
	return cmocka_run_group_tests(tests, begin, end);
}
