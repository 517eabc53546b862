// The trellis whose survivors carry their own contexts: one weight after another, readable. path_search_avx2.hpp is the
// same in vectors.
#pragma once

#include "path_contexts.hpp"

namespace nnr {

NNR_INLINE int bin_cost(const ContextRow& row, int s, bool bin) {
  return bin_costs().cost[bin][((row.fast[s] + row.slow[s]) >> 7) + 32];
}

NNR_INLINE int scaled_adaptation(int state, int factor, int sign) {
  return ((kAdaptation[static_cast<size_t>(16 + ((sign * state) >> 7))] >> 4) * factor) >> 4;
}

NNR_INLINE void update_context(ContextRow& row, const RateRow& rate, int s, int rate_of, bool bin) {
  const int sign = bin ? 1 : -1;
  const int fast = scaled_adaptation(row.fast[s], rate.fast[rate_of], sign) & ~15;
  const int slow = scaled_adaptation(row.slow[s], rate.slow[rate_of], sign);
  row.fast[s] = static_cast<int16_t>(row.fast[s] + sign * fast);
  row.slow[s] = static_cast<int16_t>(row.slow[s] + sign * slow);
}

// Cost of the magnitude alone.
inline int size_cost(const PathContexts& paths, int s, bool negative, int32_t size) {
  const ChainEnd end = chain_end(paths.unary_length, size);
  int cost = end.n_bypass << kCostBits;
  for (int place = 0; place <= end.place; ++place) {
    cost += bin_cost(paths.chain[place][paths.side_of(place, negative)], s, place < end.place);
  }
  return cost;
}

inline void update_size(PathContexts& paths, int s, bool negative, int32_t size) {
  const int last = chain_end(paths.unary_length, size).place;
  for (int place = 0; place <= last; ++place) {
    const int side = paths.side_of(place, negative);
    update_context(paths.chain[place][side], paths.chain_rate[place][side], s, s, place < last);
  }
  paths.n_open = std::max(paths.n_open, last + 1);
}

inline void advance_with_contexts(TrellisState& state, PathContexts& paths, const PieceCosts& costs, int64_t n,
                                  uint8_t* branches, uint8_t* zeros) {
  const float weight = paths.bin_weight;
  for (int64_t i = 0; i < n; ++i) {
    const bool negative = costs.negative[i];
    const Sizes sizes(costs.first[i]);
    float even[kDqStates], odd[kDqStates];
    int neighbour[kDqStates];
    unsigned is_zero = 0, taken = 0;
    for (int s = 0; s < kDqStates; ++s) {
      neighbour[s] = state.follows_negative[s] ? 1 : state.follows_positive[s] ? 2 : 0;
      const ContextRow& significant = paths.significant[neighbour[s]][s];
      const int base = bin_cost(significant, s, true) + bin_cost(paths.sign[neighbour[s]], s, negative);
      const int even_bits = base + size_cost(paths, s, negative, sizes.even[s & 1]);
      const int odd_bits = base + size_cost(paths, s, negative, sizes.odd[s & 1]);
      const float zero = costs.zero[i] + weight * static_cast<float>(bin_cost(significant, s, false));
      const float other = costs.even[i][s & 1] + weight * static_cast<float>(even_bits);
      is_zero |= static_cast<unsigned>(zero <= other) << s;
      even[s] = state.cost[s] + (zero < other ? zero : other);
      odd[s] = state.cost[s] + (costs.odd[i][s & 1] + weight * static_cast<float>(odd_bits));
    }
    uint8_t parent[kDqStates];
    for (int s = 0; s < kDqStates; ++s) {
      const float a = even[kEvenFrom[s]], b = odd[kOddFrom[s]];
      taken |= static_cast<unsigned>(b < a) << s;
      parent[s] = static_cast<uint8_t>(b < a ? kOddFrom[s] : kEvenFrom[s]);
      state.cost[s] = b < a ? b : a;
    }
    paths.permute(parent);
    for (int s = 0; s < kDqStates; ++s) {
      const int from = parent[s], before = neighbour[from];
      const bool is_odd = taken >> s & 1, nonzero = is_odd || !(is_zero >> from & 1);
      update_context(paths.significant[before][from], paths.significant_rate[before], s, from, nonzero);
      state.follows_negative[s] = nonzero && negative ? ~0u : 0;
      state.follows_positive[s] = nonzero && !negative ? ~0u : 0;
      if (!nonzero) continue;
      update_context(paths.sign[before], paths.sign_rate[before], s, s, negative);
      update_size(paths, s, negative, is_odd ? sizes.odd[from & 1] : sizes.even[from & 1]);
    }
    branches[i] = static_cast<uint8_t>(taken);
    zeros[i] = static_cast<uint8_t>(is_zero);
  }
}

}  // namespace nnr
