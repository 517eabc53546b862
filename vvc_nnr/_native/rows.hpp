// Passes over whole rows: which are empty, which are small, what their levels are.
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

}  // namespace nnr
