// A growing array of fixed-width rows whose addresses never change: growth adds a chunk and copies nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace llmspell {

using Slot = std::uint32_t;
inline constexpr Slot kNone = 0xFFFF'FFFF;

template <class T>
class Chunked {
  public:
    explicit Chunked(std::size_t width) : width_(width) {
        while ((width_ * sizeof(T) << (shift_ + 1)) <= kChunkBytes) ++shift_;
    }

    T *at(Slot slot) const { return chunks_[slot >> shift_].get() + (slot & (rows() - 1)) * width_; }

    // Makes rows 0..slot exist, new ones zeroed.
    void reach(Slot slot) {
        while (chunks_.size() <= slot >> shift_) {
            const std::size_t bytes = rows() * width_ * sizeof(T);
            Chunk chunk(static_cast<T *>(::operator new(bytes, std::align_val_t{kAlign})));
            for (std::size_t i = 0; i < rows() * width_; ++i) chunk.get()[i] = T{};
            chunks_.push_back(std::move(chunk));
        }
    }

    std::size_t memory_bytes() const { return chunks_.size() * rows() * width_ * sizeof(T); }

  private:
    static constexpr std::size_t kChunkBytes = std::size_t{1} << 20;  // at most, but one row at least
    static constexpr std::size_t kAlign = 64;  // a cache line

    struct Free {
        void operator()(T *chunk) const { ::operator delete(chunk, std::align_val_t{kAlign}); }
    };
    using Chunk = std::unique_ptr<T, Free>;

    std::size_t rows() const { return std::size_t{1} << shift_; }

    std::size_t width_;
    unsigned shift_ = 0;  // a chunk has 2^shift_ rows
    std::vector<Chunk> chunks_;
};

}  // namespace llmspell
