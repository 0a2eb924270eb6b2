// What this processor can do, and the system saves for it when threads take turns.
#pragma once

#include "compiler.hpp"

#ifdef LLMSPELL_X86
namespace llmspell {

struct Features {
    bool avx2 = false;    // with FMA, F16C, POPCNT and CRC-32C
    bool avx512 = false;  // beside these: F, BW, DQ, VL and VNNI
};

// By asking the processor: what compilers offer for it is another thing in each, and missing in some. A Mac tells of AVX-512
// only once it was used, so there it counts as missing.
Features features();

}  // namespace llmspell
#endif
