// The Python face of the ranking by everything.
#include "bindings.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string_view>
#include <tuple>
#include <vector>

#include "blend.hpp"

namespace llmspell::binding {
namespace {

using namespace nb::literals;

// Labels, scores and, where they are wanted, rows of parts in the order of `Parts`.
nb::tuple blended(const FlatIndex &index, const Words &words, const TurnTable &turns, nb::handle vector, const nb::list &terms,
                  const nb::list &named, const std::vector<std::tuple<int, unsigned, unsigned>> &dates,
                  std::size_t k, std::size_t ef, const LabelSet *among, bool worth, bool exact, bool with_parts) {
    std::size_t dimensions = 0;
    Blended wanted;
    wanted.vector = values_of<float>(vector, dimensions);
    require(wanted.vector != nullptr && dimensions == index.space().dimensions, "the vector has the wrong width");
    const auto said = texts_of(terms);
    const auto roles = texts_of(named);
    wanted.terms = said;
    wanted.named = roles;
    std::vector<NamedDate> times;
    for (const auto &[year, month, day] : dates) times.push_back({year, month, day});
    wanted.dates = times;
    wanted.k = k;
    wanted.ef = ef;
    wanted.among = among;
    wanted.worth = worth;
    wanted.exact = exact;
    Blend found;
    {
        const nb::gil_scoped_release released;
        found = blend(index, words, turns, wanted);
    }
    nb::list parts;
    if (with_parts) {
        for (const Parts &one : found.parts) {
            parts.append(nb::make_tuple(one.similarity, one.coverage, one.by_meaning, one.by_words, one.by_neighbours,
                                        one.by_session, one.by_role, one.by_time, one.by_worth, one.rank_by_meaning,
                                        one.rank_by_words));
        }
    }
    return nb::make_tuple(array_of(found.labels), array_of(found.scores), parts);
}

}  // namespace

void bind_blend(nb::module_ &module) {
    module.def("blend", &blended, "index"_a, "words"_a, "turns"_a, "vector"_a, "terms"_a, "named"_a, "dates"_a, "k"_a,
               "ef"_a, "among"_a.none(), "worth"_a, "exact"_a, "parts"_a);
}

}  // namespace llmspell::binding
