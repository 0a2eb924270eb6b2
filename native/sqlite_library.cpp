#include "sqlite_library.hpp"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <cstddef>
#include <string_view>

namespace llmspell {

#ifdef _WIN32
namespace {

HMODULE loaded(const std::string &path) {
    if (path.empty()) return GetModuleHandleW(nullptr);
    const int letters = MultiByteToWideChar(CP_UTF8, 0, path.data(), static_cast<int>(path.size()), nullptr, 0);
    std::wstring wide(static_cast<std::size_t>(letters), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, path.data(), static_cast<int>(path.size()), wide.data(), letters);
    return GetModuleHandleW(wide.c_str());
}

template <class T>
const T *at(HMODULE module, std::size_t offset) {
    return reinterpret_cast<const T *>(reinterpret_cast<const std::byte *>(module) + offset);
}

HMODULE holder_of(const void *address) {
    HMODULE found = nullptr;
    constexpr DWORD kHow = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    return GetModuleHandleExW(kHow, static_cast<LPCWSTR>(address), &found) ? found : nullptr;
}

// Where a module's imports from SQLite lead, whatever the library is called and however many have that name; null where it
// has none (learn.microsoft.com/windows/win32/debug/pe-format, "The .idata Section").
HMODULE imported_by(HMODULE module) {
    const auto *const headers = at<IMAGE_NT_HEADERS>(module, static_cast<std::size_t>(at<IMAGE_DOS_HEADER>(module, 0)->e_lfanew));
    const auto &table = headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
    if (table.Size == 0) return nullptr;
    for (const auto *library = at<IMAGE_IMPORT_DESCRIPTOR>(module, table.VirtualAddress); library->Name != 0; ++library) {
        if (library->OriginalFirstThunk == 0) continue;
        const auto *name = at<IMAGE_THUNK_DATA>(module, library->OriginalFirstThunk);
        const auto *place = at<IMAGE_THUNK_DATA>(module, library->FirstThunk);
        for (; name->u1.AddressOfData != 0; ++name, ++place) {
            if (IMAGE_SNAP_BY_ORDINAL(name->u1.Ordinal)) continue;
            const auto *const imported = at<IMAGE_IMPORT_BY_NAME>(module, static_cast<std::size_t>(name->u1.AddressOfData));
            if (!std::string_view(reinterpret_cast<const char *>(imported->Name)).starts_with("sqlite3_")) continue;
            return holder_of(reinterpret_cast<const void *>(place->u1.Function));
        }
    }
    return nullptr;
}

}  // namespace

SqliteLibrary::SqliteLibrary(const std::string &path) {
    const HMODULE extension = loaded(path);
    if (extension == nullptr) throw std::runtime_error("the library that holds SQLite is not loaded");
    const HMODULE imported = imported_by(extension);
    handle_ = imported != nullptr ? imported : extension;
}

void *SqliteLibrary::address_of(const char *name) const {
    return reinterpret_cast<void *>(GetProcAddress(static_cast<HMODULE>(handle_), name));
}
#else
// A symbol is looked for in the module first, and then in what it was linked to.
SqliteLibrary::SqliteLibrary(const std::string &path)
    : handle_(dlopen(path.empty() ? nullptr : path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    if (handle_ == nullptr) throw std::runtime_error("the library that holds SQLite is not loaded");
}

void *SqliteLibrary::address_of(const char *name) const { return dlsym(handle_, name); }
#endif

}  // namespace llmspell
