/* SPDX-License-Identifier: Apache-2.0 */
/* tls_mutual.c - see tls_mutual.h. */
#include "net/tls_mutual.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

METRIC_COUNTER(reloads, "peer_tls_reloads_total", "times that changed certificates for other nodes were taken into use");

enum { FILES = 3 };

struct tls_mutual {
	struct tls_mutual_config config;
	SSL_CTX *ctx;         /* behind the lock */
	pthread_mutex_t lock;
	struct stat used[FILES], bad[FILES]; /* of ctx; of what was found bad last */
	bool told;            /* bad has been reported */
	struct tls_mutual *next;
};

/* All that are open: changed by the main thread while no shard runs, read by whoever looks. */
static struct tls_mutual *all;

bool tls_mutual_any(void) { return all != NULL; }

/* ---- files ---- */

/* A file that cannot be read has no stamp. */
static void stamp(const struct tls_mutual_config *c, struct stat out[FILES])
{
	const char *const paths[FILES] = { c->certificate, c->key, c->ca };
	memset(out, 0, FILES * sizeof *out);
	for (unsigned i = 0; i < FILES; i++)
		if (stat(paths[i], &out[i]) != 0)
			memset(&out[i], 0, sizeof out[i]);
}

static bool same(const struct stat *a, const struct stat *b)
{
	for (unsigned i = 0; i < FILES; i++)
		if (a[i].st_dev != b[i].st_dev || a[i].st_ino != b[i].st_ino || a[i].st_size != b[i].st_size ||
		    a[i].st_mtim.tv_sec != b[i].st_mtim.tv_sec || a[i].st_mtim.tv_nsec != b[i].st_mtim.tv_nsec ||
		    a[i].st_ctim.tv_sec != b[i].st_ctim.tv_sec || a[i].st_ctim.tv_nsec != b[i].st_ctim.tv_nsec)
			return false;
	return true;
}

static enum err refuse_file(const struct tls_mutual_config *c, const char *path, const char *expected, bool quiet)
{
	uint32_t code = ERR_peek_error();
	if (!quiet)
		log_event(LOG_ERROR, "peer.tls", LOG_Z("where", c->where), LOG_Z("file", path), LOG_Z("why", code ? ERR_reason_error_string(code) : "unreadable"),
			  LOG_Z("expected", expected));
	ERR_clear_error();
	return ERR_CONFIG;
}

static enum err configure(SSL_CTX *ctx, const struct tls_mutual_config *c, bool quiet)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_max_cert_list(ctx, TLS_HANDSHAKE_BYTES_MAX);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_purpose(ctx, X509_PURPOSE_ANY); /* one certificate serves both ends of a node */
	if (!SSL_CTX_load_verify_locations(ctx, c->ca, NULL))
		return refuse_file(c, c->ca, "a PEM file of the fleet's authority", quiet);
	if (!SSL_CTX_use_certificate_chain_file(ctx, c->certificate))
		return refuse_file(c, c->certificate, "a PEM file of a certificate chain", quiet);
	if (!SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) || !SSL_CTX_check_private_key(ctx))
		return refuse_file(c, c->key, "the PEM file of the certificate's key", quiet);
	return OK;
}

static enum err load(const struct tls_mutual_config *c, bool quiet, SSL_CTX **out)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	ASSERT(ctx);
	enum err e = configure(ctx, c, quiet);
	if (e != OK) {
		SSL_CTX_free(ctx);
		ctx = NULL;
	}
	*out = ctx;
	return e;
}

/* ---- open, look, close ---- */

enum err tls_mutual_open(const struct tls_mutual_config *config, struct tls_mutual **out)
{
	struct tls_mutual *m = xcalloc(1, sizeof *m);
	m->config = *config;
	pthread_mutex_init(&m->lock, NULL);
	stamp(config, m->used); /* before they are read: a change meanwhile is seen as one */
	enum err e = load(config, false, &m->ctx);
	if (e == OK) {
		tls_bio_take();
		m->next = all;
		all = m;
	} else {
		pthread_mutex_destroy(&m->lock);
		free(m);
		m = NULL;
	}
	*out = m;
	return e;
}

void tls_mutual_close(struct tls_mutual *m)
{
	if (!m)
		return;
	for (struct tls_mutual **p = &all; *p; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			break;
		}
	SSL_CTX_free(m->ctx);
	pthread_mutex_destroy(&m->lock);
	free(m);
	tls_bio_drop();
}

/* Certificate and key are two files, so what is bad at one look may be half of a change: it is told when it stays so. */
static void look(struct tls_mutual *m, bool loud)
{
	struct stat now[FILES];
	SSL_CTX *fresh, *old;
	stamp(&m->config, now);
	if (same(now, m->used)) {
		memset(m->bad, 0, sizeof m->bad);
		return;
	}
	bool again = same(now, m->bad), told = again && m->told, quiet = !loud && (!again || told);
	if (load(&m->config, quiet, &fresh) != OK) {
		m->told = told || !quiet;
		memcpy(m->bad, now, sizeof m->bad);
		return;
	}
	pthread_mutex_lock(&m->lock);
	old = m->ctx;
	m->ctx = fresh;
	pthread_mutex_unlock(&m->lock);
	SSL_CTX_free(old); /* connections have references of their own */
	memcpy(m->used, now, sizeof m->used);
	metric_inc(&reloads);
	log_event(LOG_INFO, "peer.tls_reloaded", LOG_Z("certificate", m->config.certificate));
}

void tls_mutual_look_all(bool loud)
{
	for (struct tls_mutual *m = all; m; m = m->next)
		look(m, loud);
}

/* ---- connections ---- */

SSL *tls_mutual_connection(const struct tls_mutual *m)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&m->lock;
	pthread_mutex_lock(lock); /* for a pointer's swap: nobody holds it while he waits */
	SSL *ssl = SSL_new(m->ctx);
	pthread_mutex_unlock(lock);
	return ssl;
}

static bool names_address(X509 *x, const struct addr *a)
{
	if (!a->len || addr_is_unix(a))
		return false;
	const bool v4 = a->u.sa.sa_family == AF_INET;
	const void *bytes = v4 ? (const void *)&a->u.in.sin_addr : (const void *)&a->u.in6.sin6_addr;
	return X509_check_ip(x, bytes, v4 ? 4 : 16, 0) == 1;
}

bool tls_mutual_names(const SSL *ssl, struct slice node, const struct addr *address)
{
	X509 *x = SSL_get_peer_certificate(ssl);
	if (!x)
		return false;
	bool named = node.len && X509_check_host(x, node.ptr, node.len, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
	named = named || names_address(x, address);
	X509_free(x);
	ERR_clear_error();
	return named;
}
