/* SPDX-License-Identifier: Apache-2.0 */
/* sasl.c - the exchanges but SCRAM's (sasl_scram.c), base64, and what is offered. */
#include "net/sasl_private.h"

#include "net/session.h"

#include "core/run/clock.h"
#include "net/sasl_gssapi.h"

#include <nettle/base64.h>

static const char *const names[] = { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
				     "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "GSSAPI" };
static_assert_c(ARRAY_LEN(names) == SASL_MECHANISM_COUNT, "one name each");
static enum sasl_challenge challenge_when; /* set before the shards start */

void sasl_configure(enum sasl_challenge when)
{
	challenge_when = when;
}

unsigned sasl_mask(const struct sasl_peer *peer)
{
	unsigned mask = 1U << SASL_PLAIN | 1U << SASL_LOGIN;
	if (auth_bearer_offered())
		mask |= 1U << SASL_OAUTHBEARER | 1U << SASL_XOAUTH2;
	if (peer->certificate.len)
		mask |= 1U << SASL_EXTERNAL;
	if (sasl_gssapi_offered())
		mask |= 1U << SASL_GSSAPI;
	bool plain_kept = auth_apop_offered(peer->host) && challenge_when != SASL_CHALLENGE_NEVER;
	if (plain_kept)
		mask |= 1U << SASL_CRAM_MD5;
	if (!plain_kept && challenge_when != SASL_CHALLENGE_ALWAYS)
		return mask;
	mask |= 1U << SASL_SCRAM_SHA_1 | 1U << SASL_SCRAM_SHA_256;
	bool bound = false;
	for (size_t i = 0; i < SASL_BINDING_COUNT; i++)
		bound = bound || peer->bindings[i].len;
	return bound ? mask | 1U << SASL_SCRAM_SHA_1_PLUS | 1U << SASL_SCRAM_SHA_256_PLUS : mask;
}

const char *sasl_name(enum sasl_mechanism m)
{
	return names[m];
}

enum sasl_mechanism sasl_find(unsigned mask, struct slice name)
{
	for (unsigned m = 0; m < SASL_MECHANISM_COUNT; m++)
		if (mask & 1U << m && slice_eq_nocase(name, slice_str(names[m])))
			return (enum sasl_mechanism)m;
	return SASL_MECHANISM_COUNT;
}

/* ---- base64 ---- */

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool sasl_decode(struct arena *arena, struct slice text, struct slice *out)
{
	size_t pad = 0;
	while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
		pad++;
	if (text.len % 4 || text.len / 4 * 3 > SASL_LONG_MESSAGE_BYTES_MAX)
		return false;
	unsigned char *bytes = arena_alloc(arena, text.len / 4 * 3 + 1);
	if (!bytes)
		return false;
	size_t len = 0;
	uint32_t group = 0;
	for (size_t i = 0; i < text.len; i++) {
		int v = i < text.len - pad ? base64_value(text.ptr[i]) : 0;
		if (v < 0)
			return false;
		group = group << 6 | (uint32_t)v;
		if (i % 4 == 3) {
			bytes[len++] = (unsigned char)(group >> 16);
			bytes[len++] = (unsigned char)(group >> 8);
			bytes[len++] = (unsigned char)group;
		}
	}
	*out = slice_of(bytes, len - (len ? pad : 0));
	return true;
}

bool sasl_encode(struct arena *arena, struct slice bytes, struct slice *text_out)
{
	size_t len = BASE64_ENCODE_RAW_LENGTH(bytes.len);
	char *text = arena_alloc(arena, len + 1);
	if (!text)
		return false;
	base64_encode_raw(text, bytes.len, (const uint8_t *)bytes.ptr);
	*text_out = slice_of(text, len);
	return true;
}

/* ---- life ---- */

struct sasl *sasl_begin(struct arena *arena, enum sasl_mechanism m)
{
	struct sasl *x = arena_zalloc(arena, sizeof(*x));
	if (!x)
		return NULL;
	x->arena = arena;
	x->mechanism = (uint8_t)m;
	return x;
}

void sasl_end(struct sasl *x)
{
	if (!x)
		return;
	if (x->subject)
		subject_unref(x->subject);
	x->subject = NULL;
	sasl_gssapi_end(x->gss);
	x->gss = NULL;
}

struct slice sasl_login(const struct sasl *x)
{
	return x->login;
}

struct slice sasl_authzid(const struct sasl *x)
{
	return x->authzid;
}

struct sasl_peer sasl_peer_of(const struct session *s, enum auth_protocol protocol)
{
	struct sasl_peer peer = { .protocol = protocol, .address = session_peer_address(s), .in_clear = !session_client_tls(s) };
	peer.bindings[SASL_TLS_EXPORTER].len = session_tls_exporter(s, peer.bindings[SASL_TLS_EXPORTER].bytes) ? 32 : 0;
	peer.bindings[SASL_TLS_SERVER_END_POINT].len = session_tls_end_point(s, peer.bindings[SASL_TLS_SERVER_END_POINT].bytes);
	peer.bindings[SASL_TLS_UNIQUE].len = session_tls_unique(s, peer.bindings[SASL_TLS_UNIQUE].bytes);
	peer.certificate = session_tls_client_name(s);
	peer.host = session_tls_server_name(s);
	return peer;
}

/* ---- PLAIN, LOGIN, CRAM-MD5 ---- */

struct auth_request sasl_request(const struct sasl *x, const struct sasl_peer *peer)
{
	return (struct auth_request){ .protocol = peer->protocol, .login = x->login, .peer = peer->address, .authzid = x->authzid,
				       .in_clear = peer->in_clear };
}

bool sasl_keep(struct sasl *x, struct slice bytes, struct slice *kept_out)
{
	*kept_out = arena_slice(x->arena, bytes);
	return kept_out->ptr != NULL;
}

enum err sasl_saslname(struct sasl *x, struct slice text, struct slice *name_out)
{
	char name[SASL_NAME_BYTES_MAX];
	size_t len = 0;
	if (text.len > sizeof(name))
		return ERR_LIMIT;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		if (c == '\0')
			return ERR_SYNTAX;
		if (c == '=') {
			struct slice code = slice_upto(slice_from(text, i), 3);
			if (!slice_eq(code, SLICE_LIT("=2C")) && !slice_eq(code, SLICE_LIT("=3D")))
				return ERR_SYNTAX;
			c = code.ptr[1] == '2' ? ',' : '=';
			i += 2;
		}
		name[len++] = c;
	}
	return len && sasl_keep(x, slice_of(name, len), name_out) ? OK : ERR_SYNTAX;
}

static enum err given(struct sasl *x, struct slice password, struct slice *password_out)
{
	x->has_password = true;
	*password_out = password;
	return OK;
}

/* authzid NUL authcid NUL password */
static enum err plain(struct sasl *x, struct slice message, struct slice *password_out)
{
	size_t first = slice_find(message, '\0');
	if (first == SIZE_MAX)
		return ERR_SYNTAX;
	struct slice rest = slice_from(message, first + 1);
	size_t second = slice_find(rest, '\0');
	if (second == SIZE_MAX || second == 0)
		return ERR_SYNTAX;
	struct slice password = slice_from(rest, second + 1);
	if (slice_find(password, '\0') != SIZE_MAX)
		return ERR_SYNTAX;
	if (!sasl_keep(x, slice_upto(rest, second), &x->login) || !sasl_keep(x, slice_upto(message, first), &x->authzid))
		return ERR_LIMIT;
	return given(x, password, password_out);
}

static enum err login(struct sasl *x, struct slice message, struct slice *challenge_out)
{
	if (x->at == 0) {
		if (!message.len || slice_find(message, '\0') != SIZE_MAX)
			return ERR_SYNTAX;
		if (!sasl_keep(x, message, &x->login))
			return ERR_LIMIT;
		x->at = 1;
		*challenge_out = SLICE_LIT("Password:");
		return ERR_AGAIN;
	}
	return given(x, message, challenge_out);
}

static enum err cram_md5(struct sasl *x, const struct sasl_peer *peer, struct slice message)
{
	size_t space = slice_rfind(message, ' ');
	if (!x->server_first.len || space == SIZE_MAX || space == 0 || message.len - space - 1 != 32 || slice_find(message, '\0') != SIZE_MAX)
		return ERR_SYNTAX;
	if (!sasl_keep(x, slice_upto(message, space), &x->login))
		return ERR_LIMIT;
	struct auth_request request = sasl_request(x, peer);
	return auth_cram_md5(&request, x->server_first, slice_from(message, space + 1), &x->subject);
}

static enum err cram_md5_challenge(struct sasl *x)
{
	uint32_t random[4];
	char text[4 * 8 + 20] = "<";
	size_t len = 1;
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < ARRAY_LEN(random); i++, len += 8)
		put_hex32(text + len, random[i]);
	memcpy(text + len, "@penfold>", 9);
	return sasl_keep(x, slice_of(text, len + 9), &x->server_first) ? OK : ERR_LIMIT;
}

/* The message is the authzid, or nothing: whoever the certificate names. */
static enum err external(struct sasl *x, const struct sasl_peer *peer, struct slice message)
{
	if (message.len && slice_find(message, '\0') != SIZE_MAX)
		return ERR_SYNTAX;
	if (!peer->certificate.len)
		return ERR_AUTH;
	if (!sasl_keep(x, peer->certificate, &x->login) || (message.len && !sasl_keep(x, message, &x->authzid)))
		return ERR_LIMIT;
	struct auth_request request = sasl_request(x, peer);
	return auth_proved(&request, &x->subject);
}

/* ---- steps ---- */

enum err sasl_first(struct sasl *x, struct arena *command, struct slice *challenge_out)
{
	struct slice challenge = slice_of("", 0);
	if (x->mechanism == SASL_LOGIN)
		challenge = SLICE_LIT("Username:");
	if (x->mechanism == SASL_CRAM_MD5) {
		if (cram_md5_challenge(x))
			return ERR_LIMIT;
		challenge = x->server_first;
	}
	return sasl_encode(command, challenge, challenge_out) ? OK : ERR_LIMIT;
}

/* OK: proved, or has_password; ERR_AGAIN: a challenge is to be sent. */
static enum err take(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out)
{
	switch ((enum sasl_mechanism)x->mechanism) {
	case SASL_PLAIN:
		return plain(x, message, challenge_out);
	case SASL_LOGIN:
		return login(x, message, challenge_out);
	case SASL_CRAM_MD5:
		return cram_md5(x, peer, message);
	case SASL_SCRAM_SHA_1:
	case SASL_SCRAM_SHA_256:
	case SASL_SCRAM_SHA_1_PLUS:
	case SASL_SCRAM_SHA_256_PLUS:
		return sasl_scram(x, peer, command, message, challenge_out);
	case SASL_OAUTHBEARER:
	case SASL_XOAUTH2:
		return sasl_oauth(x, peer, message, challenge_out);
	case SASL_EXTERNAL:
		return external(x, peer, message);
	case SASL_GSSAPI:
		return sasl_gssapi(x, peer, command, message, challenge_out);
	case SASL_MECHANISM_COUNT:
		break;
	}
	UNREACHABLE();
}

/* What is kept of a message lives as long as the exchange: only what needs it may be long. */
static size_t message_bytes_max(const struct sasl *x)
{
	bool large = x->mechanism == SASL_OAUTHBEARER || x->mechanism == SASL_XOAUTH2 || x->mechanism == SASL_GSSAPI;
	return large ? SASL_LONG_MESSAGE_BYTES_MAX : SASL_MESSAGE_BYTES_MAX;
}

enum sasl_outcome sasl_step(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice line, bool initial,
			    struct slice *challenge_out, struct subject **subject_out, enum err *why_out)
{
	struct slice message, challenge = slice_of("", 0);
	*subject_out = NULL;
	*why_out = ERR_AUTH;
	if (x->refused)
		return SASL_FAILED;
	*why_out = ERR_CLOSED;
	if (slice_eq(line, SLICE_LIT("*")))
		return SASL_FAILED;
	if (initial && slice_eq(line, SLICE_LIT("=")))
		line = slice_of("", 0);
	*why_out = ERR_SYNTAX;
	if (!sasl_decode(command, line, &message) || message.len > message_bytes_max(x))
		return SASL_FAILED;
	*why_out = take(x, peer, command, message, &challenge);
	if (*why_out == ERR_AGAIN && sasl_encode(command, challenge, challenge_out))
		return SASL_CONTINUE;
	if (*why_out == ERR_AGAIN)
		*why_out = ERR_TEMP;
	if (*why_out != OK)
		return SASL_FAILED;
	if (x->has_password) {
		*challenge_out = challenge;
		return SASL_PASSWORD;
	}
	*subject_out = x->subject;
	x->subject = NULL;
	return SASL_DONE;
}
