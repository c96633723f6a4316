/* SPDX-License-Identifier: Apache-2.0 */
/* cidr.c - see cidr.h. */
#include "core/base/cidr.h"

#include <arpa/inet.h>

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is_v4_bytes16(const uint8_t bytes[16]) { return memcmp(bytes, mapped, sizeof(mapped)) == 0; }

bool addr_bytes16(const struct addr *a, uint8_t out[16])
{
	if (a->len && a->u.sa.sa_family == AF_INET6) {
		memcpy(out, &a->u.in6.sin6_addr, 16);
		return true;
	}
	if (!a->len || a->u.sa.sa_family != AF_INET)
		return false;
	memcpy(out, mapped, sizeof(mapped));
	memcpy(out + 12, &a->u.in.sin_addr, 4);
	return true;
}

/* inet_pton wants a NUL. */
static bool parse_address(struct slice text, struct cidr *out, unsigned *most_out)
{
	char z[INET6_ADDRSTRLEN];
	if (!text.len || text.len >= sizeof(z) || slice_find(text, '\0') != SIZE_MAX)
		return false;
	memcpy(z, text.ptr, text.len);
	z[text.len] = '\0';
	if (inet_pton(AF_INET, z, out->bytes + 12) == 1) {
		memcpy(out->bytes, mapped, sizeof(mapped));
		*most_out = 32;
		return true;
	}
	*most_out = 128;
	return inet_pton(AF_INET6, z, out->bytes) == 1;
}

static bool clean_behind(const struct cidr *c)
{
	for (unsigned i = c->bits; i < 128; i++)
		if (c->bytes[i / 8] & (0x80u >> (i % 8)))
			return false;
	return true;
}

enum err cidr_parse(struct slice text, struct cidr *out)
{
	memset(out, 0, sizeof(*out));
	size_t slash = slice_find(text, '/');
	unsigned most = 0;
	if (!parse_address(slice_upto(text, slash), out, &most))
		return ERR_SYNTAX;
	uint64_t bits = most;
	if (slash != SIZE_MAX && !slice_u64(slice_from(text, slash + 1), most, &bits))
		return ERR_SYNTAX;
	out->bits = (uint8_t)(bits + (most == 32 ? 96 : 0));
	return clean_behind(out) ? OK : ERR_SYNTAX;
}

bool cidr_has(const struct cidr *c, const uint8_t bytes[16])
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;
	if (memcmp(c->bytes, bytes, whole) != 0)
		return false;
	return !rest || !((c->bytes[whole] ^ bytes[whole]) >> (8 - rest));
}

bool cidrs_have(const struct cidr *list, size_t count, const struct addr *a)
{
	uint8_t bytes[16];
	if (!count || !addr_bytes16(a, bytes))
		return false;
	for (size_t i = 0; i < count; i++)
		if (cidr_has(&list[i], bytes))
			return true;
	return false;
}
