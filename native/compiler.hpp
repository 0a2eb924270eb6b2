// Where compilers differ: GCC and Clang, the latter also under Windows (clang-cl), and Microsoft's own.
#pragma once

#include <cstddef>

#if defined(__GNUC__) || defined(__clang__)
#define LLMSPELL_INLINE inline __attribute__((always_inline))
#define LLMSPELL_TARGET(features) __attribute__((target(features)))
#else
#define LLMSPELL_INLINE __forceinline
#define LLMSPELL_TARGET(features)  // it takes every intrinsic everywhere, and makes plain loops for the oldest processor
#endif

#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define LLMSPELL_X86 1
#endif

#if defined(LLMSPELL_X86) && !defined(__GNUC__) && !defined(__clang__)
#include <xmmintrin.h>
#endif

namespace llmspell {

// Asks for memory ahead of its use. Forced inline, as whatever only calls it must be: a function that does nothing but
// ask is, to GCC, one without effect, and it drops the call.
LLMSPELL_INLINE void prefetch([[maybe_unused]] const void *memory) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(memory);
#elif defined(LLMSPELL_X86)
    _mm_prefetch(static_cast<const char *>(memory), _MM_HINT_T0);
#endif
}

LLMSPELL_INLINE void prefetch(const void *memory, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += 64) prefetch(static_cast<const char *>(memory) + at);
}

}  // namespace llmspell
