/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.h - may they: a login and its proof become a subject.
 *
 * The login is read by login.h's one table (DESIGN section 6).  Hashing runs on the offload pool behind a bounded queue;
 * a verified-login cache (keyed HMAC of login, password and credential version under a random key of this process,
 * bounded, short-lived) spares the hash for the polls that follow.  An unknown name costs the same hash as a wrong
 * password and gives the same word (invariant 11).
 *
 * ERR_AUTH: wrong name or password.  ERR_DENIED: the proof was right, but the account or tenant is suspended or this
 * protocol is off.  ERR_BUSY, ERR_TEMP, ERR_TIMEOUT: ask again later, nothing was decided.
 */
#ifndef PENFOLD_TENANCY_AUTH_H
#define PENFOLD_TENANCY_AUTH_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "tenancy/directory.h"

enum auth_hash { AUTH_SHA1, AUTH_SHA256 };
enum auth_protocol { AUTH_POP3, AUTH_IMAP, AUTH_LMTP };

/*
 * A master account comes in as somebody else, with its own password: by `authzid` (SASL's authorization identity), or, where
 * auth_config.master_separator is set, by the login "user*master", split at the last separator (an exact account of that whole name
 * beats this reading).  An application password does not do.  What an account may is its setting `master`: of its tenant, or of the server.  Whether the name is no
 * master, the password wrong, or the account nobody or another tenant's: it is ERR_AUTH after the same work.  Both names are logged.
 */
struct auth_request {
	enum auth_protocol protocol;
	struct slice login;
	struct slice authzid; /* empty, or as the login: for nobody else. Only a password makes a master; with another proof: ERR_AUTH */
	struct slice peer;    /* address text, for the log */
	bool in_clear;        /* no TLS: a tenant may forbid that (plaintext_login). Then it is ERR_DENIED, before anything is proved */
};

/* May this login be tried in the clear? To be asked before a password is asked for. Of the name only the domain is asked for: words and time are the same for
 * all names of it (invariant 11). Later. ERR_DENIED, or OK, also where nothing is known: with the proof it is judged again. */
enum err auth_in_clear(struct slice login);

/* A proof's work that is no password's (a token's signature, a ticket), on the offload pool: it waits in the same lines as hashes do, its network's.
 * Later. ERR_BUSY: shed, or out of time. */
enum err auth_in_turn(void (*job)(void *), void *arg);

/* USER/PASS, AUTH PLAIN. Later. */
enum err auth_password(const struct auth_request *request, struct slice password, struct subject **subject_out);

/* CRAM-MD5 (RFC 2195): digest is 32 hex digits of HMAC-MD5(shared secret, challenge). Later. */
enum err auth_cram_md5(const struct auth_request *request, struct slice challenge, struct slice digest, struct subject **subject_out);

/* SCRAM in two steps without state between them. Salt and rounds of the login's keys, those of an unknown name made up from it
 * and a secret, the same each time (invariant 11). Later (a look-up). salt_out has SCRAM_SALT_BYTES_MAX. */
enum err auth_scram_salt(const struct auth_request *request, enum auth_hash hash, uint8_t *salt_out, size_t *salt_len_out, uint32_t *rounds_out);
/* Checks the proof; signature_out (SCRAM_KEY_BYTES_MAX) is the server's answer when OK. Keys stored are used as they are; from {PLAIN} they
 * are derived on the offload pool; a wrong proof or name costs that, too. Later. */
enum err auth_scram_proof(const struct auth_request *request, enum auth_hash hash, struct slice auth_message, struct slice proof,
			  uint8_t *signature_out, struct subject **subject_out);

/* APOP: digest is 32 hex digits of MD5(timestamp, shared secret), timestamp with its angle brackets. Later. ERR_AUTH also where the
 * tenant keeps no reversible secret. */
enum err auth_apop(const struct auth_request *request, struct slice timestamp, struct slice digest, struct subject **subject_out);
/* Some tenant keeps reversible secrets, so that the greeting carries a timestamp. Now. */
bool auth_apop_offered(struct slice host);

/* A name proved in another way than by a secret that the directory keeps (a certificate, a ticket): request->login is it, and an authzid
 * must name the same account. Later (a look-up). */
enum err auth_proved(const struct auth_request *request, struct subject **subject_out);

/* OAUTHBEARER, XOAUTH2: a signed token (jwt.h). request->login is whom the client wants to be, and must be the account that the token
 * names; empty: whoever that is. Later. */
enum err auth_bearer(const struct auth_request *request, struct slice token, struct subject **subject_out);
bool auth_bearer_offered(void); /* now */

/* Strings live as long as the process. keys_path NULL: no bearer tokens; else all but where_keys must be there. */
struct auth_oauth {
	const char *keys_path, *where_keys; /* where the configuration names it, for messages of the start */
	const char *issuer, *audience, *username_claim;
	uint32_t leeway_s;
};

struct auth_config {
	uint64_t cache_bytes_max;   /* verified logins */
	uint32_t cache_ttl_s;
	uint32_t hash_queue_max;    /* logins waiting for their turn at a hash; above it ERR_BUSY */
	uint32_t hash_wait_ms_max;  /* and how long they wait; above it ERR_TIMEOUT */
	/* Hashes at once. Fewer than the offload pool has threads, so that look-ups never stand behind hashes; 0 = processors less one, at
	 * least one. */
	uint32_t hash_parallel_max;
	char master_separator; /* 0 = there is no such login */
	/* File of 32 random bytes, made where it is missing: what SCRAM's salts for unknown names come from, so that they outlive a restart
	 * and are the same on every node that has the file. NULL: of this process. */
	const char *secret_path;
	struct auth_oauth oauth;
};
enum err auth_open(const struct auth_config *config); /* once per process; ERR_CONFIG, logged: no key can be read */
void auth_close(void);

/* For figures. Now. */
struct auth_stats {
	uint64_t verified_hits, hashes, refused, denied, shed; /* shed: no turn at a hash in time */
	uint64_t hashing, waiting;                             /* at this moment */
};
void auth_stats(struct auth_stats *stats_out);

#endif
