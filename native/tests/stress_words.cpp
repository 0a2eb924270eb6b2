// Random work on rows of words, against rows kept plainly and scored by the formulas as they are written.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "snapshot.hpp"
#include "stress.hpp"
#include "words.hpp"

namespace {

using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Measure;
using llmspell::Ranked;
using llmspell::Words;

using Terms = std::vector<std::string>;
using Rows = std::map<Label, Terms>;

constexpr double kK1 = 1.2;

// Few terms are frequent and many are rare, as words are.
std::string term_of(std::mt19937 &random) {
    const auto span = 1 + random() % 60;
    return "term " + std::to_string(random() % span);
}

Terms terms_of(std::mt19937 &random, std::size_t most) {
    Terms terms(random() % (most + 1));
    for (std::string &term : terms) term = term_of(random);
    return terms;
}

std::vector<std::string_view> views_of(const Terms &terms) { return {terms.begin(), terms.end()}; }

// What is asked for, in order and each once.
Terms different(const Terms &terms) {
    Terms once;
    for (const std::string &term : terms) {
        if (std::find(once.begin(), once.end(), term) == once.end()) once.push_back(term);
    }
    return once;
}

// The formulas over the rows that pass.
class Judge {
  public:
    Judge(const Rows &rows, const LabelSet *among, const Terms &asked, Measure measure) : asked_(asked), measure_(measure) {
        for (const auto &[label, terms] : rows) {
            if (among != nullptr && !among->contains(label)) continue;
            ++count_;
            length_ += static_cast<double>(terms.size());
            for (const std::string &term : different(terms)) ++df_[term];
        }
        length_ = count_ > 0.0 ? length_ / count_ : 0.0;
        std::erase_if(asked_, [&](const std::string &term) { return df_[term] == 0.0; });
    }

    double score(const Terms &row) const { return measure_ == Measure::bm25 ? bm25(row) : coverage(row); }

    double coverage_together(const Terms &row) const {
        const Terms once = different(asked_);
        double sum = coverage(row);
        for (std::size_t i = 1; i < once.size(); ++i) {
            const auto one = place(row, once[i - 1]);
            const auto other = place(row, once[i]);
            if (std::max(one, other) == row.size() || std::max(one, other) - std::min(one, other) > 8) continue;
            sum += 0.6 * std::min(idf(once[i - 1]), idf(once[i])) * early(std::min(one, other));
        }
        double mass = 0.0;
        for (const std::string &term : once) mass += idf(term);
        double best = 0.0;
        for (std::size_t first = 0; first < row.size(); ++first) {
            const Terms stretch(row.begin() + static_cast<std::ptrdiff_t>(first),
                                row.begin() + static_cast<std::ptrdiff_t>(std::min(row.size(), first + 32)));
            double within = 0.0;
            for (const std::string &term : once) within += place(stretch, term) < stretch.size() ? idf(term) : 0.0;
            best = std::max(best, within);
        }
        return mass > 0.0 ? std::max(sum, 1.3 * best * best / mass) : sum;
    }

  private:
    double idf(const std::string &term) const {
        const double df = df_.at(term);
        return std::log1p((count_ - df + 0.5) / (df + 0.5));
    }
    static double early(std::size_t place) { return 1.0 / std::sqrt(1.0 + static_cast<double>(std::min<std::size_t>(place, 255)) / 40.0); }
    static std::size_t place(const Terms &row, const std::string &term) {
        return static_cast<std::size_t>(std::find(row.begin(), row.end(), term) - row.begin());
    }

    double bm25(const Terms &row) const {
        const double b = length_ / (length_ + 20.0);
        const double norm = kK1 * (1.0 - b + (length_ > 0.0 ? b * static_cast<double>(row.size()) / length_ : 0.0));
        double sum = 0.0;
        for (const std::string &term : asked_) {
            const auto tf = static_cast<double>(std::count(row.begin(), row.end(), term));
            sum += idf(term) * tf * (kK1 + 1.0) / (tf + norm);
        }
        return sum;
    }

    double coverage(const Terms &row) const {
        double sum = 0.0;
        for (const std::string &term : different(asked_)) {
            if (place(row, term) < row.size()) sum += idf(term) * early(place(row, term));
        }
        return sum;
    }

    Terms asked_;
    Measure measure_;
    std::map<std::string, double> df_;
    double count_ = 0.0;
    double length_ = 0.0;
};

bool near(double a, double b) { return std::fabs(a - b) <= 1e-4 * std::max(1.0, std::fabs(b)); }

void require_answers(const Words &words, const Rows &rows, std::mt19937 &random) {
    std::vector<Label> some;
    const auto share = 1 + random() % 8;
    for (Label label = 0; label < 3000; ++label) {
        if (random() % 8 < share) some.push_back(label);
    }
    const LabelSet set(some.data(), some.size());
    const LabelSet *const among = random() % 2 == 0 ? &set : nullptr;
    const Terms asked = terms_of(random, 12);
    const Measure measure = random() % 2 == 0 ? Measure::bm25 : Measure::coverage;
    const std::size_t k = random() % 4 == 0 ? 1 + random() % 200 : 1 + random() % 12;
    const Judge judge(rows, among, asked, measure);
    std::vector<double> expected;
    for (const auto &[label, terms] : rows) {
        const double score = judge.score(terms);
        if (score > 0.0 && (among == nullptr || among->contains(label))) expected.push_back(score);
    }
    std::sort(expected.rbegin(), expected.rend());
    const auto views = views_of(asked);
    Words::Question question(words, views, among, measure);
    const Ranked found = question.best(k);
    require(found.labels.size() == std::min(k, expected.size()), "as many as there are");
    for (std::size_t i = 0; i < found.labels.size(); ++i) {
        require(near(found.scores[i], expected[i]), "the best scores");
        require(among == nullptr || among->contains(found.labels[i]), "of rows that pass");
        require(near(judge.score(rows.at(found.labels[i])), found.scores[i]), "each that of its row");
        require(question.score(found.labels[i]) == found.scores[i], "to the bit, whichever way it is added up");
        if (i == 0) continue;
        const bool equal = found.scores[i] == found.scores[i - 1];
        require(equal ? found.labels[i - 1] < found.labels[i] : found.scores[i] < found.scores[i - 1], "in order");
    }
    if (measure == Measure::bm25) return;
    std::vector<Label> asked_for;
    for (int i = 0; i < 40; ++i) asked_for.push_back(static_cast<Label>(random() % 3000));
    std::vector<float> scores(asked_for.size());
    question.scores_together(asked_for, scores.data());
    for (std::size_t i = 0; i < asked_for.size(); ++i) {
        const auto held = rows.find(asked_for[i]);
        require(near(scores[i], held == rows.end() ? 0.0 : judge.coverage_together(held->second)), "what stands together counts");
    }
}

void random_work() {
    Words words({kK1, {}});
    Rows rows;
    std::mt19937 random(1);
    for (int step = 0; step < 9000; ++step) {
        const auto label = static_cast<Label>(random() % (step < 6000 ? 3000 : 300));
        if (random() % 4 != 0) {
            const Terms terms = terms_of(random, random() % 10 == 0 ? 300 : 15);
            words.add(label, views_of(terms));
            rows.insert_or_assign(label, terms);
        } else {
            require(words.remove(label) == (rows.erase(label) == 1), "remove says whether it was there");
        }
        require(words.size() == rows.size(), "size");
        if (step % 20 == 0) require_answers(words, rows, random);
        if (step % 500 == 0) require(words.check().empty(), words.check());
    }
    while (!rows.empty()) {
        words.remove(rows.begin()->first);
        rows.erase(rows.begin());
    }
    require(words.size() == 0 && words.terms() == 0 && words.check().empty(), "empty again: " + words.check());
}

// Whichever allocation fails, all is whole afterwards, and the row is the old one or the new one.
void memory_runs_out() {
    Words words({kK1, {}});
    Rows rows;
    std::mt19937 random(2);
    int failures = 0;
    for (int step = 0; step < 3000; ++step) {
        const auto label = static_cast<Label>(random() % 200 * (step % 5 == 0 ? 1000 : 1));
        const Terms terms = terms_of(random, 30);
        const auto views = views_of(terms);
        const bool removes = random() % 3 == 0;
        allocations_left = static_cast<int>(random() % 6);
        bool failed = false;
        try {
            if (removes) {
                words.remove(label);
            } else {
                words.add(label, views);
            }
        } catch (const std::bad_alloc &) {
            failed = true;
        }
        allocations_left = -1;
        require(!(failed && removes), "a removal needs no memory");
        failures += failed;
        if (removes) rows.erase(label);
        if (!failed && !removes) rows.insert_or_assign(label, terms);
        if (step % 10 == 0) require(words.check().empty(), words.check());
        require(words.size() == rows.size(), "size");
        if (step % 50 == 0) require_answers(words, rows, random);
    }
    require(failures > 50 && rows.size() > 50, "failures and successes");
}

void readers_beside_a_writer() {
    Words words({kK1, {}});
    std::mt19937 random(3);
    for (Label label = 0; label < 1000; ++label) words.add(label, views_of(terms_of(random, 15)));
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        readers.emplace_back([&, seed] {
            std::mt19937 own(seed);
            while (!done) {
                const Terms asked = terms_of(own, 8);
                const auto views = views_of(asked);
                Words::Question question(words, views, nullptr, seed == 0 ? Measure::bm25 : Measure::coverage);
                const Ranked found = question.best(20);
                require(std::is_sorted(found.scores.rbegin(), found.scores.rend()), "best first");
                for (std::size_t i = 0; i < found.labels.size(); ++i) {
                    require(question.score(found.labels[i]) == found.scores[i], "all of one moment");
                }
            }
        });
    }
    for (int step = 0; step < 2000; ++step) {
        words.add(static_cast<Label>(random() % 2000), views_of(terms_of(random, 15)));
        if (step % 3 == 0) words.remove(static_cast<Label>(random() % 2000));
    }
    done = true;
    for (std::thread &reader : readers) reader.join();
    require(words.check().empty(), words.check());
}

// What is opened answers as what was saved; a file with any one byte changed is refused, or says the same.
void snapshots() {
    const auto path = scratch_file("words");
    std::mt19937 random(4);
    Words words({kK1, {}});
    Rows rows;
    for (Label label = 0; label < 300; ++label) {
        rows[label] = terms_of(random, 15);
        words.add(label, views_of(rows[label]));
    }
    words.save(path, {7});
    std::vector<std::uint64_t> note;
    const auto opened = Words::open(path, note);
    require(note == std::vector<std::uint64_t>{7} && opened->check().empty(), opened->check());
    for (int round = 0; round < 20; ++round) require_answers(*opened, rows, random);
    damage(path, [&] {
        const auto again = Words::open(path, note);
        require(again->size() == rows.size() && again->check().empty(), "not damaged where it matters");
    });
}

}  // namespace

void stress_words() {
    random_work();
    memory_runs_out();
    readers_beside_a_writer();
    snapshots();
}
