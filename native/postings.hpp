// Sets of labels that come and go: a mask for each page of 64 labels that has one, in the order of pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "labels.hpp"

namespace llmspell {

// A value for each page of labels that has one, in order; found at once where pages follow each other.
template <class T>
class Paged {
  public:
    static constexpr std::size_t kNowhere = ~std::size_t{0};

    // Where the page's value is, or kNowhere.
    std::size_t place(Label page) const {
        if (numbers_.empty() || page < numbers_.front() || page > numbers_.back()) return kNowhere;
        const std::size_t at = at_or_after(page);
        return numbers_[at] == page ? at : kNowhere;
    }

    const T *find(Label page) const {
        const std::size_t at = place(page);
        return at == kNowhere ? nullptr : &values_[at];
    }
    T *find(Label page) { return const_cast<T *>(std::as_const(*this).find(page)); }

    // The page's value, made if there is none. Nothing is changed when memory runs out.
    T &reach(Label page) {
        if (numbers_.empty() || page > numbers_.back()) return insert(numbers_.size(), page);
        const std::size_t at = at_or_after(page);
        return numbers_[at] == page ? values_[at] : insert(at, page);
    }

    // Drops the values that are empty.
    template <class Empty>
    void drop(Empty empty) noexcept {
        std::size_t kept = 0;
        for (std::size_t at = 0; at < numbers_.size(); ++at) {
            if (empty(values_[at])) continue;
            if (kept != at) {
                numbers_[kept] = numbers_[at];
                values_[kept] = std::move(values_[at]);
            }
            ++kept;
        }
        numbers_.resize(kept);
        values_.resize(kept);
    }

    std::size_t size() const { return numbers_.size(); }
    Label number(std::size_t at) const { return numbers_[at]; }
    T &value(std::size_t at) { return values_[at]; }
    const T &value(std::size_t at) const { return values_[at]; }
    std::size_t memory_bytes() const { return numbers_.capacity() * sizeof(Label) + values_.capacity() * sizeof(T); }

  private:
    // The page is not beyond the last. Its place is no later than it were if none before it lacked.
    std::size_t at_or_after(Label page) const {
        if (page <= numbers_.front()) return 0;
        const auto dense = static_cast<std::uint64_t>(page - numbers_.front());
        const std::size_t last = std::min<std::uint64_t>(dense, numbers_.size() - 1);
        if (numbers_[last] == page) return last;
        return static_cast<std::size_t>(
            std::lower_bound(numbers_.begin(), numbers_.begin() + static_cast<std::ptrdiff_t>(last), page) - numbers_.begin());
    }

    T &insert(std::size_t at, Label page) {
        grow(numbers_);
        grow(values_);
        numbers_.insert(numbers_.begin() + static_cast<std::ptrdiff_t>(at), page);
        return *values_.insert(values_.begin() + static_cast<std::ptrdiff_t>(at), T{});
    }

    template <class Value>
    static void grow(std::vector<Value> &values) {
        if (values.size() == values.capacity()) values.reserve(values.size() + values.size() / 2 + 1);
    }

    std::vector<Label> numbers_;
    std::vector<T> values_;
};

// Labels of the rows that have something in common.
class Posting {
  public:
    // Makes room for the label, so that to set it cannot fail.
    void reserve(Label label) { masks_.reach(label >> kPageBits); }

    void set(Label label) noexcept {
        std::uint64_t &mask = *masks_.find(label >> kPageBits);
        size_ += (mask & bit(label)) == 0;
        mask |= bit(label);
    }

    void clear(Label label) noexcept {
        std::uint64_t &mask = *masks_.find(label >> kPageBits);
        if ((mask & bit(label)) == 0) return;
        --size_;
        mask &= ~bit(label);
        emptied_ += mask == 0;
    }

    // Drops pages without a label once they are many: to drop each at once would move all behind it.
    void tidy() noexcept {
        if (emptied_ <= masks_.size() / 2) return;
        masks_.drop([](std::uint64_t mask) { return mask == 0; });
        emptied_ = 0;
    }

    bool contains(Label label) const { return (mask(label >> kPageBits) & bit(label)) != 0; }
    std::uint64_t mask(Label page) const {
        const std::uint64_t *found = masks_.find(page);
        return found == nullptr ? 0 : *found;
    }
    const Paged<std::uint64_t> &masks() const { return masks_; }
    std::size_t size() const { return size_; }
    std::size_t memory_bytes() const { return masks_.memory_bytes(); }

  private:
    static std::uint64_t bit(Label label) { return std::uint64_t{1} << (label & kPageMask); }

    Paged<std::uint64_t> masks_;  // some may be empty
    std::size_t size_ = 0;
    std::size_t emptied_ = 0;  // how often one of them became empty
};

}  // namespace llmspell
