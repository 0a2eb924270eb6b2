// Rows without their texts: who said something, in which session, when, and what was noted with it; in columns, with a
// posting for everything that a filter asks for. A filter is answered by intersecting a few postings, and looking at the
// times of what is left.
//
// Nothing is kept of namespaces, sessions, roles and metadata but hashes under a key made at random (siphash.hpp); a hash
// that no row has any more is zeroed. Of 2^30 different ones, two are the same with a chance below 10^-20.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "chunked.hpp"
#include "gate.hpp"
#include "id_table.hpp"
#include "kernels.hpp"
#include "labels.hpp"
#include "postings.hpp"
#include "siphash.hpp"

namespace llmspell {

using Moment = std::int64_t;  // microseconds since 1970

inline constexpr Moment kEarliest = std::numeric_limits<Moment>::min();
inline constexpr Moment kNever = std::numeric_limits<Moment>::max();

// A row as it is put.
struct Turn {
    Label label = 0;
    std::vector<std::string_view> name_space;  // its segments
    std::string_view session;
    std::string_view role;
    Moment happened = 0;
    Moment learned = 0;
    Moment expires = kNever;
    bool processed = false;
    std::vector<std::string_view> facts;  // of its metadata: a text for each key and its value
    std::uint32_t length = 0;             // of its text, in whatever the caller counts
    float worth = 0.0F;                   // of its text, whatever is asked
};

// What a filter asks for. The times are those of the first and the last microsecond that pass.
struct Conditions {
    std::vector<std::string_view> name_space;
    bool below = true;  // whether namespaces below it pass, too
    std::optional<std::string_view> session;
    std::optional<std::string_view> role;
    std::vector<std::string_view> facts;
    std::pair<Moment, Moment> happened{kEarliest, kNever};
    Moment known_by = kNever;
    std::optional<bool> processed;
    std::optional<bool> expired;  // by `now`
    Moment now = 0;
};

// Neighbours of a row in its session, each in the order of the session.
struct Neighbours {
    std::vector<Label> before;
    std::vector<Label> after;
};

class Snapshot;

class TurnTable {
  public:
    using Id = Slot;  // of a term or a session, for as long as a row has it

    // A row's place in its session, with what is asked of the rows beside another. Sessions are ordered by time, equal
    // times by label.
    struct Place {
        Moment happened;
        Label label;
        std::uint32_t length = 0;
        float worth = 0.0F;
        friend auto operator<=>(const Place &a, const Place &b) {
            return std::tie(a.happened, a.label) <=> std::tie(b.happened, b.label);
        }
        friend bool operator==(const Place &a, const Place &b) { return a.happened == b.happened && a.label == b.label; }
    };
    struct Seat {
        std::span<const Place> session;  // all rows of the session
        std::size_t at = 0;              // where the row is among them
    };

    // The table as it stands, for as long as the view lives; writers wait. What is said of a label holds only if `has`
    // does. The thread must ask the table itself for nothing meanwhile.
    class View {
      public:
        bool has(Label label) const { return table_.page_of(label) != nullptr; }
        Id session(Label label) const { return table_.page_of(label)->sessions[label & kPageMask]; }
        Id role(Label label) const { return table_.page_of(label)->roles[label & kPageMask]; }
        Moment happened(Label label) const { return table_.page_of(label)->moments[kHappened][label & kPageMask]; }
        Seat seat(Label label) const { return table_.seat(label); }
        // The row's session, and where to look for it there.
        std::optional<std::pair<Id, Place>> find(Label label) const;
        // Asks for what `find` looks at, and for what `turns` does: its list, and then what is in it.
        void prefetch_row(Label label) const;
        void prefetch_session(Id session) const { prefetch(&table_.sessions_[session].order); }
        void prefetch_turns(Id session) const { prefetch(turns(session).data(), std::min(kAhead, turns(session).size_bytes())); }
        // All rows of a session, in order.
        std::span<const Place> turns(Id session) const { return table_.sessions_[session].order; }
        // What `role` says of rows of this role; kNone where there is none. The same for a text of what is noted with rows.
        Id role_named(std::string_view name) const;
        Id fact_named(std::string_view fact) const;
        bool has_fact(Label label, Id fact) const {
            const auto &facts = table_.page_of(label)->facts[label & kPageMask];
            return std::find(facts.begin(), facts.end(), fact) != facts.end();
        }
        // Up to so many labels, evenly spread over all, or over those of a set.
        void sample(std::size_t count, const LabelSet *among, std::vector<Label> &labels) const;

      private:
        friend TurnTable;
        static constexpr std::size_t kAhead = 256;  // bytes of a session that are asked for

        explicit View(const TurnTable &table) : table_(table), lock_(table.gate_.reading()) {}

        const TurnTable &table_;
        std::shared_lock<std::shared_mutex> lock_;
    };

    TurnTable();
    TurnTable(const TurnTable &) = delete;
    TurnTable &operator=(const TurnTable &) = delete;

    // Puts a row; one with the same label is replaced. Nothing is changed when memory runs out.
    void put(const Turn &turn);

    // Returns whether the label was there.
    bool remove(Label label);

    // The labels of the rows that meet all conditions; nothing where there is no condition that a row could fail.
    std::optional<LabelSet> select(const Conditions &conditions) const;

    // Up to so many rows of the session before and after a row, of those that have not expired by `now` and were learned
    // by `known_by`; none where there is no such row.
    Neighbours neighbours(Label label, std::size_t before, std::size_t after, Moment now = kEarliest,
                          Moment known_by = kNever) const;

    View view() const { return View(*this); }

    std::size_t size() const;
    std::size_t memory_bytes() const;

    // Empty when every invariant holds, else a sentence that says which does not. Visits everything.
    std::string check() const;

    // Writes the table and a note of the caller's to a file, which depends on the rows and the key alone.
    void save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const;
    static std::unique_ptr<TurnTable> open(const std::filesystem::path &path, std::vector<std::uint64_t> &note);

  private:
    enum Column : std::size_t { kHappened, kLearned, kExpires, kColumns };
    enum class Kind : std::uint64_t { name_space = 1, session_name, role, fact, session };

    using Times = std::array<Moment, kPageLabels>;
    struct Range {
        Moment least;
        Moment most;
    };

    // Of 64 labels that follow each other. What is of a label without a row is zero.
    struct Page {
        std::uint64_t live = 0;
        std::uint64_t processed = 0;
        std::array<Times, kColumns> moments{};
        std::array<Id, kPageLabels> sessions{};
        std::array<Id, kPageLabels> roles{};
        std::array<std::vector<Id>, kPageLabels> facts;
    };
    struct Sheet {
        std::unique_ptr<Page> page;         // or null where no row is left
        std::array<Range, kColumns> spans{};  // of its rows
    };

    // Something that rows have in common, and those that have it. A namespace has the rows below it, too.
    struct Term {
        Hash128 hash;
        Posting rows;
        Id parent = kNone;        // of a namespace, the one above it
        std::uint32_t alone = 0;  // of a namespace, how many rows are in it and not below it
    };
    struct Session {
        Hash128 hash;
        Id name_space = kNone;
        Id name = kNone;  // the term of all sessions of that name, whatever their namespace
        std::vector<Place> order;
    };

    static constexpr Id kRoot = 0;  // the term of the namespace (), which every row is in

    // The hashes of all that a row has.
    struct Hashes {
        std::vector<Hash128> name_spaces;  // below (), from the first segment to all
        Hash128 session_name;
        Hash128 session;
        Hash128 role;
        std::vector<Hash128> facts;
    };
    // The same as numbers.
    struct Links {
        Id session = kNone;
        Id role = kNone;
        std::vector<Id> facts;
    };

    explicit TurnTable(const Hash128 &key);

    Hash128 hash_of(Kind kind, std::string_view text, const Hash128 &above = {}) const;
    std::vector<Hash128> hashes_of(std::span<const std::string_view> name_space) const;
    Hashes hashes_of(const Turn &turn) const;

    // finding
    const Page *page_of(Label label) const;
    Id find_term(const Hash128 &hash) const;
    Seat seat(Label label) const;
    template <class Visit>
    void for_each_term(const Links &links, Visit visit) const;

    // putting and removing, with readers shut out
    Id reach_term(const Hash128 &hash, Id parent);
    Id reach_session(const Hash128 &hash);
    void reach(const Hashes &hashes, Links &links);
    void make_room(Label label, const Links &links);
    void place(const Turn &turn, Links links) noexcept;
    Links take(Label label) noexcept;
    void release(const Links &links) noexcept;
    void release_term(Id id) noexcept;
    void release_session(Id id) noexcept;
    void tidy_page(Label label) noexcept;
    static void measure(Sheet &sheet) noexcept;

    // reading a snapshot
    void take_terms(Snapshot &snapshot);
    void take_rows(Snapshot &snapshot, std::size_t rows);

    // selecting
    struct Sieve;
    bool nothing_expired(Moment now) const;
    static std::uint64_t within(const Times &times, const Range &span, const Range &wanted, std::uint64_t mask);
    std::uint64_t sifted(const Sheet &sheet, const Sieve &sieve, std::uint64_t mask) const;

    // invariants
    std::string check_row(Label label, const Page &page) const;
    std::string check_sheets() const;
    std::string check_terms() const;
    std::string check_sessions() const;

    Hash128 key_;
    std::vector<Term> terms_;
    std::vector<Session> sessions_;
    std::vector<Id> free_terms_;  // has room for all of them, so that a removal never fails; the same for sessions
    std::vector<Id> free_sessions_;
    IdTable term_table_;
    IdTable session_table_;
    Paged<Sheet> sheets_;
    std::size_t blank_sheets_ = 0;  // how often a page has lost its last row
    mutable std::atomic<Moment> soonest_ = kNever;  // no row expires before
    Gate gate_;
};

}  // namespace llmspell
