// Snapshots of rows of words: which terms there are, and which ones each row has. Postings are made from that.
#include <algorithm>
#include <bit>

#include "snapshot.hpp"
#include "words.hpp"

namespace llmspell {
namespace {

// The section of settings: these, and then the caller's note.
enum Setting : std::size_t { kK1, kB, kSettings };

constexpr double kOfLengths = -1.0;             // in place of a b
constexpr std::uint32_t kAbsent = 0xFFFF'FFFF;  // the count of a row that is not there

template <class T>
std::span<const T> span_of(const std::vector<T> &values) {
    return {values.data(), values.size()};
}

void require(bool holds, const char *fault) {
    if (!holds) throw Damaged(fault);
}

}  // namespace

void Words::save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const {
    const auto writer = gate_.writing();
    std::vector<std::uint64_t> settings{std::bit_cast<std::uint64_t>(settings_.k1), std::bit_cast<std::uint64_t>(settings_.b.value_or(kOfLengths))};
    settings.insert(settings.end(), note.begin(), note.end());
    // Terms are numbered anew, without gaps, in the order in which they are saved.
    std::vector<Term> numbers(vocabulary_.numbers());
    std::vector<std::uint64_t> ends;
    std::vector<char> letters;
    for (Term term = 0; term < vocabulary_.numbers(); ++term) {
        if (!vocabulary_.holds(term)) continue;
        numbers[term] = static_cast<Term>(ends.size());
        const std::string_view text = vocabulary_.text(term);
        letters.insert(letters.end(), text.begin(), text.end());
        ends.push_back(letters.size());
    }
    std::vector<Label> pages;
    std::vector<std::uint32_t> counts;
    std::vector<Term> contents;  // of each row in the order of its text
    for (std::size_t page = 0; page < pages_.size(); ++page) {
        if (pages_[page] < 0) continue;
        pages.push_back(pages_[page]);
        for (auto row = static_cast<Row>(page << kPageBits); row < (page + 1) << kPageBits; ++row) {
            const auto terms = terms_of(row);
            counts.push_back(live(row) ? static_cast<std::uint32_t>(terms.size()) : kAbsent);
            contents.resize(contents.size() + terms.size());
            for (const Held &one : terms) contents[contents.size() - terms.size() + one.place] = numbers[one.term];
        }
    }
    SnapshotWriter out(path);
    out.put(Section::word_settings, span_of(settings));
    out.put(Section::word_pages, span_of(pages));
    out.put(Section::word_counts, span_of(counts));
    out.put(Section::word_contents, span_of(contents));
    out.put(Section::word_ends, span_of(ends));
    out.put(Section::word_letters, span_of(letters));
    out.finish();
}

std::unique_ptr<Words> Words::open(const std::filesystem::path &path, std::vector<std::uint64_t> &note) {
    Snapshot snapshot(path);
    const auto settings = snapshot.checked<std::uint64_t>(Section::word_settings);
    require(settings.size() >= kSettings, "a section has the wrong length");
    note.assign(settings.begin() + kSettings, settings.end());
    WordsSettings made{std::bit_cast<double>(settings[kK1]), std::bit_cast<double>(settings[kB])};
    if (*made.b < 0.0) made.b.reset();
    auto words = std::make_unique<Words>(made);
    words->take_terms(snapshot.checked<std::uint64_t>(Section::word_ends), snapshot.checked<char>(Section::word_letters));
    words->take_rows(snapshot.checked<Label>(Section::word_pages), snapshot.checked<std::uint32_t>(Section::word_counts),
                     snapshot.checked<Term>(Section::word_contents));
    words->make_postings();
    return words;
}

void Words::take_terms(std::span<const std::uint64_t> ends, std::span<const char> letters) {
    vocabulary_.reserve(ends.size());
    postings_.resize(ends.size());
    std::uint64_t first = 0;
    for (const std::uint64_t end : ends) {
        require(first <= end && end <= letters.size(), "a term's letters are not there");
        vocabulary_.add({letters.data() + first, end - first});
        first = end;
    }
}

void Words::take_rows(std::span<const Label> pages, std::span<const std::uint32_t> counts, std::span<const Term> contents) {
    require(counts.size() == pages.size() << kPageBits, "a section has the wrong length");
    make_room(pages.size());
    std::size_t first = 0;
    for (const Label label : pages) {
        const std::uint32_t page = reach_page(label);
        for (std::size_t i = 0; i < kPageLabels; ++i) {
            const std::uint32_t count = counts[static_cast<std::size_t>(page) << kPageBits | i];
            if (count == kAbsent) continue;
            require(count <= contents.size() - first, "a row's terms are not there");
            Held *const terms = term_memory_.take(Arena<Held>::capacity_for(count));
            for (std::uint32_t place = 0; place < count; ++place) terms[place] = {contents[first + place], place};
            std::sort(terms, terms + count);
            first += count;
            contents_.at(page)[i] = {terms, count};
            live_[page] |= std::uint64_t{1} << i;
            ++rows_;
            reach_length(count);
            count_length(page << kPageBits | static_cast<Row>(i), count, true);
        }
    }
}

// Of rows that have terms and no postings yet.
void Words::make_postings() {
    const auto for_all = [&](auto visit) {
        for (std::size_t page = 0; page < pages_.size(); ++page) {
            for (std::uint64_t mask = live_[page]; mask != 0; mask &= mask - 1) {
                visit(static_cast<Row>(page << kPageBits) | static_cast<Row>(std::countr_zero(mask)));
            }
        }
    };
    for_all([&](Row row) {
        for_each_term(terms_of(row), [&](Term term, std::size_t, std::size_t) {
            require(term < postings_.size(), "a row has a term that is not there");
            ++postings_[term].capacity;
        });
    });
    for (Postings &list : postings_) {
        list.capacity = static_cast<std::uint32_t>(Arena<Posting>::capacity_for(list.capacity));
        require(list.capacity > 0, "a term is there without rows");
        list.at = posting_memory_.take(list.capacity);
    }
    for_all([&](Row row) {
        const auto terms = terms_of(row);
        for_each_term(terms, [&](Term term, std::size_t times, std::size_t place) {
            Postings &list = postings_[term];
            list.at[list.size++] = {row, shape_of(times, place, terms.size())};
            bound(list, list.at[list.size - 1].shape);
        });
    });
    for (Postings &list : postings_) {
        list.rows = list.size;
        if (frequent(list.rows)) make_bits(list);
    }
}

}  // namespace llmspell
