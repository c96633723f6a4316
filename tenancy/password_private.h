/* SPDX-License-Identifier: Apache-2.0 */
/* password_private.h - one scheme of stored passwords, between password.c and the files that implement them. */
#ifndef PENFOLD_TENANCY_PASSWORD_PRIVATE_H
#define PENFOLD_TENANCY_PASSWORD_PRIVATE_H

#include "tenancy/password.h"

enum text_form { FORM_SCHEME, FORM_HEX, FORM_BASE64 }; /* {SHA} {SHA.HEX} {SHA.B64} */

struct hash_text {
	struct slice hash; /* behind the braces */
	enum text_form form;
};

struct scheme {
	const char *name;
	/* NULL, or why this hash is refused. *limit_out: because of its cost. */
	const char *(*refuse)(const struct scheme *s, const struct hash_text *t, bool *limit_out);
	bool (*matches)(const struct scheme *s, const struct hash_text *t, struct slice password);
	/* NULL: is checked, not made. */
	enum err (*make)(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);
	const char *prefix; /* crypt(3): what its hashes begin with, NULL = any */
	int digest;         /* enum digest_kind */
};

/* password_crypt.c */
const char *crypt_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out);
bool crypt_matches(const struct scheme *s, const struct hash_text *t, struct slice password);
enum err crypt_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);
const char *argon2_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out);
bool argon2_matches(const struct scheme *s, const struct hash_text *t, struct slice password);
enum err argon2_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);

/* scram.c */
const char *scram_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out);
bool scram_matches(const struct scheme *s, const struct hash_text *t, struct slice password);
enum err scram_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);

/* password_digest.c */
enum digest_kind { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA512 };
const char *digest_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out);
bool digest_matches(const struct scheme *s, const struct hash_text *t, struct slice password);
enum err digest_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);
const char *pbkdf2_refuse(const struct scheme *s, const struct hash_text *t, bool *limit_out);
bool pbkdf2_matches(const struct scheme *s, const struct hash_text *t, struct slice password);
enum err pbkdf2_make(const struct scheme *s, struct slice password, char out[STORED_PASSWORD_BYTES_MAX]);

#endif
