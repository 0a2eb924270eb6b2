// The Python face of rows of words. A row's terms come as a list of texts, which the caller must leave as it is meanwhile.
#include "bindings.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "words.hpp"

namespace llmspell::binding {
namespace {

using namespace nb::literals;

constexpr std::size_t kAddedAtOnce = 256;  // some milliseconds of work: between two such pieces Python can be interrupted

void add(Words &words, const Labels &labels, const nb::list &rows) {
    const std::size_t count = labels.shape(0);
    require(rows.size() == count, "as many labels as rows are needed");
    require(std::all_of(labels.data(), labels.data() + count, [](Label one) { return one >= 0; }), "a negative label");
    std::vector<std::string_view> terms;
    std::vector<std::size_t> ends;
    for (std::size_t done = 0; done < count;) {
        const std::size_t some = std::min(kAddedAtOnce, count - done);
        terms.clear();
        ends.clear();
        for (std::size_t i = 0; i < some; ++i) {
            for (const nb::handle text : nb::cast<nb::list>(rows[done + i])) terms.push_back(text_of(text));
            ends.push_back(terms.size());
        }
        {
            const nb::gil_scoped_release released;
            std::size_t first = 0;
            for (std::size_t i = 0; i < some; ++i) {
                words.add(labels.data()[done + i], std::span(terms).subspan(first, ends[i] - first));
                first = ends[i];
            }
        }
        done += some;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
}

void remove(Words &words, const Labels &labels) {
    const nb::gil_scoped_release released;
    for (std::size_t i = 0; i < labels.shape(0); ++i) words.remove(labels.data()[i]);
}

// None where `k` or `among` is not to be understood.
nb::object search(const Words &words, const nb::list &texts, nb::handle k, nb::handle among, bool coverage) {
    std::size_t wanted = 0;
    if (!is_count(k, wanted)) return nb::none();
    const Among allowed(among);
    if (!allowed.understood()) return nb::none();
    const auto terms = texts_of(texts);
    Ranked ranked;
    {
        const nb::gil_scoped_release released;
        ranked = Words::Question(words, terms, allowed.set(), coverage ? Measure::coverage : Measure::bm25).best(wanted);
    }
    return nb::make_tuple(array_of(ranked.labels), array_of(ranked.scores));
}

void stand_for(Words &words, std::size_t rows, std::uint64_t length, const nb::list &texts, const std::vector<std::uint32_t> &counts) {
    const auto terms = texts_of(texts);
    require(terms.size() == counts.size(), "as many counts as terms are needed");
    Corpus corpus{rows, length, {}};
    for (std::size_t i = 0; i < terms.size(); ++i) corpus.terms.emplace_back(terms[i], counts[i]);
    words.stand_for(corpus);
}

nb::object scores(const Words &words, const nb::list &texts, const Labels &labels, const LabelSet *among) {
    const auto terms = texts_of(texts);
    auto shape = static_cast<npy_intp>(labels.shape(0));
    auto [array, data] = new_array<float>(1, &shape);
    {
        const nb::gil_scoped_release released;
        const Words::Question question(words, terms, among);
        for (std::size_t i = 0; i < labels.shape(0); ++i) data[i] = question.score(labels.data()[i]);
    }
    return array;
}

void save(const Words &words, nb::handle path, const std::vector<std::uint64_t> &note) {
    const auto to = path_of(path);
    const nb::gil_scoped_release released;
    words.save(to, note);
}

// The words and the note they were saved with.
nb::tuple open_words(nb::handle path) {
    const auto from = path_of(path);
    std::vector<std::uint64_t> note;
    std::unique_ptr<Words> words;
    {
        const nb::gil_scoped_release released;
        words = Words::open(from, note);
    }
    const WordsSettings settings = words->settings();
    return nb::make_tuple(nb::cast(std::move(words)), settings.k1, settings.b, note);
}

}  // namespace

void bind_words(nb::module_ &module) {
    nb::class_<Words>(module, "Words")
        .def("__init__", [](Words *self, double k1, std::optional<double> b) { new (self) Words({k1, b}); }, "k1"_a, "b"_a.none())
        .def("add", &add, "labels"_a, "rows"_a)
        .def("remove", &remove, "labels"_a)
        .def("search", &search, "terms"_a, "k"_a.none(), "among"_a.none(), "coverage"_a = false)
        .def("stand_for", &stand_for, "rows"_a, "length"_a, "terms"_a, "counts"_a)
        .def("scores", &scores, "terms"_a, "labels"_a, "among"_a.none())
        .def("terms", &Words::terms)
        .def("check", &Words::check, nb::call_guard<nb::gil_scoped_release>())
        .def("memory_bytes", &Words::memory_bytes)
        .def("save", &save, "path"_a, "note"_a)
        .def("__len__", &Words::size);
    module.def("open_words", &open_words, "path"_a);
}

}  // namespace llmspell::binding
