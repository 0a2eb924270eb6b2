#include "snapshot.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>
#include <utility>

#include "kernels.hpp"

#ifdef _WIN32
#include <io.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

static_assert(std::endian::native == std::endian::little, "snapshots are little-endian");

namespace llmspell {
namespace {

constexpr std::array<char, 8> kMagic{'L', 'L', 'M', 'S', 'P', 'E', 'L', 'L'};
constexpr std::size_t kHeaderBytes = 1024;
constexpr std::size_t kMostSections = 32;
constexpr std::size_t kComparedAtOnce = std::size_t{1} << 20;

struct Header {
    std::array<char, 8> magic = kMagic;
    std::uint32_t version = kSnapshotVersion;
    std::uint32_t sections = 0;
    std::array<std::uint64_t, 3 * kMostSections> table{};
    std::array<char, kHeaderBytes - 20 - 24 * kMostSections> unused{};
    std::uint32_t checksum = 0;  // of all before it
};
static_assert(sizeof(Header) == kHeaderBytes);

std::uint32_t checksum_of(const Header &header) {
    return kernels().crc32c(0, &header, offsetof(Header, checksum));
}

[[noreturn]] void fail(const std::filesystem::path &path) {
    throw std::system_error(errno, std::generic_category(), path.string());
}

void to_disk(std::FILE *file) {
#ifdef _WIN32
    if (std::fflush(file) != 0 || _commit(_fileno(file)) != 0) fail("snapshot");
#else
    if (std::fflush(file) != 0 || ::fsync(::fileno(file)) != 0) fail("snapshot");
#endif
}

// Makes a file, never what is there already: for its owner alone, or for those who may use the one it is to replace.
std::FILE *created(const std::filesystem::path &path, [[maybe_unused]] const std::filesystem::path &replaced) {
#ifdef _WIN32
    return std::fopen(path.string().c_str(), "wbx");
#else
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file < 0) return nullptr;
    struct stat former{};
    if (::stat(replaced.c_str(), &former) == 0) ::fchmod(file, former.st_mode & 0666);
    return ::fdopen(file, "wb");
#endif
}

// A rename is on the disk once its folder is.
void folder_to_disk([[maybe_unused]] const std::filesystem::path &path) {
#ifndef _WIN32
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    const int opened = ::open(folder.c_str(), O_RDONLY);
    if (opened < 0) return;
    ::fsync(opened);
    ::close(opened);
#endif
}

}  // namespace

// --- writing --------------------------------------------------------------------------------------------------------

SnapshotWriter::SnapshotWriter(const std::filesystem::path &path) : path_(path), beside_(path) {
    // Other threads, and other processes (in containers even of the same number), may be saving to the same place.
    std::random_device random;
    beside_ += ".new-" + std::to_string(random()) + std::to_string(random());
    file_ = created(beside_, path_);
    if (file_ == nullptr) fail(beside_);
    std::setvbuf(file_, nullptr, _IONBF, 0);  // a fork that ends would write the rest of its copy of a buffer
    const Header room;
    try {
        write(&room, sizeof room);
    } catch (...) {
        discard();
        throw;
    }
}

SnapshotWriter::~SnapshotWriter() {
    if (!finished_) discard();
}

void SnapshotWriter::discard() noexcept {
    if (file_ != nullptr) std::fclose(file_);
    std::error_code ignored;
    std::filesystem::remove(beside_, ignored);
}

void SnapshotWriter::write(const void *data, std::size_t bytes) {
    if (bytes > 0 && std::fwrite(data, 1, bytes, file_) != bytes) fail(beside_);
    at_ += bytes;
}

void SnapshotWriter::begin(Section section) {
    constexpr char kZeros[kCacheLine] = {};
    write(kZeros, (kCacheLine - at_ % kCacheLine) % kCacheLine);
    table_.push_back({static_cast<std::uint32_t>(section), 0, at_, 0});
}

void SnapshotWriter::append(const void *data, std::size_t bytes) {
    write(data, bytes);
    table_.back().checksum = kernels().crc32c(table_.back().checksum, data, bytes);
}

void SnapshotWriter::end() { table_.back().bytes = at_ - table_.back().offset; }

void SnapshotWriter::finish() {
    Header header;
    header.sections = static_cast<std::uint32_t>(table_.size());
    std::memcpy(header.table.data(), table_.data(), table_.size() * sizeof(Entry));
    header.checksum = checksum_of(header);
    if (std::fseek(file_, 0, SEEK_SET) != 0) fail(beside_);
    write(&header, sizeof header);
    to_disk(file_);
    std::FILE *const file = std::exchange(file_, nullptr);
    if (std::fclose(file) != 0) fail(beside_);
    std::filesystem::rename(beside_, path_);
    finished_ = true;
    folder_to_disk(path_);
}

// --- reading --------------------------------------------------------------------------------------------------------

Snapshot::Snapshot(const std::filesystem::path &path) {
    map(path);
    try {
        read_header();
    } catch (...) {
        unmap();
        throw;
    }
}

Snapshot::~Snapshot() {
    if (comparing_.joinable()) {
        if (opened_by_ != process()) {
            comparing_.detach();  // in a fork there is no such thread: whoever waited for it might wait for ever
        } else {
            comparing_.request_stop();
            comparing_.join();
        }
    }
    unmap();
}

#ifdef _WIN32
long Snapshot::process() { return 0; }  // it has no fork

bool Snapshot::read_at(std::uint64_t offset, std::span<std::byte> piece) {
    return std::fseek(file_.get(), static_cast<long>(offset), SEEK_SET) == 0 &&
           std::fread(piece.data(), 1, piece.size(), file_.get()) == piece.size();
}

void Snapshot::map(const std::filesystem::path &path) {
    file_.reset(std::fopen(path.string().c_str(), "rb"));
    if (file_ == nullptr) fail(path);
    bytes_ = std::filesystem::file_size(path);
    memory_ = static_cast<std::byte *>(::operator new(bytes_, std::align_val_t{kCacheLine}));
    if (std::fread(memory_, 1, bytes_, file_.get()) != bytes_) fail(path);
}

void Snapshot::unmap() noexcept { ::operator delete(memory_, std::align_val_t{kCacheLine}); }
#else
long Snapshot::process() { return static_cast<long>(::getpid()); }

// Without the file's position, which forks share: one that ends may set it back.
bool Snapshot::read_at(std::uint64_t offset, std::span<std::byte> piece) {
    while (!piece.empty()) {
        const auto got = ::pread(::fileno(file_.get()), piece.data(), piece.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        offset += static_cast<std::uint64_t>(got);
        piece = piece.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

void Snapshot::map(const std::filesystem::path &path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path);
    struct stat about{};
    void *memory = MAP_FAILED;
    if (::fstat(file, &about) == 0 && about.st_size > 0) {
        bytes_ = static_cast<std::size_t>(about.st_size);
        memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    }
    const int error = errno;
    file_.reset(::fdopen(file, "rb"));
    if (about.st_size == 0) throw Damaged("it is empty");
    if (memory == MAP_FAILED) throw std::system_error(error, std::generic_category(), path.string());
    memory_ = static_cast<std::byte *>(memory);
}

void Snapshot::unmap() noexcept { ::munmap(memory_, bytes_); }
#endif

void Snapshot::read_header() {
    Header header;
    if (bytes_ < sizeof header) throw Damaged("it is shorter than its header");
    std::memcpy(&header, memory_, sizeof header);
    if (header.magic != kMagic) throw Damaged("it does not begin as a snapshot does");
    if (header.checksum != checksum_of(header)) throw Damaged("its header is not what was written");
    if (header.version > kSnapshotVersion) throw TooNew("version " + std::to_string(header.version));
    if (header.sections > kMostSections) throw Damaged("it has too many sections");
    table_.resize(header.sections);
    std::memcpy(table_.data(), header.table.data(), table_.size() * sizeof(SnapshotWriter::Entry));
    for (const auto &one : table_) {
        if (one.offset % kCacheLine != 0 || one.offset > bytes_ || one.bytes > bytes_ - one.offset) {
            throw Damaged("it is cut short");
        }
    }
}

const SnapshotWriter::Entry &Snapshot::entry(Section section) const {
    const auto at = std::find_if(table_.begin(), table_.end(), [&](const SnapshotWriter::Entry &one) {
        return one.section == static_cast<std::uint32_t>(section);
    });
    if (at == table_.end()) throw Damaged("a section is missing");
    return *at;
}

std::span<std::byte> Snapshot::bytes_of(Section section) {
    const auto &one = entry(section);
    return {memory_ + one.offset, one.bytes};
}

void Snapshot::compare(Section section) const {
    const auto &one = entry(section);
    if (kernels().crc32c(0, memory_ + one.offset, one.bytes) != one.checksum) {
        throw Damaged("section " + std::to_string(one.section) + " is not what was written");
    }
}

// From the file, for what was mapped may be written to meanwhile. In the background, where nothing may be thrown; at once
// where there is no thread to be had.
void Snapshot::compare_rest() {
    const auto memory = std::make_shared<std::vector<std::byte>>(kComparedAtOnce);
    const auto compare = [this, memory](const std::stop_token &stop) noexcept {
        auto &piece = *memory;
        for (const Section section : rest_) {
            const auto &one = entry(section);
            std::uint32_t checksum = 0;
            bool readable = true;
            for (std::uint64_t done = 0; readable && done < one.bytes;) {
                if (stop.stop_requested()) return;
                const std::size_t some = std::min<std::uint64_t>(piece.size(), one.bytes - done);
                readable = read_at(one.offset + done, {piece.data(), some});
                checksum = kernels().crc32c(checksum, piece.data(), some);
                done += some;
            }
            if (!readable || checksum != one.checksum) damaged_ = true;
        }
    };
    try {
        comparing_ = std::jthread(compare);
    } catch (const std::system_error &) {
        compare({});
    }
}

void Snapshot::wait() {
    {
        const std::lock_guard one_at_a_time(waiting_);
        if (comparing_.joinable()) comparing_.join();
    }
    require_whole();
}

}  // namespace llmspell
