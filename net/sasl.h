/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl.h - SASL exchanges (RFC 4422), for any protocol: lines of base64 in, lines of base64 out, at the end a subject.
 *
 * For net/pop3 (RFC 5034) and net/imap (RFC 9051, RFC 4959).  PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-1 and
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), both also as -PLUS with a channel binding: tls-exporter (RFC 9266), tls-server-end-point,
 * tls-unique (RFC 5929), OAUTHBEARER (RFC 7628), XOAUTH2, EXTERNAL (RFC
 * 4422 appendix A) with the name in the client's certificate, and GSSAPI (RFC 4752, sasl_gssapi.h).
 *
 *     x = sasl_begin(arena, mechanism)         after sasl_mask() said that it is offered
 *     sasl_step(x, ..., initial response)      or sasl_first(x, ...) where the client gave none
 *     sasl_step(x, ..., line)                  while it says SASL_CONTINUE: send "+ " challenge, take a line
 *     sasl_end(x)                              in every case, also when the connection goes: it may hold a subject
 *
 * Memory: x and what it remembers lie in the caller's arena (the session's), challenges in the command's.  Bounds:
 * SASL_LINE_BYTES_MAX a line of the client, SASL_MESSAGE_BYTES_MAX a decoded response (tokens: SASL_LONG_MESSAGE_BYTES_MAX),
 * SASL_NAME_BYTES_MAX a name.  An exchange holds nothing of a shard: it may move
 * with its connection between steps.  Exchanges are one-shot: nonces are of this exchange and random, so a replay fails.
 *
 * An authzid travels as auth_request.authzid: whether one may act for another is tenancy's to say (auth.h), after the proof.
 *
 * Not libgsasl: its server computes PBKDF2 within its step, on the calling thread (invariant 8), and wants the secret
 * from a callback that cannot wait; here keys are looked up and derived by tenancy/auth, on a fiber.
 */
#ifndef PENFOLD_NET_SASL_H
#define PENFOLD_NET_SASL_H

#include "core/base/arena.h"
#include "core/base/limits.h"
#include "tenancy/auth.h"

enum sasl_mechanism { SASL_PLAIN, SASL_LOGIN, SASL_CRAM_MD5, SASL_SCRAM_SHA_1, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_1_PLUS, SASL_SCRAM_SHA_256_PLUS,
		      SASL_OAUTHBEARER, SASL_XOAUTH2, SASL_EXTERNAL, SASL_GSSAPI,
		      SASL_MECHANISM_COUNT };

/* What a channel can be told by (RFC 9266, RFC 5929). */
enum sasl_binding_kind { SASL_TLS_EXPORTER, SASL_TLS_SERVER_END_POINT, SASL_TLS_UNIQUE, SASL_BINDING_COUNT };
struct sasl_binding {
	size_t len;
	uint8_t bytes[SASL_BINDING_BYTES_MAX];
};

/* Who speaks, over what: given anew at each step. */
struct sasl_peer {
	enum auth_protocol protocol;
	struct slice address;     /* of the client, for the log */
	struct sasl_binding bindings[SASL_BINDING_COUNT]; /* those of length 0 are not there */
	struct slice certificate; /* the name in the client's certificate; empty: none. Lives as long as the exchange */
	struct slice host;        /* the name that the client gave the server (TLS SNI); empty: none. Lives as long as the connection's TLS */
	bool in_clear;            /* no TLS */
};

/* What a session knows of its client. Now. */
struct session;
struct sasl_peer sasl_peer_of(const struct session *s, enum auth_protocol protocol);

enum sasl_outcome {
	SASL_CONTINUE, /* the challenge is to be sent */
	SASL_DONE,     /* the subject is given: the caller's to unref */
	SASL_PASSWORD, /* PLAIN, LOGIN: what was to be a challenge is a password, for sasl_login() and sasl_authzid(): the caller proves it */
	SASL_FAILED    /* *why_out: ERR_CLOSED cancelled by the client, ERR_SYNTAX not base64 or not what the mechanism wants, else auth.h's */
};

/* When mechanisms that need more than a hash of the password are offered. A client may choose one by itself and then fail for an
 * account that has a hash only, and who it is becomes known too late: so it is the operator's to say. */
enum sasl_challenge {
	SASL_CHALLENGE_AUTO,   /* CRAM-MD5 and SCRAM while some tenant keeps reversible secrets, as with APOP; the preset */
	SASL_CHALLENGE_ALWAYS, /* SCRAM always: accounts have keys; CRAM-MD5 as above */
	SASL_CHALLENGE_NEVER
};
void sasl_configure(enum sasl_challenge when); /* before the shards start */
/* What is offered: bits 1 << enum sasl_mechanism; -PLUS only where the channel has a binding; what needs
 * reversible secrets only where a tenant keeps them: the one whose name the client gave the server, or, if it gave none, any. Later. */
unsigned sasl_mask(const struct sasl_peer *peer);
const char *sasl_name(enum sasl_mechanism m);
/* By name, any case; SASL_MECHANISM_COUNT: none such among those of the mask. */
enum sasl_mechanism sasl_find(unsigned mask, struct slice name);

struct sasl;
struct sasl *sasl_begin(struct arena *arena, enum sasl_mechanism m); /* NULL: the arena is full */
void sasl_end(struct sasl *x);                                      /* NULL is harmless */
/* The login it is about, as far as it is known; for the log. */
struct slice sasl_login(const struct sasl *x);
struct slice sasl_authzid(const struct sasl *x);

/* The first challenge, in base64. Now. */
enum err sasl_first(struct sasl *x, struct arena *command, struct slice *challenge_out);
/* One line of the client, without its end; "*" cancels, "=" as an initial response is the empty one (say initial). Later. */
enum sasl_outcome sasl_step(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice line, bool initial,
			    struct slice *challenge_out, struct subject **subject_out, enum err *why_out);

#endif
