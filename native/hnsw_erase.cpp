// Deletion: unlink the node, hang its children up again in the spanning tree, and mend the hole among its neighbours.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "hnsw.hpp"

namespace llmspell {

void HNSW::before_unlinking(Slot slot) {
    const std::size_t most = capacity(0);
    hole_.neighbours.reserve(most);
    hole_.upper.reserve(most);
    hole_.orphans.reserve(max_children_);
    hole_.distances.reserve(most);
    prepare(slot, hole_.query);  // its buffers grow
}

// Readers are shut out meanwhile.
void HNSW::unlink(Slot slot) {
    auto &[neighbours, upper, orphans, distances, query] = hole_;
    const auto ground = linked_to(slot, 0);
    neighbours.assign(ground.begin(), ground.end());
    for (const Slot other : neighbours) {
        prefetch_code(other);
        cut_one_way(other, slot, 0);
    }
    std::fill(ground.begin(), ground.end(), kNone);
    rehang(slot);
    for (std::size_t level = 1; level <= levels_[slot]; ++level) {
        const auto of = linked_to(slot, level);
        upper.assign(of.begin(), of.end());
        for (const Slot other : upper) cut_one_way(other, slot, level);
        if (level < levels_[slot]) mend(upper, level);
    }
    const std::size_t top = levels_[slot];
    leave_entry(slot, top == 0 ? neighbours : upper);
    if (top > 0) mend(upper, top);
    free_tower(slot);
    mend(neighbours, 0);
}

void HNSW::free_tower(Slot slot) noexcept {
    const std::size_t height = std::exchange(levels_[slot], 0);
    if (height == 0) return;
    const Slot tower = std::exchange(tower_[slot], kNone);
    for (std::size_t row = 0; row < height; ++row) {
        std::fill_n(towers_.at(tower + static_cast<Slot>(row)), settings_.m, kNone);
    }
    *towers_.at(tower) = std::exchange(free_towers_[height], tower);
}

// The child nearest to the slot takes its place in the tree; the others go below that one, each to the nearest of those
// already hung that has room. All of them are in the tree's connected part by then, so no cycle can arise.
void HNSW::rehang(Slot slot) {
    auto &[neighbours, upper, orphans, distances, query] = hole_;
    const Slot above = parent_[slot];
    if (above != kNone) --children_[above];
    parent_[slot] = kNone;
    children_[slot] = 0;
    prepare(slot, query);
    estimate(query, neighbours, distances);
    orphans.clear();
    for (std::size_t i = 0; i < neighbours.size(); ++i) {
        if (parent_[neighbours[i]] == slot) orphans.emplace_back(distances[i], neighbours[i]);
    }
    if (orphans.empty()) return;
    std::sort(orphans.begin(), orphans.end());
    hang(orphans[0].slot(), above);
    for (std::size_t i = 1; i < orphans.size(); ++i) {
        prepare(orphans[i].slot(), query);
        upper.clear();
        for (std::size_t j = 0; j < i; ++j) upper.push_back(orphans[j].slot());
        estimate(query, upper, distances);
        Candidate host;
        bool found = false;
        for (std::size_t j = 0; j < i; ++j) {
            const Candidate next(distances[j], upper[j]);
            if (children_[upper[j]] >= max_children_ || (found && !(next < host))) continue;
            host = next;
            found = true;
        }
        hang(orphans[i].slot(), found ? host.slot() : with_room_below(orphans[0].slot()));
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
    if (!full(slot, 0)) return;
    const auto of = linked_to(slot, 0);
    prepare(slot, hole_.query);
    estimate(hole_.query, of, hole_.distances);
    Candidate farthest;
    bool found = false;
    for (std::size_t i = 0; i < of.size(); ++i) {
        const Candidate next(hole_.distances[i], of[i]);
        if (on_tree(slot, of[i]) || (found && next < farthest)) continue;
        farthest = next;
        found = true;
    }
    if (!found) throw std::logic_error("a full node has tree edges alone");
    cut(slot, farthest.slot(), 0);
}

// Each neighbour lost one link. It gets one to the nearest of the others that it is not linked to.
void HNSW::mend(std::span<const Slot> neighbours, std::size_t level) {
    auto &[around, upper, orphans, distances, query] = hole_;
    for (const Slot slot : neighbours) {
        if (full(slot, level)) continue;
        prepare(slot, query);
        estimate(query, neighbours, distances);
        Candidate nearest;
        bool found = false;
        for (std::size_t i = 0; i < neighbours.size(); ++i) {
            const Candidate next(distances[i], neighbours[i]);
            if (neighbours[i] == slot || (found && !(next < nearest))) continue;
            if (full(neighbours[i], level) || linked(slot, neighbours[i], level)) continue;
            nearest = next;
            found = true;
        }
        if (found) tie(slot, nearest.slot(), level);
    }
}

// When the entry point goes, the highest node left takes over: a neighbour on its layer if it has one.
void HNSW::leave_entry(Slot slot, std::span<const Slot> neighbours) {
    if (slot != entry_) return;
    if (!neighbours.empty()) {
        entry_ = *std::max_element(neighbours.begin(), neighbours.end(),
                                   [&](Slot a, Slot b) { return levels_[a] < levels_[b]; });
        return;
    }
    entry_ = kNone;
    for (Slot other = 0; other < slots(); ++other) {
        if (live(other) && (entry_ == kNone || levels_[other] > levels_[entry_])) entry_ = other;
    }
}

// --- invariants -----------------------------------------------------------------------------------------------------

std::string HNSW::check_node(Slot slot) const {
    std::size_t children = 0;
    if ((levels_[slot] > 0) != (tower_[slot] != kNone)) return "has links on no layer of its own";
    for (std::size_t level = 0; level <= levels_[slot]; ++level) {
        const auto of = linked_to(slot, level);
        if (std::find_if(of.data() + of.size(), of.data() + capacity(level), [](Slot other) { return other != kNone; }) !=
            of.data() + capacity(level)) {
            return "has a gap among its links";
        }
        std::vector<Slot> sorted(of.begin(), of.end());
        std::sort(sorted.begin(), sorted.end());
        if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return "is linked twice to one node";
        for (const Slot other : sorted) {
            if (other == slot || other >= slots() || !live(other)) return "is linked to itself or to no live node";
            if (levels_[other] < level) return "is linked to a node that is not on that layer";
            if (!linked(other, slot, level)) return "has a link that is not returned";
            if (level == 0 && parent_[other] == slot) ++children;
        }
    }
    if (children != children_[slot] || children > max_children_) return "miscounts its children";
    if (parent_[slot] != kNone && !linked(slot, parent_[slot], 0)) return "is not linked to its parent";
    return {};
}

std::string HNSW::check_own() const {
    std::vector<Slot> reached;
    for (Slot slot = 0; slot < slots(); ++slot) {
        if (!live(slot)) continue;
        if (const std::string fault = check_node(slot); !fault.empty()) {
            return "label " + std::to_string(labels_of(slot).front()) + ' ' + fault;
        }
        if (levels_[slot] > levels_[entry_]) return "the entry point is not on the highest layer";
        if (parent_[slot] == kNone) reached.push_back(slot);
    }
    if (nodes() == 0) return entry_ == kNone ? "" : "an empty graph has an entry point";
    if (reached.size() != 1) return "the spanning tree has not exactly one root";
    for (std::size_t at = 0; at < reached.size(); ++at) {
        for (const Slot other : linked_to(reached[at], 0)) {
            if (parent_[other] == reached[at]) reached.push_back(other);
        }
    }
    return reached.size() == nodes() ? "" : "the spanning tree does not reach every node";
}

}  // namespace llmspell
