// The rounding kernel for Python.
#pragma once

#include "python_layout.hpp"
#include "rounding.hpp"

namespace nnr {

using RoundedTensor = std::tuple<int, Array<int32_t>, double>;  // status, indices, bits

inline RoundedTensor round_with_feedback(const Layout& layout, const Array<float>& weights,
                                         const Array<float>& column_feedback, const Array<float>& column_weight,
                                         const std::optional<Array<float>>& row_feedback,
                                         const Array<float>& row_weight, float inverse_step, float bit_weight,
                                         const Array<uint8_t>& sets, bool portable) {
  require(layout.is_plain() && layout.n_block_rows() == 1, "layout");
  const int64_t n_groups = column_weight.size() / layout.n_columns;
  require(n_groups > 0 && layout.n_rows % n_groups == 0, "groups");
  require(column_weight.size() == n_groups * layout.n_columns && row_weight.size() == layout.n_rows, "weights");
  const int64_t block = column_feedback.size() / column_weight.size();
  require(block > 0 && layout.n_columns % block == 0, "blocks");
  require(column_feedback.size() == column_weight.size() * block, "column feedback");
  require(!row_feedback || row_feedback->size() == layout.n_rows * layout.n_rows, "row feedback");
  const RoundingInput input{layout,
                            layout.values(weights),
                            n_groups,
                            block,
                            column_feedback.data(),
                            column_weight.data(),
                            row_feedback ? row_feedback->data() : nullptr,
                            row_weight.data(),
                            inverse_step,
                            bit_weight,
                            layout.sets(sets)};
  Array<int32_t> indices({layout.n_rows, layout.n_columns});
  int32_t* out = indices.mutable_data();
  double bits = 0;
  Status status = Status::out_of_memory;
  {
    py::gil_scoped_release release;
    const std::unique_ptr<Rounding> rounding(new (std::nothrow) Rounding(input, portable));
    if (rounding && rounding->is_ready()) bits = rounding->run(out), status = Status::ok;
  }
  return {static_cast<int>(status), indices, bits};
}

}  // namespace nnr
