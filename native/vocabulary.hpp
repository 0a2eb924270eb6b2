// Terms and their numbers. A term that is dropped is wiped from memory, and its number given to another one later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "arena.hpp"
#include "chunked.hpp"

namespace llmspell {

using Term = std::uint32_t;
inline constexpr Term kNoTerm = 0xFFFF'FFFF;

// A hash table with open addressing and linear probing; a removal closes its gap. Hashes are of a seed of its own, so that
// nobody can choose terms that share one.
class Vocabulary {
  public:
    Vocabulary() : seed_(std::random_device{}()), cells_(kFirst, kNoTerm) {}

    Term find(std::string_view text) const {
        const std::uint32_t hash = hash_of(text);
        for (std::size_t at = home(hash); cells_[at] != kNoTerm; at = next(at)) {
            const Text &one = texts_[cells_[at]];
            if (one.hash == hash && view(one) == text) return cells_[at];
        }
        return kNoTerm;
    }

    // The number of a term that is not there yet. Nothing is changed when memory runs out.
    Term add(std::string_view text);
    // Room for so many terms in all.
    void reserve(std::size_t count);
    void drop(Term term) noexcept;

    std::string_view text(Term term) const { return view(texts_[term]); }
    bool holds(Term term) const { return texts_[term].live; }
    std::size_t size() const { return texts_.size() - free_.size(); }
    // One more than the greatest number there is.
    std::size_t numbers() const { return texts_.size(); }
    std::size_t memory_bytes() const;

  private:
    struct Text {
        char *at = nullptr;
        std::uint32_t size = 0;
        std::uint32_t hash = 0;
        bool live = false;
    };
    struct Four {  // what an arena of letters counts in
        char letters[4];
    };

    static constexpr std::size_t kFirst = 64;  // cells; their number is a power of two

    static std::string_view view(const Text &one) { return {one.at, one.size}; }
    static std::size_t capacity_of(std::size_t size) { return Arena<Four>::capacity_for((size + 3) / 4); }
    std::uint32_t hash_of(std::string_view text) const;
    std::size_t home(std::uint32_t hash) const { return hash & (cells_.size() - 1); }
    std::size_t next(std::size_t at) const { return (at + 1) & (cells_.size() - 1); }
    void place(Term term) noexcept;

    std::uint64_t seed_;
    std::vector<Term> cells_;
    std::vector<Text> texts_;
    std::vector<Term> free_;  // has room for every number
    Arena<Four> letters_;
};

}  // namespace llmspell
