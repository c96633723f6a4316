/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sasl_gssapi.c - GSSAPI's messages (RFC 4752 section 3.2).
 *
 *     C: tokens, S: tokens      until the context stands; the last of the server's may be empty
 *     C: nothing                to the server's last token, if there was one
 *     S: wrap(01 000000)        no security layer, so no size
 *     C: wrap(01 000000 authzid)
 *
 * Everything that the library does runs on the offload pool: it reads the key table and keeps a replay cache in a file.  A context lives in
 * the exchange and is let go by sasl_end.
 */
#include "net/sasl_gssapi.h"

#include "core/base/log.h"
#include "core/run/shard.h"
#include "net/sasl_private.h"

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdio.h>
#include <stdlib.h>

#define LAYER_NONE 1
#define OFFER_BYTES ((size_t)4)

enum { AT_TOKENS, AT_EMPTY, AT_LAYER };

static struct {
	struct sasl_gssapi_config config;
	gss_cred_id_t credential; /* ours, to accept with */
} gssapi;

struct sasl_gss {
	gss_ctx_id_t context;
	char login[SASL_NAME_BYTES_MAX + 1]; /* of the client, once the context stands */
};

/* ---- the process ---- */

/* What the library says of a failure, one line. */
static void describe(OM_uint32 major, OM_uint32 minor, char out[SASL_GSSAPI_WHY_BYTES])
{
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
	OM_uint32 ignored, more = 0;
	bool of_mechanism = minor != 0;
	if (gss_display_status(&ignored, of_mechanism ? minor : major, of_mechanism ? GSS_C_MECH_CODE : GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &text) !=
	    GSS_S_COMPLETE)
		text.length = 0;
	snprintf(out, SASL_GSSAPI_WHY_BYTES, "%.*s", (int)min_size(text.length, SASL_GSSAPI_WHY_BYTES - 1), text.length ? (const char *)text.value : "");
	gss_release_buffer(&ignored, &text);
}

enum err sasl_gssapi_open(const struct sasl_gssapi_config *config)
{
	gss_key_value_element_desc element = { "keytab", config->keytab };
	const gss_key_value_set_desc store = { 1, &element };
	gss_OID_set_desc krb5 = { 1, (gss_OID)(uintptr_t)gss_mech_krb5 };
	char why[SASL_GSSAPI_WHY_BYTES];
	OM_uint32 minor;
	gssapi.config = *config;
	if (!config->keytab)
		return OK;
	OM_uint32 major =
		gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, &krb5, GSS_C_ACCEPT, &store, &gssapi.credential, NULL, NULL);
	if (major == GSS_S_COMPLETE)
		return OK;
	describe(major, minor, why);
	log_event(LOG_ERROR, "sasl.keytab_failed", LOG_Z("where", config->where), LOG_Z("file", config->keytab), LOG_Z("why", why));
	gssapi.config.keytab = NULL;
	return ERR_CONFIG;
}

void sasl_gssapi_close(void)
{
	OM_uint32 minor;
	if (gssapi.config.keytab)
		gss_release_cred(&minor, &gssapi.credential);
	gssapi.config.keytab = NULL;
}

bool sasl_gssapi_offered(void) { return gssapi.config.keytab != NULL; }

/* ---- jobs ---- */

struct gss_job {
	struct sasl_gss *g;
	struct slice in;
	gss_buffer_desc out; /* the library's */
	enum err e;          /* OK: the context stands, or the layer is agreed on */
	char why[SASL_GSSAPI_WHY_BYTES];
};

/* user@REALM to a login. */
static bool map_name(struct slice principal, struct sasl_gss *g)
{
	size_t at = slice_rfind(principal, '@');
	struct slice user = slice_upto(principal, at), realm = slice_from(principal, at + 1);
	if (at == SIZE_MAX || !user.len || !realm.len || slice_find(user, '/') != SIZE_MAX || slice_find(user, '@') != SIZE_MAX ||
	    slice_find(user, '\\') != SIZE_MAX || slice_find(principal, '\0') != SIZE_MAX)
		return false;
	if (gssapi.config.realm && !slice_eq(realm, slice_str(gssapi.config.realm)))
		return false;
	if (gssapi.config.domain)
		realm = slice_str(gssapi.config.domain);
	if (user.len + 1 + realm.len >= sizeof(g->login))
		return false;
	snprintf(g->login, sizeof(g->login), "%.*s@%.*s", SLICE_ARG(user), SLICE_ARG(realm));
	return true;
}

static enum err name_client(struct gss_job *j, gss_name_t name, OM_uint32 flags)
{
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor;
	bool named = (flags & GSS_C_INTEG_FLAG) && !(flags & GSS_C_ANON_FLAG) && gss_display_name(&minor, name, &text, NULL) == GSS_S_COMPLETE &&
		     map_name(slice_of(text.value, text.length), j->g);
	if (!named)
		snprintf(j->why, sizeof(j->why), "a principal that is no login here: %.100s", text.length ? (const char *)text.value : "");
	gss_release_buffer(&minor, &text);
	return named ? OK : ERR_AUTH;
}

static void accept_job(void *arg)
{
	struct gss_job *j = arg;
	gss_buffer_desc in = { j->in.len, (void *)(uintptr_t)j->in.ptr };
	gss_name_t name = GSS_C_NO_NAME;
	OM_uint32 minor, ignored, flags = 0;
	OM_uint32 major = gss_accept_sec_context(&minor, &j->g->context, gssapi.credential, &in, GSS_C_NO_CHANNEL_BINDINGS, &name, NULL, &j->out, &flags,
						 NULL, NULL);
	if (major == GSS_S_COMPLETE) {
		j->e = name_client(j, name, flags);
	} else if (!GSS_ERROR(major)) {
		j->e = ERR_AGAIN;
	} else {
		j->e = ERR_AUTH;
		describe(major, minor, j->why);
	}
	gss_release_name(&ignored, &name);
}

static void offer_job(void *arg)
{
	struct gss_job *j = arg;
	static const uint8_t none[OFFER_BYTES] = { LAYER_NONE, 0, 0, 0 };
	gss_buffer_desc in = { sizeof(none), (void *)(uintptr_t)none };
	OM_uint32 minor, major = gss_wrap(&minor, j->g->context, 0, GSS_C_QOP_DEFAULT, &in, NULL, &j->out);
	j->e = major == GSS_S_COMPLETE ? OK : ERR_AUTH;
	if (j->e)
		describe(major, minor, j->why);
}

static void agree_job(void *arg)
{
	struct gss_job *j = arg;
	gss_buffer_desc in = { j->in.len, (void *)(uintptr_t)j->in.ptr };
	OM_uint32 minor, major = gss_unwrap(&minor, j->g->context, &in, &j->out, NULL, NULL);
	const uint8_t *answer = j->out.value;
	j->e = ERR_AUTH;
	if (major != GSS_S_COMPLETE)
		describe(major, minor, j->why);
	else if (j->out.length < OFFER_BYTES || answer[0] != LAYER_NONE || answer[1] || answer[2] || answer[3])
		snprintf(j->why, sizeof(j->why), "another security layer than none");
	else
		j->e = OK;
}

/* Runs one; what came out is copied into the arena, behind it. */
static enum err run(struct sasl *x, const struct sasl_peer *peer, void (*job)(void *), struct slice in, struct arena *arena, struct slice *out)
{
	struct gss_job j = { .g = x->gss, .in = in };
	OM_uint32 minor;
	enum err e = auth_in_turn(job, &j);
	if (e)
		return e;
	e = j.e;
	if (e == ERR_AUTH)
		log_event(LOG_INFO, "sasl.gssapi_refused", LOG_STR("peer", peer->address), LOG_Z("why", j.why));
	*out = arena_slice(arena, slice_of(j.out.length ? j.out.value : "", j.out.length));
	gss_release_buffer(&minor, &j.out);
	return (e == OK || e == ERR_AGAIN) && !out->ptr ? ERR_TEMP : e;
}

/* ---- messages ---- */

static enum err offer(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice *challenge_out)
{
	enum err e = run(x, peer, offer_job, slice_of("", 0), command, challenge_out);
	x->at = AT_LAYER;
	return e ? e : ERR_AGAIN;
}

static enum err take_token(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice token, struct slice *challenge_out)
{
	if (!x->gss)
		x->gss = xcalloc(1, sizeof(*x->gss));
	enum err e = run(x, peer, accept_job, token, command, challenge_out);
	if (e == ERR_AGAIN || e)
		return e;
	if (!sasl_keep(x, slice_str(x->gss->login), &x->login))
		return ERR_LIMIT;
	if (!challenge_out->len)
		return offer(x, peer, command, challenge_out);
	x->at = AT_EMPTY;
	return ERR_AGAIN;
}

static enum err take_layer(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message)
{
	struct slice answer, authzid;
	enum err e = run(x, peer, agree_job, message, command, &answer);
	if (e)
		return e;
	authzid = slice_from(answer, OFFER_BYTES);
	if (authzid.len && slice_find(authzid, '\0') != SIZE_MAX)
		return ERR_SYNTAX;
	if (authzid.len && !sasl_keep(x, authzid, &x->authzid))
		return ERR_LIMIT;
	struct auth_request request = sasl_request(x, peer);
	return auth_proved(&request, &x->subject);
}

enum err sasl_gssapi(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out)
{
	if (!sasl_gssapi_offered())
		return ERR_AUTH;
	switch (x->at) {
	case AT_TOKENS:
		return message.len ? take_token(x, peer, command, message, challenge_out) : ERR_SYNTAX;
	case AT_EMPTY:
		return message.len ? ERR_SYNTAX : offer(x, peer, command, challenge_out);
	default:
		return take_layer(x, peer, command, message);
	}
}

void sasl_gssapi_end(struct sasl_gss *g)
{
	OM_uint32 minor;
	if (!g)
		return;
	if (g->context != GSS_C_NO_CONTEXT)
		gss_delete_sec_context(&minor, &g->context, GSS_C_NO_BUFFER);
	free(g);
}
