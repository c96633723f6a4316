/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - BoringSSL driven from memory.
 *
 * One SSL_CTX serves the process: what differs by name (chain, key) is set on each connection when its ClientHello
 * has come, so that swapping a certificate is swapping a pointer, and ten thousand names need no ten thousand contexts.
 *
 * BoringSSL reads records through a BIO from the bytes that are lent (or kept), exactly as many as a record has, and writes
 * through it to `pending`, or, while tls_seal runs, to the caller's memory.  Its own write buffer exists for one record
 * only, so sealed bytes are copied once.
 */
#include "net/tls.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/certificate.h"
#include "net/ticket.h"
#include "net/tls_mutual.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(handshakes_full, "tls_handshakes_full_total", "TLS handshakes without resumption");
METRIC_COUNTER(handshakes_resumed, "tls_handshakes_resumed_total", "TLS handshakes that resumed a session");
METRIC_COUNTER(handshakes_failed, "tls_handshakes_failed_total", "TLS handshakes that failed");

/* AEAD with forward secrecy; what is faster on the client's machine first. */
#define TLS_CIPHERS_12                                                                                    \
	"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305|ECDHE-RSA-AES128-GCM-SHA256|"       \
	"ECDHE-RSA-CHACHA20-POLY1305]:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

static struct {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	unsigned mutuals; /* that use bio */
} process;

/* A signature that an offload thread makes. */
struct signing {
	EVP_PKEY *key; /* of the certificate */
	uint16_t algorithm;
	bool done, good;
	size_t in_len, out_len;
	uint8_t out[TLS_SIGNATURE_BYTES_MAX];
	uint8_t in[];
};

/* What only a handshake needs. */
struct shake {
	struct certificate *certificate;
	char *name; /* asked for, while it is being loaded */
	struct signing *signing;
	bool looked; /* the name has been loaded once: no second time */
	enum { CLIENT_UNSEEN, CLIENT_SHOWN, CLIENT_GOOD, CLIENT_BAD } client;
};

struct tls {
	SSL *ssl;
	const struct tls_rules *rules;
	struct shake *shake; /* NULL after it */
	struct slice in;     /* lent, or kept */
	char *kept;          /* xmalloc'd */
	struct buf pending;
	char *to;            /* while sealing: behind the last record ... */
	size_t to_room;      /* ... and how far from there it may go */
	uint8_t state;
	bool shut;
	unsigned reason; /* of a failure: BoringSSL's packed error */
	struct certificate *shown; /* to the client, in this handshake; NULL: none, it was resumed */
	char *client_name;     /* xmalloc'd; of a good certificate */
	const char *client_bad; /* why it was none, static text */
};
static_assert_c(sizeof(struct tls) <= 128, "one for each connection; 160 is the next size class");

/* ---- the wire as BoringSSL sees it ---- */

static int bio_read(BIO *bio, char *out, int room)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (!t->in.len || room <= 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t n = min_size(t->in.len, (size_t)room);
	memcpy(out, t->in.ptr, n);
	t->in = slice_from(t->in, n);
	return (int)n;
}

static int bio_write(BIO *bio, const char *ptr, int len)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (len <= 0)
		return 0;
	if (!t->to)
		return buf_put(&t->pending, ptr, (size_t)len) ? len : -1;
	if ((size_t)len > t->to_room)
		return -1;
	memcpy(t->to, ptr, (size_t)len);
	t->to += len;
	t->to_room -= (size_t)len;
	return len;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio, (void)num, (void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* ---- signatures that an offload thread makes ---- */

static bool sign(struct signing *g)
{
	EVP_MD_CTX md;
	EVP_PKEY_CTX *pkey;
	EVP_MD_CTX_init(&md);
	g->out_len = sizeof g->out;
	bool good = EVP_DigestSignInit(&md, &pkey, SSL_get_signature_algorithm_digest(g->algorithm), NULL, g->key) == 1;
	if (good && SSL_is_signature_algorithm_rsa_pss(g->algorithm))
		good = EVP_PKEY_CTX_set_rsa_padding(pkey, RSA_PKCS1_PSS_PADDING) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey, -1) == 1;
	good = good && EVP_DigestSign(&md, g->out, &g->out_len, g->in, g->in_len) == 1;
	EVP_MD_CTX_cleanup(&md);
	ERR_clear_error();
	return good;
}

static void sign_job(void *arg)
{
	struct signing *g = arg;
	g->good = sign(g);
}

static enum ssl_private_key_result_t key_sign(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, uint16_t algorithm, const uint8_t *in,
					      size_t in_len)
{
	struct tls *t = SSL_get_app_data(ssl);
	(void)out, (void)out_len, (void)max_out;
	if (!t->shake || !t->shake->certificate || t->shake->signing)
		return ssl_private_key_failure;
	struct signing *g = xcalloc(1, sizeof *g + in_len);
	g->key = t->shake->certificate->key;
	g->algorithm = algorithm;
	g->in_len = in_len;
	memcpy(g->in, in, in_len);
	t->shake->signing = g;
	return ssl_private_key_retry;
}

static enum ssl_private_key_result_t key_decrypt(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, const uint8_t *in, size_t in_len)
{
	(void)ssl, (void)out, (void)out_len, (void)max_out, (void)in, (void)in_len;
	return ssl_private_key_failure; /* RSA key exchange is not offered */
}

static enum ssl_private_key_result_t key_complete(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out)
{
	struct tls *t = SSL_get_app_data(ssl);
	struct signing *g = t->shake ? t->shake->signing : NULL;
	if (!g)
		return ssl_private_key_failure;
	if (!g->done)
		return ssl_private_key_retry;
	bool good = g->good && g->out_len <= max_out;
	if (good) {
		memcpy(out, g->out, g->out_len);
		*out_len = g->out_len;
	}
	t->shake->signing = NULL;
	free(g);
	return good ? ssl_private_key_success : ssl_private_key_failure;
}

static const SSL_PRIVATE_KEY_METHOD slow_key = { key_sign, key_decrypt, key_complete };

/* ---- what is chosen by the ClientHello ---- */

static enum ssl_select_cert_result_t choose_certificate(const SSL_CLIENT_HELLO *hello)
{
	SSL *ssl = hello->ssl;
	struct tls *t = SSL_get_app_data(ssl);
	struct slice name = slice_str(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
	if (!t->shake)
		return ssl_select_cert_error;
	certificate_put(t->shake->certificate);
	t->shake->certificate = NULL;
	enum err e = certificates_find(name, &t->shake->certificate);
	if (e == ERR_AGAIN && !t->shake->looked) {
		t->shake->name = slice_dup(name);
		return ssl_select_cert_retry;
	}
	if (e == ERR_AGAIN) /* it has left the cache already: the default will do */
		e = certificates_find(slice_of(NULL, 0), &t->shake->certificate);
	const struct certificate *c = t->shake->certificate;
	if (e != OK || !c)
		return ssl_select_cert_error;
	if (!SSL_set_chain_and_key(ssl, c->chain, c->count, c->slow ? NULL : c->key, c->slow ? &slow_key : NULL))
		return ssl_select_cert_error;
	return ssl_select_cert_success;
}

/* The client has shown a certificate: an offload thread checks it. */
static enum ssl_verify_result_t judge_client(SSL *ssl, uint8_t *alert_out)
{
	struct tls *t = SSL_get_app_data(ssl);
	*alert_out = SSL_AD_BAD_CERTIFICATE;
	if (!t->shake || t->shake->client == CLIENT_BAD)
		return ssl_verify_invalid;
	if (t->shake->client == CLIENT_GOOD)
		return ssl_verify_ok;
	t->shake->client = CLIENT_SHOWN;
	return ssl_verify_retry;
}

/* RFC 7301 3.2, strictly: a client that names protocols must name ours (ALPACA: another protocol's client was led here). */
static int choose_protocol(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in, unsigned in_len, void *arg)
{
	const struct tls *t = SSL_get_app_data(ssl);
	struct slice ours = slice_str(t->rules->alpn);
	(void)arg;
	for (unsigned at = 0; at < in_len && at + in[at] < in_len; at += 1u + in[at]) {
		if (ours.len && slice_eq(slice_of(in + at + 1, in[at]), ours)) {
			*out = in + at + 1;
			*out_len = in[at];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- the process ---- */

static bool make_bio(void)
{
	if (process.bio)
		return true;
	process.bio = BIO_meth_new(0, "penfold");
	if (!process.bio)
		return false;
	BIO_meth_set_read(process.bio, bio_read);
	BIO_meth_set_write(process.bio, bio_write);
	BIO_meth_set_ctrl(process.bio, bio_ctrl);
	BIO_meth_set_create(process.bio, bio_create);
	return true;
}

static bool make_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
	process.ctx = ctx;
	if (!ctx || !make_bio())
		return false;
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only: nothing is kept here */
	SSL_CTX_set_select_certificate_cb(ctx, choose_certificate);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	SSL_CTX_set_max_cert_list(ctx, TLS_HANDSHAKE_BYTES_MAX);
	SSL_CTX_set_num_tickets(ctx, 1); /* a mail client opens one connection after the other */
	ticket_serve(ctx);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) && SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_strict_cipher_list(ctx, TLS_CIPHERS_12);
}

enum err tls_open_process(const struct tls_config *config)
{
	ASSERT(!process.ctx);
	const struct certificates_config certificates = { config->certificate,	     config->key,	  config->folder,
							  config->where_certificate, config->where_folder, config->cache_bytes_max,
							  config->expiry_warn_days };
	enum err e = ticket_open(config->ticket_keys, config->where_ticket_keys);
	if (e == OK)
		e = certificates_open(&certificates);
	if (e == OK && !make_context()) {
		log_event(LOG_ERROR, "tls.library_failed", LOG_U64("code", ERR_peek_last_error()));
		e = ERR_CONFIG;
	}
	if (e != OK)
		tls_close_process();
	return e;
}

void tls_close_process(void)
{
	if (process.ctx)
		SSL_CTX_free(process.ctx);
	if (process.bio && !process.mutuals)
		BIO_meth_free(process.bio);
	if (!process.mutuals)
		process.bio = NULL;
	process.ctx = NULL;
	certificates_close();
	client_ca_close_all();
	ticket_close();
}

bool tls_ready(void) { return process.ctx != NULL; }
bool tls_watched(void) { return process.ctx || tls_mutual_any(); }

void tls_look(bool loud)
{
	tls_mutual_look_all(loud);
	if (!process.ctx)
		return;
	certificates_look(loud);
	client_ca_look();
	ticket_look(loud);
}

void tls_bio_take(void)
{
	ASSERT(make_bio());
	process.mutuals++;
}

void tls_bio_drop(void)
{
	if (--process.mutuals == 0 && !process.ctx) {
		BIO_meth_free(process.bio);
		process.bio = NULL;
	}
}

/* ---- a connection's birth and death ---- */

static void shake_on(struct tls *t);

struct tls *tls_new(const struct tls_rules *rules)
{
	struct tls *t = xcalloc(1, sizeof *t);
	SSL *ssl = rules->mutual ? tls_mutual_connection(rules->mutual) : SSL_new(process.ctx);
	BIO *bio = BIO_new(process.bio);
	ASSERT(ssl && bio); /* no memory: as xmalloc */
	BIO_set_data(bio, t);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, t);
	if (rules->dials)
		SSL_set_connect_state(ssl);
	else
		SSL_set_accept_state(ssl);
	SSL_set_shed_handshake_config(ssl, 1);
	if (rules->tls13_only)
		SSL_set_min_proto_version(ssl, TLS1_3_VERSION);
	if (rules->client != TLS_CLIENT_UNASKED) {
		static const uint8_t other[] = "client certificates"; /* a ticket from where nobody asked does not come in here */
		SSL_set_custom_verify(ssl, SSL_VERIFY_PEER | (rules->client == TLS_CLIENT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), judge_client);
		SSL_set_session_id_context(ssl, other, sizeof other - 1);
		SSL_set_options(ssl, SSL_OP_NO_TICKET);
	}
	t->ssl = ssl;
	t->rules = rules;
	t->shake = xcalloc(1, sizeof *t->shake);
	buf_init(&t->pending, TLS_PENDING_BYTES_MAX);
	t->state = TLS_SHAKING;
	if (rules->dials)
		shake_on(t); /* the first word is ours */
	return t;
}

static void drop_shake(struct tls *t)
{
	struct shake *s = t->shake;
	if (!s)
		return;
	certificate_put(s->certificate);
	free(s->name);
	free(s->signing);
	free(s);
	t->shake = NULL;
}

static void drop_kept(struct tls *t)
{
	free(t->kept);
	t->kept = NULL;
}

void tls_free(struct tls *t)
{
	SSL_free(t->ssl);
	drop_shake(t);
	drop_kept(t);
	buf_release(&t->pending);
	certificate_put(t->shown);
	free(t->client_name);
	free(t);
}

enum tls_state tls_state(const struct tls *t) { return (enum tls_state)t->state; }

/* ---- bytes in ---- */

static void fail(struct tls *t)
{
	bool shaking = t->state == TLS_SHAKING || t->state == TLS_WORK;
	t->reason = ERR_peek_error();
	ERR_clear_error();
	t->state = TLS_FAILED;
	t->in = slice_of(NULL, 0);
	drop_shake(t);
	if (shaking)
		metric_inc(&handshakes_failed);
}

static void opened(struct tls *t)
{
	t->state = TLS_OPEN;
	if (!SSL_session_reused(t->ssl) && t->shake) {
		t->shown = t->shake->certificate;
		t->shake->certificate = NULL;
	}
	drop_shake(t);
	metric_inc(SSL_session_reused(t->ssl) ? &handshakes_resumed : &handshakes_full);
}

/* Looks at what a call said that did not succeed. */
static void take_note(struct tls *t, int result)
{
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		break;
	case SSL_ERROR_PENDING_CERTIFICATE:
	case SSL_ERROR_WANT_PRIVATE_KEY_OPERATION:
	case SSL_ERROR_WANT_CERTIFICATE_VERIFY:
		t->state = TLS_WORK;
		break;
	case SSL_ERROR_ZERO_RETURN:
		t->state = TLS_ENDED;
		break;
	default:
		fail(t);
		break;
	}
}

static void shake_on(struct tls *t)
{
	ERR_clear_error();
	int r = SSL_do_handshake(t->ssl);
	if (r == 1)
		opened(t);
	else
		take_note(t, r);
}

void tls_feed(struct tls *t, struct slice sealed)
{
	if (t->state == TLS_FAILED || t->state == TLS_ENDED)
		return;
	ASSERT(!t->in.len && t->state != TLS_WORK); /* what came before has been used: one receive at a time */
	t->in = sealed;
	if (t->state == TLS_SHAKING)
		shake_on(t);
}

size_t tls_read(struct tls *t, char *to, size_t room)
{
	if (t->state != TLS_OPEN)
		return 0;
	ERR_clear_error();
	int r = SSL_read(t->ssl, to, (int)min_size(room, TLS_RECORD_BYTES_MAX));
	if (r > 0)
		return (size_t)r;
	take_note(t, r);
	return 0;
}

void tls_fed(struct tls *t)
{
	char *was = t->kept;
	t->kept = NULL;
	if (t->in.len) {
		t->kept = xmalloc(t->in.len);
		memcpy(t->kept, t->in.ptr, t->in.len);
		t->in.ptr = t->kept;
	}
	free(was);
}

/* ---- work ---- */

static void load_job(void *arg)
{
	struct shake *s = arg;
	certificates_load(slice_str(s->name));
}

static void client_job(void *arg)
{
	struct tls *t = arg;
	free(t->client_name);
	bool good = client_ca_verify(t->rules->client_ca, SSL_get0_peer_certificates(t->ssl), t->rules->client_name, &t->client_name, &t->client_bad);
	t->shake->client = good ? CLIENT_GOOD : CLIENT_BAD;
	if (good)
		t->client_bad = NULL;
}

static enum err check_client(struct tls *t)
{
	enum err e = offload_call(client_job, t, TLS_WORK_MS_MAX);
	if (e == OK)
		return OK;
	t->shake->client = CLIENT_BAD;
	t->client_bad = "no time to check it";
	return e;
}

void tls_work(struct tls *t)
{
	ASSERT(t->state == TLS_WORK && t->shake);
	struct shake *s = t->shake;
	enum err e = OK;
	if (s->name) {
		e = offload_call(load_job, s, TLS_WORK_MS_MAX);
		free(s->name);
		s->name = NULL;
		s->looked = true;
	} else if (s->client == CLIENT_SHOWN) {
		e = check_client(t);
	} else {
		e = offload_call(sign_job, s->signing, TLS_WORK_MS_MAX);
		s->signing->done = true; /* not begun in time: no good */
	}
	if (e != OK)
		log_event(LOG_WARN, "tls.offload_busy", LOG_ERR(e));
	t->state = TLS_SHAKING;
	shake_on(t);
}

/* ---- bytes out ---- */

struct slice tls_pending(const struct tls *t) { return buf_slice(&t->pending); }
void tls_pending_sent(struct tls *t) { buf_release(&t->pending); }

bool tls_shut(struct tls *t)
{
	if (t->shut || (t->state != TLS_OPEN && t->state != TLS_ENDED))
		return false;
	t->shut = true;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
	return t->pending.len > 0;
}

/* Header, nonce or content type, tag: 22 bytes in TLS 1.3, 29 in 1.2; and an answer to a key update that waits. */
size_t tls_sealed_bytes_max(size_t bytes)
{
	return bytes + TLS_RECORD_OVERHEAD_BYTES * (bytes / TLS_RECORD_FIRST_BYTES + 2) + TLS_SEAL_SLACK_BYTES;
}

size_t tls_seal(struct tls *t, struct slice plain, size_t record_bytes, char *to, size_t room)
{
	ASSERT((t->state == TLS_OPEN || t->state == TLS_ENDED) && !t->shut && record_bytes >= TLS_RECORD_FIRST_BYTES);
	bool inside = plain.ptr > to && plain.ptr < to + room;
	ERR_clear_error();
	t->to = to;
	while (plain.len && t->state != TLS_FAILED) {
		size_t n = min_size(plain.len, record_bytes);
		/* BoringSSL has the record's bytes in its own buffer before it writes: what must not be overtaken are the next ones */
		t->to_room = inside ? (size_t)(plain.ptr + n - t->to) : room - (size_t)(t->to - to);
		int r = SSL_write(t->ssl, plain.ptr, (int)n);
		if (r <= 0)
			fail(t);
		else
			plain = slice_from(plain, (size_t)r);
	}
	size_t len = (size_t)(t->to - to);
	t->to = NULL;
	t->to_room = 0;
	return t->state == TLS_FAILED ? 0 : len;
}

/* ---- facts ---- */

struct tls_facts tls_facts(const struct tls *t)
{
	return (struct tls_facts){ SSL_get_version(t->ssl), SSL_CIPHER_standard_name(SSL_get_current_cipher(t->ssl)),
				   SSL_session_reused(t->ssl) != 0 };
}

bool tls_exporter(const struct tls *t, uint8_t out[32])
{
	static const char label[] = "EXPORTER-Channel-Binding";
	if (SSL_version(t->ssl) != TLS1_3_VERSION)
		return false;
	return SSL_export_keying_material(t->ssl, out, 32, label, sizeof(label) - 1, NULL, 0, 0) == 1;
}

size_t tls_end_point(const struct tls *t, uint8_t out[TLS_END_POINT_BYTES_MAX])
{
	if (!t->shown)
		return 0;
	memcpy(out, t->shown->end_point, t->shown->end_point_len);
	return t->shown->end_point_len;
}

size_t tls_unique(const struct tls *t, uint8_t out[TLS_UNIQUE_BYTES_MAX])
{
	size_t len = 0;
	if (t->state != TLS_OPEN || SSL_version(t->ssl) != TLS1_2_VERSION || !SSL_get_extms_support(t->ssl) ||
	    !SSL_get_tls_unique(t->ssl, out, &len, TLS_UNIQUE_BYTES_MAX))
		return 0;
	return len;
}

struct slice tls_server_name(const struct tls *t) { return slice_str(SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name)); }
bool tls_peer_named(const struct tls *t, struct slice node, const struct addr *address) { return tls_mutual_names(t->ssl, node, address); }

struct slice tls_client_name(const struct tls *t) { return slice_str(t->client_name); }

const char *tls_failure(const struct tls *t)
{
	if (t->client_bad)
		return t->client_bad;
	const char *reason = t->reason ? ERR_reason_error_string(t->reason) : NULL;
	return reason ? reason : "closed";
}
