#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "files.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kAtOnce = std::size_t{1} << 30;  // bytes; macOS refuses to write 2^31 in one call

[[noreturn]] void fail_at(const std::filesystem::path &path) {
    throw std::system_error(errno, std::generic_category(), path.string());
}

// macOS says after an fsync that the drive was told, and has another call for waiting until it has done so.
bool to_disk(int file) {
#ifdef F_FULLFSYNC
    if (::fcntl(file, F_FULLFSYNC) == 0) return true;
#endif
    return ::fsync(file) == 0;
}

}  // namespace

NewFile::NewFile(const std::filesystem::path &path, const std::filesystem::path &replaced) : path_(path) {
    file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file_ < 0) fail();
    struct stat former{};
    if (::stat(replaced.c_str(), &former) == 0) ::fchmod(file_, former.st_mode & 0666);
}

NewFile::~NewFile() { close(); }

void NewFile::fail() const { fail_at(path_); }

void NewFile::write(const void *data, std::size_t bytes) {
    const auto *from = static_cast<const std::byte *>(data);
    while (bytes > 0) {
        const auto done = ::write(file_, from, std::min(bytes, kAtOnce));
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) fail();
        from += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void NewFile::back_to_start() {
    if (::lseek(file_, 0, SEEK_SET) != 0) fail();
}

void NewFile::finish() {
    if (!to_disk(file_) || ::close(std::exchange(file_, -1)) != 0) fail();
}

void NewFile::close() noexcept {
    if (file_ >= 0) ::close(std::exchange(file_, -1));
}

void put_in_place(const std::filesystem::path &from, const std::filesystem::path &to) {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_at(to);
    // A rename is on the disk once its folder is.
    const auto folder = to.has_parent_path() ? to.parent_path() : std::filesystem::path(".");
    const int opened = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (opened < 0) return;
    to_disk(opened);
    ::close(opened);
}

FileInMemory::FileInMemory(const std::filesystem::path &path) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) fail_at(path);
    struct stat about{};
    void *memory = nullptr;
    if (::fstat(file_, &about) != 0) memory = MAP_FAILED;
    if (about.st_size > 0) {  // nothing cannot be mapped
        bytes_ = static_cast<std::size_t>(about.st_size);
        memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file_, 0);
    }
    if (memory == MAP_FAILED) {
        const int error = errno;
        ::close(file_);
        errno = error;
        fail_at(path);
    }
    memory_ = static_cast<std::byte *>(memory);
}

FileInMemory::~FileInMemory() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
    ::close(file_);
}

// Without the file's position, which forks share: one that ends may set it back.
bool FileInMemory::read_at(std::uint64_t offset, std::span<std::byte> piece) const {
    while (!piece.empty()) {
        const auto got = ::pread(file_, piece.data(), std::min(piece.size(), kAtOnce), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        offset += static_cast<std::uint64_t>(got);
        piece = piece.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

long process_number() { return static_cast<long>(::getpid()); }

}  // namespace llmspell
#endif
