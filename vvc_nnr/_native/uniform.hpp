// Uniform quantisation: rounding, or the best path of two survivors when bits count.
#pragma once

#include <memory>
#include <new>

#include "quantiser_input.hpp"
#include "rate_model.hpp"
#include "status.hpp"

namespace nnr {

// The nearest integer to weight / step, halves away from zero, in float32 arithmetic.
NNR_INLINE int32_t round_half_away(float weight, float inverse_step) {
  const float limit = 2147483520.0f;
  float x = weight * inverse_step;
  x = x < limit ? x : limit;
  x = x > -limit ? x : -limit;
  const auto whole = static_cast<int32_t>(x);
  const float rest = x - static_cast<float>(whole);
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

NNR_INLINE void round_all(const float* weights, int64_t n, float inverse_step, int32_t* indices) {
  for (int64_t i = 0; i < n; ++i) indices[i] = round_half_away(weights[i], inverse_step);
}

NNR_TARGET_AVX2 inline void round_all_avx2(const float* weights, int64_t n, float inverse_step, int32_t* indices) {
  round_all(weights, n, inverse_step, indices);
}

inline void quantise_uniform(const float* weights, int64_t n, float inverse_step, int32_t* indices, bool portable) {
  (!portable && has_avx2() ? round_all_avx2 : round_all)(weights, n, inverse_step, indices);
}

// The search has two survivors, ending in a zero and in a nonzero index: only that class of the last index matters to
// the next one. Candidates are zero, the rounded index and the one below it; which of the latter two is better depends
// on neither survivor. A weight leaves one byte: where each survivor came from, and which nonzero candidate it was.
class UniformSearch {
 public:
  explicit UniformSearch(const QuantiserInput& input) : input_(input), layout_(input.layout) {
    choices_.reset(new (std::nothrow) uint8_t[static_cast<size_t>(layout_.n_rows * layout_.n_columns) + 1]);
    model_.reset(new (std::nothrow) RateModel{});
  }

  bool is_ready() const { return choices_ && model_; }

  // Requires is_ready().
  void run(int32_t* indices) {
    seed_model();
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      classes_[1] = 0;
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        for (int64_t i = 0; i < segment.n && !is_skipped(segment.row); ++i) advance(input_.weights[segment.begin + i]);
        return true;
      });
    }
    trace_back();
    int64_t at = 0;
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        const bool skipped = is_skipped(segment.row);
        for (int64_t i = segment.begin; i < segment.begin + segment.n; ++i) {
          const bool nonzero = !skipped && choices_[static_cast<size_t>(at++)] & kIsNonzero;
          indices[i] = nonzero ? candidate(input_.weights[i], choices_[static_cast<size_t>(at - 1)] & kBelow) : 0;
        }
        return true;
      });
    }
  }

 private:
  enum : uint8_t { kZeroFromNonzero = 1, kNonzeroFromNonzero = 2, kBelow = 4, kIsNonzero = 8 };

  bool is_skipped(int64_t row) const { return input_.zero_rows && input_.zero_rows[row]; }
  float inverse_step() const { return static_cast<float>(input_.inverse_step); }

  // The nonzero candidates: the rounded index and the one below, both at least 1 in size.
  int32_t candidate(float weight, bool below) const {
    const int64_t rounded = std::abs(int64_t{round_half_away(weight, inverse_step())});
    const auto size = static_cast<int32_t>(std::max<int64_t>(1, rounded - below));
    return weight < 0 ? -size : size;
  }

  void advance(float weight) {
    const float x = std::fabs(weight * inverse_step());
    const bool negative = weight < 0;
    float cost[2];
    for (int below = 0; below < 2; ++below) {
      const int32_t size = std::abs(candidate(weight, below));
      const float miss = x - static_cast<float>(size);
      cost[below] = miss * miss + model_->size_cost(negative, size);
    }
    const bool below = cost[1] < cost[0];
    float zero[2], nonzero[2];
    for (int from = 0; from < 2; ++from) {
      zero[from] = cost_[from] + model_->zero[classes_[from]][0] + x * x;
      nonzero[from] = cost_[from] + model_->nonzero[negative][classes_[from]][0] + cost[below];
    }
    const int zero_from = zero[1] < zero[0], nonzero_from = nonzero[1] < nonzero[0];
    choices_[static_cast<size_t>(at_++)] =
        static_cast<uint8_t>(zero_from * kZeroFromNonzero | nonzero_from * kNonzeroFromNonzero | below * kBelow);
    const float least = std::min(zero[zero_from], nonzero[nonzero_from]);
    cost_[0] = zero[zero_from] - least;
    cost_[1] = nonzero[nonzero_from] - least;
    classes_[1] = negative ? 1 : 2;
    recent_[n_recent_++] = candidate(weight, below);
    if (n_recent_ == kModelBlock) update_model();
  }

  int best() const { return cost_[1] < cost_[0]; }

  static int step_back(int nonzero, uint8_t choice) {
    return (choice & (nonzero ? kNonzeroFromNonzero : kZeroFromNonzero)) != 0;
  }

  void update_model() {
    int nonzero = best();
    for (int i = n_recent_ - 1; i >= 0; --i) {
      if (!nonzero) recent_[i] = 0;
      nonzero = step_back(nonzero, choices_[static_cast<size_t>(at_ - n_recent_ + i)]);
    }
    model_->fade();
    for (int i = 0, neighbour = 0; i < n_recent_; ++i) {
      model_->count(0, neighbour, recent_[i], 1);
      neighbour = sign_class(recent_[i]);
    }
    model_->make_tables();
    n_recent_ = 0;
  }

  void seed_model() {
    model_->unary_length = layout_.unary_length;
    model_->bit_weight = input_.bit_weight;
    const int64_t n = std::min<int64_t>(kModelBlock, layout_.n_rows * layout_.n_columns);
    for (int64_t i = 0, neighbour = 0; i < n; ++i) {
      const int32_t k = round_half_away(input_.weights[i], inverse_step());
      model_->count(0, static_cast<int>(neighbour), k, kSeedWeight);
      neighbour = sign_class(k);
    }
    model_->make_tables();
  }

  void trace_back() {
    int nonzero = best();
    for (int64_t at = at_ - 1; at >= 0; --at) {
      uint8_t& choice = choices_[static_cast<size_t>(at)];
      const uint8_t mark = nonzero ? kIsNonzero : 0;
      nonzero = step_back(nonzero, choice);
      choice |= mark;
    }
  }

  const QuantiserInput& input_;
  const TensorLayout& layout_;
  std::unique_ptr<uint8_t[]> choices_;  // of the weights in coding order, skipped rows left out
  std::unique_ptr<RateModel> model_;
  float cost_[2] = {0, 1e30f};
  int classes_[2] = {0, 0};  // of the last index of each survivor
  int64_t at_ = 0;
  int n_recent_ = 0;
  int32_t recent_[kModelBlock];
};

// Indices of the whole tensor, with a rate term.
inline Status quantise_uniform_with_rate(const QuantiserInput& input, int32_t* indices) {
  const std::unique_ptr<UniformSearch> search(new (std::nothrow) UniformSearch(input));
  if (!search || !search->is_ready()) return Status::out_of_memory;
  search->run(indices);
  return Status::ok;
}

}  // namespace nnr
