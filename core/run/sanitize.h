/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize.h - what the sanitizers have to be told, for core/run alone.
 *
 * FIBER_ASAN and FIBER_TSAN say which one this build has.  SEEN_BY_KERNEL and SEEN_FROM_KERNEL name an order between threads that goes
 * through the kernel, where ThreadSanitizer does not see it: what came before the one on some address has happened before what follows
 * the other.  Nothing in other builds.
 */
#ifndef PENFOLD_CORE_RUN_SANITIZE_H
#define PENFOLD_CORE_RUN_SANITIZE_H

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#define SEEN_BY_KERNEL(address) __tsan_release(address)
#define SEEN_FROM_KERNEL(address) __tsan_acquire(address)
#else
#define SEEN_BY_KERNEL(address) ((void)0)
#define SEEN_FROM_KERNEL(address) ((void)0)
#endif

#endif
