// What the bindings of all parts of the core have in common: arrays and paths of Python's.
#pragma once

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL llmspell_numpy
#ifndef LLMSPELL_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY  // one file does
#endif
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <numpy/arrayobject.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "labels.hpp"

namespace llmspell::binding {

namespace nb = nanobind;

using Labels = nb::ndarray<const Label, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

inline void require(bool condition, const char *message) {
    if (!condition) throw std::invalid_argument(message);
}

template <class T>
constexpr int kNumpyType = std::is_same_v<T, Label> ? NPY_INT64 : NPY_FLOAT32;

// A new array; the caller writes its values.
template <class T>
std::pair<nb::object, T *> new_array(int axes, npy_intp *shape) {
    PyObject *array = PyArray_SimpleNew(axes, shape, kNumpyType<T>);
    if (array == nullptr) throw nb::python_error();
    return {nb::steal(array), static_cast<T *>(PyArray_DATA(reinterpret_cast<PyArrayObject *>(array)))};
}

template <class T>
nb::object array_of(const std::vector<T> &values) {
    auto shape = static_cast<npy_intp>(values.size());
    auto [array, data] = new_array<T>(1, &shape);
    std::copy(values.begin(), values.end(), data);
    return array;
}

// The values of an aligned C-ordered array of this type and one axis, or null.
template <class T>
const T *values_of(nb::handle object, std::size_t &count) {
    if (!PyArray_Check(object.ptr())) return nullptr;
    auto *array = reinterpret_cast<PyArrayObject *>(object.ptr());
    if (PyArray_NDIM(array) != 1 || PyArray_TYPE(array) != kNumpyType<T> || !PyArray_ISCARRAY_RO(array)) return nullptr;
    count = static_cast<std::size_t>(PyArray_DIM(array, 0));
    return static_cast<const T *>(PyArray_DATA(array));
}

inline bool is_count(nb::handle object, std::size_t &count) {
    if (!PyLong_CheckExact(object.ptr())) return false;
    count = PyLong_AsSize_t(object.ptr());
    if (count != static_cast<std::size_t>(-1)) return true;
    PyErr_Clear();
    return false;
}

// What `among` may be: None, a LabelSet, or an array of labels, of which a set is made.
class Among {
  public:
    explicit Among(nb::handle object) {
        if (object.is_none()) return;
        if (nb::try_cast(object, set_)) return;
        std::size_t count = 0;
        const Label *labels = values_of<Label>(object, count);
        understood_ = labels != nullptr && std::all_of(labels, labels + count, [](Label one) { return one >= 0; });
        if (understood_) set_ = &made_.emplace(labels, count);
    }
    bool understood() const { return understood_; }
    const LabelSet *set() const { return set_; }

  private:
    bool understood_ = true;
    const LabelSet *set_ = nullptr;
    std::optional<LabelSet> made_;
};

// A path as Python gives it to the file system: bytes of whatever encoding, or under Windows letters.
inline std::filesystem::path path_of(nb::handle path) {
    PyObject *given = nullptr;
#ifdef _WIN32
    if (PyUnicode_FSDecoder(path.ptr(), &given) == 0) throw nb::python_error();
    const nb::object owner = nb::steal(given);
    Py_ssize_t size = 0;
    const std::unique_ptr<wchar_t, decltype(&PyMem_Free)> letters(PyUnicode_AsWideCharString(given, &size), &PyMem_Free);
    if (letters == nullptr) throw nb::python_error();
    return {std::wstring(letters.get(), static_cast<std::size_t>(size))};
#else
    if (PyUnicode_FSConverter(path.ptr(), &given) == 0) throw nb::python_error();
    const nb::object owner = nb::steal(given);
    return {PyBytes_AsString(given)};
#endif
}

inline std::string_view text_of(nb::handle object) {
    Py_ssize_t size = 0;
    const char *const letters = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
    if (letters == nullptr) throw nb::python_error();
    return {letters, static_cast<std::size_t>(size)};
}

// Texts where Python keeps them, which must stay there meanwhile.
inline std::vector<std::string_view> texts_of(nb::handle sequence) {
    std::vector<std::string_view> texts;
    for (const nb::handle one : sequence) texts.push_back(text_of(one));
    return texts;
}

// What each file adds to the module.
void bind_blend(nb::module_ &module);
void bind_turns(nb::module_ &module);
void bind_words(nb::module_ &module);

}  // namespace llmspell::binding
