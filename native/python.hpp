// What the Python faces of several parts of the core have in common.
#pragma once

#include <nanobind/nanobind.h>

#include <filesystem>

namespace llmspell {

// A path as Python gives it to the file system.
inline std::filesystem::path path_of(nanobind::handle path) {
    PyObject *bytes = nullptr;
    if (PyUnicode_FSConverter(path.ptr(), &bytes) == 0) throw nanobind::python_error();
    const nanobind::object owner = nanobind::steal(bytes);
    return {PyBytes_AS_STRING(bytes)};
}

// What each file adds to the module.
void bind_turns(nanobind::module_ &module);

}  // namespace llmspell
