// Geometry, links and searching. Insertion and deletion have files of their own.
#include "hnsw.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "distance.hpp"

namespace llmspell {
namespace {

// A walk at `ef` computes about this many distances per candidate kept (610 at ef 50 on 100,000 384-d vectors), and
// 1/s times as many under a filter that lets a share s pass. A scan computes one per vector. Whichever is less is taken.
constexpr double kDistancesPerCandidate = 12.0;

bool scan_is_cheaper(std::size_t candidates, std::size_t total, std::size_t ef) {
    const double walk = kDistancesPerCandidate * static_cast<double>(ef) * static_cast<double>(total) /
                        static_cast<double>(std::max<std::size_t>(candidates, 1));
    return static_cast<double>(candidates) <= walk;
}

void keep_best(std::vector<Candidate> &heap, Candidate candidate, std::size_t k) {
    if (heap.size() == k) {
        if (!(candidate < heap.front())) return;
        std::pop_heap(heap.begin(), heap.end());
        heap.back() = candidate;
    } else {
        heap.push_back(candidate);
    }
    std::push_heap(heap.begin(), heap.end());
}

}  // namespace

HNSW::HNSW(const Settings &settings)
    : settings_(settings),
      stride_(padded(settings.dimensions)),
      max_children_(std::max<std::size_t>(2, settings.m)),
      level_scale_(1.0 / std::log(static_cast<double>(settings.m))),
      random_(settings.seed),
      vectors_(stride_),
      rows_(vectors_, stride_),
      ground_(2 * settings.m + 1) {}

// --- geometry -------------------------------------------------------------------------------------------------------

// Pads, and under the cosine metric scales to unit length, so that every distance is one pass over two rows. A negative
// zero becomes a positive one, so that equal vectors are equal to the byte.
const float *HNSW::prepared(const float *vector, std::vector<float> &buffer) const {
    buffer.assign(stride_, 0.0F);
    std::memcpy(buffer.data(), vector, settings_.dimensions * sizeof(float));
    if (settings_.metric == Metric::cosine) {
        double squares = 0.0;
        for (std::size_t i = 0; i < settings_.dimensions; ++i) squares += static_cast<double>(vector[i]) * vector[i];
        const double scale = squares > 0.0 ? 1.0 / std::sqrt(squares) : 0.0;
        for (float &value : buffer) value = static_cast<float>(value * scale);
    }
    for (float &value : buffer) value += 0.0F;
    return buffer.data();
}

float HNSW::distance(const float *a, const float *b) const {
    switch (settings_.metric) {
        case Metric::cosine: return 1.0F - kernels().dot(a, b, stride_);
        case Metric::inner_product: return -kernels().dot(a, b, stride_);
        case Metric::euclidean: return kernels().squared_l2(a, b, stride_);
    }
    return 0.0F;
}

float HNSW::score(float distance) const {
    switch (settings_.metric) {
        case Metric::cosine: return std::clamp(1.0F - distance, -1.0F, 1.0F);
        case Metric::inner_product: return -distance;
        case Metric::euclidean: return -std::sqrt(std::max(0.0F, distance));
    }
    return 0.0F;
}

// --- links ----------------------------------------------------------------------------------------------------------

HNSW::Links HNSW::links(Slot slot, std::size_t level) const {
    return level == 0 ? ground_.at(slot) : upper_[slot].get() + (level - 1) * (settings_.m + 1);
}

bool HNSW::linked(Slot a, Slot b, std::size_t level) const {
    const Links of = links(a, level);
    return std::find(of + 1, of + 1 + *of, b) != of + 1 + *of;
}

void HNSW::tie(Slot a, Slot b, std::size_t level) {
    for (const auto &[from, to] : {std::pair{a, b}, std::pair{b, a}}) {
        const Links of = links(from, level);
        of[++*of] = to;
    }
}

void HNSW::cut(Slot a, Slot b, std::size_t level) {
    cut_one_way(a, b, level);
    cut_one_way(b, a, level);
}

void HNSW::cut_one_way(Slot from, Slot to, std::size_t level) {
    const Links of = links(from, level);
    const Links end = of + 1 + *of;
    const Links at = std::find(of + 1, end, to);
    if (at == end) return;
    *at = *(end - 1);
    --*of;
}

// --- locks ----------------------------------------------------------------------------------------------------------

std::shared_lock<std::shared_mutex> HNSW::reading() const {
    const std::lock_guard pass(gate_);
    return std::shared_lock(graph_);
}

std::unique_lock<std::shared_mutex> HNSW::changing() {
    const std::lock_guard pass(gate_);
    return std::unique_lock(graph_);
}

// --- searching ------------------------------------------------------------------------------------------------------

// Greedy descent through the upper layers to the one above `down_to`'s; leaves the nearest node met in `nearest`.
void HNSW::descend(const float *query, std::size_t down_to, Candidate &nearest) const {
    for (std::size_t level = levels_[nearest.slot]; level > down_to; --level) {
        for (bool moved = true; moved;) {
            moved = false;
            const Links of = links(nearest.slot, level);
            for (std::uint32_t i = 1; i <= *of; ++i) {
                const Candidate next{distance(query, vectors_.at(of[i])), of[i]};
                if (next.distance < nearest.distance) {
                    nearest = next;
                    moved = true;
                }
            }
        }
    }
}

// Algorithm 2: best-first from `start`, keeping the `ef` best live (and allowed) nodes in scratch.nearest, sorted.
// Nodes that may not be returned are walked through. Returns false when `budget` distances did not suffice.
bool HNSW::walk(const float *query, Candidate start, std::size_t ef, std::size_t level, const Bitmap *allowed,
                std::size_t budget, Scratch &scratch) const {
    auto &frontier = scratch.frontier;
    auto &nearest = scratch.nearest;
    const auto returnable = [&](Slot slot) { return live(slot) && (allowed == nullptr || allowed->test(slot)); };
    frontier.assign(1, start);
    nearest.clear();
    scratch.visited.start(labels_.size());
    scratch.visited.mark(start.slot);
    if (returnable(start.slot)) nearest.push_back(start);

    while (!frontier.empty()) {
        const Candidate best = frontier.front();
        if (nearest.size() == ef && nearest.front() < best) break;
        std::pop_heap(frontier.begin(), frontier.end(), std::greater<>());
        frontier.pop_back();

        auto &fresh = scratch.slots;
        fresh.clear();
        const Links of = links(best.slot, level);
        for (std::uint32_t i = 1; i <= *of; ++i) {
            if (!scratch.visited.mark(of[i])) continue;
            fresh.push_back(of[i]);
            prefetch(vectors_.at(of[i]));
        }
        if (fresh.size() > budget) return false;
        budget -= fresh.size();
        for (const Slot slot : fresh) {
            const Candidate next{distance(query, vectors_.at(slot)), slot};
            if (nearest.size() == ef && !(next < nearest.front())) continue;
            frontier.push_back(next);
            std::push_heap(frontier.begin(), frontier.end(), std::greater<>());
            if (returnable(slot)) keep_best(nearest, next, ef);
        }
    }
    std::sort_heap(nearest.begin(), nearest.end());
    return true;
}

// The k best of `slots` (of all where null), each looked at; sorted in scratch.nearest.
void HNSW::scan(const float *query, std::size_t k, const std::vector<Slot> *slots, Scratch &scratch) const {
    auto &nearest = scratch.nearest;
    nearest.clear();
    const auto look = [&](Slot slot) {
        if (live(slot)) keep_best(nearest, {distance(query, vectors_.at(slot)), slot}, k);
    };
    if (slots != nullptr) {
        for (const Slot slot : *slots) look(slot);
    } else {
        for (Slot slot = 0; slot < labels_.size(); ++slot) look(slot);
    }
    std::sort_heap(nearest.begin(), nearest.end());
}

// The labels of a node, in order.
std::span<const Label> HNSW::labels_of(Slot slot) const {
    if (!crowds_.empty()) {
        if (const auto at = crowds_.find(slot); at != crowds_.end()) return at->second;
    }
    return {&labels_[slot], 1};
}

// The first k labels of the nodes in scratch.nearest. `members`, where given, are the only labels that may be returned
// of nodes that have several.
Found HNSW::found(std::size_t k, const std::vector<Member> *members, Scratch &scratch) const {
    auto &hits = scratch.hits;
    hits.clear();
    for (const Candidate &node : scratch.nearest) {
        if (hits.size() >= k && node.distance > hits.back().distance) break;  // equally far ones are ordered by label
        const auto all = labels_of(node.slot);
        if (members == nullptr || all.size() == 1) {
            for (const Label label : all.first(std::min(k, all.size()))) hits.push_back({node.distance, label});
            continue;
        }
        auto at = std::lower_bound(members->begin(), members->end(), Member{node.slot, 0});
        for (std::size_t i = 0; i < k && at != members->end() && at->slot == node.slot; ++i, ++at) {
            hits.push_back({node.distance, at->label});
        }
    }
    std::sort(hits.begin(), hits.end());
    hits.resize(std::min(k, hits.size()));
    Found result;
    result.labels.reserve(hits.size());
    result.scores.reserve(hits.size());
    for (const Hit &one : hits) {
        result.labels.push_back(one.label);
        result.scores.push_back(score(one.distance));
    }
    return result;
}

// `ef` nodes hold at least k labels, for each holds one.
Found HNSW::search(const float *query, std::size_t k, std::size_t ef, Route route) const {
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    const float *row = prepared(query, scratch.query);
    const auto lock = reading();
    k = std::min(k, slots_.size());
    if (k == 0) return {};
    ef = std::max(ef, k);
    if (route == Route::cheapest) route = scan_is_cheaper(rows_.size(), rows_.size(), ef) ? Route::scan : Route::graph;
    if (route == Route::scan) {
        scan(row, k, nullptr, scratch);
    } else {
        Candidate start{distance(row, vectors_.at(entry_)), entry_};
        descend(row, 0, start);
        walk(row, start, ef, 0, nullptr, SIZE_MAX, scratch);
    }
    return found(k, nullptr, scratch);
}

// A node is walked to when any of its labels is among the given.
Found HNSW::search_among(const float *query, std::size_t k, std::size_t ef, const Label *among, std::size_t count,
                         Route route) const {
    auto loan = scratch_.lend();
    Scratch &scratch = *loan;
    const float *row = prepared(query, scratch.query);
    const auto lock = reading();
    Selection chosen(scratch.allowed);
    choose(among, count, chosen);
    k = std::min(k, chosen.singles + chosen.members.size());
    if (k == 0) return {};
    ef = std::max(ef, k);
    const std::size_t nodes = chosen.slots.size();
    bool done = false;
    if (route == Route::graph || (route == Route::cheapest && !scan_is_cheaper(nodes, rows_.size(), ef))) {
        // A filter whose entries lie far from the query makes a walk wander; past the cost of a scan it is given up.
        const std::size_t budget = route == Route::graph ? SIZE_MAX : nodes;
        Candidate start{distance(row, vectors_.at(entry_)), entry_};
        descend(row, 0, start);
        done = walk(row, start, ef, 0, &scratch.allowed, budget, scratch);
        done = done && scratch.nearest.size() >= std::min(k, nodes);
    }
    if (!done) scan(row, k, &chosen.slots, scratch);
    return found(k, &chosen.members, scratch);
}

// What of `among` is there, each label once.
void HNSW::choose(const Label *among, std::size_t count, Selection &chosen) const {
    auto &[allowed, slots, members, singles] = chosen;
    allowed.resize(labels_.size());
    for (std::size_t i = 0; i < count; ++i) {
        const auto at = slots_.find(among[i]);
        if (at == slots_.end()) continue;
        const Slot slot = at->second;
        const bool shared = labels_of(slot).size() > 1;
        if (shared) members.push_back({slot, among[i]});
        if (allowed.test(slot)) continue;
        slots.push_back(slot);
        allowed.set(slot);
        singles += !shared;
    }
    std::sort(members.begin(), members.end());
    members.erase(std::unique(members.begin(), members.end()), members.end());
}

std::size_t HNSW::size() const {
    const auto lock = reading();
    return slots_.size();
}

std::size_t HNSW::memory_bytes() const {
    const auto lock = reading();
    std::size_t upper = upper_.capacity() * sizeof(upper_[0]);
    for (std::size_t slot = 0; slot < levels_.size(); ++slot) {
        upper += levels_[slot] * (settings_.m + 1) * sizeof(Slot);
    }
    // A node of the label map: key, value, next pointer and its allocation's header, and a bucket.
    constexpr std::size_t kMapNode = 48;
    std::size_t crowds = crowds_.size() * (kMapNode + sizeof(std::vector<Label>));
    for (const auto &[slot, labels] : crowds_) crowds += labels.capacity() * sizeof(Label);
    return vectors_.memory_bytes() + rows_.memory_bytes() + ground_.memory_bytes() + upper + crowds +
           levels_.capacity() * sizeof(levels_[0]) + labels_.capacity() * sizeof(Label) + parent_.capacity() * sizeof(Slot) +
           children_.capacity() * sizeof(children_[0]) + free_.capacity() * sizeof(Slot) + slots_.size() * kMapNode;
}

}  // namespace llmspell
