// Passes over whole rows: which are empty, which are small, what their levels are, and what those miss.
#pragma once

#include <cmath>

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

// Sums of n_rows x n_columns numbers less a shift: all squares, rows, and columns, which get n_rows and n_columns numbers.
inline double sum_differences(const float* values, int64_t n_rows, int64_t n_columns, double shift, double* row_sums,
                              double* column_sums) {
  double squares = 0;
  std::fill(column_sums, column_sums + n_columns, 0.0);
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* at = values + row * n_columns;
    double row_sum = 0, row_squares = 0;
    for (int64_t i = 0; i < n_columns; ++i) {
      const double difference = at[i] - shift;
      row_sum += difference, row_squares += difference * difference;
      column_sums[i] += difference;
    }
    row_sums[row] = row_sum;
    squares += row_squares;
  }
  return squares;
}

// Whether the exponents of a sample of values, and of the largest one, leave a gap of more than so many octaves.
// `n_sample` places, spread evenly but not in step with rows; all if there are no more. Zeros and the like do not count.
inline bool has_exponent_gap(const float* values, int64_t n, int64_t n_sample, int gap_octaves) {
  bool is_present[256] = {};
  const auto note = [&](uint32_t bits) { is_present[bits >> 23 & 255] = true; };
  const auto bits_at = [values](int64_t i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    return bits;
  };
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, bits_at(i) & 0x7fffffffu);
  note(largest);
  if (n <= n_sample) {
    for (int64_t i = 0; i < n; ++i) note(bits_at(i));
  } else {
    for (int64_t i = 0; i < n_sample; ++i) note(bits_at((i * n + i * 40503 % n) / n_sample));
  }
  int last = 0;
  for (int exponent = 1; exponent < 256; ++exponent) {
    if (!is_present[exponent]) continue;
    if (last && exponent - last > gap_octaves) return true;
    last = exponent;
  }
  return false;
}

// The levels of n indices, and the state after them.
NNR_INLINE int levels_of_run(int state, const int32_t* indices, int64_t n, int32_t* levels) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const unsigned parities = parities_of_eight(indices + i), is_odd = kStateSteps.is_odd[state][parities];
    state = kStateSteps.after[state][parities];
    for (int j = 0; j < 8; ++j) levels[i + j] = level_of<true>(indices[i + j], static_cast<int>(is_odd >> j));
  }
  for (; i < n; ++i) {
    levels[i] = level_of<true>(indices[i], state);
    state = kNextState[state][indices[i] & 1];
  }
  return state;
}

// What multiplies the step, from the indices of a dependently quantised tensor.
inline void indices_to_levels(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows,
                              int32_t* levels) {
  int state = 0;
  for (int64_t block_row = 0; block_row < layout.n_block_rows(); ++block_row) {
    for_each_segment(layout, block_row, [&](const Segment& segment) {
      int32_t* out = levels + segment.begin;
      if (skipped_rows && skipped_rows[segment.row]) {
        std::fill(out, out + segment.n, 0);
        state = layout.state_after_skip(state);
      } else {
        state = levels_of_run(state, indices + segment.begin, segment.n, out);
      }
      return true;
    });
  }
}

constexpr int kErrorPiece = 256, kErrorLanes = 8;

// Sum of squares of each row, in float64; n_rows entries. Lanes give the same sums by every instruction set.
NNR_INLINE void sum_row_squares_as(const float* weights, int64_t n_rows, int64_t n_columns, double* sums) {
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* at = weights + row * n_columns;
    double lanes[kErrorLanes] = {};
    int64_t i = 0;
    for (; i + kErrorLanes <= n_columns; i += kErrorLanes) {
      for (int lane = 0; lane < kErrorLanes; ++lane) {
        lanes[lane] += static_cast<double>(at[i + lane]) * static_cast<double>(at[i + lane]);
      }
    }
    for (; i < n_columns; ++i) lanes[0] += static_cast<double>(at[i]) * static_cast<double>(at[i]);
    sums[row] = 0;
    for (const double sum : lanes) sums[row] += sum;
  }
}

NNR_TARGET_AVX2 inline void sum_row_squares_avx2(const float* weights, int64_t n_rows, int64_t n_columns,
                                                 double* sums) {
  sum_row_squares_as(weights, n_rows, n_columns, sums);
}

inline void sum_row_squares(const float* weights, int64_t n_rows, int64_t n_columns, double* sums) {
  has_avx2() ? sum_row_squares_avx2(weights, n_rows, n_columns, sums)
             : sum_row_squares_as(weights, n_rows, n_columns, sums);
}

// Sum of squares, in squared steps, of weight less level times step, of the weights below a limit. Lanes give the same sum
// by every instruction set.
NNR_INLINE double sum_squared_errors(const float* weights, const int32_t* levels, int64_t n, float step, float limit) {
  const float inverse_step = 1 / step;
  float sums[kErrorLanes] = {};
  const auto squared = [&](int64_t i) NNR_LAMBDA_INLINE {
    const float error = (weights[i] - static_cast<float>(levels[i]) * step) * inverse_step;
    return std::fabs(weights[i]) < limit ? error * error : 0.0f;
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

// The sum of squared errors of each row that indices leave, in squared steps, of weights below a limit; n_rows entries.
template <bool kDependent>
NNR_INLINE void sum_row_errors_as(const TensorLayout& layout, const float* weights, const int32_t* indices,
                    const uint8_t* skipped_rows, float step, float limit, double* sums) {
  int32_t levels[kErrorPiece];
  int state = 0;
  std::fill(sums, sums + layout.n_rows, 0.0);
  for (int64_t block_row = 0; block_row < layout.n_block_rows(); ++block_row) {
    for_each_segment(layout, block_row, [&](const Segment& segment) NNR_LAMBDA_INLINE {
      const bool skipped = skipped_rows && skipped_rows[segment.row];
      if (skipped) state = layout.state_after_skip(state);
      for (int64_t at = 0; at < segment.n; at += kErrorPiece) {
        const int64_t n = std::min<int64_t>(kErrorPiece, segment.n - at), begin = segment.begin + at;
        if (skipped) {
          std::fill(levels, levels + n, 0);
        } else if (kDependent) {
          state = levels_of_run(state, indices + begin, n, levels);
        } else {
          std::copy(indices + begin, indices + begin + n, levels);
        }
        sums[segment.row] += sum_squared_errors(weights + begin, levels, n, step, limit);
      }
      return true;
    });
  }
}

inline void sum_row_errors_portable(const TensorLayout& layout, const float* weights, const int32_t* indices,
                                    const uint8_t* skipped_rows, float step, float limit, double* sums) {
  layout.dependent ? sum_row_errors_as<true>(layout, weights, indices, skipped_rows, step, limit, sums)
                   : sum_row_errors_as<false>(layout, weights, indices, skipped_rows, step, limit, sums);
}

NNR_TARGET_AVX2 inline void sum_row_errors_avx2(const TensorLayout& layout, const float* weights,
                                                const int32_t* indices, const uint8_t* skipped_rows, float step,
                                                float limit, double* sums) {
  layout.dependent ? sum_row_errors_as<true>(layout, weights, indices, skipped_rows, step, limit, sums)
                   : sum_row_errors_as<false>(layout, weights, indices, skipped_rows, step, limit, sums);
}

inline void sum_row_errors(const TensorLayout& layout, const float* weights, const int32_t* indices,
                           const uint8_t* skipped_rows, float step, float limit, double* sums) {
  const auto sum = has_avx2() ? sum_row_errors_avx2 : sum_row_errors_portable;
  sum(layout, weights, indices, skipped_rows, step, limit, sums);
}

}  // namespace nnr
