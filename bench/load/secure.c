/* SPDX-License-Identifier: Apache-2.0 */
/* secure: see secure.h. */
#include "bench/load/secure.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bench/load/engine.h"

struct secure {
	SSL *ssl;
	const char *in; /* lent */
	size_t in_bytes;
	bool shaken;
};

static SSL_CTX *context;
static BIO_METHOD *method;

/* ---- the wire ---------------------------------------------------------------- */

static int wire_read(BIO *bio, char *out, int room)
{
	struct conn *c = BIO_get_data(bio);
	struct secure *s = c->secure;
	size_t n = s->in_bytes < (size_t)room ? s->in_bytes : (size_t)room;

	BIO_clear_retry_flags(bio);
	if (!n) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(out, s->in, n);
	s->in += n;
	s->in_bytes -= n;
	return (int)n;
}

static int wire_write(BIO *bio, const char *data, int bytes)
{
	struct conn *c = BIO_get_data(bio);
	ssize_t n = send(c->fd, data, (size_t)bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	BIO_clear_retry_flags(bio);
	c->bytes_out += n > 0 ? (uint64_t)n : 0;
	if (n < 0 && (errno == EAGAIN || errno == ENOTCONN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)n;
}

static long wire_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int wire_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* ---- the process --------------------------------------------------------------- */

static enum ssl_verify_result_t anybody(SSL *ssl, uint8_t *alert)
{
	(void)ssl, (void)alert;
	return ssl_verify_ok;
}

/* The last ticket of a place; the reference is ours. */
static int take_ticket(SSL *ssl, SSL_SESSION *session)
{
	struct conn *c = SSL_get_app_data(ssl);

	SSL_SESSION_free(c->ticket);
	c->ticket = session;
	return 1;
}

static void set_up(void)
{
	context = SSL_CTX_new(TLS_with_buffers_method());
	method = BIO_meth_new(0, "load");
	if (!context || !method)
		errx(2, "TLS cannot be set up");
	BIO_meth_set_read(method, wire_read);
	BIO_meth_set_write(method, wire_write);
	BIO_meth_set_ctrl(method, wire_ctrl);
	BIO_meth_set_create(method, wire_create);
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION); /* an old one is told by its name */
	SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER, anybody);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, take_ticket);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* ---- a connection ---------------------------------------------------------------- */

static void fail(struct conn *c, const char *what)
{
	uint32_t code = ERR_peek_error();
	const char *why = code ? ERR_reason_error_string(code) : errno ? strerror(errno) : "closed";

	engine_fail(c, "TLS %s: %s", what, why ? why : "?"); /* c->secure is gone */
	ERR_clear_error();
}

void secure_begin(struct conn *c)
{
	struct secure *s = calloc(1, sizeof(*s));
	BIO *bio;

	if (!context)
		set_up();
	bio = BIO_new(method);
	if (!s || !bio || !(s->ssl = SSL_new(context)))
		errx(2, "no memory for TLS");
	BIO_set_data(bio, c);
	SSL_set_bio(s->ssl, bio, bio);
	SSL_set_app_data(s->ssl, c);
	SSL_set_connect_state(s->ssl);
	c->secure = s;
	c->offered = engine_options(c)->resume && c->ticket;
	if (c->offered)
		SSL_set_session(s->ssl, c->ticket);
	SSL_SESSION_free(c->ticket); /* a ticket is used once (RFC 8446 C.4) */
	c->ticket = NULL;
	secure_shaken(c);
}

void secure_end(struct conn *c)
{
	if (!c->secure)
		return;
	SSL_free(c->secure->ssl);
	free(c->secure);
	c->secure = NULL;
}

/* The handshake's outcome against what it must be. Frees c->secure where it is not. */
static void judge(struct conn *c)
{
	struct secure *s = c->secure;
	bool resumed = SSL_session_reused(s->ssl);
	bool want = engine_options(c)->resume && c->secured;

	if (SSL_version(s->ssl) != TLS1_3_VERSION) {
		engine_fail(c, "TLS handshake: %s, not TLSv1.3", SSL_get_version(s->ssl));
	} else if (want && !resumed) {
		engine_fail(c, c->offered ? "TLS handshake: the server has not resumed its ticket"
		                          : "TLS handshake: the server has given no ticket");
	} else {
		s->shaken = true;
		c->secured = true;
		engine_handshake(c, resumed);
	}
}

bool secure_shaken(struct conn *c)
{
	struct secure *s = c->secure;
	int n, why;

	if (s->shaken)
		return true;
	ERR_clear_error();
	errno = 0;
	n = SSL_do_handshake(s->ssl);
	why = n == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);
	if (n == 1)
		judge(c);
	else if (why == SSL_ERROR_WANT_WRITE)
		c->full = true;
	else if (why != SSL_ERROR_WANT_READ)
		fail(c, "handshake");
	return c->secure && s->shaken;
}

void secure_feed(struct conn *c, const char *sealed, size_t bytes)
{
	c->secure->in = sealed;
	c->secure->in_bytes = bytes;
	secure_shaken(c);
}

ssize_t secure_read(struct conn *c, char *to, size_t room)
{
	struct secure *s = c->secure;
	int n, why;

	if (!s || !s->shaken)
		return 0;
	ERR_clear_error();
	errno = 0;
	n = SSL_read(s->ssl, to, (int)room);
	why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);
	if (n > 0)
		return n;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_ZERO_RETURN)
		return 0; /* after the goodbye of TLS, that of TCP is still waited for, as in the clear */
	fail(c, "receive");
	return -1;
}

ssize_t secure_write(struct conn *c, const char *plain, size_t bytes)
{
	struct secure *s = c->secure;
	int n, why;

	ERR_clear_error();
	errno = 0;
	n = SSL_write(s->ssl, plain, (int)bytes);
	why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);
	if (n > 0)
		return n;
	if (why == SSL_ERROR_WANT_WRITE)
		return 0;
	fail(c, "send");
	return -1;
}
