// Vectors whose memory starts on a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace llmspell {

inline constexpr std::size_t kCacheLine = 64;

template <class T>
struct CacheAligned {
    using value_type = T;
    CacheAligned() = default;
    template <class U>
    CacheAligned(const CacheAligned<U> &) {}
    T *allocate(std::size_t count) {
        return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t{kCacheLine}));
    }
    void deallocate(T *memory, std::size_t) { ::operator delete(memory, std::align_val_t{kCacheLine}); }
    friend bool operator==(const CacheAligned &, const CacheAligned &) { return true; }
};

template <class T>
using AlignedVector = std::vector<T, CacheAligned<T>>;

}  // namespace llmspell
