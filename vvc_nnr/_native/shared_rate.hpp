// The rate term of the fast search: one model for all paths, which follows the path that is best.
#pragma once

#include <memory>
#include <new>

#include "quantiser_input.hpp"
#include "trellis.hpp"

namespace nnr {

constexpr int kModelBlock = 2048;       // weights that an update of the rate model counts
constexpr int64_t kModelStart = 16384;  // up to here all weights are counted, then
constexpr int64_t kModelPause = 6144;   // this many are left out between two blocks
constexpr float kSeedWeight = 0.1f;

// The last weights of the search, with all that it takes to tell their indices.
struct RecentWeights {
  int n = 0;
  int32_t first[kModelBlock];
  uint8_t negative[kModelBlock];
  uint8_t n_skips[kModelBlock];  // skipped segments before the weight, modulo 4 (their effect has that period)
  int32_t k[kModelBlock];
  uint8_t state[kModelBlock];
};

inline void search_by_cost(TrellisState& state, PieceCosts& costs, const RateModel& model, const float* weights,
                           int64_t n, double inverse_step, uint8_t* branches, uint8_t* zeros) {
  measure_with_rate(weights, n, inverse_step, model, costs);
  advance_with_rate(state, costs, model, n, branches, zeros);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void search_by_cost_avx2(TrellisState& state, PieceCosts& costs, const RateModel& model,
                                                const float* weights, int64_t n, double inverse_step, uint8_t* branches,
                                                uint8_t* zeros) {
  measure_with_rate(weights, n, inverse_step, model, costs);
  advance_with_rate_avx2(state, costs, model, n, branches, zeros);
}
#endif

class SharedRate {
 public:
  static constexpr bool kHasRate = true;

  SharedRate(const QuantiserInput& input, bool portable) : input_(input), layout_(input.layout) {
#if NNR_X86
    if (!portable && has_avx2()) search_ = search_by_cost_avx2;
#endif
    (void)portable;
    recent_.reset(new (std::nothrow) RecentWeights);
    model_.reset(new (std::nothrow) RateModel{});
  }

  bool is_ready() const { return recent_ && model_; }

  // The tables of the first block come from rounded weights, for all states alike.
  void start() {
    model_->unary_length = layout_.unary_length;
    model_->bit_weight = input_.bit_weight;
    const int64_t n = std::min<int64_t>(kModelBlock, layout_.n_rows * layout_.n_columns);
    int neighbour = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double half_steps = Candidates(input_.weights[i], input_.inverse_step).steps / 2;
      const auto size = static_cast<int32_t>(half_steps + 0.4);
      const int32_t k = input_.weights[i] < 0 ? -size : size;
      for (int state = 0; state < kDqStates; ++state) model_->count(state, neighbour, k, kSeedWeight);
      neighbour = sign_class(k);
    }
    model_->make_tables();
  }

  void begin_block_row() {}
  void begin_segment(int64_t) {}
  void skip() { n_skips_before_ = (n_skips_before_ + 1) & 3; }

  // One piece. What the search left of all weights before lies in front of `branches` and `zeros`.
  void search(TrellisState& state, const float* weights, int64_t n, uint8_t* branches, uint8_t* zeros) {
    if (recent_->n + n > kModelBlock) update_model(state, branches, zeros);
    search_(state, costs_, *model_, weights, n, input_.inverse_step, branches, zeros);
    if (at_ >= next_count_) remember(n);
    at_ += n;
  }

 private:
  void remember(int64_t n) {
    RecentWeights& recent = *recent_;
    for (int64_t i = 0; i < n; ++i) {
      recent.first[recent.n + i] = costs_.first[i];
      recent.negative[recent.n + i] = costs_.negative[i];
      recent.n_skips[recent.n + i] = 0;
    }
    recent.n_skips[recent.n] = static_cast<uint8_t>(n_skips_before_);
    n_skips_before_ = 0;
    recent.n += static_cast<int>(n);
  }

  // Counts the bins of the recent weights along the path that is best now.
  void update_model(const TrellisState& now, const uint8_t* branches, const uint8_t* zeros) {
    RecentWeights& recent = *recent_;
    int state = now.best();
    for (int i = 0; i < n_skips_before_; ++i) state = state_before_skip(layout_, state);
    for (int i = recent.n - 1; i >= 0; --i) {
      const int cls = trace_step<true>(state, branches[i - recent.n], zeros[i - recent.n]);
      const int32_t size = cls == kZeroClass ? 0 : Candidates::index(recent.first[i], cls);
      recent.k[i] = recent.negative[i] ? -size : size;
      recent.state[i] = static_cast<uint8_t>(state);
      for (int skip = 0; skip < recent.n_skips[i]; ++skip) state = state_before_skip(layout_, state);
    }
    model_->fade();
    for (int i = 0, neighbour = 0; i < recent.n; ++i) {
      model_->count(recent.state[i], neighbour, recent.k[i], 1);
      neighbour = sign_class(recent.k[i]);
    }
    model_->make_tables();
    recent.n = 0;
    next_count_ = at_ < kModelStart ? 0 : at_ + kModelPause;
  }

  const QuantiserInput& input_;
  const TensorLayout& layout_;
  decltype(&search_by_cost) search_ = search_by_cost;
  PieceCosts costs_;
  std::unique_ptr<RecentWeights> recent_;
  std::unique_ptr<RateModel> model_;
  int64_t at_ = 0, next_count_ = 0;
  int n_skips_before_ = 0;
};

}  // namespace nnr
