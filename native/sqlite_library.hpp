// The very SQLite that Python's sqlite3 uses, and its functions by name.
//
// A process may have several: Python's, another package's, the system's. How Python comes by its own differs: Linux and
// macOS load a shared library beside the extension module _sqlite3, or have SQLite within that module or within Python;
// Windows has a sqlite3.dll, under other names in other distributions.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

namespace llmspell {

class SqliteLibrary {
  public:
    // Of the extension module at `path`, in UTF-8, which is loaded; "" where it is a part of the program. Throws
    // std::runtime_error where there is none to be found.
    explicit SqliteLibrary(const std::string &path);

    template <class Function>
    Function find(const char *name) const {
        void *const found = address_of(name);
        if (found == nullptr) throw std::runtime_error(std::string("this Python's SQLite does not show ") + name);
        Function function;
        static_assert(sizeof function == sizeof found);
        std::memcpy(&function, &found, sizeof function);
        return function;
    }

  private:
    void *address_of(const char *name) const;

    void *handle_;  // never closed: SQLite goes on calling us
};

}  // namespace llmspell
