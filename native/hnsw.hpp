// Hierarchical Navigable Small World graphs (Malkov & Yashunin, "Efficient and robust approximate nearest neighbor
// search using Hierarchical Navigable Small World graphs", TPAMI 2018), with live deletion.
//
// What differs from the paper, all for the sake of speed, of deletes and of reachability:
//
//  * Walks look at codes of 4 bits a value (quantizer.hpp) and only the best they find are compared by their rows.
//  * Links are kept in both directions. A node knows all that point at it, so a delete is local: it leaves no dangling
//    link and its slot is free at once.
//  * A spanning tree runs through the lowest layer. Every node but one has a parent among its links, the edge between
//    them is never pruned, and a delete hangs the orphans up again. So every live node can be reached from every other,
//    whatever was added, replaced or deleted, and in whatever order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "flat.hpp"

namespace llmspell {

struct GraphSettings {
    std::size_t m;
    std::size_t ef_construction;
    std::uint64_t seed;
};

class HNSW final : public FlatIndex {
  public:
    HNSW(const Space &space, const GraphSettings &settings);

    // Writes everything to a file, in place of what was there. `note` is the caller's and comes back with `open`.
    void save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const;
    // Uses a file where it lies. Links and labels are compared with their checksums, rows and codes in the background.
    static std::unique_ptr<HNSW> open(const std::filesystem::path &path, std::vector<std::uint64_t> &note);
    const GraphSettings &settings() const { return settings_; }

  protected:
    std::size_t batch_limit() const override;
    void settle(std::span<const Newcomer> newcomers, std::size_t threads) override;
    void before_unlinking(Slot slot) override;
    void unlink(Slot slot) override;
    void reach(Slot slot) override;
    float deviations_in_scans() const override { return kDeviations; }
    bool approximate(const Wanted &wanted, Scratch &scratch) const override;
    std::size_t own_bytes() const override;
    std::string check_own() const override;

  private:
    using Links = Slot *;  // as many as there is capacity for, kNone from the first free place on

    // A link of a new node, worked out before readers are shut out.
    struct Tie {
        std::size_t level;
        Slot other;
        Slot victim;  // unlinked from `other` to make room; kNone where there is room
    };

    struct Plan {
        std::size_t level = 0;
        Slot parent = kNone;
        std::vector<Tie> ties;
    };

    // What unlinking a node needs, allocated before anything is changed.
    struct Hole {
        std::vector<Slot> neighbours;  // on the lowest layer
        std::vector<Slot> upper;       // on another, and a list that is needed for a moment
        std::vector<Candidate> orphans;
        std::vector<float> distances;
        CodeQuery query;
    };

    // What choosing links needs; `sorted` are the candidates, `chosen` what came of it.
    struct Choice {
        CodeQuery query;
        std::vector<Slot> slots;
        std::vector<float> distances;
        std::vector<Candidate> sorted;
        std::vector<Slot> chosen;
        std::vector<Candidate> left;
    };

    static constexpr std::size_t kTopLevel = 60;
    // What an estimate rules out is this many standard deviations of its error away: one in three million lies farther.
    static constexpr float kDeviations = 5.0F;

    // links
    std::size_t capacity(std::size_t level) const { return level == 0 ? 2 * settings_.m : settings_.m; }
    Links links(Slot slot, std::size_t level) const {
        return level == 0 ? ground_.at(slot) : towers_.at(tower_[slot] + static_cast<Slot>(level - 1));
    }
    std::span<Slot> linked_to(Slot slot, std::size_t level) const;
    bool linked(Slot a, Slot b, std::size_t level) const;
    bool full(Slot slot, std::size_t level) const { return links(slot, level)[capacity(level) - 1] != kNone; }
    void tie(Slot a, Slot b, std::size_t level);
    void cut(Slot a, Slot b, std::size_t level);
    void cut_one_way(Slot from, Slot to, std::size_t level);
    bool on_tree(Slot a, Slot b) const { return parent_[a] == b || parent_[b] == a; }

    // walking
    void descend(const CodeQuery &query, std::size_t down_to, Scratch &scratch) const;
    void enter(const CodeQuery &query, std::size_t ef, Scratch &scratch) const;
    void gather(Slot slot, std::size_t level, Scratch &scratch, std::vector<Slot> &into) const;
    void walk(const CodeQuery &query, std::size_t ef, std::size_t level, Scratch &scratch) const;
    bool walk_through(const Wanted &wanted, std::size_t ef, double share, Scratch &scratch) const;
    LLMSPELL_INLINE void prefetch_links(Slot slot) const { prefetch(ground_.at(slot), capacity(0) * sizeof(Slot)); }
    static std::size_t place_in(const std::vector<Candidate> &pool, Candidate next);
    std::size_t merge(const CodeQuery &query, std::size_t ef, Scratch &scratch) const;
    bool look_again(const Wanted &wanted, Scratch &scratch) const;

    // inserting
    std::size_t draw_level();
    void claim_tower(std::size_t height);
    void make(Plan &plan, std::span<const Newcomer> newcomers, std::size_t which, std::span<const Plan> plans) const;
    void select(std::size_t count, Choice &choice) const;
    Slot victim(Slot of, Slot newcomer, std::size_t level, bool newcomer_stays, Choice &choice) const;
    Slot choose_parent(const std::vector<Candidate> &sorted) const;
    Slot with_room_below(Slot slot) const;
    void renew(Plan &plan, Slot slot, const std::unordered_set<Slot> &touched, Choice &choice) const;
    void link(Slot slot, const Plan &plan) noexcept;

    // unlinking
    void free_tower(Slot slot) noexcept;
    void rehang(Slot slot);
    void hang(Slot child, Slot parent);
    void make_room(Slot slot);
    void mend(std::span<const Slot> neighbours, std::size_t level);
    void leave_entry(Slot slot, std::span<const Slot> neighbours);
    std::string check_node(Slot slot) const;

    GraphSettings settings_;
    std::size_t max_children_;
    double level_scale_;
    std::uint64_t random_;

    Chunked<Slot> ground_;                                    // links of layer 0
    Chunked<Slot> towers_;                                    // links of layers 1.., of a node's in consecutive rows
    std::vector<Slot> tower_;                                 // of each slot, the first of its rows; kNone if it has none
    Slot tower_rows_ = 0;                                     // that are there, in use or free
    std::vector<Slot> free_towers_;                           // by height, the first; each begins with the next
    std::vector<std::uint8_t> levels_;
    std::vector<Slot> parent_;                                // in the spanning tree; kNone for its root
    std::vector<std::uint8_t> children_;
    Slot entry_ = kNone;
    Hole hole_;
};

}  // namespace llmspell
