// Dependent quantisation of a tensor: the search forward in coding order, the trace back, the indices.
#pragma once

#include <memory>
#include <new>

#include "status.hpp"
#include "trellis.hpp"

namespace nnr {

constexpr int kModelBlock = 2048;       // weights that an update of the rate model counts
constexpr int64_t kModelStart = 16384;  // up to here all weights are counted, then
constexpr int64_t kModelPause = 6144;   // this many are left out between two blocks
constexpr float kSeedWeight = 0.1f;

struct QuantiserInput {
  const TensorLayout& layout;
  const float* weights;
  double inverse_step;
  float bit_weight;          // squared steps that a bit is worth; 0: distortion only
  const uint8_t* zero_rows;  // null, or n_rows: rows to be coded as skipped
};

// The last weights of the search, with all that it takes to tell their indices.
struct RecentWeights {
  int n = 0;
  int32_t first[kModelBlock];
  uint8_t negative[kModelBlock];
  uint8_t n_skips[kModelBlock];  // skipped segments before the weight, modulo 4 (their effect has that period)
  int32_t k[kModelBlock];
  uint8_t state[kModelBlock];
};

inline int state_before_skip(const TensorLayout& layout, int state) {
  for (int i = 0; i < 3; ++i) state = layout.state_after_skip(state);  // three steps on are one back
  return state;
}

// The loops over weights, once portable and once for AVX2.
struct SearchKernels {
  void (*by_distortion)(TrellisState&, PieceCosts&, const float* weights, int64_t n, double inverse_step,
                        uint8_t* branches);
  void (*by_cost)(TrellisState&, PieceCosts&, const RateModel&, const float* weights, int64_t n, double inverse_step,
                  uint8_t* branches, uint8_t* zeros);
  void (*write)(const float* weights, const uint8_t* classes, int64_t n, double inverse_step, bool has_rate,
                int32_t* out);
};

inline void search_by_distortion(TrellisState& state, PieceCosts& costs, const float* weights, int64_t n,
                                 double inverse_step, uint8_t* branches) {
  measure(weights, n, inverse_step, costs);
  advance(state, costs, n, branches);
}

inline void search_by_cost(TrellisState& state, PieceCosts& costs, const RateModel& model, const float* weights,
                           int64_t n, double inverse_step, uint8_t* branches, uint8_t* zeros) {
  measure_with_rate(weights, n, inverse_step, model, costs);
  advance_with_rate(state, costs, model, n, branches, zeros);
}

inline void write_indices_portable(const float* weights, const uint8_t* classes, int64_t n, double inverse_step,
                                   bool has_rate, int32_t* out) {
  write_indices(weights, classes, n, inverse_step, has_rate, out);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void search_by_distortion_avx2(TrellisState& state, PieceCosts& costs, const float* weights,
                                                      int64_t n, double inverse_step, uint8_t* branches) {
  measure(weights, n, inverse_step, costs);
  advance_avx2(state, costs, n, branches);
}

NNR_TARGET_AVX2 inline void search_by_cost_avx2(TrellisState& state, PieceCosts& costs, const RateModel& model,
                                                const float* weights, int64_t n, double inverse_step, uint8_t* branches,
                                                uint8_t* zeros) {
  measure_with_rate(weights, n, inverse_step, model, costs);
  advance_with_rate_avx2(state, costs, model, n, branches, zeros);
}

NNR_TARGET_AVX2 inline void write_indices_avx2(const float* weights, const uint8_t* classes, int64_t n,
                                               double inverse_step, bool has_rate, int32_t* out) {
  write_indices(weights, classes, n, inverse_step, has_rate, out);
}
#endif

inline SearchKernels search_kernels(bool portable) {
#if NNR_X86
  if (!portable && has_avx2()) return {search_by_distortion_avx2, search_by_cost_avx2, write_indices_avx2};
#endif
  (void)portable;
  return {search_by_distortion, search_by_cost, write_indices_portable};
}

class DependentSearch {
 public:
  DependentSearch(const QuantiserInput& input, bool portable)
      : input_(input), layout_(input.layout), kernels_(search_kernels(portable)) {
    const auto n = static_cast<size_t>(layout_.n_rows * layout_.n_columns);
    int64_t n_skipped = 0;
    for (int64_t row = 0; input.zero_rows && row < layout_.n_rows; ++row) n_skipped += input.zero_rows[row] != 0;
    const int64_t n_blocks = (layout_.n_columns + layout_.side() - 1) / layout_.side();
    branches_.reset(new (std::nothrow) uint8_t[n + 1]);
    skips_.reset(new (std::nothrow) int64_t[static_cast<size_t>(n_skipped * n_blocks + 1)]);
    if (has_rate()) {
      zeros_.reset(new (std::nothrow) uint8_t[n + 1]);
      recent_.reset(new (std::nothrow) RecentWeights);
      model_.reset(new (std::nothrow) RateModel{});
    }
  }

  bool is_ready() const { return branches_ && skips_ && (!has_rate() || (zeros_ && recent_ && model_)); }
  bool has_rate() const { return input_.bit_weight > 0; }

  // Requires is_ready().
  void run(int32_t* indices) {
    state_.start();
    if (has_rate()) seed_model();
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      state_.forget_neighbours();
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        if (is_skipped(segment.row)) return skip();
        for (int64_t i = 0; i < segment.n; i += kPiece) {
          search_piece(input_.weights + segment.begin + i, std::min<int64_t>(kPiece, segment.n - i));
        }
        return true;
      });
    }
    has_rate() ? trace_back<true>() : trace_back<false>();
    int64_t at = 0;
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        int32_t* out = indices + segment.begin;
        if (is_skipped(segment.row)) {
          std::memset(out, 0, static_cast<size_t>(segment.n) * sizeof *out);
          return true;
        }
        kernels_.write(input_.weights + segment.begin, branches_.get() + at, segment.n, input_.inverse_step, has_rate(),
                       out);
        at += segment.n;
        return true;
      });
    }
  }

 private:
  bool is_skipped(int64_t row) const { return input_.zero_rows && input_.zero_rows[row]; }

  bool skip() {
    state_.skip(layout_);
    skips_[static_cast<size_t>(n_skips_++)] = at_;
    n_skips_before_ = (n_skips_before_ + 1) & 3;
    return true;
  }

  void search_piece(const float* weights, int64_t n) {
    uint8_t* branches = branches_.get() + at_;
    if (has_rate()) {
      if (recent_->n + n > kModelBlock) update_model();
      kernels_.by_cost(state_, costs_, *model_, weights, n, input_.inverse_step, branches, zeros_.get() + at_);
      remember(n);
    } else {
      kernels_.by_distortion(state_, costs_, weights, n, input_.inverse_step, branches);
    }
    state_.normalise();
    at_ += n;
  }

  void remember(int64_t n) {
    RecentWeights& recent = *recent_;
    if (at_ < next_count_) return;
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
  void update_model() {
    RecentWeights& recent = *recent_;
    int state = state_.best();
    for (int i = 0; i < n_skips_before_; ++i) state = state_before_skip(layout_, state);
    for (int i = recent.n - 1; i >= 0; --i) {
      const int64_t at = at_ - recent.n + i;
      const int cls = trace_step<true>(state, branches_[static_cast<size_t>(at)], zeros_[static_cast<size_t>(at)]);
      const int32_t level = cls == kZeroClass ? 0 : recent.first[i] + ((cls - recent.first[i]) & 3);
      recent.k[i] = recent.negative[i] ? -((level + 1) >> 1) : (level + 1) >> 1;
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

  // The tables of the first block come from rounded weights, for all states alike.
  void seed_model() {
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

  // Leaves the class of each weight's level in place of its branches.
  template <bool kHasZeros>
  void trace_back() {
    int state = state_.best();
    int64_t at = at_;
    uint8_t* branches = branches_.get();
    const uint8_t* zeros = zeros_.get();
    for (int64_t skip = n_skips_; skip >= 0; --skip) {
      const int64_t begin = skip > 0 ? skips_[static_cast<size_t>(skip - 1)] : 0;
      while (at > begin) {
        --at;
        branches[at] = trace_step<kHasZeros>(state, branches[at], kHasZeros ? zeros[at] : 0);
      }
      state = state_before_skip(layout_, state);
    }
  }

  const QuantiserInput& input_;
  const TensorLayout& layout_;
  const SearchKernels kernels_;
  TrellisState state_;
  PieceCosts costs_;
  std::unique_ptr<uint8_t[]> branches_, zeros_;  // of the weights in coding order, skipped rows left out
  std::unique_ptr<int64_t[]> skips_;             // before which weight a segment was skipped
  std::unique_ptr<RecentWeights> recent_;
  std::unique_ptr<RateModel> model_;
  int64_t at_ = 0, n_skips_ = 0, next_count_ = 0;
  int n_skips_before_ = 0;
};

// Indices of the whole tensor. Requires finite weights; larger ones than 2^30 steps are clipped to that.
inline Status quantise_dependent(const QuantiserInput& input, int32_t* indices, bool portable) {
  const std::unique_ptr<DependentSearch> search(new (std::nothrow) DependentSearch(input, portable));
  if (!search || !search->is_ready()) return Status::out_of_memory;
  search->run(indices);
  return Status::ok;
}

}  // namespace nnr
