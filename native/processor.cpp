#include "processor.hpp"

#ifdef LLMSPELL_X86
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include <immintrin.h>

#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif

namespace llmspell {
namespace {

enum Register { eax, ebx, ecx, edx };
using Registers = std::array<std::uint32_t, 4>;

// Zeros for a leaf that the processor does not have.
Registers asked(std::uint32_t leaf) {
    Registers told{};
#ifdef _MSC_VER
    std::array<int, 4> raw{};
    __cpuid(raw.data(), 0);
    if (static_cast<std::uint32_t>(raw[eax]) < leaf) return told;
    __cpuidex(raw.data(), static_cast<int>(leaf), 0);
    for (std::size_t i = 0; i < told.size(); ++i) told[i] = static_cast<std::uint32_t>(raw[i]);
#else
    __get_cpuid_count(leaf, 0, &told[eax], &told[ebx], &told[ecx], &told[edx]);
#endif
    return told;
}

// Which registers the system saves (XCR0).
LLMSPELL_TARGET("xsave") std::uint64_t saved() { return _xgetbv(0); }

bool has(std::uint32_t bits, std::initializer_list<int> wanted) {
    for (const int bit : wanted) {
        if ((bits >> bit & 1) == 0) return false;
    }
    return true;
}

}  // namespace

// The bits: Intel's Software Developer's Manual, volume 2, CPUID; and volume 1, 13.3, for XCR0.
Features features() {
    const Registers basic = asked(1);
    const Registers more = asked(7);
    Features found;
    if (!has(basic[ecx], {27})) return found;  // OSXSAVE: XCR0 can be read
    const auto registers = static_cast<std::uint32_t>(saved());
    found.avx2 = has(registers, {1, 2}) && has(basic[ecx], {12, 20, 23, 28, 29}) && has(more[ebx], {5});
    found.avx512 = found.avx2 && has(registers, {5, 6, 7}) && has(more[ebx], {16, 17, 30, 31}) && has(more[ecx], {11});
    return found;
}

}  // namespace llmspell
#endif
