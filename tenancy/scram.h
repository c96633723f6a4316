/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scram.h - the sums of SCRAM (RFC 5802, RFC 7677): keys from a password, keys as they are stored, a proof checked.
 *
 * Private to this room.  Stored form, as Dovecot and doveadm pw write it: {SCRAM-SHA-256}rounds,salt,StoredKey,ServerKey with
 * base64 parts; {SCRAM-SHA-1} likewise.  No state, no wire messages (net/sasl.h has those).  scram_derive burns CPU for
 * milliseconds: offload jobs and tools only; the others are a few HMACs.
 */
#ifndef PENFOLD_TENANCY_SCRAM_H
#define PENFOLD_TENANCY_SCRAM_H

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "tenancy/auth.h"

struct scram_keys {
	uint8_t salt[SCRAM_SALT_BYTES_MAX];
	uint8_t salt_len;
	uint32_t rounds;
	uint8_t stored[SCRAM_KEY_BYTES_MAX], server[SCRAM_KEY_BYTES_MAX];
};

size_t scram_key_bytes(enum auth_hash hash);
/* "rounds,salt,StoredKey,ServerKey". False: malformed. *limit_out: rounds above what a login may cost. */
bool scram_read(enum auth_hash hash, struct slice text, struct scram_keys *keys_out, bool *limit_out);
/* Stored and server key from a password, for the salt and rounds that are set in *keys_io. Blocking, CPU. */
void scram_derive(enum auth_hash hash, struct slice password, struct scram_keys *keys_io);
/* ClientProof against StoredKey, in the same time wherever they differ. */
bool scram_proof_right(enum auth_hash hash, const struct scram_keys *keys, struct slice auth_message, struct slice proof);
void scram_signature(enum auth_hash hash, const struct scram_keys *keys, struct slice auth_message, uint8_t out[SCRAM_KEY_BYTES_MAX]);
void scram_hmac(enum auth_hash hash, struct slice key, struct slice data, uint8_t out[SCRAM_KEY_BYTES_MAX]);

#endif
