// One coded index in bins, for the encoder and for whoever wants to see the same bins without encoding them.
//
// A Sink has  bin(context, bin),  bypass(bins, n_bins),  reserve(n_bins), which makes room and says whether it could,
// and remainder(layout, rest, limit), which calls code_remainder out of line.
#pragma once

#include "tensor_layout.hpp"

namespace nnr {

struct Surroundings {
  int state;      // of the trellis; 0 without dependent quantisation
  int neighbour;  // sign class of the index coded before
  int32_t base;   // co-located level of the base, 0 without temporal contexts
  bool history;   // history mode is on and the map is set here
};

// kPlain: no base, no history, no codebook.
template <bool kPlain>
NNR_INLINE int significance_context(const Surroundings& at) {
  if (!kPlain && at.history) return kSignificanceHistory + at.state;
  if (!kPlain && at.base != 0) return kSignificanceTemporal + 2 * at.state + (magnitude(at.base) > 1);
  return kSignificance + 3 * at.state + at.neighbour;
}

template <bool kPlain>
NNR_INLINE int sign_context(const Surroundings& at) {
  if (!kPlain && at.base != 0) return kSignTemporal + (at.base > 0);
  return kSign + at.neighbour;
}

template <bool kPlain>
NNR_INLINE int greater_context(const Surroundings& at, int unary_length, int j, unsigned negative) {
  if (!kPlain && at.base != 0) {
    return kGreater + 2 * unary_length + 2 * j + (magnitude(at.base) < static_cast<uint32_t>(j));
  }
  return kGreater + 2 * j + static_cast<int>(negative);
}

template <class Sink>
void code_remainder(Sink& sink, const TensorLayout& layout, uint64_t rest, uint64_t limit) {
  const uint64_t first = static_cast<uint64_t>(layout.unary_length) + 1;
  uint64_t begin = 0;
  int p = 0;
  for (; p < kRemainderContexts && first + begin + (uint64_t{1} << p) <= limit; ++p) {
    const bool beyond = rest >= begin + (uint64_t{1} << p);
    sink.bin(layout.remainder() + p, beyond);
    if (!beyond) break;
    begin += uint64_t{1} << p;
  }
  sink.bypass(rest - begin, p);
}

// Requires that a codebook holds k.
template <bool kPlain, class Sink>
NNR_INLINE void code_value(Sink& sink, const TensorLayout& layout, const Surroundings& at, int32_t k) {
  if (kPlain || layout.is_coded()) sink.bin(significance_context<kPlain>(at), k != 0);
  if (k == 0) return;
  const bool negative = k < 0;
  if (kPlain || (layout.max_negative > 0 && layout.max_positive > 0)) sink.bin(sign_context<kPlain>(at), negative);
  const uint32_t limit = kPlain ? UINT32_MAX : layout.max_magnitude(negative);
  const uint32_t size = magnitude(k);
  const int unary = layout.unary_length;
  for (int j = 0; j < unary; ++j) {
    const uint32_t reached = static_cast<uint32_t>(j) + 1;
    if (!kPlain && reached >= limit) return;
    sink.bin(greater_context<kPlain>(at, unary, j, negative), size > reached);
    if (size <= reached) return;
  }
  sink.remainder(layout, size - static_cast<uint32_t>(unary) - 1, limit);
}

constexpr int64_t kRunLength = 256;

// All values of a block row; false if there is no room for them.
template <bool kPlain, class Sink>
NNR_INLINE bool code_block_row_as(Sink& sink, const TensorLayout& layout, const int32_t* indices, int64_t block_row,
                                  const uint8_t* skipped_rows, int& state) {
  const auto* next_state = layout.dependent ? kNextState : kUniformNextState;
  const int64_t max_bins = layout.unary_length + 2 + 2 * (kRemainderContexts + 1);
  Surroundings at{state, 0, 0, false};
  const bool done = for_each_segment(layout, block_row, [&](const Segment& segment) NNR_LAMBDA_INLINE {
    if (skipped_rows && skipped_rows[segment.row]) {
      at.state = layout.state_after_skip(at.state);
      return true;
    }
    const int64_t end = segment.begin + segment.n;
    for (int64_t i = segment.begin; i < end;) {
      const int64_t run_end = std::min(end, i + kRunLength);
      if (!sink.reserve((run_end - i) * max_bins)) return false;
      for (; i < run_end; ++i) {
        if (!kPlain) {
          at.base = layout.base ? layout.base[i] : 0;
          at.history = layout.use_history && layout.history[i];
        }
        code_value<kPlain>(sink, layout, at, indices[i]);
        at.neighbour = sign_class(indices[i]);
        at.state = next_state[at.state][indices[i] & 1];
      }
    }
    return true;
  });
  state = at.state;
  return done;
}

template <class Sink>
NNR_INLINE bool code_block_row(Sink& sink, const TensorLayout& layout, const int32_t* indices, int64_t block_row,
                               const uint8_t* skipped_rows, int& state) {
  return layout.is_plain() ? code_block_row_as<true>(sink, layout, indices, block_row, skipped_rows, state)
                           : code_block_row_as<false>(sink, layout, indices, block_row, skipped_rows, state);
}

}  // namespace nnr
