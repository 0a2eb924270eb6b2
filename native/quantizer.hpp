// Codes of 4 bits a value: what a walk or a scan looks at instead of the rows themselves, an eighth of their size.
//
// A value x of dimension d becomes the nearest of 16 levels around that dimension's mean, up to 2.68 standard deviations
// to either side, which loses least for a normal distribution (Max, "Quantizing for minimum distortion", 1960), or to
// more where that loses less.
// The query is not coded but weighed: dot(q, x) is about sum of q[d] * low[d] + sum of q[d] * step[d] * c[d], and the
// weights q[d] * step[d], rounded to 8 bits, meet the codes in integer arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "aligned.hpp"
#include "kernels.hpp"

namespace llmspell {

enum class Metric { cosine, inner_product, euclidean };

// A query ready to be compared with codes. The estimated distance of a code is base + factor * (integer product), plus
// the code's term under the euclidean metric. The true one is at most margin + reach * (the code's residual) away.
struct CodeQuery {
    AlignedVector<std::int8_t> values;
    float base = 0.0F;
    float factor = 0.0F;
    float margin = 0.0F;
    float reach = 0.0F;
    float rounding = 0.0F;  // what of the margin is due to float32 arithmetic
    AlignedVector<float> row;      // itself, where rows are compared instead of codes
    AlignedVector<float> centred;  // room to work in
    AlignedVector<float> weights;
};

// What a row became besides its code.
struct Coded {
    float residual;  // how far the row is from what the code stands for
    float term;      // the squared length of the row, its centre taken
};

// Rows are given as `width()` floats, padded with zeros. Distances are 1 - dot, -dot and the squared distance.
class Quantizer {
  public:
    Quantizer(std::size_t dimensions, Metric metric);

    std::size_t width() const { return blocks_ * kBlock; }
    std::size_t blocks() const { return blocks_; }
    std::size_t code_bytes() const { return blocks_ * kBlockBytes; }

    // Learns the levels of each dimension from `count` rows; `row(i)` is asked for several times.
    void learn(std::size_t count, const std::function<const float *(std::size_t)> &row);

    Coded encode(const float *row, std::uint8_t *code, AlignedVector<float> &work) const;

    // `longest` is the greatest length of a coded row, from the terms.
    void prepare(const float *row, float longest, CodeQuery &query) const;
    // The same for the row that a code stands for: no row is fetched, and it is good enough to choose links by.
    void prepare(const std::uint8_t *code, CodeQuery &query) const;

    // A residual is kept in a byte, rounded up; one too large for that counts as boundless.
    std::uint8_t packed_residual(float residual) const;

    // What estimates may be off by: at most, or but for what lies `deviations` standard deviations away. Many small
    // errors make up the whole one, and they are as good as random. Where few dimensions carry it, or a residual is
    // unusual, that does not hold and the bound is kept.
    class Errors {
      public:
        Errors(const Quantizer &quantizer, const CodeQuery &query,
               float deviations = std::numeric_limits<float>::infinity());
        // Of a code with this packed residual.
        float of(std::uint8_t packed) const {
            const auto residuals = static_cast<float>(packed);
            if (packed <= usual_) return likely_ + per_likely_ * residuals;
            return packed == kBoundless ? std::numeric_limits<float>::infinity() : most_ + per_most_ * residuals;
        }

      private:
        float most_, per_most_, likely_, per_likely_;
        std::uint8_t usual_;
    };

    // All that it has learned, and a quantizer that has learned the same.
    std::vector<float> learned() const;
    void recall(std::span<const float> learned);

  private:
    static constexpr std::uint8_t kBoundless = 255;

    const float *centred(const float *row, AlignedVector<float> &work) const;
    void derive();
    void finish(const float *row, float longest, CodeQuery &query) const;

    std::size_t dimensions_;
    std::size_t blocks_;
    Metric metric_;
    AlignedVector<float> centre_;   // taken from all rows where squared distances are estimated; zeros elsewhere
    AlignedVector<float> low_;      // the lowest level, the centre taken
    AlignedVector<float> middle_;   // half-way between the lowest and the highest
    AlignedVector<float> step_;
    AlignedVector<float> inverse_;
    float usual_residual_ = 0.0F;
};

}  // namespace llmspell
