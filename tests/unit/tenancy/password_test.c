/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored passwords: vectors published by the schemes' authors, made by Dovecot's doveadm (2.3) and by Python's hashlib;
 * what is refused; and that nothing is cut short and then found equal.
 */
#include "tenancy/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct {
	const char *stored, *password, *scheme;
} vectors[] = {
	/* authors' */
	{ "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!", "SHA512-CRYPT" },
	{ "{SHA256-CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!", "SHA256-CRYPT" },
	{ "{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", "BLF-CRYPT" },
	{ "{CRYPT}CCNf8Sbh3HDfQ", "U*U*U*U*", "DES-CRYPT" },
	{ "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password", "ARGON2ID" },
	{ "{ARGON2I}$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA", "password", "ARGON2I" },
	/* doveadm pw */
	{ "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$wj4uSgY55t7KSCEjxjC/Pg$rx5ow/8O3AAA0IS44XUfW4KfT6utbvWaBAvegDXZ/HE", "secret pass", "ARGON2ID" },
	{ "{BLF-CRYPT}$2y$05$FqTfAxDlhpZqDak7SZPhGeXzmuyto/JczfKYWsBjTD81luSoKsfFa", "secret pass", "BLF-CRYPT" },
	{ "{CRYPT}$2y$05$pw9oMNygsfC5TPP0NeKmsewrLH4Ha.srPReu3Vu3Rx0XYHiv2B8Iy", "secret pass", "BLF-CRYPT" },
	{ "{SHA512-CRYPT}$6$6Y9n4x51NrwkdVuv$Mq8RgIPbrC8oL7HRjUJBcbv/THkxxXfObV.FnVCy5ZhuanvYtPk.rFE1NZEwbbsRkBjh779Bq0rdqiISbHifX/",
	  "secret pass", "SHA512-CRYPT" },
	{ "{MD5-CRYPT}$1$LxR4dj/1$yXzbXlIvHL7SXMyyyKlnN0", "secret pass", "MD5-CRYPT" },
	{ "{DES-CRYPT}LTlazn6PaGCQY", "secret pass", "DES-CRYPT" },
	{ "{PBKDF2}$1$m.emFlNNDyNsBYrX$5000$235a2ec2116b3fbefbe570ef4bc51418630e5d97", "secret pass", "PBKDF2" },
	{ "{SSHA512}1jdRltdP3Bz3OdOyH3yHkyeEt7/0wxvA4yle4WgP1jFyT0EmSnQjdWcNGQsfotVuhyfN5kIdB8l+c1GseEZnkkqTu0g=", "secret pass", "SSHA512" },
	{ "{SSHA256}HMv2QLbJa/DnHULeD1/sdCRQ5SIv9AKz4CZzBXTH/re7awHn", "secret pass", "SSHA256" },
	{ "{SSHA.B64}nHNBl1R4gnxyFyY9nG+WYIbaqGtI9YLs", "secret pass", "SSHA" },
	{ "{SMD5}BmWrBxiGz/uEmMZ/6vJ/j03lKPM=", "secret pass", "SMD5" },
	{ "{SHA256.HEX}7852bfb493c180ec992860c3f42ed8fcfa104cbf4805e4df60585e630a37388f", "secret pass", "SHA256" },
	{ "{SHA}O1hAcUlX7zkBbV+/3rmbDfUlbNM=", "secret pass", "SHA" },
	{ "{PLAIN}secret pass", "secret pass", "PLAIN" },
	/* hashlib */
	{ "{ssha}wUHB24xGvJ5ET2A3NY59sp5lk2cBAv9zYWx0", "secret pass", "SSHA" },
	{ "{SSHA256.HEX}c6f730aa548e9205c054a90a148f641e9c10922ac2a8cf17c04481fbd384a5260102ff73616c74", "secret pass", "SSHA256" },
	{ "{SHA1}O1hAcUlX7zkBbV+/3rmbDfUlbNM=", "secret pass", "SHA" },
	{ "{SHA512}lZ9yMft8fVHVJ+UzMKOj5CsbrM1iI0VwhldS4yvUgbjJWfSIKEZ5z02LkV6f3caZMpOHkByhFdL2tZ3hPvxlhA==", "secret pass", "SHA512" },
	{ "{PBKDF2}$1$aTrsEwVWvFE3j5$5000$ce6b6402eb8d88e117e79c2fd50be8d6da3e92cc", "secret pass", "PBKDF2" },
	{ "{CLEARTEXT}{PLAIN}x", "{PLAIN}x", "PLAIN" },
};

static void known_vectors(void **state)
{
	(void)state;
	char near[600];
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const char *scheme, *why;
		struct slice stored = slice_str(vectors[i].stored), password = slice_str(vectors[i].password);
		if (password_check(stored, &scheme, &why))
			fail_msg("%s: %s", vectors[i].stored, why);
		assert_string_equal(scheme, vectors[i].scheme);
		if (!password_matches(stored, password))
			fail_msg("%s does not match", vectors[i].stored);
		/* near misses: a byte changed, one less, a NUL and more behind it, case */
		memcpy(near, password.ptr, password.len);
		near[0] ^= 1;
		assert_false(password_matches(stored, slice_of(near, password.len)));
		if (strcmp(scheme, "DES-CRYPT") || password.len <= 8) /* which looks at eight bytes only */
			assert_false(password_matches(stored, slice_upto(password, password.len - 1)));
		assert_false(password_matches(stored, SLICE_LIT("")));
		memcpy(near, password.ptr, password.len);
		memcpy(near + password.len, "\0more", 5);
		assert_false(password_matches(stored, slice_of(near, password.len + 5)));
	}
}

static void too_long_never_matches(void **state)
{
	(void)state;
	char out[STORED_PASSWORD_BYTES_MAX], password[PASSWORD_BYTES_MAX + 8];
	memset(password, 'x', sizeof(password));
	assert_int_equal(password_make("SHA512-CRYPT", slice_of(password, PASSWORD_BYTES_MAX), out), OK);
	assert_true(password_matches(slice_str(out), slice_of(password, PASSWORD_BYTES_MAX)));
	assert_false(password_matches(slice_str(out), slice_of(password, PASSWORD_BYTES_MAX - 1)));
	assert_false(password_matches(slice_str(out), slice_of(password, PASSWORD_BYTES_MAX + 1)));
	assert_int_equal(password_make("SHA512-CRYPT", slice_of(password, PASSWORD_BYTES_MAX + 1), out), ERR_LIMIT);
}

static void what_is_made_matches(void **state)
{
	(void)state;
	static const char *const makes[] = { NULL, "YESCRYPT", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "ARGON2ID", "ARGON2I", "SSHA512", "SSHA256",
					     "SSHA", "SMD5", "PBKDF2", "PLAIN", "bcrypt" };
	const char *scheme, *why;
	char out[STORED_PASSWORD_BYTES_MAX], again[STORED_PASSWORD_BYTES_MAX];
	for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
		struct slice password = SLICE_LIT("p\xc3\xa4ss: w\xf6rd ' %n");
		assert_int_equal(password_make(makes[i], password, out), OK);
		if (password_check(slice_str(out), &scheme, &why))
			fail_msg("%s: %s", out, why);
		assert_true(password_matches(slice_str(out), password));
		assert_false(password_matches(slice_str(out), SLICE_LIT("p\xc3\xa4ss: w\xf6rd ' %m")));
		assert_int_equal(password_make(makes[i], password, again), OK);
		assert_true(!strcmp(scheme, "PLAIN") || strcmp(out, again)); /* salted */
	}
	static const char *const not_made[] = { "MD5-CRYPT", "DES-CRYPT", "SHA", "SHA256", "NTLM", "", "{PLAIN}" };
	for (size_t i = 0; i < ARRAY_LEN(not_made); i++)
		assert_int_equal(password_make(not_made[i], SLICE_LIT("x"), out), ERR_SYNTAX);
	static const struct slice never[] = { { "", 0 }, { "a\0b", 3 }, { "a\nb", 3 }, { "a\r", 2 } };
	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		assert_int_equal(password_make("SSHA", never[i], out), ERR_LIMIT);
}

static void what_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "x", "secret", "*", "!", "{}", "{PLAIN}", "{PLAIN", "{NTLM}8846F7EAEE8FB117AD06BDD830B7586C", "{SSHA.XYZ}abcd", "{SSHA}", "{SSHA}abc",
		"{SSHA}O1hAcUlX7zkBbV+/3rmbDfUlbNM=" /* no salt */, "{SHA}AAAA", "{PBKDF2}$1$salt$0$235a2ec2116b3fbefbe570ef4bc51418630e5d97",
		"{PBKDF2}$1$salt$10$235a", "{PBKDF2}$2$salt$10$235a2ec2116b3fbefbe570ef4bc51418630e5d97", "{CRYPT}", "{CRYPT}ab", "{CRYPT}$1$", "$1$salt$",
		"$6$saltonly", "$6$salt$short", "$2b$05$short", "$99$salt$hash", "$y$j9T$saltsalt", "{BLF-CRYPT}$6$salt$svn8UoSVapNtMuq1ukKS4tPQd8i",
		"{SHA512-CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", "{ARGON2ID}$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aaaaaaaaaaaaaaaaaaaaaaa",
		"{ARGON2ID}$argon2id$v=19$m=,t=1,p=1$c29tZXNhbHQ$aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{ARGON2ID}$argon2id$v=19$m=8,t=1$c29tZXNhbHQ$aaaaaaaaaaaaaaaaaaaaaa",
		"{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1", "{PLAIN\t}x", "{%n}x",
	};
	static const char *const dear[] = {
		"$6$rounds=999999999$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		"$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$y$jFT$AAt9R641xPvCI9nXw1HHW/$cuQRBMN3N/f8IcmVN.4YrZ1bHMOiLOoz9/XQMKV/v0A",
		"{ARGON2ID}$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"{ARGON2ID}$argon2id$v=19$m=65536,t=200000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=64$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"{PBKDF2}$1$salt$999999999$235a2ec2116b3fbefbe570ef4bc51418630e5d97",
	};
	const char *scheme, *why;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (password_check(slice_str(bad[i]), &scheme, &why) != ERR_SYNTAX)
			fail_msg("\"%s\" was not refused", bad[i]);
		assert_non_null(why);
		assert_false(password_matches(slice_str(bad[i]), slice_str(bad[i])));
		assert_false(password_matches(slice_str(bad[i]), SLICE_LIT("x")));
	}
	for (size_t i = 0; i < ARRAY_LEN(dear); i++) {
		if (password_check(slice_str(dear[i]), &scheme, &why) != ERR_LIMIT)
			fail_msg("\"%s\" was not refused as too dear: %s", dear[i], why);
		assert_false(password_matches(slice_str(dear[i]), SLICE_LIT("x"))); /* and at once */
	}
	assert_int_equal(password_check(SLICE_LIT("{PLAIN}a\0b"), &scheme, &why), ERR_SYNTAX);
}

static void plain_gives_its_secret(void **state)
{
	(void)state;
	struct slice secret;
	assert_true(password_plain(SLICE_LIT("{PLAIN}tan staaf"), &secret));
	assert_true(slice_eq(secret, SLICE_LIT("tan staaf")));
	assert_false(password_plain(slice_str(vectors[0].stored), &secret));
	assert_false(password_plain(SLICE_LIT("{SHA}O1hAcUlX7zkBbV+/3rmbDfUlbNM="), &secret));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_vectors), cmocka_unit_test(too_long_never_matches), cmocka_unit_test(what_is_made_matches),
		cmocka_unit_test(what_is_refused), cmocka_unit_test(plain_gives_its_secret),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
