// Ranking rows by all that is known of them: candidates, what stands around them, and what each gets for it.
#include "blend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "scratch.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kCandidates = 100;  // of each arm, or 2 for each row wanted
constexpr std::size_t kReach = 2;         // turns to either side that a turn leans on
constexpr std::size_t kSample = 128;

constexpr float kOfWords = 2.2F;
constexpr float kBeside[kReach] = {0.3F, 0.2F};
constexpr float kOfSession = 1.0F;
constexpr float kOfRole = 2.0F;
constexpr float kLong = 1200.0F;

// The deviation of cosines that common models of embeddings have, and how many rows of a sample it is worth.
constexpr double kUsualDeviation = 0.095;
constexpr double kUsualWorth = 32.0;

using Place = TurnTable::Place;

// A row that is scored, at a place of a session.
struct Row {
    TurnTable::Id session;
    std::uint32_t at;
    Label label;
    float similarity = std::numeric_limits<float>::quiet_NaN();
    float coverage = 0.0F;
    float by_meaning = 0.0F;
    float by_words = 0.0F;
    std::int32_t rank_by_meaning = 0;
    std::int32_t rank_by_words = 0;

    float own() const { return by_meaning + by_words; }
    // Of the same row, the one that an arm has found comes first.
    friend bool operator<(const Row &a, const Row &b) {
        return std::tuple(a.session, a.at, !a.rank_by_meaning) < std::tuple(b.session, b.at, !b.rank_by_meaning);
    }
    bool beside(const Row &other, std::size_t distance) const { return session == other.session && at + distance == other.at; }
};

class Blender {
  public:
    Blender(const FlatIndex &index, const Words &words, const TurnTable &turns, const Blended &wanted)
        : index_(index), turns_(turns.view()), wanted_(wanted), question_(words, wanted.terms, wanted.among, Measure::coverage) {
        for (const std::string_view fact : wanted.named) {
            if (const auto id = turns_.fact_named(fact); id != kNone) named_.push_back(id);
        }
    }

    Blend best() {
        gather();
        measure();
        return rank();
    }

  private:
    bool allowed(Label label) const { return wanted_.among == nullptr || wanted_.among->contains(label); }

    // The turns of a session that may be found.
    std::span<const Place> session(TurnTable::Id id) {
        const auto all = turns_.turns(id);
        if (wanted_.among == nullptr) return all;
        const auto held = std::lower_bound(sessions_.begin(), sessions_.end(), id, [](const auto &one, auto key) { return one.first < key; });
        if (held != sessions_.end() && held->first == id) return held->second;
        std::vector<Place> some;
        std::copy_if(all.begin(), all.end(), std::back_inserter(some), [&](const Place &one) { return allowed(one.label); });
        return sessions_.insert(held, {id, std::move(some)})->second;
    }

    // Adds the row and what stands around it.
    void add(Label label, float similarity, std::int32_t by_meaning, std::int32_t by_words) {
        if (!turns_.has(label)) return;
        const auto id = turns_.session(label);
        const auto places = session(id);
        const auto found = std::lower_bound(places.begin(), places.end(), Place{turns_.happened(label), label});
        const auto at = static_cast<std::size_t>(found - places.begin());
        Row row{id, static_cast<std::uint32_t>(at), label};
        row.similarity = similarity;
        row.rank_by_meaning = by_meaning;
        row.rank_by_words = by_words;
        rows_.push_back(row);
        if (wanted_.exact) return;
        for (std::size_t near = at - std::min(at, kReach); near < std::min(places.size(), at + kReach + 1); ++near) {
            if (near != at) rows_.push_back({id, static_cast<std::uint32_t>(near), places[near].label});
        }
    }

    // Candidates: every row once, by session and place.
    void gather() {
        const std::size_t count = std::max(kCandidates, 2 * wanted_.k);
        if (wanted_.exact) {
            turns_.sample(std::numeric_limits<std::size_t>::max(), wanted_.among, labels_);
            for (const Label label : labels_) add(label, std::numeric_limits<float>::quiet_NaN(), 0, 0);
        }
        const auto route = wanted_.exact ? Route::exact : Route::cheapest;
        const Found near = index_.search(wanted_.vector, {count, std::max(wanted_.ef, count), wanted_.among, route});
        for (std::size_t i = 0; i < near.labels.size(); ++i) {
            add(near.labels[i], near.scores[i], static_cast<std::int32_t>(i + 1), 0);
        }
        const Ranked said = question_.best(count);
        for (std::size_t i = 0; i < said.labels.size(); ++i) {
            add(said.labels[i], std::numeric_limits<float>::quiet_NaN(), 0, static_cast<std::int32_t>(i + 1));
        }
        std::sort(rows_.begin(), rows_.end());
        std::size_t kept = 0;
        for (const Row &row : rows_) {
            if (kept > 0 && rows_[kept - 1].beside(row, 0)) {
                rows_[kept - 1].rank_by_words = std::max(rows_[kept - 1].rank_by_words, row.rank_by_words);
            } else {
                rows_[kept++] = row;
            }
        }
        rows_.erase(rows_.begin() + static_cast<std::ptrdiff_t>(kept), rows_.end());
    }

    // What each row has of itself.
    void measure() {
        scores_.clear();
        labels_.clear();
        for (const Row &row : rows_) {
            if (std::isnan(row.similarity)) labels_.push_back(row.label);
        }
        scores_.resize(labels_.size());
        index_.scores(wanted_.vector, labels_, std::numeric_limits<float>::quiet_NaN(), scores_.data());
        const auto [mean, deviation] = usual();
        const double mass = question_.mass();
        const float of_words = mass > 0.0 ? kOfWords / static_cast<float>(std::sqrt(mass)) : 0.0F;
        std::size_t next = 0;
        for (Row &row : rows_) {
            if (std::isnan(row.similarity)) row.similarity = scores_[next++];
            row.coverage = question_.score_with_pairs(row.label);
            row.by_meaning = (row.similarity - mean) / deviation;
            row.by_words = of_words * row.coverage;
        }
        std::erase_if(rows_, [](const Row &row) { return std::isnan(row.similarity); });  // it has no vector yet
    }

    // Mean and deviation of the similarities of a sample.
    std::pair<float, float> usual() {
        std::vector<Label> sample;
        turns_.sample(kSample, wanted_.among, sample);
        std::vector<float> scores(sample.size());
        index_.scores(wanted_.vector, sample, std::numeric_limits<float>::quiet_NaN(), scores.data());
        std::erase_if(scores, [](float one) { return std::isnan(one); });
        const auto count = static_cast<double>(scores.size());
        if (scores.empty()) return {0.0F, 1.0F};
        double mean = 0.0;
        for (const float one : scores) mean += one / count;
        double squares = 0.0;
        for (const float one : scores) squares += (one - mean) * (one - mean);
        const double known = index_.space().metric == Metric::cosine ? kUsualWorth : 0.0;
        const double variance = (squares + known * kUsualDeviation * kUsualDeviation) / (count + known);
        return {static_cast<float>(mean), variance > 0.0 ? static_cast<float>(std::sqrt(variance)) : 1.0F};
    }

    Blend rank() {
        std::vector<Hit> hits;
        std::vector<Parts> parts(rows_.size());
        for (std::size_t first = 0; first < rows_.size();) {
            std::size_t end = first;
            float best = -std::numeric_limits<float>::infinity();
            for (; end < rows_.size() && rows_[end].session == rows_[first].session; ++end) best = std::max(best, rows_[end].own());
            for (std::size_t i = first; i < end; ++i) {
                parts[i] = parts_of(i, best);
                const Parts &one = parts[i];
                const float score = one.by_meaning + one.by_words + one.by_neighbours + one.by_session + one.by_role + one.by_worth;
                keep_least(hits, Hit{-score, static_cast<Label>(i)}, wanted_.k);
            }
            first = end;
        }
        // Equal scores go by label, not by where the row stands here.
        std::sort(hits.begin(), hits.end(), [&](const Hit &a, const Hit &b) {
            return a.distance != b.distance ? a.distance < b.distance : rows_[a.label].label < rows_[b.label].label;
        });
        Blend found;
        for (const Hit &hit : hits) {
            found.labels.push_back(rows_[hit.label].label);
            found.scores.push_back(-hit.distance);
            found.parts.push_back(parts[hit.label]);
        }
        return found;
    }

    Parts parts_of(std::size_t i, float best) const {
        const Row &row = rows_[i];
        float beside = 0.0F;
        for (std::size_t distance = 1; distance <= kReach; ++distance) {
            for (std::size_t j = i; j-- > 0 && i - j <= distance;) {
                if (rows_[j].beside(row, distance)) beside += kBeside[distance - 1] * rows_[j].own();
            }
            for (std::size_t j = i + 1; j < rows_.size() && j - i <= distance; ++j) {
                if (row.beside(rows_[j], distance)) beside += kBeside[distance - 1] * rows_[j].own();
            }
        }
        const float length = static_cast<float>(turns_.length(row.label)) / kLong;
        const bool named = std::any_of(named_.begin(), named_.end(), [&](auto id) { return turns_.has_fact(row.label, id); });
        return {row.similarity,
                row.coverage,
                row.by_meaning,
                row.by_words,
                beside / (1.0F + length * length),
                kOfSession * best,
                named ? kOfRole : 0.0F,
                turns_.worth(row.label),
                row.rank_by_meaning,
                row.rank_by_words};
    }

    const FlatIndex &index_;
    const TurnTable::View turns_;
    const Blended &wanted_;
    Words::Question question_;
    std::vector<TurnTable::Id> named_;
    std::vector<Row> rows_;
    std::vector<std::pair<TurnTable::Id, std::vector<Place>>> sessions_;  // of those looked at, where a filter leaves some out
    std::vector<Label> labels_;
    std::vector<float> scores_;
};

}  // namespace

Blend blend(const FlatIndex &index, const Words &words, const TurnTable &turns, const Blended &wanted) {
    if (wanted.k == 0) return {};
    return Blender(index, words, turns, wanted).best();
}

}  // namespace llmspell
