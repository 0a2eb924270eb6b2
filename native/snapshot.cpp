#include "snapshot.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>

#include "kernels.hpp"

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

std::filesystem::path beside(std::filesystem::path path) {
    // Other threads, and other processes (in containers even of the same number), may be saving to the same place.
    std::random_device random;
    path += ".new-" + std::to_string(random()) + std::to_string(random());
    return path;
}

}  // namespace

// --- writing --------------------------------------------------------------------------------------------------------

SnapshotWriter::SnapshotWriter(const std::filesystem::path &path) : path_(path), beside_(beside(path)), file_(beside_, path) {
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
    file_.close();
    std::error_code ignored;
    std::filesystem::remove(beside_, ignored);
}

void SnapshotWriter::write(const void *data, std::size_t bytes) {
    file_.write(data, bytes);
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
    file_.back_to_start();
    write(&header, sizeof header);
    file_.finish();
    put_in_place(beside_, path_);
    finished_ = true;
}

// --- reading --------------------------------------------------------------------------------------------------------

Snapshot::Snapshot(const std::filesystem::path &path) : file_(path) { read_header(); }

Snapshot::~Snapshot() {
    if (!comparing_.joinable()) return;
    if (opened_by_ != process_number()) {
        comparing_.detach();  // in a fork there is no such thread: whoever waited for it might wait for ever
        return;
    }
    stop_ = true;
    comparing_.join();
}

void Snapshot::read_header() {
    const std::span<const std::byte> all = file_.bytes();
    Header header;
    if (all.empty()) throw Damaged("it is empty");
    if (all.size() < sizeof header) throw Damaged("it is shorter than its header");
    std::memcpy(&header, all.data(), sizeof header);
    if (header.magic != kMagic) throw Damaged("it does not begin as a snapshot does");
    if (header.checksum != checksum_of(header)) throw Damaged("its header is not what was written");
    if (header.version > kSnapshotVersion) throw TooNew("version " + std::to_string(header.version));
    if (header.sections > kMostSections) throw Damaged("it has too many sections");
    table_.resize(header.sections);
    std::memcpy(table_.data(), header.table.data(), table_.size() * sizeof(SnapshotWriter::Entry));
    for (const auto &one : table_) {
        if (one.offset % kCacheLine != 0 || one.offset > all.size() || one.bytes > all.size() - one.offset) {
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

std::span<std::byte> Snapshot::bytes_of(Section section) const {
    const auto &one = entry(section);
    return file_.bytes().subspan(one.offset, one.bytes);
}

bool Snapshot::is_whole(Section section) const {
    const std::span<const std::byte> bytes = bytes_of(section);
    return kernels().crc32c(0, bytes.data(), bytes.size()) == entry(section).checksum;
}

void Snapshot::compare(Section section) const {
    if (!is_whole(section)) {
        throw Damaged("section " + std::to_string(static_cast<std::uint32_t>(section)) + " is not what was written");
    }
}

// From the file, for what was mapped may be written to meanwhile. In the background, where nothing may be thrown; at once
// where there is no thread to be had, or no file.
void Snapshot::compare_rest() {
    if constexpr (!FileInMemory::kMapped) {
        damaged_ = !std::all_of(rest_.begin(), rest_.end(), [this](Section section) { return is_whole(section); });
        return;
    }
    const auto memory = std::make_shared<std::vector<std::byte>>(kComparedAtOnce);
    const auto compare = [this, memory]() noexcept {
        auto &piece = *memory;
        for (const Section section : rest_) {
            const auto &one = entry(section);
            std::uint32_t checksum = 0;
            bool readable = true;
            for (std::uint64_t done = 0; readable && done < one.bytes;) {
                if (stop_) return;
                const std::size_t some = std::min<std::uint64_t>(piece.size(), one.bytes - done);
                readable = file_.read_at(one.offset + done, {piece.data(), some});
                checksum = kernels().crc32c(checksum, piece.data(), some);
                done += some;
            }
            if (!readable || checksum != one.checksum) damaged_ = true;
        }
    };
    try {
        comparing_ = std::thread(compare);
    } catch (const std::system_error &) {
        compare();
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
