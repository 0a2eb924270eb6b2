// Labels: sets of them, and which slot each belongs to. Both go by pages of 64 labels that follow each other, for labels
// are row numbers and mostly dense; a label on its own costs a page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "chunked.hpp"

namespace llmspell {

using Label = std::int64_t;  // never negative

inline constexpr int kPageBits = 6;
inline constexpr std::size_t kPageLabels = std::size_t{1} << kPageBits;
inline constexpr Label kPageMask = kPageLabels - 1;

// What a filter lets pass; never changed once made.
class LabelSet {
  public:
    LabelSet(const Label *labels, std::size_t count);
    // From the masks of pages in ascending order.
    LabelSet(std::vector<Label> pages, std::vector<std::uint64_t> masks);

    // The labels that are in both.
    friend LabelSet operator&(const LabelSet &one, const LabelSet &other);

    bool contains(Label label) const {
        const std::uint64_t *mask = mask_of(label >> kPageBits);
        return mask != nullptr && (*mask >> (label & kPageMask) & 1) != 0;
    }

    std::size_t size() const { return size_; }

    // A bit for each label of a page.
    std::uint64_t mask(Label page) const {
        const std::uint64_t *mask = mask_of(page);
        return mask == nullptr ? 0 : *mask;
    }

    // Pages that `for_each_page` looks at.
    std::size_t pages() const { return masks_.size(); }

    // Calls `visit(page, mask)` for every page that has a label, in order.
    template <class Visit>
    void for_each_page(Visit visit) const {
        for (std::size_t i = 0; i < masks_.size(); ++i) {
            if (masks_[i] != 0) visit(pages_.empty() ? first_ + static_cast<Label>(i) : pages_[i], masks_[i]);
        }
    }

  private:
    void count();
    const std::uint64_t *mask_of(Label page) const {
        if (!pages_.empty()) return searched(page);
        const auto at = static_cast<std::uint64_t>(page - first_);
        return at < masks_.size() ? &masks_[at] : nullptr;
    }
    const std::uint64_t *searched(Label page) const;

    std::size_t size_ = 0;
    Label first_ = 0;                  // page of the first mask, where there is a mask for every page
    std::vector<Label> pages_;         // the page of each mask, in order, where most pages would be empty
    std::vector<std::uint64_t> masks_;
};

class LabelMap {
  public:
    struct Page {
        Slot slots[kPageLabels];
        std::uint32_t live = 0;
    };

    Slot find(Label label) const {
        const Page *page = page_at(label >> kPageBits);
        return page == nullptr ? kNone : page->slots[label & kPageMask];
    }

    const Page *page_at(Label page) const {
        const auto at = pages_.find(page);
        return at == pages_.end() ? nullptr : at->second.get();
    }

    // Nothing is changed when memory runs out.
    void put(Label label, Slot slot);
    void erase(Label label) noexcept;

    std::size_t size() const { return size_; }
    std::size_t memory_bytes() const;

  private:
    std::unordered_map<Label, std::unique_ptr<Page>> pages_;
    std::size_t size_ = 0;
};

}  // namespace llmspell
