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
    explicit Chunked(std::size_t width) : width_(width) {}

    T *at(Slot slot) const { return chunks_[slot / kRows].get() + slot % kRows * width_; }

    // Makes rows 0..slot exist, new ones zeroed.
    void reach(Slot slot) {
        while (chunks_.size() <= slot / kRows) {
            const std::size_t bytes = kRows * width_ * sizeof(T);
            Chunk chunk(static_cast<T *>(::operator new(bytes, std::align_val_t{kAlign})));
            for (std::size_t i = 0; i < kRows * width_; ++i) chunk.get()[i] = T{};
            chunks_.push_back(std::move(chunk));
        }
    }

    std::size_t memory_bytes() const { return chunks_.size() * kRows * width_ * sizeof(T); }

  private:
    static constexpr std::size_t kRows = 1024;
    static constexpr std::size_t kAlign = 64;  // a cache line

    struct Free {
        void operator()(T *chunk) const { ::operator delete(chunk, std::align_val_t{kAlign}); }
    };
    using Chunk = std::unique_ptr<T, Free>;

    std::size_t width_;
    std::vector<Chunk> chunks_;
};

}  // namespace llmspell
