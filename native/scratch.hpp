// What one search needs for itself, kept between searches so that none allocates.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aligned.hpp"
#include "chunked.hpp"
#include "labels.hpp"
#include "pool.hpp"
#include "quantizer.hpp"

namespace llmspell {

// A slot and how far it is, packed so that comparing two numbers compares first the distances and then the slots. The
// lowest bit is free for a walk, which notes there what it has expanded.
class Candidate {
  public:
    Candidate() = default;
    Candidate(float distance, Slot slot) {
        const auto bits = std::bit_cast<std::uint32_t>(distance);
        const std::uint32_t ordered = bits ^ ((bits >> 31) != 0 ? 0xFFFF'FFFF : 0x8000'0000);
        packed_ = static_cast<std::uint64_t>(ordered) << 32 | slot << 1;
    }
    float distance() const {
        const auto ordered = static_cast<std::uint32_t>(packed_ >> 32);
        return std::bit_cast<float>(ordered ^ ((ordered >> 31) != 0 ? 0x8000'0000 : 0xFFFF'FFFF));
    }
    Slot slot() const { return static_cast<Slot>(packed_) >> 1; }
    bool expanded() const { return (packed_ & 1) != 0; }
    void expand() { packed_ |= 1; }
    friend bool operator<(Candidate a, Candidate b) { return a.packed_ < b.packed_; }
    friend bool operator>(Candidate a, Candidate b) { return a.packed_ > b.packed_; }

  private:
    std::uint64_t packed_ = 0;
};

struct Hit {
    float distance;
    Label label;
    friend bool operator<(const Hit &a, const Hit &b) {
        return a.distance != b.distance ? a.distance < b.distance : a.label < b.label;
    }
};

// Keeps the `k` least of what it is given; a heap, its greatest first.
template <class T>
void keep_least(std::vector<T> &heap, const T &one, std::size_t k) {
    if (heap.size() == k) {
        if (!(one < heap.front())) return;
        std::pop_heap(heap.begin(), heap.end());
        heap.back() = one;
    } else {
        heap.push_back(one);
    }
    std::push_heap(heap.begin(), heap.end());
}

// The nodes a walk has seen: a bit each. They are taken back one by one, for a walk sees few of all.
class Visited {
  public:
    void start(std::size_t slots) {
        for (std::size_t i = 0; i < count_; ++i) words_[seen_[i] / 64] = 0;
        count_ = 0;
        if (words_.size() * 64 < slots) words_.resize((slots + 63) / 64);
    }
    // Whether the slot is seen for the first time.
    bool mark(Slot slot) { return mark_all({&slot, 1}, &slot) == 1; }

    // Writes those of `slots` that are seen for the first time to `fresh`, in order; returns how many. There is no telling
    // in advance which they are, so nothing branches on it.
    std::size_t mark_all(std::span<const Slot> slots, Slot *fresh) {
        if (seen_.size() < count_ + slots.size()) seen_.resize(2 * count_ + slots.size() + kRoom);
        std::uint64_t *const words = words_.data();
        Slot *const seen = seen_.data() + count_;
        std::size_t count = 0;
        for (const Slot slot : slots) {
            std::uint64_t &word = words[slot / 64];
            const std::uint64_t before = word;
            word = before | std::uint64_t{1} << (slot % 64);
            seen[count] = slot;
            fresh[count] = slot;
            count += ~before >> (slot % 64) & 1;
        }
        count_ += count;
        return count;
    }

  private:
    static constexpr std::size_t kRoom = 1024;

    std::vector<std::uint64_t> words_;
    std::vector<Slot> seen_;  // the first `count_`
    std::size_t count_ = 0;
};

struct Scratch {
    AlignedVector<float> row;          // the query, prepared
    CodeQuery query;                   // the same, to be compared with codes
    Visited visited;
    std::vector<Candidate> pool;       // the nearest so far, in order
    std::vector<Candidate> frontier;   // min-heap: still to be expanded
    std::vector<Slot> fresh;           // slots whose distances are wanted
    std::vector<Slot> gathered;        // slots whose codes are on their way
    std::vector<float> distances;      // theirs
    std::vector<float> highest;        // max-heap: the least upper bounds of a scan
    std::vector<Candidate> possible;   // what a scan could not rule out
    std::vector<Hit> hits;             // max-heap
};

using ScratchPool = Pool<Scratch>;

}  // namespace llmspell
