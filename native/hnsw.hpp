// Hierarchical Navigable Small World graphs (Malkov & Yashunin, "Efficient and robust approximate nearest neighbor
// search using Hierarchical Navigable Small World graphs", TPAMI 2018), with live deletion.
//
// Three things differ from the paper, all for the sake of deletes, of reachability and of repetition:
//
//  * Links are kept in both directions. A node knows all that point at it, so a delete is local: it leaves no dangling
//    link and its slot is free at once.
//  * A spanning tree runs through the lowest layer. Every node but one has a parent among its links, the edge between
//    them is never pruned, and a delete hangs the orphans up again. So every live node can be reached from every other,
//    whatever was added, replaced or deleted, and in whatever order.
//  * A node stands for a vector, not for a label: labels whose vectors are equal to the byte share one node. Were each
//    a node of its own, a crowd of equal texts would link to itself and fill every walk that comes near, and what lies
//    around it would be found no more.
//
// One writer at a time beside any number of readers. A writer plans an insertion while readers go on, and shuts them out
// only to link it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunked.hpp"
#include "rows.hpp"
#include "scratch.hpp"

namespace llmspell {

enum class Metric { cosine, inner_product, euclidean };

// How a search goes about it: whichever promises to be cheaper, or the one that a test asks for.
enum class Route { cheapest, graph, scan };

struct Settings {
    std::size_t dimensions;
    Metric metric;
    std::size_t m;
    std::size_t ef_construction;
    std::uint64_t seed;
};

using Label = std::int64_t;  // never negative

struct Found {
    std::vector<Label> labels;
    std::vector<float> scores;  // higher is nearer: cosine, inner product, or the negated distance
};

class HNSW {
  public:
    explicit HNSW(const Settings &settings);

    // A label that is there already gets the new vector. `vector` holds `dimensions` floats.
    void add(Label label, const float *vector);

    // Returns whether the label was there.
    bool remove(Label label);

    // The k nearest labels, best first; equal ones by label.
    Found search(const float *query, std::size_t k, std::size_t ef, Route route = Route::cheapest) const;

    // The same among the given labels alone; unknown ones are ignored. Always min(k, how many of them are live) results.
    Found search_among(const float *query, std::size_t k, std::size_t ef, const Label *among, std::size_t count,
                       Route route = Route::cheapest) const;

    std::size_t size() const;
    std::size_t memory_bytes() const;

    // Empty when every invariant holds, else a sentence that says which does not. Visits everything.
    std::string check() const;

  private:
    using Links = std::uint32_t *;  // count, then that many slots

    // Everything an insertion changes, worked out before readers are shut out.
    struct Tie {
        std::size_t level;
        Slot other;
        Slot victim;  // unlinked from `other` first to make room; kNone where there is room
    };

    // What a filter lets pass. The bitmap is lent by a Scratch and goes back clear, whatever happens.
    struct Selection {
        explicit Selection(Bitmap &bits) : allowed(bits) {}
        ~Selection() {
            for (const Slot slot : slots) allowed.reset(slot);
        }
        Selection(const Selection &) = delete;
        Selection &operator=(const Selection &) = delete;

        Bitmap &allowed;
        std::vector<Slot> slots;      // nodes with an allowed label
        std::vector<Member> members;  // the allowed labels of those of them that have several, in order
        std::size_t singles = 0;      // how many have one
    };

    // What the deletion of a node needs to remember, allocated before anything is changed.
    struct Hole {
        std::vector<std::vector<Slot>> neighbours;  // by layer
        std::vector<Candidate> orphans;
    };

    // geometry
    const float *prepared(const float *vector, std::vector<float> &buffer) const;
    float distance(const float *a, const float *b) const;
    float distance(Slot a, Slot b) const { return distance(vectors_.at(a), vectors_.at(b)); }
    float score(float distance) const;

    // links
    std::size_t capacity(std::size_t level) const { return level == 0 ? 2 * settings_.m : settings_.m; }
    Links links(Slot slot, std::size_t level) const;
    bool linked(Slot a, Slot b, std::size_t level) const;
    void tie(Slot a, Slot b, std::size_t level);
    void cut(Slot a, Slot b, std::size_t level);
    void cut_one_way(Slot from, Slot to, std::size_t level);
    bool on_tree(Slot a, Slot b) const { return parent_[a] == b || parent_[b] == a; }

    // walking
    void descend(const float *query, std::size_t down_to, Candidate &nearest) const;
    bool walk(const float *query, Candidate start, std::size_t ef, std::size_t level, const Bitmap *allowed,
              std::size_t budget, Scratch &scratch) const;
    void scan(const float *query, std::size_t k, const std::vector<Slot> *slots, Scratch &scratch) const;
    void choose(const Label *among, std::size_t count, Selection &chosen) const;
    Found found(std::size_t k, const std::vector<Member> *members, Scratch &scratch) const;
    bool live(Slot slot) const { return labels_[slot] != kNoLabel; }

    // labels
    std::span<const Label> labels_of(Slot slot) const;
    void join(Label label, Slot slot);
    void leave(Label label, Slot slot);

    // inserting
    void insert(Label label, const float *row, Slot before);
    Slot free_slot();
    std::size_t draw_level();
    std::vector<Tie> plan(Slot slot, std::size_t level, Slot &parent);
    std::vector<Slot> select(const std::vector<Candidate> &sorted, std::size_t count) const;
    Slot victim(Slot of, Slot newcomer, std::size_t level, bool newcomer_stays) const;
    Slot choose_parent(const std::vector<Candidate> &sorted) const;
    Slot with_room_below(Slot slot) const;

    // deleting
    Hole hole_for(Slot slot) const;
    void erase(Slot slot, Hole hole);
    void rehang(Slot slot, Hole &hole);
    void hang(Slot child, Slot parent);
    void make_room(Slot slot);
    void mend(std::vector<Slot> neighbours, std::size_t level);
    void leave_entry(Slot slot, const std::vector<Slot> &neighbours);

    std::string check_node(Slot slot) const;
    std::string check_labels(Slot slot) const;

    static constexpr Label kNoLabel = -1;

    Settings settings_;
    std::size_t stride_;
    std::size_t max_children_;
    double level_scale_;
    std::uint64_t random_;

    Chunked<float> vectors_;
    RowSet rows_;                                              // the slots of all nodes, by their vectors
    Chunked<std::uint32_t> ground_;                            // links of layer 0
    std::vector<std::unique_ptr<std::uint32_t[]>> upper_;      // links of layers 1.. of each slot, end to end
    std::vector<std::uint8_t> levels_;
    std::vector<Label> labels_;                                // the least; kNoLabel: free, or about to be erased
    std::unordered_map<Slot, std::vector<Label>> crowds_;      // all labels, in order, of a node that has several
    std::vector<Slot> parent_;                                 // in the spanning tree; kNone for its root
    std::vector<std::uint16_t> children_;
    std::vector<Slot> free_;                                   // has room for every slot, so that a delete never fails
    std::unordered_map<Label, Slot> slots_;
    Slot entry_ = kNone;

    mutable std::mutex write_;          // one writer
    mutable std::mutex gate_;           // a waiting writer holds back new readers, so that it cannot starve
    mutable std::shared_mutex graph_;   // shared while reading, exclusive while links change
    mutable ScratchPool scratch_;

    std::shared_lock<std::shared_mutex> reading() const;
    std::unique_lock<std::shared_mutex> changing();
};

}  // namespace llmspell
