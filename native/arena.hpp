// Many small arrays in large pieces of memory, by classes of their capacity; what is given back is zeroed and used again.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "pages.hpp"

namespace llmspell {

// Capacities are 2, 3, 4, 6, 8, 12, ...: powers of two, and those and a half. A large array has memory of its own.
template <class T>
class Arena {
    static_assert(std::is_trivially_copyable_v<T> && 2 * sizeof(T) >= sizeof(T *));

  public:
    Arena() = default;
    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;
    ~Arena() {
        while (alone_ != nullptr) ::operator delete(std::exchange(alone_, alone_->next));
    }

    // The least capacity that holds so many; none for none.
    static std::size_t capacity_for(std::size_t count) {
        if (count <= 2) return count == 0 ? 0 : 2;
        const std::size_t above = std::bit_ceil(count);
        return count <= above / 4 * 3 ? above / 4 * 3 : above;
    }

    // An array of zeros, of a capacity that `capacity_for` gave; null for none.
    T *take(std::size_t capacity) {
        if (capacity == 0) return nullptr;
        if (capacity > kLargest) return take_alone(capacity);
        T *&idle = idle_[class_of(capacity)];
        if (idle != nullptr) {
            T *const array = idle;
            std::memcpy(&idle, array, sizeof idle);
            std::memset(static_cast<void *>(array), 0, sizeof idle);
            return array;
        }
        if (left_ < capacity) {
            take_piece();
        }
        T *const array = next_;
        next_ += capacity;
        left_ -= capacity;
        return array;
    }

    void give(T *array, std::size_t capacity) noexcept {
        if (array == nullptr) return;
        std::memset(static_cast<void *>(array), 0, capacity * sizeof(T));
        if (capacity > kLargest) {
            give_alone(array, capacity);
        } else {  // an array that nobody has begins with the address of the next one of its class
            T *&idle = idle_[class_of(capacity)];
            std::memcpy(static_cast<void *>(array), &idle, sizeof idle);
            idle = array;
        }
    }

    std::size_t memory_bytes() const { return piece_bytes_ + alone_bytes_; }

  private:
    struct alignas(std::max_align_t) Alone {
        Alone *before;
        Alone *next;
    };

    static constexpr std::size_t kPieceBytes = std::size_t{1} << 18;
    static constexpr std::size_t kLargest = std::size_t{1} << 11;  // values of an array that lies in a piece
    static constexpr std::size_t kClasses = 2 * (std::bit_width(kLargest) + 1);

    static std::size_t class_of(std::size_t capacity) {
        return 2 * static_cast<std::size_t>(std::bit_width(capacity)) + (std::has_single_bit(capacity) ? 0 : 1);
    }

    // The first few pieces are small, later ones whole huge pages.
    void take_piece() {
        const std::size_t bytes = piece_bytes_ < kHugePage ? kPieceBytes : kHugePage;
        pieces_.reserve(pieces_.size() + 1);
        pieces_.push_back(take_pages(bytes));
        std::memset(pieces_.back().get(), 0, bytes);
        piece_bytes_ += bytes;
        next_ = reinterpret_cast<T *>(pieces_.back().get());
        left_ = bytes / sizeof(T);
    }

    T *take_alone(std::size_t capacity) {
        const std::size_t bytes = sizeof(Alone) + capacity * sizeof(T);
        auto *const alone = static_cast<Alone *>(::operator new(bytes));
        *alone = {nullptr, alone_};
        if (alone_ != nullptr) alone_->before = alone;
        alone_ = alone;
        alone_bytes_ += bytes;
        T *const array = reinterpret_cast<T *>(alone + 1);
        std::memset(static_cast<void *>(array), 0, capacity * sizeof(T));
        return array;
    }

    void give_alone(T *array, std::size_t capacity) noexcept {
        Alone *const alone = reinterpret_cast<Alone *>(array) - 1;
        (alone->before != nullptr ? alone->before->next : alone_) = alone->next;
        if (alone->next != nullptr) alone->next->before = alone->before;
        alone_bytes_ -= sizeof(Alone) + capacity * sizeof(T);
        ::operator delete(alone);
    }

    std::vector<Pages> pieces_;
    std::size_t piece_bytes_ = 0;
    T *next_ = nullptr;     // what is left of the last piece,
    std::size_t left_ = 0;  // in values
    std::array<T *, kClasses> idle_{};
    Alone *alone_ = nullptr;
    std::size_t alone_bytes_ = 0;
};

}  // namespace llmspell
