// SipHash-2-4 with 128 bits (Aumasson & Bernstein, "SipHash: a fast short-input PRF", 2012, and the authors' reference
// code): who does not know the key cannot make two texts that have one hash, and cannot tell a text by its hash.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace llmspell {

struct Hash128 {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend bool operator==(const Hash128 &, const Hash128 &) = default;
};

class SipHash {
  public:
    explicit SipHash(const Hash128 &key)
        : v0_(key.low ^ 0x736f6d6570736575),
          v1_(key.high ^ 0x646f72616e646f6d ^ 0xee),
          v2_(key.low ^ 0x6c7967656e657261),
          v3_(key.high ^ 0x7465646279746573) {}

    SipHash &add(std::uint64_t word) { return add({reinterpret_cast<const char *>(&word), sizeof word}); }
    SipHash &add(const Hash128 &hash) { return add(hash.low).add(hash.high); }
    SipHash &add(std::string_view bytes) {
        for (std::size_t at = 0; at < bytes.size();) {
            const std::size_t begun = length_ % sizeof last_;
            const std::size_t some = std::min(sizeof last_ - begun, bytes.size() - at);
            std::uint64_t piece = 0;
            std::memcpy(&piece, bytes.data() + at, some);
            last_ |= piece << 8 * begun;
            length_ += some;
            at += some;
            if (length_ % sizeof last_ != 0) break;
            compress(last_);
            last_ = 0;
        }
        return *this;
    }

    Hash128 finish() {
        compress(last_ | length_ << 56);
        v2_ ^= 0xee;
        Hash128 hash;
        hash.low = finished();
        v1_ ^= 0xdd;
        hash.high = finished();
        return hash;
    }

  private:
    void compress(std::uint64_t word) {
        v3_ ^= word;
        round();
        round();
        v0_ ^= word;
    }
    std::uint64_t finished() {
        for (int i = 0; i < 4; ++i) round();
        return v0_ ^ v1_ ^ v2_ ^ v3_;
    }
    void round() {
        v0_ += v1_;
        v1_ = std::rotl(v1_, 13) ^ v0_;
        v0_ = std::rotl(v0_, 32);
        v2_ += v3_;
        v3_ = std::rotl(v3_, 16) ^ v2_;
        v0_ += v3_;
        v3_ = std::rotl(v3_, 21) ^ v0_;
        v2_ += v1_;
        v1_ = std::rotl(v1_, 17) ^ v2_;
        v2_ = std::rotl(v2_, 32);
    }

    std::uint64_t v0_;
    std::uint64_t v1_;
    std::uint64_t v2_;
    std::uint64_t v3_;
    std::uint64_t last_ = 0;    // bytes that make no whole word yet
    std::uint64_t length_ = 0;  // bytes in all
};

}  // namespace llmspell
