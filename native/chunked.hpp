// A growing array of fixed-width rows whose addresses never change: growth adds a chunk and copies nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "aligned.hpp"

namespace llmspell {

using Slot = std::uint32_t;
inline constexpr Slot kNone = 0xFFFF'FFFF;
inline constexpr std::size_t kMostSlots = std::size_t{1} << 31;  // a candidate needs the last bit

template <class T>
class Chunked {
  public:
    // New rows hold `fill` throughout.
    explicit Chunked(std::size_t width, T fill = T{}) : width_(width), fill_(fill) {
        while ((width_ * sizeof(T) << (shift_ + 1)) <= kChunkBytes) ++shift_;
    }

    T *at(Slot slot) const { return chunks_[slot >> shift_].get() + (slot & (rows() - 1)) * width_; }
    std::size_t width() const { return width_; }

    // Makes rows 0..slot exist.
    void reach(Slot slot) {
        while (chunks_.size() <= slot >> shift_) {
            Chunk chunk(static_cast<T *>(::operator new(chunk_bytes(), std::align_val_t{kCacheLine})));
            std::fill_n(chunk.get(), rows() * width_, fill_);
            chunks_.push_back(std::move(chunk));
        }
    }

    // Takes rows 0..count-1 from memory that somebody else keeps, chunk after chunk; the last one may be cut short, so
    // it is copied.
    void borrow(T *memory, std::size_t count) {
        chunks_.clear();
        for (std::size_t first = 0; first < count; first += rows()) {
            if (first + rows() <= count) {
                chunks_.push_back(Chunk(memory + first * width_, Free{false}));
            } else {
                reach(static_cast<Slot>(first));
                std::copy_n(memory + first * width_, (count - first) * width_, chunks_.back().get());
            }
        }
    }

    std::size_t rows() const { return std::size_t{1} << shift_; }  // of a chunk
    std::size_t memory_bytes() const { return chunks_.size() * chunk_bytes(); }

  private:
    static constexpr std::size_t kChunkBytes = std::size_t{1} << 18;  // at most, but one row at least

    struct Free {
        bool owned = true;
        void operator()(T *chunk) const {
            if (owned) ::operator delete(chunk, std::align_val_t{kCacheLine});
        }
    };
    using Chunk = std::unique_ptr<T, Free>;

    std::size_t chunk_bytes() const { return rows() * width_ * sizeof(T); }

    std::size_t width_;
    T fill_;
    unsigned shift_ = 0;  // a chunk has 2^shift_ rows
    std::vector<Chunk> chunks_;
};

}  // namespace llmspell
