// One coded index in bins, for the encoder and for whoever wants to see the same bins without encoding them.
//
// A Sink has  bin(context, bin),  bypass(bins, n_bins),  and remainder(layout, rest, limit), which calls code_remainder.
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

}  // namespace nnr
