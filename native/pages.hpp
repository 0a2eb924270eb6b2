// Memory in pieces, large ones in huge pages where the system has them: what a walk looks at lies all over, and every
// look at a page of 4 KB that the processor does not know by heart costs it several reads of tables.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "aligned.hpp"

namespace llmspell {

inline constexpr std::size_t kHugePage = std::size_t{1} << 21;

struct FreePages {
    std::align_val_t align;
    void operator()(std::byte *memory) const { ::operator delete(memory, align); }
};
using Pages = std::unique_ptr<std::byte, FreePages>;

// So many bytes at least.
inline Pages take_pages(std::size_t bytes) {
    const bool huge = bytes >= kHugePage;
    const std::align_val_t align{huge ? kHugePage : kCacheLine};
    if (huge) bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    Pages pages(static_cast<std::byte *>(::operator new(bytes, align)), FreePages{align});
#if defined(__linux__)
    if (huge) ::madvise(pages.get(), bytes, MADV_HUGEPAGE);
#endif
    return pages;
}

}  // namespace llmspell
