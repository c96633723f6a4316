/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.h - the first bytes that a node says to another: whose session it passes on, in a PROXY header of version 2.
 *
 * For carry.c, which writes it, and peer.c, which reads it.  The header (net/proxy.h) tells the client's address and TLS; the rest stands in TLVs
 * of the range that the PROXY protocol's specification (section 2.2) leaves to applications.  Numbers in values are little-endian.
 *
 *     0xE0  protocol      "pop3", "imap", "lmtp"; "admin": an operator's question. The session goes on with it
 *     0xE1  incarnation   of the owner, as the sender has seen it; empty: placement home, where the home is it in every incarnation
 *     0xE2  subject       who has been authenticated: tenancy/handed.h; empty: nobody, each recipient speaks for itself (LMTP)
 *     0xE3  node          the sender's name, for the log
 *     0xE4  time          seconds since 1970, 8 octets
 *     0xE5  token         HMAC-SHA-256 under the fleet's key over the whole header up to here, with its length and CRC type; the last but CRC32C
 *
 * The owner answers one line, and only after "taken" the protocol's own words follow:
 *
 *     "+PF taken\r\n"         it goes on with the protocol
 *     "-PF incarnation\r\n"   the incarnation is not, or no longer, the owner's: the sender asks Redis once more
 *     "-PF refused\r\n"       everything else; the owner's log says why
 *
 * A token is good for one incarnation of one node and for HANDOVER_AGE_S_MAX.  Where nodes speak mutual TLS without a key in a file, the
 * certificate is the proof, and the token, made with an empty key, proves nothing.
 *
 * Owns nothing; slices point into the bytes read.  All calls complete now.
 */
#ifndef PENFOLD_NET_PEER_HANDOVER_H
#define PENFOLD_NET_PEER_HANDOVER_H

#include "net/proxy.h"

#ifdef __cplusplus
extern "C" {
#endif

struct handover {
	struct proxy_header client; /* source.len 0: on a unix socket, or the node itself */
	struct slice protocol, incarnation, subject, node;
	uint64_t at_s;
	const char *why; /* HANDOVER_BAD: what is wrong */
};

#define HANDOVER_TAKEN "+PF taken"
#define HANDOVER_INCARNATION "-PF incarnation"
#define HANDOVER_REFUSED "-PF refused"

/* `to` has PROXY_HEADER_BYTES_MAX. The client's destination is not told. Returns the length, or 0: it does not fit. */
size_t handover_write(const struct handover *h, struct slice key, char *to);

enum handover_found { HANDOVER_MORE, HANDOVER_DONE, HANDOVER_BAD };
/* All bytes that have come so far, from the first on. Time and incarnation are not judged here. */
enum handover_found handover_read(struct slice bytes, struct slice key, struct handover *out, size_t *used_out);

#ifdef __cplusplus
}
#endif
#endif
