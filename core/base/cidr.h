/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cidr.h - networks, "192.0.2.0/24" and "2001:db8::/32", and whether an address lies in one.
 *
 * For the configuration (exempt addresses, trusted proxies) and tenants' settings.  IPv4 and IPv4 mapped into IPv6 are the same
 * addresses.  Owns nothing; every call completes now.
 */
#ifndef PENFOLD_CORE_BASE_CIDR_H
#define PENFOLD_CORE_BASE_CIDR_H

#include "core/base/addr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* IPv4 is kept mapped (::ffff:a.b.c.d), its bits counted from there: 96 more. */
struct cidr {
	uint8_t bytes[16];
	uint8_t bits;
};

/* ERR_SYNTAX: no address, too many bits, or bits set behind the prefix (10.0.0.1/8 is a slip, not a network). Without a slash: one address. */
enum err cidr_parse(struct slice text, struct cidr *out) MUST_USE;

/* An address as 16 bytes, IPv4 mapped; false for local sockets and none. */
bool addr_bytes16(const struct addr *a, uint8_t out[16]);
bool addr_is_v4_bytes16(const uint8_t bytes[16]);

bool cidr_has(const struct cidr *c, const uint8_t bytes[16]);
/* In one of them. */
bool cidrs_have(const struct cidr *list, size_t count, const struct addr *a);

#ifdef __cplusplus
}
#endif
#endif
