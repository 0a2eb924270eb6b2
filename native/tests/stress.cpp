// Random work on the graph from one and from several threads, for the compiler's sanitizers and for its own invariants.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hnsw.hpp"

// Counts down to an allocation that fails; below zero none does.
static thread_local int allocations_left = -1;

static void *allocate(std::size_t bytes, std::size_t align) {
    if (allocations_left == 0) throw std::bad_alloc();
    if (allocations_left > 0) --allocations_left;
    void *const memory = std::aligned_alloc(align, (std::max<std::size_t>(bytes, 1) + align - 1) / align * align);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void *operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void *operator new(std::size_t bytes, std::align_val_t align) { return allocate(bytes, static_cast<std::size_t>(align)); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using llmspell::HNSW;
using llmspell::Label;
using llmspell::Metric;
using llmspell::Route;

constexpr std::size_t kDimensions = 19;  // not a multiple of any register

void require(bool condition, const std::string &what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what.c_str());
    std::exit(1);
}

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

void random_work(Metric metric, std::size_t m) {
    HNSW graph({kDimensions, metric, m, 24, 7});
    std::mt19937 random(static_cast<unsigned>(m));
    std::vector<bool> live(400, false);
    std::size_t count = 0;
    std::vector<Label> evens;
    for (Label label = 0; label < 400; label += 2) evens.push_back(label);
    for (int step = 0; step < 2500; ++step) {
        const auto label = static_cast<Label>(random() % live.size());
        const auto at = static_cast<std::size_t>(label);
        if (random() % 3 != 0) {
            graph.add(label, repeated_vector_of(random).data());
            count += !live[at];
            live[at] = true;
        } else {
            require(graph.remove(label) == live[at], "remove says whether the label was there");
            count -= live[at];
            live[at] = false;
        }
        if (step % 500 == 0) require(graph.check().empty(), graph.check());
        const auto query = repeated_vector_of(random);
        const Label among[] = {label, label, 3, 99999};
        const std::size_t few = std::min<std::size_t>(5, count);
        require(graph.search(query.data(), 5, 10, Route::graph).labels.size() == few, "k or all");
        const Route route = step % 2 == 0 ? Route::graph : Route::scan;
        const auto found = graph.search_among(query.data(), 60, 10, evens.data(), evens.size(), route);
        require(found.labels.size() == std::min(even_count(live), std::size_t{60}), "k or all that are among");
        require_in_order(found);
        require(graph.search_among(query.data(), 5, 10, among, 4).labels.size() <= 2, "only what is among");
    }
    require(graph.size() == count, "size");
    const auto query = vector_of(random);
    require(graph.search(query.data(), count, count, Route::graph).labels.size() == count, "every live node is reached");
    for (std::size_t at = 0; at < live.size(); ++at) graph.remove(static_cast<Label>(at));
    require(graph.size() == 0 && graph.check().empty(), "empty again");
}

// Whichever allocation fails, the graph is whole afterwards, and a filter lets through what it did before.
void memory_runs_out(Metric metric) {
    HNSW graph({kDimensions, metric, 4, 20, 7});
    std::mt19937 random(3);
    std::vector<Label> evens;
    for (Label label = 0; label < 200; label += 2) evens.push_back(label);
    int failures = 0;
    for (int step = 0; step < 4000; ++step) {
        const auto label = static_cast<Label>(random() % 200);
        const auto vector = repeated_vector_of(random);
        const auto verb = random() % 4;
        allocations_left = static_cast<int>(random() % 40);
        try {
            if (verb < 2) graph.add(label, vector.data());
            if (verb == 2) graph.remove(label);
            if (verb == 3) graph.search_among(vector.data(), 50, 10, evens.data(), evens.size(), Route::graph);
        } catch (const std::bad_alloc &) {
            ++failures;
        }
        allocations_left = -1;
        require(graph.check().empty(), graph.check());
        const Label one[] = {label};
        require(graph.search_among(vector.data(), 5, 10, one, 1, Route::graph).labels.size() <= 1, "only what is among");
    }
    require(failures > 100 && graph.size() > 20, "failures and successes");
    const auto query = vector_of(random);
    require(graph.search(query.data(), 200, 200, Route::graph).labels.size() == graph.size(), "every label is reached");
}

void readers_beside_a_writer() {
    HNSW graph({kDimensions, Metric::cosine, 6, 20, 7});
    std::mt19937 random(1);
    for (Label label = 0; label < 300; ++label) graph.add(label, vector_of(random).data());
    std::atomic<bool> done{false};
    std::vector<std::thread> readers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        readers.emplace_back([&, seed] {
            std::mt19937 own(seed);
            while (!done) {
                const auto query = repeated_vector_of(own);
                const auto found = graph.search(query.data(), 10, 20, Route::graph);
                require(found.labels.size() == 10, "k results");
                require_in_order(found);
                require(graph.memory_bytes() > 0, "memory");
                require(graph.size() >= 200, "size");
            }
        });
    }
    for (int step = 0; step < 600; ++step) {
        graph.add(static_cast<Label>(200 + random() % 400), repeated_vector_of(random).data());
        if (step % 3 == 0) graph.remove(static_cast<Label>(200 + random() % 400));
    }
    done = true;
    for (std::thread &reader : readers) reader.join();
    require(graph.check().empty(), graph.check());
}

}  // namespace

int main() {
    for (const Metric metric : {Metric::cosine, Metric::inner_product, Metric::euclidean}) {
        for (const std::size_t m : {2, 5, 16}) random_work(metric, m);
        memory_runs_out(metric);
    }
    readers_beside_a_writer();
    std::puts("the graph holds");
}
