#include "quantizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llmspell {
namespace {

// Standard deviations from the mean to the last level. The first is best for normal distributions, the others where many
// values are near the mean and a few far from it, as in sparse vectors.
constexpr double kSpreads[] = {2.68, 4.0, 6.0, 9.0};
constexpr float kTop = 15.0F;                 // the highest level
constexpr float kMiddle = kTop / 2.0F;
constexpr std::size_t kMeasured = 512;        // rows by which the usual residual is judged
constexpr float kResidualsPerUsual = 64.0F;   // a packed residual reaches to four times the usual one
constexpr float kUnusual = 1.5F;              // times the usual residual
constexpr float kLeast = 0x1p-55F;            // the square of a shorter length has lost digits, or all of them

}  // namespace

Quantizer::Quantizer(std::size_t dimensions, Metric metric)
    : dimensions_(dimensions),
      blocks_(blocks_of(dimensions)),
      metric_(metric),
      centre_(width()),
      low_(width()),
      middle_(width()),
      step_(width()),
      inverse_(width()) {}

void Quantizer::learn(std::size_t count, const std::function<const float *(std::size_t)> &row) {
    std::vector<double> means(dimensions_);
    std::vector<double> deviations(dimensions_);
    for (std::size_t i = 0; i < count; ++i) {
        const float *values = row(i);
        for (std::size_t d = 0; d < dimensions_; ++d) {
            means[d] += values[d];
            deviations[d] += static_cast<double>(values[d]) * values[d];
        }
    }
    for (std::size_t d = 0; d < dimensions_; ++d) {
        means[d] /= static_cast<double>(count);
        deviations[d] = std::sqrt(std::max(0.0, deviations[d] / static_cast<double>(count) - means[d] * means[d]));
    }
    const auto lay = [&](double spread) {
        for (std::size_t d = 0; d < dimensions_; ++d) {
            centre_[d] = metric_ == Metric::euclidean ? static_cast<float>(means[d]) : 0.0F;
            low_[d] = static_cast<float>(means[d] - spread * deviations[d] - centre_[d]);
            step_[d] = static_cast<float>(2.0 * spread * deviations[d] / kTop);
        }
        derive();
    };
    std::vector<std::uint8_t> code(code_bytes());
    AlignedVector<float> work;
    const std::size_t measured = std::min(count, kMeasured);
    double least_lost = std::numeric_limits<double>::infinity();
    double best = kSpreads[0];
    for (const double spread : kSpreads) {
        lay(spread);
        double total = 0.0;
        double lost = 0.0;
        for (std::size_t i = 0; i < measured; ++i) {
            const double residual = encode(row(i * count / measured), code.data(), work).residual;
            total += residual;
            lost += residual * residual;
        }
        if (!(lost < least_lost)) continue;
        least_lost = lost;
        best = spread;
        usual_residual_ = static_cast<float>(total / static_cast<double>(measured));
    }
    lay(best);
}

void Quantizer::derive() {
    for (std::size_t d = 0; d < width(); ++d) {
        inverse_[d] = step_[d] > 0x1p-100F ? 1.0F / step_[d] : 0.0F;
        middle_[d] = low_[d] + kMiddle * step_[d];
    }
}

std::vector<float> Quantizer::learned() const {
    std::vector<float> all{usual_residual_};
    for (const auto *values : {&centre_, &low_, &step_}) all.insert(all.end(), values->begin(), values->end());
    return all;
}

void Quantizer::recall(std::span<const float> learned) {
    usual_residual_ = learned[0];
    auto from = learned.begin() + 1;
    for (auto *values : {&centre_, &low_, &step_}) {
        std::copy_n(from, width(), values->begin());
        from += static_cast<std::ptrdiff_t>(width());
    }
    derive();
}

const float *Quantizer::centred(const float *row, AlignedVector<float> &work) const {
    if (metric_ != Metric::euclidean) return row;
    work.resize(2 * width());
    for (std::size_t d = 0; d < width(); ++d) work[d] = row[d] - centre_[d];
    return work.data();
}

Coded Quantizer::encode(const float *row, std::uint8_t *code, AlignedVector<float> &work) const {
    work.resize(2 * width());
    const float *values = centred(row, work);
    const Kernels &use = kernels();
    use.encode(values, low_.data(), inverse_.data(), code, blocks_);
    float *decoded = work.data() + width();
    use.decode(code, low_.data(), step_.data(), decoded, blocks_);
    return {std::sqrt(use.squared_l2(values, decoded, width())), use.dot(values, values, width())};
}

void Quantizer::prepare(const float *row, float longest, CodeQuery &query) const {
    finish(centred(row, query.centred), longest, query);
}

void Quantizer::prepare(const std::uint8_t *code, CodeQuery &query) const {
    query.centred.resize(2 * width());
    kernels().decode(code, low_.data(), step_.data(), query.centred.data(), blocks_);
    finish(query.centred.data(), 0.0F, query);
}

void Quantizer::finish(const float *row, float longest, CodeQuery &query) const {
    query.weights.resize(width());
    query.values.resize(width());
    const Kernels &use = kernels();
    const float at_middle = use.weigh(row, step_.data(), middle_.data(), query.weights.data(), width());
    const Rounded rounded = use.round_weights(query.weights.data(), query.values.data(), width());
    const float squares = use.dot(row, row, width());
    const float length = std::max(std::sqrt(squares), kLeast);
    const auto dimensions = static_cast<float>(dimensions_);
    const float product = at_middle - kMiddle * rounded.scale * rounded.sum;  // with a code of zeros
    const float many = metric_ == Metric::euclidean ? 2.0F : 1.0F;
    query.base = (metric_ == Metric::cosine ? 1.0F : metric_ == Metric::euclidean ? squares : 0.0F) - many * product;
    query.factor = -many * rounded.scale;
    query.reach = many * length;
    // A sum of n products in float32 is off by some n * 2^-24 of the lengths' product; the kernels add in 16 lanes.
    const float rounding = (dimensions / 16.0F + 32.0F) * std::numeric_limits<float>::epsilon();
    const float lengths =
        metric_ == Metric::euclidean ? (length + longest) * (length + longest) : length * std::max(longest, kLeast);
    query.rounding = rounding * lengths;
    query.margin = many * rounded.error * kMiddle * std::sqrt(dimensions) + query.rounding;
}

std::uint8_t Quantizer::packed_residual(float residual) const {
    if (usual_residual_ < kLeast) return kBoundless;
    const float units = std::ceil(std::max(residual, kLeast) / usual_residual_ * kResidualsPerUsual);
    return units < kBoundless ? static_cast<std::uint8_t>(units) : kBoundless;  // so is 0 / 0
}

Quantizer::Errors::Errors(const Quantizer &quantizer, const CodeQuery &query, float deviations)
    : most_(query.margin),
      per_most_(query.reach * quantizer.usual_residual_ / kResidualsPerUsual * (1.0F + 1e-5F)),
      usual_(static_cast<std::uint8_t>(kUnusual * kResidualsPerUsual)) {
    // Residuals point anywhere: on average they meet a query in one of all directions.
    const float likely = std::min(1.0F, deviations / std::sqrt(static_cast<float>(quantizer.dimensions_)));
    likely_ = query.rounding + likely * (most_ - query.rounding);
    per_likely_ = likely * per_most_;
}

}  // namespace llmspell
