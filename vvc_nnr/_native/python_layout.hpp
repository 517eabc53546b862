// A layout that keeps the arrays alive that it points into, and checks that arrays fit it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "tensor_layout.hpp"

namespace nnr {

namespace py = pybind11;
template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Rows = std::optional<Array<uint8_t>>;

inline void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

struct Layout : TensorLayout {
  std::optional<Array<int32_t>> base_array;
  std::optional<Array<uint8_t>> history_array;

  int64_t n() const { return n_rows * n_columns; }

  template <class T>
  const T* values(const Array<T>& array) const {
    require(array.size() == n(), "array and layout differ in size");
    return array.data();
  }
  const uint8_t* rows(const Rows& array) const {
    require(!array || array->size() == n_rows, "one entry per row");
    return array ? array->data() : nullptr;
  }
  const uint8_t* sets(const Array<uint8_t>& array) const {
    require(array.size() == n_contexts(), "one entry per context");
    require(std::all_of(array.data(), array.data() + array.size(), [](uint8_t set) { return set < kSets; }), "a set");
    return array.data();
  }
};

inline Layout make_layout(int64_t n_rows, int64_t n_columns, int unary_length, int block_side, bool dependent,
                          bool row_skip_allowed, bool parent_present,
                          std::optional<std::pair<uint32_t, uint32_t>> codebook, std::optional<Array<int32_t>> base,
                          std::optional<Array<uint8_t>> history, bool use_history) {
  require(n_rows > 0 && n_columns > 0 && n_rows <= INT64_MAX / 64 / n_columns, "dimensions");
  require(unary_length > 0 && unary_length <= kMaxUnaryLength && block_side >= 0, "unary length or block side");
  Layout layout;
  layout.n_rows = n_rows, layout.n_columns = n_columns;
  layout.unary_length = unary_length, layout.block_side = block_side;
  layout.dependent = dependent, layout.row_skip_allowed = row_skip_allowed, layout.parent_present = parent_present;
  layout.has_codebook = codebook.has_value();
  if (codebook) std::tie(layout.max_negative, layout.max_positive) = *codebook;
  if (base) layout.base = layout.values(*base);
  if (history) layout.history = layout.values(*history);
  layout.use_history = use_history && layout.history;
  layout.base_array = std::move(base), layout.history_array = std::move(history);
  return layout;
}

}  // namespace nnr
