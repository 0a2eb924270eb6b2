// Which slot holds a row: a hash table of slots beside the rows themselves, of which it keeps no copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "chunked.hpp"

namespace llmspell {

// Rows are equal when their bytes are. Open addressing with linear probing; a removal closes its gap, so nothing is left.
class RowSet {
  public:
    explicit RowSet(const Chunked<std::byte> &rows) : rows_(rows), entries_(kFirst) {}

    std::uint32_t hash_of(const std::byte *row) const {
        std::uint64_t hash = 0;
        for (std::size_t i = 0; i < rows_.width(); i += 8) {  // a padded row is a multiple of 32 bytes
            std::uint64_t word;
            std::memcpy(&word, row + i, sizeof word);
            hash = (hash ^ word) * 0x9E3779B97F4A7C15;
            hash ^= hash >> 32;
        }
        return static_cast<std::uint32_t>(hash);
    }

    // The slot of a row equal to this one, whose hash is given, or kNone.
    Slot find(const std::byte *row, std::uint32_t hash) const {
        std::size_t at = home(hash);
        for (; entries_[at].slot != kNone; at = next(at)) {
            const Entry &one = entries_[at];
            if (one.hash == hash && std::memcmp(rows_.at(one.slot), row, rows_.width()) == 0) break;
        }
        return entries_[at].slot;
    }

    // Makes room for so many rows in all; nothing else here allocates.
    void reserve(std::size_t count) {
        std::size_t wanted = entries_.size();
        while (count > wanted / 5 * 4) wanted += wanted / 2;
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
            if (way(home(entries_[at].hash), at) < way(gap, at)) continue;  // it would move to before its home
            entries_[gap] = entries_[at];
            gap = at;
        }
        entries_[gap] = {};
        --size_;
    }

    std::size_t size() const { return size_; }

    // The table as it stands: a hash and a slot for each cell.
    std::vector<std::uint64_t> cells() const {
        std::vector<std::uint64_t> all(entries_.size());
        std::memcpy(all.data(), entries_.data(), all.size() * sizeof(std::uint64_t));
        return all;
    }
    void restore(std::span<const std::uint64_t> cells, std::size_t size) {
        entries_.resize(cells.size());
        std::memcpy(static_cast<void *>(entries_.data()), cells.data(), cells.size_bytes());
        size_ = size;
    }

    std::size_t memory_bytes() const { return entries_.size() * sizeof(Entry); }

  private:
    static constexpr std::size_t kFirst = 64;

    struct Entry {
        std::uint32_t hash = 0;
        Slot slot = kNone;
    };
    static_assert(sizeof(Entry) == sizeof(std::uint64_t));

    std::size_t home(std::uint32_t hash) const { return static_cast<std::size_t>(hash) * entries_.size() >> 32; }
    std::size_t next(std::size_t at) const { return at + 1 == entries_.size() ? 0 : at + 1; }
    std::size_t way(std::size_t from, std::size_t to) const { return to >= from ? to - from : to + entries_.size() - from; }

    void place(const Entry &entry) noexcept {
        std::size_t at = home(entry.hash);
        while (entries_[at].slot != kNone) at = next(at);
        entries_[at] = entry;
    }

    const Chunked<std::byte> &rows_;
    std::vector<Entry> entries_;
    std::size_t size_ = 0;
};

}  // namespace llmspell
