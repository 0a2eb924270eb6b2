// Independent pieces of work on several threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace llmspell {

// Does `work(0)` to `work(count - 1)` on so many threads; the first exception is thrown again.
template <class Work>
void on_threads(std::size_t threads, std::size_t count, Work work) {
    std::atomic<std::size_t> next{0};
    std::vector<std::exception_ptr> failures(threads);
    const auto run = [&](std::size_t thread) noexcept {
        try {
            for (std::size_t i; (i = next.fetch_add(1)) < count;) work(i);
        } catch (...) {
            failures[thread] = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> others;
        for (std::size_t thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
        run(0);
    }
    for (const auto &failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

}  // namespace llmspell
