#include "kernels.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "processor.hpp"

#ifdef LLMSPELL_X86
#include <immintrin.h>
#define LLMSPELL_AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#endif

// Most kernels have one body for all instruction sets: the compiler turns the fixed-width inner loops into the vector
// registers of the function they are inlined into. Only what it does not find by itself is written by hand.
namespace llmspell {
namespace {

// --- binary16 -------------------------------------------------------------------------------------------------------

LLMSPELL_INLINE float widened(Half half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
    const std::uint32_t rest = half & 0x7FFF;
    // The exponent's bias differs by 112; a product by 2^112 also makes subnormals right. Infinities stay aside: no row
    // holds one.
    const float scaled = std::bit_cast<float>(rest << 13) * 0x1p112F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | sign);
}

// To the nearest, ties to even; what is too large becomes the largest finite value.
LLMSPELL_INLINE Half narrowed(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits >> 16 & 0x8000;
    const float size = std::min(std::bit_cast<float>(bits & 0x7FFF'FFFF), 65504.0F);
    if (size < 0x1p-14F) {  // subnormal: the unit is 2^-24
        return static_cast<Half>(sign | (std::bit_cast<std::uint32_t>(size + 0.5F) - std::bit_cast<std::uint32_t>(0.5F)));
    }
    std::uint32_t word = std::bit_cast<std::uint32_t>(size);
    word += 0xFFF + (word >> 13 & 1);
    return static_cast<Half>(sign | std::min<std::uint32_t>((word >> 13) - (112U << 10), 0x7BFF));
}

void narrow_plain(const float *from, Half *to, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) to[i] = narrowed(from[i]);
}

void widen_plain(const Half *from, float *to, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) to[i] = widened(from[i]);
}

// --- rows -----------------------------------------------------------------------------------------------------------

LLMSPELL_INLINE float halved(float *even) {
    // By constant bounds: a loop over the halves would spill the sums to memory (25 ns of 58).
    for (std::size_t j = 0; j < 8; ++j) even[j] += even[j + 8];
    for (std::size_t j = 0; j < 4; ++j) even[j] += even[j + 4];
    return (even[0] + even[2]) + (even[1] + even[3]);
}

// Two independent groups of sums hide the latency of the additions.
template <class Term>
LLMSPELL_INLINE float sum(const float *a, const float *b, std::size_t n, Term term) {
    float even[kLane] = {};
    float odd[kLane] = {};
    std::size_t i = 0;
    for (; i + 2 * kLane <= n; i += 2 * kLane) {
        for (std::size_t j = 0; j < kLane; ++j) even[j] += term(a[i + j], b[i + j]);
        for (std::size_t j = 0; j < kLane; ++j) odd[j] += term(a[i + kLane + j], b[i + kLane + j]);
    }
    if (i < n) {
        for (std::size_t j = 0; j < kLane; ++j) even[j] += term(a[i + j], b[i + j]);
    }
    for (std::size_t j = 0; j < kLane; ++j) even[j] += odd[j];
    return halved(even);
}

template <class Term>
LLMSPELL_INLINE float sum_half(const float *a, const Half *b, std::size_t n, Term term) {
    float sums[kLane] = {};
    for (std::size_t i = 0; i < n; i += kLane) {
        for (std::size_t j = 0; j < kLane; ++j) sums[j] += term(a[i + j], widened(b[i + j]));
    }
    return halved(sums);
}

struct Product {
    LLMSPELL_INLINE float operator()(float x, float y) const { return x * y; }
};

struct SquaredDifference {
    LLMSPELL_INLINE float operator()(float x, float y) const { return (x - y) * (x - y); }
};

// --- codes ----------------------------------------------------------------------------------------------------------

LLMSPELL_INLINE float weigh(const float *a, const float *b, const float *c, float *weights, std::size_t n) {
    float sums[kLane] = {};
    for (std::size_t i = 0; i < n; i += kLane) {
        for (std::size_t j = 0; j < kLane; ++j) {
            weights[i + j] = a[i + j] * b[i + j];
            sums[j] += a[i + j] * c[i + j];
        }
    }
    return halved(sums);
}

// Of weights so small that the inverse of the largest is no number.
Rounded round_to_nothing(float largest, std::int8_t *out, std::size_t n) {
    std::fill(out, out + n, std::int8_t{0});
    return {0.0F, 0.0F, largest * std::sqrt(static_cast<float>(n))};
}

constexpr float kLeastWeight = 0x1p-100F;

Rounded round_weights_plain(const float *weights, std::int8_t *out, std::size_t n) {
    float largest = 0.0F;
    for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(weights[i]));
    if (!(largest > kLeastWeight)) return round_to_nothing(largest, out, n);
    Rounded result;
    result.scale = largest / 127.0F;
    const float inverse = 127.0F / largest;
    constexpr float kMagic = 0x1.8p23F;  // added and taken away, it rounds to an integer
    float sums[kLane] = {};
    float errors[kLane] = {};
    for (std::size_t i = 0; i < n; i += kLane) {
        for (std::size_t j = 0; j < kLane; ++j) {
            const float exact = weights[i + j] * inverse;
            const float whole = (exact + kMagic) - kMagic;
            sums[j] += whole;
            errors[j] += (exact - whole) * (exact - whole);
            out[i + j] = static_cast<std::int8_t>(static_cast<std::int32_t>(whole));
        }
    }
    result.sum = halved(sums);
    result.error = result.scale * std::sqrt(halved(errors));
    return result;
}

LLMSPELL_INLINE void decode(const std::uint8_t *code, const float *low, const float *step, float *out,
                            std::size_t blocks) {
    for (std::size_t block = 0; block < blocks; ++block) {
        for (std::size_t j = 0; j < kBlockBytes; ++j) {
            out[j] = low[j] + step[j] * static_cast<float>(code[j] & 15);
            out[j + kBlockBytes] = low[j + kBlockBytes] + step[j + kBlockBytes] * static_cast<float>(code[j] >> 4);
        }
        code += kBlockBytes;
        low += kBlock;
        step += kBlock;
        out += kBlock;
    }
}

LLMSPELL_INLINE std::int32_t nearest_level(float value, float low, float inverse) {
    return static_cast<std::int32_t>(std::min(std::max((value - low) * inverse, 0.0F), 15.0F) + 0.5F);
}

LLMSPELL_INLINE void encode(const float *row, const float *low, const float *inverse, std::uint8_t *code,
                            std::size_t blocks) {
    for (std::size_t block = 0; block < blocks; ++block) {
        for (std::size_t j = 0; j < kBlockBytes; ++j) {
            const std::size_t high = j + kBlockBytes;
            code[j] = static_cast<std::uint8_t>(nearest_level(row[j], low[j], inverse[j]) |
                                                nearest_level(row[high], low[high], inverse[high]) << 4);
        }
        code += kBlockBytes;
        low += kBlock;
        inverse += kBlock;
        row += kBlock;
    }
}

void code_dots_plain(const std::int8_t *query, const std::uint8_t *const *codes, std::size_t count, std::size_t blocks,
                     std::int32_t *out) {
    for (std::size_t one = 0; one < count; ++one) {
        std::int32_t total = 0;
        for (std::size_t block = 0; block < blocks; ++block) {
            const std::uint8_t *code = codes[one] + block * kBlockBytes;
            const std::int8_t *values = query + block * kBlock;
            for (std::size_t j = 0; j < kBlockBytes; ++j) {
                total += (code[j] & 15) * values[j] + (code[j] >> 4) * values[j + kBlockBytes];
            }
        }
        out[one] = total;
    }
}

#ifdef LLMSPELL_X86
// A byte times a byte, two products to a sum of 16 bits: at most 2 x 15 x 127, so eight such sums stay below 2^15.
LLMSPELL_TARGET("avx2,fma,f16c")
LLMSPELL_INLINE __m256i block_dots(const __m256i *query, const __m256i *code) {
    const __m256i low_halves = _mm256_set1_epi8(15);
    const __m256i both = _mm256_load_si256(code);
    const __m256i low = _mm256_and_si256(both, low_halves);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_halves);
    return _mm256_add_epi16(_mm256_maddubs_epi16(low, _mm256_load_si256(query)),
                            _mm256_maddubs_epi16(high, _mm256_load_si256(query + 1)));
}

// The sum of eight integers.
LLMSPELL_TARGET("avx2,fma,f16c")
LLMSPELL_INLINE std::int32_t summed(__m256i values) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

LLMSPELL_TARGET("avx2,fma,f16c")
void code_dots_avx2(const std::int8_t *query, const std::uint8_t *const *codes, std::size_t count, std::size_t blocks,
                    std::int32_t *out) {
    const __m256i ones = _mm256_set1_epi16(1);
    const auto *values = reinterpret_cast<const __m256i *>(query);
    for (std::size_t one = 0; one < count; ++one) {
        const auto *code = reinterpret_cast<const __m256i *>(codes[one]);
        __m256i total = _mm256_setzero_si256();
        std::size_t block = 0;
        for (; block + 2 <= blocks; block += 2) {
            const __m256i two = _mm256_add_epi16(block_dots(values + 2 * block, code + block),
                                                 block_dots(values + 2 * block + 2, code + block + 1));
            total = _mm256_add_epi32(total, _mm256_madd_epi16(two, ones));
        }
        if (block < blocks) {
            total = _mm256_add_epi32(total, _mm256_madd_epi16(block_dots(values + 2 * block, code + block), ones));
        }
        out[one] = summed(total);
    }
}

// Bytes times bytes, four products to a sum of 32 bits, in one instruction.
LLMSPELL_TARGET(LLMSPELL_AVX512)
void code_dots_avx512(const std::int8_t *query, const std::uint8_t *const *codes, std::size_t count, std::size_t blocks,
                      std::int32_t *out) {
    const __m256i low_halves = _mm256_set1_epi8(15);
    const auto *values = reinterpret_cast<const __m256i *>(query);
    for (std::size_t one = 0; one < count; ++one) {
        const auto *code = reinterpret_cast<const __m256i *>(codes[one]);
        __m256i low = _mm256_setzero_si256();
        __m256i high = _mm256_setzero_si256();
        for (std::size_t block = 0; block < blocks; ++block) {
            const __m256i both = _mm256_load_si256(code + block);
            const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_halves);
            low = _mm256_dpbusd_epi32(low, _mm256_and_si256(both, low_halves), _mm256_load_si256(values + 2 * block));
            high = _mm256_dpbusd_epi32(high, upper, _mm256_load_si256(values + 2 * block + 1));
        }
        out[one] = summed(_mm256_add_epi32(low, high));
    }
}

// The sum of eight values.
LLMSPELL_TARGET("avx2,fma,f16c")
LLMSPELL_INLINE float summed(__m256 values) {
    alignas(32) float sums[8];
    _mm256_store_ps(sums, values);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// By hand, for the compiler leaves it at one value at a time (700 ns instead of 90 for 384).
LLMSPELL_TARGET("avx2,fma,f16c")
Rounded round_weights_avx2(const float *weights, std::int8_t *out, std::size_t n) {
    const __m256 without_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFF'FFFF));
    __m256 most = _mm256_setzero_ps();
    for (std::size_t i = 0; i < n; i += 8) most = _mm256_max_ps(most, _mm256_and_ps(_mm256_load_ps(weights + i), without_sign));
    alignas(32) float eight[8];
    _mm256_store_ps(eight, most);
    const float largest = *std::max_element(eight, eight + 8);
    if (!(largest > kLeastWeight)) return round_to_nothing(largest, out, n);
    const __m256 inverse = _mm256_set1_ps(127.0F / largest);
    __m256 sums = _mm256_setzero_ps();
    __m256 errors = _mm256_setzero_ps();
    for (std::size_t i = 0; i < n; i += 16) {
        const __m256 exact0 = _mm256_mul_ps(_mm256_load_ps(weights + i), inverse);
        const __m256 exact1 = _mm256_mul_ps(_mm256_load_ps(weights + i + 8), inverse);
        const __m256i whole0 = _mm256_cvtps_epi32(exact0);
        const __m256i whole1 = _mm256_cvtps_epi32(exact1);
        const __m256 off0 = _mm256_sub_ps(exact0, _mm256_cvtepi32_ps(whole0));
        const __m256 off1 = _mm256_sub_ps(exact1, _mm256_cvtepi32_ps(whole1));
        sums = _mm256_add_ps(sums, _mm256_cvtepi32_ps(_mm256_add_epi32(whole0, whole1)));
        errors = _mm256_fmadd_ps(off0, off0, _mm256_fmadd_ps(off1, off1, errors));
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(whole0, whole1), 0xD8);
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_store_si128(reinterpret_cast<__m128i *>(out + i), bytes);
    }
    const float scale = largest / 127.0F;
    return {scale, summed(sums), scale * std::sqrt(summed(errors))};
}

LLMSPELL_TARGET("avx2,fma,f16c")
void narrow_avx2(const float *from, Half *to, std::size_t n) {
    const __m256 most = _mm256_set1_ps(65504.0F);
    const __m256 least = _mm256_set1_ps(-65504.0F);
    for (std::size_t i = 0; i < n; i += 8) {
        const __m256 value = _mm256_max_ps(_mm256_min_ps(_mm256_loadu_ps(from + i), most), least);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    }
}

LLMSPELL_TARGET("avx2,fma,f16c")
void widen_avx2(const Half *from, float *to, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i))));
    }
}

template <class Term>
LLMSPELL_TARGET("avx2,fma,f16c")
float sum_half_avx2(const float *a, const Half *b, std::size_t n, Term term) {
    __m256 even = _mm256_setzero_ps();
    __m256 odd = _mm256_setzero_ps();
    for (std::size_t i = 0; i < n; i += 16) {
        const __m256 first = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b + i)));
        const __m256 second = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b + i + 8)));
        even = term(even, _mm256_loadu_ps(a + i), first);
        odd = term(odd, _mm256_loadu_ps(a + i + 8), second);
    }
    return summed(_mm256_add_ps(even, odd));
}

struct AddProduct {
    LLMSPELL_TARGET("avx2,fma,f16c") __m256 operator()(__m256 sum, __m256 x, __m256 y) const {
        return _mm256_fmadd_ps(x, y, sum);
    }
};

struct AddSquaredDifference {
    LLMSPELL_TARGET("avx2,fma,f16c") __m256 operator()(__m256 sum, __m256 x, __m256 y) const {
        const __m256 difference = _mm256_sub_ps(x, y);
        return _mm256_fmadd_ps(difference, difference, sum);
    }
};
#endif

// --- checksums ------------------------------------------------------------------------------------------------------

// Eight tables: the i-th for a byte that i further ones follow.
struct Crc32cTables {
    constexpr Crc32cTables() {
        for (std::uint32_t byte = 0; byte < 256; ++byte) {
            std::uint32_t rest = byte;
            for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ ((rest & 1) != 0 ? 0x82F63B78 : 0);
            of[0][byte] = rest;
        }
        for (std::size_t i = 1; i < 8; ++i) {
            for (std::uint32_t byte = 0; byte < 256; ++byte) of[i][byte] = of[i - 1][byte] >> 8 ^ of[0][of[i - 1][byte] & 255];
        }
    }
    std::uint32_t of[8][256] = {};
};

std::uint32_t crc32c_plain(std::uint32_t before, const void *data, std::size_t bytes) {
    static constexpr Crc32cTables tables;
    const auto *at = static_cast<const std::uint8_t *>(data);
    std::uint32_t rest = ~before;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, sizeof word);
        word ^= rest;
        rest = 0;
        for (std::size_t i = 0; i < 8; ++i) rest ^= tables.of[7 - i][word >> (8 * i) & 255];
    }
    for (; bytes > 0; --bytes, ++at) rest = rest >> 8 ^ tables.of[0][(rest ^ *at) & 255];
    return ~rest;
}

#ifdef LLMSPELL_X86
LLMSPELL_TARGET("sse4.2,crc32")  // to Clang, the second does not come with the first
std::uint32_t crc32c_sse42(std::uint32_t before, const void *data, std::size_t bytes) {
    const auto *at = static_cast<const std::uint8_t *>(data);
    std::uint64_t rest = ~before;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, sizeof word);
        rest = _mm_crc32_u64(rest, word);
    }
    for (; bytes > 0; --bytes, ++at) rest = _mm_crc32_u8(static_cast<std::uint32_t>(rest), *at);
    return ~static_cast<std::uint32_t>(rest);
}
#endif

// --- bits -----------------------------------------------------------------------------------------------------------

LLMSPELL_INLINE std::uint64_t count_both(const std::uint64_t *a, const std::uint64_t *b, std::size_t n) {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < n; ++i) count += static_cast<std::uint64_t>(std::popcount(a[i] & b[i]));
    return count;
}

std::uint64_t count_both_plain(const std::uint64_t *a, const std::uint64_t *b, std::size_t n) { return count_both(a, b, n); }

#ifdef LLMSPELL_X86
LLMSPELL_TARGET("popcnt")
std::uint64_t count_both_popcnt(const std::uint64_t *a, const std::uint64_t *b, std::size_t n) { return count_both(a, b, n); }
#endif

// --- the sets of kernels --------------------------------------------------------------------------------------------

// The bodies above, compiled for one instruction set.
#define LLMSPELL_KERNELS(suffix, target)                                                                              \
    target float dot_##suffix(const float *a, const float *b, std::size_t n) { return sum(a, b, n, Product{}); }      \
    target float l2_##suffix(const float *a, const float *b, std::size_t n) {                                         \
        return sum(a, b, n, SquaredDifference{});                                                                     \
    }                                                                                                                 \
    target float weigh_##suffix(const float *a, const float *b, const float *c, float *weights, std::size_t n) {      \
        return weigh(a, b, c, weights, n);                                                                            \
    }                                                                                                                 \
    target void decode_##suffix(const std::uint8_t *code, const float *low, const float *step, float *out,            \
                                std::size_t blocks) {                                                                 \
        decode(code, low, step, out, blocks);                                                                         \
    }                                                                                                                 \
    target void encode_##suffix(const float *row, const float *low, const float *inverse, std::uint8_t *code,         \
                                std::size_t blocks) {                                                                 \
        encode(row, low, inverse, code, blocks);                                                                      \
    }

LLMSPELL_KERNELS(plain, )

float dot_half_plain(const float *a, const Half *b, std::size_t n) { return sum_half(a, b, n, Product{}); }
float l2_half_plain(const float *a, const Half *b, std::size_t n) { return sum_half(a, b, n, SquaredDifference{}); }

constexpr Kernels kPlain{"plain",         dot_plain,           l2_plain,     dot_half_plain, l2_half_plain, code_dots_plain,
                         weigh_plain,     round_weights_plain, decode_plain, encode_plain,   narrow_plain,  widen_plain,
                         crc32c_plain,    count_both_plain};

#ifdef LLMSPELL_X86
LLMSPELL_KERNELS(avx2, LLMSPELL_TARGET("avx2,fma,f16c"))

LLMSPELL_TARGET("avx2,fma,f16c")
float dot_half_avx2(const float *a, const Half *b, std::size_t n) { return sum_half_avx2(a, b, n, AddProduct{}); }
LLMSPELL_TARGET("avx2,fma,f16c")
float l2_half_avx2(const float *a, const Half *b, std::size_t n) {
    return sum_half_avx2(a, b, n, AddSquaredDifference{});
}

constexpr Kernels kAvx2{"avx2",     dot_avx2,           l2_avx2,     dot_half_avx2, l2_half_avx2, code_dots_avx2,
                        weigh_avx2, round_weights_avx2, decode_avx2, encode_avx2,   narrow_avx2,  widen_avx2,
                        crc32c_sse42,    count_both_popcnt};

// Rows in wider registers; what is written by hand for AVX2 stays as it is, but for the codes.
LLMSPELL_KERNELS(avx512, LLMSPELL_TARGET(LLMSPELL_AVX512))

constexpr Kernels kAvx512{"avx512",     dot_avx512,         l2_avx512,     dot_half_avx2, l2_half_avx2, code_dots_avx512,
                          weigh_avx512, round_weights_avx2, decode_avx512, encode_avx512, narrow_avx2,  widen_avx2,
                          crc32c_sse42,    count_both_popcnt};

// Whether they do on a sample what the plain ones do. No compiler and no processor is believed unseen: a kernel that is
// wrong would spoil every answer and raise no error.
bool agrees_with_plain(const Kernels &one) {
    constexpr std::size_t kBlocks = 3;
    constexpr std::size_t kValues = kBlocks * kBlock;
    alignas(kBlock) float a[kValues], b[kValues];
    alignas(kBlock) std::int8_t query[kValues];
    alignas(kBlock) std::uint8_t code[kBlocks * kBlockBytes];
    for (std::size_t i = 0; i < kValues; ++i) {
        a[i] = static_cast<float>(i * 37 % 101) / 50.0F - 1.0F;
        b[i] = static_cast<float>(i * 59 % 103) / 51.0F - 1.0F;
        query[i] = static_cast<std::int8_t>(static_cast<int>(i * 83 % 255) - 127);
        code[i / 2] = static_cast<std::uint8_t>(i * 67 % 256);
    }
    const std::uint8_t *const codes[] = {code};
    std::int32_t expected = 0;
    std::int32_t product = 0;
    kPlain.code_dots(query, codes, 1, kBlocks, &expected);
    one.code_dots(query, codes, 1, kBlocks, &product);
    const auto near = [](float x, float y) { return std::fabs(x - y) <= 1e-4F * kValues; };
    return product == expected && near(one.dot(a, b, kValues), kPlain.dot(a, b, kValues)) &&
           near(one.squared_l2(a, b, kValues), kPlain.squared_l2(a, b, kValues));
}
#endif

// Widest first. On 64-bit ARM the plain bodies are compiled to NEON, which every such processor has.
std::vector<const Kernels *> available() {
    std::vector<const Kernels *> found;
#ifdef LLMSPELL_X86
    const Features has = features();
    if (has.avx512 && agrees_with_plain(kAvx512)) found.push_back(&kAvx512);
    if (has.avx2 && agrees_with_plain(kAvx2)) found.push_back(&kAvx2);
#endif
    found.push_back(&kPlain);
    return found;
}

std::atomic<const Kernels *> &current() {
    static std::atomic<const Kernels *> chosen{available().front()};
    return chosen;
}

}  // namespace

const Kernels &kernels() { return *current().load(std::memory_order_relaxed); }

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const Kernels *one : available()) names.emplace_back(one->name);
    return names;
}

void use_kernels(const std::string &name) {
    for (const Kernels *one : available()) {
        if (name == one->name) {
            current().store(one, std::memory_order_relaxed);
            return;
        }
    }
    throw std::invalid_argument("no kernels named " + name);
}

}  // namespace llmspell
