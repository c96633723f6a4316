/* SPDX-License-Identifier: Apache-2.0 */
/* client_ca.c - see client_ca.h. */
#include "net/client_ca.h"

#include "core/base/limits.h"
#include "core/base/log.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct client_ca {
	struct client_ca *next;
	char *path;
	struct stat seen;
	X509_STORE *store; /* swapped whole, under the lock */
};

static struct {
	pthread_mutex_t lock;
	struct client_ca *first;
} process = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the file ---- */

static unsigned add_all(X509_STORE *store, BIO *pem)
{
	unsigned authorities = 0, lists = 0;
	STACK_OF(X509_INFO) *infos = PEM_X509_INFO_read_bio(pem, NULL, NULL, NULL);
	for (size_t i = 0; infos && i < sk_X509_INFO_num(infos); i++) {
		const X509_INFO *info = sk_X509_INFO_value(infos, i);
		if (info->x509 && X509_STORE_add_cert(store, info->x509))
			authorities++;
		if (info->crl && X509_STORE_add_crl(store, info->crl))
			lists++;
	}
	sk_X509_INFO_pop_free(infos, X509_INFO_free);
	if (lists)
		X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	ERR_clear_error();
	return authorities;
}

/* NULL with a reason. */
static X509_STORE *load(const char *path, struct stat *seen_out, const char **why_out)
{
	FILE *f = fopen(path, "re");
	X509_STORE *store = NULL;
	*why_out = f ? "no PEM file" : strerror(errno);
	if (f && fstat(fileno(f), seen_out) == 0 && S_ISREG(seen_out->st_mode) && seen_out->st_size <= (off_t)TLS_PEM_BYTES_MAX) {
		char *text = xmalloc(TLS_PEM_BYTES_MAX);
		BIO *pem = BIO_new_mem_buf(text, (int)fread(text, 1, TLS_PEM_BYTES_MAX, f));
		store = X509_STORE_new();
		ASSERT(pem && store);
		if (!add_all(store, pem)) {
			X509_STORE_free(store);
			store = NULL;
			*why_out = "no certificate of an authority in it";
		}
		BIO_free(pem);
		free(text);
	}
	if (f)
		fclose(f);
	return store;
}

enum err client_ca_open(const char *path, const char *where, struct client_ca **out)
{
	struct client_ca *ca = xcalloc(1, sizeof *ca);
	const char *why;
	ca->store = load(path, &ca->seen, &why);
	*out = NULL;
	if (!ca->store) {
		log_event(LOG_ERROR, "tls.client_ca_failed", LOG_Z("where", where), LOG_Z("file", path), LOG_Z("why", why));
		free(ca);
		return ERR_CONFIG;
	}
	ca->path = xstrdup(path);
	pthread_mutex_lock(&process.lock);
	ca->next = process.first;
	process.first = ca;
	pthread_mutex_unlock(&process.lock);
	*out = ca;
	return OK;
}

void client_ca_close_all(void)
{
	struct client_ca *ca = process.first;
	process.first = NULL;
	while (ca) {
		struct client_ca *next = ca->next;
		X509_STORE_free(ca->store);
		free(ca->path);
		free(ca);
		ca = next;
	}
}

static void look_at(struct client_ca *ca)
{
	struct stat now;
	const char *why;
	const struct stat *was = &ca->seen;
	if (stat(ca->path, &now) != 0 || (now.st_dev == was->st_dev && now.st_ino == was->st_ino && now.st_size == was->st_size &&
					  now.st_mtim.tv_sec == was->st_mtim.tv_sec && now.st_mtim.tv_nsec == was->st_mtim.tv_nsec))
		return;
	ca->seen = now; /* of a bad file too: told once for each of its forms */
	X509_STORE *fresh = load(ca->path, &now, &why), *old = ca->store;
	if (!fresh) {
		log_event(LOG_WARN, "tls.client_ca_refused", LOG_Z("file", ca->path), LOG_Z("why", why));
		return;
	}
	pthread_mutex_lock(&process.lock);
	ca->store = fresh;
	pthread_mutex_unlock(&process.lock);
	X509_STORE_free(old);
	log_event(LOG_INFO, "tls.client_ca", LOG_Z("file", ca->path));
}

void client_ca_look(void)
{
	for (struct client_ca *ca = process.first; ca; ca = ca->next)
		look_at(ca);
}

/* ---- a client's chain ---- */

static X509 *parse(const CRYPTO_BUFFER *der)
{
	const unsigned char *at = CRYPTO_BUFFER_data(der);
	return d2i_X509(NULL, &at, (long)CRYPTO_BUFFER_len(der));
}

static bool trusted(X509_STORE *store, X509 *leaf, STACK_OF(X509) *others, const char **why_out)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	ASSERT(ctx);
	bool good = X509_STORE_CTX_init(ctx, store, leaf, others) && X509_STORE_CTX_set_default(ctx, "ssl_client") && X509_verify_cert(ctx) == 1;
	if (!good)
		*why_out = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
	X509_STORE_CTX_free(ctx);
	return good;
}

/* Printable text without a NUL or a blank in it, or NULL: a name is compared, logged and looked up. */
static char *text_of(const ASN1_STRING *s)
{
	unsigned char *utf8 = NULL;
	char *text = NULL;
	int len = ASN1_STRING_to_UTF8(&utf8, s);
	bool good = len > 0 && (size_t)len <= SASL_NAME_BYTES_MAX;
	for (int i = 0; good && i < len; i++)
		good = utf8[i] > ' ' && utf8[i] != 0x7f;
	if (good)
		text = slice_dup(slice_of(utf8, (size_t)len));
	OPENSSL_free(utf8);
	return text;
}

static char *common_name(X509 *leaf)
{
	const X509_NAME *subject = X509_get_subject_name(leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return NULL;
	return text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

static char *email(X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	const ASN1_STRING *found = NULL;
	unsigned count = 0;
	for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		if (n->type == GEN_EMAIL) {
			found = n->d.rfc822Name;
			count++;
		}
	}
	char *text = count == 1 ? text_of(found) : NULL;
	GENERAL_NAMES_free(names);
	return text;
}

bool client_ca_verify(struct client_ca *ca, const STACK_OF(CRYPTO_BUFFER) *chain, enum client_name kind, char **name_out, const char **why_out)
{
	size_t count = chain ? sk_CRYPTO_BUFFER_num(chain) : 0;
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *leaf = count && count <= TLS_CHAIN_MAX ? parse(sk_CRYPTO_BUFFER_value(chain, 0)) : NULL;
	bool good = leaf && others;
	*name_out = NULL;
	*why_out = "it cannot be parsed";
	for (size_t i = 1; good && i < count; i++) {
		X509 *x = parse(sk_CRYPTO_BUFFER_value(chain, i));
		good = x && sk_X509_push(others, x);
	}
	pthread_mutex_lock(&process.lock);
	X509_STORE *store = ca->store;
	X509_STORE_up_ref(store);
	pthread_mutex_unlock(&process.lock);
	good = good && trusted(store, leaf, others, why_out);
	X509_STORE_free(store);
	if (good)
		*name_out = kind == CLIENT_NAME_CN ? common_name(leaf) : email(leaf);
	X509_free(leaf);
	sk_X509_pop_free(others, X509_free);
	ERR_clear_error();
	return good;
}
