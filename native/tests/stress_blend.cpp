// Ranking by everything over rows that come and go, against the formula over rows kept plainly.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "blend.hpp"
#include "hnsw.hpp"
#include "stress.hpp"

namespace {

using llmspell::Blend;
using llmspell::Blended;
using llmspell::HNSW;
using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Measure;
using llmspell::Parts;
using llmspell::Turn;
using llmspell::TurnTable;
using llmspell::Words;

constexpr std::size_t kDimensions = 80;  // so many that there are codes to estimate by
constexpr const char *kNames[] = {"Ada", "Tom", "Bo"};

struct Entry {
    std::vector<float> vector;
    std::vector<std::string> terms;
    std::string session;
    const char *fact;
    llmspell::Moment happened;
    std::uint32_t length;
    float worth;
};

constexpr llmspell::Moment kDay = 86'400'000'000;

using Rows = std::map<Label, Entry>;

std::vector<float> vector_of(std::mt19937 &random) {
    std::normal_distribution<float> normal;
    std::vector<float> values(kDimensions);
    for (float &value : values) value = normal(random) + 0.3F;
    return values;
}

Entry entry_of(std::mt19937 &random) {
    Entry entry;
    entry.vector = vector_of(random);
    entry.terms.resize(random() % 12);
    for (std::string &term : entry.terms) term = "term " + std::to_string(random() % (1 + random() % 40));
    entry.session = "session " + std::to_string(random() % 40);
    entry.fact = kNames[random() % 3];
    entry.happened = static_cast<llmspell::Moment>(random() % 50) * kDay;
    entry.length = static_cast<std::uint32_t>(random() % 2000);
    entry.worth = static_cast<float>(random() % 64) / 16.0F;
    return entry;
}

// The three that are searched together.
struct Store {
    HNSW index{{kDimensions, llmspell::Metric::cosine}, {8, 40, 7}};
    Words words{{}};
    TurnTable turns;

    void put(Label label, const Entry &entry) {
        Turn turn;
        turn.label = label;
        turn.session = entry.session;
        turn.role = entry.fact;
        turn.happened = entry.happened;
        turn.facts = {entry.fact};
        turn.length = entry.length;
        turn.worth = entry.worth;
        turns.put(turn);
        words.add(label, std::vector<std::string_view>(entry.terms.begin(), entry.terms.end()));
        index.add(&label, entry.vector.data(), 1);
    }
    bool remove(Label label) {
        index.remove(label);
        words.remove(label);
        return turns.remove(label);
    }
};

// What is asked, with what holds it.
struct Asked {
    std::vector<float> vector;
    std::vector<std::string> terms;
    std::vector<std::string_view> views;
    std::vector<std::string_view> named;
    std::vector<llmspell::NamedDate> dates;
    Blended wanted;

    Asked(std::mt19937 &random, const LabelSet *among, std::size_t k) : vector(vector_of(random)) {
        terms.resize(random() % 6);
        for (std::string &term : terms) term = "term " + std::to_string(random() % 40);
        views.assign(terms.begin(), terms.end());
        if (random() % 2 == 0) named.push_back(kNames[random() % 3]);
        if (random() % 2 == 0) {
            dates.push_back({random() % 2 == 0 ? 0 : 1969 + static_cast<int>(random() % 3), 1 + static_cast<unsigned>(random() % 3),
                             static_cast<unsigned>(random() % 31)});
        }
        wanted.dates = dates;
        wanted.worth = random() % 4 != 0;
        wanted.vector = vector.data();
        wanted.terms = views;
        wanted.named = named;
        wanted.k = k;
        wanted.ef = 60;
        wanted.among = among;
    }
    Asked(const Asked &) = delete;
    Asked &operator=(const Asked &) = delete;
};

float cosine(const std::vector<float> &a, const std::vector<float> &b) {
    double product = 0.0;
    double own = 0.0;
    double other = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        product += static_cast<double>(a[i]) * b[i];
        own += static_cast<double>(a[i]) * a[i];
        other += static_cast<double>(b[i]) * b[i];
    }
    return static_cast<float>(product / std::sqrt(own * other));
}

bool near(float a, float b) { return std::fabs(a - b) <= 2e-3F; }

// Entries are of the first days of January and of February 1970: a day each, by what is drawn.
int time_of(const Entry &entry, const llmspell::NamedDate &date) {
    const auto day = static_cast<unsigned>(entry.happened / kDay) + 1;  // from 1 January on
    const unsigned month = day <= 31 ? 1 : 2;
    if (date.month != month || (date.year != 0 && date.year != 1970)) return 0;
    return date.day == (month == 1 ? day : day - 31) ? 2 : 1;
}

// The formula, over every row that passes.
std::map<Label, float> by_formula(const Store &store, const Rows &rows, const Asked &asked) {
    struct One {
        Label label;
        const Entry *entry;
        float similarity;
        float own;
    };
    std::vector<One> all;
    std::vector<Label> labels;
    for (const auto &[label, entry] : rows) {
        if (asked.wanted.among != nullptr && !asked.wanted.among->contains(label)) continue;
        all.push_back({label, &entry, cosine(entry.vector, asked.vector), 0.0F});
        labels.push_back(label);
    }
    // The question holds the words, and the view the turns, for as long as they live: what is asked of both comes first.
    std::set<Label> counted;
    {
        const std::size_t most = std::max(std::clamp<std::size_t>(4 * asked.wanted.k, 50, 100), 2 * asked.wanted.k);
        const auto found = store.index.search(asked.vector.data(), {most, most, asked.wanted.among, llmspell::Route::exact});
        auto candidates = found.labels;
        const auto said = Words::Question(store.words, asked.views, asked.wanted.among, Measure::coverage).best(most);
        candidates.insert(candidates.end(), said.labels.begin(), said.labels.end());
        for (const Label label : candidates) {
            counted.insert(label);
            auto [before, after] = store.turns.neighbours(label, 600, 600);
            std::reverse(before.begin(), before.end());
            for (auto *side : {&before, &after}) {
                if (asked.wanted.among != nullptr) std::erase_if(*side, [&](Label one) { return !asked.wanted.among->contains(one); });
                side->resize(std::min<std::size_t>(2, side->size()));
                counted.insert(side->begin(), side->end());
            }
        }
    }
    const auto count = static_cast<double>(counted.size());
    double mean = 0.0;
    double squares = 0.0;
    for (const One &one : all) mean += counted.contains(one.label) ? one.similarity / count : 0.0;
    for (const One &one : all) squares += counted.contains(one.label) ? std::pow(one.similarity - mean, 2.0) : 0.0;
    const double deviation = std::sqrt((squares + 32.0 * 0.095 * 0.095) / (count + 32.0));
    const Words::Question question(store.words, asked.views, asked.wanted.among, Measure::coverage);
    std::vector<float> covered(labels.size());
    question.scores_together(labels, covered.data());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const double words = question.mass() > 0.0 ? 2.2 * covered[i] / std::sqrt(question.mass()) : 0.0;
        all[i].own = static_cast<float>((all[i].similarity - mean) / deviation + words);
    }
    std::map<std::string, std::vector<const One *>> sessions;
    for (const One &one : all) sessions[one.entry->session].push_back(&one);
    std::map<Label, float> scores;
    for (auto &[name, turns] : sessions) {
        std::sort(turns.begin(), turns.end(), [](const One *a, const One *b) {
            return std::pair(a->entry->happened, a->label) < std::pair(b->entry->happened, b->label);
        });
        float best = turns.front()->own;
        bool present = false;
        const auto named = [&](const One &one) { return !asked.named.empty() && asked.named.front() == one.entry->fact; };
        for (const One *one : turns) {
            best = std::max(best, one->own);
            present |= named(*one);
        }
        for (std::size_t i = 0; i < turns.size(); ++i) {
            const auto at = [&](std::size_t place) { return place < turns.size() ? turns[place]->own : 0.0F; };
            const float beside = 0.3F * (at(i - 1) + at(i + 1)) + 0.2F * (at(i - 2) + at(i + 2));
            const Entry &entry = *turns[i]->entry;
            const float length = static_cast<float>(entry.length) / 1200.0F;
            float around = turns[i]->own;
            for (std::size_t j = 0; j < turns.size(); ++j) {
                around = std::max(around, turns[j]->own - 0.05F * static_cast<float>(i > j ? i - j : j - i));
            }
            const float who = (named(*turns[i]) ? 2.5F : 0.0F) + (present ? 2.0F : 0.0F);
            const float when = asked.dates.empty() ? 0.0F : 1.5F * static_cast<float>(time_of(entry, asked.dates.front()));
            scores[turns[i]->label] = turns[i]->own + beside / (1.0F + length * length) + 0.35F * (best + around) + who + when +
                                      (asked.wanted.worth ? entry.worth : 0.0F);
        }
    }
    return scores;
}

void require_in_order(const Blend &found) {
    for (std::size_t i = 0; i < found.labels.size(); ++i) {
        const Parts &one = found.parts[i];
        const float sum = one.by_meaning + one.by_words + one.by_neighbours + one.by_session + one.by_role + one.by_time + one.by_worth;
        require(std::isfinite(sum) && near(sum, found.scores[i]), "parts add up");
        if (i == 0) continue;
        const bool equal = found.scores[i] == found.scores[i - 1];
        require(equal ? found.labels[i - 1] < found.labels[i] : found.scores[i] < found.scores[i - 1], "best first, then by label");
    }
}

void require_answers(const Store &store, const Rows &rows, std::mt19937 &random) {
    std::vector<Label> some;
    for (Label label = 0; label < 600; ++label) {
        if (random() % 3 != 0) some.push_back(label);
    }
    const LabelSet set(some.data(), some.size());
    Asked asked(random, random() % 2 == 0 ? &set : nullptr, 1 + random() % 30);
    const auto expected = by_formula(store, rows, asked);
    std::vector<float> best;
    for (const auto &[label, score] : expected) best.push_back(score);
    std::sort(best.rbegin(), best.rend());

    asked.wanted.exact = true;
    const Blend exact = blend(store.index, store.words, store.turns, asked.wanted);
    require(exact.labels.size() == std::min(asked.wanted.k, expected.size()), "as many as are wanted, or as there are");
    require_in_order(exact);
    for (std::size_t i = 0; i < exact.labels.size(); ++i) {
        require(near(exact.scores[i], best[i]) && near(exact.scores[i], expected.at(exact.labels[i])), "the best by the formula");
    }

    // Of the same rows at least one in two is found by candidates, and what is known of a row itself is the same.
    asked.wanted.exact = false;
    const Blend found = blend(store.index, store.words, store.turns, asked.wanted);
    require(found.labels.size() == exact.labels.size(), "as many");
    require_in_order(found);
    std::size_t shared = 0;
    for (std::size_t i = 0; i < found.labels.size(); ++i) {
        const Entry &entry = rows.at(found.labels[i]);
        require(near(found.parts[i].similarity, cosine(entry.vector, asked.vector)), "no estimate is left");
        require(found.parts[i].by_worth == (asked.wanted.worth ? entry.worth : 0.0F), "worth");
        const auto same = std::find(exact.labels.begin(), exact.labels.end(), found.labels[i]);
        if (same == exact.labels.end()) continue;
        ++shared;
        require(found.parts[i].coverage == exact.parts[static_cast<std::size_t>(same - exact.labels.begin())].coverage, "coverage");
    }
    require(2 * shared >= found.labels.size(), "most of the best");
}

void random_work() {
    Store store;
    Rows rows;
    std::mt19937 random(1);
    for (int step = 0; step < 1500; ++step) {
        const auto label = static_cast<Label>(random() % 600);
        if (random() % 4 != 0) {
            const Entry entry = entry_of(random);
            store.put(label, entry);
            rows.insert_or_assign(label, entry);
        } else {
            require(store.remove(label) == (rows.erase(label) == 1), "what was there is removed");
        }
        if (step % 10 == 0) require_answers(store, rows, random);
    }
}

void readers_beside_a_writer() {
    Store store;
    std::mt19937 random(2);
    for (Label label = 0; label < 300; ++label) store.put(label, entry_of(random));
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        readers.emplace_back([&, seed] {
            std::mt19937 own(seed);
            while (!done) {
                const Asked asked(own, nullptr, 10);
                const Blend found = blend(store.index, store.words, store.turns, asked.wanted);
                require(found.labels.size() == 10, "enough");
                require_in_order(found);
            }
        });
    }
    for (int step = 0; step < 300; ++step) {
        store.put(static_cast<Label>(random() % 600), entry_of(random));
        if (step % 3 == 0) store.remove(static_cast<Label>(300 + random() % 300));
    }
    done = true;
    for (std::thread &reader : readers) reader.join();
}

}  // namespace

void stress_blend() {
    random_work();
    readers_beside_a_writer();
}
