// Asking rows of words: what a filter leaves of them, what terms weigh there, and the best rows.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels.hpp"
#include "words.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kAtOnce = 64;       // postings that are opened together
constexpr std::size_t kRowsAhead = 8;     // rows asked for before they are needed
constexpr std::size_t kSteps = 1024;      // that sums are told apart by
constexpr std::size_t kLeaders = 2048;    // rows that are looked at for those that lead
constexpr float kHopeless = 2.0F;         // what a sum grows by hardly ever, once half of all is counted
constexpr float kRounding = 1.0F + 1e-4F; // sums of floats in another order differ by less

// How much it counts that a term first comes at a place.
const auto kEarliness = [] {
    std::array<float, Words::kLastPlace + 1> all;
    for (std::size_t place = 0; place < all.size(); ++place) {
        all[place] = static_cast<float>(1.0 / std::sqrt(1.0 + static_cast<double>(place) / 40.0));
    }
    return all;
}();

constexpr std::uint32_t kNear = 8;  // places that the two terms of a pair are apart at most
constexpr float kOfPair = 0.6F;
constexpr std::uint32_t kStretch = 32;
constexpr float kOfTogether = 1.3F;
constexpr double kShort = 20.0;  // terms: where rows are so long in the mean, their lengths count half

double idf(double rows, double df) { return std::log1p((rows - df + 0.5) / (df + 0.5)); }

}  // namespace

Words::Question::Question(const Words &words, Measure measure)
    : words_(words), measure_(measure), lock_(words.gate_.reading()), scratch_(words.scratch_.lend()) {}

Words::Question::Question(const Words &words, std::span<const std::string_view> terms, const LabelSet *among, Measure measure)
    : Question(words, measure) {  // so that the destructor comes to what a failure leaves
    resolve(terms);
    rows_ = words_.rows_;
    total_length_ = words_.length_;
    if (among != nullptr) {
        filter(*among);
        few_ ? count_by_rows() : count_by_postings();
    }
    weigh();
}

Words::Question::~Question() {
    for (const Asked &one : asked_) scratch_->number[one.term] = 0;
}

// --- what is asked --------------------------------------------------------------------------------------------------

void Words::Question::resolve(std::span<const std::string_view> terms) {
    asked_.reserve(terms.size());
    auto &number = scratch_->number;
    if (number.size() < words_.postings_.size()) number.resize(words_.postings_.capacity());
    for (const std::string_view text : terms) {
        const Term term = words_.vocabulary_.find(text);
        if (term == kNoTerm) continue;
        if (number[term] != 0) {
            asked_[number[term] - 1].times += measure_ == Measure::bm25 ? 1 : 0;
        } else {
            asked_.push_back({term, 1, words_.postings_[term].rows, 0.0F, 0.0F, 0});
            number[term] = static_cast<std::uint32_t>(asked_.size());
        }
    }
    scratch_->met.resize(asked_.size());
}

// --- filters --------------------------------------------------------------------------------------------------------

void Words::Question::filter(const LabelSet &among) {
    filtered_ = true;
    auto &allowed = scratch_->allowed;
    const std::size_t pages = words_.pages_.size();
    allowed.assign(pages, 0);
    if (among.pages() * 4 < pages) {
        among.for_each_page([&](Label page, std::uint64_t mask) {
            const auto held = words_.page_of_.find(page);
            if (held != words_.page_of_.end()) allowed[held->second] = mask & words_.live_[held->second];
        });
    } else {
        for (std::size_t i = 0; i < pages; ++i) {
            if (words_.live_[i] != 0) allowed[i] = among.mask(words_.pages_[i]) & words_.live_[i];
        }
    }
    const auto count_both = kernels().count_both;
    rows_ = count_both(allowed.data(), allowed.data(), pages);
    total_length_ = 0;
    for (std::size_t bit = 0; bit < words_.slices_.size(); ++bit) {
        total_length_ += count_both(allowed.data(), words_.slices_[bit].data(), pages) << bit;
    }
    // Looking at a row takes some steps for each of its terms, at a posting one.
    std::size_t postings = 0;
    for (const Asked &one : asked_) postings += one.df;
    few_ = rows_ * kRowSteps + total_length_ <= postings;
}

void Words::Question::count_by_rows() {
    for (Asked &one : asked_) one.df = 0;
    auto &rows = scratch_->matching;
    rows.clear();
    const auto &allowed = scratch_->allowed;
    for (std::size_t page = 0; page < allowed.size(); ++page) {
        for (std::uint64_t mask = allowed[page]; mask != 0; mask &= mask - 1) {
            rows.push_back(static_cast<Row>(page << kPageBits) | static_cast<Row>(std::countr_zero(mask)));
        }
    }
    std::size_t matching = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (i + kRowsAhead < rows.size()) prefetch(words_.terms_of(rows[i + kRowsAhead]).data());
        const std::size_t met = meet(rows[i]);
        for (std::size_t j = 0; j < met; ++j) ++asked_[scratch_->met[j].number].df;
        if (met > 0) rows[matching++] = rows[i];
    }
    rows.resize(matching);
}

void Words::Question::count_by_postings() {
    const auto &allowed = scratch_->allowed;
    for (Asked &one : asked_) {
        const Postings &list = words_.postings_[one.term];
        if (list.bits != nullptr) {
            one.df = static_cast<std::uint32_t>(kernels().count_both(allowed.data(), list.bits.get(), allowed.size()));
            continue;
        }
        std::uint64_t df = 0;
        for (const Posting &posting : std::span(list.at, list.size)) {
            df += allowed[posting.row >> kPageBits] >> (posting.row & kPageMask) & (posting.shape != 0 ? 1 : 0);
        }
        one.df = static_cast<std::uint32_t>(df);
    }
}

// --- weights --------------------------------------------------------------------------------------------------------

void Words::Question::weigh() {
    const auto &settings = words_.settings_;
    const auto rows = static_cast<double>(rows_);
    mean_length_ = rows_ == 0 ? 0.0 : static_cast<double>(total_length_) / rows;
    const double b = settings.b.value_or(mean_length_ / (mean_length_ + kShort));
    base_ = static_cast<float>(settings.k1 * (1.0 - b));
    slope_ = mean_length_ == 0.0 ? 0.0F : static_cast<float>(settings.k1 * b / mean_length_);
    auto &number = scratch_->number;
    const auto none = std::partition(asked_.begin(), asked_.end(), [](const Asked &one) { return one.df > 0; });
    for (auto at = none; at != asked_.end(); ++at) number[at->term] = 0;
    asked_.erase(none, asked_.end());
    // As they were given, without those that no row has.
    std::sort(asked_.begin(), asked_.end(), [&](const Asked &a, const Asked &b) { return number[a.term] < number[b.term]; });
    for (std::size_t i = 0; i < asked_.size(); ++i) asked_[i].order = static_cast<std::uint32_t>(i);
    std::sort(asked_.begin(), asked_.end(), [&](const Asked &a, const Asked &b) {
        return a.df != b.df ? a.df < b.df : a.order < b.order;
    });
    for (std::size_t i = 0; i < asked_.size(); ++i) {
        Asked &one = asked_[i];
        number[one.term] = static_cast<std::uint32_t>(i + 1);
        const double mass = idf(rows, one.df) * one.times;
        mass_ += mass;
        one.weight = static_cast<float>(measure_ == Measure::bm25 ? mass * (settings.k1 + 1.0) : mass);
        one.bound = bound_of(one);
    }
}

float Words::Question::bound_of(const Asked &one) const {
    if (measure_ == Measure::coverage) return one.weight;
    const Postings &list = words_.postings_[one.term];
    const float once = part(one, 1, list.shortest_once);
    return list.most > 1 ? std::max(once, part(one, list.most, list.shortest_often)) : once;
}

// --- rows -----------------------------------------------------------------------------------------------------------

float Words::Question::part(const Asked &one, std::uint32_t times, std::uint32_t length) const {
    const auto tf = static_cast<float>(static_cast<std::int32_t>(times));
    return one.weight * tf / (tf + (base_ + slope_ * static_cast<float>(static_cast<std::int32_t>(length))));
}

float Words::Question::part(const Asked &one, std::uint32_t shape) const {
    if (measure_ == Measure::coverage) return one.weight * kEarliness[place_of(shape)];
    return part(one, times_of(shape), length_of(shape));
}

// Which of the terms a row has, how often and where first; returns how many.
std::size_t Words::Question::meet(Row row) const {
    const std::uint32_t *const number = scratch_->number.data();
    Met *const met = scratch_->met.data();
    std::size_t count = 0;
    for (const Held &one : words_.terms_of(row)) {
        const std::uint32_t at = number[one.term];
        if (at == 0) continue;
        if (count > 0 && met[count - 1].number == at - 1) {
            ++met[count - 1].times;
        } else {
            met[count++] = {at - 1, 1, one.place};
        }
    }
    return count;
}

// The same sum, in the same order, that opening all postings gives.
float Words::Question::score_row(Row row) const { return score_met(row, meet(row)); }

float Words::Question::score_met(Row row, std::size_t count) const {
    Met *const met = scratch_->met.data();
    std::sort(met, met + count, [](const Met &a, const Met &b) { return a.number < b.number; });
    const std::size_t length = words_.terms_of(row).size();
    float sum = 0.0F;
    for (std::size_t i = 0; i < count; ++i) {
        sum += part(asked_[met[i].number], shape_of(met[i].times, met[i].first, length));
    }
    return sum;
}

float Words::Question::score(Label label) const {
    const Row row = words_.row_of(label);
    return row == kNone ? 0.0F : score_row(row);
}

float Words::Question::score_row_together(Row row) const {
    const std::size_t count = meet(row);
    if (count == 0) return 0.0F;
    float sum = score_met(row, count);
    Met *const met = scratch_->met.data();
    float all = 0.0F;
    for (std::size_t i = 0; i < count; ++i) all += asked_[met[i].number].weight;
    const auto order = [&](const Met &one) { return asked_[one.number].order; };
    std::sort(met, met + count, [&](const Met &a, const Met &b) { return order(a) < order(b); });
    for (std::size_t i = 1; i < count; ++i) {
        const auto [early, late] = std::minmax(met[i - 1].first, met[i].first);
        if (order(met[i]) != order(met[i - 1]) + 1 || late - early > kNear) continue;
        const float least = std::min(asked_[met[i - 1].number].weight, asked_[met[i].number].weight);
        sum += kOfPair * least * kEarliness[std::min(early, kLastPlace)];
    }
    const auto counted = [&](float one) { return kOfTogether * one * one / static_cast<float>(mass_); };
    if (counted(all) <= sum) return sum;
    const bool one_stretch = count == 1 || words_.terms_of(row).size() <= kStretch;
    return std::max(sum, counted(one_stretch ? all : together(row)));
}

// The idfs of the terms in the stretch of a row that has most of them.
float Words::Question::together(Row row) const {
    auto &said = scratch_->said;
    auto &within = scratch_->within;
    said.clear();
    for (const Held &one : words_.terms_of(row)) {
        if (const std::uint32_t at = scratch_->number[one.term]; at != 0) said.push_back({one.place, at - 1});
    }
    std::sort(said.begin(), said.end());
    within.assign(asked_.size(), 0);
    double sum = 0.0;
    double best = 0.0;
    for (std::size_t first = 0, next = 0; next < said.size(); ++next) {
        for (; said[next].place - said[first].place >= kStretch; ++first) {
            if (--within[said[first].number] == 0) sum -= asked_[said[first].number].weight;
        }
        if (within[said[next].number]++ == 0) sum += asked_[said[next].number].weight;
        best = std::max(best, sum);
    }
    return static_cast<float>(best);
}

// Calls `visit(one)` for each of some rows, whose terms are in the cache by then.
template <class T, class Visit>
void Words::Question::for_each_row(std::span<const T> rows, Visit visit) const {
    for (std::size_t i = 0; i < rows.size() + 2 * kRowsAhead; ++i) {
        if (i < rows.size()) prefetch(&words_.content(rows[i].row));
        if (i >= kRowsAhead && i - kRowsAhead < rows.size()) {
            const auto terms = words_.terms_of(rows[i - kRowsAhead].row);
            prefetch(terms.data(), terms.size_bytes());
        }
        if (i >= 2 * kRowsAhead) visit(rows[i - 2 * kRowsAhead]);
    }
}

void Words::Question::scores_together(std::span<const Label> labels, float *scores) const {
    auto &scored = scratch_->scored;
    scored.clear();
    for (std::size_t i = 0; i < labels.size(); ++i) {
        scores[i] = 0.0F;
        const Row row = words_.row_of(labels[i]);
        if (row != kNone) scored.push_back({row, static_cast<std::uint32_t>(i)});
    }
    for_each_row(std::span<const Numbered>(scored), [&](const Numbered &one) { scores[one.number] = score_row_together(one.row); });
}

std::uint32_t Words::Question::length(Label label) const {
    const Row row = words_.row_of(label);
    return row == kNone ? 0 : capped(words_.terms_of(row).size());
}

// --- the best -------------------------------------------------------------------------------------------------------

// Adds what the term gives to the sums of all rows that have it.
void Words::Question::open(const Asked &one) {
    const Postings &list = words_.postings_[one.term];
    const std::uint64_t *const allowed = scratch_->allowed.data();
    float *const sums = scratch_->sums.data();
    Row *const touched = scratch_->touched.data();
    std::size_t count = touched_;
    Posting some[kAtOnce];
    float parts[kAtOnce];
    for (std::size_t first = 0; first < list.size; first += kAtOnce) {
        const Posting *postings = list.at + first;
        std::size_t n = std::min<std::size_t>(kAtOnce, list.size - first);
        if (filtered_) {
            std::size_t kept = 0;
            for (std::size_t i = 0; i < n; ++i) {
                some[kept] = postings[i];
                kept += allowed[postings[i].row >> kPageBits] >> (postings[i].row & kPageMask) & 1;
            }
            postings = some;
            n = kept;
        }
        if (measure_ == Measure::coverage) {
            for (std::size_t i = 0; i < n; ++i) {
                parts[i] = postings[i].shape == 0 ? 0.0F : one.weight * kEarliness[place_of(postings[i].shape)];
            }
        } else {
            for (std::size_t i = 0; i < n; ++i) parts[i] = part(one, times_of(postings[i].shape), length_of(postings[i].shape));
        }
        for (std::size_t i = 0; i < n; ++i) {
            const Row row = postings[i].row;
            const float before = sums[row];
            touched[count] = row;
            count += static_cast<std::size_t>(before == 0.0F) & static_cast<std::size_t>(parts[i] != 0.0F);
            sums[row] = before + parts[i];
        }
    }
    touched_ = count;
}

// A score that the k best rows have at least: that of the k-th of those that lead now, in full. Who leads is told by
// counting how many sums lie in each of many steps; only among rows that were met first, for these have the rarest terms.
float Words::Question::reached(std::size_t k, std::size_t opened) const {
    const float *const sums = scratch_->sums.data();
    const auto touched = std::span(scratch_->touched).first(std::min(touched_, k + kLeaders));
    const float rest = scratch_->rest[opened];
    const float steps = static_cast<float>(kSteps) / (scratch_->rest[0] - rest);
    const auto step_of = [&](Row row) {
        return static_cast<std::size_t>(std::min(static_cast<std::int32_t>(sums[row] * steps), static_cast<std::int32_t>(kSteps - 1)));
    };
    std::array<std::uint32_t, kSteps> counts{};
    for (const Row row : touched) ++counts[step_of(row)];
    std::size_t step = kSteps;
    for (std::size_t above = 0; above < k; above += counts[step]) --step;
    const float sum = static_cast<float>(step) / steps / kRounding;
    if (opened == asked_.size() || sum * kHopeless < rest) return sum;
    auto &leading = scratch_->leading;
    leading.clear();
    for (const Row row : touched) {
        if (step_of(row) < step) continue;
        leading.push_back({sums[row], row});
        if (leading.size() == k) break;
    }
    float least = std::numeric_limits<float>::infinity();
    for_each_row(std::span<const Leading>(leading), [&](const Leading &one) { least = std::min(least, score_row(one.row)); });
    return least;
}

// Takes the sums back to nothing, and leaves those of the rows that can be among the best in `leading`: with what each can
// have at most, given which of the terms that are not opened it has.
void Words::Question::sift(std::size_t opened, float rest, float least) {
    auto &left = scratch_->leading;
    float *const sums = scratch_->sums.data();
    const Row *const touched = scratch_->touched.data();
    left.resize(touched_ + 1);
    std::size_t count = 0;
    for (std::size_t i = 0; i < touched_; ++i) {
        const float most = std::exchange(sums[touched[i]], 0.0F) + rest;
        left[count] = {most, touched[i]};
        count += static_cast<std::size_t>(!(most * kRounding < least));
    }
    // There is no telling who is left, so nothing branches on it.
    for (const Asked &closed : std::span(asked_).subspan(opened)) {
        const std::uint64_t *const bits = words_.postings_[closed.term].bits.get();
        if (bits == nullptr) continue;
        std::size_t kept = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const auto [most, row] = left[i];
            const auto lacks = static_cast<float>(static_cast<std::int32_t>(~bits[row >> kPageBits] >> (row & kPageMask) & 1));
            left[kept] = {most - lacks * closed.bound, row};
            kept += static_cast<std::size_t>(!(left[kept].sum * kRounding < least));
        }
        count = kept;
    }
    left.resize(count);
}

void Words::Question::rank(std::size_t k, std::vector<Hit> &hits) {
    auto &scratch = *scratch_;
    const std::size_t rows = words_.pages_.size() << kPageBits;
    if (scratch.sums.size() < rows) {
        scratch.sums.resize(words_.room_ << kPageBits);
        scratch.touched.resize((words_.room_ << kPageBits) + 1);
    }
    scratch.leading.reserve(rows + 1);
    auto &rest = scratch.rest;  // what the terms from each one on can give a row at most
    rest.assign(asked_.size() + 1, 0.0F);
    for (std::size_t i = asked_.size(); i-- > 0;) rest[i] = rest[i + 1] + asked_[i].bound;
    touched_ = 0;
    float least = 0.0F;
    std::size_t opened = 0;
    for (; opened < asked_.size(); ++opened) {
        if (rest[0] - rest[opened] > rest[opened] && touched_ >= k) {
            least = std::max(least, reached(k, opened));
            if (rest[opened] * kRounding < least) break;
        }
        open(asked_[opened]);
    }
    sift(opened, rest[opened], least);
    const auto keep = [&](float score, Row row) {
        if (score < least) return;
        keep_least(hits, Hit{-score, words_.label_of(row)}, k);
        if (hits.size() == k) least = std::max(least, -hits.front().distance);
    };
    if (opened == asked_.size()) {
        for (const Leading &one : scratch.leading) keep(one.sum, one.row);
        return;
    }
    for_each_row(std::span<const Leading>(scratch.leading), [&](const Leading &one) {
        if (!(one.sum * kRounding < least)) keep(score_row(one.row), one.row);
    });
}

Ranked Words::Question::best(std::size_t k) {
    Ranked ranked;
    k = std::min(k, rows_);
    if (k == 0 || asked_.empty()) return ranked;
    auto &hits = scratch_->hits;
    hits.clear();
    hits.reserve(k);
    if (few_) {
        for (const Row row : scratch_->matching) keep_least(hits, Hit{-score_row(row), words_.label_of(row)}, k);
    } else {
        rank(k, hits);
    }
    std::sort_heap(hits.begin(), hits.end());
    ranked.labels.reserve(hits.size());
    ranked.scores.reserve(hits.size());
    for (const Hit &hit : hits) {
        ranked.labels.push_back(hit.label);
        ranked.scores.push_back(-hit.distance);
    }
    return ranked;
}

}  // namespace llmspell
