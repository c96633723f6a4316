/* SPDX-License-Identifier: Apache-2.0 */
/* jwt_private.h - between jwt.c (tokens) and jwk.c (keys). */
#ifndef PENFOLD_TENANCY_JWT_PRIVATE_H
#define PENFOLD_TENANCY_JWT_PRIVATE_H

#include "core/base/rc.h"
#include "tenancy/jwt.h"

#include <openssl/evp.h>

enum jwt_algorithm { JWT_RS256, JWT_ES256, JWT_EDDSA, JWT_ALGORITHM_COUNT };
extern const char *const jwt_algorithm_names[JWT_ALGORITHM_COUNT];

struct jwt_key {
	enum jwt_algorithm algorithm;
	EVP_PKEY *key;
	char *kid; /* NULL: without a name */
};
struct jwt_keys {
	struct rc rc;
	size_t count;
	struct jwt_key key[JWT_KEYS_MAX];
};

/* base64url without padding, strictly (RFC 7515 section 2). False: not that, or longer than room. */
bool jwt_base64url(struct slice text, uint8_t *out, size_t room, size_t *len_out);

#endif
