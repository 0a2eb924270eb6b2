// Rows of words under labels, searched by BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework", 3.1):
//
//     score(row) = sum over the query's terms of  times_asked * idf * tf (k1 + 1) / (tf + k1 (1 - b + b length / mean_length))
//     idf        = ln(1 + (rows - df + 0.5) / (df + 0.5))
//
// or by how early it comes to what is asked for, whatever its length and however often it says it:
//
//     score(row) = sum over the query's different terms of  idf / sqrt(1 + place / 40)
//
// where `place` is that of the term's first occurrence; for rows looked at one by one, with two more things that tell
// (`scores_together`).
//
// Rows, df and mean length are those of the rows that a filter lets pass: a filtered search answers as an index of these
// rows alone would, to the bit, and tells nothing of the others.
//
// Two views of one thing are kept: which rows have a term (postings), and which terms a row has. A search opens the
// postings of the rarest terms, and asks the few rows that can still be among the best for the rest.
//
// One writer at a time beside any number of readers, who are shut out only while a row is changed.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arena.hpp"
#include "chunked.hpp"
#include "gate.hpp"
#include "kernels.hpp"
#include "labels.hpp"
#include "scratch.hpp"
#include "vocabulary.hpp"

namespace llmspell {

struct WordsSettings {
    double k1 = 1.2;
    std::optional<double> b;  // by default, the longer rows are, the more their lengths count
};

enum class Measure { bm25, coverage };

// Labels and scores, best first; equal scores by label.
struct Ranked {
    std::vector<Label> labels;
    std::vector<float> scores;
};

// Many rows, by what rarity and length are judged: how many there are, how many terms they have in all, and how many of
// them have each of some terms.
struct Corpus {
    std::size_t rows = 0;
    std::uint64_t length = 0;
    std::vector<std::pair<std::string_view, std::uint32_t>> terms;
};

class Words {
  public:
    class Question;

    // A term counts so often at most in one row, comes at this place at the latest, and a row counts as so long at most.
    static constexpr std::uint32_t kMostTimes = (1U << 8) - 1;
    static constexpr std::uint32_t kLastPlace = (1U << 8) - 1;
    static constexpr std::uint32_t kLongest = (1U << 16) - 1;

    explicit Words(const WordsSettings &settings);
    Words(const Words &) = delete;
    Words &operator=(const Words &) = delete;

    // The terms of a row, in order, as often as they occur. A label that is there already gets the new ones. Nothing is changed when
    // memory runs out.
    void add(Label label, std::span<const std::string_view> terms);

    // Returns whether the label was there. A term that no row is left with is wiped from memory.
    bool remove(Label label);

    // From now on rarity and length are judged as if the rows were some of a corpus, in searches without a filter. Nothing may
    // be changed any more, and nothing is as `check` has it.
    void stand_for(const Corpus &corpus);

    std::size_t size() const;
    std::size_t terms() const;
    std::size_t memory_bytes() const;
    const WordsSettings &settings() const { return settings_; }

    // Empty when every invariant holds, else a sentence that says which does not. Visits everything.
    std::string check() const;

    // The note is the caller's.
    void save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const;
    static std::unique_ptr<Words> open(const std::filesystem::path &path, std::vector<std::uint64_t> &note);

  private:
    Term term_of(std::string_view text);

    // Rows go by numbers of their own: labels come in pages of 64, and pages have the order in which they came.
    using Row = std::uint32_t;

    struct Posting {
        Row row;
        std::uint32_t shape;  // how often the term occurs in it, where first, and how long it is; 0 where it does no more
    };

    struct Postings {
        Posting *at = nullptr;  // by row
        std::uint32_t size = 0;
        std::uint32_t capacity = 0;
        std::uint32_t rows = 0;             // those that have the term: `size` less those that do no more
        std::uint32_t most = 0;             // times that it occurs in a row; no less than that
        std::uint32_t shortest_once = kLongest;   // length of a row with it once; no more than that
        std::uint32_t shortest_often = kLongest;  // the same of a row that has it more often
        std::unique_ptr<std::uint64_t[]> bits;  // a bit for each row, where the term is frequent; of `room_` pages
    };

    // A term of a row, and its place there.
    struct Held {
        Term term;
        std::uint32_t place;
        friend auto operator<=>(const Held &, const Held &) = default;
    };

    struct Content {
        Held *terms = nullptr;  // by term and place
        std::uint32_t count = 0;
    };

    // A term asked for, by its number among those, and how a row has it.
    struct Met {
        std::uint32_t number;
        std::uint32_t times;
        std::uint32_t first;
    };

    // A term asked for, by its number among those, where it occurs in a row.
    struct Said {
        std::uint32_t place;
        std::uint32_t number;
        friend auto operator<=>(const Said &, const Said &) = default;
    };

    struct Leading {
        float sum;
        Row row;
    };

    struct Numbered {
        Row row;
        std::uint32_t number;
    };

    struct Scratch {
        std::vector<std::uint32_t> number;  // of each term: one more than its number among those asked for, or 0
        std::vector<float> sums;            // of each row, so far; 0 where it has none of the terms
        std::vector<Row> touched;           // rows that have a sum
        std::vector<std::uint64_t> allowed; // a bit for each row that the filter lets pass
        std::vector<Row> matching;          // rows that are let pass and have a term, where few are let pass
        std::vector<Met> met;               // terms of a row that are asked for
        std::vector<Said> said;             // the same, each time it occurs
        std::vector<std::uint32_t> within;  // how often each is in a stretch
        std::vector<Numbered> scored;       // rows whose scores are asked for
        std::vector<float> rest;
        std::vector<Leading> leading;       // rows that lead; later on, those that are left and what they have at most
        std::vector<Hit> hits;              // a heap, the worst first
    };

    static constexpr std::uint32_t kTimesShift = 24;
    static constexpr std::uint32_t kPlaceShift = 16;
    static constexpr std::uint32_t kNoPage = 0xFFFF'FFFF;

    static std::uint32_t times_of(std::uint32_t shape) { return shape >> kTimesShift; }
    static std::uint32_t place_of(std::uint32_t shape) { return shape >> kPlaceShift & kLastPlace; }
    static std::uint32_t length_of(std::uint32_t shape) { return shape & kLongest; }
    static std::uint32_t shape_of(std::size_t times, std::size_t first, std::size_t length);
    static std::uint32_t capped(std::size_t length) { return static_cast<std::uint32_t>(std::min<std::size_t>(length, kLongest)); }

    Row row_of(Label label) const;  // kNone where it is not there
    Label label_of(Row row) const { return pages_[row >> kPageBits] << kPageBits | static_cast<Label>(row & kPageMask); }
    bool live(Row row) const { return (live_[row >> kPageBits] >> (row & kPageMask) & 1) != 0; }
    const Content &content(Row row) const { return contents_.at(row >> kPageBits)[row & kPageMask]; }
    std::span<const Held> terms_of(Row row) const { return {content(row).terms, content(row).count}; }

    // Calls `visit(term, times, first)` for each different one of a row's terms.
    template <class Visit>
    static void for_each_term(std::span<const Held> terms, Visit visit) {
        for (std::size_t i = 0; i < terms.size();) {
            std::size_t end = i + 1;
            while (end < terms.size() && terms[end].term == terms[i].term) ++end;
            visit(terms[i].term, end - i, terms[i].place);
            i = end;
        }
    }

    // changing
    std::uint32_t reach_page(Label page);
    void make_room(std::size_t pages);
    void reach_length(std::size_t length);
    void reach_posting(Term term);
    static Posting *posting_at(const Postings &list, Row row);
    void put_posting(Term term, Row row, std::uint32_t shape) noexcept;
    void drop_posting(Term term, Row row) noexcept;
    void tidy(Postings &list) noexcept;
    void drop_if_unused(Term term) noexcept;
    void make_bits(Postings &list) noexcept;
    void drop_bits(Postings &list) noexcept;
    void count_length(Row row, std::size_t length, bool there) noexcept;
    void clear(Row row) noexcept;
    void leave_page(std::uint32_t page) noexcept;
    void close_gaps() noexcept;
    void bound(Postings &list, std::uint32_t shape) const noexcept;
    // Whether a term that so many rows have is to have a bit for each row: those of one row in 64 take less than 8 bytes
    // for each posting.
    bool frequent(std::size_t rows) const { return rows >= kFewest && rows >= pages_.size(); }

    // opening
    void take_terms(std::span<const std::uint64_t> ends, std::span<const char> letters);
    void take_rows(std::span<const Label> pages, std::span<const std::uint32_t> counts, std::span<const Term> contents);
    void make_postings();

    static constexpr std::size_t kFewest = 256;

    WordsSettings settings_;
    Vocabulary vocabulary_;
    std::vector<Postings> postings_;  // of each term
    Arena<Posting> posting_memory_;
    Arena<Held> term_memory_;
    std::unordered_map<Label, std::uint32_t> page_of_;
    std::vector<Label> pages_;                       // of labels; -1 where it is gone
    std::size_t gone_pages_ = 0;
    Chunked<Content> contents_{kPageLabels};         // a page a row of it
    std::size_t room_ = 0;                           // pages that what follows, and every term's bits, have room for
    std::vector<std::uint64_t> live_;
    std::vector<std::vector<std::uint64_t>> slices_; // bit i of the lengths of all rows, for each i
    std::size_t rows_ = 0;
    std::uint64_t length_ = 0;                       // of all rows together
    std::size_t bits_ = 0;                           // terms that have bits
    mutable Pool<Scratch> scratch_;

    Gate gate_;
};

// Terms asked of the rows as they are at one moment: no row changes while a question lives, so it must not live long, nor
// must its thread ask another one of the same words meanwhile.
class Words::Question {
  public:
    // By BM25, terms count as often as they are given. `among`, where given, holds the only labels that `best` may return,
    // and rows, frequencies and lengths are theirs alone.
    Question(const Words &words, std::span<const std::string_view> terms, const LabelSet *among = nullptr,
             Measure measure = Measure::bm25);
    ~Question();
    Question(const Question &) = delete;
    Question &operator=(const Question &) = delete;

    // The k best of the rows that have one of the terms.
    Ranked best(std::size_t k);

    // The score of one row, filtered out or not; 0 where it has none of the terms, or is not there.
    float score(Label label) const;

    // By coverage, what says more of rows than their terms one by one: the greater of
    // - the same, and 0.6 of the lesser idf, as early as it is, for each two terms that follow each other in the query and
    //   come within a few words of each other in the row, where they first do;
    // - 1.3 together^2 / mass, where `together` are the idfs of the terms in that stretch of 32 words that has most of
    //   them: what stands together counts wherever it stands, the more of the query it is.
    void scores_together(std::span<const Label> labels, float *scores) const;

    // How long a row is, in terms; 0 where it is not there.
    std::uint32_t length(Label label) const;

    std::size_t rows() const { return rows_; }
    double mean_length() const { return mean_length_; }
    // The idfs of the terms that some row has, as often as they count.
    double mass() const { return mass_; }

  private:
    struct Asked {
        Term term;
        std::uint32_t times;  // asked for
        std::uint32_t df;
        float weight;         // idf * times * (k1 + 1); idf alone for coverage
        float bound;          // no row gets more from this term
        std::uint32_t order;  // among the different terms, as they were given
    };

    Question(const Words &words, Measure measure);
    void resolve(std::span<const std::string_view> terms);
    void filter(const LabelSet &among);
    void count_by_rows();
    void count_by_postings();
    void weigh();
    LLMSPELL_INLINE float part(const Asked &one, std::uint32_t times, std::uint32_t length) const;
    LLMSPELL_INLINE float part(const Asked &one, std::uint32_t shape) const;
    float bound_of(const Asked &one) const;
    std::size_t meet(Row row) const;
    float score_row(Row row) const;
    float score_row_together(Row row) const;
    float together(Row row) const;
    float score_met(Row row, std::size_t count) const;  // of the first so many of `met`
    void open(const Asked &one);
    template <class T, class Visit>
    void for_each_row(std::span<const T> rows, Visit visit) const;
    float reached(std::size_t k, std::size_t opened) const;
    void sift(std::size_t opened, float rest, float least);
    void rank(std::size_t k, std::vector<Hit> &hits);

    static constexpr std::size_t kRowSteps = 8;  // looking at a row costs as many as that, and one for each of its terms

    const Words &words_;
    const Measure measure_;
    std::shared_lock<std::shared_mutex> lock_;
    mutable Pool<Scratch>::Loan scratch_;
    bool filtered_ = false;
    bool few_ = false;               // rows let pass: each is looked at
    std::vector<Asked> asked_;       // rarest first, equal ones as they were given
    std::size_t touched_ = 0;        // rows that have a sum
    std::size_t rows_ = 0;
    std::uint64_t total_length_ = 0;
    double mean_length_ = 0.0;
    double mass_ = 0.0;
    float base_ = 0.0F;              // k1 (1 - b + b length / mean_length) is base + slope * length
    float slope_ = 0.0F;
};

}  // namespace llmspell
