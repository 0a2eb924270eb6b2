// Random work on the graph from one and from several threads, for the compiler's sanitizers and for its own invariants.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hnsw.hpp"
#include "stress.hpp"

thread_local int allocations_left = -1;

static void *allocate(std::size_t bytes, std::size_t align) {
    if (allocations_left == 0) throw std::bad_alloc();
    if (allocations_left > 0) --allocations_left;
    bytes = (std::max<std::size_t>(bytes, 1) + align - 1) / align * align;
#ifdef _WIN32
    void *const memory = ::_aligned_malloc(bytes, align);
#else
    void *const memory = std::aligned_alloc(align, bytes);
#endif
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

static void release(void *memory) {
#ifdef _WIN32
    ::_aligned_free(memory);
#else
    std::free(memory);
#endif
}

void *operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void *operator new(std::size_t bytes, std::align_val_t align) { return allocate(bytes, static_cast<std::size_t>(align)); }
void operator delete(void *memory) noexcept { release(memory); }
void operator delete(void *memory, std::size_t) noexcept { release(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void *memory, std::size_t, std::align_val_t) noexcept { release(memory); }

void require(bool condition, const std::string &what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what.c_str());
    std::exit(1);
}

std::filesystem::path scratch_file(const std::string &name) {
    static const std::string own = std::to_string(std::random_device()());
    std::filesystem::path file(u8"llmspell-Prüfung-проба-記憶-");
    file += name + "-" + own;
    return std::filesystem::temp_directory_path() / file;
}

std::vector<char> bytes_of(const std::filesystem::path &path) {
    std::vector<char> bytes(std::filesystem::file_size(path));
    std::ifstream file(path, std::ios::binary);
    require(bool(file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))), "read");
    return bytes;
}

void damage(const std::filesystem::path &path, const std::function<void()> &open) {
    const std::vector<char> bytes = bytes_of(path);
    std::mt19937 random(5);
    int refused = 0;
    for (int round = 0; round < 300; ++round) {
        std::vector<char> damaged = bytes;
        if (round % 3 == 0) damaged.resize(random() % bytes.size());
        if (!damaged.empty()) damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
        std::ofstream(path, std::ios::binary).write(damaged.data(), static_cast<std::streamsize>(damaged.size()));
        try {
            open();
        } catch (const llmspell::Damaged &) {
            ++refused;
        }
    }
    require(refused > 180, "most damage is found");
    std::filesystem::remove(path);
}

namespace {

using llmspell::FlatIndex;
using llmspell::Found;
using llmspell::HNSW;
using llmspell::Label;
using llmspell::LabelSet;
using llmspell::Metric;
using llmspell::Route;
using llmspell::Storage;

constexpr std::size_t kDimensions = 19;  // not a multiple of any register

std::vector<float> vector_of(std::mt19937 &random) {
    std::normal_distribution<float> normal;
    std::vector<float> values(kDimensions);
    for (float &value : values) value = normal(random);
    return values;
}

// Every other vector is one of twenty, so that labels gather on some nodes and leave them again.
std::vector<float> repeated_vector_of(std::mt19937 &random) {
    if (random() % 2 == 0) return vector_of(random);
    std::mt19937 one(static_cast<unsigned>(random() % 20));
    return vector_of(one);
}

void add(FlatIndex &index, Label label, const std::vector<float> &vector) { index.add(&label, vector.data(), 1); }

Found search(const FlatIndex &index, const std::vector<float> &query, std::size_t k, std::size_t ef,
             Route route = Route::cheapest, const LabelSet *among = nullptr) {
    return index.search(query.data(), {k, ef, among, route});
}

LabelSet set_of(const std::vector<Label> &labels) { return {labels.data(), labels.size()}; }

std::size_t even_count(const std::vector<bool> &live) {
    std::size_t count = 0;
    for (std::size_t at = 0; at < live.size(); at += 2) count += live[at];
    return count;
}

// Results are ordered, and no label comes twice.
void require_in_order(const llmspell::Found &found) {
    std::set<Label> labels(found.labels.begin(), found.labels.end());
    require(labels.size() == found.labels.size(), "no label twice");
    require(std::is_sorted(found.scores.rbegin(), found.scores.rend()), "best first");
}

void random_work(Metric metric, std::size_t m, Storage storage) {
    HNSW graph({kDimensions, metric, storage}, {m, 24, 7});
    FlatIndex flat({kDimensions, metric, storage});
    std::mt19937 random(static_cast<unsigned>(m));
    std::vector<bool> live(400, false);
    std::size_t count = 0;
    std::vector<Label> evens;
    for (Label label = 0; label < 400; label += 2) evens.push_back(label);
    const LabelSet even = set_of(evens);
    for (int step = 0; step < 2500; ++step) {
        const auto label = static_cast<Label>(random() % live.size());
        const auto at = static_cast<std::size_t>(label);
        if (random() % 3 != 0) {
            const auto vector = repeated_vector_of(random);
            for (FlatIndex *index : {static_cast<FlatIndex *>(&graph), &flat}) add(*index, label, vector);
            count += !live[at];
            live[at] = true;
        } else {
            require(graph.remove(label) == live[at] && flat.remove(label) == live[at], "remove says whether it was there");
            count -= live[at];
            live[at] = false;
        }
        if (step % 500 == 0) {
            require(graph.check().empty(), graph.check());
            require(flat.check().empty(), flat.check());
        }
        const auto query = repeated_vector_of(random);
        const LabelSet among = set_of({label, label, 3, 99999, Label{1} << 40});
        const std::size_t few = std::min<std::size_t>(5, count);
        require(search(graph, query, 5, 10, Route::graph).labels.size() == few, "k or all");
        const Route route = step % 2 == 0 ? Route::graph : Route::scan;
        const auto found = search(graph, query, 60, 10, route, &even);
        require(found.labels.size() == std::min(even_count(live), std::size_t{60}), "k or all that are among");
        require_in_order(found);
        require(search(graph, query, 5, 10, Route::cheapest, &among).labels.size() <= 2, "only what is among");
        require(search(graph, query, 7, 0, Route::scan).labels == search(flat, query, 7, 0).labels, "scans agree");
    }
    require(graph.size() == count, "size");
    const auto query = vector_of(random);
    require(search(graph, query, count, count, Route::graph).labels.size() == count, "every live node is reached");
    for (std::size_t at = 0; at < live.size(); ++at) graph.remove(static_cast<Label>(at));
    require(graph.size() == 0 && graph.check().empty(), "empty again");
}

// Many at once, on several threads: the same graph as on one.
void batches(std::size_t threads) {
    std::mt19937 random(5);
    std::vector<Label> labels;
    std::vector<float> vectors;
    for (Label label = 0; label < 5000; ++label) {
        labels.push_back(random() % 50 == 0 ? static_cast<Label>(random() % 5000) : label);
        const auto vector = repeated_vector_of(random);
        vectors.insert(vectors.end(), vector.begin(), vector.end());
    }
    HNSW alone({kDimensions, Metric::cosine}, {6, 30, 7});
    HNSW together({kDimensions, Metric::cosine}, {6, 30, 7});
    alone.add(labels.data(), vectors.data(), labels.size(), 1);
    together.add(labels.data(), vectors.data(), labels.size(), threads);
    require(together.check().empty(), together.check());
    for (int i = 0; i < 100; ++i) {
        const auto query = vector_of(random);
        require(search(alone, query, 10, 10, Route::graph).labels == search(together, query, 10, 10, Route::graph).labels,
                "the same graph");
    }
}

// Whichever allocation fails, the graph is whole afterwards, and a filter lets through what it did before.
void memory_runs_out(Metric metric) {
    HNSW graph({kDimensions, metric}, {4, 20, 7});
    std::mt19937 random(3);
    std::vector<Label> evens;
    for (Label label = 0; label < 200; label += 2) evens.push_back(label);
    const LabelSet even = set_of(evens);
    int failures = 0;
    for (int step = 0; step < 4000; ++step) {
        const auto label = static_cast<Label>(random() % 200);
        const auto vector = repeated_vector_of(random);
        const auto verb = random() % 4;
        allocations_left = static_cast<int>(random() % 60);
        try {
            if (verb < 2) add(graph, label, vector);
            if (verb == 2) graph.remove(label);
            if (verb == 3) search(graph, vector, 50, 10, Route::graph, &even);
        } catch (const std::bad_alloc &) {
            ++failures;
        }
        allocations_left = -1;
        require(graph.check().empty(), graph.check());
        const LabelSet one = set_of({label});
        require(search(graph, vector, 5, 10, Route::graph, &one).labels.size() <= 1, "only what is among");
    }
    require(failures > 100 && graph.size() > 20, "failures and successes");
    const auto query = vector_of(random);
    require(search(graph, query, 200, 200, Route::graph).labels.size() == graph.size(), "every label is reached");
}

void readers_beside_a_writer() {
    HNSW graph({kDimensions, Metric::cosine}, {6, 20, 7});
    std::mt19937 random(1);
    for (Label label = 0; label < 300; ++label) add(graph, label, vector_of(random));
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        readers.emplace_back([&, seed] {
            std::mt19937 own(seed);
            while (!done) {
                const auto found = search(graph, repeated_vector_of(own), 10, 20, Route::graph);
                require(found.labels.size() == 10, "k results");
                require_in_order(found);
                require(graph.memory_bytes() > 0, "memory");
                require(graph.size() >= 200, "size");
            }
        });
    }
    for (int step = 0; step < 600; ++step) {
        add(graph, static_cast<Label>(200 + random() % 400), repeated_vector_of(random));
        if (step % 3 == 0) graph.remove(static_cast<Label>(200 + random() % 400));
        if (step % 100 == 0) {
            std::vector<Label> labels;
            std::vector<float> vectors;
            for (Label label = 600; label < 700; ++label) {
                labels.push_back(label);
                const auto vector = vector_of(random);
                vectors.insert(vectors.end(), vector.begin(), vector.end());
            }
            graph.add(labels.data(), vectors.data(), labels.size(), 2);
        }
    }
    done = true;
    for (std::thread &reader : readers) reader.join();
    require(graph.check().empty(), graph.check());
}

// Saved and opened, an index goes on as it would have; a file with any one byte changed is refused or answers the same.
void snapshots(Storage storage) {
    const auto path = scratch_file("stress");
    std::mt19937 random(9);
    HNSW graph({kDimensions, Metric::euclidean, storage}, {4, 20, 7});
    for (Label label = 0; label < 500; ++label) add(graph, label, repeated_vector_of(random));
    for (Label label = 0; label < 500; label += 7) graph.remove(label);
    graph.save(path, {1, 2, 3});
    std::vector<std::uint64_t> note;
    auto opened = HNSW::open(path, note);
    opened->verify();
    require(note == std::vector<std::uint64_t>{1, 2, 3}, "the note comes back");
    for (int step = 0; step < 500; ++step) {
        const auto label = static_cast<Label>(random() % 600);
        const auto vector = repeated_vector_of(random);
        for (HNSW *index : {&graph, opened.get()}) step % 3 == 0 ? void(index->remove(label)) : add(*index, label, vector);
        require(search(graph, vector, 9, 20, Route::graph).labels == search(*opened, vector, 9, 20, Route::graph).labels,
                "both go on alike");
    }
    require(opened->check().empty(), opened->check());
    opened->save(path, {});

    const auto query = vector_of(random);
    const auto expected = search(*opened, query, 9, 20, Route::graph).labels;
    damage(path, [&] {
        const auto again = HNSW::open(path, note);
        again->verify();
        require(search(*again, query, 9, 20, Route::graph).labels == expected, "not damaged where it matters");
    });
}

}  // namespace

int main() {
    for (const Metric metric : {Metric::cosine, Metric::inner_product, Metric::euclidean}) {
        for (const std::size_t m : {2, 5, 16}) random_work(metric, m, m == 5 ? Storage::float16 : Storage::float32);
        memory_runs_out(metric);
    }
    batches(4);
    readers_beside_a_writer();
    snapshots(Storage::float32);
    snapshots(Storage::float16);
    std::puts("the graph holds");
    stress_platform();
    std::puts("files and kernels hold");
    stress_turns();
    std::puts("the table of turns holds");
    stress_words();
    std::puts("the words hold");
    stress_blend();
    std::puts("their blend holds");
}
