// Random work on the table of turns, against rows kept plainly.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "siphash.hpp"
#include "snapshot.hpp"
#include "stress.hpp"
#include "turns.hpp"

namespace {

using llmspell::Conditions;
using llmspell::Hash128;
using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Moment;
using llmspell::SipHash;
using llmspell::Turn;
using llmspell::TurnTable;

constexpr const char *kNames[] = {"a", "b", "ab", "a longer name that no string keeps in itself"};

// A row whose texts are among few, so that rows share them.
Turn turn_of(std::mt19937 &random, Label label) {
    Turn turn;
    turn.label = label;
    for (auto left = random() % 4; left > 0; --left) turn.name_space.push_back(kNames[random() % 4]);
    turn.session = kNames[random() % 4];
    turn.role = kNames[random() % 3];
    turn.happened = static_cast<Moment>(random() % 50);
    turn.learned = static_cast<Moment>(random() % 50);
    if (random() % 2 == 0) turn.expires = static_cast<Moment>(random() % 50);
    turn.processed = random() % 2 == 0;
    for (auto left = random() % 3; left > 0; --left) turn.facts.push_back(kNames[random() % 4]);
    turn.length = static_cast<std::uint32_t>(random() % 100);
    return turn;
}

Conditions conditions_of(std::mt19937 &random) {
    const auto some = [&] { return random() % 3 == 0; };
    Conditions asked;
    for (auto left = random() % 3; left > 0; --left) asked.name_space.push_back(kNames[random() % 4]);
    asked.below = !some();
    if (some()) asked.session = kNames[random() % 4];
    if (some()) asked.role = kNames[random() % 3];
    if (some()) asked.facts.push_back(kNames[random() % 4]);
    if (some()) asked.happened.first = static_cast<Moment>(random() % 50);
    if (some()) asked.happened.second = static_cast<Moment>(random() % 50);
    if (some()) asked.known_by = static_cast<Moment>(random() % 50);
    if (some()) asked.processed = some();
    if (!some()) asked.expired = some();
    asked.now = static_cast<Moment>(random() % 50);
    return asked;
}

bool passes(const Turn &turn, const Conditions &asked) {
    const auto &own = turn.name_space;
    const bool inside = own.size() >= asked.name_space.size() && (asked.below || own.size() == asked.name_space.size()) &&
                        std::equal(asked.name_space.begin(), asked.name_space.end(), own.begin());
    return inside && (!asked.session || turn.session == *asked.session) && (!asked.role || turn.role == *asked.role) &&
           std::all_of(asked.facts.begin(), asked.facts.end(), [&](auto one) {
               return std::find(turn.facts.begin(), turn.facts.end(), one) != turn.facts.end();
           }) &&
           turn.happened >= asked.happened.first && turn.happened <= asked.happened.second && turn.learned <= asked.known_by &&
           (!asked.processed || turn.processed == *asked.processed) &&
           (!asked.expired || *asked.expired == (turn.expires <= asked.now));
}

using Rows = std::map<Label, Turn>;

void require_selects(const TurnTable &table, const Rows &rows, const Conditions &asked) {
    const auto found = table.select(asked);
    std::size_t count = 0;
    for (const auto &[label, turn] : rows) {
        const bool wanted = passes(turn, asked);
        require(found ? found->contains(label) == wanted : wanted, "what passes is selected");
        count += wanted;
    }
    require(!found || found->size() == count, "and nothing else");
}

// What the table says of a row's session, by the view and by neighbours.
void require_seated(const TurnTable &table, const Rows &rows, Label label) {
    std::vector<std::tuple<Moment, Label>> order;
    const auto held = rows.find(label);
    {
        const auto view = table.view();
        require(view.has(label) == (held != rows.end()), "what is held is known");
        if (held == rows.end()) return;
        for (const auto &[other, turn] : rows) {
            if (turn.name_space == held->second.name_space && turn.session == held->second.session) {
                order.emplace_back(turn.happened, other);
            }
        }
        std::sort(order.begin(), order.end());
        const auto [session, at] = view.seat(label);
        require(session.size() == order.size() && session.size() == view.turns(view.session(label)).size(), "a whole session");
        require(session[at].label == label && session[at].length == held->second.length, "a row in its place");
        for (std::size_t i = 0; i < order.size(); ++i) require(session[i].label == std::get<1>(order[i]), "in order");
        require(view.role(label) == view.role_named(held->second.role), "roles by name");
        require(view.happened(label) == held->second.happened, "times");
    }
    const auto around = table.neighbours(label, 2, order.size());
    const auto at = std::find(order.begin(), order.end(), std::tuple(held->second.happened, label)) - order.begin();
    require(around.before.size() == std::min<std::size_t>(2, static_cast<std::size_t>(at)), "before");
    require(around.after.size() == order.size() - static_cast<std::size_t>(at) - 1, "after");
}

// The authors' test vectors: the key 00 01 ... 0f, texts 00 01 ... of these lengths.
void hashes() {
    const Hash128 key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
    const auto of = [&](std::size_t length) {
        std::string text;
        for (std::size_t i = 0; i < length; ++i) text.push_back(static_cast<char>(i));
        const Hash128 whole = SipHash(key).add(text).finish();
        const std::string_view view = text;
        for (std::size_t cut = 0; cut <= length; ++cut) {
            require(SipHash(key).add(view.substr(0, cut)).add(view.substr(cut)).finish() == whole, "pieces are of no matter");
        }
        return whole;
    };
    require(of(0) == Hash128{0xe6a825ba047f81a3, 0x930255c71472f66d}, "the hash of nothing");
    require(of(1) == Hash128{0x44af996bd8c187da, 0x45fc229b11597634}, "the hash of one byte");
    for (std::size_t length = 2; length < 40; ++length) of(length);
}

void random_work() {
    TurnTable table;
    Rows rows;
    std::mt19937 random(1);
    for (int step = 0; step < 6000; ++step) {
        const Label label = random() % 10 == 0 ? (Label{1} << 62) + static_cast<Label>(random() % 200)
                                               : static_cast<Label>(random() % 300);
        if (random() % 3 != 0) {
            const Turn turn = turn_of(random, label);
            table.put(turn);
            rows.insert_or_assign(label, turn);
        } else {
            require(table.remove(label) == (rows.erase(label) == 1), "remove says whether it was there");
        }
        require(table.size() == rows.size(), "size");
        require_selects(table, rows, conditions_of(random));
        require_seated(table, rows, static_cast<Label>(random() % 300));
        if (step % 100 == 0) require(table.check().empty(), table.check());
    }
    while (!rows.empty()) {
        table.remove(rows.begin()->first);
        rows.erase(rows.begin());
    }
    require(table.size() == 0 && table.check().empty(), "empty again: " + table.check());
}

// Whichever allocation fails, the table is whole afterwards and has either the old row or the new one.
void memory_runs_out() {
    TurnTable table;
    Rows rows;
    std::mt19937 random(2);
    int failures = 0;
    for (int step = 0; step < 6000; ++step) {
        const auto label = static_cast<Label>(random() % 200 * (step % 5 == 0 ? 1000 : 1));
        const Turn turn = turn_of(random, label);
        const bool removes = random() % 3 == 0;
        allocations_left = static_cast<int>(random() % 30);
        bool failed = false;
        try {
            if (removes) {
                table.remove(label);
            } else {
                table.put(turn);
            }
        } catch (const std::bad_alloc &) {
            failed = true;
        }
        allocations_left = -1;
        require(!(failed && removes), "a removal needs no memory");
        failures += failed;
        if (!failed && removes) rows.erase(label);
        if (!failed && !removes) rows.insert_or_assign(label, turn);
        require(table.check().empty(), table.check());
        require_selects(table, rows, conditions_of(random));
    }
    require(failures > 100 && rows.size() > 50, "failures and successes");
}

void readers_beside_a_writer() {
    TurnTable table;
    std::mt19937 random(3);
    for (Label label = 0; label < 200; ++label) table.put(turn_of(random, label));
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        readers.emplace_back([&, seed] {
            std::mt19937 own(seed);
            while (!done) {
                const auto found = table.select(conditions_of(own));
                require(!found || found->size() <= 400, "no more than there are");
                const auto around = table.neighbours(static_cast<Label>(own() % 400), 3, 3, 25, 25);
                require(around.before.size() <= 3 && around.after.size() <= 3, "no more than asked for");
                const auto view = table.view();
                const auto [session, at] = view.seat(static_cast<Label>(own() % 400));
                require(std::is_sorted(session.begin(), session.end()), "in order");
            }
        });
    }
    for (int step = 0; step < 3000; ++step) {
        table.put(turn_of(random, static_cast<Label>(random() % 400)));
        if (step % 3 == 0) table.remove(static_cast<Label>(random() % 400));
    }
    done = true;
    for (std::thread &reader : readers) reader.join();
    require(table.check().empty(), table.check());
}

// What is opened is what was saved, to the byte; a file with any one byte changed is refused, or says the same.
void snapshots() {
    const auto path = scratch_file("turns");
    std::mt19937 random(4);
    TurnTable table;
    for (Label label = 0; label < 300; ++label) table.put(turn_of(random, label));
    for (Label label = 0; label < 300; label += 3) table.remove(label);
    table.save(path, {7});
    const std::vector<char> bytes = bytes_of(path);
    std::vector<std::uint64_t> note;
    TurnTable::open(path, note)->save(path, note);
    require(note == std::vector<std::uint64_t>{7} && bytes_of(path) == bytes, "the same file");
    damage(path, [&] {
        const auto again = TurnTable::open(path, note);
        require(again->size() == table.size() && again->check().empty(), "not damaged where it matters");
    });
}

}  // namespace

void stress_turns() {
    hashes();
    random_work();
    memory_runs_out();
    readers_beside_a_writer();
    snapshots();
}
