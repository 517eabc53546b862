// The adaptive contexts of all eight survivors of the trellis, each as the coder will have them at the end of its path.
//
// The states of one context lie side by side: a row is the fast states of survivors 0..7 (times 16), then their slow
// ones. Once each survivor has chosen its parent, a row follows by one permutation, and what the last index moved is
// put in. Places of the chain that hardly any index reaches are equal in all survivors: from `n_open` on they are.
#pragma once

#include "context_costs.hpp"
#include "trellis.hpp"

namespace nnr {

struct alignas(32) ContextRow {
  int16_t fast[kDqStates];
  int16_t slow[kDqStates];

  bool is_uniform() const {
    for (int s = 1; s < kDqStates; ++s) {
      if (fast[s] != fast[0] || slow[s] != slow[0]) return false;
    }
    return true;
  }
};

// Factors 2^(12 - rate) of fast states and 2^(8 - rate) of slow ones: (x >> 4) * factor >> 4 is x >> rate for a slow
// state, and 16 times that, but for the lowest four bits, for a fast one.
using RateRow = ContextRow;

inline void set_context(ContextRow& state, RateRow& rate, int survivor, int set) {
  const EstimatorSet& from = kEstimatorSets[static_cast<size_t>(set)];
  state.fast[survivor] = static_cast<int16_t>(16 * from.fast);
  state.slow[survivor] = static_cast<int16_t>(from.slow);
  rate.fast[survivor] = static_cast<int16_t>(1 << (12 - from.fast_rate));
  rate.slow[survivor] = static_cast<int16_t>(1 << (8 - from.slow_rate));
}

inline void set_context(ContextRow& state, RateRow& rate, int set) {
  for (int s = 0; s < kDqStates; ++s) set_context(state, rate, s, set);
}

// The bins of a magnitude are a chain: 1 at each place before its last one, 0 there. Places from the unary length on
// are the prefix of the remainder, which is followed by bypass bins.
struct ChainEnd {
  int place;
  int n_bypass;
};

NNR_INLINE ChainEnd chain_end(int unary_length, int32_t size) {
  if (NNR_LIKELY(size <= unary_length)) return {size - 1, 0};
  const int prefix = 31 - leading_zeros(static_cast<uint32_t>(size - unary_length));
  return {unary_length + prefix, prefix};
}

constexpr int kMaxChain = kMaxUnaryLength + kRemainderContexts;

struct PathContexts {
  ContextRow significant[3][kDqStates];  // by neighbour and state
  ContextRow sign[3];                    // by neighbour
  ContextRow chain[kMaxChain][2];        // by place and sign; a prefix bin is [0] for both signs
  RateRow significant_rate[3];           // by neighbour, of survivor s in state s
  RateRow sign_rate[3];
  RateRow chain_rate[kMaxChain][2];
  int unary_length;
  int n_open;
  float bin_weight;  // squared steps that a cost of 1, 2^-kCostBits bits, is worth

  // All contexts as they are before the first bin of a tensor or block row.
  void start(const TensorLayout& layout, const uint8_t* sets) {
    unary_length = layout.unary_length, n_open = 1;
    RateRow spare;
    for (int neighbour = 0; neighbour < 3; ++neighbour) {
      for (int s = 0; s < kDqStates; ++s) {
        const int set = sets[kSignificance + 3 * s + neighbour];
        set_context(significant[neighbour][s], spare, set);
        significant_rate[neighbour].fast[s] = spare.fast[s], significant_rate[neighbour].slow[s] = spare.slow[s];
      }
      set_context(sign[neighbour], sign_rate[neighbour], sets[kSign + neighbour]);
    }
    for (int place = 0; place < unary_length; ++place) {
      for (int side = 0; side < 2; ++side) {
        set_context(chain[place][side], chain_rate[place][side], sets[kGreater + 2 * place + side]);
      }
    }
    for (int p = 0; p < kRemainderContexts; ++p) {
      const int place = unary_length + p, set = sets[layout.remainder() + p];
      for (int side = 0; side < 2; ++side) set_context(chain[place][side], chain_rate[place][side], set);
    }
  }

  NNR_INLINE int side_of(int place, bool negative) const { return negative && place < unary_length; }

  void close_uniform_places() {
    while (n_open > 1 && chain[n_open - 1][0].is_uniform() && chain[n_open - 1][1].is_uniform()) --n_open;
  }

  // Every survivor follows from the one that `parent` names.
  void permute(const uint8_t* parent) {
    for (auto& rows : significant) permute_rows(rows, kDqStates, parent);
    permute_rows(sign, 3, parent);
    permute_rows(&chain[0][0], 2 * n_open, parent);
  }

 private:
  static void permute_rows(ContextRow* rows, int n, const uint8_t* parent) {
    for (int i = 0; i < n; ++i) {
      const ContextRow from = rows[i];
      for (int s = 0; s < kDqStates; ++s) {
        rows[i].fast[s] = from.fast[parent[s]], rows[i].slow[s] = from.slow[parent[s]];
      }
    }
  }
};

// The two indices of one weight that a state may choose besides zero, by the parity of the state; adjacent magnitudes.
struct Sizes {
  int32_t even[2], odd[2];

  NNR_INLINE explicit Sizes(int32_t first) {
    for (int parity = 0; parity < 2; ++parity) {
      const int32_t smaller = (first + 1 + parity) >> 1;
      even[parity] = (smaller + 1) & ~1, odd[parity] = smaller | 1;
    }
  }
};

}  // namespace nnr
