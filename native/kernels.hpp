// The inner loops, in the best instruction set this processor has.
//
// Rows are padded with zeros to a multiple of `kLane` values and codes to whole blocks, so no kernel has a tail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "compiler.hpp"

namespace llmspell {

inline constexpr std::size_t kLane = 16;         // values a padded row is a multiple of
inline constexpr std::size_t kBlock = 64;        // values in a block of a code
inline constexpr std::size_t kBlockBytes = 32;   // a code holds two values a byte

inline constexpr std::size_t padded(std::size_t dimensions) { return (dimensions + kLane - 1) / kLane * kLane; }
inline constexpr std::size_t blocks_of(std::size_t dimensions) { return (dimensions + kBlock - 1) / kBlock; }

using Half = std::uint16_t;  // the bits of an IEEE 754 binary16

// What turning values into a query of 8 bits finds out on the way.
struct Rounded {
    float scale = 0.0F;     // a weight is about its 8 bits times this
    float sum = 0.0F;       // of the 8-bit values
    float error = 0.0F;     // length of what rounding took from the weights
};

struct Kernels {
    const char *name;
    // Inner product and squared distance of two padded rows of `n` values.
    float (*dot)(const float *, const float *, std::size_t n);
    float (*squared_l2)(const float *, const float *, std::size_t n);
    float (*dot_half)(const float *, const Half *, std::size_t n);
    float (*squared_l2_half)(const float *, const Half *, std::size_t n);
    // Inner products of a query of 8-bit values with `count` codes; block by block first the query's values for the low
    // halves of the code's bytes, then those for the high ones.
    void (*code_dots)(const std::int8_t *query, const std::uint8_t *const *codes, std::size_t count, std::size_t blocks,
                      std::int32_t *out);
    // weights[i] = a[i] * b[i]; returns the sum of a[i] * c[i].
    float (*weigh)(const float *a, const float *b, const float *c, float *weights, std::size_t n);
    // Rounds `n` weights to 8 bits.
    Rounded (*round_weights)(const float *weights, std::int8_t *out, std::size_t n);
    // The values low[i] + step[i] * c[i] that a code stands for.
    void (*decode)(const std::uint8_t *code, const float *low, const float *step, float *out, std::size_t blocks);
    // The code of the row nearest to it; `inverse` is 1 / step.
    void (*encode)(const float *row, const float *low, const float *inverse, std::uint8_t *code, std::size_t blocks);
    // To and from binary16.
    void (*narrow)(const float *, Half *, std::size_t n);
    void (*widen)(const Half *, float *, std::size_t n);
    // CRC-32C (Castagnoli) of bytes that follow those of which `before` is the checksum; 0 to begin.
    std::uint32_t (*crc32c)(std::uint32_t before, const void *data, std::size_t bytes);
    // How many bits are set in both of two rows of `n` words.
    std::uint64_t (*count_both)(const std::uint64_t *, const std::uint64_t *, std::size_t n);
};

// The kernels in use: the widest the processor has, unless a test has chosen others.
const Kernels &kernels();

// Names of all kernels this processor can run, widest first.
std::vector<std::string> kernel_names();

// Use the named kernels from now on, in every index; throws std::invalid_argument for an unknown name.
void use_kernels(const std::string &name);

}  // namespace llmspell
