// An index in a file: sections of plain arrays, each with its checksum, which are used where they lie.
//
// The file starts with a header of `kHeaderBytes`: a magic number, the version, how many sections there are, their table
// and a checksum of all that. Each section starts on a cache line. All numbers are little-endian. docs/snapshot.md
// describes every section; a change that old code would misread takes a new version.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "chunked.hpp"
#include "files.hpp"

namespace llmspell {

inline constexpr std::uint32_t kSnapshotVersion = 1;

enum class Section : std::uint32_t {
    settings = 1,
    levels_of_values,
    vectors,
    codes,
    residuals,
    terms,
    labels,
    crowds,
    free_slots,
    row_table,
    heights,
    parents,
    children,
    ground_links,
    upper_links,
    word_settings = 32,
    word_pages,
    word_counts,
    word_contents,
    word_ends,
    word_letters,
    turn_settings = 64,
    turn_labels,
    turn_happened,
    turn_learned,
    turn_expires,
    turn_marks,
    turn_lengths,
    turn_sessions,
    turn_roles,
    turn_fact_counts,
    turn_facts,
    term_hashes,
    term_parents,
    session_hashes,
    session_terms,
    turn_worths,
};

// The file is not a snapshot, or not what was written.
struct Damaged : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The file was written by a newer version.
struct TooNew : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Writes beside the file's place and moves it there when all is on the disk; until then what was there stays.
class SnapshotWriter {
  public:
    explicit SnapshotWriter(const std::filesystem::path &path);
    ~SnapshotWriter();
    SnapshotWriter(const SnapshotWriter &) = delete;
    SnapshotWriter &operator=(const SnapshotWriter &) = delete;

    template <class T>
    void put(Section section, std::span<const T> values) {
        begin(section);
        append(values.data(), values.size_bytes());
        end();
    }

    template <class T>
    void put(Section section, const Chunked<T> &rows, std::size_t count) {
        begin(section);
        for (std::size_t first = 0; first < count; first += rows.rows()) {
            const std::size_t some = std::min(rows.rows(), count - first);
            append(rows.at(static_cast<Slot>(first)), some * rows.width() * sizeof(T));
        }
        end();
    }

    void finish();

  private:
    struct Entry {
        std::uint32_t section;
        std::uint32_t checksum;
        std::uint64_t offset;
        std::uint64_t bytes;
    };

    void discard() noexcept;
    void begin(Section section);
    void append(const void *data, std::size_t bytes);
    void end();
    void write(const void *data, std::size_t bytes);

    std::filesystem::path path_;
    std::filesystem::path beside_;
    NewFile file_;
    bool finished_ = false;
    std::uint64_t at_ = 0;
    std::vector<Entry> table_;

    friend class Snapshot;
};

// A snapshot in memory. Where it is mapped, pages are read when they are touched, and copied when written to.
class Snapshot {
  public:
    explicit Snapshot(const std::filesystem::path &path);
    ~Snapshot();
    Snapshot(const Snapshot &) = delete;
    Snapshot &operator=(const Snapshot &) = delete;

    // The values of a section, its checksum compared; throws Damaged.
    template <class T>
    std::span<T> checked(Section section) {
        const std::span<std::byte> bytes = bytes_of(section);
        compare(section);
        return as<T>(bytes);
    }

    // The same without comparing; `compare_rest` does it for all such sections.
    template <class T>
    std::span<T> unchecked(Section section) {
        rest_.push_back(section);
        return as<T>(bytes_of(section));
    }

    // Compares in the background what was taken unchecked.
    void compare_rest();
    // Waits for that, and throws Damaged if it found something.
    void wait();
    // The same without waiting: throws only if something was found by now.
    void require_whole() const {
        if (damaged_.load(std::memory_order_relaxed)) throw Damaged("its vectors are not what was written");
    }

  private:
    template <class T>
    static std::span<T> as(std::span<std::byte> bytes) {
        if (bytes.size() % sizeof(T) != 0) throw Damaged("a section has no whole number of values");
        return {reinterpret_cast<T *>(bytes.data()), bytes.size() / sizeof(T)};
    }

    const SnapshotWriter::Entry &entry(Section section) const;
    std::span<std::byte> bytes_of(Section section) const;
    bool is_whole(Section section) const;
    void compare(Section section) const;
    void read_header();

    FileInMemory file_;
    std::vector<SnapshotWriter::Entry> table_;
    std::vector<Section> rest_;
    std::atomic<bool> damaged_{false};
    std::mutex waiting_;
    std::atomic<bool> stop_{false};
    long opened_by_ = process_number();
    std::thread comparing_;  // no std::jthread: libc++, which macOS builds with, had none before version 20
};

}  // namespace llmspell
