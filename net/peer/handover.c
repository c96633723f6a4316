/* SPDX-License-Identifier: Apache-2.0 */
/* handover.c - see handover.h. */
#include "net/peer/handover.h"

#include "core/base/limits.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { TLV_PROTOCOL = 0xE0, TLV_INCARNATION, TLV_SUBJECT, TLV_NODE, TLV_TIME, TLV_TOKEN };
enum { TOKEN_BYTES = 32, TOKEN_TLV_BYTES = 3 + TOKEN_BYTES, CRC_TLV_BYTES = 3 + 4 };

/* Of everything before the token's value. */
static void make_token(struct slice header, struct slice key, uint8_t out[TOKEN_BYTES])
{
	unsigned len = 0;
	ASSERT(HMAC(EVP_sha256(), key.len ? key.ptr : "", key.len, (const uint8_t *)header.ptr, header.len - CRC_TLV_BYTES - TOKEN_BYTES, out, &len) &&
	       len == TOKEN_BYTES);
}

/* Where the client connected to is of no use to the owner, but the form wants an address of the same family. */
static struct addr nowhere(const struct addr *like)
{
	struct addr a = *like;
	if (like->u.sa.sa_family == AF_INET) {
		memset(&a.u.in.sin_addr, 0, sizeof a.u.in.sin_addr);
		a.u.in.sin_port = 0;
	} else {
		memset(&a.u.in6.sin6_addr, 0, sizeof a.u.in6.sin6_addr);
		a.u.in6.sin6_port = 0;
	}
	return a;
}

size_t handover_write(const struct handover *h, struct slice key, char *to)
{
	uint8_t token[TOKEN_BYTES] = { 0 };
	char at[8];
	struct proxy_header client = h->client;
	client.local = false; /* a reader finds no TLV behind LOCAL */
	if (addr_is_unix(&client.source))
		client.source.len = 0;
	if (client.source.len)
		client.destination = nowhere(&client.source);
	put_le64(at, h->at_s);
	const struct proxy_tlv more[] = {
		{ TLV_PROTOCOL, h->protocol }, { TLV_INCARNATION, h->incarnation }, { TLV_SUBJECT, h->subject },
		{ TLV_NODE, h->node },	       { TLV_TIME, slice_of(at, sizeof at) }, { TLV_TOKEN, slice_of(token, sizeof token) },
	};
	size_t len = proxy_write_v2(&client, more, ARRAY_LEN(more), to, PROXY_HEADER_BYTES_MAX);
	if (!len)
		return 0;
	make_token(slice_of(to, len), key, token);
	return proxy_write_v2(&client, more, ARRAY_LEN(more), to, PROXY_HEADER_BYTES_MAX);
}

static enum handover_found bad(struct handover *out, const char *why)
{
	out->why = why;
	return HANDOVER_BAD;
}

/* The token stands last but one and the checksum last, so nothing in the header is behind what the token covers. */
static bool token_good(struct slice header, struct slice key)
{
	uint8_t token[TOKEN_BYTES];
	if (header.len < 16 + TOKEN_TLV_BYTES + CRC_TLV_BYTES)
		return false;
	const unsigned char *tlv = (const unsigned char *)header.ptr + header.len - CRC_TLV_BYTES - TOKEN_TLV_BYTES, *crc = tlv + TOKEN_TLV_BYTES;
	if (tlv[0] != TLV_TOKEN || tlv[1] != 0 || tlv[2] != TOKEN_BYTES || crc[0] != PROXY_CRC32C || crc[1] != 0 || crc[2] != 4)
		return false;
	make_token(header, key, token);
	return slice_eq_consttime(slice_of(token, sizeof token), slice_of(tlv + 3, TOKEN_BYTES));
}

enum handover_found handover_read(struct slice bytes, struct slice key, struct handover *out, size_t *used_out)
{
	*out = (struct handover){ .why = NULL };
	switch (proxy_parse(bytes, &out->client, used_out)) {
	case PROXY_MORE:
		return HANDOVER_MORE;
	case PROXY_BAD:
		return bad(out, out->client.why);
	case PROXY_DONE:
		break;
	}
	struct slice header = slice_upto(bytes, *used_out), at;
	if (!token_good(header, key))
		return bad(out, "token");
	if (!proxy_find_tlv(header, TLV_PROTOCOL, &out->protocol) || !proxy_find_tlv(header, TLV_INCARNATION, &out->incarnation) ||
	    !proxy_find_tlv(header, TLV_SUBJECT, &out->subject) || !proxy_find_tlv(header, TLV_NODE, &out->node) || !proxy_find_tlv(header, TLV_TIME, &at))
		return bad(out, "a field is missing");
	if (!out->protocol.len || out->incarnation.len > FLEET_INCARNATION_BYTES || out->node.len > FLEET_NODE_BYTES_MAX || at.len != 8)
		return bad(out, "a field is of no such length");
	out->at_s = get_le64(at.ptr);
	return HANDOVER_DONE;
}
