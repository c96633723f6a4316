/* SPDX-License-Identifier: Apache-2.0 */
/* The sums of SCRAM against the examples of RFC 5802 section 5 and RFC 7677 section 3, and the stored form. */
#include "tenancy/scram.h"

#include "tenancy/password.h"
#include "tests/unit/support/fiber_main.h"

#include <nettle/base64.h>
#include <stdio.h>

static size_t decoded(const char *text, uint8_t *out)
{
	struct base64_decode_ctx ctx;
	size_t len = 64;
	base64_decode_init(&ctx);
	assert_true(base64_decode_update(&ctx, &len, out, strlen(text), text) && base64_decode_final(&ctx));
	return len;
}

static void example(enum auth_hash hash, const char *salt, const char *message, const char *proof_text, const char *signature_text)
{
	struct scram_keys k = { .rounds = 4096 };
	uint8_t proof[64], signature[SCRAM_KEY_BYTES_MAX], want[64];
	k.salt_len = (uint8_t)decoded(salt, k.salt);
	scram_derive(hash, SLICE_LIT("pencil"), &k);
	size_t len = decoded(proof_text, proof);
	assert_true(scram_proof_right(hash, &k, slice_str(message), slice_of(proof, len)));
	scram_signature(hash, &k, slice_str(message), signature);
	assert_int_equal(decoded(signature_text, want), scram_key_bytes(hash));
	assert_memory_equal(signature, want, scram_key_bytes(hash));
	for (size_t i = 0; i < len; i++) {
		proof[i] ^= 1;
		assert_false(scram_proof_right(hash, &k, slice_str(message), slice_of(proof, len)));
		proof[i] ^= 1;
	}
	assert_false(scram_proof_right(hash, &k, slice_str(message), slice_of(proof, len - 1)));
	assert_false(scram_proof_right(hash, &k, slice_str("n=other"), slice_of(proof, len)));
}

static void examples_of_the_rfcs(void **state)
{
	(void)state;
	example(AUTH_SHA1, "QSXCR+Q6sek8bf92",
		"n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
		"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
		"v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=");
	example(AUTH_SHA256, "W22ZaJ0SNY7soEsUEjb6gQ==",
		"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
		"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static void stored_keys(void **state)
{
	(void)state;
	static const char *const schemes[] = { "SCRAM-SHA-256", "SCRAM-SHA-1" };
	static const char *const bad[] = { "", "4096", "4096,,,", "0,QUFB,QUFB,QUFB", "4096,QUFB,QUFB,QUFB", "x,QUFB,QUFB,QUFB" };
	char stored[STORED_PASSWORD_BYTES_MAX], text[STORED_PASSWORD_BYTES_MAX];
	const char *scheme, *why;
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		assert_int_equal(password_make(schemes[i], SLICE_LIT("pencil"), stored), OK);
		assert_int_equal(password_check(slice_str(stored), &scheme, &why), OK);
		assert_string_equal(scheme, schemes[i]);
		assert_true(password_matches(slice_str(stored), SLICE_LIT("pencil")));
		assert_false(password_matches(slice_str(stored), SLICE_LIT("pencils")));
		for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
			snprintf(text, sizeof(text), "{%s}%s", schemes[i], bad[b]);
			assert_int_equal(password_check(slice_str(text), &scheme, &why), ERR_SYNTAX);
		}
	}
	/* as doveadm pw writes it, too dear */
	char *comma = strchr(stored, ',');
	snprintf(text, sizeof(text), "{SCRAM-SHA-1}9999999%s", comma);
	assert_int_equal(password_check(slice_str(text), &scheme, &why), ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(examples_of_the_rfcs), cmocka_unit_test(stored_keys) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
