// Passes over whole rows: which are empty, which are small, what their levels are, and what those miss.
#pragma once

#include "tensor_layout.hpp"

namespace nnr {

// Marks the rows of nothing but zeros; how many there are.
inline int64_t find_empty_rows(const int32_t* indices, int64_t n_rows, int64_t n_columns, uint8_t* rows) {
  int64_t n_found = 0;
  for (int64_t row = 0; row < n_rows; ++row) {
    const int32_t* at = indices + row * n_columns;
    rows[row] = std::all_of(at, at + n_columns, [](int32_t k) { return k == 0; });
    n_found += rows[row];
  }
  return n_found;
}

// Marks the rows of nothing larger than `limit`; how many there are.
inline int64_t find_small_rows(const float* weights, int64_t n_rows, int64_t n_columns, float limit, uint8_t* rows) {
  int64_t n_found = 0;
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* at = weights + row * n_columns;
    rows[row] = std::all_of(at, at + n_columns, [limit](float w) { return -limit <= w && w <= limit; });
    n_found += rows[row];
  }
  return n_found;
}

// What multiplies the step, from the indices of a dependently quantised tensor.
inline void indices_to_levels(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows,
                              int32_t* levels) {
  int state = 0;
  for (int64_t block_row = 0; block_row < layout.n_block_rows(); ++block_row) {
    for_each_segment(layout, block_row, [&](const Segment& segment) {
      const bool skipped = skipped_rows && skipped_rows[segment.row];
      if (skipped) state = layout.state_after_skip(state);
      for (int64_t i = segment.begin; i < segment.begin + segment.n; ++i) {
        levels[i] = skipped ? 0 : level_of<true>(indices[i], state);
        if (!skipped) state = kNextState[state][indices[i] & 1];
      }
      return true;
    });
  }
}

// kNextState in one number, four bits each: a shift is sooner done than a look-up, and each state waits for the last.
constexpr uint64_t packed_next_states() {
  uint64_t packed = 0;
  for (int at = 0; at < 16; ++at) packed |= static_cast<uint64_t>(2 * kNextState[at / 2][at % 2]) << (4 * at);
  return packed;
}

constexpr int kErrorPiece = 256, kErrorLanes = 8;

// Sum of squares, in squared steps, of weight less level times step. Lanes give the same sum by every instruction set.
inline double sum_squared_errors(const float* weights, const int32_t* levels, int64_t n, float step) {
  const float inverse_step = 1 / step;
  float sums[kErrorLanes] = {};
  const auto squared = [&](int64_t i) {
    const float error = (weights[i] - static_cast<float>(levels[i]) * step) * inverse_step;
    return error * error;
  };
  int64_t i = 0;
  for (; i + kErrorLanes <= n; i += kErrorLanes) {
    for (int lane = 0; lane < kErrorLanes; ++lane) sums[lane] += squared(i + lane);
  }
  for (; i < n; ++i) sums[0] += squared(i);
  double total = 0;
  for (const float sum : sums) total += static_cast<double>(sum);
  return total;
}

// The sum of squared errors of each row that indices leave, in squared steps; n_rows entries.
template <bool kDependent>
void sum_row_errors(const TensorLayout& layout, const float* weights, const int32_t* indices,
                    const uint8_t* skipped_rows, float step, double* sums) {
  constexpr uint64_t kPacked = packed_next_states();
  int32_t levels[kErrorPiece];
  int state = 0;
  std::fill(sums, sums + layout.n_rows, 0.0);
  for (int64_t block_row = 0; block_row < layout.n_block_rows(); ++block_row) {
    for_each_segment(layout, block_row, [&](const Segment& segment) {
      const bool skipped = skipped_rows && skipped_rows[segment.row];
      if (skipped) state = layout.state_after_skip(state);
      for (int64_t at = 0; at < segment.n; at += kErrorPiece) {
        const int64_t n = std::min<int64_t>(kErrorPiece, segment.n - at), begin = segment.begin + at;
        if (skipped) std::fill(levels, levels + n, 0);
        uint64_t twice = 2 * static_cast<uint64_t>(state);
        for (int64_t i = 0; i < n && !skipped; ++i) {
          const int32_t k = indices[begin + i];
          levels[i] = level_of<kDependent>(k, static_cast<int>(twice >> 1));
          if (kDependent) twice = kPacked >> (4 * (twice | (k & 1))) & 15;
        }
        state = static_cast<int>(twice >> 1);
        sums[segment.row] += sum_squared_errors(weights + begin, levels, n, step);
      }
      return true;
    });
  }
}

}  // namespace nnr
