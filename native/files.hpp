// Files as each system has them: written anew, put in a place, and looked at. Errors are std::system_error, by the numbers
// of <cerrno> on every system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace llmspell {

// A file that is not there yet, written to by nobody else. It is its owner's alone, or for those who may use the one that it
// is to replace; under Windows it has the rights of its folder.
class NewFile {
  public:
    NewFile(const std::filesystem::path &path, const std::filesystem::path &replaced);
    ~NewFile();
    NewFile(const NewFile &) = delete;
    NewFile &operator=(const NewFile &) = delete;

    void write(const void *data, std::size_t bytes);
    // What is written next stands at the beginning.
    void back_to_start();
    // Brings it to the disk.
    void finish();
    void close() noexcept;

  private:
    [[noreturn]] void fail() const;

    std::filesystem::path path_;
    int file_ = -1;
};

// Gives a file that is whole another name, on the disk, in one step; a file that has the name already is replaced. Where
// a file that is open cannot be (Windows, at times), whoever has it open is waited for, a second at most.
void put_in_place(const std::filesystem::path &from, const std::filesystem::path &to);

// What stands in a file, to be read and written to in memory; the file is not changed. Mapped where others can replace a
// file that is; elsewhere (Windows) read as a whole, and the file is left alone from then on.
class FileInMemory {
  public:
    explicit FileInMemory(const std::filesystem::path &path);
    ~FileInMemory();
    FileInMemory(const FileInMemory &) = delete;
    FileInMemory &operator=(const FileInMemory &) = delete;

#ifdef _WIN32
    static constexpr bool kMapped = false;
#else
    static constexpr bool kMapped = true;
#endif

    std::span<std::byte> bytes() const { return {memory_, bytes_}; }
    // What the file itself has there, whatever stands at its path by now and was written to memory; only where it is mapped.
    bool read_at(std::uint64_t offset, std::span<std::byte> piece) const;

  private:
    std::byte *memory_ = nullptr;
    std::size_t bytes_ = 0;
#ifndef _WIN32
    int file_ = -1;
#endif
};

// A number that is this process's, and no fork's of it.
long process_number();

}  // namespace llmspell
