// Snapshots of an index: everything but what can be derived in no time.
#include <algorithm>
#include <bit>

#include "hnsw.hpp"
#include "snapshot.hpp"

namespace llmspell {
namespace {

// The section of settings: these, and then the caller's note.
enum Setting : std::size_t {
    kDimensions,
    kMetric,
    kStorage,
    kM,
    kEfConstruction,
    kRandom,
    kSlots,
    kEntry,
    kSettings,
};

template <class T>
std::span<const T> span_of(const std::vector<T> &values) {
    return {values.data(), values.size()};
}

template <class T>
void copy(std::span<T> from, std::size_t expected, std::vector<T> &to) {
    if (from.size() != expected) throw Damaged("a section has the wrong length");
    to.assign(from.begin(), from.end());
}

template <class T>
void borrow(std::span<T> from, std::size_t rows, Chunked<T> &to) {
    if (from.size() != rows * to.width()) throw Damaged("a section has the wrong length");
    to.borrow(from.data(), rows);
}

}  // namespace

void FlatIndex::put_all(SnapshotWriter &writer) const {
    std::vector<float> levels = quantizer_->learned();
    levels.push_back(longest_);
    levels.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(learned_from_)));
    levels.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(since_)));
    writer.put(Section::levels_of_values, span_of(levels));
    writer.put(Section::vectors, vectors_, slots());
    writer.put(Section::codes, codes_, slots());
    writer.put(Section::residuals, span_of(residuals_));
    writer.put(Section::terms, span_of(terms_));
    writer.put(Section::labels, span_of(labels_));
    std::vector<std::int64_t> crowds;
    for (const auto &crowd : crowds_) {
        crowds.push_back(static_cast<std::int64_t>(crowd.size()));
        crowds.insert(crowds.end(), crowd.begin(), crowd.end());
    }
    writer.put(Section::crowds, span_of(crowds));
    writer.put(Section::free_slots, span_of(free_));
    writer.put(Section::row_table, span_of(rows_.cells()));
}

void FlatIndex::take_all(const std::shared_ptr<Snapshot> &snapshot, std::size_t slots) {
    const auto levels = snapshot->checked<float>(Section::levels_of_values);
    auto quantizer = std::make_shared<Quantizer>(space_.dimensions, space_.metric);
    const std::size_t learned = quantizer->learned().size();
    if (levels.size() != learned + 3) throw Damaged("a section has the wrong length");
    quantizer->recall(levels);
    quantizer_ = std::move(quantizer);
    longest_ = levels[learned];
    learned_from_ = std::bit_cast<std::uint32_t>(levels[learned + 1]);
    since_ = std::bit_cast<std::uint32_t>(levels[learned + 2]);
    borrow(snapshot->unchecked<std::byte>(Section::vectors), slots, vectors_);
    borrow(snapshot->unchecked<std::uint8_t>(Section::codes), slots, codes_);
    copy(snapshot->checked<std::uint8_t>(Section::residuals), slots, residuals_);
    if (slots > 0) widest_residual_ = *std::max_element(residuals_.begin(), residuals_.end());
    copy(snapshot->checked<float>(Section::terms), space_.metric == Metric::euclidean ? slots : 0, terms_);
    copy(snapshot->checked<Label>(Section::labels), slots, labels_);
    const auto crowds = snapshot->checked<std::int64_t>(Section::crowds);
    for (std::size_t at = 0; at < crowds.size();) {
        const auto count = static_cast<std::size_t>(crowds[at++]);
        const auto members = crowds.subspan(at, std::min(count, crowds.size() - at));
        crowds_.emplace_back(members.begin(), members.end());
        at += count;
    }
    free_crowds_.reserve(crowds_.size());
    for (std::size_t i = crowds_.size(); i-- > 0;) {
        if (crowds_[i].empty()) free_crowds_.push_back(static_cast<std::uint32_t>(i));
    }
    const auto free = snapshot->checked<Slot>(Section::free_slots);
    free_.reserve(slots);
    free_.assign(free.begin(), free.end());
    for (Slot slot = 0; slot < slots; ++slot) {
        for (const Label label : labels_of(slot)) slots_.put(label, slot);
    }
    rows_.restore(snapshot->checked<std::uint64_t>(Section::row_table), slots - free_.size());
    snapshot_ = snapshot;
}

void HNSW::save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const {
    const auto lock = writing();
    require_whole();
    SnapshotWriter writer(path);
    std::vector<std::uint64_t> settings(kSettings);
    settings[kDimensions] = space_.dimensions;
    settings[kMetric] = static_cast<std::uint64_t>(space_.metric);
    settings[kStorage] = static_cast<std::uint64_t>(space_.storage);
    settings[kM] = settings_.m;
    settings[kEfConstruction] = settings_.ef_construction;
    settings[kRandom] = random_;
    settings[kSlots] = slots();
    settings[kEntry] = entry_;
    settings.insert(settings.end(), note.begin(), note.end());
    writer.put(Section::settings, span_of(settings));
    put_all(writer);
    writer.put(Section::heights, span_of(levels_));
    writer.put(Section::parents, span_of(parent_));
    writer.put(Section::children, span_of(children_));
    writer.put(Section::ground_links, ground_, slots());
    std::vector<Slot> upper;
    for (Slot slot = 0; slot < slots(); ++slot) {
        if (levels_[slot] == 0) continue;
        for (std::size_t level = 1; level <= levels_[slot]; ++level) {
            const Links of = links(slot, level);
            upper.insert(upper.end(), of, of + settings_.m);
        }
    }
    writer.put(Section::upper_links, span_of(upper));
    writer.finish();
}

std::unique_ptr<HNSW> HNSW::open(const std::filesystem::path &path, std::vector<std::uint64_t> &note) {
    const auto snapshot = std::make_shared<Snapshot>(path);
    const auto settings = snapshot->checked<std::uint64_t>(Section::settings);
    if (settings.size() < kSettings) throw Damaged("a section has the wrong length");
    note.assign(settings.begin() + kSettings, settings.end());
    auto index = std::make_unique<HNSW>(
        Space{settings[kDimensions], static_cast<Metric>(settings[kMetric]), static_cast<Storage>(settings[kStorage])},
        GraphSettings{settings[kM], settings[kEfConstruction], settings[kRandom]});
    const std::size_t slots = settings[kSlots];
    index->take_all(snapshot, slots);
    index->entry_ = static_cast<Slot>(settings[kEntry]);
    copy(snapshot->checked<std::uint8_t>(Section::heights), slots, index->levels_);
    copy(snapshot->checked<Slot>(Section::parents), slots, index->parent_);
    copy(snapshot->checked<std::uint8_t>(Section::children), slots, index->children_);
    borrow(snapshot->checked<Slot>(Section::ground_links), slots, index->ground_);
    const auto upper = snapshot->checked<Slot>(Section::upper_links);
    index->tower_.resize(slots, kNone);
    for (Slot slot = 0; slot < slots; ++slot) {
        if (index->levels_[slot] == 0) continue;
        index->tower_[slot] = index->tower_rows_;
        index->tower_rows_ += index->levels_[slot];
    }
    borrow(upper, index->tower_rows_, index->towers_);
    snapshot->compare_rest();
    return index;
}

}  // namespace llmspell
