/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.c - see proxy.h. */
#include "net/proxy.h"

#include "core/base/limits.h"

#include <arpa/inet.h>
#include <stddef.h>

#define V1_BYTES_MAX ((size_t)107) /* section 2.1 */
#define V2_HEAD_BYTES ((size_t)16)
#define V2_SIGNATURE_BYTES ((size_t)12)
#define TLV_HEAD_BYTES ((size_t)3)
#define SSL_HEAD_BYTES ((size_t)5) /* client bits, verify */

static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };
enum { FAMILY_UNSPEC = 0x00, FAMILY_TCP4 = 0x11, FAMILY_TCP6 = 0x21, FAMILY_UNIX = 0x31 };
enum { SSL_VERSION = 0x21, SSL_CN = 0x22, SSL_CIPHER = 0x23 };
enum { CLIENT_SSL = 0x01, CLIENT_CERT_CONN = 0x02, CLIENT_CERT_SESS = 0x04 };

static enum proxy_found bad(struct proxy_header *h, const char *why)
{
	h->why = why;
	return PROXY_BAD;
}

static uint16_t get_be16(const char *p) { return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]); }
static uint32_t get_be32(const char *p) { return (uint32_t)get_be16(p) << 16 | get_be16(p + 2); }
static void put_be16(char *p, size_t v)
{
	p[0] = (char)(v >> 8);
	p[1] = (char)v;
}
static void put_be32(char *p, uint32_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v & 0xffff);
}

/* ---- version 1 ---- */

/* Canonical only: what the line says is what the log will say. */
static bool v1_address(struct slice text, int family, struct addr *out)
{
	char z[INET6_ADDRSTRLEN];
	if (!text.len || text.len >= sizeof(z) || slice_find(text, '\0') != SIZE_MAX)
		return false;
	memcpy(z, text.ptr, text.len);
	z[text.len] = '\0';
	memset(out, 0, sizeof(*out));
	out->u.sa.sa_family = (sa_family_t)family;
	out->len = family == AF_INET ? sizeof(out->u.in) : sizeof(out->u.in6);
	return inet_pton(family, z, family == AF_INET ? (void *)&out->u.in.sin_addr : (void *)&out->u.in6.sin6_addr) == 1;
}

static bool v1_port(struct slice text, struct addr *a)
{
	uint64_t port;
	if (text.len > 5 || (text.len > 1 && text.ptr[0] == '0') || !slice_u64(text, 65535, &port))
		return false;
	if (a->u.sa.sa_family == AF_INET)
		a->u.in.sin_port = htons((uint16_t)port);
	else
		a->u.in6.sin6_port = htons((uint16_t)port);
	return true;
}

/* Without "PROXY " and CRLF. */
static enum proxy_found v1_line(struct slice line, struct proxy_header *h)
{
	struct slice word[5], rest = line;
	slice_next(&rest, ' ', &word[0]);
	if (slice_eq(word[0], SLICE_LIT("UNKNOWN"))) {
		h->local = true;
		return PROXY_DONE;
	}
	int family = slice_eq(word[0], SLICE_LIT("TCP4")) ? AF_INET : slice_eq(word[0], SLICE_LIT("TCP6")) ? AF_INET6 : 0;
	if (!family)
		return bad(h, "unknown family");
	for (unsigned i = 1; i < ARRAY_LEN(word); i++)
		if (!slice_next(&rest, ' ', &word[i]))
			return bad(h, "too few words");
	if (rest.len || line.ptr[line.len - 1] == ' ')
		return bad(h, "too many words");
	if (!v1_address(word[1], family, &h->source) || !v1_address(word[2], family, &h->destination))
		return bad(h, "not an address");
	if (!v1_port(word[3], &h->source) || !v1_port(word[4], &h->destination))
		return bad(h, "not a port");
	return PROXY_DONE;
}

static enum proxy_found v1_parse(struct slice bytes, struct proxy_header *h, size_t *used_out)
{
	struct slice head = SLICE_LIT("PROXY "), window = slice_upto(bytes, V1_BYTES_MAX);
	size_t cr = slice_find(window, '\r');
	if (cr == SIZE_MAX)
		return bytes.len < V1_BYTES_MAX ? PROXY_MORE : bad(h, "line too long");
	if (cr + 1 >= V1_BYTES_MAX)
		return bad(h, "line too long");
	if (cr + 1 == bytes.len)
		return PROXY_MORE;
	if (window.ptr[cr + 1] != '\n')
		return bad(h, "CR without LF");
	*used_out = cr + 2;
	if (cr <= head.len)
		return bad(h, "too few words");
	return v1_line(slice_from(slice_upto(window, cr), head.len), h);
}

/* ---- version 2 ---- */

/* Section 2.2.3: CRC-32C (Castagnoli, reflected 0x82F63B78), of the header with the checksum's own bytes as zeroes. */
static uint32_t crc32c(uint32_t crc, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		crc ^= (uint8_t)bytes.ptr[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
	}
	return crc;
}

static uint32_t header_crc(struct slice header, size_t at)
{
	uint32_t crc = crc32c(UINT32_MAX, slice_upto(header, at));
	crc = crc32c(crc, slice_of("\0\0\0", 4));
	return ~crc32c(crc, slice_from(header, at + 4));
}

/* The next TLV; false at the end, with *rest_io.len > 0 if it is broken. */
static bool tlv_next(struct slice *rest_io, uint8_t *type_out, struct slice *value_out)
{
	if (rest_io->len < TLV_HEAD_BYTES)
		return false;
	size_t len = get_be16(rest_io->ptr + 1);
	if (len > rest_io->len - TLV_HEAD_BYTES)
		return false;
	*type_out = (uint8_t)rest_io->ptr[0];
	*value_out = slice_of(rest_io->ptr + TLV_HEAD_BYTES, len);
	*rest_io = slice_from(*rest_io, TLV_HEAD_BYTES + len);
	return true;
}

static bool take_ssl(struct slice value, struct proxy_header *h)
{
	uint8_t type;
	struct slice part, rest = slice_from(value, SSL_HEAD_BYTES);
	if (value.len < SSL_HEAD_BYTES)
		return false;
	uint8_t client = (uint8_t)value.ptr[0];
	h->tls = client & CLIENT_SSL;
	h->has_certificate = h->tls && (client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS));
	h->verified = h->has_certificate && get_be32(value.ptr + 1) == 0;
	while (tlv_next(&rest, &type, &part)) {
		if (type == SSL_VERSION)
			h->tls_version = part;
		else if (type == SSL_CIPHER)
			h->tls_cipher = part;
		else if (type == SSL_CN)
			h->tls_cn = part;
	}
	return rest.len == 0;
}

static enum proxy_found v2_tlvs(struct slice header, size_t at, struct proxy_header *h)
{
	uint8_t type;
	struct slice value, rest = slice_from(header, at);
	while (tlv_next(&rest, &type, &value)) {
		if (type == PROXY_SSL && !take_ssl(value, h))
			return bad(h, "broken TLS facts");
		if (type == PROXY_CRC32C && (value.len != 4 || get_be32(value.ptr) != header_crc(header, (size_t)(value.ptr - header.ptr))))
			return bad(h, "wrong checksum");
		if (type == PROXY_ALPN)
			h->alpn = value;
		else if (type == PROXY_AUTHORITY)
			h->authority = value;
		else if (type == PROXY_UNIQUE_ID)
			h->unique_id = value;
	}
	return rest.len ? bad(h, "broken TLV") : PROXY_DONE;
}

static void v2_addresses(const char *p, int family, struct proxy_header *h)
{
	struct addr *const ends[] = { &h->source, &h->destination };
	size_t size = family == AF_INET ? 4 : 16;
	for (size_t i = 0; i < 2; i++) {
		struct addr *a = ends[i];
		uint16_t port;
		memset(a, 0, sizeof(*a));
		memcpy(&port, p + 2 * size + 2 * i, 2); /* both in network order */
		a->u.sa.sa_family = (sa_family_t)family;
		if (family == AF_INET) {
			memcpy(&a->u.in.sin_addr, p + i * size, size);
			a->u.in.sin_port = port;
			a->len = sizeof(a->u.in);
		} else {
			memcpy(&a->u.in6.sin6_addr, p + i * size, size);
			a->u.in6.sin6_port = port;
			a->len = sizeof(a->u.in6);
		}
	}
}

/* The bytes of a family's addresses; SIZE_MAX: not one of ours. */
static size_t v2_address_bytes(uint8_t family)
{
	switch (family) {
	case FAMILY_UNSPEC:
		return 0;
	case FAMILY_TCP4:
		return 12;
	case FAMILY_TCP6:
		return 36;
	case FAMILY_UNIX:
		return 216;
	default:
		return SIZE_MAX;
	}
}

static enum proxy_found v2_parse(struct slice bytes, struct proxy_header *h, size_t *used_out)
{
	if (bytes.len < V2_HEAD_BYTES)
		return PROXY_MORE;
	uint8_t command = (uint8_t)bytes.ptr[12], family = (uint8_t)bytes.ptr[13];
	size_t length = get_be16(bytes.ptr + 14), whole = V2_HEAD_BYTES + length;
	if (command != COMMAND_LOCAL && command != COMMAND_PROXY)
		return bad(h, "unknown version or command");
	if (whole > PROXY_HEADER_BYTES_MAX)
		return bad(h, "header too long");
	if (bytes.len < whole)
		return PROXY_MORE;
	*used_out = whole;
	if (command == COMMAND_LOCAL) { /* what it holds is to be skipped */
		h->local = true;
		return PROXY_DONE;
	}
	size_t addresses = v2_address_bytes(family);
	if (addresses == SIZE_MAX)
		return bad(h, "unknown family or transport");
	if (length < addresses)
		return bad(h, "addresses cut short");
	if (family == FAMILY_TCP4 || family == FAMILY_TCP6)
		v2_addresses(bytes.ptr + V2_HEAD_BYTES, family == FAMILY_TCP4 ? AF_INET : AF_INET6, h);
	else
		h->local = true;
	return v2_tlvs(slice_upto(bytes, whole), V2_HEAD_BYTES + addresses, h);
}

/* ---- either ---- */

static bool begins_like(struct slice bytes, struct slice head)
{
	size_t n = min_size(bytes.len, head.len);
	return n == 0 || memcmp(bytes.ptr, head.ptr, n) == 0;
}

enum proxy_found proxy_parse(struct slice bytes, struct proxy_header *out, size_t *used_out)
{
	*out = (struct proxy_header){ 0 };
	*used_out = 0;
	if (!bytes.len)
		return PROXY_MORE;
	if (begins_like(bytes, slice_of(signature, V2_SIGNATURE_BYTES)))
		return v2_parse(bytes, out, used_out);
	if (begins_like(bytes, SLICE_LIT("PROXY ")))
		return bytes.len < 6 ? PROXY_MORE : v1_parse(bytes, out, used_out);
	return bad(out, "no PROXY header");
}

bool proxy_find_tlv(struct slice header, uint8_t type, struct slice *value_out)
{
	if (header.len < V2_HEAD_BYTES || memcmp(header.ptr, signature, V2_SIGNATURE_BYTES) != 0 || (uint8_t)header.ptr[12] != COMMAND_PROXY)
		return false;
	size_t whole = V2_HEAD_BYTES + get_be16(header.ptr + 14), addresses = v2_address_bytes((uint8_t)header.ptr[13]);
	uint8_t found;
	if (addresses == SIZE_MAX || header.len < whole || whole < V2_HEAD_BYTES + addresses)
		return false;
	struct slice rest = slice_from(slice_upto(header, whole), V2_HEAD_BYTES + addresses);
	while (tlv_next(&rest, &found, value_out))
		if (found == type)
			return true;
	return false;
}

/* ---- writing ---- */

struct writer {
	char *to;
	size_t at, room;
	bool full;
};

static char *take(struct writer *w, size_t bytes)
{
	static char nowhere[1];
	if (w->full || bytes > w->room - w->at) {
		w->full = true;
		return nowhere;
	}
	char *p = w->to + w->at;
	w->at += bytes;
	return p;
}

static void put(struct writer *w, struct slice bytes)
{
	char *p = take(w, bytes.len);
	if (!w->full && bytes.len)
		memcpy(p, bytes.ptr, bytes.len);
}

/* Returns where the value begins; its length is `len` or, if that is not known yet, set later. */
static size_t put_tlv_head(struct writer *w, uint8_t type, size_t len)
{
	char *p = take(w, TLV_HEAD_BYTES);
	if (!w->full) {
		p[0] = (char)type;
		put_be16(p + 1, len);
	}
	return w->at;
}

static void put_tlv(struct writer *w, uint8_t type, struct slice value)
{
	if (value.len > UINT16_MAX) {
		w->full = true;
		return;
	}
	put_tlv_head(w, type, value.len);
	put(w, value);
}

static void put_tlv_if(struct writer *w, uint8_t type, struct slice value)
{
	if (value.len)
		put_tlv(w, type, value);
}

static void put_addresses(struct writer *w, const struct proxy_header *h)
{
	const struct addr *const ends[] = { &h->source, &h->destination };
	uint16_t port[2];
	for (unsigned i = 0; i < 2; i++) {
		const struct addr *a = ends[i];
		bool v4 = a->u.sa.sa_family == AF_INET;
		port[i] = htons(addr_port(a));
		put(w, v4 ? slice_of(&a->u.in.sin_addr, 4) : slice_of(&a->u.in6.sin6_addr, 16));
	}
	put(w, slice_of(port, sizeof(port)));
}

static void put_ssl(struct writer *w, const struct proxy_header *h)
{
	size_t begin = put_tlv_head(w, PROXY_SSL, 0);
	char *p = take(w, SSL_HEAD_BYTES);
	if (!w->full) {
		p[0] = (char)(CLIENT_SSL | (h->has_certificate ? CLIENT_CERT_CONN | CLIENT_CERT_SESS : 0));
		put_be32(p + 1, h->verified || !h->has_certificate ? 0 : 1);
	}
	put_tlv_if(w, SSL_VERSION, h->tls_version);
	put_tlv_if(w, SSL_CIPHER, h->tls_cipher);
	put_tlv_if(w, SSL_CN, h->tls_cn);
	if (!w->full)
		put_be16(w->to + begin - 2, w->at - begin);
}

static uint8_t family_of(const struct proxy_header *h)
{
	if (h->local || !h->source.len)
		return FAMILY_UNSPEC;
	ASSERT(!addr_is_unix(&h->source) && h->source.u.sa.sa_family == h->destination.u.sa.sa_family);
	return h->source.u.sa.sa_family == AF_INET ? FAMILY_TCP4 : FAMILY_TCP6;
}

size_t proxy_write_v2(const struct proxy_header *h, const struct proxy_tlv *more, size_t more_count, char *to, size_t room)
{
	struct writer w = { .to = to, .room = min_size(room, PROXY_HEADER_BYTES_MAX) };
	uint8_t family = family_of(h);
	put(&w, slice_of(signature, V2_SIGNATURE_BYTES));
	char *p = take(&w, V2_HEAD_BYTES - V2_SIGNATURE_BYTES);
	if (w.full)
		return 0;
	p[0] = h->local ? COMMAND_LOCAL : COMMAND_PROXY;
	p[1] = (char)family;
	if (family != FAMILY_UNSPEC)
		put_addresses(&w, h);
	put_tlv_if(&w, PROXY_ALPN, h->alpn);
	put_tlv_if(&w, PROXY_AUTHORITY, h->authority);
	put_tlv_if(&w, PROXY_UNIQUE_ID, h->unique_id);
	if (h->tls)
		put_ssl(&w, h);
	for (size_t i = 0; i < more_count; i++)
		put_tlv(&w, more[i].type, more[i].value);
	put_tlv(&w, PROXY_CRC32C, slice_of("\0\0\0", 4));
	if (w.full)
		return 0;
	put_be16(to + 14, w.at - V2_HEAD_BYTES);
	put_be32(to + w.at - 4, header_crc(slice_of(to, w.at), w.at - 4));
	return w.at;
}
