// The Python face of the native core: arrays in and out, the GIL released while it works.
// Arguments were checked by llmspell_memory.index; what is refused here would be a bug there.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>

#include "distance.hpp"
#include "hnsw.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using llmspell::Found;
using llmspell::HNSW;
using llmspell::Label;
using llmspell::Metric;
using llmspell::Route;

using Labels = nb::ndarray<const Label, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Metric metric_named(const std::string &name) {
    if (name == "cosine") return Metric::cosine;
    if (name == "inner_product") return Metric::inner_product;
    if (name == "euclidean") return Metric::euclidean;
    throw std::invalid_argument("unknown metric " + name);
}

Route route_named(const std::string &name) {
    if (name == "cheapest") return Route::cheapest;
    if (name == "graph") return Route::graph;
    if (name == "scan") return Route::scan;
    throw std::invalid_argument("unknown route " + name);
}

void require(bool condition, const char *message) {
    if (!condition) throw std::invalid_argument(message);
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> array(std::vector<T> &&values) {
    auto *owned = new std::vector<T>(std::move(values));
    const nb::capsule owner(owned, [](void *pointer) noexcept { delete static_cast<std::vector<T> *>(pointer); });
    return {owned->data(), {owned->size()}, owner};
}

nb::tuple arrays(Found &&found) {
    return nb::make_tuple(array(std::move(found.labels)), array(std::move(found.scores)));
}

// The graph and the width it was made for.
struct Index {
    Index(std::size_t dimensions, const std::string &metric, std::size_t m, std::size_t ef_construction,
          std::uint64_t seed)
        : dimensions(dimensions), graph({dimensions, metric_named(metric), m, ef_construction, seed}) {}

    void add(const Labels &labels, const Matrix &vectors) {
        require(vectors.shape(0) == labels.shape(0), "as many labels as vectors are needed");
        require(vectors.shape(1) == dimensions, "the vectors have the wrong width");
        const nb::gil_scoped_release released;
        for (std::size_t i = 0; i < labels.shape(0); ++i) {
            require(labels.data()[i] >= 0, "labels must not be negative");
            graph.add(labels.data()[i], vectors.data() + i * dimensions);
        }
    }

    void remove(const Labels &labels) {
        const nb::gil_scoped_release released;
        for (std::size_t i = 0; i < labels.shape(0); ++i) graph.remove(labels.data()[i]);
    }

    nb::tuple search(const Vector &vector, std::size_t k, std::size_t ef, const std::string &route) const {
        require(vector.shape(0) == dimensions, "the vector has the wrong width");
        const Route way = route_named(route);
        Found found;
        {
            const nb::gil_scoped_release released;
            found = graph.search(vector.data(), k, ef, way);
        }
        return arrays(std::move(found));
    }

    nb::tuple search_among(const Vector &vector, std::size_t k, std::size_t ef, const Labels &among,
                           const std::string &route) const {
        require(vector.shape(0) == dimensions, "the vector has the wrong width");
        const Route way = route_named(route);
        Found found;
        {
            const nb::gil_scoped_release released;
            found = graph.search_among(vector.data(), k, ef, among.data(), among.shape(0), way);
        }
        return arrays(std::move(found));
    }

    std::string check() const {
        const nb::gil_scoped_release released;
        return graph.check();
    }

    std::size_t dimensions;
    HNSW graph;
};

}  // namespace

NB_MODULE(_core, module) {
    nb::set_leak_warnings(false);  // a daemon thread still alive at exit holds its index, which is no fault
    module.doc() = "Native core of llmspell-memory: the HNSW graph and its distance kernels.";
    nb::class_<Index>(module, "HNSW")
        .def(nb::init<std::size_t, const std::string &, std::size_t, std::size_t, std::uint64_t>(), "dimensions"_a,
             "metric"_a, "m"_a, "ef_construction"_a, "seed"_a)
        .def("add", &Index::add, "labels"_a, "vectors"_a)
        .def("remove", &Index::remove, "labels"_a)
        .def("search", &Index::search, "vector"_a, "k"_a, "ef"_a, "route"_a = "cheapest")
        .def("search_among", &Index::search_among, "vector"_a, "k"_a, "ef"_a, "among"_a, "route"_a = "cheapest")
        .def("check", &Index::check)
        .def("memory_bytes", [](const Index &index) { return index.graph.memory_bytes(); })
        .def("__len__", [](const Index &index) { return index.graph.size(); });
    module.def("kernel_name", [] { return std::string(llmspell::kernels().name); });
    module.def("kernel_names", &llmspell::kernel_names);
    module.def("use_kernels", &llmspell::use_kernels, "name"_a);
}
