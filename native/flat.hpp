// Vectors under labels, searched by looking at every one: of its code first, and of the row itself only where the code
// cannot rule it out. Results are exact, for the error of a code is bounded and the bound is kept.
//
// A node stands for a vector, not for a label: labels whose vectors are equal to the byte share one node. Were each a
// node of its own, a crowd of equal texts would fill every search that comes near.
//
// One writer at a time beside any number of readers, who are shut out only while something changes that they can see.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "chunked.hpp"
#include "labels.hpp"
#include "quantizer.hpp"
#include "row_set.hpp"
#include "scratch.hpp"
#include "snapshot.hpp"

namespace llmspell {

// How a search goes about it: whichever promises to be cheaper, or the one that a test asks for.
enum class Route { cheapest, graph, scan, exact };

// What a vector is kept as.
enum class Storage { float32, float16 };

struct Space {
    std::size_t dimensions;
    Metric metric;
    Storage storage = Storage::float32;
};

// One search. `among`, where given, holds the only labels that may be returned.
struct Wanted {
    std::size_t k;
    std::size_t ef = 0;  // of no meaning to a scan
    const LabelSet *among = nullptr;
    Route route = Route::cheapest;
};

struct Found {
    std::vector<Label> labels;
    std::vector<float> scores;  // higher is nearer: cosine, inner product, or the negated distance
};

// Thrown for a vector that holds NaN or infinity, or is longer than the metric can bear.
struct Unacceptable : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

class FlatIndex {
  public:
    // Two vectors this long are at most 4e36 apart, squared; float32 ends at 3.4e38. Cosines take any length.
    static constexpr double kLongest = 1e18;

    explicit FlatIndex(const Space &space);
    virtual ~FlatIndex() = default;
    FlatIndex(const FlatIndex &) = delete;
    FlatIndex &operator=(const FlatIndex &) = delete;

    // `vectors` holds `count` rows of `dimensions` floats. A label that is there already gets the new vector.
    void add(const Label *labels, const float *vectors, std::size_t count, std::size_t threads = 1);

    // Returns whether the label was there.
    bool remove(Label label);

    // The k nearest labels, best first; equal ones by label. Fewer only where fewer labels may be returned.
    Found search(const float *query, const Wanted &wanted) const;

    // The scores of labels, as a search would give them; `absent` for one that is not there.
    void scores(const float *query, std::span<const Label> labels, float absent, float *scores) const;

    std::size_t size() const;
    std::size_t memory_bytes() const;
    const Space &space() const { return space_; }

    // Waits until all of the snapshot it was opened from, if any, is compared; throws Damaged.
    void verify() const {
        if (snapshot_) snapshot_->wait();
    }

    // Empty when every invariant holds, else a sentence that says which does not. Visits everything.
    std::string check() const;

  protected:
    // A label that gets the vector of a slot claimed for it, and the node it has been at, or kNone.
    struct Newcomer {
        Label label;
        Slot slot;
        Slot before;
    };

    // --- what a graph adds. Writers come one at a time; readers are not yet shut out.
    // How many new nodes may be settled together, now that there are so many.
    virtual std::size_t batch_limit() const { return 256; }
    // Makes new nodes visible, in order.
    virtual void settle(std::span<const Newcomer> newcomers, std::size_t threads);
    // Takes a node that no label is left to out of the graph, with readers shut out. `before_unlinking` comes first,
    // while they are not, and allocates what is needed.
    virtual void before_unlinking(Slot) {}
    virtual void unlink(Slot) {}
    // Room for one more slot, with readers shut out; nothing is changed when memory runs out.
    virtual void reach(Slot) {}
    // By how many standard deviations of an estimate's error a scan rules out. Without limit the bound is kept.
    virtual float deviations_in_scans() const { return std::numeric_limits<float>::infinity(); }
    // Fills scratch.hits and returns true, or returns false where a scan is to do it.
    virtual bool approximate(const Wanted &, Scratch &) const { return false; }
    virtual std::size_t own_bytes() const { return 0; }
    virtual std::string check_own() const { return {}; }

    // Makes a newcomer's node live, with readers shut out. Nothing is changed when memory runs out.
    void appear(const Newcomer &newcomer);

    // --- snapshots, with writers shut out
    void put_all(SnapshotWriter &writer) const;
    void take_all(const std::shared_ptr<Snapshot> &snapshot, std::size_t slots);
    std::unique_lock<std::mutex> writing() const { return std::unique_lock(write_); }
    void require_whole() const {
        if (snapshot_) snapshot_->require_whole();
    }

    // --- geometry
    static constexpr std::size_t kAtOnce = 32;    // codes that are compared in one call
    static constexpr std::size_t kRowsAhead = 3;  // rows asked for before they are needed
    void prepare(Slot slot, CodeQuery &query) const;
    void load(Slot slot, AlignedVector<float> &row) const;
    float distance(const float *row, Slot slot) const;
    // Whether walks compare rows instead of codes: narrow ones are as quick, and their codes are too much alike where few
    // values occur.
    bool narrow() const { return space_.dimensions <= 64; }
    // The estimated distance of a slot whose code has this product with the query.
    float estimated(const CodeQuery &query, std::int32_t product, Slot slot) const {
        const float distance = query.base + query.factor * static_cast<float>(product);
        return space_.metric == Metric::euclidean ? distance + terms_[slot] : distance;
    }
    // Estimated distances of `slots`.
    void estimate(const CodeQuery &query, std::span<const Slot> slots, std::vector<float> &distances) const;
    LLMSPELL_INLINE void prefetch_code(Slot slot) const { prefetch(codes_.at(slot), codes_.width()); }
    LLMSPELL_INLINE void prefetch_row(Slot slot) const { prefetch(vectors_.at(slot), row_bytes()); }
    LLMSPELL_INLINE void prefetch_label(Slot slot) const { prefetch(&labels_[slot]); }
    // A distance as a hit has it: what scores are made of, so that equal scores are ordered by label. And an upper bound
    // of all distances that this would make equal to this one.
    float measured(float distance) const;
    float farthest_measured_as(float distance) const;
    float score(float measured) const { return space_.metric == Metric::cosine ? 1.0F - measured : -measured; }

    // --- nodes and labels
    bool live(Slot slot) const { return labels_[slot] != kNoLabel; }
    bool returnable(Slot slot, const LabelSet *among) const;
    std::span<const Label> labels_of(Slot slot) const;
    std::size_t nodes() const { return rows_.size(); }
    std::size_t slots() const { return labels_.size(); }
    void collect(Slot slot, float distance, const Wanted &wanted, std::vector<Hit> &hits) const;

    std::shared_lock<std::shared_mutex> reading() const;
    std::unique_lock<std::shared_mutex> changing();

    std::shared_ptr<Snapshot> snapshot_;  // what some of the rows below may lie in
    Space space_;
    std::size_t stride_;       // floats of a padded row
    std::size_t coded_width_;  // floats that a quantizer takes
    Chunked<std::byte> vectors_;
    Chunked<std::uint8_t> codes_;
    std::vector<std::uint8_t> residuals_;  // of each slot, packed
    std::shared_ptr<const Quantizer> quantizer_;
    mutable ScratchPool scratch_;

  private:
    static constexpr Label kNoLabel = -1;  // of a slot that is free, or about to be

    std::size_t row_bytes() const { return stride_ * (space_.storage == Storage::float32 ? sizeof(float) : sizeof(Half)); }

    // adding
    void prepare_row(const float *vector, AlignedVector<float> &row) const;
    void pack(const AlignedVector<float> &row, std::byte *bytes) const;
    void code(Slot slot, AlignedVector<float> &row, AlignedVector<float> &work);
    void replace(Label label, Slot before, Slot twin, const std::byte *bytes);
    void flush(std::vector<Newcomer> &pending, std::size_t threads);
    bool learn_when_due(std::span<const Newcomer> pending);
    Slot claim(std::size_t pending);
    void join(Label label, Slot slot);
    void leave(Label label, Slot slot) noexcept;
    bool alone(Slot slot) const { return labels_[slot] >= 0; }
    void vanish(Slot slot) noexcept;

    // scanning
    void scan(const Wanted &wanted, Scratch &scratch) const;
    void slots_of_all(std::vector<Slot> &slots) const;
    void slots_of(std::span<const Label> labels, std::vector<Slot> &slots) const;
    void slots_among(const LabelSet &among, Scratch &scratch) const;
    std::string check_labels(Slot slot) const;

    RowSet rows_;                                  // the slots of all nodes, by their vectors
    std::vector<Label> labels_;                    // of each slot; kNoLabel, or -2 - i for the labels of crowds_[i]
    std::vector<std::vector<Label>> crowds_;       // the labels, in order, of a node that has several
    std::vector<std::uint32_t> free_crowds_;       // has room for all of them
    LabelMap slots_;
    std::vector<Slot> free_;                       // has room for every slot, so that a delete never fails
    std::vector<float> terms_;                     // of each slot, under the euclidean metric alone
    std::uint8_t widest_residual_ = 0;             // the greatest ever of residuals_
    float longest_ = 0.0F;                         // the greatest length ever of a coded row
    std::size_t learned_from_ = 0;                 // nodes, when the quantizer was made
    std::size_t since_ = 0;                        // nodes added since

    mutable std::mutex write_;          // one writer
    mutable std::mutex gate_;           // a waiting writer holds back new readers, so that it cannot starve
    mutable std::shared_mutex graph_;   // shared while reading, exclusive while something visible changes
};

}  // namespace llmspell
