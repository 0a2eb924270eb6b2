// Which number something has: a hash table of numbers beside the things themselves, of which it keeps no copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "chunked.hpp"

namespace llmspell {

// Open addressing with linear probing; a removal closes its gap, so nothing is left of what is gone.
class IdTable {
  public:
    IdTable() : entries_(kFirst) {}

    // The number for which `equal` holds, of those with this hash, or kNone.
    template <class Equal>
    Slot find(std::uint32_t hash, Equal equal) const {
        std::size_t at = home(hash);
        for (; entries_[at].id != kNone; at = next(at)) {
            if (entries_[at].hash == hash && equal(entries_[at].id)) break;
        }
        return entries_[at].id;
    }

    // Makes room for so many in all; nothing else here allocates.
    void reserve(std::size_t count) {
        std::size_t wanted = entries_.size();
        while (count > wanted / 5 * 4) wanted += wanted / 2;
        if (wanted == entries_.size()) return;
        std::vector<Entry> old(wanted);
        old.swap(entries_);
        for (const Entry &one : old) {
            if (one.id != kNone) place(one);
        }
    }

    void insert(std::uint32_t hash, Slot id) noexcept { place({hash, id}); }

    void erase(std::uint32_t hash, Slot id) noexcept {
        std::size_t gap = home(hash);
        while (entries_[gap].id != id) gap = next(gap);
        for (std::size_t at = next(gap); entries_[at].id != kNone; at = next(at)) {
            if (way(home(entries_[at].hash), at) < way(gap, at)) continue;  // it would move to before its home
            entries_[gap] = entries_[at];
            gap = at;
        }
        entries_[gap] = {};
    }

    std::size_t memory_bytes() const { return entries_.size() * sizeof(Entry); }

  private:
    static constexpr std::size_t kFirst = 64;

    struct Entry {
        std::uint32_t hash = 0;
        Slot id = kNone;
    };

    std::size_t home(std::uint32_t hash) const { return static_cast<std::size_t>(hash) * entries_.size() >> 32; }
    std::size_t next(std::size_t at) const { return at + 1 == entries_.size() ? 0 : at + 1; }
    std::size_t way(std::size_t from, std::size_t to) const { return to >= from ? to - from : to + entries_.size() - from; }

    void place(const Entry &entry) noexcept {
        std::size_t at = home(entry.hash);
        while (entries_[at].id != kNone) at = next(at);
        entries_[at] = entry;
    }

    std::vector<Entry> entries_;
};

}  // namespace llmspell
