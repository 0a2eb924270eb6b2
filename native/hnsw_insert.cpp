// Insertion: algorithm 1 of the paper, planned beside the readers and then linked in one short exclusive step a node.
//
// Nodes that come together are planned together, on as many threads as are given, against the graph as it was before
// them and against those of them that go first. The plans do not depend on the threads. They are carried out in order;
// what an earlier one has touched is looked at again.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "hnsw.hpp"
#include "threads.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kTogether = 128;     // nodes planned together at most,
constexpr std::size_t kShareTogether = 16; // and at most one for so many that are there
constexpr std::size_t kWorthThreads = 8;

// SplitMix64 (Steele, Lea & Flood 2014): small, good, and the same on every platform.
std::uint64_t next_random(std::uint64_t &state) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

}  // namespace

std::size_t HNSW::batch_limit() const { return std::clamp<std::size_t>(nodes() / kShareTogether, 1, kTogether); }

void HNSW::settle(std::span<const Newcomer> newcomers, std::size_t threads) {
    std::vector<Plan> plans(newcomers.size());
    for (Plan &plan : plans) {
        plan.level = draw_level();
    }
    if (threads > 1 && newcomers.size() >= kWorthThreads) {
        on_threads(threads, plans.size(), [&](std::size_t i) { make(plans[i], newcomers, i, plans); });
    } else {
        for (std::size_t i = 0; i < plans.size(); ++i) make(plans[i], newcomers, i, plans);
    }
    std::unordered_set<Slot> touched;
    Choice choice;
    for (std::size_t i = 0; i < plans.size(); ++i) {
        const Slot slot = newcomers[i].slot;
        renew(plans[i], slot, touched, choice);
        if (plans.size() > 1) {
            touched.insert(slot);
            for (const Tie &one : plans[i].ties) {
                touched.insert(one.other);
                if (one.victim != kNone) touched.insert(one.victim);
            }
        }
        const auto lock = changing();
        claim_tower(plans[i].level);
        appear(newcomers[i]);  // from here on nothing fails
        link(slot, plans[i]);
    }
}

// Section 4.1: floor(-ln(u) / ln(m)), u uniform in (0, 1].
std::size_t HNSW::draw_level() {
    const double u = (static_cast<double>(next_random(random_) >> 11) + 1.0) * 0x1.0p-53;
    return std::min(static_cast<std::size_t>(-std::log(u) * level_scale_), kTopLevel);
}

// Makes sure that there is a free tower of this height; nothing else is changed when memory runs out.
void HNSW::claim_tower(std::size_t height) {
    if (height == 0 || free_towers_[height] != kNone) return;
    const auto after = static_cast<Slot>(tower_rows_ + height);
    towers_.reach(after - 1);
    free_towers_[height] = tower_rows_;
    tower_rows_ = after;
}

// Fills in the plan of newcomers[which], whose level is drawn. Of the other plans their levels alone are read.
void HNSW::make(Plan &plan, std::span<const Newcomer> newcomers, std::size_t which, std::span<const Plan> plans) const {
    if (entry_ == kNone) return;
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    Choice choice;
    const Slot slot = newcomers[which].slot;
    prepare(slot, scratch.query);
    const std::size_t top = std::min<std::size_t>(plan.level, levels_[entry_]);
    descend(scratch.query, top, scratch);
    for (std::size_t level = top + 1; level-- > 0;) {
        walk(scratch.query, settings_.ef_construction, level, scratch);
        scratch.fresh.clear();
        for (std::size_t i = 0; i < which; ++i) {
            if (plans[i].level >= level) scratch.fresh.push_back(newcomers[i].slot);
        }
        estimate(scratch.query, scratch.fresh, scratch.distances);
        choice.sorted = scratch.pool;
        for (std::size_t i = 0; i < scratch.fresh.size(); ++i) {
            choice.sorted.emplace_back(scratch.distances[i], scratch.fresh[i]);
        }
        std::sort(choice.sorted.begin(), choice.sorted.end());
        select(settings_.m, choice);
        if (level == 0) {
            plan.parent = choose_parent(choice.sorted);
            if (std::find(choice.chosen.begin(), choice.chosen.end(), plan.parent) == choice.chosen.end()) {
                choice.chosen.push_back(plan.parent);
            }
        }
        const std::vector<Slot> chosen = choice.chosen;
        for (const Slot other : chosen) {
            const bool is_new = std::find(scratch.fresh.begin(), scratch.fresh.end(), other) != scratch.fresh.end();
            const bool stays = level == 0 && other == plan.parent;
            const Slot out = is_new || !full(other, level) ? kNone : victim(other, slot, level, stays, choice);
            if (out != slot) plan.ties.push_back({level, other, out});
        }
    }
}

// Algorithm 4 over choice.sorted, nearest first: a candidate that lies nearer to one already taken than to the node
// itself is pruned, and pruned ones fill up what remains.
void HNSW::select(std::size_t count, Choice &choice) const {
    auto &[query, slots, distances, sorted, chosen, left] = choice;
    chosen.clear();
    left = sorted;
    std::vector<Candidate> pruned;
    while (!left.empty() && chosen.size() < count) {
        const Slot taken = left.front().slot();
        chosen.push_back(taken);
        left.erase(left.begin());
        if (chosen.size() == count) break;
        prepare(taken, query);
        slots.clear();
        for (const Candidate &one : left) slots.push_back(one.slot());
        estimate(query, slots, distances);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < left.size(); ++i) {
            if (distances[i] < left[i].distance()) {
                pruned.push_back(left[i]);
            } else {
                left[kept++] = left[i];
            }
        }
        left.resize(kept);
    }
    const std::size_t room = std::min(count - chosen.size(), pruned.size());
    std::partial_sort(pruned.begin(), pruned.begin() + static_cast<std::ptrdiff_t>(room), pruned.end());
    for (std::size_t i = 0; i < room; ++i) chosen.push_back(pruned[i].slot());
}

// Which link the full node `of` gives up for `newcomer`, never an edge of the spanning tree: the farthest that lies
// nearer to another link than to the node, or else the farthest. It may be the newcomer itself.
Slot HNSW::victim(Slot of, Slot newcomer, std::size_t level, bool newcomer_stays, Choice &choice) const {
    auto &[query, slots, distances, sorted, chosen, left] = choice;
    const auto have = linked_to(of, level);
    slots.assign(have.begin(), have.end());
    slots.push_back(newcomer);
    prepare(of, query);
    estimate(query, slots, distances);
    left.clear();
    for (std::size_t i = 0; i < slots.size(); ++i) left.emplace_back(distances[i], slots[i]);
    std::sort(left.begin(), left.end());
    slots.clear();
    for (const Candidate &one : left) slots.push_back(one.slot());
    const auto may_go = [&](Slot slot) { return slot == newcomer ? !newcomer_stays : level > 0 || !on_tree(of, slot); };
    Slot farthest = kNone;
    for (std::size_t i = slots.size(); i-- > 0;) {
        if (!may_go(slots[i])) continue;
        if (farthest == kNone) farthest = slots[i];
        prepare(slots[i], query);
        estimate(query, std::span(slots).first(i), distances);
        const float reach = left[i].distance();
        if (std::any_of(distances.begin(), distances.end(), [=](float distance) { return distance < reach; })) return slots[i];
    }
    if (farthest == kNone) throw std::logic_error("a full node has tree edges alone");
    return farthest;
}

// The nearest node that can take one more child.
Slot HNSW::choose_parent(const std::vector<Candidate> &sorted) const {
    for (const Candidate &one : sorted) {
        if (children_[one.slot()] < max_children_) return one.slot();
    }
    return with_room_below(sorted.front().slot());
}

// A node with room for a child: `slot` or one below it in the tree, down to a leaf. Allocates nothing, for a delete asks.
Slot HNSW::with_room_below(Slot slot) const {
    while (children_[slot] >= max_children_) {
        const auto of = linked_to(slot, 0);
        const auto child = std::find_if(of.begin(), of.end(), [&](Slot other) { return parent_[other] == slot; });
        if (child == of.end()) throw std::logic_error("a node miscounts its children");
        slot = *child;
    }
    return slot;
}

// Makes a plan true again where nodes that went first have changed what it was made from.
void HNSW::renew(Plan &plan, Slot slot, const std::unordered_set<Slot> &touched, Choice &choice) const {
    if (touched.empty()) return;
    if (plan.parent != kNone && children_[plan.parent] >= max_children_) {
        plan.parent = with_room_below(plan.parent);
        const auto is_tied = [&](const Tie &one) { return one.level == 0 && one.other == plan.parent; };
        if (std::none_of(plan.ties.begin(), plan.ties.end(), is_tied)) {
            if (std::count_if(plan.ties.begin(), plan.ties.end(), [](const Tie &one) { return one.level == 0; }) ==
                static_cast<std::ptrdiff_t>(capacity(0))) {
                plan.ties.erase(std::find_if(plan.ties.begin(), plan.ties.end(), [](const Tie &one) { return one.level == 0; }));
            }
            const Slot out = full(plan.parent, 0) ? victim(plan.parent, slot, 0, true, choice) : kNone;
            plan.ties.push_back({0, plan.parent, out});
        }
    }
    for (Tie &one : plan.ties) {
        if (!touched.contains(one.other)) continue;
        const bool stays = one.level == 0 && one.other == plan.parent;
        one.victim = full(one.other, one.level) ? victim(one.other, slot, one.level, stays, choice) : kNone;
    }
    std::erase_if(plan.ties, [&](const Tie &one) { return one.victim == slot; });
}

void HNSW::link(Slot slot, const Plan &plan) noexcept {
    levels_[slot] = static_cast<std::uint8_t>(plan.level);
    if (plan.level > 0) {
        tower_[slot] = std::exchange(free_towers_[plan.level], *towers_.at(free_towers_[plan.level]));
        *towers_.at(tower_[slot]) = kNone;
    }
    children_[slot] = 0;
    parent_[slot] = plan.parent;
    if (plan.parent != kNone) ++children_[plan.parent];
    for (const Tie &one : plan.ties) {
        if (one.victim != kNone) cut(one.other, one.victim, one.level);
        tie(slot, one.other, one.level);
    }
    if (entry_ == kNone || plan.level > levels_[entry_]) entry_ = slot;
}

}  // namespace llmspell
