#include "vocabulary.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace llmspell {

std::uint32_t Vocabulary::hash_of(std::string_view text) const {
    std::uint64_t hash = seed_ ^ text.size();
    const char *at = text.data();
    std::size_t left = text.size();
    const auto mix = [&](std::uint64_t word) {
        hash = (hash ^ word) * 0x9E37'79B9'7F4A'7C15;
        hash ^= hash >> 29;
    };
    for (; left > 8; left -= 8, at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, sizeof word);
        mix(word);
    }
    std::uint64_t rest = 0;
    for (std::size_t i = 0; i < left; ++i) rest |= static_cast<std::uint64_t>(static_cast<unsigned char>(at[i])) << 8 * i;
    mix(rest);
    return static_cast<std::uint32_t>(hash * 0xD6E8'FEB8'6659'FD93 >> 32);
}

void Vocabulary::place(Term term) noexcept {
    std::size_t at = home(texts_[term].hash);
    while (cells_[at] != kNoTerm) at = next(at);
    cells_[at] = term;
}

void Vocabulary::reserve(std::size_t count) {
    if (free_.capacity() < count) free_.reserve(count);
    if (texts_.capacity() < count) texts_.reserve(count);
    std::size_t wanted = cells_.size();
    while (2 * count > wanted) wanted *= 2;
    if (wanted == cells_.size()) return;
    std::vector<Term> old(wanted, kNoTerm);
    old.swap(cells_);
    for (const Term one : old) {
        if (one != kNoTerm) place(one);
    }
}

Term Vocabulary::add(std::string_view text) {
    if (text.size() > 0xFFFF'FFFF || texts_.size() == kNoTerm) throw std::length_error("too much for a vocabulary");
    if (free_.empty() && texts_.size() == texts_.capacity()) reserve(2 * texts_.size() + 8);
    reserve(size() + 1);
    auto *const at = reinterpret_cast<char *>(letters_.take(capacity_of(text.size())));
    if (free_.empty()) {
        free_.push_back(static_cast<Term>(texts_.size()));
        texts_.emplace_back();
    }
    const Term term = free_.back();
    free_.pop_back();
    if (at != nullptr) std::memcpy(at, text.data(), text.size());
    texts_[term] = {at, static_cast<std::uint32_t>(text.size()), hash_of(text), true};
    place(term);
    return term;
}

void Vocabulary::drop(Term term) noexcept {
    std::size_t gap = home(texts_[term].hash);
    while (cells_[gap] != term) gap = next(gap);
    for (std::size_t at = next(gap); cells_[at] != kNoTerm; at = next(at)) {
        // What stands here may close the gap unless its home lies between the two.
        const std::size_t from = home(texts_[cells_[at]].hash);
        if (((at - from) & (cells_.size() - 1)) < ((at - gap) & (cells_.size() - 1))) continue;
        cells_[gap] = cells_[at];
        gap = at;
    }
    cells_[gap] = kNoTerm;
    Text &one = texts_[term];
    letters_.give(reinterpret_cast<Four *>(one.at), capacity_of(one.size));
    one = {};
    free_.push_back(term);
}

std::size_t Vocabulary::memory_bytes() const {
    return cells_.capacity() * sizeof(Term) + texts_.capacity() * sizeof(Text) + free_.capacity() * sizeof(Term) +
           letters_.memory_bytes();
}

}  // namespace llmspell
