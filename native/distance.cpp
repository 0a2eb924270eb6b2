#include "distance.hpp"

#include <atomic>
#include <stdexcept>

#if defined(__GNUC__) || defined(__clang__)
#define LLMSPELL_INLINE inline __attribute__((always_inline))
#define LLMSPELL_TARGET(features) __attribute__((target(features)))
#else
#define LLMSPELL_INLINE __forceinline
#define LLMSPELL_TARGET(features)
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define LLMSPELL_X86 1
#endif

namespace llmspell {
namespace {

// One body for all instruction sets: the compiler turns the fixed-width inner loops into the vector registers of the
// function they are inlined into. Two independent groups of sums hide the latency of the additions.
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
    // Halved by constant bounds: a loop over the halves would spill the sums to memory (25 ns of 58).
    for (std::size_t j = 0; j < 16; ++j) even[j] += odd[j];
    for (std::size_t j = 0; j < 8; ++j) even[j] += even[j + 8];
    for (std::size_t j = 0; j < 4; ++j) even[j] += even[j + 4];
    return (even[0] + even[2]) + (even[1] + even[3]);
}

struct Product {
    LLMSPELL_INLINE float operator()(float x, float y) const { return x * y; }
};

struct SquaredDifference {
    LLMSPELL_INLINE float operator()(float x, float y) const { return (x - y) * (x - y); }
};

float dot_plain(const float *a, const float *b, std::size_t n) { return sum(a, b, n, Product{}); }
float l2_plain(const float *a, const float *b, std::size_t n) { return sum(a, b, n, SquaredDifference{}); }
constexpr Kernels kPlain{"plain", dot_plain, l2_plain};

#ifdef LLMSPELL_X86
LLMSPELL_TARGET("avx2,fma")
float dot_avx2(const float *a, const float *b, std::size_t n) { return sum(a, b, n, Product{}); }
LLMSPELL_TARGET("avx2,fma")
float l2_avx2(const float *a, const float *b, std::size_t n) { return sum(a, b, n, SquaredDifference{}); }
constexpr Kernels kAvx2{"avx2", dot_avx2, l2_avx2};
#endif

// Widest first. On 64-bit ARM the plain body is compiled to NEON, which every such processor has.
std::vector<const Kernels *> available() {
    std::vector<const Kernels *> found;
#ifdef LLMSPELL_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
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
