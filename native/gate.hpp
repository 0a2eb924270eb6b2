// One writer at a time beside any number of readers, who are shut out only while something changes that they can see.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace llmspell {

class Gate {
  public:
    // Shuts out other writers.
    std::unique_lock<std::mutex> writing() const { return std::unique_lock(write_); }
    // Not twice in one thread: a writer that waits in between would wait for ever.
    std::shared_lock<std::shared_mutex> reading() const {
        const std::lock_guard pass(pass_);
        return std::shared_lock(seen_);
    }
    std::unique_lock<std::shared_mutex> changing() const {
        const std::lock_guard pass(pass_);
        return std::unique_lock(seen_);
    }

  private:
    mutable std::mutex write_;
    mutable std::mutex pass_;  // a waiting writer holds back new readers, so that it cannot starve
    mutable std::shared_mutex seen_;
};

}  // namespace llmspell
