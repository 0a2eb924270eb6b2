// Snapshots of the table: rows in the order of labels, and the hashes of what they have. Postings and the order of
// sessions follow from them.
#include <algorithm>
#include <bit>

#include "snapshot.hpp"
#include "turns.hpp"

namespace llmspell {
namespace {

// The section of settings: these, and then the caller's note.
enum Setting : std::size_t { kRows, kKeyLow, kKeyHigh, kSettings };

// Numbers of what rows have, in the order in which it is met: what was removed leaves no gap.
template <class T>
class Renumbered {
  public:
    explicit Renumbered(const std::vector<T> &all) : all_(all), numbers_(all.size(), kNone) {}
    bool met(Slot id) const { return numbers_[id] != kNone; }
    void meet(Slot id) {
        if (met(id)) return;
        numbers_[id] = static_cast<Slot>(in_order_.size());
        in_order_.push_back(id);
    }
    Slot number(Slot id) const { return id == kNone ? kNone : numbers_[id]; }
    const std::vector<Slot> &in_order() const { return in_order_; }
    std::vector<std::uint64_t> hashes() const {
        std::vector<std::uint64_t> words;
        for (const Slot id : in_order_) words.insert(words.end(), {all_[id].hash.low, all_[id].hash.high});
        return words;
    }

  private:
    const std::vector<T> &all_;
    std::vector<Slot> numbers_;
    std::vector<Slot> in_order_;
};

template <class T>
void put(SnapshotWriter &writer, Section section, const std::vector<T> &values) {
    writer.put(section, std::span<const T>(values));
}

template <class T>
std::span<T> take(Snapshot &snapshot, Section section, std::size_t count) {
    const auto values = snapshot.checked<T>(section);
    if (values.size() != count) throw Damaged("a section has the wrong length");
    return values;
}

void require_below(std::span<const Slot> numbers, std::size_t count) {
    if (std::any_of(numbers.begin(), numbers.end(), [=](Slot one) { return one >= count; })) {
        throw Damaged("a number leads nowhere");
    }
}

}  // namespace

void TurnTable::save(const std::filesystem::path &path, const std::vector<std::uint64_t> &note) const {
    const auto writer_shut_out = gate_.writing();
    Renumbered terms(terms_);
    Renumbered sessions(sessions_);
    std::vector<Label> labels;
    std::array<std::vector<Moment>, kColumns> moments;
    std::vector<std::uint8_t> marks;
    std::vector<std::uint32_t> lengths;
    std::vector<float> worths;
    std::vector<Id> row_sessions;
    std::vector<Id> row_roles;
    std::vector<std::uint32_t> fact_counts;
    std::vector<Id> facts;
    terms.meet(kRoot);
    for (std::size_t i = 0; i < sheets_.size(); ++i) {
        const Page *const page = sheets_.value(i).page.get();
        for (std::uint64_t mask = page == nullptr ? 0 : page->live; mask != 0; mask &= mask - 1) {
            const auto at = static_cast<std::size_t>(std::countr_zero(mask));
            const Id session = page->sessions[at];
            if (!sessions.met(session)) {
                std::vector<Id> upwards;
                for (Id id = sessions_[session].name_space; !terms.met(id); id = terms_[id].parent) upwards.push_back(id);
                std::for_each(upwards.rbegin(), upwards.rend(), [&](Id id) { terms.meet(id); });  // parents come first
                terms.meet(sessions_[session].name);
                sessions.meet(session);
            }
            terms.meet(page->roles[at]);
            labels.push_back((sheets_.number(i) << kPageBits) + static_cast<Label>(at));
            for (std::size_t column = 0; column < kColumns; ++column) moments[column].push_back(page->moments[column][at]);
            marks.push_back(page->processed >> at & 1);
            const auto [turns, place] = seat(labels.back());
            lengths.push_back(turns[place].length);
            worths.push_back(turns[place].worth);
            row_sessions.push_back(sessions.number(session));
            row_roles.push_back(terms.number(page->roles[at]));
            fact_counts.push_back(static_cast<std::uint32_t>(page->facts[at].size()));
            for (const Id fact : page->facts[at]) {
                terms.meet(fact);
                facts.push_back(terms.number(fact));
            }
        }
    }
    std::vector<Id> parents;
    for (const Id id : terms.in_order()) parents.push_back(terms.number(terms_[id].parent));
    std::vector<Id> session_terms;
    for (const Id id : sessions.in_order()) {
        session_terms.push_back(terms.number(sessions_[id].name_space));
        session_terms.push_back(terms.number(sessions_[id].name));
    }
    std::vector<std::uint64_t> settings{labels.size(), key_.low, key_.high};
    settings.insert(settings.end(), note.begin(), note.end());

    SnapshotWriter writer(path);
    llmspell::put(writer, Section::turn_settings, settings);
    llmspell::put(writer, Section::turn_labels, labels);
    llmspell::put(writer, Section::turn_happened, moments[kHappened]);
    llmspell::put(writer, Section::turn_learned, moments[kLearned]);
    llmspell::put(writer, Section::turn_expires, moments[kExpires]);
    llmspell::put(writer, Section::turn_marks, marks);
    llmspell::put(writer, Section::turn_lengths, lengths);
    llmspell::put(writer, Section::turn_worths, worths);
    llmspell::put(writer, Section::turn_sessions, row_sessions);
    llmspell::put(writer, Section::turn_roles, row_roles);
    llmspell::put(writer, Section::turn_fact_counts, fact_counts);
    llmspell::put(writer, Section::turn_facts, facts);
    llmspell::put(writer, Section::term_hashes, terms.hashes());
    llmspell::put(writer, Section::term_parents, parents);
    llmspell::put(writer, Section::session_hashes, sessions.hashes());
    llmspell::put(writer, Section::session_terms, session_terms);
    writer.finish();
}

std::unique_ptr<TurnTable> TurnTable::open(const std::filesystem::path &path, std::vector<std::uint64_t> &note) {
    Snapshot snapshot(path);
    const auto settings = snapshot.checked<std::uint64_t>(Section::turn_settings);
    if (settings.size() < kSettings) throw Damaged("a section has the wrong length");
    note.assign(settings.begin() + kSettings, settings.end());
    std::unique_ptr<TurnTable> table(new TurnTable(Hash128{settings[kKeyLow], settings[kKeyHigh]}));
    table->take_terms(snapshot);
    table->take_rows(snapshot, settings[kRows]);
    return table;
}

void TurnTable::take_terms(Snapshot &snapshot) {
    const auto parents = snapshot.checked<Id>(Section::term_parents);
    const auto hashes = llmspell::take<std::uint64_t>(snapshot, Section::term_hashes, 2 * parents.size());
    if (parents.empty() || Hash128{hashes[0], hashes[1]} != terms_[kRoot].hash) throw Damaged("its key is another");
    for (std::size_t i = 1; i < parents.size(); ++i) {
        if (parents[i] != kNone) require_below(parents.subspan(i, 1), i);
        if (reach_term({hashes[2 * i], hashes[2 * i + 1]}, parents[i]) != i) throw Damaged("a term comes twice");
    }
    const auto own = snapshot.checked<std::uint64_t>(Section::session_hashes);
    const auto of_sessions = llmspell::take<Id>(snapshot, Section::session_terms, own.size());
    require_below(of_sessions, terms_.size());
    for (std::size_t i = 0; i < own.size(); i += 2) {
        if (reach_session({own[i], own[i + 1]}) != i / 2) throw Damaged("a session comes twice");
        sessions_[i / 2].name_space = of_sessions[i];
        sessions_[i / 2].name = of_sessions[i + 1];
    }
}

void TurnTable::take_rows(Snapshot &snapshot, std::size_t rows) {
    const auto labels = llmspell::take<Label>(snapshot, Section::turn_labels, rows);
    const auto happened = llmspell::take<Moment>(snapshot, Section::turn_happened, rows);
    const auto learned = llmspell::take<Moment>(snapshot, Section::turn_learned, rows);
    const auto expires = llmspell::take<Moment>(snapshot, Section::turn_expires, rows);
    const auto marks = llmspell::take<std::uint8_t>(snapshot, Section::turn_marks, rows);
    const auto lengths = llmspell::take<std::uint32_t>(snapshot, Section::turn_lengths, rows);
    const auto worths = llmspell::take<float>(snapshot, Section::turn_worths, rows);
    const auto sessions = llmspell::take<Id>(snapshot, Section::turn_sessions, rows);
    const auto roles = llmspell::take<Id>(snapshot, Section::turn_roles, rows);
    const auto fact_counts = llmspell::take<std::uint32_t>(snapshot, Section::turn_fact_counts, rows);
    auto facts = std::span<const Id>(snapshot.checked<Id>(Section::turn_facts));
    require_below(sessions, sessions_.size());
    require_below(roles, terms_.size());
    require_below(facts, terms_.size());
    for (std::size_t row = 0; row < rows; ++row) {
        if (labels[row] < 0 || page_of(labels[row]) != nullptr) throw Damaged("a label comes twice or is none");
        if (fact_counts[row] > facts.size()) throw Damaged("a section has the wrong length");
        Turn turn;
        turn.label = labels[row];
        turn.happened = happened[row];
        turn.learned = learned[row];
        turn.expires = expires[row];
        turn.processed = marks[row] != 0;
        turn.length = lengths[row];
        turn.worth = worths[row];
        Links links{sessions[row], roles[row], {facts.begin(), facts.begin() + fact_counts[row]}};
        facts = facts.subspan(fact_counts[row]);
        make_room(turn.label, links);
        place(turn, std::move(links));
    }
}

}  // namespace llmspell
