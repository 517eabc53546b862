// What the quantisers are given.
#pragma once

#include "tensor_layout.hpp"

namespace nnr {

// What sums of errors are worth beside squared errors, in a search without a rate term.
struct ErrorSums {
  int64_t n_taps;  // values of a kernel; rows are made of whole ones
  float kernel;    // weight of the squared sum over a kernel
  float row;       // and of that over a row, or what a block scan has of it in a block
};

struct QuantiserInput {
  const TensorLayout& layout;
  const float* weights;
  double inverse_step;
  float bit_weight;          // squared steps that a bit is worth; 0: distortion only
  const uint8_t* zero_rows;  // null, or n_rows: rows to be coded as skipped
  const uint8_t* sets;       // null, or n_contexts: each path of the trellis carries contexts of these estimator sets
  const ErrorSums* error_sums = nullptr;  // null: sums do not count
};

}  // namespace nnr
