/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BoringSSL's own part of a TLS 1.3 connection, on the server's side: from making the object to freeing it, handshake and
 * one ticket included, without a socket, a loop or a session. What a server adds to it is the server's.
 *
 * As our server has it: P-256 in the certificate, one ticket, AES-GCM or whatever both prefer. The client is the same
 * library, in the same thread, between the stretches that are measured; time is CPU time of the thread, so that neighbours on the machine
 * cost little more than cache.
 */
#include "bench/micro/c.h"

#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <time.h>

namespace {

double cpu_s()
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

SSL_SESSION *last_ticket;

int take_ticket(SSL *, SSL_SESSION *session)
{
	SSL_SESSION_free(last_ticket);
	last_ticket = session;
	return 1;
}

enum ssl_verify_result_t anybody(SSL *, uint8_t *) { return ssl_verify_ok; }

/* Self-signed, P-256. */
void make_pair(SSL_CTX *ctx)
{
	EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
	EVP_PKEY *key = EVP_PKEY_new();
	X509 *x = X509_new();
	BENCH_CHECK(EC_KEY_generate_key(ec) == 1 && EVP_PKEY_assign_EC_KEY(key, ec) == 1);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_get_notBefore(x), 0);
	X509_gmtime_adj(X509_get_notAfter(x), 86400);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, reinterpret_cast<const uint8_t *>("mail.bench.example"), -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_set_pubkey(x, key);
	BENCH_CHECK(X509_sign(x, key, EVP_sha256()) > 0);
	BENCH_CHECK(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
	X509_free(x);
	EVP_PKEY_free(key);
}

struct Ends {
	SSL_CTX *server = SSL_CTX_new(TLS_method());
	SSL_CTX *client = SSL_CTX_new(TLS_method());
	Ends()
	{
		make_pair(server);
		SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
		SSL_CTX_set_max_proto_version(client, TLS1_3_VERSION);
		SSL_CTX_set_num_tickets(server, 1);
		SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_custom_verify(client, SSL_VERIFY_PEER, anybody);
		SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(client, take_ticket);
	}
	~Ends()
	{
		SSL_CTX_free(server);
		SSL_CTX_free(client);
	}
};

void end_of(SSL_CTX *ctx, SSL **ssl, BIO **in, BIO **out)
{
	*ssl = SSL_new(ctx);
	*in = BIO_new(BIO_s_mem());
	*out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(*in, -1);
	SSL_set_bio(*ssl, *in, *out);
}

void carry(BIO *from, BIO *to)
{
	const uint8_t *bytes;
	size_t len;
	BENCH_CHECK(BIO_mem_contents(from, &bytes, &len) == 1);
	BENCH_CHECK(BIO_write(to, bytes, static_cast<int>(len)) == static_cast<int>(len));
	BIO_reset(from);
}

/* One connection; the server's CPU seconds. */
double connection(const Ends &ends, bool resumed)
{
	SSL *c, *s;
	BIO *c_in, *c_out, *s_in, *s_out;
	char byte;
	end_of(ends.client, &c, &c_in, &c_out);
	SSL_set_connect_state(c);
	if (resumed)
		BENCH_CHECK(last_ticket && SSL_set_session(c, last_ticket) == 1);
	SSL_do_handshake(c);
	const uint8_t *hello;
	size_t len;
	BIO_mem_contents(c_out, &hello, &len);

	double from = cpu_s();
	end_of(ends.server, &s, &s_in, &s_out);
	SSL_set_accept_state(s);
	SSL_set_shed_handshake_config(s, 1);
	BIO_write(s_in, hello, static_cast<int>(len));
	SSL_do_handshake(s);
	double used = cpu_s() - from;

	BIO_reset(c_out);
	carry(s_out, c_in);
	BENCH_CHECK(SSL_do_handshake(c) == 1);
	BIO_mem_contents(c_out, &hello, &len);

	from = cpu_s();
	BIO_write(s_in, hello, static_cast<int>(len));
	BENCH_CHECK(SSL_do_handshake(s) == 1);
	SSL_write(s, "", 0);
	used += cpu_s() - from;

	BENCH_CHECK((SSL_session_reused(s) != 0) == resumed && SSL_version(s) == TLS1_3_VERSION);
	carry(s_out, c_in);
	SSL_read(c, &byte, 1); /* the ticket */
	from = cpu_s();
	SSL_free(s);
	used += cpu_s() - from;
	SSL_free(c);
	return used;
}

void run(benchmark::State &state, bool resumed)
{
	Ends ends;
	connection(ends, false);
	BENCH_CHECK(last_ticket);
	for (auto _ : state)
		state.SetIterationTime(connection(ends, resumed));
}

void handshake_full(benchmark::State &state) { run(state, false); }
void handshake_resumed(benchmark::State &state) { run(state, true); }
BENCHMARK(handshake_full)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(handshake_resumed)->UseManualTime()->Unit(benchmark::kMicrosecond);

}
