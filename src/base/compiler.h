// SPDX-License-Identifier: MIT
// Words the compiler understands: branch hints, small arithmetic, clang's lock annotations,
// and the sanitizers in use.
#ifndef GODWIT_BASE_COMPILER_H
#define GODWIT_BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define must_check __attribute__((warn_unused_result))
#define maybe_unused __attribute__((unused))
#define noinline __attribute__((noinline))
#define cold __attribute__((cold))
#define printf_format(fmt, args) __attribute__((format(printf, fmt, args)))
#define fallthrough __attribute__((fallthrough))

#define container_of(ptr, type, member)                                                            \
	((type *)(uintptr_t)((const char *)(ptr) - offsetof(type, member)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

// Each argument is evaluated once; nesting is allowed, hence the unique names.
#define min(a, b) CHOOSE_LESS(a, b, __COUNTER__)
#define max(a, b) CHOOSE_MORE(a, b, __COUNTER__)
#define CHOOSE_LESS(a, b, id) CHOOSE(a, b, <, JOIN(choose_a_, id), JOIN(choose_b_, id))
#define CHOOSE_MORE(a, b, id) CHOOSE(a, b, >, JOIN(choose_a_, id), JOIN(choose_b_, id))
#define CHOOSE(a, b, op, ua, ub)                                                                   \
	__extension__({                                                                            \
		__auto_type ua = (a);                                                              \
		__auto_type ub = (b);                                                              \
		ua op ub ? ua : ub;                                                                \
	})
#define JOIN(a, b) JOIN_EXPANDED(a, b)
#define JOIN_EXPANDED(a, b) a##b

// The alignment is a power of two.
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + ((__typeof__(x))(a)-1), a)
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a)-1)) == 0)
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))

// clang's -Wthread-safety; in clang 14 they work on functions and parameters, not on members.
#ifdef __clang__
#define THREAD_ANNOTATION(x) __attribute__((x))
#else
#define THREAD_ANNOTATION(x)
#endif
#define CAPABILITY(name) THREAD_ANNOTATION(capability(name))
#define REQUIRES(...) THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) THREAD_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define ACQUIRE(...) THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) THREAD_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) THREAD_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE_SHARED(...) THREAD_ANNOTATION(try_acquire_shared_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(...) THREAD_ANNOTATION(assert_capability(__VA_ARGS__))
#define ASSERT_SHARED_CAPABILITY(...) THREAD_ANNOTATION(assert_shared_capability(__VA_ARGS__))
#define EXCLUDES(...) THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS THREAD_ANNOTATION(no_thread_safety_analysis)

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define HAVE_TSAN 1
#else
#define HAVE_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define HAVE_ASAN 1
void __asan_poison_memory_region(void const volatile *p, size_t size);
void __asan_unpoison_memory_region(void const volatile *p, size_t size);
#define ASAN_POISON(p, size) __asan_poison_memory_region((p), (size))
#define ASAN_UNPOISON(p, size) __asan_unpoison_memory_region((p), (size))
#else
#define HAVE_ASAN 0
#define ASAN_POISON(p, size) ((void)(p), (void)(size))
#define ASAN_UNPOISON(p, size) ((void)(p), (void)(size))
#endif

#endif
