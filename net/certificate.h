/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.h - certificate chains with their keys: the default one, and those found by name.
 *
 * For tls.c.  Names are served from a folder, one folder in it per name, so that any number of names costs no memory and a
 * certificate appears by being put there:
 *
 *     FOLDER/mail.example.com/fullchain.pem, privkey.pem    as certbot lays them out under live/
 *     FOLDER/mail.example.com/tls.crt, tls.key              as Kubernetes mounts a secret
 *     FOLDER/_.example.com/...                              for every host directly below example.com; also named *.example.com
 *
 * An exact name wins over a wildcard, a wildcard over the default.  Pairs are loaded when they are first asked for and kept in a
 * byte-bounded LRU, together with names that were looked for in vain (for a second), so that a flood of invented names
 * does not grow memory.  A pair that is loaded is watched: whenever what its names lead to
 * (links followed) is another file than before, it is loaded anew; a pair that does not fit together keeps the old one and
 * is reported, as is one that will not load at all.  Those in memory that are about to expire are told in the log (expiry.h).
 *
 * Thread-safe: shards find, offload threads load and look.  A found certificate is counted and stays whole while it is held,
 * whatever is swapped meanwhile.
 */
#ifndef PENFOLD_NET_CERTIFICATE_H
#define PENFOLD_NET_CERTIFICATE_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/base/rc.h"

/* BoringSSL's CRYPTO_BUFFER and EVP_PKEY; its headers are for the files that use them. */
struct crypto_buffer_st;
struct evp_pkey_st;

struct certificate {
	struct rc rc;
	size_t count; /* of chain, leaf first */
	struct crypto_buffer_st **chain;
	struct evp_pkey_st *key;
	bool slow; /* a signature takes longer than a shard may be held: RSA */
	int64_t expires_s; /* wall time */
	uint8_t end_point[TLS_END_POINT_BYTES_MAX]; /* the leaf's hash (RFC 5929 section 4.1) ... */
	size_t end_point_len;                       /* ... 0: its signature names no hash, there is none */
	size_t bytes; /* about, in memory */
};
void certificate_put(struct certificate *c); /* NULL is harmless */

#define CERTIFICATE_WHY_BYTES 256
/* Reads, parses and checks a pair. Blocking. ERR_CONFIG with one line in why_out. */
enum err certificate_load(const char *chain_path, const char *key_path, struct certificate **out, char why_out[CERTIFICATE_WHY_BYTES]);

/* The leaf is for this host, or for *.DOMAIN. */
bool certificate_covers(const struct certificate *c, const char *name);

struct certificates_config {
	const char *chain_path, *key_path, *folder; /* copied; each pair or folder may be NULL */
	const char *where_chain, *where_folder;     /* in the configuration, for messages of the start; or NULL */
	uint64_t cache_bytes_max;
	uint32_t expiry_warn_days; /* before a certificate's end; 0: never */
};
/* Blocking. ERR_CONFIG, logged: the default pair is bad or the folder is none. */
enum err certificates_open(const struct certificates_config *config);
void certificates_close(void);

/* The certificate for a name (as the client sent it; any bytes): OK with one, counted; ERR_AGAIN: certificates_load first; ERR_NOT_FOUND:
 * none, and no default. Now. */
enum err certificates_find(struct slice name, struct certificate **out);
/* Blocking. */
void certificates_load(struct slice name);
/* Once a second, blocking: see tls_look. */
void certificates_look(bool loud);

#endif
