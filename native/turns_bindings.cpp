// The Python face of the table of turns. Texts are read where Python keeps them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "turns.hpp"

using namespace llmspell::binding;
using namespace nb::literals;

namespace {

using llmspell::Conditions;
using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Moment;
using llmspell::Turn;
using llmspell::TurnTable;

std::optional<std::string_view> optional_text_of(nb::handle object) {
    if (object.is_none()) return std::nullopt;
    return text_of(object);
}

// A row as a tuple, in the order of `Turn`, its metadata as texts.
Turn turn_of(nb::handle row) {
    const auto values = nb::cast<nb::tuple>(row);
    Turn turn;
    turn.label = nb::cast<Label>(values[0]);
    turn.name_space = texts_of(values[1]);
    turn.session = text_of(values[2]);
    turn.role = text_of(values[3]);
    turn.happened = nb::cast<Moment>(values[4]);
    turn.learned = nb::cast<Moment>(values[5]);
    turn.processed = nb::cast<bool>(values[6]);
    if (!values[7].is_none()) turn.expires = nb::cast<Moment>(values[7]);
    turn.facts = texts_of(values[8]);
    turn.length = nb::cast<std::uint32_t>(values[9]);
    turn.worth = nb::cast<float>(values[10]);
    return turn;
}

void put(TurnTable &table, nb::list rows) {
    std::vector<Turn> turns;
    turns.reserve(rows.size());
    for (const nb::handle row : rows) turns.push_back(turn_of(row));
    const nb::gil_scoped_release released;
    for (const Turn &turn : turns) table.put(turn);
}

void remove_rows(TurnTable &table, const Labels &labels) {
    const nb::gil_scoped_release released;
    for (std::size_t i = 0; i < labels.shape(0); ++i) table.remove(labels.data()[i]);
}

std::optional<LabelSet> select_rows(const TurnTable &table, nb::handle name_space, bool below, nb::handle session, nb::handle role,
                               nb::handle facts, Moment since, Moment until, Moment known_by,
                               std::optional<bool> processed, std::optional<bool> expired, Moment now) {
    Conditions conditions;
    conditions.name_space = texts_of(name_space);
    conditions.below = below;
    conditions.session = optional_text_of(session);
    conditions.role = optional_text_of(role);
    conditions.facts = texts_of(facts);
    conditions.happened = {since, until};
    conditions.known_by = known_by;
    conditions.processed = processed;
    conditions.expired = expired;
    conditions.now = now;
    const nb::gil_scoped_release released;
    return table.select(conditions);
}

// Those of the texts that are noted with some row.
nb::list noted(const TurnTable &table, nb::list facts) {
    nb::list found;
    const auto view = table.view();
    for (const nb::handle fact : facts) {
        if (view.fact_named(text_of(fact)) != llmspell::kNone) found.append(fact);
    }
    return found;
}

nb::tuple neighbours(const TurnTable &table, Label label, std::size_t before, std::size_t after, Moment now, Moment known_by) {
    llmspell::Neighbours found;
    {
        const nb::gil_scoped_release released;
        found = table.neighbours(label, before, after, now, known_by);
    }
    return nb::make_tuple(found.before, found.after);
}

void save(const TurnTable &table, nb::handle path, const std::vector<std::uint64_t> &note) {
    const auto to = path_of(path);
    const nb::gil_scoped_release released;
    table.save(to, note);
}

nb::tuple open_turns(nb::handle path) {
    const auto from = path_of(path);
    std::vector<std::uint64_t> note;
    std::unique_ptr<TurnTable> table;
    {
        const nb::gil_scoped_release released;
        table = TurnTable::open(from, note);
    }
    return nb::make_tuple(nb::cast(std::move(table)), note);
}

}  // namespace

void llmspell::binding::bind_turns(nb::module_ &module) {
    nb::class_<TurnTable>(module, "Turns")
        .def(nb::init<>())
        .def("put", &put, "turns"_a)
        .def("remove", &remove_rows, "labels"_a)
        .def("select", &select_rows, "name_space"_a, "below"_a, "session"_a.none(), "role"_a.none(), "facts"_a, "since"_a, "until"_a,
             "known_by"_a, "processed"_a.none(), "expired"_a.none(), "now"_a)
        .def("neighbours", &neighbours, "label"_a, "before"_a, "after"_a, "now"_a, "known_by"_a)
        .def("noted", &noted, "facts"_a)
        .def("save", &save, "path"_a, "note"_a)
        .def("check", &TurnTable::check, nb::call_guard<nb::gil_scoped_release>())
        .def("memory_bytes", &TurnTable::memory_bytes, nb::call_guard<nb::gil_scoped_release>())
        .def("__len__", &TurnTable::size, nb::call_guard<nb::gil_scoped_release>());
    module.def("open_turns", &open_turns, "path"_a);
}
