#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "aligned.hpp"
#include "files.hpp"

namespace llmspell {
namespace {

constexpr std::size_t kAtOnce = std::size_t{1} << 30;  // bytes
constexpr DWORD kPauseMs = 20;
constexpr int kTries = 50;

[[noreturn]] void fail_at(const std::filesystem::path &path, int error) {
    const auto text = path.u8string();  // string() fails where the code page lacks a letter
    throw std::system_error(error, std::generic_category(), std::string(text.begin(), text.end()));
}

int as_errno(DWORD error) {
    switch (error) {
        case ERROR_FILE_NOT_FOUND:
        case ERROR_PATH_NOT_FOUND:
        case ERROR_INVALID_NAME:
        case ERROR_BAD_NETPATH:
        case ERROR_BAD_PATHNAME:
            return ENOENT;
        case ERROR_ACCESS_DENIED:
        case ERROR_SHARING_VIOLATION:
        case ERROR_LOCK_VIOLATION:
        case ERROR_USER_MAPPED_FILE:
            return EACCES;
        case ERROR_WRITE_PROTECT:
            return EROFS;
        case ERROR_HANDLE_DISK_FULL:
        case ERROR_DISK_FULL:
            return ENOSPC;
        case ERROR_NOT_ENOUGH_MEMORY:
        case ERROR_OUTOFMEMORY:
            return ENOMEM;
        case ERROR_FILENAME_EXCED_RANGE:
            return ENAMETOOLONG;
        default:
            return EIO;
    }
}

class Handle {
  public:
    explicit Handle(HANDLE handle) : handle_(handle) {}
    ~Handle() {
        if (handle_ != INVALID_HANDLE_VALUE) CloseHandle(handle_);
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    HANDLE get() const { return handle_; }

  private:
    HANDLE handle_;
};

// Does what others may be in the way of, a search for viruses among them, which mostly is a matter of a moment. Returns an
// errno, 0 when it was done.
template <class Try>
int patiently(Try done) {
    for (int tries = 1; !done(); ++tries) {
        const int error = as_errno(GetLastError());
        if (error != EACCES || tries == kTries) return error;
        Sleep(kPauseMs);
    }
    return 0;
}

// As other systems rename: who has the replaced file open keeps it. Windows 10 knows this on its own file system alone, and
// only where the other has opened the file as `FileInMemory` does; false where it was not to be.
bool renamed_over_open(const std::filesystem::path &from, const std::filesystem::path &to) {
    constexpr auto kRenameInfoEx = static_cast<FILE_INFO_BY_HANDLE_CLASS>(22);  // older headers do not name
    constexpr DWORD kReplaceOpen = 0x1 | 0x2;                                   // these: FILE_RENAME_POSIX_SEMANTICS
    const Handle file(CreateFileW(from.c_str(), DELETE | SYNCHRONIZE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                  nullptr, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr));
    if (file.get() == INVALID_HANDLE_VALUE) return false;
    const std::wstring name = std::filesystem::absolute(to).native();
    const std::size_t bytes = sizeof(FILE_RENAME_INFO) + name.size() * sizeof(wchar_t);
    std::vector<FILE_RENAME_INFO> memory(bytes / sizeof(FILE_RENAME_INFO) + 1);
    FILE_RENAME_INFO &info = memory.front();
    std::memcpy(&info, &kReplaceOpen, sizeof kReplaceOpen);  // in the place of ReplaceIfExists
    info.FileNameLength = static_cast<DWORD>(name.size() * sizeof(wchar_t));
    std::memcpy(info.FileName, name.c_str(), (name.size() + 1) * sizeof(wchar_t));
    return SetFileInformationByHandle(file.get(), kRenameInfoEx, &info, static_cast<DWORD>(bytes)) != 0;
}

}  // namespace

NewFile::NewFile(const std::filesystem::path &path, const std::filesystem::path &) : path_(path) {
    const auto error = ::_wsopen_s(&file_, path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                                   _SH_DENYNO, _S_IREAD | _S_IWRITE);
    if (error != 0) fail_at(path, error);
}

NewFile::~NewFile() { close(); }

void NewFile::fail() const { fail_at(path_, errno); }

void NewFile::write(const void *data, std::size_t bytes) {
    const auto *from = static_cast<const std::byte *>(data);
    while (bytes > 0) {
        const int done = ::_write(file_, from, static_cast<unsigned>(std::min(bytes, kAtOnce)));
        if (done < 0) fail();
        from += done;
        bytes -= static_cast<std::size_t>(done);
    }
}

void NewFile::back_to_start() {
    if (::_lseeki64(file_, 0, SEEK_SET) != 0) fail();
}

void NewFile::finish() {
    if (::_commit(file_) != 0 || ::_close(std::exchange(file_, -1)) != 0) fail();
}

void NewFile::close() noexcept {
    if (file_ >= 0) ::_close(std::exchange(file_, -1));
}

void put_in_place(const std::filesystem::path &from, const std::filesystem::path &to) {
    const int error = patiently([&] {
        return renamed_over_open(from, to) ||
               MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
    });
    if (error != 0) fail_at(to, error);
}

// Others may delete the file meanwhile, or give it another name.
FileInMemory::FileInMemory(const std::filesystem::path &path) {
    HANDLE opened = INVALID_HANDLE_VALUE;
    const int refused = patiently([&] {
        opened = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                             OPEN_EXISTING, FILE_FLAG_SEQUENTIAL_SCAN, nullptr);
        return opened != INVALID_HANDLE_VALUE;
    });
    if (refused != 0) fail_at(path, refused);
    const Handle file(opened);
    LARGE_INTEGER size{};
    if (!GetFileSizeEx(file.get(), &size)) fail_at(path, as_errno(GetLastError()));
    bytes_ = static_cast<std::size_t>(size.QuadPart);
    memory_ = static_cast<std::byte *>(::operator new(bytes_, std::align_val_t{kCacheLine}));
    for (std::size_t done = 0; done < bytes_;) {
        DWORD got = 0;
        const bool read = ReadFile(file.get(), memory_ + done, static_cast<DWORD>(std::min(bytes_ - done, kAtOnce)), &got, nullptr);
        const int error = read ? EIO : as_errno(GetLastError());
        if (!read || got == 0) {
            ::operator delete(memory_, std::align_val_t{kCacheLine});
            fail_at(path, error);
        }
        done += got;
    }
}

FileInMemory::~FileInMemory() { ::operator delete(memory_, std::align_val_t{kCacheLine}); }

bool FileInMemory::read_at(std::uint64_t, std::span<std::byte>) const { return false; }  // it is closed

long process_number() { return 0; }  // there is no fork

}  // namespace llmspell
#endif
