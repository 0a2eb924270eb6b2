// Which slot holds a row: a hash table of slots beside the rows themselves, of which it keeps no copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "chunked.hpp"

namespace llmspell {

// Rows are equal when their bytes are. Open addressing with linear probing; a removal closes its gap, so nothing is left.
class RowSet {
  public:
    RowSet(const Chunked<float> &rows, std::size_t width) : rows_(rows), width_(width), entries_(kFirst) {}

    // The slot of a row equal to this one, or kNone.
    Slot find(const float *row) const {
        const std::uint32_t hash = hash_of(row);
        std::size_t at = home(hash);
        for (; entries_[at].slot != kNone; at = next(at)) {
            const Entry &one = entries_[at];
            if (one.hash == hash && std::memcmp(rows_.at(one.slot), row, width_ * sizeof(float)) == 0) break;
        }
        return entries_[at].slot;
    }

    // Makes room for so many rows in all; nothing else here allocates.
    void reserve(std::size_t count) {
        std::size_t wanted = entries_.size();
        while (count > wanted / 4 * 3) wanted *= 2;
        if (wanted == entries_.size()) return;
        std::vector<Entry> old(wanted);
        old.swap(entries_);
        for (const Entry &one : old) {
            if (one.slot != kNone) place(one);
        }
    }

    // The slot's row stands already, and no other slot of the set holds its equal.
    void insert(Slot slot) noexcept {
        place({hash_of(rows_.at(slot)), slot});
        ++size_;
    }

    void erase(Slot slot) noexcept {
        std::size_t gap = home(hash_of(rows_.at(slot)));
        while (entries_[gap].slot != slot) gap = next(gap);
        for (std::size_t at = next(gap); entries_[at].slot != kNone; at = next(at)) {
            const std::size_t way = (at - home(entries_[at].hash)) & mask();
            if (way < ((at - gap) & mask())) continue;  // it would move to before its home
            entries_[gap] = entries_[at];
            gap = at;
        }
        entries_[gap] = {};
        --size_;
    }

    std::size_t size() const { return size_; }
    std::size_t memory_bytes() const { return entries_.size() * sizeof(Entry); }

  private:
    static constexpr std::size_t kFirst = 64;

    struct Entry {
        std::uint32_t hash = 0;
        Slot slot = kNone;
    };

    std::size_t mask() const { return entries_.size() - 1; }
    std::size_t home(std::uint32_t hash) const { return hash & mask(); }
    std::size_t next(std::size_t at) const { return (at + 1) & mask(); }

    void place(const Entry &entry) noexcept {
        std::size_t at = home(entry.hash);
        while (entries_[at].slot != kNone) at = next(at);
        entries_[at] = entry;
    }

    std::uint32_t hash_of(const float *row) const {
        std::uint64_t hash = 0;
        for (std::size_t i = 0; i < width_; i += 2) {  // a padded row has an even width
            std::uint64_t word;
            std::memcpy(&word, row + i, sizeof word);
            hash = (hash ^ word) * 0x9E3779B97F4A7C15;
            hash ^= hash >> 32;
        }
        return static_cast<std::uint32_t>(hash);
    }

    const Chunked<float> &rows_;
    std::size_t width_;
    std::vector<Entry> entries_;
    std::size_t size_ = 0;
};

}  // namespace llmspell
