/* SPDX-License-Identifier: Apache-2.0 */
/* sasl_private.h - the inside of an exchange, between sasl.c and the files of single mechanisms. */
#ifndef PENFOLD_NET_SASL_PRIVATE_H
#define PENFOLD_NET_SASL_PRIVATE_H

#include "core/base/limits.h"
#include "net/sasl.h"

struct sasl_gss;
struct sasl {
	struct arena *arena;
	uint8_t mechanism, at;   /* at: which message comes next */
	uint8_t binding;         /* enum sasl_binding_kind, with -PLUS */
	bool refused;            /* the client is being told; then it fails */
	bool has_password;       /* SASL_PASSWORD comes of it */
	struct slice login, authzid;
	struct slice server_first; /* CRAM-MD5's challenge, SCRAM's first message */
	struct slice gs2, client_first, nonce; /* SCRAM; client_first is the bare one */
	struct sasl_gss *gss;    /* GSSAPI's context, xmalloc'd */
	struct subject *subject; /* proved, not yet given away */
};

/* Strict, as RFC 5034 section 4 wants it: no other bytes, '=' at the end only. False too above SASL_LONG_MESSAGE_BYTES_MAX. */
bool sasl_decode(struct arena *arena, struct slice text, struct slice *out);
bool sasl_encode(struct arena *arena, struct slice bytes, struct slice *text_out);
bool sasl_keep(struct sasl *x, struct slice bytes, struct slice *kept_out);
struct auth_request sasl_request(const struct sasl *x, const struct sasl_peer *peer);

/* saslname (RFC 5801): "=2C" stands for ',' and "=3D" for '='; nothing else may follow a '='. Kept. */
enum err sasl_saslname(struct sasl *x, struct slice text, struct slice *name_out);

/* sasl_scram.c, sasl_oauth.c, sasl_gssapi.c: OK, ERR_AGAIN with a challenge, or why not. */
enum err sasl_scram(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out);
enum err sasl_oauth(struct sasl *x, const struct sasl_peer *peer, struct slice message, struct slice *challenge_out);
enum err sasl_gssapi(struct sasl *x, const struct sasl_peer *peer, struct arena *command, struct slice message, struct slice *challenge_out);
void sasl_gssapi_end(struct sasl_gss *g);

#endif
