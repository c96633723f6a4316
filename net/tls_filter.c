/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_filter.c - see tls_filter.h.  BoringSSL between two memory BIOs: sealed bytes lie in them only within a call.
 */
#include "net/tls_filter.h"

#include "core/base/log.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt" /* Debian's */

struct process {
	SSL_CTX *ctx;
	const struct tls_filter_config *config;
};

struct machine {
	SSL *ssl;
	BIO *in, *out; /* the SSL's */
	bool ready;
	char why[128];
};

static void note(struct machine *m, const char *what)
{
	uint32_t code = ERR_peek_error();
	long verify = SSL_get_verify_result(m->ssl);
	if (verify != X509_V_OK)
		snprintf(m->why, sizeof(m->why), "TLS: %s: %s", what, X509_verify_cert_error_string(verify));
	else
		snprintf(m->why, sizeof(m->why), "TLS: %s: %s", what, code ? ERR_reason_error_string(code) : "the server ended it");
	ERR_clear_error();
}

/* The name, or address, that the certificate must be for. */
static bool expect(SSL *ssl, struct slice host, const char *name)
{
	char text[REDIS_HOST_BYTES_MAX + 1];
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	if (name)
		host = slice_str(name);
	host = slice_upto(host, sizeof(text) - 1);
	memcpy(text, host.ptr, host.len);
	text[host.len] = 0;
	if (X509_VERIFY_PARAM_set1_ip_asc(param, text))
		return true;
	ERR_clear_error();
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, text, host.len) && SSL_set_tlsext_host_name(ssl, text);
}

static void *machine_open(void *arg, struct slice host)
{
	const struct process *p = arg;
	struct machine *m = xcalloc(1, sizeof(*m));
	m->ssl = SSL_new(p->ctx);
	m->in = BIO_new(BIO_s_mem());
	m->out = BIO_new(BIO_s_mem());
	ASSERT(m->ssl && m->in && m->out);
	BIO_set_mem_eof_return(m->in, -1); /* empty is "not yet" */
	SSL_set_bio(m->ssl, m->in, m->out);
	SSL_set_connect_state(m->ssl);
	if (!expect(m->ssl, host, p->config->name)) {
		SSL_free(m->ssl);
		free(m);
		return NULL;
	}
	return m;
}

static void machine_close(void *machine)
{
	struct machine *m = machine;
	SSL_free(m->ssl);
	free(m);
}

static enum err drain(struct machine *m, struct buf *wire)
{
	const uint8_t *bytes;
	size_t len;
	if (!BIO_mem_contents(m->out, &bytes, &len) || !len)
		return OK;
	bool fits = buf_put(wire, bytes, len);
	BIO_reset(m->out);
	return fits ? OK : ERR_LIMIT;
}

static enum err shake(struct machine *m)
{
	int r = SSL_do_handshake(m->ssl);
	if (r == 1) {
		m->ready = true;
		return OK;
	}
	int why = SSL_get_error(m->ssl, r);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return OK;
	note(m, "no handshake");
	return ERR_CLOSED;
}

static enum err read_plain(struct machine *m, struct buf *plain)
{
	char chunk[4096];
	int r;
	while ((r = SSL_read(m->ssl, chunk, sizeof(chunk))) > 0)
		if (!buf_put(plain, chunk, (size_t)r))
			return ERR_LIMIT;
	int why = SSL_get_error(m->ssl, r);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return OK;
	note(m, "ended");
	return ERR_CLOSED;
}

static enum err from_wire(void *machine, struct slice bytes, struct buf *plain, struct buf *wire)
{
	struct machine *m = machine;
	enum err e = OK;
	if (bytes.len && BIO_write(m->in, bytes.ptr, (int)bytes.len) != (int)bytes.len)
		return ERR_LIMIT;
	if (!m->ready)
		e = shake(m);
	if (e == OK && m->ready)
		e = read_plain(m, plain);
	enum err sent = drain(m, wire); /* an alert, too */
	return e == OK ? sent : e;
}

static enum err to_wire(void *machine, struct slice plain, struct buf *wire)
{
	struct machine *m = machine;
	while (plain.len) {
		size_t len = min_size(plain.len, KIB(16));
		if (SSL_write(m->ssl, plain.ptr, (int)len) != (int)len) {
			note(m, "cannot write");
			return ERR_CLOSED;
		}
		plain = slice_from(plain, len);
	}
	return drain(m, wire);
}

static bool is_ready(const void *machine) { return ((const struct machine *)machine)->ready; }

static const char *failure(const void *machine)
{
	const struct machine *m = machine;
	return m->why[0] ? m->why : "TLS broke";
}

static enum err refuse(const char *where, const char *path, const char *expected)
{
	uint32_t code = ERR_peek_error();
	log_event(LOG_ERROR, "redis.tls", LOG_Z("where", where), LOG_Z("file", path), LOG_Z("why", code ? ERR_reason_error_string(code) : "unreadable"),
		  LOG_Z("expected", expected));
	ERR_clear_error();
	return ERR_CONFIG;
}

static enum err configure(SSL_CTX *ctx, const struct tls_filter_config *c)
{
	const char *ca = c->ca ? c->ca : SYSTEM_CA;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (!SSL_CTX_load_verify_locations(ctx, ca, NULL))
		return refuse(c->where_ca, ca, "a PEM file of authorities");
	if (c->certificate && !SSL_CTX_use_certificate_chain_file(ctx, c->certificate))
		return refuse(c->where_certificate, c->certificate, "a PEM file of a certificate chain");
	if (c->key && (!SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) || !SSL_CTX_check_private_key(ctx)))
		return refuse(c->where_certificate, c->key, "the PEM file of the certificate's key");
	return OK;
}

enum err tls_filter_open(const struct tls_filter_config *config, struct redis_filter *filter_out)
{
	struct process *p = xcalloc(1, sizeof(*p));
	p->config = config;
	p->ctx = SSL_CTX_new(TLS_method());
	ASSERT(p->ctx);
	*filter_out = (struct redis_filter){ .open = machine_open, .close = machine_close, .from_wire = from_wire, .to_wire = to_wire, .ready = is_ready,
					     .failure = failure, .arg = p };
	enum err e = configure(p->ctx, config);
	if (e != OK)
		tls_filter_close(filter_out);
	return e;
}

void tls_filter_close(struct redis_filter *filter)
{
	struct process *p = filter->arg;
	if (!p)
		return;
	SSL_CTX_free(p->ctx);
	free(p);
	filter->arg = NULL;
}
