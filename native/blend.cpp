// Ranking rows by all that is known of them: candidates, what stands around them, and what each gets for it.
#include "blend.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

#include "scratch.hpp"

namespace llmspell {
namespace {

// Of each arm: four for each row wanted, but not below the first and, short of two for each row, not above the second.
constexpr std::size_t kFewCandidates = 50;
constexpr std::size_t kManyCandidates = 100;
constexpr std::size_t kReach = 2;         // turns to either side that a turn leans on

constexpr float kOfWords = 2.2F;
constexpr float kBeside[kReach] = {0.3F, 0.2F};
constexpr float kOfSession = 0.35F;
constexpr float kOfNear = 0.35F;
constexpr float kOfDistance = 0.05F;  // for each turn that the best one near is away
constexpr float kOfRole = 2.5F;
constexpr float kOfPresence = 2.0F;
constexpr float kOfTime = 1.5F;
constexpr float kLong = 1200.0F;

// The deviation of cosines that common models of embeddings have, and how many rows they are worth.
constexpr double kUsualDeviation = 0.095;
constexpr double kUsualWorth = 32.0;

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
    float best = 0.0F;     // that a turn of its session gets
    float near = 0.0F;     // the same, less for each turn that it is away
    bool named = false;    // whether who speaks is
    bool present = false;  // whether one who is named speaks in the session
    bool counts = true;    // whether mean and deviation are of it, too
    std::int32_t rank_by_meaning = 0;
    std::int32_t rank_by_words = 0;

    float own() const { return by_meaning + by_words; }
};

// How many turns two rows are apart; of two sessions, more than can be.
std::size_t apart(const Row &one, const Row &other) {
    if (one.session != other.session) return std::numeric_limits<std::size_t>::max();
    return one.at > other.at ? one.at - other.at : other.at - one.at;
}

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
        const std::size_t count = std::max(std::clamp(4 * wanted_.k, kFewCandidates, kManyCandidates), 2 * wanted_.k);
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

    // What each row has of itself.
    void measure() {
        labels_.clear();
        for (const Row &row : rows_) {
            if (std::isnan(row.similarity)) labels_.push_back(row.label);
        }
        scores_.resize(labels_.size());
        index_.scores(wanted_.vector, labels_, kUnknown, scores_.data());
        std::size_t next = 0;
        for (Row &row : rows_) {
            if (std::isnan(row.similarity)) row.similarity = scores_[next++];
        }
        std::erase_if(rows_, [](const Row &row) { return std::isnan(row.similarity); });  // it has no vector yet
        labels_.clear();
        for (const Row &row : rows_) labels_.push_back(row.label);
        scores_.resize(labels_.size());
        question_.scores_together(labels_, scores_.data());
        if (wanted_.exact) count_candidates();
        const auto [mean, deviation] = usual();
        const double mass = question_.mass();
        const float of_words = mass > 0.0 ? kOfWords / static_cast<float>(std::sqrt(mass)) : 0.0F;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            Row &row = rows_[i];
            row.coverage = scores_[i];
            row.by_words = of_words * row.coverage;
            row.by_meaning = (row.similarity - mean) / deviation;
            row.named = std::any_of(named_.begin(), named_.end(), [&](auto id) { return turns_.has_fact(row.label, id); });
        }
    }

    // Of all rows those count that an arm has found, with what stands around them: as if they alone were scored, so that what
    // is found among them is judged by the same scores.
    void count_candidates() {
        for (Row &row : rows_) row.counts = false;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            if (rows_[i].rank_by_meaning == 0 && rows_[i].rank_by_words == 0) continue;
            const std::size_t end = std::min(rows_.size(), i + kReach + 1);
            for (std::size_t j = i - std::min(i, kReach); j < end; ++j) {
                if (apart(rows_[i], rows_[j]) <= kReach) rows_[j].counts = true;
            }
        }
    }

    // Mean and deviation of the similarities.
    std::pair<float, float> usual() const {
        double count = 0.0;
        double mean = 0.0;
        double squares = 0.0;
        for (const Row &row : rows_) count += row.counts ? 1.0 : 0.0;
        if (count == 0.0) return {0.0F, 1.0F};
        for (const Row &row : rows_) mean += row.counts ? row.similarity / count : 0.0;
        for (const Row &row : rows_) squares += row.counts ? (row.similarity - mean) * (row.similarity - mean) : 0.0;
        const double known = index_.space().metric == Metric::cosine ? kUsualWorth : 0.0;
        const double variance = (squares + known * kUsualDeviation * kUsualDeviation) / (count + known);
        return {static_cast<float>(mean), variance > 0.0 ? static_cast<float>(std::sqrt(variance)) : 1.0F};
    }

    Blend rank() {
        for (std::size_t first = 0; first < rows_.size();) {
            std::size_t end = first;
            while (end < rows_.size() && rows_[end].session == rows_[first].session) ++end;
            look_around(std::span(rows_).subspan(first, end - first));
            first = end;
        }
        std::vector<Scored> best;
        best.reserve(std::min(wanted_.k, rows_.size()));
        for (std::size_t i = 0; i < rows_.size(); ++i) keep_least(best, Scored{sum(parts_of(i)), rows_[i].label, i}, wanted_.k);
        std::sort(best.begin(), best.end());
        Blend found;
        for (const Scored &one : best) {
            found.labels.push_back(one.label);
            found.scores.push_back(one.score);
            found.parts.push_back(parts_of(one.row));
        }
        return found;
    }

    // What each row of one session gets of the others: the best of all, the best near it, and that one is named at all.
    static void look_around(std::span<Row> session) {
        float best = -std::numeric_limits<float>::infinity();
        bool present = false;
        for (Row &row : session) {
            row.near = row.own();
            best = std::max(best, row.near);
            present |= row.named;
        }
        const auto passed = [](Row &row, const Row &other) {  // the one before it, in either direction
            const auto away = static_cast<float>(row.at > other.at ? row.at - other.at : other.at - row.at);
            row.near = std::max(row.near, other.near - kOfDistance * away);
        };
        for (std::size_t i = 1; i < session.size(); ++i) passed(session[i], session[i - 1]);
        for (std::size_t i = session.size() - 1; i-- > 0;) passed(session[i], session[i + 1]);
        for (Row &row : session) {
            row.best = best;
            row.present = present;
        }
    }

    static float sum(const Parts &parts) {
        return parts.by_meaning + parts.by_words + parts.by_neighbours + parts.by_session + parts.by_role + parts.by_time +
               parts.by_worth;
    }

    // How exactly the time of a row is named: 0 where it is not, 1 for its month, 2 for its day.
    int named_time(Label label) const {
        using namespace std::chrono;
        int most = 0;
        if (wanted_.dates.empty()) return most;
        const year_month_day date{floor<days>(sys_time<microseconds>{microseconds{turns_.happened(label)}})};
        for (const NamedDate &one : wanted_.dates) {
            const bool of_year = one.year == 0 || one.year == static_cast<int>(date.year());
            if (!of_year || one.month != static_cast<unsigned>(date.month())) continue;
            most = std::max(most, one.day == static_cast<unsigned>(date.day()) ? 2 : 1);
        }
        return most;
    }

    // What the rows beside it give it, before it is told how much it leans on them.
    float beside(std::size_t i) const {
        const Row &row = rows_[i];
        float sum = 0.0F;
        const std::size_t end = std::min(rows_.size(), i + kReach + 1);
        for (std::size_t j = i - std::min(i, kReach); j < end; ++j) {
            const std::size_t distance = apart(row, rows_[j]);
            if (j != i && distance <= kReach) sum += kBeside[distance - 1] * rows_[j].own();
        }
        return sum;
    }

    Parts parts_of(std::size_t i) const {
        const Row &row = rows_[i];
        const float length = row.length / kLong;
        return {row.similarity,
                row.coverage,
                row.by_meaning,
                row.by_words,
                beside(i) / (1.0F + length * length),
                kOfSession * row.best + kOfNear * row.near,
                (row.named ? kOfRole : 0.0F) + (row.present ? kOfPresence : 0.0F),
                kOfTime * static_cast<float>(named_time(row.label)),
                wanted_.worth ? row.worth : 0.0F,
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
    std::vector<Label> labels_;
    std::vector<float> scores_;
};

}  // namespace

Blend blend(const FlatIndex &index, const Words &words, const TurnTable &turns, const Blended &wanted) {
    if (wanted.k == 0) return {};
    return Blender(index, words, turns, wanted).best();
}

}  // namespace llmspell
