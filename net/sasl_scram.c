/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl_scram.c - SCRAM's four messages (RFC 5802 sections 5 to 7), server side.
 *
 *     C: gs2-header n=name,r=nonce          S: r=nonce+ours,s=salt,i=rounds
 *     C: c=gs2-header+binding,r=...,p=proof S: v=signature               C: (empty)
 *
 * Downgrade: a client that says 'y' (it could bind, and believes that we cannot) where -PLUS is offered has had our list
 * changed under way: refused (section 6).
 */
#include "core/run/clock.h"
#include "net/sasl_private.h"

#define NONCE_WORDS 6

static bool is_plus(const struct sasl *x)
{
	return x->mechanism == SASL_SCRAM_SHA_1_PLUS || x->mechanism == SASL_SCRAM_SHA_256_PLUS;
}

static enum auth_hash hash_of(const struct sasl *x)
{
	return x->mechanism == SASL_SCRAM_SHA_1 || x->mechanism == SASL_SCRAM_SHA_1_PLUS ? AUTH_SHA1 : AUTH_SHA256;
}

/* "k=" taken off the next part. */
static bool attribute(struct slice *rest_io, char key, struct slice *value_out)
{
	struct slice part;
	if (!slice_next(rest_io, ',', &part) || part.len < 2 || part.ptr[0] != key || part.ptr[1] != '=')
		return false;
	*value_out = slice_from(part, 2);
	return true;
}

/* The first part of the gs2 header: what the client says of channel binding. */
static enum err binding_flag(struct sasl *x, const struct sasl_peer *peer, struct slice flag)
{
	static const char *const flags[SASL_BINDING_COUNT] = { "p=tls-exporter", "p=tls-server-end-point", "p=tls-unique" };
	for (x->binding = 0; is_plus(x) && x->binding < SASL_BINDING_COUNT; x->binding++)
		if (slice_eq(flag, slice_str(flags[x->binding])))
			return peer->bindings[x->binding].len ? OK : ERR_AUTH;
	if (is_plus(x))
		return ERR_SYNTAX;
	if (slice_eq(flag, SLICE_LIT("n")))
		return OK;
	if (slice_eq(flag, SLICE_LIT("y")))
		return sasl_mask(peer) & 1U << SASL_SCRAM_SHA_256_PLUS ? ERR_AUTH : OK;
	return ERR_SYNTAX;
}

static bool printable(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < '!' || s.ptr[i] > '~')
			return false;
	return s.len > 0;
}

static enum err server_first(struct sasl *x, const struct sasl_peer *peer, struct slice client_nonce)
{
	uint32_t random[NONCE_WORDS], rounds;
	char ours[8 * NONCE_WORDS];
	uint8_t salt[SCRAM_SALT_BYTES_MAX];
	size_t salt_len;
	struct slice salt_text;
	struct auth_request request = sasl_request(x, peer);
	enum err e = auth_scram_salt(&request, hash_of(x), salt, &salt_len, &rounds);
	if (e)
		return e;
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < NONCE_WORDS; i++)
		put_hex32(ours + 8 * i, random[i]);
	if (!sasl_encode(x->arena, slice_of(salt, salt_len), &salt_text))
		return ERR_LIMIT;
	x->nonce = arena_printf(x->arena, "%.*s%.*s", SLICE_ARG(client_nonce), (int)sizeof(ours), ours);
	x->server_first = arena_printf(x->arena, "r=%.*s,s=%.*s,i=%u", SLICE_ARG(x->nonce), SLICE_ARG(salt_text), rounds);
	return x->nonce.ptr && x->server_first.ptr ? ERR_AGAIN : ERR_LIMIT;
}

static enum err client_first(struct sasl *x, const struct sasl_peer *peer, struct slice message)
{
	struct slice rest = message, flag, authzid, name, nonce;
	if (!slice_next(&rest, ',', &flag) || !slice_next(&rest, ',', &authzid))
		return ERR_SYNTAX;
	struct slice bare = rest;
	enum err e = binding_flag(x, peer, flag);
	if (e)
		return e;
	if (!attribute(&rest, 'n', &name) || !attribute(&rest, 'r', &nonce) || !printable(nonce)) /* also an extension "m=": not known, refused */
		return ERR_SYNTAX;
	if (authzid.len && (authzid.len < 3 || authzid.ptr[0] != 'a' || authzid.ptr[1] != '='))
		return ERR_SYNTAX;
	if (authzid.len)
		e = sasl_saslname(x, slice_from(authzid, 2), &x->authzid);
	if (!e)
		e = sasl_saslname(x, name, &x->login);
	if (e)
		return e;
	if (!sasl_keep(x, slice_upto(message, (size_t)(bare.ptr - message.ptr)), &x->gs2) || !sasl_keep(x, bare, &x->client_first))
		return ERR_LIMIT;
	x->at = 1;
	return server_first(x, peer, nonce);
}

/* c= must be the gs2 header as it was said, and with -PLUS this channel's binding behind it. */
static bool bound(const struct sasl *x, const struct sasl_peer *peer, struct slice binding)
{
	if (!slice_eq(slice_upto(binding, x->gs2.len), x->gs2))
		return false;
	struct slice data = slice_from(binding, x->gs2.len);
	if (!is_plus(x))
		return data.len == 0;
	const struct sasl_binding *b = &peer->bindings[x->binding];
	return b->len && slice_eq_consttime(data, slice_of(b->bytes, b->len));
}

static enum err client_final(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out)
{
	struct slice rest = message, binding_text, nonce, proof_text, binding, proof, signature_text;
	uint8_t signature[SCRAM_KEY_BYTES_MAX];
	size_t comma = slice_rfind(message, ',');
	if (comma == SIZE_MAX || !attribute(&rest, 'c', &binding_text) || !attribute(&rest, 'r', &nonce))
		return ERR_SYNTAX;
	rest = slice_from(message, comma + 1); /* extensions before it are allowed and ignored */
	if (!attribute(&rest, 'p', &proof_text) || !sasl_decode(command, binding_text, &binding) || !sasl_decode(command, proof_text, &proof))
		return ERR_SYNTAX;
	if (!slice_eq(nonce, x->nonce) || !bound(x, peer, binding))
		return ERR_AUTH;
	struct slice auth_message = arena_printf(command, "%.*s,%.*s,%.*s", SLICE_ARG(x->client_first), SLICE_ARG(x->server_first),
						 SLICE_ARG(slice_upto(message, comma)));
	if (!auth_message.ptr)
		return ERR_LIMIT;
	struct auth_request request = sasl_request(x, peer);
	enum err e = auth_scram_proof(&request, hash_of(x), auth_message, proof, signature, &x->subject);
	if (e)
		return e;
	x->at = 2;
	size_t bytes = hash_of(x) == AUTH_SHA256 ? 32 : 20;
	if (!sasl_encode(command, slice_of(signature, bytes), &signature_text))
		return ERR_TEMP;
	*challenge_out = arena_printf(command, "v=%.*s", SLICE_ARG(signature_text));
	return challenge_out->ptr ? ERR_AGAIN : ERR_TEMP;
}

enum err sasl_scram(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out)
{
	enum err e;
	if (message.len && slice_find(message, '\0') != SIZE_MAX)
		return ERR_SYNTAX; /* no attribute may hold one (the binding is in base64) */
	switch (x->at) {
	case 0:
		e = client_first(x, peer, message);
		*challenge_out = x->server_first;
		return e;
	case 1:
		return client_final(x, peer, command, message, challenge_out);
	default:
		return message.len ? ERR_SYNTAX : OK;
	}
}
