// Dependent quantisation of a tensor: the search forward in coding order, the trace back, the indices.
#pragma once

#include "error_sums.hpp"
#include "path_rate.hpp"
#include "shared_rate.hpp"
#include "status.hpp"

namespace nnr {

inline void search_by_distortion(TrellisState& state, PieceCosts& costs, const float* weights, int64_t n,
                                 double inverse_step, uint8_t* branches) {
  measure(weights, n, inverse_step, costs);
  advance(state, costs, n, branches);
}

inline void write_indices_portable(const float* weights, const uint8_t* classes, int64_t n, double inverse_step,
                                   bool has_rate, int32_t* out, float* squares) {
  write_indices(weights, classes, n, inverse_step, has_rate, out, squares);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void search_by_distortion_avx2(TrellisState& state, PieceCosts& costs, const float* weights,
                                                      int64_t n, double inverse_step, uint8_t* branches) {
  measure(weights, n, inverse_step, costs);
  advance_avx2(state, costs, n, branches);
}

NNR_TARGET_AVX2 inline void write_indices_avx2(const float* weights, const uint8_t* classes, int64_t n,
                                               double inverse_step, bool has_rate, int32_t* out, float* squares) {
  write_indices(weights, classes, n, inverse_step, has_rate, out, squares);
}
#endif

// No rate term.
class NoRate {
 public:
  static constexpr bool kHasRate = false;

  NoRate(const QuantiserInput& input, bool portable) : inverse_step_(input.inverse_step) {
#if NNR_X86
    if (!portable && has_avx2()) search_ = search_by_distortion_avx2;
#endif
    (void)portable;
  }

  bool is_ready() const { return true; }
  void start() {}
  void begin_block_row() {}
  void begin_segment(int64_t) {}
  void skip() {}
  void search(TrellisState& state, const float* weights, int64_t n, uint8_t* branches, uint8_t*) {
    search_(state, costs_, weights, n, inverse_step_, branches);
  }

 private:
  double inverse_step_;
  decltype(&search_by_distortion) search_ = search_by_distortion;
  PieceCosts costs_;
};

// In eight sums, which every instruction set adds in the same order.
NNR_INLINE double sum_in_lanes(const float* values, int64_t n) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += values[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) sums[lane] += values[i];
  double total = 0;
  for (const float sum : sums) total += static_cast<double>(sum);
  return total;
}

template <class Rate>
class DependentSearch {
 public:
  DependentSearch(const QuantiserInput& input, bool portable)
      : input_(input), layout_(input.layout), rate_(input, portable) {
#if NNR_X86
    if (!portable && has_avx2()) write_ = write_indices_avx2;
#endif
    const auto n = static_cast<size_t>(layout_.n_rows * layout_.n_columns);
    int64_t n_skipped = 0;
    for (int64_t row = 0; input.zero_rows && row < layout_.n_rows; ++row) n_skipped += input.zero_rows[row] != 0;
    const int64_t n_blocks = (layout_.n_columns + layout_.side() - 1) / layout_.side();
    branches_.reset(new (std::nothrow) uint8_t[n + 1]);
    skips_.reset(new (std::nothrow) int64_t[static_cast<size_t>(n_skipped * n_blocks + 1)]);
    zeros_.reset(new (std::nothrow) uint8_t[Rate::kHasRate ? n + 1 : 1]);
  }

  bool is_ready() const { return branches_ && skips_ && zeros_ && rate_.is_ready(); }

  // Requires is_ready(). Returns what the path costs in squared steps, by the rate's own count. `row_errors`, n_rows,
  // the sums of squared errors in squared steps, may be null.
  double run(int32_t* indices, double* row_errors) {
    state_.start();
    rate_.start();
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      state_.forget_neighbours();
      rate_.begin_block_row();
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        if (is_skipped(segment.row)) return skip();
        rate_.begin_segment(segment.begin % layout_.n_columns);
        for (int64_t i = 0; i < segment.n; i += kPiece) {
          search_piece(input_.weights + segment.begin + i, std::min<int64_t>(kPiece, segment.n - i));
        }
        return true;
      });
    }
    trace_back();
    write(indices, row_errors);
    return cost_;
  }

 private:
  bool is_skipped(int64_t row) const { return input_.zero_rows && input_.zero_rows[row]; }

  bool skip() {
    state_.skip(layout_);
    rate_.skip();
    skips_[static_cast<size_t>(n_skips_++)] = at_;
    return true;
  }

  void search_piece(const float* weights, int64_t n) {
    rate_.search(state_, weights, n, branches_.get() + at_, zeros_.get() + (Rate::kHasRate ? at_ : 0));
    cost_ += static_cast<double>(state_.normalise());
    at_ += n;
  }

  // Leaves the class of each weight's level in place of its branches.
  void trace_back() {
    int state = state_.best();
    int64_t at = at_;
    uint8_t* branches = branches_.get();
    const uint8_t* zeros = zeros_.get();
    for (int64_t skip = n_skips_; skip >= 0; --skip) {
      const int64_t begin = skip > 0 ? skips_[static_cast<size_t>(skip - 1)] : 0;
      while (at > begin) {
        --at;
        branches[at] = trace_step<Rate::kHasRate>(state, branches[at], Rate::kHasRate ? zeros[at] : 0);
      }
      state = state_before_skip(layout_, state);
    }
  }

  void write(int32_t* indices, double* row_errors) const {
    if (row_errors) std::fill(row_errors, row_errors + layout_.n_rows, 0.0);
    int64_t at = 0;
    for (int64_t block_row = 0; block_row < layout_.n_block_rows(); ++block_row) {
      for_each_segment(layout_, block_row, [&](const Segment& segment) {
        const bool skipped = is_skipped(segment.row);
        for (int64_t i = 0; i < segment.n; i += kPiece) {
          const int64_t n = std::min<int64_t>(kPiece, segment.n - i), begin = segment.begin + i;
          const double squared_error = skipped ? write_zeros(begin, n, indices) : write_piece(begin, n, at, indices);
          if (!skipped) at += n;
          if (row_errors) row_errors[segment.row] += squared_error;
        }
        return true;
      });
    }
  }

  double write_piece(int64_t begin, int64_t n, int64_t at, int32_t* indices) const {
    float squares[kPiece];
    const uint8_t* classes = branches_.get() + at;
    write_(input_.weights + begin, classes, n, input_.inverse_step, Rate::kHasRate, indices + begin, squares);
    return sum_in_lanes(squares, n);
  }

  double write_zeros(int64_t begin, int64_t n, int32_t* indices) const {
    float squares[kPiece];
    std::memset(indices + begin, 0, static_cast<size_t>(n) * sizeof *indices);
    for (int64_t i = 0; i < n; ++i) {
      squares[i] = Candidates(input_.weights[begin + i], input_.inverse_step).zero_distortion();
    }
    return sum_in_lanes(squares, n);
  }

  const QuantiserInput& input_;
  const TensorLayout& layout_;
  decltype(&write_indices_portable) write_ = write_indices_portable;
  TrellisState state_;
  Rate rate_;
  std::unique_ptr<uint8_t[]> branches_, zeros_;  // of the weights in coding order, skipped rows left out
  std::unique_ptr<int64_t[]> skips_;             // before which weight a segment was skipped
  int64_t at_ = 0, n_skips_ = 0;
  double cost_ = 0;
};

template <class Rate>
Status quantise_dependent_as(const QuantiserInput& input, int32_t* indices, double* row_errors, double& cost,
                             bool portable) {
  const std::unique_ptr<DependentSearch<Rate>> search(new (std::nothrow) DependentSearch<Rate>(input, portable));
  if (!search || !search->is_ready()) return Status::out_of_memory;
  cost = search->run(indices, row_errors);
  return Status::ok;
}

// Indices of the whole tensor, the squared errors of its rows unless that is null, and what they cost. Requires finite
// weights; larger ones than 2^30 steps are clipped to that; with sets, a plain layout.
inline Status quantise_dependent(const QuantiserInput& input, int32_t* indices, double* row_errors, double& cost,
                                 bool portable) {
  if (input.error_sums) return quantise_dependent_as<SummedErrors>(input, indices, row_errors, cost, portable);
  if (!(input.bit_weight > 0)) return quantise_dependent_as<NoRate>(input, indices, row_errors, cost, portable);
  if (input.sets) return quantise_dependent_as<PathRate>(input, indices, row_errors, cost, portable);
  return quantise_dependent_as<SharedRate>(input, indices, row_errors, cost, portable);
}

}  // namespace nnr
