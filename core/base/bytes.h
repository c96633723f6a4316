/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - slices: {pointer, length}, the way bytes travel in this house.
 *
 * A slice owns nothing; whoever made it says how long it lives.  Nothing here needs or writes a terminating NUL, and
 * bytes of a client may hold anything, NUL and 8-bit included.
 */
#ifndef PENFOLD_CORE_BASE_BYTES_H
#define PENFOLD_CORE_BASE_BYTES_H

#include "core/base/base.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct slice {
	const char *ptr;
	size_t len;
};

/* printf("%.*s", SLICE_ARG(s)); only for bytes known to be printable. */
#define SLICE_ARG(s) (int)(s).len, (s).ptr

static inline struct slice slice_of(const void *ptr, size_t len)
{
	struct slice s = { (const char *)ptr, len };
	return s;
}
static inline struct slice slice_str(const char *z) { return slice_of(z, z ? strlen(z) : 0); }
#define SLICE_LIT(lit) slice_of("" lit, sizeof(lit) - 1)

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Equal but for ASCII case. */
bool slice_eq_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice s, struct slice prefix);
int slice_cmp(struct slice a, struct slice b); /* bytewise, shorter first on a tie */

/* Position of a byte, or SIZE_MAX. */
size_t slice_find(struct slice s, char c);
size_t slice_rfind(struct slice s, char c);
struct slice slice_from(struct slice s, size_t start); /* s without its first `start` bytes (clamped) */
struct slice slice_upto(struct slice s, size_t len);   /* the first len bytes (clamped) */
struct slice slice_trim(struct slice s);               /* without SP and TAB at both ends */

/* The next word up to `sep`; *rest_io moves behind the separator. False when nothing is left. */
bool slice_next(struct slice *rest_io, char sep, struct slice *word_out);

/* A decimal number, digits only, no sign, at least one digit; false if empty, other bytes, or above `max`. */
bool slice_u64(struct slice s, uint64_t max, uint64_t *value_out);

/* A NUL-terminated copy by xmalloc; NULs inside become '?'. The caller frees. */
char *slice_dup(struct slice s);

/* Compares in time that depends on the lengths only. */
bool slice_eq_consttime(struct slice a, struct slice b);

/* Writes a number's decimal digits, returns how many (at most 20). No NUL. */
size_t put_u64(char *out, uint64_t value);
/* Writes exactly 8 lower-case hex digits. */
void put_hex32(char *out, uint32_t value);

/* Little-endian loads and stores for on-disk bytes, any alignment. */
static inline uint16_t get_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, 2);
	return v;
}
static inline uint32_t get_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return v;
}
static inline uint64_t get_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}
static inline void put_le16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void put_le32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void put_le64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static_assert_c(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
		"on-disk integers are little-endian; big-endian hosts need swaps here");

/* A growing byte buffer with a maximum given at birth. */
struct buf {
	char *ptr;
	size_t len, cap, max;
};
void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
bool buf_put(struct buf *b, const void *ptr, size_t len); /* false, and nothing changed, above max */
bool buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *buf_room(struct buf *b, size_t len); /* space for len more bytes, not yet counted; NULL above max */
static inline void buf_clear(struct buf *b) { b->len = 0; }
static inline struct slice buf_slice(const struct buf *b) { return slice_of(b->ptr, b->len); }

#ifdef __cplusplus
}
#endif
#endif
