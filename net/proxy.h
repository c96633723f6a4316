/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h - the PROXY protocol's header, versions 1 and 2: read from a load balancer, written to another node.
 *
 * For conn_proxy.c, which reads it before anything else on listeners marked for it, and for whoever proxies sessions on.
 * The format is the PROXY protocol specification of HAProxy (versions 1 & 2):
 *
 *     1:  "PROXY TCP4 192.0.2.1 198.51.100.7 51234 110\r\n", at most 107 bytes; TCP6; UNKNOWN with anything behind it
 *     2:  12 bytes of signature | version, command | family, transport | length (16 bits) | addresses | TLVs
 *
 * Numbers are big-endian.  A header says who the client is: it is to be believed only from a peer that is trusted, which is not
 * decided here.  What it says of TLS is for the log and for "may a password be asked for"; a name in a certificate that a proxy
 * tells of never authenticates anybody.
 *
 * Owns nothing; slices point into the bytes that were parsed.  All calls complete now.
 */
#ifndef PENFOLD_NET_PROXY_H
#define PENFOLD_NET_PROXY_H

#include "core/base/addr.h"
#include "core/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Section 2.2.1 and 2.2.7 of the specification. */
enum proxy_tlv_type {
	PROXY_ALPN = 0x01,
	PROXY_AUTHORITY = 0x02, /* the name that the client gave (SNI) */
	PROXY_CRC32C = 0x03,    /* checked where there; written where asked for */
	PROXY_NOOP = 0x04,
	PROXY_UNIQUE_ID = 0x05,
	PROXY_SSL = 0x20,
	PROXY_CUSTOM_MIN = 0xE0, PROXY_CUSTOM_MAX = 0xEF /* for the application: nodes among themselves */
};

struct proxy_header {
	bool local;                      /* LOCAL, UNKNOWN, or a family without ports: the connection is the proxy's own (a health check) */
	struct addr source, destination; /* the client, and where it connected to; len 0: not told */
	bool tls;                        /* the client speaks TLS with the proxy */
	bool has_certificate;            /* the client has shown one, in this connection or the session it resumed */
	bool verified;                   /* ... and the proxy found it good */
	struct slice tls_version, tls_cipher, tls_cn;
	struct slice alpn, authority, unique_id; /* empty: not told */
	const char *why;                 /* PROXY_BAD: what is wrong */
};

enum proxy_found { PROXY_MORE, PROXY_DONE, PROXY_BAD };
/* All bytes that have come so far, from the first on. PROXY_DONE: *used_out tells how long the header is; what follows is the client's.
 * PROXY_BAD as soon as it can be told. */
enum proxy_found proxy_parse(struct slice bytes, struct proxy_header *out, size_t *used_out);

/* A TLV of a type that proxy_parse does not know by itself, from a header that was PROXY_DONE; false if it is not there. */
bool proxy_find_tlv(struct slice header, uint8_t type, struct slice *value_out);

struct proxy_tlv {
	uint8_t type;
	struct slice value;
};
/* Writes a header of version 2 from `h` (why is not looked at) and `more`, checksummed (CRC32C). Both addresses are IP, or both none. Returns
 * its length, or 0 if it is longer than `room` or than PROXY_HEADER_BYTES_MAX. */
size_t proxy_write_v2(const struct proxy_header *h, const struct proxy_tlv *more, size_t more_count, char *to, size_t room);

#ifdef __cplusplus
}
#endif
#endif
