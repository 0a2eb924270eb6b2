#include "sqlite_vfs.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "sqlite_library.hpp"

namespace llmspell {
namespace {

// --- what SQLite's interface looks like (sqlite.org/c3ref/vfs.html, io_methods.html); its layout never changes --------

struct Methods;

struct File {
    const Methods *methods;
};

struct Methods {
    int version;
    int (*close)(File *);
    int (*read)(File *, void *, int, std::int64_t);
    int (*write)(File *, const void *, int, std::int64_t);
    int (*truncate)(File *, std::int64_t);
    int (*sync)(File *, int);
    int (*size)(File *, std::int64_t *);
    int (*lock)(File *, int);
    int (*unlock)(File *, int);
    int (*check_reserved_lock)(File *, int *);
    int (*control)(File *, int, void *);
    int (*sector_size)(File *);
    int (*characteristics)(File *);
    int (*map_shared)(File *, int, int, int, void volatile **);
    int (*lock_shared)(File *, int, int, int);
    void (*barrier)(File *);
    int (*unmap_shared)(File *, int);
};

struct Vfs {
    int version;
    int file_bytes;
    int longest_path;
    Vfs *next;
    const char *name;
    void *data;
    int (*open)(Vfs *, const char *, File *, int, int *);
    std::array<void (*)(), 15> others;  // that are the system's own
};

constexpr int kOk = 0;
constexpr int kDamaged = 10 | 32 << 8;      // SQLITE_IOERR_DATA
constexpr int kShortRead = 10 | 2 << 8;     // SQLITE_IOERR_SHORT_READ
constexpr int kMainDatabase = 0x100;        // SQLITE_OPEN_MAIN_DB
constexpr int kSubpageRead = 0x8000;        // SQLITE_IOCAP_SUBPAGE_READ
constexpr int kWithSharedMemory = 2;        // version of Methods: without the mapping of pages, which nobody would compare

// --- the layer ------------------------------------------------------------------------------------------------------

enum class Kind : unsigned char {
    undecided,  // it is empty so far
    plain,
    checksummed,
};

// Ours, and behind it the system's.
struct Layered {
    const Methods *methods;
    Kind kind;

    File *below() { return reinterpret_cast<File *>(this + 1); }
};

Layered *layered(File *file) { return reinterpret_cast<Layered *>(file); }
File *below(File *file) { return layered(file)->below(); }

Vfs *system_vfs = nullptr;
thread_local std::uint64_t damaged_page = 0;

int damaged(std::int64_t offset) {
    damaged_page = static_cast<std::uint64_t>(offset) / kPageBytes + 1;
    return kDamaged;
}

std::uint64_t checksum_in(const unsigned char *page) {
    std::uint64_t checksum;
    std::memcpy(&checksum, page + kPageBytes - kChecksumBytes, sizeof checksum);
    return checksum;
}

// One sign is enough: a file that has one of the two has lost the other, and its first page will be found damaged.
Kind kind_of(const unsigned char *header) {
    const bool reserved = header[20] == kChecksumBytes;
    const bool ours = header[68] == (kChecksummedId >> 24) && header[69] == (kChecksummedId >> 16 & 0xFF) &&
                      header[70] == (kChecksummedId >> 8 & 0xFF) && header[71] == (kChecksummedId & 0xFF);
    return reserved || ours ? Kind::checksummed : Kind::plain;
}

Kind kind(File *file) {
    Layered &self = *layered(file);
    if (self.kind == Kind::undecided) {
        std::array<unsigned char, 100> header{};
        if (below(file)->methods->read(below(file), header.data(), header.size(), 0) == kOk) self.kind = kind_of(header.data());
    }
    return self.kind;
}

int read_page(File *file, unsigned char *page, std::int64_t offset) {
    const int result = below(file)->methods->read(below(file), page, kPageBytes, offset);
    if (result == kShortRead) return damaged(offset);  // it was cut off
    if (result != kOk) return result;
    const auto number = static_cast<std::uint64_t>(offset) / kPageBytes + 1;
    return page_checksum(page, number) == checksum_in(page) ? kOk : damaged(offset);
}

int read(File *file, void *into, int amount, std::int64_t offset) {
    const auto within = static_cast<std::size_t>(offset) % kPageBytes;
    const auto bytes = static_cast<std::size_t>(amount);
    const bool part_of_first = offset < 128 && bytes <= 100;  // of the header, before the first page is read whole
    if (part_of_first || kind(file) != Kind::checksummed) return below(file)->methods->read(below(file), into, amount, offset);
    if (within == 0 && bytes == kPageBytes) return read_page(file, static_cast<unsigned char *>(into), offset);
    if (within + bytes > kPageBytes) return damaged(offset);  // as for another page size, which only damage can tell
    std::array<unsigned char, kPageBytes> page;
    const int result = read_page(file, page.data(), offset - static_cast<std::int64_t>(within));
    if (result == kOk) std::memcpy(into, page.data() + within, bytes);
    return result;
}

int write(File *file, const void *from, int amount, std::int64_t offset) {
    if (amount != kPageBytes || offset % static_cast<std::int64_t>(kPageBytes) != 0 || kind(file) != Kind::checksummed) {
        return below(file)->methods->write(below(file), from, amount, offset);
    }
    std::array<unsigned char, kPageBytes> page;
    std::memcpy(page.data(), from, kPageBytes);
    const std::uint64_t checksum = page_checksum(page.data(), static_cast<std::uint64_t>(offset) / kPageBytes + 1);
    std::memcpy(page.data() + kPageBytes - kChecksumBytes, &checksum, sizeof checksum);
    return below(file)->methods->write(below(file), page.data(), amount, offset);
}

int close(File *file) { return below(file)->methods->close(below(file)); }
int truncate(File *file, std::int64_t size) { return below(file)->methods->truncate(below(file), size); }
int sync(File *file, int flags) { return below(file)->methods->sync(below(file), flags); }
int size(File *file, std::int64_t *bytes) { return below(file)->methods->size(below(file), bytes); }
int lock(File *file, int level) { return below(file)->methods->lock(below(file), level); }
int unlock(File *file, int level) { return below(file)->methods->unlock(below(file), level); }
int check_reserved_lock(File *file, int *held) { return below(file)->methods->check_reserved_lock(below(file), held); }
int control(File *file, int what, void *argument) { return below(file)->methods->control(below(file), what, argument); }
int sector_size(File *file) { return below(file)->methods->sector_size(below(file)); }
int characteristics(File *file) { return below(file)->methods->characteristics(below(file)) & ~kSubpageRead; }
int map_shared(File *file, int page, int bytes, int extend, void volatile **memory) {
    return below(file)->methods->map_shared(below(file), page, bytes, extend, memory);
}
int lock_shared(File *file, int offset, int count, int flags) {
    return below(file)->methods->lock_shared(below(file), offset, count, flags);
}
void barrier(File *file) { below(file)->methods->barrier(below(file)); }
int unmap_shared(File *file, int remove) { return below(file)->methods->unmap_shared(below(file), remove); }

constexpr Methods kMethods{
    kWithSharedMemory, close,  read,    write,       truncate,        sync,       size,        lock,    unlock,
    check_reserved_lock, control, sector_size, characteristics, map_shared, lock_shared, barrier, unmap_shared,
};

int open(Vfs *, const char *name, File *file, int flags, int *given) {
    if ((flags & kMainDatabase) == 0) return system_vfs->open(system_vfs, name, file, flags, given);
    Layered &self = *layered(file);
    self = {nullptr, Kind::undecided};
    std::memset(self.below(), 0, static_cast<std::size_t>(system_vfs->file_bytes));
    const int result = system_vfs->open(system_vfs, name, self.below(), flags, given);
    if (self.below()->methods != nullptr) self.methods = &kMethods;  // SQLite closes what has methods, opened or not
    return result;
}

// --- checksums -----------------------------------------------------------------------------------------------------

std::uint64_t mixed(std::uint64_t value) {
    value ^= value >> 32;
    value *= 0x9E37'79B9'7F4A'7C15;
    return value ^ value >> 29;
}

}  // namespace

// Four sums beside each other, for the processor's sake. A step is a bijection, so one changed word is never missed.
std::uint64_t page_checksum(const unsigned char *page, std::uint64_t number) {
    constexpr std::uint64_t kFactor = 0xD6E8'FEB8'6659'FD93;
    constexpr std::size_t kWords = (kPageBytes - kChecksumBytes) / sizeof(std::uint64_t);
    std::array<std::uint64_t, 4> sums{number, ~number, number << 32, 1};
    const auto add = [&](std::size_t lane, std::size_t at) {
        std::uint64_t word;
        std::memcpy(&word, page + at * sizeof word, sizeof word);
        sums[lane] = (sums[lane] ^ word) * kFactor;
        sums[lane] ^= sums[lane] >> 32;
    };
    std::size_t at = 0;
    for (; at + 4 <= kWords; at += 4) {
        add(0, at);
        add(1, at + 1);
        add(2, at + 2);
        add(3, at + 3);
    }
    for (std::size_t lane = 0; at < kWords; ++lane, ++at) add(lane, at);
    return mixed(sums[0] + mixed(sums[1] + mixed(sums[2] + mixed(sums[3]))));
}

void register_vfs(const std::string &path) {
    const SqliteLibrary library(path);
    const auto find = library.find<Vfs *(*)(const char *)>("sqlite3_vfs_find");
    const auto add = library.find<int (*)(Vfs *, int)>("sqlite3_vfs_register");
    if (find(kVfsName) != nullptr) return;
    system_vfs = find(nullptr);
    if (system_vfs == nullptr) throw std::runtime_error("SQLite has no file system");
    static Vfs ours;
    // Its tail depends on its version; what is beyond what the system's has is never called.
    constexpr std::array<std::size_t, 4> kMembers{0, 11, 12, 15};
    const int version = system_vfs->version < 3 ? system_vfs->version : 3;
    std::memcpy(&ours, system_vfs, offsetof(Vfs, others));
    std::memcpy(ours.others.data(), system_vfs->others.data(), kMembers[static_cast<std::size_t>(version)] * sizeof ours.others[0]);
    ours.version = version;
    ours.next = nullptr;
    ours.name = kVfsName;
    ours.file_bytes = static_cast<int>(sizeof(Layered)) + system_vfs->file_bytes;
    ours.open = open;
    if (add(&ours, 0) != kOk) throw std::runtime_error("SQLite does not take another file system");
}

std::uint64_t take_damaged_page() { return std::exchange(damaged_page, 0); }

}  // namespace llmspell
