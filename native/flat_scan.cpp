// Searching by looking at every code, and at the rows that the codes cannot rule out.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "flat.hpp"

namespace llmspell {

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
    if (narrow()) scratch.query.row = scratch.row;
    scratch.hits.clear();
    const bool looked_at_all = wanted.route == Route::scan || wanted.route == Route::exact;
    if (looked_at_all || !approximate(capped, scratch)) scan(capped, scratch);
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

void FlatIndex::slots_of(std::span<const Label> labels, std::vector<Slot> &slots) const {
    const LabelMap::Page *pages[kAtOnce];  // of the labels that come next; their slots are on their way
    slots.resize(labels.size());
    for (std::size_t i = 0; i < labels.size() + kAtOnce; ++i) {
        const LabelMap::Page *&page = pages[i % kAtOnce];
        if (i >= kAtOnce) {
            const std::size_t at = i - kAtOnce;
            slots[at] = page == nullptr ? kNone : page->slots[labels[at] & kPageMask];
        }
        if (i >= labels.size()) continue;
        page = slots_.page_at(labels[i] >> kPageBits);
        if (page != nullptr) prefetch(&page->slots[labels[i] & kPageMask]);
    }
}

void FlatIndex::scores(const float *query, std::span<const Label> labels, float absent, float *scores) const {
    require_whole();
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    prepare_row(query, scratch.row);
    const auto lock = reading();
    auto &slots = scratch.fresh;
    slots_of(labels, slots);
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::size_t ahead = i + kRowsAhead;
        if (ahead < slots.size() && slots[ahead] != kNone) prefetch_row(slots[ahead]);
        scores[i] = slots[i] == kNone ? absent : score(measured(distance(scratch.row.data(), slots[i])));
    }
}

// Keeps the k best labels; equally far ones in their order.
void FlatIndex::collect(Slot slot, float distance, const Wanted &wanted, std::vector<Hit> &hits) const {
    for (const Label label : labels_of(slot)) {
        if (wanted.among == nullptr || wanted.among->contains(label)) keep_least(hits, {distance, label}, wanted.k);
    }
}

void FlatIndex::slots_of_all(std::vector<Slot> &slots) const {
    slots.resize(labels_.size());
    std::size_t count = 0;
    for (Slot slot = 0; slot < labels_.size(); ++slot) {
        slots[count] = slot;
        count += live(slot);  // a writer may be at the others
    }
    slots.resize(count);
}

void FlatIndex::slots_among(const LabelSet &among, Scratch &scratch) const {
    auto &slots = scratch.fresh;
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
    scratch.visited.start(labels_.size());  // some slots have several labels
    std::erase_if(slots, [&](Slot slot) { return !scratch.visited.mark(slot); });
}

// An estimate less its error is a lower bound of a distance, one with its error added an upper one. What lies, by its
// lower bound, behind the k-th upper bound is not among the k nearest; the few that are left are looked at themselves.
// (A node has one label at least, so k nodes give k labels.)
void FlatIndex::scan(const Wanted &wanted, Scratch &scratch) const {
    auto &[row, query, visited, pool, frontier, slots, gathered, distances, highest, possible, hits] = scratch;
    const float likely = wanted.route == Route::exact ? std::numeric_limits<float>::infinity() : deviations_in_scans();
    const Quantizer::Errors errors(*quantizer_, query, likely);
    const bool all = wanted.among == nullptr;
    if (all) {
        slots_of_all(slots);
    } else {
        slots_among(*wanted.among, scratch);
    }
    const auto dots = kernels().code_dots;
    const std::size_t blocks = quantizer_->blocks();
    possible.clear();
    highest.clear();
    float limit = std::numeric_limits<float>::infinity();
    // Products below this are behind the limit whatever their residual, so most codes cost one comparison.
    std::int32_t least = std::numeric_limits<std::int32_t>::min();
    const float widest = errors.of(widest_residual_);
    const auto tighten = [&](float to) {
        limit = farthest_measured_as(to);
        if (space_.metric == Metric::euclidean || !(query.factor < 0.0F)) return;
        const float product = (limit + widest - query.base) / query.factor;
        if (std::fabs(product) < 0x1p30F) least = static_cast<std::int32_t>(std::floor(product)) - 1;
    };
    for (std::size_t first = 0; first < slots.size(); first += kAtOnce) {
        const std::uint8_t *codes[kAtOnce];
        std::int32_t products[kAtOnce];
        std::size_t near[kAtOnce];
        const std::size_t some = std::min(kAtOnce, slots.size() - first);
        for (std::size_t j = 0; j < some; ++j) codes[j] = codes_.at(slots[first + j]);
        if (!all) {  // codes that follow each other are on their way by themselves
            const std::size_t end = std::min(slots.size(), first + 2 * kAtOnce);
            for (std::size_t j = first + kAtOnce; j < end; ++j) prefetch_code(slots[j]);
        }
        dots(query.values.data(), codes, some, blocks, products);
        std::size_t count = 0;
        for (std::size_t j = 0; j < some; ++j) {
            near[count] = j;
            count += products[j] >= least;
        }
        for (std::size_t i = 0; i < count; ++i) {
            const Slot slot = slots[first + near[i]];
            const float about = estimated(query, products[near[i]], slot);
            const float error = errors.of(residuals_[slot]);
            if (about - error > limit) continue;
            possible.push_back({about - error, slot});
            if (about + error >= limit) continue;
            keep_least(highest, about + error, wanted.k);
            if (highest.size() == wanted.k) tighten(highest.front());
        }
    }
    std::erase_if(possible, [&](const Candidate &one) { return one.distance() > limit; });
    std::sort(possible.begin(), possible.end());
    for (std::size_t i = 0; i < possible.size(); ++i) {
        if (hits.size() == wanted.k && measured(possible[i].distance()) > hits.front().distance) break;
        if (i + kRowsAhead < possible.size()) prefetch_row(possible[i + kRowsAhead].slot());
        collect(possible[i].slot(), measured(distance(row.data(), possible[i].slot())), wanted, hits);
    }
}

}  // namespace llmspell
