// Distances between float32 vectors, in the best instruction set this processor has.
//
// Rows are padded with zeros to a multiple of `kLane` floats, so no kernel has a tail.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace llmspell {

inline constexpr std::size_t kLane = 16;

inline constexpr std::size_t padded(std::size_t dimensions) {
    return (dimensions + kLane - 1) / kLane * kLane;
}

// Both take padded rows of `n` floats.
struct Kernels {
    const char *name;
    float (*dot)(const float *, const float *, std::size_t n);
    float (*squared_l2)(const float *, const float *, std::size_t n);
};

// The kernels in use: the widest the processor has, unless a test has chosen others.
const Kernels &kernels();

// Asks for a row's first cache line ahead of its use.
inline void prefetch([[maybe_unused]] const float *row) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(row);
#endif
}

// Names of all kernels this processor can run, widest first.
std::vector<std::string> kernel_names();

// Use the named kernels from now on, in every index; throws std::invalid_argument for an unknown name.
void use_kernels(const std::string &name);

}  // namespace llmspell
