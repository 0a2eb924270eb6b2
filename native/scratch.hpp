// What one search needs for itself, kept between searches so that none allocates.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "chunked.hpp"

namespace llmspell {

// A slot and how far it is; ordered by distance, equal ones by slot, so that results are deterministic.
struct Candidate {
    float distance;
    Slot slot;
    friend bool operator<(const Candidate &a, const Candidate &b) {
        return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot;
    }
    friend bool operator>(const Candidate &a, const Candidate &b) { return b < a; }
};

// One label of a node that has several.
struct Member {
    Slot slot;
    std::int64_t label;
    friend auto operator<=>(const Member &, const Member &) = default;
};

struct Hit {
    float distance;
    std::int64_t label;
    friend bool operator<(const Hit &a, const Hit &b) {
        return a.distance != b.distance ? a.distance < b.distance : a.label < b.label;
    }
};

class Bitmap {
  public:
    void resize(std::size_t bits) {
        if (words_.size() * 64 < bits) words_.resize((bits + 63) / 64);
    }
    bool test(Slot slot) const { return words_[slot / 64] >> (slot % 64) & 1; }
    void set(Slot slot) { words_[slot / 64] |= std::uint64_t{1} << (slot % 64); }
    void reset(Slot slot) { words_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64)); }

  private:
    std::vector<std::uint64_t> words_;
};

// The nodes a walk has seen. Starting over is one increment; the marks are wiped once in 65,535 walks.
class Visited {
  public:
    void start(std::size_t slots) {
        if (marks_.size() < slots) marks_.resize(slots, 0);
        if (++round_ == 0) {
            marks_.assign(marks_.size(), 0);
            round_ = 1;
        }
    }
    // Returns whether the slot is seen for the first time.
    bool mark(Slot slot) { return std::exchange(marks_[slot], round_) != round_; }

  private:
    std::vector<std::uint16_t> marks_;
    std::uint16_t round_ = 0;
};

struct Scratch {
    Visited visited;
    std::vector<Candidate> frontier;  // min-heap: still to be expanded
    std::vector<Candidate> nearest;   // max-heap: the best so far; sorted once a walk or scan is over
    std::vector<float> query;
    Bitmap allowed;  // all clear between searches
    std::vector<Slot> slots;
    std::vector<Hit> hits;
};

// Lends a Scratch to each search under way.
class ScratchPool {
  public:
    class Loan {
      public:
        explicit Loan(ScratchPool &pool) : pool_(pool), scratch_(pool.take()) {}
        ~Loan() { pool_.give(std::move(scratch_)); }
        Loan(const Loan &) = delete;
        Loan &operator=(const Loan &) = delete;
        Scratch &operator*() { return *scratch_; }

      private:
        ScratchPool &pool_;
        std::unique_ptr<Scratch> scratch_;
    };

    Loan lend() { return Loan(*this); }

  private:
    std::unique_ptr<Scratch> take() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            idle_.reserve(made_ + 1);  // so that there is room when it comes back
            auto fresh = std::make_unique<Scratch>();
            ++made_;
            return fresh;
        }
        auto scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
    }
    void give(std::unique_ptr<Scratch> scratch) noexcept {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(scratch));
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<Scratch>> idle_;
    std::size_t made_ = 0;
};

}  // namespace llmspell
