// Independent pieces of work on several threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

namespace llmspell {

// Whether this new thread may throw. Its first throw allocates its record of exceptions, and where there is no memory for
// that the dynamic linker ends the process; so the record is made now, when it is known that there is.
inline bool may_throw() noexcept {
    // More than malloc would keep for its next caller of the same size alone, and volatile, for a compiler may leave out what
    // is only made and freed.
    void *volatile some = std::malloc(std::size_t{1} << 15);
    if (some == nullptr) return false;
    std::free(some);
    static_cast<void>(std::uncaught_exceptions());
    return true;
}

// Threads that are waited for, whatever happens. (No std::jthread: libc++ had none
// before version 20, and macOS builds with older ones.)
class Others {
  public:
    Others() = default;
    ~Others() {
        for (std::thread &one : threads_) one.join();
    }
    Others(const Others &) = delete;
    Others &operator=(const Others &) = delete;

    template <class Work>
    void add(Work work) {
        threads_.reserve(threads_.size() + 1);
        threads_.emplace_back(std::move(work));
    }

  private:
    std::vector<std::thread> threads_;
};

// Does `work(0)` to `work(count - 1)` on so many threads, or on fewer where the system gives no more; the first exception
// is thrown again.
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
        Others others;
        try {
            for (std::size_t thread = 1; thread < threads; ++thread) {
                others.add([&run, thread]() noexcept {
                    if (may_throw()) run(thread);
                });
            }
        } catch (const std::exception &) {
            // No more threads, or no memory for them: those that there are do the work.
        }
        run(0);
    }
    for (const auto &failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

}  // namespace llmspell
