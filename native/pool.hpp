// Lends what a piece of work needs for itself, and keeps it between two of them so that none allocates.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace llmspell {

template <class T>
class Pool {
  public:
    class Loan {
      public:
        explicit Loan(Pool &pool) : pool_(pool), lent_(pool.take()) {}
        ~Loan() { pool_.give(std::move(lent_)); }
        Loan(const Loan &) = delete;
        Loan &operator=(const Loan &) = delete;
        T &operator*() { return *lent_; }
        T *operator->() { return lent_.get(); }
        const T *operator->() const { return lent_.get(); }

      private:
        Pool &pool_;
        std::unique_ptr<T> lent_;
    };

    Loan lend() { return Loan(*this); }

  private:
    std::unique_ptr<T> take() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            idle_.reserve(made_ + 1);  // so that there is room when it comes back
            auto fresh = std::make_unique<T>();
            ++made_;
            return fresh;
        }
        auto one = std::move(idle_.back());
        idle_.pop_back();
        return one;
    }
    void give(std::unique_ptr<T> one) noexcept {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(one));
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> idle_;
    std::size_t made_ = 0;
};

}  // namespace llmspell
