// Insertion: algorithm 1 of the paper, planned beside the readers and then linked in one short exclusive step.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "hnsw.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kTopLevel = 60;

// SplitMix64 (Steele, Lea & Flood 2014): small, good, and the same on every platform.
std::uint64_t next_random(std::uint64_t &state) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

}  // namespace

void HNSW::add(Label label, const float *vector) {
    const std::lock_guard writer(write_);
    std::vector<float> buffer;
    const float *row = prepared(vector, buffer);
    const auto known = slots_.find(label);
    const Slot before = known == slots_.end() ? kNone : known->second;
    const Slot twin = rows_.find(row);
    if (twin != kNone && twin == before) return;
    const bool emptied = before != kNone && labels_of(before).size() == 1;
    Hole hole = emptied ? hole_for(before) : Hole{};
    if (twin != kNone) {
        const auto lock = changing();
        join(label, twin);
        if (before != kNone) leave(label, before);
    } else {
        insert(label, row, before);
    }
    if (emptied) {
        const auto lock = changing();
        erase(before, std::move(hole));
    }
}

// The label becomes one of the node's. The last step that may fail comes before the first that shows.
void HNSW::join(Label label, Slot slot) {
    auto &crowd = crowds_.try_emplace(slot, 1, labels_[slot]).first->second;
    if (crowd.size() == crowd.capacity()) crowd.reserve(2 * crowd.size());
    slots_[label] = slot;
    crowd.insert(std::lower_bound(crowd.begin(), crowd.end(), label), label);
    labels_[slot] = crowd.front();
}

// A node that no label is left to is dead: walked through until it is erased, and not returned.
void HNSW::leave(Label label, Slot slot) {
    const auto at = crowds_.find(slot);
    if (at == crowds_.end()) {
        labels_[slot] = kNoLabel;
        return;
    }
    auto &crowd = at->second;
    crowd.erase(std::lower_bound(crowd.begin(), crowd.end(), label));
    labels_[slot] = crowd.empty() ? kNoLabel : crowd.front();
    if (crowd.size() < 2) crowds_.erase(at);
}

// A new node for a label that leaves the node `before`, where it has been at one.
void HNSW::insert(Label label, const float *row, Slot before) {
    const std::size_t level = draw_level();
    const Slot slot = free_slot();
    std::memcpy(vectors_.at(slot), row, stride_ * sizeof(float));
    std::unique_ptr<std::uint32_t[]> upper(level > 0 ? new std::uint32_t[level * (settings_.m + 1)]() : nullptr);
    Slot parent = kNone;
    const std::vector<Tie> ties = plan(slot, level, parent);

    const auto lock = changing();
    slots_[label] = slot;  // from here on nothing fails
    if (before != kNone) leave(label, before);
    free_.pop_back();
    labels_[slot] = label;
    rows_.insert(slot);
    levels_[slot] = static_cast<std::uint8_t>(level);
    upper_[slot] = std::move(upper);
    *ground_.at(slot) = 0;
    children_[slot] = 0;
    parent_[slot] = parent;
    if (parent != kNone) ++children_[parent];
    for (const Tie &one : ties) {
        if (one.victim != kNone) cut(one.other, one.victim, one.level);
        tie(slot, one.other, one.level);
    }
    if (entry_ == kNone || level > levels_[entry_]) entry_ = slot;
}

// A free slot, made if there is none. It stays on the free list until it is linked, so a failure in between loses nothing.
Slot HNSW::free_slot() {
    if (free_.empty()) {
        const auto lock = changing();
        const auto slot = static_cast<Slot>(labels_.size());
        vectors_.reach(slot);
        ground_.reach(slot);
        upper_.resize(slot + std::size_t{1});
        levels_.resize(slot + std::size_t{1}, 0);
        parent_.resize(slot + std::size_t{1}, kNone);
        children_.resize(slot + std::size_t{1}, 0);
        if (free_.capacity() <= slot) free_.reserve(2 * (slot + std::size_t{1}));
        rows_.reserve(slot + std::size_t{1});
        labels_.resize(slot + std::size_t{1}, kNoLabel);  // the last that may fail
        free_.push_back(slot);
    }
    return free_.back();
}

// Section 4.1: floor(-ln(u) / ln(m)), u uniform in (0, 1].
std::size_t HNSW::draw_level() {
    const double u = (static_cast<double>(next_random(random_) >> 11) + 1.0) * 0x1.0p-53;
    return std::min(static_cast<std::size_t>(-std::log(u) * level_scale_), kTopLevel);
}

std::vector<HNSW::Tie> HNSW::plan(Slot slot, std::size_t level, Slot &parent) {
    std::vector<Tie> ties;
    if (entry_ == kNone) return ties;
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    const float *row = vectors_.at(slot);
    Candidate start{distance(row, vectors_.at(entry_)), entry_};
    const std::size_t top = std::min<std::size_t>(level, levels_[entry_]);
    descend(row, top, start);
    for (std::size_t at = top + 1; at-- > 0;) {
        walk(row, start, settings_.ef_construction, at, nullptr, SIZE_MAX, scratch);
        std::vector<Slot> chosen = select(scratch.nearest, settings_.m);
        if (!scratch.nearest.empty()) start = scratch.nearest.front();
        if (at == 0) {
            parent = choose_parent(scratch.nearest);
            if (std::find(chosen.begin(), chosen.end(), parent) == chosen.end()) chosen.push_back(parent);
        }
        for (const Slot other : chosen) {
            const bool stays = at == 0 && other == parent;
            const Slot out = *links(other, at) < capacity(at) ? kNone : victim(other, slot, at, stays);
            if (out != slot) ties.push_back({at, other, out});
        }
    }
    return ties;
}

// Algorithm 4, nearest first: a candidate that lies nearer to one already taken than to the node itself is pruned, and
// pruned ones fill up what remains.
std::vector<Slot> HNSW::select(const std::vector<Candidate> &sorted, std::size_t count) const {
    std::vector<Slot> taken;
    std::vector<Slot> pruned;
    for (const Candidate &one : sorted) {
        if (taken.size() == count) break;
        const bool diverse = std::none_of(taken.begin(), taken.end(),
                                          [&](Slot other) { return distance(one.slot, other) < one.distance; });
        (diverse ? taken : pruned).push_back(one.slot);
    }
    const std::size_t room = std::min(count - taken.size(), pruned.size());
    taken.insert(taken.end(), pruned.begin(), pruned.begin() + static_cast<std::ptrdiff_t>(room));
    return taken;
}

// Which link the full node `of` gives up for `newcomer`: the newcomer itself when it is the one not worth keeping.
// Never an edge of the spanning tree.
Slot HNSW::victim(Slot of, Slot newcomer, std::size_t level, bool newcomer_stays) const {
    const Links have = links(of, level);
    std::vector<Candidate> sorted{{distance(of, newcomer), newcomer}};
    for (std::uint32_t i = 1; i <= *have; ++i) sorted.push_back({distance(of, have[i]), have[i]});
    std::sort(sorted.begin(), sorted.end());
    const std::vector<Slot> order = select(sorted, sorted.size());  // the diverse ones first, then the pruned
    for (auto at = order.rbegin(); at != order.rend(); ++at) {
        if (*at == newcomer ? !newcomer_stays : level > 0 || !on_tree(of, *at)) return *at;
    }
    throw std::logic_error("a full node has tree edges alone");
}

// The nearest node that can take one more child.
Slot HNSW::choose_parent(const std::vector<Candidate> &sorted) const {
    for (const Candidate &one : sorted) {
        if (children_[one.slot] < max_children_) return one.slot;
    }
    return with_room_below(sorted.front().slot);
}

// A node with room for a child: `slot` or one below it in the tree, down to a leaf. Allocates nothing, for a delete asks.
Slot HNSW::with_room_below(Slot slot) const {
    while (children_[slot] >= max_children_) {
        const Links of = links(slot, 0);
        const Links end = of + 1 + *of;
        const Links child = std::find_if(of + 1, end, [&](Slot other) { return parent_[other] == slot; });
        if (child == end) throw std::logic_error("a node miscounts its children");
        slot = *child;
    }
    return slot;
}

}  // namespace llmspell
