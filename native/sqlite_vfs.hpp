// A file system for SQLite that knows what it has written: the last 8 bytes of every page of a database file are a
// checksum of the page and its number, put there on writing and compared on reading.
//
// It is a layer over the system's own (a "VFS", sqlite.org/vfs.html), registered with the SQLite that Python's sqlite3
// uses. Only files made for it have room for checksums: their header says that 8 bytes of each page are reserved, and
// carries an application id of its own. Every other file, the write-ahead log among them, which has checksums from
// SQLite, passes through as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace llmspell {

inline constexpr const char *kVfsName = "llmspell";
inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kChecksumBytes = 8;
inline constexpr std::uint32_t kChecksummedId = 0x4C4D'4550;  // "LMEP", the application id of files with checksums

// Of the first `kPageBytes - kChecksumBytes` bytes of page `number` (from 1 up): a page in another's place is wrong, too.
std::uint64_t page_checksum(const unsigned char *page, std::uint64_t number);

// Registers the file system with the SQLite of the extension module at `path`; "" means this program itself. Throws
// std::runtime_error where there is none to be found.
void register_vfs(const std::string &path);

// The number of the page that this thread last found damaged, 0 if none; forgotten by asking.
std::uint64_t take_damaged_page();

}  // namespace llmspell
