// Deletion: unlink the node, hang its children up again in the spanning tree, and mend the hole among its neighbours.
#include <algorithm>
#include <functional>
#include <stdexcept>
#include <utility>

#include "hnsw.hpp"

namespace llmspell {

bool HNSW::remove(Label label) {
    const std::lock_guard writer(write_);
    const auto at = slots_.find(label);
    if (at == slots_.end()) return false;
    const Slot slot = at->second;
    const bool emptied = labels_of(slot).size() == 1;
    Hole hole = emptied ? hole_for(slot) : Hole{};
    const auto lock = changing();
    slots_.erase(at);
    leave(label, slot);
    if (emptied) erase(slot, std::move(hole));
    return true;
}

HNSW::Hole HNSW::hole_for(Slot slot) const {
    Hole hole;
    hole.neighbours.resize(levels_[slot] + std::size_t{1});
    for (std::size_t level = 0; level <= levels_[slot]; ++level) hole.neighbours[level].reserve(capacity(level));
    hole.orphans.reserve(max_children_);
    return hole;
}

// Readers are shut out meanwhile (about 20 µs at m 16). No label is left to the node. Mending comes last: it alone
// allocates, and a graph not mended has fewer links but is whole.
void HNSW::erase(Slot slot, Hole hole) {
    auto &neighbours = hole.neighbours;
    for (std::size_t level = 0; level < neighbours.size(); ++level) {
        const Links of = links(slot, level);
        neighbours[level].assign(of + 1, of + 1 + *of);
        for (const Slot other : neighbours[level]) cut_one_way(other, slot, level);
        *of = 0;
    }
    rehang(slot, hole);
    leave_entry(slot, neighbours.back());
    rows_.erase(slot);
    upper_[slot].reset();
    levels_[slot] = 0;
    free_.push_back(slot);
    for (std::size_t level = 0; level < neighbours.size(); ++level) mend(std::move(neighbours[level]), level);
}

// The child nearest to the slot takes its place in the tree; the others go below that one, each to the nearest of those
// already hung that has room. All of them are in the tree's connected part by then, so no cycle can arise.
void HNSW::rehang(Slot slot, Hole &hole) {
    const Slot above = parent_[slot];
    auto &orphans = hole.orphans;
    for (const Slot other : hole.neighbours[0]) {
        if (parent_[other] == slot) orphans.push_back({distance(slot, other), other});
    }
    std::sort(orphans.begin(), orphans.end());
    if (above != kNone) --children_[above];
    parent_[slot] = kNone;
    children_[slot] = 0;
    for (std::size_t i = 0; i < orphans.size(); ++i) {
        if (i == 0) {
            hang(orphans[0].slot, above);
            continue;
        }
        Candidate host{0.0F, kNone};
        for (std::size_t j = 0; j < i; ++j) {
            const Candidate next{distance(orphans[i].slot, orphans[j].slot), orphans[j].slot};
            if (children_[next.slot] < max_children_ && (host.slot == kNone || next < host)) host = next;
        }
        hang(orphans[i].slot, host.slot != kNone ? host.slot : with_room_below(orphans[0].slot));
    }
}

void HNSW::hang(Slot child, Slot parent) {
    parent_[child] = parent;
    if (parent == kNone) return;
    ++children_[parent];
    if (linked(child, parent, 0)) return;
    make_room(child);
    make_room(parent);
    tie(child, parent, 0);
}

// Gives up the farthest link of a full node that is no edge of the tree.
void HNSW::make_room(Slot slot) {
    const Links of = links(slot, 0);
    if (*of < capacity(0)) return;
    Candidate farthest{0.0F, kNone};
    for (std::uint32_t i = 1; i <= *of; ++i) {
        if (on_tree(slot, of[i])) continue;
        const Candidate next{distance(slot, of[i]), of[i]};
        if (farthest.slot == kNone || farthest < next) farthest = next;
    }
    if (farthest.slot == kNone) throw std::logic_error("a full node has tree edges alone");
    cut(slot, farthest.slot, 0);
}

// Each neighbour lost one link and gains at most one, to another of them, the nearest pairs first.
void HNSW::mend(std::vector<Slot> neighbours, std::size_t level) {
    struct Pair {
        float distance;
        std::uint32_t a, b;
        bool operator<(const Pair &other) const { return distance < other.distance; }
    };
    std::vector<Pair> pairs;
    for (std::uint32_t a = 0; a < neighbours.size(); ++a) {
        for (std::uint32_t b = a + 1; b < neighbours.size(); ++b) {
            if (linked(neighbours[a], neighbours[b], level)) continue;
            pairs.push_back({distance(neighbours[a], neighbours[b]), a, b});
        }
    }
    std::sort(pairs.begin(), pairs.end());
    const auto has_room = [&](Slot slot) { return slot != kNone && *links(slot, level) < capacity(level); };
    for (const Pair &pair : pairs) {
        Slot &a = neighbours[pair.a];
        Slot &b = neighbours[pair.b];
        if (!has_room(a) || !has_room(b)) continue;
        tie(a, b, level);
        a = b = kNone;
    }
}

// When the entry point goes, the highest node left takes over: a neighbour on its layer if it has one.
void HNSW::leave_entry(Slot slot, const std::vector<Slot> &neighbours) {
    if (slot != entry_) return;
    if (!neighbours.empty()) {
        entry_ = *std::max_element(neighbours.begin(), neighbours.end(),
                                   [&](Slot a, Slot b) { return levels_[a] < levels_[b]; });
        return;
    }
    entry_ = kNone;
    for (Slot other = 0; other < labels_.size(); ++other) {
        if (!live(other)) continue;
        if (entry_ == kNone || levels_[other] > levels_[entry_]) entry_ = other;
    }
}

// --- invariants -----------------------------------------------------------------------------------------------------

std::string HNSW::check_node(Slot slot) const {
    std::size_t children = 0;
    for (std::size_t level = 0; level <= levels_[slot]; ++level) {
        const Links of = links(slot, level);
        if (*of > capacity(level)) return "has more links than allowed";
        std::vector<Slot> sorted(of + 1, of + 1 + *of);
        std::sort(sorted.begin(), sorted.end());
        if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return "is linked twice to one node";
        for (const Slot other : sorted) {
            if (other == slot || other >= labels_.size() || !live(other)) return "is linked to itself or to no live node";
            if (levels_[other] < level) return "is linked to a node that is not on that layer";
            if (!linked(other, slot, level)) return "has a link that is not returned";
            if (level == 0 && parent_[other] == slot) ++children;
        }
    }
    if (children != children_[slot] || children > max_children_) return "miscounts its children";
    if (parent_[slot] != kNone && !linked(slot, parent_[slot], 0)) return "is not linked to its parent";
    return {};
}

std::string HNSW::check_labels(Slot slot) const {
    const auto crowd = crowds_.find(slot);
    if (crowd != crowds_.end() && (crowd->second.empty() || crowd->second.front() != labels_[slot])) {
        return "is not the first of its node's labels";
    }
    const auto all = labels_of(slot);
    if (std::adjacent_find(all.begin(), all.end(), std::greater_equal<>()) != all.end()) {
        return "shares a node with labels that are not in order";
    }
    for (const Label label : all) {
        const auto at = slots_.find(label);
        if (at == slots_.end() || at->second != slot) return "is on a node that its labels do not lead to";
    }
    return rows_.find(vectors_.at(slot)) == slot ? "" : "has the vector of another node";
}

std::string HNSW::check() const {
    const std::lock_guard no_writer(write_);  // a replacement passes through a state that is not whole
    const auto lock = reading();
    std::vector<Slot> reached;
    std::size_t labels = 0;
    std::size_t crowds = 0;
    for (Slot slot = 0; slot < labels_.size(); ++slot) {
        if (!live(slot)) continue;
        for (const std::string &fault : {check_node(slot), check_labels(slot)}) {
            if (!fault.empty()) return "label " + std::to_string(labels_[slot]) + ' ' + fault;
        }
        labels += labels_of(slot).size();
        crowds += crowds_.contains(slot);
        if (levels_[slot] > levels_[entry_]) return "the entry point is not on the highest layer";
        if (parent_[slot] == kNone) reached.push_back(slot);
    }
    if (labels != slots_.size()) return "labels and nodes do not agree";
    if (crowds != crowds_.size()) return "a node that is gone has labels";
    if (slots_.empty()) return entry_ == kNone ? "" : "an empty graph has an entry point";
    if (reached.size() != 1) return "the spanning tree has not exactly one root";
    for (std::size_t at = 0; at < reached.size(); ++at) {
        const Links of = links(reached[at], 0);
        for (std::uint32_t i = 1; i <= *of; ++i) {
            if (parent_[of[i]] == reached[at]) reached.push_back(of[i]);
        }
    }
    return reached.size() == rows_.size() ? "" : "the spanning tree does not reach every node";
}

}  // namespace llmspell
