// The Python face of the layer under SQLite.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <stdexcept>

#include "sqlite_vfs.hpp"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(_pages, module) {
    module.attr("VFS") = llmspell::kVfsName;
    module.attr("PAGE_BYTES") = llmspell::kPageBytes;
    module.attr("CHECKSUM_BYTES") = llmspell::kChecksumBytes;
    module.attr("APPLICATION_ID") = llmspell::kChecksummedId;
    module.def("register_vfs", &llmspell::register_vfs, "path"_a);
    module.def("take_damaged_page", &llmspell::take_damaged_page);
    module.def("keep", [](nb::object kept) { kept.release(); }, "kept"_a);  // for ever: nothing gives it back
    module.def(
        "checksum",
        [](nb::bytes page, std::uint64_t number) {
            if (page.size() != llmspell::kPageBytes) throw std::invalid_argument("a page has 4096 bytes");
            return llmspell::page_checksum(static_cast<const unsigned char *>(page.data()), number);
        },
        "page"_a, "number"_a);
}
