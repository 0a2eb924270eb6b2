// The layer under SQLite, with whichever SQLite the library named on the command line holds or is linked to: pages that were
// written have checksums, and a page that was changed since is found.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "sqlite_library.hpp"
#include "sqlite_vfs.hpp"

namespace {

struct Database;
using Row = int (*)(void *, int, char **, char **);

constexpr int kOpenOrMake = 0x2 | 0x4 | 0x40;  // SQLITE_OPEN_READWRITE, _CREATE, _URI

void require(bool condition, const std::string &what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what.c_str());
    std::exit(1);
}

void load(const char *path) {
#ifdef _WIN32
    require(LoadLibraryA(path) != nullptr, "the library is loaded");
#else
    require(dlopen(path, RTLD_LAZY | RTLD_GLOBAL) != nullptr, "the library is loaded");
#endif
}

std::string utf8(const std::filesystem::path &path) {
    const auto text = path.generic_u8string();
    return {text.begin(), text.end()};
}

class Sqlite {
  public:
    explicit Sqlite(const std::string &path)
        : library_(path),
          open_(library_.find<decltype(open_)>("sqlite3_open_v2")),
          run_(library_.find<decltype(run_)>("sqlite3_exec")),
          close_(library_.find<decltype(close_)>("sqlite3_close")) {}

    // The result of statements on a file through the layer, and the last value they gave.
    int run(const std::filesystem::path &file, const char *sql, std::string *value = nullptr) {
        Database *db = nullptr;
        int result = open_(utf8(file).c_str(), &db, kOpenOrMake, llmspell::kVfsName);
        const Row keep = [](void *to, int, char **values, char **) {
            if (to != nullptr) *static_cast<std::string *>(to) = values[0] == nullptr ? "" : values[0];
            return 0;
        };
        if (result == 0) result = run_(db, sql, keep, value, nullptr);
        close_(db);
        return result & 0xFF;
    }

  private:
    llmspell::SqliteLibrary library_;
    int (*open_)(const char *, Database **, int, const char *);
    int (*run_)(Database *, const char *, Row, void *, char **);
    int (*close_)(Database *);
};

// An empty database whose header reserves room for checksums, as the library makes it (sqlite.org/fileformat2.html, 1.3).
std::vector<unsigned char> first_page() {
    std::vector<unsigned char> page(llmspell::kPageBytes, 0);
    std::memcpy(page.data(), "SQLite format 3", 16);
    const unsigned char header[] = {0x10, 0, 2, 2, llmspell::kChecksumBytes, 64, 32, 32};
    std::memcpy(page.data() + 16, header, sizeof header);
    page[27] = page[31] = page[47] = page[59] = page[95] = 1;  // changes, pages, schema format, UTF-8, valid for
    page[47] = 4;
    for (int i = 0; i < 4; ++i) page[68 + i] = static_cast<unsigned char>(llmspell::kChecksummedId >> (24 - 8 * i));
    page[100] = 0x0D;
    page[105] = (llmspell::kPageBytes - llmspell::kChecksumBytes) >> 8;
    page[106] = (llmspell::kPageBytes - llmspell::kChecksumBytes) & 0xFF;
    const std::uint64_t checksum = llmspell::page_checksum(page.data(), 1);
    std::memcpy(page.data() + page.size() - sizeof checksum, &checksum, sizeof checksum);
    return page;
}

std::vector<unsigned char> read(const std::filesystem::path &path) {
    std::vector<unsigned char> bytes(std::filesystem::file_size(path));
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

void write(const std::filesystem::path &path, const std::vector<unsigned char> &bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

int main(int, char **arguments) {
    load(arguments[1]);
    llmspell::register_vfs(arguments[1]);
    llmspell::register_vfs(arguments[1]);  // once is enough, and twice does no harm
    Sqlite sqlite(arguments[1]);
    auto path = std::filesystem::temp_directory_path();
    path /= std::filesystem::path(u8"llmspell-Prüfung-проба-記憶-") += std::to_string(std::random_device()()) + ".db";
    write(path, first_page());
    std::string value;
    require(sqlite.run(path, "PRAGMA journal_mode = WAL", &value) == 0 && value == "wal", "a write-ahead log");
    require(sqlite.run(path, "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; CREATE TABLE t (a INTEGER PRIMARY KEY, b);"
                             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
                             "INSERT INTO t SELECT i, hex(i * 7919) || 'some words of a row' FROM n") == 0, "written");
    require(sqlite.run(path, "SELECT sum(length(b)) || ' ' || count(*) FROM t", &value) == 0 && value != "", "read");
    const std::string expected = value;
    const auto whole = read(path);
    const std::size_t pages = whole.size() / llmspell::kPageBytes;
    require(pages > 20, "pages");
    for (std::size_t page = 0; page < pages; ++page) {
        const auto *const bytes = whole.data() + page * llmspell::kPageBytes;
        const std::uint64_t checksum = llmspell::page_checksum(bytes, page + 1);
        require(std::memcmp(&checksum, bytes + llmspell::kPageBytes - sizeof checksum, sizeof checksum) == 0, "checksums");
    }
    std::mt19937 random(7);
    for (int round = 0; round < 50; ++round) {
        auto damaged = whole;
        const std::size_t page = 1 + random() % (pages - 1);
        damaged[page * llmspell::kPageBytes + random() % llmspell::kPageBytes] ^= static_cast<unsigned char>(1U << random() % 8);
        write(path, damaged);
        const int result = sqlite.run(path, "SELECT sum(length(b)) || ' ' || count(*) FROM t", &value);
        const std::uint64_t found = llmspell::take_damaged_page();
        require((result == 10 && found == page + 1) || (result == 0 && found == 0 && value == expected), "damage is told");
        require(sqlite.run(path, "PRAGMA integrity_check", &value) == 10 || value != "ok" || result == 0, "by a check, too");
        llmspell::take_damaged_page();
    }
    std::filesystem::remove(path);
    std::puts("pages hold");
}
