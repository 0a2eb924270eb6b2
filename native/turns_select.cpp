// Which rows meet the conditions of a filter.
#include <algorithm>
#include <bit>
#include <utility>

#include "turns.hpp"

namespace llmspell {

// What is left to ask of rows that postings let pass.
struct TurnTable::Sieve {
    std::array<Range, kColumns> wanted{{{kEarliest, kNever}, {kEarliest, kNever}, {kEarliest, kNever}}};
    std::optional<bool> processed;
    Id alone = kNone;  // the namespace that rows must be in, and not below it

    bool lets_all_pass() const {
        return !processed && alone == kNone && std::all_of(wanted.begin(), wanted.end(), [](const Range &one) {
            return one.least == kEarliest && one.most == kNever;
        });
    }
};

std::optional<LabelSet> TurnTable::select(const Conditions &conditions) const {
    std::vector<Hash128> asked;
    const auto name_spaces = hashes_of(conditions.name_space);
    if (!name_spaces.empty()) asked.push_back(name_spaces.back());
    if (conditions.session) asked.push_back(hash_of(Kind::session_name, *conditions.session));
    if (conditions.role) asked.push_back(hash_of(Kind::role, *conditions.role));
    for (const std::string_view fact : conditions.facts) asked.push_back(hash_of(Kind::fact, fact));

    const auto lock = gate_.reading();
    Sieve sieve;
    sieve.wanted[kHappened] = {conditions.happened.first, conditions.happened.second};
    sieve.wanted[kLearned].most = conditions.known_by;
    sieve.processed = conditions.processed;
    if (conditions.expired == true) sieve.wanted[kExpires].most = conditions.now;
    if (conditions.expired == false && !nothing_expired(conditions.now)) sieve.wanted[kExpires].least = conditions.now + 1;
    std::vector<const Posting *> postings;
    for (const Hash128 &hash : asked) {
        const Id id = find_term(hash);
        if (id == kNone) return LabelSet(nullptr, 0);
        postings.push_back(&terms_[id].rows);
    }
    if (!conditions.below) {
        const Id id = name_spaces.empty() ? kRoot : find_term(name_spaces.back());
        if (terms_[id].alone < terms_[id].rows.size()) sieve.alone = id;
    }
    if (postings.empty()) {
        if (conditions.below && sieve.lets_all_pass()) return std::nullopt;
        postings.push_back(&terms_[kRoot].rows);
    }
    std::sort(postings.begin(), postings.end(), [](const Posting *one, const Posting *other) {
        return one->masks().size() < other->masks().size();
    });

    const Paged<std::uint64_t> &fewest = postings.front()->masks();
    const bool all_pass = sieve.lets_all_pass();
    std::vector<Label> pages;
    std::vector<std::uint64_t> masks;
    for (std::size_t at = 0; at < fewest.size(); ++at) {
        const Label page = fewest.number(at);
        std::uint64_t mask = fewest.value(at);
        for (std::size_t i = 1; i < postings.size() && mask != 0; ++i) mask &= postings[i]->mask(page);
        if (mask != 0 && !all_pass) mask = sifted(*sheets_.find(page), sieve, mask);
        if (mask == 0) continue;
        pages.push_back(page);
        masks.push_back(mask);
    }
    return LabelSet(std::move(pages), std::move(masks));
}

// A removal leaves `soonest_` as it is, which is no later then than it should be. Readers that find this out say so, all
// of them the same.
bool TurnTable::nothing_expired(Moment now) const {
    if (soonest_ > now) return true;
    Moment soonest = kNever;
    for (std::size_t at = 0; at < sheets_.size(); ++at) {
        if (sheets_.value(at).page != nullptr) soonest = std::min(soonest, sheets_.value(at).spans[kExpires].least);
    }
    soonest_ = soonest;
    return soonest > now;
}

// Those rows of `mask` whose moment is in the range that is wanted.
std::uint64_t TurnTable::within(const Times &times, const Range &span, const Range &wanted, std::uint64_t mask) {
    constexpr int kFew = 12;  // are looked at one by one
    if (wanted.least <= span.least && span.most <= wanted.most) return mask;
    if (wanted.most < span.least || span.most < wanted.least || wanted.most < wanted.least) return 0;
    std::uint64_t passed = 0;
    if (std::popcount(mask) <= kFew) {
        for (std::uint64_t left = mask; left != 0; left &= left - 1) {
            const int at = std::countr_zero(left);
            if (times[at] >= wanted.least && times[at] <= wanted.most) passed |= std::uint64_t{1} << at;
        }
        return passed;
    }
    const auto least = static_cast<std::uint64_t>(wanted.least);
    const std::uint64_t width = static_cast<std::uint64_t>(wanted.most) - least;
    for (std::size_t at = 0; at < kPageLabels; ++at) {
        passed |= static_cast<std::uint64_t>(static_cast<std::uint64_t>(times[at]) - least <= width) << at;
    }
    return passed & mask;
}

std::uint64_t TurnTable::sifted(const Sheet &sheet, const Sieve &sieve, std::uint64_t mask) const {
    for (std::size_t column = 0; column < kColumns && mask != 0; ++column) {
        mask = within(sheet.page->moments[column], sheet.spans[column], sieve.wanted[column], mask);
    }
    if (mask != 0 && sieve.processed) mask &= *sieve.processed ? sheet.page->processed : ~sheet.page->processed;
    if (sieve.alone == kNone) return mask;
    for (std::uint64_t left = mask; left != 0; left &= left - 1) {
        const int at = std::countr_zero(left);
        if (sessions_[sheet.page->sessions[at]].name_space != sieve.alone) mask &= ~(std::uint64_t{1} << at);
    }
    return mask;
}

}  // namespace llmspell
