// What differs from one system to the next: files that are replaced while others have them open, and what the processor is
// said to have.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <system_error>
#include <thread>
#include <vector>

#include "files.hpp"
#include "hnsw.hpp"
#include "kernels.hpp"
#include "processor.hpp"
#include "stress.hpp"

namespace {

using llmspell::HNSW;
using llmspell::Label;

constexpr std::size_t kDimensions = 24;
constexpr Label kRows = 2000;

std::vector<float> vector_of(std::mt19937 &random) {
    std::normal_distribution<float> normal;
    std::vector<float> values(kDimensions);
    for (float &value : values) value = normal(random);
    return values;
}

std::unique_ptr<HNSW> made(unsigned seed) {
    auto index = std::make_unique<HNSW>(llmspell::Space{kDimensions, llmspell::Metric::cosine}, llmspell::GraphSettings{4, 20, 7});
    std::mt19937 random(seed);
    for (Label label = 0; label < kRows; ++label) index->add(&label, vector_of(random).data(), 1);
    return index;
}

std::vector<Label> answer(const HNSW &index, const std::vector<float> &query) {
    return index.search(query.data(), {10, 20, nullptr, llmspell::Route::graph}).labels;
}

// Says whether it was saved. Where open files cannot be replaced it may be refused; what was there is still there then.
bool saved_over(const HNSW &index, const std::filesystem::path &path, std::uint64_t note) {
    try {
        index.save(path, {note});
        return true;
    } catch (const std::system_error &error) {
        require(!llmspell::FileInMemory::kMapped && error.code() == std::errc::permission_denied, "refused as documented");
        return false;
    }
}

// One file, saved again and again while others open it and go on searching what they have opened.
void files_are_replaced_while_they_are_open() {
    const auto path = scratch_file("replaced");
    const std::unique_ptr<HNSW> saved[] = {made(1), made(2)};
    std::mt19937 random(3);
    const auto query = vector_of(random);
    const std::vector<Label> answers[] = {answer(*saved[0], query), answer(*saved[1], query)};
    require(answers[0] != answers[1], "two that differ");
    saved[0]->save(path, {0});
    std::vector<std::uint64_t> note;
    const auto before = HNSW::open(path, note);
    std::atomic<bool> done{false};
    std::atomic<int> opened{0};
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 3; ++reader) {
        readers.emplace_back([&] {
            while (!done) {
                std::vector<std::uint64_t> own;
                const auto index = HNSW::open(path, own);
                require(answer(*index, query) == answers[own.at(0)], "each file as it was saved");
                index->verify();
                ++opened;
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
            }
        });
    }
    int refused = 0;
    for (unsigned round = 1; round <= 20; ++round) refused += !saved_over(*saved[round % 2], path, round % 2);
    while (opened < 10) std::this_thread::yield();
    done = true;
    for (std::thread &reader : readers) reader.join();
    require(saved_over(*saved[0], path, 0), "nobody is in the way");
    before->verify();
    require(note.at(0) == 0 && answer(*before, query) == answers[0], "what was opened stays as it was");
    if (refused > 0) std::printf("%d of 20 saves were refused while others read\n", refused);
    require(std::filesystem::remove(path), "nobody holds it");
    for (const auto &left : std::filesystem::directory_iterator(path.parent_path())) {
        require(left.path().native().find(path.native()) != 0, "nothing is left beside it");
    }
}

// What cannot be opened or written is an error by the number that every system has for it.
void errors_have_the_same_numbers() {
    const auto missing = scratch_file("missing");
    std::vector<std::uint64_t> note;
    int told = 0;
    try {
        HNSW::open(missing, note);
    } catch (const std::system_error &error) {
        told = error.code() == std::errc::no_such_file_or_directory;
    }
    try {
        made(1)->save(missing / "file", {});
    } catch (const std::system_error &error) {
        told += error.code() == std::errc::no_such_file_or_directory;
    }
    require(told == 2, "no such file");
    std::filesystem::create_directory(missing);
    try {
        made(1)->save(missing, {});
    } catch (const std::system_error &error) {
        told += error.code() == std::errc::is_a_directory || error.code() == std::errc::permission_denied;
    }
    require(told == 3, "a folder stands there");
    std::filesystem::remove(missing);
}

// The kernels are those that the compiler's own way of asking would have chosen.
void the_processor_is_known() {
    const auto names = llmspell::kernel_names();
    require(names.back() == "plain", "what every processor has");
#if defined(LLMSPELL_X86) && defined(__linux__)
    const auto has = llmspell::features();
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    require(has.avx2 == avx2, "AVX2");
    require(has.avx512 == (avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")), "AVX-512");
    require(names.size() == std::size_t{1} + has.avx2 + has.avx512, "each is used");
#endif
}

}  // namespace

void stress_platform() {
    files_are_replaced_while_they_are_open();
    errors_have_the_same_numbers();
    the_processor_is_known();
}
