/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.c - slices and the growing buffer. */
#include "core/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static inline unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;
	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

bool slice_eq_nocase(struct slice a, struct slice b) { return a.len == b.len && slice_starts_nocase(a, b); }

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
	if (s.len < prefix.len)
		return false;
	for (size_t i = 0; i < prefix.len; i++)
		if (lower(s.ptr[i]) != lower(prefix.ptr[i]))
			return false;
	return true;
}

int slice_cmp(struct slice a, struct slice b)
{
	size_t n = min_size(a.len, b.len);
	int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
	if (order)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

size_t slice_find(struct slice s, char c)
{
	const char *hit = s.len ? memchr(s.ptr, c, s.len) : NULL;
	return hit ? (size_t)(hit - s.ptr) : SIZE_MAX;
}

size_t slice_rfind(struct slice s, char c)
{
	const char *hit = s.len ? memrchr(s.ptr, c, s.len) : NULL;
	return hit ? (size_t)(hit - s.ptr) : SIZE_MAX;
}

struct slice slice_from(struct slice s, size_t start)
{
	start = min_size(start, s.len);
	return slice_of(start ? s.ptr + start : s.ptr, s.len - start);
}

struct slice slice_upto(struct slice s, size_t len) { return slice_of(s.ptr, min_size(len, s.len)); }

static inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

struct slice slice_trim(struct slice s)
{
	while (s.len && is_blank(s.ptr[0]))
		s = slice_from(s, 1);
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool slice_next(struct slice *rest_io, char sep, struct slice *word_out)
{
	if (rest_io->len == 0)
		return false;
	size_t at = slice_find(*rest_io, sep);
	*word_out = slice_upto(*rest_io, at);
	*rest_io = slice_from(*rest_io, at == SIZE_MAX ? at : at + 1);
	return true;
}

bool slice_u64(struct slice s, uint64_t max, uint64_t *value_out)
{
	uint64_t value = 0;
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';
		if (digit > 9 || value > UINT64_MAX / 10 || value * 10 > UINT64_MAX - digit)
			return false;
		value = value * 10 + digit;
	}
	if (value > max)
		return false;
	*value_out = value;
	return true;
}

char *slice_dup(struct slice s)
{
	char *copy = xmalloc(s.len + 1);
	for (size_t i = 0; i < s.len; i++)
		copy[i] = s.ptr[i] ? s.ptr[i] : '?';
	copy[s.len] = '\0';
	return copy;
}

bool slice_eq_consttime(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	/* volatile: the compiler may not leave the loop at the first difference */
	volatile unsigned char differ = 0;
	for (size_t i = 0; i < a.len; i++)
		differ = (unsigned char)(differ | ((unsigned char)a.ptr[i] ^ (unsigned char)b.ptr[i]));
	return differ == 0;
}

static const uint64_t ten_to[20] = {
	1u,
	10u,
	100u,
	1000u,
	10000u,
	100000u,
	1000000u,
	10000000u,
	100000000u,
	1000000000u,
	10000000000u,
	100000000000u,
	1000000000000u,
	10000000000000u,
	100000000000000u,
	1000000000000000u,
	10000000000000000u,
	100000000000000000u,
	1000000000000000000u,
	10000000000000000000u,
};

/* 1233 / 4096 is log10(2), a little below; the table settles the rest. */
static size_t decimal_digits(uint64_t value)
{
	unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
	unsigned guess = bits * 1233 >> 12;
	return guess + (value >= ten_to[guess]) + (value == 0);
}

/* LIST and UIDL of a large maildrop are mostly numbers: two digits a division, straight into their place. */
size_t put_u64(char *out, uint64_t value)
{
	static const char pair[] =
		"00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
		"49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
		"9899";
	size_t digits = decimal_digits(value);
	char *at = out + digits;
	for (; value >= 100; value /= 100) {
		at -= 2;
		memcpy(at, pair + 2 * (value % 100), 2);
	}
	if (value >= 10)
		memcpy(at - 2, pair + 2 * value, 2);
	else
		at[-1] = (char)('0' + value);
	return digits;
}

void put_hex32(char *out, uint32_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 4)
		out[i] = "0123456789abcdef"[value & 15];
}

/* ---- buf: memory is cap + 1 bytes, so that buf_printf's NUL fits without counting ---- */

void buf_init(struct buf *b, size_t max)
{
	ASSERT(max < SIZE_MAX / 2);
	*b = (struct buf){ .max = max };
}

void buf_release(struct buf *b)
{
	free(b->ptr);
	*b = (struct buf){ .max = b->max };
}

char *buf_room(struct buf *b, size_t len)
{
	if (len > b->max - b->len)
		return NULL;
	size_t need = b->len + len;
	if (need > b->cap || !b->ptr) {
		size_t cap = max_size(need, min_size(b->max, max_size(64, b->cap * 2)));
		b->ptr = xrealloc(b->ptr, cap + 1);
		b->cap = cap;
	}
	return b->ptr + b->len;
}

bool buf_put(struct buf *b, const void *ptr, size_t len)
{
	char *room = buf_room(b, len);
	if (!room)
		return false;
	if (len)
		memcpy(room, ptr, len);
	b->len += len;
	return true;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	ASSERT(len >= 0);
	char *room = buf_room(b, (size_t)len);
	if (!room)
		return false;
	va_start(args, fmt);
	vsnprintf(room, (size_t)len + 1, fmt, args);
	va_end(args);
	b->len += (size_t)len;
	return true;
}
