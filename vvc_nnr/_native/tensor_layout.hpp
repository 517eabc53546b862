// What is known about a tensor before its bins: dimensions, tools, numbering of the contexts, order of the values.
#pragma once

#include <algorithm>
#include <cstdint>

#include "estimator.hpp"

namespace nnr {

// Context numbers. Those from the greater flags on depend on the unary length U.
constexpr int kSignificance = 0;           // 3 * state + neighbour class
constexpr int kSignificanceTemporal = 24;  // 2 * state + (abs(base) > 1)
constexpr int kSignificanceHistory = 40;   // state
constexpr int kSign = 48;                  // neighbour class
constexpr int kSignTemporal = 51;          // base > 0
constexpr int kGreater = 53;               // 2 * j + (negative); with a base: 2 * U + 2 * j + (abs(base) < j)
constexpr int kRemainderContexts = 31;
constexpr int kMaxUnaryLength = 256;
constexpr int kMaxContexts = kGreater + 4 * kMaxUnaryLength + 37;

constexpr int kDqStates = 8;
constexpr uint8_t kNextState[kDqStates][2] = {{0, 2}, {7, 5}, {1, 3}, {6, 4}, {2, 0}, {5, 7}, {3, 1}, {4, 6}};
constexpr uint8_t kUniformNextState[kDqStates][2] = {};

// Eight indices at once, by the state before them and their parities, that of the first in the lowest bit.
struct StateSteps {
  uint8_t after[kDqStates][256] = {};
  uint8_t is_odd[kDqStates][256] = {};  // a bit per index: its state is odd
};

constexpr StateSteps make_state_steps() {
  StateSteps steps;
  for (int start = 0; start < kDqStates; ++start) {
    for (int parities = 0; parities < 256; ++parities) {
      int state = start, is_odd = 0;
      for (int i = 0; i < 8; ++i) {
        is_odd |= (state & 1) << i;
        state = kNextState[state][parities >> i & 1];
      }
      steps.after[start][parities] = static_cast<uint8_t>(state);
      steps.is_odd[start][parities] = static_cast<uint8_t>(is_odd);
    }
  }
  return steps;
}

inline constexpr StateSteps kStateSteps = make_state_steps();

NNR_INLINE unsigned parities_of_eight(const int32_t* indices) {
  unsigned found = 0;
  for (int i = 0; i < 8; ++i) found |= (static_cast<unsigned>(indices[i]) & 1) << i;
  return found;
}

// The state after n indices.
NNR_INLINE int state_after(int state, const int32_t* indices, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) state = kStateSteps.after[state][parities_of_eight(indices + i)];
  for (; i < n; ++i) state = kNextState[state][indices[i] & 1];
  return state;
}

// Class of a neighbour or of a coded value: 0 zero, 1 negative, 2 positive.
NNR_INLINE int sign_class(int32_t k) { return k == 0 ? 0 : k < 0 ? 1 : 2; }

NNR_INLINE uint32_t magnitude(int32_t k) { return k < 0 ? 0u - static_cast<uint32_t>(k) : static_cast<uint32_t>(k); }

// The integer that multiplies the step. Requires abs(k) < 2^30 if dependent.
template <bool kDependent>
NNR_INLINE int32_t level_of(int32_t k, int state) {
  if (!kDependent) return k;
  return 2 * k - (state & 1 ? (k > 0) - (k < 0) : 0);
}

struct TensorLayout {
  int64_t n_rows = 1;
  int64_t n_columns = 1;
  int unary_length = 10;
  int block_side = 0;  // 0: row by row
  bool dependent = false;
  bool row_skip_allowed = true;
  bool parent_present = false;
  bool has_codebook = false;
  uint32_t max_negative = UINT32_MAX;  // largest magnitude on each side of zero
  uint32_t max_positive = UINT32_MAX;
  const int32_t* base = nullptr;     // temporal contexts
  const uint8_t* history = nullptr;  // the map; whether it is used, the prologue says
  bool use_history = false;

  bool is_matrix() const { return n_rows > 1 && n_columns > 1; }
  bool is_coded() const { return !has_codebook || max_negative > 0 || max_positive > 0; }
  bool has_row_skip_flag() const { return row_skip_allowed && is_matrix() && is_coded(); }
  bool is_plain() const { return !base && !use_history && !has_codebook; }
  int remainder() const { return kGreater + 4 * unary_length; }
  int set_flag() const { return remainder() + 34; }
  int row_skip() const { return remainder() + 36; }
  int n_contexts() const { return row_skip() + 1; }
  uint32_t max_magnitude(bool negative) const { return negative ? max_negative : max_positive; }

  // Block rows; one that holds the whole tensor without a block scan.
  int64_t side() const { return block_side && is_matrix() ? block_side : std::max(n_rows, n_columns); }
  int64_t n_block_rows() const { return (n_rows + side() - 1) / side(); }

  // DQ state after a segment of a skipped row: as many even indices as the whole row has.
  int state_after_skip(int state) const {
    for (int64_t i = 0; dependent && i < (n_columns & 3); ++i) state = kNextState[state][0];
    return state;
  }
};

static_assert(kNextState[kNextState[kNextState[kNextState[1][0]][0]][0]][0] == 1, "even steps have period 4");

struct Segment {
  int64_t row;
  int64_t begin;  // place of the first value in the tensor
  int64_t n;
};

// Calls visit(segment) for the row segments of a block row in coding order until it returns false.
template <class Visit>
NNR_INLINE bool for_each_segment(const TensorLayout& layout, int64_t block_row, Visit&& visit) {
  const int64_t side = layout.side();
  const int64_t top = block_row * side, bottom = std::min(top + side, layout.n_rows);
  for (int64_t left = 0; left < layout.n_columns; left += side) {
    const int64_t n = std::min(side, layout.n_columns - left);
    for (int64_t row = top; row < bottom; ++row) {
      if (!visit(Segment{row, row * layout.n_columns + left, n})) return false;
    }
  }
  return true;
}

// Calls visit(context) for the contexts whose estimator set is in the prologue, in its order.
template <class Visit>
void for_each_signalled_context(const TensorLayout& layout, Visit&& visit) {
  const auto range = [&visit](int first, int n) {
    for (int i = 0; i < n; ++i) visit(first + i);
  };
  const int states = layout.dependent ? kDqStates : 1;
  const bool temporal = layout.base != nullptr;
  const int64_t limit = std::max(layout.max_negative, layout.max_positive);
  const int unary = layout.unary_length;
  if (layout.is_coded()) {
    range(kSignificance, 3 * states);
    if (temporal) range(kSignificanceTemporal, 2 * states);
    if (layout.use_history) range(kSignificanceHistory, states);
    if (layout.max_negative > 0 && layout.max_positive > 0) range(kSign, temporal ? 5 : 3);
  }
  range(kGreater, static_cast<int>(std::min<int64_t>(2 * unary, 2 * limit)));
  if (temporal) range(kGreater + 2 * unary, static_cast<int>(std::clamp<int64_t>(2 * (limit - 1), 0, 2 * unary)));
  for (int i = 0; i < kRemainderContexts; ++i) {
    if (!layout.has_codebook || unary - 1 + ((int64_t{2} << i) - 1) < limit) visit(layout.remainder() + i);
  }
}

}  // namespace nnr
