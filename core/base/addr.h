/* SPDX-License-Identifier: Apache-2.0 */
/*
 * addr.h - socket addresses, from text and back: "127.0.0.1:1110", "[::1]:110", "unix:/run/penfold/lmtp.sock".
 *
 * For the configuration, listeners, PROXY headers and log lines.  Numbers only: no name is looked up, so every call
 * completes now.  Owns nothing.
 */
#ifndef PENFOLD_CORE_BASE_ADDR_H
#define PENFOLD_CORE_BASE_ADDR_H

#include "core/base/bytes.h"
#include "core/base/err.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
#endif

struct addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage storage;
	} u;
	socklen_t len; /* 0 = none */
};

#define ADDR_TEXT_BYTES 128 /* "unix:" and a path of 107 bytes and NUL is the longest */

/* ERR_SYNTAX: none of the three forms (a port is 0 to 65535, a path absolute and at most 107 bytes, without NUL). */
enum err addr_parse(struct slice text, struct addr *out) MUST_USE;
/* A copy of what the kernel gave; families other than the three, or too long: len 0. */
struct addr addr_from(const struct sockaddr *sa, socklen_t len);

/* The text form, NUL-terminated; returns its length.  An IPv4 address mapped into IPv6 is shown as IPv4; an unnamed local
 * peer is "unix:"; none at all is "-".  Bytes of a path other than printable ASCII become '?'. */
size_t addr_format(const struct addr *a, char out[ADDR_TEXT_BYTES]);
/* Without port and brackets ("127.0.0.1", "::1"); for local sockets the same as addr_format. */
size_t addr_format_host(const struct addr *a, char out[ADDR_TEXT_BYTES]);

bool addr_eq(const struct addr *a, const struct addr *b);
static inline bool addr_is_unix(const struct addr *a) { return a->len && a->u.sa.sa_family == AF_UNIX; }
/* 0 for local sockets. */
uint16_t addr_port(const struct addr *a);

#ifdef __cplusplus
}
#endif
#endif
