/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_client.h - a TLS client in memory, and certificates made on the spot, for tests of net/tls.c and for the fuzz target.
 *
 * To be included by one file of a program.  The client is BoringSSL's; it talks to a `struct tls` through two buffers, cut as
 * the test likes.  Certificates are self-signed, for one or two names, P-256 or RSA.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_TLS_CLIENT_H
#define PENFOLD_TESTS_UNIT_SUPPORT_TLS_CLIENT_H

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- certificates ---- */

static inline EVP_PKEY *peer_make_key(bool rsa)
{
	EVP_PKEY *key = EVP_PKEY_new();
	if (rsa) {
		RSA *r = RSA_new();
		BIGNUM *e = BN_new();
		ASSERT(BN_set_word(e, RSA_F4) && RSA_generate_key_ex(r, 2048, e, NULL) && EVP_PKEY_assign_RSA(key, r));
		BN_free(e);
	} else {
		EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
		ASSERT(EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
	}
	return key;
}

/* Writes a pair; `name` becomes the common name. `other_key`: the file of the key gets one that does not belong. */
static inline void peer_make_pair(const char *chain_path, const char *key_path, const char *name, bool rsa, bool other_key)
{
	static long serial;
	EVP_PKEY *key = peer_make_key(rsa);
	X509 *x = X509_new();
	ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
	X509_set_version(x, 2);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME *subject = X509_get_subject_name(x);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(x, subject);
	ASSERT(X509_sign(x, key, EVP_sha256()) > 0);
	char fresh[4096];
	snprintf(fresh, sizeof fresh, "%s.new", chain_path);
	FILE *f = fopen(fresh, "w");
	ASSERT(f && PEM_write_X509(f, x));
	fclose(f);
	ASSERT(rename(fresh, chain_path) == 0);
	EVP_PKEY *written = other_key ? peer_make_key(rsa) : key;
	snprintf(fresh, sizeof fresh, "%s.new", key_path);
	f = fopen(fresh, "w");
	ASSERT(f && PEM_write_PrivateKey(f, written, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	ASSERT(rename(fresh, key_path) == 0);
	if (other_key)
		EVP_PKEY_free(written);
	X509_free(x);
	EVP_PKEY_free(key);
}

/* ---- the client ---- */

struct peer {
	SSL *ssl;
	BIO *in, *out; /* to it, from it */
	SSL_SESSION *ticket; /* the newest */
};

static SSL_CTX *peer_ctx;

static int peer_new_ticket(SSL *ssl, SSL_SESSION *session)
{
	struct peer *c = SSL_get_app_data(ssl);
	if (!c)
		return 0;
	SSL_SESSION_free(c->ticket);
	c->ticket = session;
	return 1;
}

static inline void peer_open(struct peer *c, int version, const char *name, const char *alpn, SSL_SESSION *resume)
{
	if (!peer_ctx) {
		peer_ctx = SSL_CTX_new(TLS_method());
		SSL_CTX_set_session_cache_mode(peer_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(peer_ctx, peer_new_ticket);
	}
	memset(c, 0, sizeof *c);
	c->ssl = SSL_new(peer_ctx);
	SSL_set_app_data(c->ssl, c);
	SSL_set_connect_state(c->ssl);
	if (version) {
		SSL_set_min_proto_version(c->ssl, (uint16_t)version);
		SSL_set_max_proto_version(c->ssl, (uint16_t)version);
	}
	if (name)
		SSL_set_tlsext_host_name(c->ssl, name);
	if (alpn)
		SSL_set_alpn_protos(c->ssl, (const uint8_t *)alpn, (unsigned)strlen(alpn));
	if (resume)
		SSL_set_session(c->ssl, resume);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(c->in, -1);
	SSL_set_bio(c->ssl, c->in, c->out);
}

static inline void peer_close(struct peer *c)
{
	SSL_free(c->ssl);
	SSL_SESSION_free(c->ticket);
}

/* What it wants on the wire, taken from it. */
static inline struct slice peer_take(struct peer *c)
{
	const uint8_t *ptr;
	size_t len;
	static char copy[MIB(1)];
	ASSERT(BIO_mem_contents(c->out, &ptr, &len) && len <= sizeof copy);
	memcpy(copy, ptr, len);
	BIO_reset(c->out);
	return slice_of(copy, len);
}

/* What the server's TLS has to say goes to the client. */
static inline void peer_hear(struct peer *c, struct tls *t)
{
	struct slice said = tls_pending(t);
	if (said.len)
		ASSERT(BIO_write(c->in, said.ptr, (int)said.len) == (int)said.len);
	tls_pending_sent(t);
}

/* Feeds in pieces, reading whatever comes out into got. */
static inline void peer_feed(struct tls *t, struct slice sealed, size_t piece, struct buf *got)
{
	char plain[4096];
	for (size_t at = 0; at < sealed.len; at += piece) {
		if (tls_state(t) == TLS_WORK)
			break; /* who tests that feeds whole */
		tls_feed(t, slice_upto(slice_from(sealed, at), piece));
		for (size_t n; (n = tls_read(t, plain, sizeof plain)) > 0;)
			ASSERT(!got || buf_put(got, plain, n));
		tls_fed(t);
	}
}

/* Both sides until neither has anything to say. True when both are open. */
static inline bool peer_shake(struct peer *c, struct tls *t, size_t piece)
{
	for (int turn = 0; turn < 12; turn++) {
		int r = SSL_do_handshake(c->ssl);
		struct slice said = peer_take(c);
		peer_feed(t, said, piece ? piece : said.len + 1, NULL);
		while (tls_state(t) == TLS_WORK) /* on a fiber only */
			tls_work(t);
		peer_hear(c, t);
		if (r == 1 && tls_state(t) == TLS_OPEN) {
			char byte;
			SSL_read(c->ssl, &byte, 1); /* tickets */
			break;
		}
	}
	ERR_clear_error();
	return SSL_is_init_finished(c->ssl) && tls_state(t) == TLS_OPEN;
}

/* One message each way. */
static inline bool peer_talk(struct peer *c, struct tls *t)
{
	struct buf got;
	char sealed[1024], heard[64];
	buf_init(&got, 4096);
	bool good = SSL_write(c->ssl, "hello", 5) == 5;
	peer_feed(t, peer_take(c), 4096, &got);
	good = good && slice_eq(buf_slice(&got), SLICE_LIT("hello")) && tls_state(t) == TLS_OPEN;
	size_t n = good ? tls_seal(t, SLICE_LIT("+OK\r\n"), TLS_RECORD_BYTES_MAX, sealed, sizeof sealed) : 0;
	good = good && n && BIO_write(c->in, sealed, (int)n) == (int)n && SSL_read(c->ssl, heard, sizeof heard) == 5;
	buf_release(&got);
	return good;
}

/* The common name of what the server showed. */
static inline const char *peer_saw(struct peer *c)
{
	static char name[256];
	X509 *x = SSL_get_peer_certificate(c->ssl);
	name[0] = 0;
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name);
	X509_free(x);
	return name;
}

#endif
