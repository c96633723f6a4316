/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl_oauth.c - bearer tokens: OAUTHBEARER (RFC 7628) and XOAUTH2, which was before it and is still what many clients speak.
 *
 *     OAUTHBEARER   C: n,a=ann@example.org,^Ahost=...^Aport=110^Aauth=Bearer TOKEN^A^A
 *     XOAUTH2       C: user=ann@example.org^Aauth=Bearer TOKEN^A^A
 *
 * A token that is no good is answered with a JSON object (RFC 7628 section 3.2.2), to which the client says ^A (XOAUTH2: nothing)
 * so that the exchange can fail.  Whatever it says then, the exchange fails, and it counts.
 */
#include "net/sasl_private.h"

#define KVSEP '\x01'

/* What tells a client to get a new token. The same for all reasons: the log has them. */
static const char invalid_token[] = "{\"status\":\"invalid_token\"}";

/* saslname of the gs2 header, as in SCRAM. */
static enum err gs2_header(struct sasl *x, struct slice *rest_io)
{
	struct slice flag, authzid;
	if (!slice_next(rest_io, ',', &flag) || !slice_next(rest_io, ',', &authzid))
		return ERR_SYNTAX;
	if (!slice_eq(flag, SLICE_LIT("n")) && !slice_eq(flag, SLICE_LIT("y"))) /* there is no binding to a channel */
		return ERR_SYNTAX;
	if (!authzid.len)
		return OK;
	if (authzid.len < 3 || !slice_eq(slice_upto(authzid, 2), SLICE_LIT("a=")))
		return ERR_SYNTAX;
	return sasl_saslname(x, slice_from(authzid, 2), &x->login);
}

/* "Bearer TOKEN", the scheme in any case (RFC 7235); b64token of RFC 6750. */
static bool bearer(struct slice value, struct slice *token_out)
{
	if (!slice_starts_nocase(value, SLICE_LIT("Bearer ")))
		return false;
	*token_out = slice_trim(slice_from(value, 7));
	return true;
}

/* kvpairs up to the empty one that ends them; keys that we do not know are passed over. */
static enum err pairs(struct sasl *x, struct slice rest, struct slice *token_out)
{
	struct slice pair;
	bool seen = false;
	while (slice_next(&rest, KVSEP, &pair) && pair.len) {
		size_t equals = slice_find(pair, '=');
		struct slice key = slice_upto(pair, equals), value = slice_from(pair, equals + 1);
		if (equals == SIZE_MAX || equals == 0)
			return ERR_SYNTAX;
		if (slice_eq(key, SLICE_LIT("auth"))) {
			if (seen || (value.len && !bearer(value, token_out)))
				return ERR_SYNTAX;
			seen = true;
		} else if (x->mechanism == SASL_XOAUTH2 && slice_eq(key, SLICE_LIT("user"))) {
			if (x->login.len || !value.len || value.len > SASL_NAME_BYTES_MAX)
				return ERR_SYNTAX;
			if (!sasl_keep(x, value, &x->login))
				return ERR_LIMIT;
		}
	}
	return pair.len || rest.len || !seen ? ERR_SYNTAX : OK;
}

static enum err parse(struct sasl *x, struct slice message, struct slice *token_out)
{
	struct slice rest = message, before;
	if (slice_find(message, '\0') != SIZE_MAX)
		return ERR_SYNTAX;
	/* both end with two separators: the last pair's own, and the one that ends the list */
	if (message.len < 2 || message.ptr[message.len - 1] != KVSEP || message.ptr[message.len - 2] != KVSEP)
		return ERR_SYNTAX;
	if (x->mechanism == SASL_OAUTHBEARER) {
		enum err e = gs2_header(x, &rest);
		if (e)
			return e;
		if (!slice_next(&rest, KVSEP, &before) || before.len)
			return ERR_SYNTAX;
	}
	enum err e = pairs(x, rest, token_out);
	return !e && x->mechanism == SASL_XOAUTH2 && !x->login.len ? ERR_SYNTAX : e;
}

enum err sasl_oauth(struct sasl *x, const struct sasl_peer *peer, struct slice message, struct slice *challenge_out)
{
	struct slice token = slice_of("", 0);
	enum err e = parse(x, message, &token);
	if (e)
		return e;
	struct auth_request request = sasl_request(x, peer);
	e = auth_bearer(&request, token, &x->subject);
	if (e != ERR_AUTH)
		return e; /* also what is no fault of the token: its owner is not to get a new one for that */
	x->refused = true;
	*challenge_out = slice_str(invalid_token);
	return ERR_AGAIN;
}
