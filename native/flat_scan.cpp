// Searching by looking at every code, and at the rows that the codes cannot rule out.
#include <algorithm>
#include <limits>

#include "flat.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kAhead = 8;  // codes asked for before they are needed

// What estimates may be off by, for each packed residual.
struct Bounds {
    Bounds(const Quantizer &quantizer, const CodeQuery &query) {
        for (std::size_t i = 0; i < std::size(errors); ++i) {
            const float residual = quantizer.unpacked_residual(static_cast<std::uint8_t>(i));
            errors[i] = residual < std::numeric_limits<float>::infinity() ? query.margin + query.reach * residual : residual;
        }
    }
    float errors[256];
};

}  // namespace

Found FlatIndex::search(const float *query, const Wanted &wanted) const {
    require_whole();
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    prepare_row(query, scratch.row);
    const auto lock = reading();
    Wanted capped = wanted;
    capped.k = std::min(wanted.k, wanted.among == nullptr ? slots_.size() : std::min(slots_.size(), wanted.among->size()));
    if (capped.k == 0) return {};
    quantizer_->prepare(scratch.row.data(), longest_, scratch.query);
    scratch.hits.clear();
    if (wanted.route == Route::scan || !approximate(capped, scratch)) scan(capped, scratch);
    std::sort_heap(scratch.hits.begin(), scratch.hits.end());
    Found found;
    found.labels.reserve(scratch.hits.size());
    found.scores.reserve(scratch.hits.size());
    for (const Hit &hit : scratch.hits) {
        found.labels.push_back(hit.label);
        found.scores.push_back(score(hit.distance));
    }
    return found;
}

// Keeps the k best labels; equally far ones in their order.
void FlatIndex::collect(Slot slot, float distance, const Wanted &wanted, std::vector<Hit> &hits) const {
    for (const Label label : labels_of(slot)) {
        if (wanted.among == nullptr || wanted.among->contains(label)) keep_least(hits, {distance, label}, wanted.k);
    }
}

void FlatIndex::slots_among(const LabelSet &among, std::vector<Slot> &slots) const {
    slots.clear();
    among.for_each_page([&](Label number, std::uint64_t mask) {
        const LabelMap::Page *page = slots_.page_at(number);
        if (page == nullptr) return;
        for (; mask != 0; mask &= mask - 1) {
            const Slot slot = page->slots[std::countr_zero(mask)];
            if (slot != kNone) slots.push_back(slot);
        }
    });
    if (crowds_.size() == free_crowds_.size()) return;
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
}

// An estimate less its error is a lower bound of a distance, one with its error added an upper one. What lies, by its
// lower bound, behind the k-th upper bound is not among the k nearest; the few that are left are looked at themselves.
// (A node has one label at least, so k nodes give k labels.)
void FlatIndex::scan(const Wanted &wanted, Scratch &scratch) const {
    auto &[row, query, visited, pool, frontier, slots, distances, highest, possible, hits] = scratch;
    const Bounds bounds(*quantizer_, query);
    if (wanted.among != nullptr) slots_among(*wanted.among, slots);
    const bool all = wanted.among == nullptr;
    const std::size_t count = all ? labels_.size() : slots.size();
    const bool gaps = all && !free_.empty();
    const bool with_terms = space_.metric == Metric::euclidean;
    const auto dots = kernels().code_dots;
    const std::size_t blocks = quantizer_->blocks();
    possible.clear();
    highest.clear();
    float limit = std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < count; i += kAtOnce) {
        const std::uint8_t *codes[kAtOnce];
        std::int32_t products[kAtOnce];
        Slot four[kAtOnce];
        const std::size_t some = std::min(kAtOnce, count - i);
        for (std::size_t j = 0; j < kAtOnce; ++j) {
            const std::size_t at = i + std::min(j, some - 1);
            four[j] = all ? static_cast<Slot>(at) : slots[at];
            codes[j] = codes_.at(four[j]);
            if (!all && at + kAhead < count) prefetch_code(slots[at + kAhead]);
        }
        dots(query.values.data(), codes, blocks, products);
        for (std::size_t j = 0; j < some; ++j) {
            if (gaps && !live(four[j])) continue;
            float estimated = query.base + query.factor * static_cast<float>(products[j]);
            if (with_terms) estimated += terms_[four[j]];
            const float error = bounds.errors[residuals_[four[j]]];
            if (estimated - error > limit) continue;
            possible.push_back({estimated - error, four[j]});
            if (estimated + error >= limit) continue;
            keep_least(highest, estimated + error, wanted.k);
            if (highest.size() == wanted.k) limit = highest.front();
        }
    }
    std::erase_if(possible, [&](const Candidate &one) { return one.distance() > limit; });
    std::sort(possible.begin(), possible.end());
    for (std::size_t i = 0; i < possible.size(); ++i) {
        if (hits.size() == wanted.k && possible[i].distance() > hits.front().distance) break;
        if (i + 2 < possible.size()) prefetch(vectors_.at(possible[i + 2].slot()), row_bytes());
        collect(possible[i].slot(), distance(row.data(), possible[i].slot()), wanted, hits);
    }
}

}  // namespace llmspell
