// A growing array of fixed-width rows whose addresses never change: growth adds a chunk and copies nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pages.hpp"

namespace llmspell {

using Slot = std::uint32_t;
inline constexpr Slot kNone = 0xFFFF'FFFF;
inline constexpr std::size_t kMostSlots = std::size_t{1} << 31;  // a candidate needs the last bit

template <class T>
class Chunked {
  public:
    // New rows hold `fill` throughout. A chunk takes so many bytes at most, but holds one row at least.
    explicit Chunked(std::size_t width, T fill = T{}, std::size_t chunk_bytes = std::size_t{1} << 18)
        : width_(width), fill_(fill) {
        while ((width_ * sizeof(T) << (shift_ + 1)) <= chunk_bytes) ++shift_;
    }

    T *at(Slot slot) const { return chunks_[slot >> shift_] + (slot & (rows() - 1)) * width_; }
    std::size_t width() const { return width_; }

    // Makes rows 0..slot exist.
    void reach(Slot slot) {
        while (chunks_.size() <= slot >> shift_) {
            if (chunks_.size() == chunks_.capacity()) chunks_.reserve(2 * chunks_.size() + 1);
            T *const chunk = carve();
            std::fill_n(chunk, rows() * width_, fill_);
            chunks_.push_back(chunk);
        }
    }

    // Takes rows 0..count-1 from memory that somebody else keeps, chunk after chunk; the last one may be cut short, so
    // it is copied.
    void borrow(T *memory, std::size_t count) {
        chunks_.clear();
        for (std::size_t first = 0; first < count; first += rows()) {
            if (first + rows() <= count) {
                chunks_.push_back(memory + first * width_);
            } else {
                reach(static_cast<Slot>(first));
                std::copy_n(memory + first * width_, (count - first) * width_, chunks_.back());
            }
        }
    }

    std::size_t rows() const { return std::size_t{1} << shift_; }  // of a chunk
    std::size_t memory_bytes() const { return chunks_.size() * chunk_bytes(); }

  private:
    std::size_t chunk_bytes() const { return rows() * width_ * sizeof(T); }

    // Memory for one more chunk. The first few are taken one by one, later ones from pieces that fill whole huge pages.
    T *carve() {
        if (left_ == 0) {
            std::size_t count = 1;
            if (memory_bytes() >= kHugePage) {
                while (count < kMostOfPiece && unused(count) * kLeastUnused > count * chunk_bytes()) ++count;
            }
            pieces_.reserve(pieces_.size() + 1);
            pieces_.push_back(take_pages(count * chunk_bytes()));
            next_ = reinterpret_cast<T *>(pieces_.back().get());
            left_ = count;
        }
        --left_;
        T *const chunk = next_;
        next_ += rows() * width_;
        return chunk;
    }

    // Of the last huge page of a piece of so many chunks.
    std::size_t unused(std::size_t count) const {
        const std::size_t bytes = count * chunk_bytes();
        return (bytes + kHugePage - 1) / kHugePage * kHugePage - bytes;
    }

    static constexpr std::size_t kMostOfPiece = 64;   // chunks
    static constexpr std::size_t kLeastUnused = 32;   // one part in so many may be

    std::size_t width_;
    T fill_;
    unsigned shift_ = 0;  // a chunk has 2^shift_ rows
    std::vector<T *> chunks_;
    std::vector<Pages> pieces_;
    T *next_ = nullptr;     // what is left of the last piece,
    std::size_t left_ = 0;  // in chunks
};

}  // namespace llmspell
