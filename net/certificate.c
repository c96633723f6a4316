/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.c - one pair: reading, parsing, checking.  certificates.c keeps them.
 */
#include "net/certificate.h"

#include "core/base/limits.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static void release(struct certificate *c)
{
	for (size_t i = 0; i < c->count; i++)
		CRYPTO_BUFFER_free(c->chain[i]);
	free(c->chain);
	EVP_PKEY_free(c->key);
	free(c);
}

void certificate_put(struct certificate *c)
{
	if (c && rc_put(&c->rc))
		release(c);
}

/* A BIO over the file's bytes; NULL with a reason. */
static BIO *open_file(const char *path, char *why)
{
	struct stat st;
	BIO *memory = NULL;
	FILE *f = fopen(path, "re");
	if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)TLS_PEM_BYTES_MAX) {
		snprintf(why, CERTIFICATE_WHY_BYTES, "%.160s: %s", path, f ? "no PEM file" : strerror(errno));
	} else {
		memory = BIO_new(BIO_s_mem());
		char piece[4096];
		size_t n;
		while ((n = fread(piece, 1, sizeof piece, f)) > 0)
			BIO_write(memory, piece, (int)n);
		OPENSSL_cleanse(piece, sizeof piece);
	}
	if (f)
		fclose(f);
	return memory;
}

static bool read_chain(BIO *pem, struct certificate *c)
{
	char *name, *header;
	unsigned char *der;
	long len;
	c->chain = xcalloc(TLS_CHAIN_MAX, sizeof *c->chain);
	while (c->count < TLS_CHAIN_MAX && PEM_read_bio(pem, &name, &header, &der, &len)) {
		if (strcmp(name, PEM_STRING_X509) == 0) {
			c->chain[c->count++] = CRYPTO_BUFFER_new(der, (size_t)len, NULL);
			c->bytes += (size_t)len + 128;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	ERR_clear_error();
	return c->count > 0;
}

static int64_t time_of(const ASN1_TIME *t)
{
	int days = 0, seconds = 0;
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	if (epoch)
		ASN1_TIME_diff(&days, &seconds, epoch, t);
	ASN1_TIME_free(epoch);
	return (int64_t)days * 86400 + seconds;
}

/* By the hash of the certificate's signature; SHA-256 for those that are no good any more. */
static void take_end_point(struct certificate *c, const X509 *leaf)
{
	int hash = NID_undef, key;
	unsigned len = 0;
	if (!OBJ_find_sigid_algs(X509_get_signature_nid(leaf), &hash, &key) || hash == NID_undef)
		return;
	const EVP_MD *md = hash == NID_md5 || hash == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(hash);
	if (md && EVP_Digest(CRYPTO_BUFFER_data(c->chain[0]), CRYPTO_BUFFER_len(c->chain[0]), c->end_point, &len, md, NULL))
		c->end_point_len = len;
}

/* What TLS can serve with, and that both belong together. NULL, or why not. */
static const char *check(struct certificate *c)
{
	const unsigned char *der = CRYPTO_BUFFER_data(c->chain[0]);
	X509 *leaf = d2i_X509(NULL, &der, (long)CRYPTO_BUFFER_len(c->chain[0]));
	int type = EVP_PKEY_id(c->key);
	const char *why = NULL;
	if (!leaf)
		why = "the first certificate cannot be parsed";
	else if (type != EVP_PKEY_RSA && type != EVP_PKEY_EC && type != EVP_PKEY_ED25519)
		why = "the key is of no kind that TLS serves with";
	else if (X509_check_private_key(leaf, c->key) != 1)
		why = "key and certificate do not belong together";
	else
		c->expires_s = time_of(X509_get0_notAfter(leaf));
	if (leaf)
		take_end_point(c, leaf);
	c->slow = type == EVP_PKEY_RSA;
	X509_free(leaf);
	ERR_clear_error();
	return why;
}

bool certificate_covers(const struct certificate *c, const char *name)
{
	char host[DOMAIN_BYTES_MAX + 4];
	const unsigned char *der = CRYPTO_BUFFER_data(c->chain[0]);
	X509 *leaf = d2i_X509(NULL, &der, (long)CRYPTO_BUFFER_len(c->chain[0]));
	/* any host will do for a wildcard, but one that nobody names */
	int n = snprintf(host, sizeof host, "%s%s", name[0] == '*' ? "xx" : "", name[0] == '*' ? name + 1 : name);
	bool covers = leaf && n > 0 && (size_t)n < sizeof host && X509_check_host(leaf, host, (size_t)n, 0, NULL) == 1;
	X509_free(leaf);
	ERR_clear_error();
	return covers;
}

enum err certificate_load(const char *chain_path, const char *key_path, struct certificate **out, char why_out[CERTIFICATE_WHY_BYTES])
{
	struct certificate *c = xcalloc(1, sizeof *c);
	const char *why = NULL;
	why_out[0] = 0;
	rc_init(&c->rc);
	c->bytes = sizeof *c + 3072;
	BIO *chain = open_file(chain_path, why_out);
	BIO *key = chain ? open_file(key_path, why_out) : NULL;
	if (chain && key) {
		if (!read_chain(chain, c))
			why = "no certificate in it";
		else if (!(c->key = PEM_read_bio_PrivateKey(key, NULL, NULL, (void *)(uintptr_t) "")))
			why = "no private key in its file, or it is encrypted";
		else
			why = check(c);
	}
	if (why)
		snprintf(why_out, CERTIFICATE_WHY_BYTES, "%.160s: %s", chain_path, why);
	BIO_free(chain);
	BIO_free(key);
	ERR_clear_error();
	bool good = !why && chain && key;
	if (!good)
		release(c);
	*out = good ? c : NULL;
	return good ? OK : ERR_CONFIG;
}
