// Labels, rows and their codes, and how they come and go. Scanning has a file of its own.
#include "flat.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace llmspell {
namespace {

constexpr std::size_t kLearnedFrom = 16'384;  // rows at most that a quantizer is made from

}  // namespace

FlatIndex::FlatIndex(const Space &space)
    : space_(space),
      stride_(padded(space.dimensions)),
      coded_width_(blocks_of(space.dimensions) * kBlock),
      vectors_(row_bytes()),
      codes_(blocks_of(space.dimensions) * kBlockBytes),
      quantizer_(std::make_shared<const Quantizer>(space.dimensions, space.metric)),
      rows_(vectors_) {}

// --- geometry -------------------------------------------------------------------------------------------------------

// Pads, and under the cosine metric scales to unit length, so that every distance is one pass over two rows. A negative
// zero becomes a positive one, so that equal vectors are equal to the byte.
void FlatIndex::prepare_row(const float *vector, AlignedVector<float> &row) const {
    row.assign(coded_width_, 0.0F);
    std::memcpy(row.data(), vector, space_.dimensions * sizeof(float));
    double squares = kernels().dot(row.data(), row.data(), stride_);
    if (!(squares > 1e-30 && squares < 1e30)) {  // float32 has lost some of it
        squares = 0.0;
        for (const float value : row) squares += static_cast<double>(value) * value;
        if (!std::isfinite(squares)) throw Unacceptable("a vector must hold finite numbers only");
    }
    if (space_.metric == Metric::cosine) {
        const auto scale = static_cast<float>(squares > 0.0 ? 1.0 / std::sqrt(squares) : 0.0);
        if (std::isfinite(scale)) {
            for (float &value : row) value *= scale;
        } else {  // of a subnormal length
            for (float &value : row) value = static_cast<float>(value / std::sqrt(squares));
        }
    } else if (squares > kLongest * kLongest) {
        throw Unacceptable("a vector is too long for this metric");
    }
    for (float &value : row) value += 0.0F;
}

void FlatIndex::load(Slot slot, AlignedVector<float> &row) const {
    row.resize(coded_width_);
    if (space_.storage == Storage::float32) {
        std::memcpy(row.data(), vectors_.at(slot), row_bytes());
    } else {
        kernels().widen(reinterpret_cast<const Half *>(vectors_.at(slot)), row.data(), stride_);
    }
    std::fill(row.begin() + static_cast<std::ptrdiff_t>(stride_), row.end(), 0.0F);
}

float FlatIndex::distance(const float *row, Slot slot) const {
    const Kernels &use = kernels();
    const bool half = space_.storage == Storage::float16;
    const auto *full = reinterpret_cast<const float *>(vectors_.at(slot));
    const auto *halves = reinterpret_cast<const Half *>(vectors_.at(slot));
    if (space_.metric == Metric::euclidean) {
        return half ? use.squared_l2_half(row, halves, stride_) : use.squared_l2(row, full, stride_);
    }
    const float product = half ? use.dot_half(row, halves, stride_) : use.dot(row, full, stride_);
    return space_.metric == Metric::cosine ? 1.0F - product : -product;
}

void FlatIndex::prepare(Slot slot, CodeQuery &query) const {
    if (narrow()) {
        load(slot, query.row);
    } else {
        quantizer_->prepare(codes_.at(slot), query);
    }
}

void FlatIndex::estimate(const CodeQuery &query, std::span<const Slot> slots, std::vector<float> &distances) const {
    distances.resize(slots.size());
    if (narrow()) {
        for (std::size_t i = 0; i < slots.size(); ++i) distances[i] = distance(query.row.data(), slots[i]);
        return;
    }
    const auto dots = kernels().code_dots;
    const std::size_t blocks = quantizer_->blocks();
    for (std::size_t i = 0; i < slots.size(); i += kAtOnce) {
        const std::uint8_t *codes[kAtOnce];
        std::int32_t products[kAtOnce];
        const std::size_t some = std::min(kAtOnce, slots.size() - i);
        for (std::size_t j = 0; j < some; ++j) codes[j] = codes_.at(slots[i + j]);
        dots(query.values.data(), codes, some, blocks, products);
        for (std::size_t j = 0; j < some; ++j) distances[i + j] = estimated(query, products[j], slots[i + j]);
    }
}

float FlatIndex::measured(float distance) const {
    switch (space_.metric) {
        case Metric::cosine: return std::clamp(distance, 0.0F, 2.0F);
        case Metric::inner_product: return distance;
        case Metric::euclidean: return std::sqrt(std::max(0.0F, distance));
    }
    return 0.0F;
}

float FlatIndex::farthest_measured_as(float distance) const {
    constexpr float kRoots = 1.0F + 4.0F * std::numeric_limits<float>::epsilon();  // several squares have one root
    return space_.metric == Metric::inner_product ? distance : std::max(0.0F, distance) * kRoots;
}

// --- locks ----------------------------------------------------------------------------------------------------------

std::shared_lock<std::shared_mutex> FlatIndex::reading() const {
    const std::lock_guard pass(gate_);
    return std::shared_lock(graph_);
}

std::unique_lock<std::shared_mutex> FlatIndex::changing() {
    const std::lock_guard pass(gate_);
    return std::unique_lock(graph_);
}

// --- adding ---------------------------------------------------------------------------------------------------------

// New labels with new vectors are gathered and settled together; whatever else comes is done by itself, in its turn.
void FlatIndex::add(const Label *labels, const float *vectors, std::size_t count, std::size_t threads) {
    const std::lock_guard writer(write_);
    std::vector<Newcomer> pending;
    std::vector<std::uint32_t> hashes;
    std::vector<std::byte> bytes(row_bytes());
    AlignedVector<float> row;
    for (std::size_t i = 0; i < count; ++i) {
        prepare_row(vectors + i * space_.dimensions, row);
        pack(row, bytes.data());
        const std::uint32_t hash = rows_.hash_of(bytes.data());
        const auto is_pending = [&](const Newcomer &one) {
            return one.label == labels[i] ||
                   (hashes[static_cast<std::size_t>(&one - pending.data())] == hash &&
                    std::memcmp(vectors_.at(one.slot), bytes.data(), row_bytes()) == 0);
        };
        if (pending.size() >= batch_limit() || std::any_of(pending.begin(), pending.end(), is_pending)) {
            flush(pending, threads);
            hashes.clear();
        }
        const Slot before = slots_.find(labels[i]);
        const Slot twin = rows_.find(bytes.data(), hash);
        if (twin != kNone || before != kNone) {
            flush(pending, threads);
            hashes.clear();
            replace(labels[i], before, twin, bytes.data());
            continue;
        }
        const Slot slot = claim(pending.size());
        std::memcpy(vectors_.at(slot), bytes.data(), row_bytes());
        pending.push_back({labels[i], slot, kNone});
        hashes.push_back(hash);
    }
    flush(pending, threads);
}

// A label that is there already, or whose vector is.
void FlatIndex::replace(Label label, Slot before, Slot twin, const std::byte *bytes) {
    if (twin != kNone && twin == before) return;
    const bool emptied = before != kNone && alone(before);
    if (twin != kNone) {
        if (emptied) before_unlinking(before);
        const auto lock = changing();
        join(label, twin);
        if (before != kNone) leave(label, before);
    } else {
        const Slot slot = claim(0);
        std::memcpy(vectors_.at(slot), bytes, row_bytes());
        std::vector<Newcomer> alone{{label, slot, before}};
        flush(alone, 1);
        if (emptied) before_unlinking(before);
    }
    if (emptied) {
        const auto lock = changing();
        unlink(before);
        vanish(before);
    }
}

void FlatIndex::pack(const AlignedVector<float> &row, std::byte *bytes) const {
    if (space_.storage == Storage::float32) {
        std::memcpy(bytes, row.data(), row_bytes());
    } else {
        kernels().narrow(row.data(), reinterpret_cast<Half *>(bytes), stride_);
    }
}

// A free slot beside those already pending, made if there is none. All stay on the free list, the next to be settled
// last, so a failure in between loses nothing.
Slot FlatIndex::claim(std::size_t pending) {
    if (free_.size() <= pending) {
        const auto lock = changing();
        if (labels_.size() >= kMostSlots) throw std::length_error("an index holds at most 2^31 vectors");
        const auto slot = static_cast<Slot>(labels_.size());
        vectors_.reach(slot);
        codes_.reach(slot);
        reach(slot);
        residuals_.resize(slot + std::size_t{1});
        if (space_.metric == Metric::euclidean) terms_.resize(slot + std::size_t{1});
        if (free_.capacity() <= slot) free_.reserve(slot + std::size_t{1} + slot / 4);
        rows_.reserve(slot + std::size_t{1});
        labels_.resize(slot + std::size_t{1}, kNoLabel);  // the last that may fail
        free_.insert(free_.end() - static_cast<std::ptrdiff_t>(pending), slot);
    }
    return free_[free_.size() - 1 - pending];
}

void FlatIndex::flush(std::vector<Newcomer> &pending, std::size_t threads) {
    if (pending.empty()) return;
    if (!learn_when_due(pending)) {
        AlignedVector<float> row;
        AlignedVector<float> work;
        for (const Newcomer &one : pending) code(one.slot, row, work);
    }
    settle(pending, threads);
    since_ += pending.size();
    pending.clear();
}

// Nobody reads the slot yet; only what holds for all rows is seen by readers.
void FlatIndex::code(Slot slot, AlignedVector<float> &row, AlignedVector<float> &work) {
    load(slot, row);
    const Coded coded = quantizer_->encode(row.data(), codes_.at(slot), work);
    residuals_[slot] = quantizer_->packed_residual(coded.residual);
    if (space_.metric == Metric::euclidean) terms_[slot] = coded.term;
    if (std::sqrt(coded.term) > longest_ || residuals_[slot] > widest_residual_) {
        const auto lock = changing();
        longest_ = std::max(longest_, std::sqrt(coded.term));
        widest_residual_ = std::max(widest_residual_, residuals_[slot]);
    }
}

// The quantizer is made anew whenever as many nodes were added as it was made from, and all rows are coded again: twice
// the work of coding them once, and the levels are never older than half of what they stand for. Says whether it was,
// and the pending ones coded with the others.
bool FlatIndex::learn_when_due(std::span<const Newcomer> pending) {
    if (since_ + pending.size() < std::max<std::size_t>(learned_from_, 1)) return false;
    std::vector<Slot> all;
    for (Slot slot = 0; slot < labels_.size(); ++slot) {
        if (live(slot)) all.push_back(slot);
    }
    for (const Newcomer &one : pending) all.push_back(one.slot);
    auto fresh = std::make_shared<Quantizer>(space_.dimensions, space_.metric);
    AlignedVector<float> row;
    AlignedVector<float> work;
    const std::size_t count = std::min(all.size(), kLearnedFrom);
    fresh->learn(count, [&](std::size_t i) {
        load(all[i * all.size() / count], row);
        return row.data();
    });
    Chunked<std::uint8_t> codes(codes_.width());
    codes.reach(static_cast<Slot>(labels_.size() - 1));
    std::vector<std::uint8_t> residuals(labels_.size());
    std::vector<float> terms(terms_.size());
    float longest = 0.0F;
    for (const Slot slot : all) {
        load(slot, row);
        const Coded coded = fresh->encode(row.data(), codes.at(slot), work);
        residuals[slot] = fresh->packed_residual(coded.residual);
        if (!terms.empty()) terms[slot] = coded.term;
        longest = std::max(longest, std::sqrt(coded.term));
    }
    const auto lock = changing();
    std::swap(codes_, codes);
    residuals_.swap(residuals);
    terms_.swap(terms);
    longest_ = longest;
    widest_residual_ = *std::max_element(residuals_.begin(), residuals_.end());
    quantizer_ = std::move(fresh);
    learned_from_ = all.size();
    since_ = 0;
    return true;
}

void FlatIndex::settle(std::span<const Newcomer> newcomers, std::size_t) {
    const auto lock = changing();
    for (const Newcomer &one : newcomers) appear(one);
}

void FlatIndex::appear(const Newcomer &newcomer) {
    slots_.put(newcomer.label, newcomer.slot);  // from here on nothing fails
    if (newcomer.before != kNone) leave(newcomer.label, newcomer.before);
    free_.pop_back();
    labels_[newcomer.slot] = newcomer.label;
    rows_.insert(newcomer.slot);
}

// The label becomes one of the node's. The last step that may fail comes before the first that shows.
void FlatIndex::join(Label label, Slot slot) {
    if (alone(slot)) {
        if (free_crowds_.empty()) {
            free_crowds_.reserve(crowds_.size() + 1);
            crowds_.emplace_back();
            free_crowds_.push_back(static_cast<std::uint32_t>(crowds_.size() - 1));
        }
        std::vector<Label> &crowd = crowds_[free_crowds_.back()];
        crowd.reserve(2);
        slots_.put(label, slot);
        crowd.assign({std::min(label, labels_[slot]), std::max(label, labels_[slot])});
        labels_[slot] = -2 - static_cast<Label>(free_crowds_.back());
        free_crowds_.pop_back();
        return;
    }
    std::vector<Label> &crowd = crowds_[static_cast<std::size_t>(-2 - labels_[slot])];
    if (crowd.size() == crowd.capacity()) crowd.reserve(2 * crowd.size());
    slots_.put(label, slot);
    crowd.insert(std::lower_bound(crowd.begin(), crowd.end(), label), label);
}

// A node that no label is left to is dead: walked through until it is gone, and not returned.
void FlatIndex::leave(Label label, Slot slot) noexcept {
    if (alone(slot)) {
        labels_[slot] = kNoLabel;
        return;
    }
    const auto at = static_cast<std::uint32_t>(-2 - labels_[slot]);
    std::vector<Label> &crowd = crowds_[at];
    crowd.erase(std::lower_bound(crowd.begin(), crowd.end(), label));
    if (crowd.size() > 1) return;
    labels_[slot] = crowd.front();
    crowd = {};
    free_crowds_.push_back(at);  // there is room for all
}

// --- removing -------------------------------------------------------------------------------------------------------

bool FlatIndex::remove(Label label) {
    const std::lock_guard writer(write_);
    const Slot slot = slots_.find(label);
    if (slot == kNone) return false;
    const bool emptied = alone(slot);
    if (emptied) before_unlinking(slot);
    const auto lock = changing();
    slots_.erase(label);
    leave(label, slot);
    if (emptied) {
        unlink(slot);
        vanish(slot);
    }
    return true;
}

// Nothing of a vector is left in memory, and so in the next snapshot, when no label has it any more.
void FlatIndex::vanish(Slot slot) noexcept {
    rows_.erase(slot);
    std::memset(vectors_.at(slot), 0, row_bytes());
    std::memset(codes_.at(slot), 0, codes_.width());
    residuals_[slot] = 0;
    if (space_.metric == Metric::euclidean) terms_[slot] = 0.0F;
    free_.push_back(slot);
}

// --- figures and invariants -----------------------------------------------------------------------------------------

std::span<const Label> FlatIndex::labels_of(Slot slot) const {
    if (alone(slot)) return {&labels_[slot], 1};
    if (labels_[slot] == kNoLabel) return {};
    return crowds_[static_cast<std::size_t>(-2 - labels_[slot])];
}

bool FlatIndex::returnable(Slot slot, const LabelSet *among) const {
    if (among == nullptr) return live(slot);
    const auto labels = labels_of(slot);
    return std::any_of(labels.begin(), labels.end(), [&](Label label) { return among->contains(label); });
}

std::size_t FlatIndex::size() const {
    const auto lock = reading();
    return slots_.size();
}

std::size_t FlatIndex::memory_bytes() const {
    const auto lock = reading();
    std::size_t crowds = crowds_.capacity() * sizeof(crowds_[0]) + free_crowds_.capacity() * sizeof(free_crowds_[0]);
    for (const auto &labels : crowds_) crowds += labels.capacity() * sizeof(Label);
    return vectors_.memory_bytes() + codes_.memory_bytes() + rows_.memory_bytes() + slots_.memory_bytes() + crowds +
           labels_.capacity() * sizeof(Label) + free_.capacity() * sizeof(Slot) + residuals_.capacity() +
           terms_.capacity() * sizeof(float) + own_bytes();
}

std::string FlatIndex::check_labels(Slot slot) const {
    const auto labels = labels_of(slot);
    if (std::adjacent_find(labels.begin(), labels.end(), std::greater_equal<>()) != labels.end()) {
        return "has its labels out of order";
    }
    for (const Label label : labels) {
        if (slots_.find(label) != slot) return "is not what its label leads to";
    }
    const std::byte *row = vectors_.at(slot);
    return rows_.find(row, rows_.hash_of(row)) == slot ? "" : "is not found by its vector";
}

std::string FlatIndex::check() const {
    const auto lock = reading();
    std::size_t labels = 0;
    std::size_t live_nodes = 0;
    for (Slot slot = 0; slot < labels_.size(); ++slot) {
        if (!live(slot)) continue;
        if (const std::string fault = check_labels(slot); !fault.empty()) {
            return "label " + std::to_string(labels_of(slot).front()) + ' ' + fault;
        }
        labels += labels_of(slot).size();
        ++live_nodes;
    }
    if (labels != slots_.size() || live_nodes != rows_.size()) return "labels and nodes do not agree";
    if (live_nodes + free_.size() != labels_.size()) return "a slot is neither live nor free";
    return check_own();
}

}  // namespace llmspell
