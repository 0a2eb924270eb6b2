// The Python face of the native core: arrays in and out, the GIL released while it works.
//
// A search takes what it can read in place: a float32 vector, an integer k, a set of labels or an int64 array of them.
// Anything else it answers with None, and llmspell_memory.index converts it or says what is wrong with it.
#define LLMSPELL_IMPORTS_NUMPY
#include "bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <system_error>

#include "flat.hpp"
#include "hnsw.hpp"
#include "kernels.hpp"
#include "threads.hpp"

using namespace llmspell::binding;
using namespace nb::literals;

namespace {

using llmspell::FlatIndex;
using llmspell::Found;
using llmspell::HNSW;
using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Metric;
using llmspell::Route;
using llmspell::Space;
using llmspell::Storage;
using llmspell::Wanted;

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t kAddedAtOnce = 256;  // some 30 ms of work: between two such pieces Python can be interrupted

template <class T>
struct Named {
    const char *name;
    T value;
};

template <class T, std::size_t n>
T named(const Named<T> (&all)[n], const std::string &name) {
    for (const auto &one : all) {
        if (name == one.name) return one.value;
    }
    throw std::invalid_argument("unknown: " + name);
}

constexpr Named<Metric> kMetrics[] = {
    {"cosine", Metric::cosine}, {"inner_product", Metric::inner_product}, {"euclidean", Metric::euclidean}};
constexpr Named<Route> kRoutes[] = {
    {"cheapest", Route::cheapest}, {"graph", Route::graph}, {"scan", Route::scan}, {"exact", Route::exact}};
constexpr Named<Storage> kStorages[] = {{"float32", Storage::float32}, {"float16", Storage::float16}};

Space space_of(std::size_t dimensions, const std::string &metric, const std::string &dtype) {
    return {dimensions, named(kMetrics, metric), named(kStorages, dtype)};
}

nb::object labels_in(const LabelSet &set) {
    auto shape = static_cast<npy_intp>(set.size());
    auto [array, data] = new_array<Label>(1, &shape);
    set.for_each_page([to = data](Label page, std::uint64_t mask) mutable {
        for (; mask != 0; mask &= mask - 1) *to++ = (page << llmspell::kPageBits) + std::countr_zero(mask);
    });
    return array;
}

nb::object search(const FlatIndex &index, nb::handle vector, nb::handle k, std::size_t ef, nb::handle among,
                  const std::string &route) {
    std::size_t dimensions = 0;
    const auto *values = values_of<float>(vector, dimensions);
    Wanted wanted{0, ef, nullptr, named(kRoutes, route)};
    if (values == nullptr || dimensions != index.space().dimensions || !is_count(k, wanted.k)) return nb::none();
    const Among allowed(among);
    if (!allowed.understood()) return nb::none();
    wanted.among = allowed.set();
    Found found;
    try {
        const nb::gil_scoped_release released;
        found = index.search(values, wanted);
    } catch (const llmspell::Unacceptable &) {
        return nb::none();
    }
    return nb::make_tuple(array_of(found.labels), array_of(found.scores));
}

// Rows of results that are short end in the label -1 and a score of minus infinity.
nb::tuple search_many(const FlatIndex &index, const Matrix &vectors, std::size_t k, std::size_t ef, const LabelSet *among,
                      std::size_t threads) {
    require(vectors.shape(1) == index.space().dimensions, "the vectors have the wrong width");
    npy_intp shape[] = {static_cast<npy_intp>(vectors.shape(0)), static_cast<npy_intp>(k)};
    auto [labels, all_labels] = new_array<Label>(2, shape);
    auto [scores, all_scores] = new_array<float>(2, shape);
    {
        const nb::gil_scoped_release released;
        std::fill_n(all_labels, vectors.shape(0) * k, Label{-1});
        std::fill_n(all_scores, vectors.shape(0) * k, -std::numeric_limits<float>::infinity());
        const Wanted wanted{k, ef, among};
        llmspell::on_threads(threads, vectors.shape(0), [&, into = all_labels, scored = all_scores](std::size_t i) {
            const Found found = index.search(vectors.data() + i * vectors.shape(1), wanted);
            std::copy(found.labels.begin(), found.labels.end(), into + i * k);
            std::copy(found.scores.begin(), found.scores.end(), scored + i * k);
        });
    }
    return nb::make_tuple(labels, scores);
}

void add_vectors(FlatIndex &index, const Labels &labels, const Matrix &vectors, std::size_t threads, nb::handle progress) {
    const std::size_t count = labels.shape(0);
    require(vectors.shape(0) == count, "as many labels as vectors are needed");
    require(vectors.shape(1) == index.space().dimensions, "the vectors have the wrong width");
    require(std::all_of(labels.data(), labels.data() + count, [](Label one) { return one >= 0; }), "a negative label");
    for (std::size_t done = 0; done < count;) {
        const std::size_t some = std::min(kAddedAtOnce, count - done);
        {
            const nb::gil_scoped_release released;
            index.add(labels.data() + done, vectors.data() + done * vectors.shape(1), some, threads);
        }
        done += some;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
        if (!progress.is_none()) progress(done, count);
    }
}

void remove_labels(FlatIndex &index, const Labels &labels) {
    const nb::gil_scoped_release released;
    for (std::size_t i = 0; i < labels.shape(0); ++i) index.remove(labels.data()[i]);
}

void save(const HNSW &index, nb::handle path, const std::vector<std::uint64_t> &note) {
    const auto to = path_of(path);
    const nb::gil_scoped_release released;
    index.save(to, note);
}

// The index and the note it was saved with.
nb::tuple open_index(nb::handle path) {
    const auto from = path_of(path);
    std::vector<std::uint64_t> note;
    std::unique_ptr<HNSW> index;
    {
        const nb::gil_scoped_release released;
        index = HNSW::open(from, note);
    }
    const Space space = index->space();
    const auto settings = index->settings();
    const char *metric = kMetrics[static_cast<std::size_t>(space.metric)].name;
    const char *storage = kStorages[static_cast<std::size_t>(space.storage)].name;
    return nb::make_tuple(nb::cast(std::move(index)), space.dimensions, metric, storage, settings.m,
                          settings.ef_construction, note);
}

bool import_numpy() {
    return _import_array() == 0;
}

}  // namespace

NB_MODULE(_core, module) {
    if (!import_numpy()) throw nb::python_error();
    nb::set_leak_warnings(false);  // a daemon thread still alive at exit holds its index, which is no fault
    module.doc() = "Native core of llmspell-memory: the flat index, the HNSW graph and their kernels.";
    nb::class_<LabelSet>(module, "LabelSet")
        .def("__init__", [](LabelSet *self, const Labels &labels) { new (self) LabelSet(labels.data(), labels.shape(0)); })
        .def("labels", &labels_in)
        .def("__and__", [](const LabelSet &one, const LabelSet &other) { return one & other; }, nb::is_operator())
        .def("__len__", &LabelSet::size)
        .def("__contains__", [](const LabelSet &set, Label label) { return label >= 0 && set.contains(label); });
    nb::class_<FlatIndex>(module, "Flat")
        .def("__init__",
             [](FlatIndex *self, std::size_t dimensions, const std::string &metric, const std::string &dtype) {
                 new (self) FlatIndex(space_of(dimensions, metric, dtype));
             },
             "dimensions"_a, "metric"_a, "dtype"_a)
        .def("add", &add_vectors, "labels"_a, "vectors"_a, "threads"_a, "progress"_a.none())
        .def("remove", &remove_labels, "labels"_a)
        .def("search", &search, "vector"_a.none(), "k"_a.none(), "ef"_a, "among"_a.none(), "route"_a = "cheapest")
        .def("search_many", &search_many, "vectors"_a, "k"_a, "ef"_a, "among"_a.none(), "threads"_a)
        .def("verify", &FlatIndex::verify, nb::call_guard<nb::gil_scoped_release>())
        .def("check", &FlatIndex::check, nb::call_guard<nb::gil_scoped_release>())
        .def("memory_bytes", &FlatIndex::memory_bytes)
        .def("__len__", &FlatIndex::size);
    nb::class_<HNSW, FlatIndex>(module, "HNSW")
        .def("__init__",
             [](HNSW *self, std::size_t dimensions, const std::string &metric, const std::string &dtype, std::size_t m,
                std::size_t ef_construction, std::uint64_t seed) {
                 new (self) HNSW(space_of(dimensions, metric, dtype), {m, ef_construction, seed});
             },
             "dimensions"_a, "metric"_a, "dtype"_a, "m"_a, "ef_construction"_a, "seed"_a)
        .def("save", &save, "path"_a, "note"_a);
    nb::exception<llmspell::Damaged>(module, "DamagedError");
    nb::exception<llmspell::TooNew>(module, "TooNewError");
    nb::register_exception_translator([](const std::exception_ptr &thrown, void *) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::system_error &error) {
            errno = error.code().value();
            PyErr_SetFromErrno(PyExc_OSError);
        }
    });
    bind_turns(module);
    module.def("open_index", &open_index, "path"_a);
    bind_words(module);
    bind_blend(module);
    module.def("kernel_name", [] { return std::string(llmspell::kernels().name); });
    module.def("kernel_names", &llmspell::kernel_names);
    module.def("use_kernels", &llmspell::use_kernels, "name"_a);
}
