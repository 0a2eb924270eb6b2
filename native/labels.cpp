#include "labels.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace llmspell {
namespace {

// Up to so many pages for each label a set keeps a mask for every page, which is found without searching.
constexpr std::size_t kPagesPerLabel = 4;

}  // namespace

LabelSet::LabelSet(const Label *labels, std::size_t count) {
    if (count == 0) return;
    const auto [least, most] = std::minmax_element(labels, labels + count);
    first_ = *least >> kPageBits;
    const auto pages = static_cast<std::size_t>((*most >> kPageBits) - first_) + 1;
    if (pages / kPagesPerLabel <= count) {
        masks_.resize(pages);
        for (std::size_t i = 0; i < count; ++i) {
            masks_[static_cast<std::size_t>((labels[i] >> kPageBits) - first_)] |= std::uint64_t{1} << (labels[i] & kPageMask);
        }
    } else {
        std::vector<Label> sorted(labels, labels + count);
        std::sort(sorted.begin(), sorted.end());
        for (const Label label : sorted) {
            if (pages_.empty() || pages_.back() != label >> kPageBits) {
                pages_.push_back(label >> kPageBits);
                masks_.push_back(0);
            }
            masks_.back() |= std::uint64_t{1} << (label & kPageMask);
        }
    }
    this->count();
}

LabelSet::LabelSet(std::vector<Label> pages, std::vector<std::uint64_t> masks) {
    if (pages.empty()) return;
    first_ = pages.front();
    const auto span = static_cast<std::size_t>(pages.back() - first_) + 1;
    if (span / kPagesPerLabel > pages.size()) {
        pages_ = std::move(pages);
        masks_ = std::move(masks);
    } else if (span == pages.size()) {
        masks_ = std::move(masks);
    } else {
        masks_.resize(span);
        for (std::size_t i = 0; i < pages.size(); ++i) masks_[static_cast<std::size_t>(pages[i] - first_)] = masks[i];
    }
    count();
}

LabelSet operator&(const LabelSet &one, const LabelSet &other) {
    std::vector<Label> pages;
    std::vector<std::uint64_t> masks;
    one.for_each_page([&](Label page, std::uint64_t mask) {
        const std::uint64_t *const found = other.mask_of(page);
        if (found == nullptr || (mask & *found) == 0) return;
        pages.push_back(page);
        masks.push_back(mask & *found);
    });
    return {std::move(pages), std::move(masks)};
}

void LabelSet::count() {
    for (const std::uint64_t mask : masks_) size_ += static_cast<std::size_t>(std::popcount(mask));
}

const std::uint64_t *LabelSet::searched(Label page) const {
    const auto at = std::lower_bound(pages_.begin(), pages_.end(), page);
    return at != pages_.end() && *at == page ? &masks_[static_cast<std::size_t>(at - pages_.begin())] : nullptr;
}

void LabelMap::put(Label label, Slot slot) {
    auto at = pages_.find(label >> kPageBits);
    if (at == pages_.end()) {
        auto page = std::make_unique<Page>();
        std::fill(std::begin(page->slots), std::end(page->slots), kNone);
        at = pages_.emplace(label >> kPageBits, std::move(page)).first;
    }
    Slot &held = at->second->slots[label & kPageMask];
    if (held == kNone) {
        ++at->second->live;
        ++size_;
    }
    held = slot;
}

void LabelMap::erase(Label label) noexcept {
    const auto at = pages_.find(label >> kPageBits);
    if (at == pages_.end()) return;
    Slot &held = at->second->slots[label & kPageMask];
    if (held == kNone) return;
    held = kNone;
    --size_;
    if (--at->second->live == 0) pages_.erase(at);
}

std::size_t LabelMap::memory_bytes() const {
    constexpr std::size_t kNode = 56;  // key, pointer, link, bucket and two allocations' headers
    return pages_.size() * (sizeof(Page) + kNode);
}

}  // namespace llmspell
