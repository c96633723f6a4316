/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - what every file of the house may rely on: integer types, assertions, and a handful of macros.
 *
 * ASSERT states what *we* did; it is never about bytes that a client sent or a disk returned.  It stays on in release:
 * a server that goes on with a broken promise loses mail.  A failed assertion prints where and aborts.
 *
 * Owns nothing, allocates nothing.
 */
#ifndef PENFOLD_CORE_BASE_BASE_H
#define PENFOLD_CORE_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define static_assert_c static_assert
#else
#define static_assert_c _Static_assert
#endif

/* Prints "file:line: assertion failed: text" to standard error and aborts.  Never returns. */
__attribute__((noreturn, cold)) void assert_failed(const char *file, int line, const char *text);

#define ASSERT(cond) (__builtin_expect(!(cond), 0) ? assert_failed(__FILE__, __LINE__, #cond) : (void)0)
#define UNREACHABLE() assert_failed(__FILE__, __LINE__, "unreachable")

/* Costly checks, in debug builds only (make DEBUG=1). */
#ifdef PENFOLD_DEBUG
#define ASSERT_SLOW(cond) ASSERT(cond)
#else
#define ASSERT_SLOW(cond) ((void)sizeof(!(cond)))
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* The struct that holds a member; of a const member too. */
#define CONTAINER_OF(ptr, type, member) ((type *)((uintptr_t)(ptr)-offsetof(type, member)))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define MUST_USE __attribute__((warn_unused_result))

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Allocation that cannot fail: prints and aborts when the system has no memory.  Sizes come from limits.h, so that no
 * client can make one of these large.  Free with free(). */
void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));

#ifdef __cplusplus
}
#endif
#endif
