/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jwt.h - signed tokens (RFC 7519, RFC 7515) and the public keys that they are checked against.
 *
 * For auth_bearer.c: OAUTHBEARER and XOAUTH2.  A key file is PEM ("BEGIN PUBLIC KEY", one or more) or a JWK set (RFC 7517; also a
 * single JWK).  Taken are RSA of 2,048 to 8,192 bits (RS256), P-256 (ES256) and Ed25519 (EdDSA, RFC 8037); other keys of a set
 * are passed over, as RFC 7517 section 5 wants it, but a file without a key that serves is refused.
 *
 * The algorithm is the key's, never the token's: a token whose "alg" is not the one that the key is for fails, whatever it says
 * ("none", HMAC with the public key's bytes as secret).  Where the token names a key ("kid"), keys of that name are tried, and
 * those without a name; else all, JWT_TRIES_MAX at most.  Claims are parsed only behind a right signature.  "exp" must be there.
 *
 * Everything here parses and calculates: on an offload thread.  Keys are counted; what jwt_verify reads stays whole while it is held.
 */
#ifndef PENFOLD_TENANCY_JWT_H
#define PENFOLD_TENANCY_JWT_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

struct jwt_keys;
#define JWT_WHY_BYTES 256
/* Blocking. ERR_CONFIG with one line in why_out. */
enum err jwt_keys_load(const char *path, struct jwt_keys **keys_out, char why_out[JWT_WHY_BYTES]);
struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys);
void jwt_keys_put(struct jwt_keys *keys); /* NULL is harmless */
size_t jwt_keys_count(const struct jwt_keys *keys);

struct jwt_rules {
	const char *issuer, *audience; /* "iss" is it; "aud" is it, or names it among others */
	const char *username_claim;    /* whose text is the login */
	uint32_t leeway_s;             /* by which clocks may differ: "exp", "nbf" */
};
/* OK with the login in name_out. ERR_AUTH: the token proves nothing; *why_out says why in a few words, for the log only. */
enum err jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules, struct slice token, int64_t now_s, char name_out[LOGIN_BYTES_MAX + 1],
		    const char **why_out);

#endif
