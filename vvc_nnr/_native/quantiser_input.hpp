// What the quantisers are given.
#pragma once

#include "tensor_layout.hpp"

namespace nnr {

struct QuantiserInput {
  const TensorLayout& layout;
  const float* weights;
  double inverse_step;
  float bit_weight;          // squared steps that a bit is worth; 0: distortion only
  const uint8_t* zero_rows;  // null, or n_rows: rows to be coded as skipped
  const uint8_t* sets;       // null, or n_contexts: each path of the trellis carries contexts of these estimator sets
};

}  // namespace nnr
