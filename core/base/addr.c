/* SPDX-License-Identifier: Apache-2.0 */
/* addr.c - see addr.h. */
#include "core/base/addr.h"

#include <arpa/inet.h>

static enum err parse_unix(struct slice path, struct addr *out)
{
	if (path.len == 0 || path.ptr[0] != '/' || path.len >= sizeof(out->u.un.sun_path) ||
	    memchr(path.ptr, 0, path.len))
		return ERR_SYNTAX;
	out->u.un.sun_family = AF_UNIX;
	memcpy(out->u.un.sun_path, path.ptr, path.len);
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
	return OK;
}

/* inet_pton wants a NUL; it takes only canonical numbers, so nothing longer than INET6_ADDRSTRLEN can be right. */
static bool parse_ip(int family, struct slice text, void *out)
{
	char z[INET6_ADDRSTRLEN];
	if (text.len >= sizeof(z) || slice_find(text, '\0') != SIZE_MAX)
		return false;
	if (text.len)
		memcpy(z, text.ptr, text.len);
	z[text.len] = '\0';
	return inet_pton(family, z, out) == 1;
}

enum err addr_parse(struct slice text, struct addr *out)
{
	memset(out, 0, sizeof(*out));
	struct slice prefix = SLICE_LIT("unix:");
	if (text.len >= prefix.len && slice_eq(slice_upto(text, prefix.len), prefix))
		return parse_unix(slice_from(text, prefix.len), out);

	size_t colon = slice_rfind(text, ':');
	uint64_t port = 0;
	if (colon == SIZE_MAX || text.len - colon > 6 || !slice_u64(slice_from(text, colon + 1), 65535, &port))
		return ERR_SYNTAX;
	struct slice host = slice_upto(text, colon);
	if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
		if (!parse_ip(AF_INET6, slice_of(host.ptr + 1, host.len - 2), &out->u.in6.sin6_addr))
			return ERR_SYNTAX;
		out->u.in6.sin6_family = AF_INET6;
		out->u.in6.sin6_port = htons((uint16_t)port);
		out->len = sizeof(out->u.in6);
		return OK;
	}
	if (!parse_ip(AF_INET, host, &out->u.in.sin_addr))
		return ERR_SYNTAX;
	out->u.in.sin_family = AF_INET;
	out->u.in.sin_port = htons((uint16_t)port);
	out->len = sizeof(out->u.in);
	return OK;
}

static socklen_t least_len(sa_family_t family)
{
	switch (family) {
	case AF_INET:
		return sizeof(struct sockaddr_in);
	case AF_INET6:
		return sizeof(struct sockaddr_in6);
	case AF_UNIX:
		return sizeof(sa_family_t);
	default:
		return 0;
	}
}

struct addr addr_from(const struct sockaddr *sa, socklen_t len)
{
	struct addr a;
	memset(&a, 0, sizeof(a));
	if (!sa || len < sizeof(sa_family_t) || len > sizeof(a.u) || !least_len(sa->sa_family) ||
	    len < least_len(sa->sa_family))
		return a;
	memcpy(&a.u, sa, len);
	a.len = len;
	return a;
}

/* Up to the NUL or the address's end; an abstract name begins with NUL and shows it as '@', as ss(8) does. */
static size_t format_unix(const struct addr *a, char *out)
{
	size_t at = 5, room = a->len - offsetof(struct sockaddr_un, sun_path);
	memcpy(out, "unix:", at);
	if (a->len <= offsetof(struct sockaddr_un, sun_path))
		room = 0;
	room = min_size(room, sizeof(a->u.un.sun_path));
	const char *path = a->u.un.sun_path;
	for (size_t i = 0; i < room; i++) {
		if (i == 0 && path[0] == '\0') {
			out[at++] = '@';
			continue;
		}
		if (path[i] == '\0')
			break;
		out[at++] = path[i] >= 0x20 && path[i] < 0x7f ? path[i] : '?';
	}
	if (at == 6 && out[5] == '@')
		at = 5;
	out[at] = '\0';
	return at;
}

static size_t format_none(char *out)
{
	memcpy(out, "-", 2);
	return 1;
}

static bool is_mapped(const struct addr *a)
{
	return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->u.in6.sin6_addr);
}

size_t addr_format_host(const struct addr *a, char out[ADDR_TEXT_BYTES])
{
	if (!a->len)
		return format_none(out);
	const void *from = &a->u.in6.sin6_addr;
	int family = a->u.sa.sa_family;
	if (family == AF_UNIX)
		return format_unix(a, out);
	if (is_mapped(a)) {
		family = AF_INET;
		from = a->u.in6.sin6_addr.s6_addr + 12;
	} else if (family == AF_INET) {
		from = &a->u.in.sin_addr;
	}
	return inet_ntop(family, from, out, ADDR_TEXT_BYTES) ? strlen(out) : format_none(out);
}

size_t addr_format(const struct addr *a, char out[ADDR_TEXT_BYTES])
{
	if (!a->len || a->u.sa.sa_family == AF_UNIX)
		return addr_format_host(a, out);
	bool brackets = a->u.sa.sa_family == AF_INET6 && !is_mapped(a);
	char host[ADDR_TEXT_BYTES];
	size_t host_len = addr_format_host(a, host), at = 0;
	if (brackets)
		out[at++] = '[';
	memcpy(out + at, host, host_len);
	at += host_len;
	if (brackets)
		out[at++] = ']';
	out[at++] = ':';
	at += put_u64(out + at, addr_port(a));
	out[at] = '\0';
	return at;
}

uint16_t addr_port(const struct addr *a)
{
	if (!a->len)
		return 0;
	if (a->u.sa.sa_family == AF_INET)
		return ntohs(a->u.in.sin_port);
	return a->u.sa.sa_family == AF_INET6 ? ntohs(a->u.in6.sin6_port) : 0;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	if (addr_is_unix(a) || addr_is_unix(b))
		return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0;
	char x[ADDR_TEXT_BYTES], y[ADDR_TEXT_BYTES];
	size_t xlen = addr_format(a, x), ylen = addr_format(b, y);
	return a->len && b->len && slice_eq(slice_of(x, xlen), slice_of(y, ylen));
}
