// Ranking rows by all that is known of them: candidates, what stands around them, and what each gets for it.
#include "blend.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

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

// Rows at least that are looked at again where similarities were estimated, and what a row's own score may be off by.
constexpr std::size_t kAgain = 32;
constexpr float kDoubt = 0.5F;

constexpr std::size_t kRowsAhead = 12;  // rows asked for before they are needed

using Place = TurnTable::Place;

constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

// What an arm has found.
struct Candidate {
    Label label;
    float similarity = kUnknown;
    std::int32_t rank_by_meaning = 0;
    std::int32_t rank_by_words = 0;
};

// Where a candidate sits: compared as one number, by session and place.
struct Seat {
    std::uint64_t place;
    std::uint32_t candidate;
    TurnTable::Id session() const { return static_cast<TurnTable::Id>(place >> 32); }
    friend bool operator<(const Seat &a, const Seat &b) { return a.place < b.place; }
};

// A row that is scored, at a place of a session.
struct Row {
    TurnTable::Id session;
    std::uint32_t at;
    Label label;
    float length;
    float worth;
    float similarity = kUnknown;
    float coverage = 0.0F;
    float by_meaning = 0.0F;
    float by_words = 0.0F;
    std::int32_t rank_by_meaning = 0;
    std::int32_t rank_by_words = 0;
    bool estimated = false;  // what its similarity is

    float own() const { return by_meaning + by_words; }
};

// A row and its score; the better one is the lesser, of equal ones that of the lesser label.
struct Scored {
    float score;
    Label label;
    std::size_t row;
    friend bool operator<(const Scored &a, const Scored &b) {
        return a.score != b.score ? a.score > b.score : a.label < b.label;
    }
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
        find();
        seat();
        gather();
        measure();
        return rank();
    }

  private:
    // What each arm finds; and where all are to be scored, all.
    void find() {
        const std::size_t count = std::max(kCandidates, 2 * wanted_.k);
        if (wanted_.exact) {
            turns_.sample(std::numeric_limits<std::size_t>::max(), wanted_.among, labels_);
            for (const Label label : labels_) candidates_.push_back({label});
        }
        const auto route = wanted_.exact ? Route::exact : Route::cheapest;
        const Found near = index_.search(wanted_.vector, {count, std::max(wanted_.ef, count), wanted_.among, route});
        const Ranked said = question_.best(count);
        candidates_.reserve(candidates_.size() + near.labels.size() + said.labels.size());
        for (std::size_t i = 0; i < near.labels.size(); ++i) {
            candidates_.push_back({near.labels[i], near.scores[i], static_cast<std::int32_t>(i + 1), 0});
        }
        for (std::size_t i = 0; i < said.labels.size(); ++i) {
            candidates_.push_back({said.labels[i], kUnknown, 0, static_cast<std::int32_t>(i + 1)});
        }
    }

    // Where they sit among all rows of their sessions. Each look leads to the next, so they go in steps, one row's beside
    // those of others.
    void seat() {
        const std::size_t count = candidates_.size();
        std::vector<std::pair<TurnTable::Id, Place>> places(count, {kNone, Place{}});
        seats_.reserve(count);
        for (std::size_t i = 0; i < count + 3 * kRowsAhead; ++i) {
            if (i < count) turns_.prefetch_row(candidates_[i].label);
            if (const std::size_t at = i - kRowsAhead; i >= kRowsAhead && at < count) {
                if (const auto found = turns_.find(candidates_[at].label)) {
                    places[at] = *found;
                    turns_.prefetch_session(places[at].first);
                }
            }
            if (const std::size_t at = i - 2 * kRowsAhead; i >= 2 * kRowsAhead && at < count) {
                if (places[at].first != kNone) turns_.prefetch_turns(places[at].first);
            }
            if (i < 3 * kRowsAhead) continue;
            const std::size_t at = i - 3 * kRowsAhead;
            const auto [session, place] = places[at];
            if (session == kNone) continue;
            const auto turns = turns_.turns(session);
            const auto found = static_cast<std::uint64_t>(std::lower_bound(turns.begin(), turns.end(), place) - turns.begin());
            seats_.push_back({std::uint64_t{session} << 32 | found, static_cast<std::uint32_t>(at)});
        }
        std::sort(seats_.begin(), seats_.end());
    }

    // Every candidate and what stands around it, once, by session and place among the rows that may be found.
    void gather() {
        rows_.reserve(seats_.size() * (wanted_.exact ? 1 : 2 * kReach + 1));
        std::vector<Place> some;
        for (std::size_t first = 0; first < seats_.size();) {
            const TurnTable::Id session = seats_[first].session();
            const auto all = turns_.turns(session);
            auto places = all;
            if (wanted_.among != nullptr) {
                some.clear();
                std::copy_if(all.begin(), all.end(), std::back_inserter(some), [&](const Place &one) { return wanted_.among->contains(one.label); });
                places = some;
            }
            std::size_t next = 0;  // the place behind the last one gathered
            for (; first < seats_.size() && seats_[first].session() == session; ++first) {
                std::size_t at = static_cast<std::uint32_t>(seats_[first].place);
                if (wanted_.among != nullptr) {
                    at = static_cast<std::size_t>(std::lower_bound(places.begin(), places.end(), all[at]) - places.begin());
                }
                const std::size_t reach = wanted_.exact ? 0 : kReach;
                const std::size_t end = std::min(places.size(), at + reach + 1);
                for (next = std::max(next, at - std::min(at, reach)); next < end; ++next) {
                    const Place &one = places[next];
                    rows_.push_back({session, static_cast<std::uint32_t>(next), one.label, static_cast<float>(one.length), one.worth});
                }
                const Candidate &found = candidates_[seats_[first].candidate];
                Row &row = rows_[rows_.size() - (next - at)];
                if (!std::isnan(found.similarity)) row.similarity = found.similarity;
                row.rank_by_meaning = std::max(row.rank_by_meaning, found.rank_by_meaning);
                row.rank_by_words = std::max(row.rank_by_words, found.rank_by_words);
            }
        }
    }

    // What each row has of itself. Similarities that no arm has found are estimated first, where that is quicker.
    void measure() {
        std::tie(mean_, deviation_) = usual();
        labels_.clear();
        for (Row &row : rows_) {
            row.estimated = std::isnan(row.similarity);
            if (row.estimated) labels_.push_back(row.label);
        }
        scores_.resize(labels_.size());
        if (wanted_.exact) {
            index_.scores(wanted_.vector, labels_, kUnknown, scores_.data());
        } else {
            index_.estimated_scores(wanted_.vector, labels_, kUnknown, scores_.data());
        }
        std::size_t next = 0;
        for (Row &row : rows_) {
            if (row.estimated) row.similarity = scores_[next++];
            row.estimated = row.estimated && !wanted_.exact;
        }
        std::erase_if(rows_, [](const Row &row) { return std::isnan(row.similarity); });  // it has no vector yet
        labels_.clear();
        for (const Row &row : rows_) labels_.push_back(row.label);
        scores_.resize(labels_.size());
        question_.scores_with_pairs(labels_, scores_.data());
        const double mass = question_.mass();
        const float of_words = mass > 0.0 ? kOfWords / static_cast<float>(std::sqrt(mass)) : 0.0F;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            Row &row = rows_[i];
            row.coverage = scores_[i];
            row.by_words = of_words * row.coverage;
            row.by_meaning = by_meaning(row.similarity);
        }
    }

    float by_meaning(float similarity) const { return (similarity - mean_) / deviation_; }

    // Looks again at what was estimated of the best: at themselves, at the rows beside them, and at those that may be the
    // best of their sessions.
    void look_again(std::span<const Scored> best) {
        std::vector<std::uint8_t> again(rows_.size());
        for (const Scored &one : best) {
            const std::size_t last = std::min(rows_.size() - 1, one.row + kReach);
            for (std::size_t i = one.row - std::min(one.row, kReach); i <= last; ++i) again[i] = 1;
            std::size_t first = one.row;
            while (first > 0 && rows_[first - 1].session == rows_[one.row].session) --first;
            for (std::size_t i = first; i < rows_.size() && rows_[i].session == rows_[first].session; ++i) {
                if (rows_[i].own() > of_session_[i] - kDoubt) again[i] = 1;
            }
        }
        labels_.clear();
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            again[i] &= static_cast<std::uint8_t>(rows_[i].estimated);
            if (again[i] != 0) labels_.push_back(rows_[i].label);
        }
        scores_.resize(labels_.size());
        index_.scores(wanted_.vector, labels_, kUnknown, scores_.data());
        std::size_t next = 0;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (again[i] == 0) continue;
            const float similarity = scores_[next++];
            if (std::isnan(similarity)) continue;  // it has gone meanwhile
            rows_[i].similarity = similarity;
            rows_[i].by_meaning = by_meaning(similarity);
        }
    }

    // Mean and deviation of the similarities of a sample.
    std::pair<float, float> usual() {
        turns_.sample(kSample, wanted_.among, labels_);
        scores_.resize(labels_.size());
        index_.scores(wanted_.vector, labels_, kUnknown, scores_.data());
        const std::span<const float> sample = scores_;
        double count = 0.0;
        double mean = 0.0;
        for (const float one : sample) count += std::isnan(one) ? 0.0 : 1.0;
        if (count == 0.0) return {0.0F, 1.0F};
        for (const float one : sample) mean += std::isnan(one) ? 0.0 : one / count;
        double squares = 0.0;
        for (const float one : sample) squares += std::isnan(one) ? 0.0 : (one - mean) * (one - mean);
        const double known = index_.space().metric == Metric::cosine ? kUsualWorth : 0.0;
        const double variance = (squares + known * kUsualDeviation * kUsualDeviation) / (count + known);
        return {static_cast<float>(mean), variance > 0.0 ? static_cast<float>(std::sqrt(variance)) : 1.0F};
    }

    // Of more rows than are wanted, estimated as they are, those are the best that are so when looked at again.
    Blend rank() {
        std::vector<Scored> best = best_of(wanted_.exact ? wanted_.k : std::max(kAgain, 2 * wanted_.k));
        if (!wanted_.exact) {
            look_again(best);
            find_best_of_sessions();
            for (Scored &one : best) one.score = sum(parts_of(one.row));
        }
        std::sort(best.begin(), best.end());
        best.resize(std::min(best.size(), wanted_.k));
        Blend found;
        for (const Scored &one : best) {
            found.labels.push_back(one.label);
            found.scores.push_back(one.score);
            found.parts.push_back(parts_of(one.row));
        }
        return found;
    }

    std::vector<Scored> best_of(std::size_t k) {
        find_best_of_sessions();
        std::vector<Scored> best;
        best.reserve(std::min(k, rows_.size()));
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            keep_least(best, Scored{sum(parts_of(i)), rows_[i].label, i}, k);
        }
        return best;
    }

    void find_best_of_sessions() {
        of_session_.resize(rows_.size());
        for (std::size_t first = 0; first < rows_.size();) {
            std::size_t end = first;
            float best = -std::numeric_limits<float>::infinity();
            for (; end < rows_.size() && rows_[end].session == rows_[first].session; ++end) best = std::max(best, rows_[end].own());
            for (; first < end; ++first) of_session_[first] = best;
        }
    }

    static float sum(const Parts &parts) {
        return parts.by_meaning + parts.by_words + parts.by_neighbours + parts.by_session + parts.by_role + parts.by_worth;
    }

    // What the rows beside it give it, before it is told how much it leans on them.
    float beside(std::size_t i) const {
        const Row &row = rows_[i];
        float sum = 0.0F;
        const std::size_t end = std::min(rows_.size(), i + kReach + 1);
        for (std::size_t j = i - std::min(i, kReach); j < end; ++j) {
            const Row &other = rows_[j];
            if (j == i || other.session != row.session) continue;
            const std::size_t distance = other.at > row.at ? other.at - row.at : row.at - other.at;
            if (distance <= kReach) sum += kBeside[distance - 1] * other.own();
        }
        return sum;
    }

    Parts parts_of(std::size_t i) const {
        const Row &row = rows_[i];
        const float length = row.length / kLong;
        const bool named = std::any_of(named_.begin(), named_.end(), [&](auto id) { return turns_.has_fact(row.label, id); });
        return {row.similarity,
                row.coverage,
                row.by_meaning,
                row.by_words,
                beside(i) / (1.0F + length * length),
                kOfSession * of_session_[i],
                named ? kOfRole : 0.0F,
                row.worth,
                row.rank_by_meaning,
                row.rank_by_words};
    }

    const FlatIndex &index_;
    const TurnTable::View turns_;
    const Blended &wanted_;
    Words::Question question_;
    std::vector<TurnTable::Id> named_;
    std::vector<Candidate> candidates_;
    std::vector<Seat> seats_;
    std::vector<Row> rows_;
    std::vector<float> of_session_;  // of each row: the best that a row of its session has of itself
    float mean_ = 0.0F;
    float deviation_ = 1.0F;
    std::vector<Label> labels_;
    std::vector<float> scores_;
};

}  // namespace

Blend blend(const FlatIndex &index, const Words &words, const TurnTable &turns, const Blended &wanted) {
    if (wanted.k == 0) return {};
    return Blender(index, words, turns, wanted).best();
}

}  // namespace llmspell
