// What an index will cost in bits where the coder stands: tables made from the very states of its contexts.
#pragma once

#include "estimator_lanes.hpp"
#include "value_coding.hpp"

namespace nnr {

constexpr int kTableSizes = 256;

NNR_INLINE float bits_of(const Context& context, bool bin) {
  return static_cast<float>(bin_costs().cost[bin][(context.total() >> 7) + 32]) * (1.0f / (1 << kCostBits));
}

// Takes the bins of a value: moves the contexts as the coder would.
struct ContextSink {
  Context* contexts;
  float bits = 0;

  NNR_INLINE void bin(int context, bool bin) {
    bits += bits_of(contexts[context], bin);
    contexts[context].update(-static_cast<int64_t>(bin));
  }
  NNR_INLINE void bypass(uint64_t, int n_bins) { bits += static_cast<float>(n_bins); }
  void remainder(const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    code_remainder(*this, layout, rest, limit);
  }
};

struct IndexCosts {
  float zero[3][kDqStates];           // by neighbour and state
  float nonzero[2][3][kDqStates];     // significance and sign, by sign too
  float size[2][kTableSizes];         // by sign and magnitude

  void make(const TensorLayout& layout, const Context* contexts) {
    const int n_states = layout.dependent ? kDqStates : 1;
    for (int neighbour = 0; neighbour < 3; ++neighbour) {
      for (int state = 0; state < kDqStates; ++state) {
        const Context& significant = contexts[kSignificance + 3 * (state % n_states) + neighbour];
        zero[neighbour][state] = bits_of(significant, false);
        for (int negative = 0; negative < 2; ++negative) {
          nonzero[negative][neighbour][state] =
              bits_of(significant, true) + bits_of(contexts[kSign + neighbour], negative);
        }
      }
    }
    for (int negative = 0; negative < 2; ++negative) make_sizes(layout, contexts, negative);
  }

  NNR_INLINE float of_size(bool negative, int32_t reached) const {
    if (NNR_LIKELY(reached < kTableSizes)) return size[negative][reached];
    return size[negative][kTableSizes - 1] + 0.01f * static_cast<float>(reached - kTableSizes + 1);
  }

 private:
  void make_sizes(const TensorLayout& layout, const Context* contexts, int negative) {
    size[negative][0] = 0;
    float ones = 0;
    int reached = 1;
    for (; reached <= layout.unary_length && reached < kTableSizes; ++reached) {
      const Context& greater = contexts[kGreater + 2 * (reached - 1) + negative];
      size[negative][reached] = ones + bits_of(greater, false);
      ones += bits_of(greater, true);
    }
    for (int p = 0; reached < kTableSizes; ++p) {
      const Context& prefix = contexts[layout.remainder() + p];
      const float bits = ones + bits_of(prefix, false) + static_cast<float>(p);
      for (int i = 0; i < 1 << p && reached < kTableSizes; ++i) size[negative][reached++] = bits;
      ones += bits_of(prefix, true);
    }
  }
};

}  // namespace nnr
