// Links and walks. Insertion and deletion have files of their own.
#include "hnsw.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace llmspell {
namespace {

constexpr std::size_t kTowerBytes = 1 << 14;  // of a chunk of towers: a sixteenth of all nodes has one
constexpr std::size_t kMostChildren = 255;  // of a node in the spanning tree: they are counted in a byte

// Nanoseconds, measured on 384-d vectors; only their ratios matter.
constexpr double kScanned = 10.0;                // a code in a scan of all,
constexpr double kPicked = 25.0;                 // in a scan of some, which lie apart,
constexpr double kWalked = 17.0;                 // in a walk, with what a walk costs besides,
constexpr double kWalkedThrough = 40.0;          // in one under a filter, which asks each for its labels,
constexpr double kPlaced = 0.15;                 // and moving one candidate aside for another
constexpr double kDistancesPerCandidate = 12.0;  // that a walk computes for each candidate it expands

double cost_of_walk(double each, double expanded, std::size_t ef) {
    return kDistancesPerCandidate * expanded * (each + kPlaced * static_cast<double>(ef));
}

// A walk under a filter expands 1/share times as many nodes as it keeps, and the more it expands the less it misses: so
// it may keep fewer. Where a tenth of what it meets passes, 16 candidates find what 50 do without a filter, and more.
// Not much fewer than k and its half, though, for a code puts some of the k nearest behind others.
std::size_t ef_under(double share, std::size_t ef, std::size_t k) {
    const auto by_share = static_cast<std::size_t>(std::ceil(static_cast<double>(ef) * std::sqrt(share)));
    return std::min(ef, std::max(k + k / 2 + 1, by_share));
}

// Where the entries of a filter lie far from the query, a walk wanders among others before it comes to them. It is given
// up for a scan of the entries once it has computed as many distances; and after the first few already, where such
// a scan is short and hardly any of them passed.
constexpr std::size_t kFirstFew = 400;
constexpr std::size_t kShortScan = 16'384;
constexpr double kHardlyAny = 0.5;  // of the share that the filter lets pass

// A walk on the lowest layer begins with an entrance for every twelve candidates that it may keep, but few in all.
constexpr std::size_t kCandidatesPerEntrance = 12;
constexpr std::size_t kMostEntrances = 4;

}  // namespace

HNSW::HNSW(const Space &space, const GraphSettings &settings)
    : FlatIndex(space),
      settings_(settings),
      max_children_(std::clamp<std::size_t>(settings.m, 2, kMostChildren)),
      level_scale_(1.0 / std::log(static_cast<double>(settings.m))),
      random_(settings.seed),
      ground_(2 * settings.m, kNone),
      towers_(settings.m, kNone, kTowerBytes),
      free_towers_(kTopLevel + 1, kNone) {}

std::size_t HNSW::own_bytes() const {
    return ground_.memory_bytes() + towers_.memory_bytes() + levels_.capacity() + children_.capacity() +
           (tower_.capacity() + parent_.capacity()) * sizeof(Slot);
}

void HNSW::reach(Slot slot) {
    ground_.reach(slot);
    tower_.resize(slot + std::size_t{1}, kNone);
    levels_.resize(slot + std::size_t{1}, 0);
    parent_.resize(slot + std::size_t{1}, kNone);
    children_.resize(slot + std::size_t{1}, 0);
}

// --- links ----------------------------------------------------------------------------------------------------------

std::span<Slot> HNSW::linked_to(Slot slot, std::size_t level) const {
    const Links of = links(slot, level);
    return {of, std::find(of, of + capacity(level), kNone)};
}

bool HNSW::linked(Slot a, Slot b, std::size_t level) const {
    const Links of = links(a, level);
    return std::find(of, of + capacity(level), b) != of + capacity(level);
}

void HNSW::tie(Slot a, Slot b, std::size_t level) {
    *linked_to(a, level).end() = b;
    *linked_to(b, level).end() = a;
}

void HNSW::cut(Slot a, Slot b, std::size_t level) {
    cut_one_way(a, b, level);
    cut_one_way(b, a, level);
}

void HNSW::cut_one_way(Slot from, Slot to, std::size_t level) {
    const auto of = linked_to(from, level);
    const auto at = std::find(of.begin(), of.end(), to);
    if (at == of.end()) return;
    *at = of.back();
    of.back() = kNone;
}

// --- walking --------------------------------------------------------------------------------------------------------

// Greedy descent from the entry point through the upper layers to the one above `down_to`; what it ends at is the pool.
void HNSW::descend(const CodeQuery &query, std::size_t down_to, Scratch &scratch) const {
    auto &distances = scratch.distances;
    estimate(query, {&entry_, 1}, distances);
    Candidate nearest(distances[0], entry_);
    for (std::size_t level = levels_[entry_]; level > down_to; --level) {
        for (bool moved = true; moved;) {
            moved = false;
            const auto of = linked_to(nearest.slot(), level);
            for (const Slot slot : of) prefetch_code(slot);
            estimate(query, of, distances);
            for (std::size_t i = 0; i < of.size(); ++i) {
                const Candidate next(distances[i], of[i]);
                if (next < nearest) {
                    nearest = next;
                    moved = true;
                }
            }
        }
    }
    scratch.pool.assign(1, nearest);
}

// The same down to the lowest layer, but on the last one above it several candidates are kept: a query whose nearest
// neighbours are in two places is led to both.
void HNSW::enter(const CodeQuery &query, std::size_t ef, Scratch &scratch) const {
    descend(query, 1, scratch);
    const std::size_t entrances = std::clamp<std::size_t>(ef / kCandidatesPerEntrance, 1, kMostEntrances);
    if (levels_[entry_] > 0) walk(query, entrances, 1, scratch);
}

// The neighbours of a node that the walk has not seen; their codes are on their way.
void HNSW::gather(Slot slot, std::size_t level, Scratch &scratch, std::vector<Slot> &into) const {
    const auto of = linked_to(slot, level);
    into.resize(capacity(level));
    into.resize(scratch.visited.mark_all(of, into.data()));
    for (const Slot other : into) prefetch_code(other);
}

// How many of a sorted pool come before a candidate: a search that does not branch.
std::size_t HNSW::place_in(const std::vector<Candidate> &pool, Candidate next) {
    const Candidate *first = pool.data();
    for (std::size_t count = pool.size(); count > 0;) {
        const std::size_t half = (count + 1) / 2;
        first += half * static_cast<std::size_t>(first[half - 1] < next);
        count -= half;
    }
    return static_cast<std::size_t>(first - pool.data());
}

// Estimates scratch.fresh and puts what is among the `ef` nearest into the pool; returns the first place that changed.
std::size_t HNSW::merge(const CodeQuery &query, std::size_t ef, Scratch &scratch) const {
    auto &pool = scratch.pool;
    std::size_t first = pool.size();
    estimate(query, scratch.fresh, scratch.distances);
    for (std::size_t i = 0; i < scratch.fresh.size(); ++i) {
        const Candidate next(scratch.distances[i], scratch.fresh[i]);
        if (pool.size() == ef) {
            if (!(next < pool.back())) continue;
            pool.pop_back();
        }
        const auto place = pool.begin() + static_cast<std::ptrdiff_t>(place_in(pool, next));
        first = std::min(first, static_cast<std::size_t>(place - pool.begin()));
        pool.insert(place, next);
        prefetch_links(next.slot());
    }
    return first;
}

// Algorithm 2: best-first from what is in scratch.pool, which holds the `ef` nearest in the end, in order. A step ahead
// of the codes: the next node is chosen, and the codes of its neighbours asked for, before those of the last one are
// compared. What they would have changed about the choice costs less than waiting for them.
void HNSW::walk(const CodeQuery &query, std::size_t ef, std::size_t level, Scratch &scratch) const {
    auto &pool = scratch.pool;
    pool.reserve(ef + 1);
    pool.resize(std::min(pool.size(), ef));
    scratch.visited.start(slots());
    for (Candidate &one : pool) {
        one = Candidate(one.distance(), one.slot());
        scratch.visited.mark(one.slot());
    }
    scratch.fresh.clear();
    for (std::size_t at = 0;;) {
        while (at < pool.size() && pool[at].expanded()) ++at;
        scratch.gathered.clear();
        if (at < pool.size()) {
            pool[at].expand();
            gather(pool[at].slot(), level, scratch, scratch.gathered);
        } else if (scratch.fresh.empty()) {
            return;
        }
        at = std::min(at, merge(query, ef, scratch));
        scratch.fresh.swap(scratch.gathered);
    }
}

// The same under a filter: what may not be returned is walked through. Leaves the `ef` nearest that may be, in order;
// false where a scan is the better way.
bool HNSW::walk_through(const Wanted &wanted, std::size_t most, double share, Scratch &scratch) const {
    auto &[row, query, visited, pool, frontier, fresh, gathered, distances, highest, possible, hits] = scratch;
    const std::size_t candidates = wanted.among->size();
    const bool may_give_up = wanted.route == Route::cheapest;
    std::size_t ef = most;
    std::size_t computed = 0;
    std::size_t passed = 0;
    visited.start(slots());
    frontier.clear();
    for (const Candidate &one : pool) {
        visited.mark(one.slot());
        frontier.emplace_back(one.distance(), one.slot());
    }
    std::make_heap(frontier.begin(), frontier.end(), std::greater<>());
    std::erase_if(pool, [&](const Candidate &one) { return !returnable(one.slot(), wanted.among); });
    std::make_heap(pool.begin(), pool.end());
    while (!frontier.empty()) {
        const Candidate best = frontier.front();
        if (pool.size() >= ef && pool.front() < best) break;
        std::pop_heap(frontier.begin(), frontier.end(), std::greater<>());
        frontier.pop_back();
        fresh.clear();
        gather(best.slot(), 0, scratch, fresh);
        for (const Slot slot : fresh) prefetch_label(slot);
        if (!frontier.empty()) prefetch_links(frontier.front().slot());
        if (may_give_up && computed > kFirstFew) {
            const double met = static_cast<double>(passed) / static_cast<double>(computed);
            if (computed > candidates || (candidates < kShortScan && met < kHardlyAny * share)) return false;
            ef = ef_under(std::max(share, met), most, wanted.k);
            for (; pool.size() > ef; pool.pop_back()) std::pop_heap(pool.begin(), pool.end());
        }
        computed += fresh.size();
        estimate(query, fresh, distances);
        for (std::size_t i = 0; i < fresh.size(); ++i) {
            const Candidate next(distances[i], fresh[i]);
            const bool passes = returnable(fresh[i], wanted.among);
            passed += passes;
            if (pool.size() >= ef && !(next < pool.front())) continue;
            frontier.push_back(next);
            std::push_heap(frontier.begin(), frontier.end(), std::greater<>());
            if (passes) keep_least(pool, next, ef);
        }
    }
    std::sort_heap(pool.begin(), pool.end());
    return true;
}

// Compares the pool by their rows, the best estimates first, but for those that are too far behind the k-th whatever
// their error. Says whether k labels were found.
bool HNSW::look_again(const Wanted &wanted, Scratch &scratch) const {
    const auto &pool = scratch.pool;
    const auto &hits = scratch.hits;
    const Quantizer::Errors errors(*quantizer_, scratch.query, kDeviations);
    const auto matters = [&](const Candidate &one) {
        return hits.size() < wanted.k ||
               !(measured(one.distance() - errors.of(residuals_[one.slot()])) > hits.front().distance);
    };
    for (const Candidate &one : pool) prefetch_label(one.slot());
    for (std::size_t i = 0; i < pool.size(); ++i) {
        const Slot slot = pool[i].slot();
        if (i + kRowsAhead < pool.size() && matters(pool[i + kRowsAhead])) prefetch_row(pool[i + kRowsAhead].slot());
        if (matters(pool[i])) collect(slot, measured(distance(scratch.row.data(), slot)), wanted, scratch.hits);
    }
    return scratch.hits.size() == wanted.k;
}

bool HNSW::approximate(const Wanted &wanted, Scratch &scratch) const {
    if (entry_ == kNone) return false;
    const bool forced = wanted.route == Route::graph;
    const std::size_t ef = std::max(wanted.ef, wanted.k);
    if (wanted.among == nullptr) {
        const double scan = kScanned * static_cast<double>(nodes());
        if (!forced && scan <= cost_of_walk(kWalked, static_cast<double>(ef), ef)) return false;
        enter(scratch.query, ef, scratch);
        walk(scratch.query, ef, 0, scratch);
    } else {
        const auto candidates = static_cast<double>(wanted.among->size());
        const double share = std::min(1.0, candidates / static_cast<double>(nodes()));
        const std::size_t fewer = ef_under(share, ef, wanted.k);
        const double walk = cost_of_walk(kWalkedThrough, static_cast<double>(fewer) / share, fewer);
        if (!forced && kPicked * candidates <= walk) return false;
        enter(scratch.query, ef, scratch);
        if (!walk_through(wanted, ef, share, scratch)) return false;
    }
    if (look_again(wanted, scratch)) return true;
    scratch.hits.clear();
    return false;
}

}  // namespace llmspell
