// Dependent quantisation: the 8-state Viterbi search for the indices of least distortion, or distortion and rate.
//
// In steps, a weight of size x may become level q of m .. m+3, m = max(1, floor(x) - 1), or zero. The class q mod 4 of
// a level fixes the parity of the state and of the index: 0 and 2 are even and odd indices in even states, 3 and 1 in
// odd states; zero counts as an even index everywhere. New states 0..3 come from even states, 4..7 from odd ones, each
// by one even and one odd index, so a step is two permutations of the eight costs, two sums and a minimum. A weight
// leaves one byte behind (which branch won, per new state), with a rate term two (where zero won, per old state). The
// trace back turns the first into the class of the level, and a last pass into the index.
#pragma once

#include <limits>

#include "rate_model.hpp"

namespace nnr {

constexpr int kPiece = 256;  // weights between two normalisations of the costs
constexpr int kEvenFrom[kDqStates] = {0, 2, 4, 6, 7, 5, 3, 1};
constexpr int kOddFrom[kDqStates] = {4, 6, 0, 2, 3, 1, 7, 5};
constexpr uint8_t kZeroClass = 4;
constexpr double kMaxSteps = (1 << 30) - 16;
constexpr float kUnreachable = 1e30f;

struct Candidates {
  double steps;   // abs(weight) / step
  int32_t first;  // m

  NNR_INLINE Candidates(float weight, double inverse_step) {
    const double x = std::fabs(static_cast<double>(weight)) * inverse_step;
    steps = x < kMaxSteps ? x : kMaxSteps;
    const int32_t below = static_cast<int32_t>(steps) - 1;
    first = below > 1 ? below : 1;
  }
  static NNR_INLINE int32_t index(int32_t first, int32_t cls) { return (first + ((cls - first) & 3) + 1) >> 1; }
  // By what the weight is larger than the level of a class.
  NNR_INLINE float miss(int32_t cls) const {
    return static_cast<float>(steps - first) - static_cast<float>((cls - first) & 3);
  }
  NNR_INLINE float distortion(int32_t cls) const { return miss(cls) * miss(cls); }
  NNR_INLINE float zero_distortion() const { return static_cast<float>(steps) * static_cast<float>(steps); }
};

// The costs of one piece, by class; pairs in the order of even and odd states.
struct PieceCosts {
  alignas(32) float even[kPiece][2];  // classes 0 and 3
  alignas(32) float odd[kPiece][2];   // classes 2 and 1
  alignas(32) float zero[kPiece];
  int32_t first[kPiece];
  int32_t size_at[4][kPiece];  // where the cost of each class's magnitude is in the model
  uint8_t negative[kPiece];
};

struct TrellisState {
  alignas(32) float cost[kDqStates];
  alignas(32) uint32_t follows_negative[kDqStates];  // masks: the path's last index was negative, positive
  alignas(32) uint32_t follows_positive[kDqStates];

  void start() {
    for (float& c : cost) c = kUnreachable;
    cost[0] = 0;
    forget_neighbours();
  }
  void forget_neighbours() {
    std::memset(follows_negative, 0, sizeof follows_negative);
    std::memset(follows_positive, 0, sizeof follows_positive);
  }
  int best() const { return static_cast<int>(std::min_element(cost, cost + kDqStates) - cost); }
  // Takes the least cost from all, and returns it.
  float normalise() {
    const float least = cost[best()];
    for (float& c : cost) c = std::min(c - least, kUnreachable);
    return least;
  }
  // A segment of an empty row: the states move on, its cost is the same for all, the neighbour stays.
  void skip(const TensorLayout& layout) {
    const TrellisState from = *this;
    for (int s = 0; s < kDqStates; ++s) {
      const int to = layout.state_after_skip(s);
      cost[to] = from.cost[s];
      follows_negative[to] = from.follows_negative[s];
      follows_positive[to] = from.follows_positive[s];
    }
  }
};

NNR_INLINE void measure(const float* weights, int64_t n, double inverse_step, PieceCosts& costs) {
  for (int64_t i = 0; i < n; ++i) {
    const Candidates at(weights[i], inverse_step);
    const float zero = at.zero_distortion();
    costs.even[i][0] = std::min(at.distortion(0), zero);
    costs.even[i][1] = std::min(at.distortion(3), zero);
    costs.odd[i][0] = at.distortion(2);
    costs.odd[i][1] = at.distortion(1);
  }
}

// As `measure`, with zero on its own. Two loops, both of which are vectorised.
NNR_INLINE void measure_apart(const float* weights, int64_t n, double inverse_step, PieceCosts& costs) {
  for (int64_t i = 0; i < n; ++i) {
    const Candidates at(weights[i], inverse_step);
    costs.even[i][0] = at.distortion(0);
    costs.even[i][1] = at.distortion(3);
    costs.odd[i][0] = at.distortion(2);
    costs.odd[i][1] = at.distortion(1);
    costs.zero[i] = at.zero_distortion();
    costs.first[i] = at.first;
  }
  for (int64_t i = 0; i < n; ++i) costs.negative[i] = weights[i] < 0;
}

// The first of the two loops is vectorised.
NNR_INLINE void measure_with_rate(const float* weights, int64_t n, double inverse_step, const RateModel& model,
                                  PieceCosts& costs) {
  measure_apart(weights, n, inverse_step, costs);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t side = costs.negative[i] ? kMagnitudes : 0;
    for (int cls = 0; cls < 4; ++cls) {
      costs.size_at[cls][i] = side + std::min(Candidates::index(costs.first[i], cls), kMagnitudes - 1);
    }
  }
  const float* size_costs = &model.size[0][0];
  for (int64_t i = 0; i < n; ++i) {
    costs.even[i][0] += size_costs[costs.size_at[0][i]];
    costs.even[i][1] += size_costs[costs.size_at[3][i]];
    costs.odd[i][0] += size_costs[costs.size_at[2][i]];
    costs.odd[i][1] += size_costs[costs.size_at[1][i]];
  }
}

NNR_INLINE void advance(TrellisState& state, const PieceCosts& costs, int64_t n, uint8_t* branches) {
  for (int64_t i = 0; i < n; ++i) {
    float next[kDqStates];
    unsigned taken = 0;
    for (int s = 0; s < kDqStates; ++s) {
      const float even = state.cost[kEvenFrom[s]] + costs.even[i][s >> 2];
      const float odd = state.cost[kOddFrom[s]] + costs.odd[i][s >> 2];
      taken |= static_cast<unsigned>(odd < even) << s;
      next[s] = odd < even ? odd : even;
    }
    std::memcpy(state.cost, next, sizeof next);
    branches[i] = static_cast<uint8_t>(taken);
  }
}

NNR_INLINE void advance_with_rate(TrellisState& state, const PieceCosts& costs, const RateModel& model, int64_t n,
                                  uint8_t* branches, uint8_t* zeros) {
  for (int64_t i = 0; i < n; ++i) {
    const int negative = costs.negative[i];
    float even[kDqStates], odd[kDqStates], next[kDqStates];
    unsigned is_zero = 0, taken = 0, nonzero = 0;
    for (int s = 0; s < kDqStates; ++s) {
      const int neighbour = state.follows_negative[s] ? 1 : state.follows_positive[s] ? 2 : 0;
      const float base = model.nonzero[negative][neighbour][s];
      const float zero = model.zero[neighbour][s] + costs.zero[i], other = base + costs.even[i][s & 1];
      is_zero |= static_cast<unsigned>(zero <= other) << s;
      even[s] = state.cost[s] + (zero < other ? zero : other);
      odd[s] = state.cost[s] + (base + costs.odd[i][s & 1]);
    }
    for (int s = 0; s < kDqStates; ++s) {
      const float a = even[kEvenFrom[s]], b = odd[kOddFrom[s]];
      taken |= static_cast<unsigned>(b < a) << s;
      nonzero |= static_cast<unsigned>(b < a || !(is_zero >> kEvenFrom[s] & 1)) << s;
      next[s] = b < a ? b : a;
    }
    for (int s = 0; s < kDqStates; ++s) {
      state.follows_negative[s] = nonzero >> s & 1 && negative ? ~0u : 0;
      state.follows_positive[s] = nonzero >> s & 1 && !negative ? ~0u : 0;
    }
    std::memcpy(state.cost, next, sizeof next);
    branches[i] = static_cast<uint8_t>(taken);
    zeros[i] = static_cast<uint8_t>(is_zero);
  }
}

#if NNR_X86
#define NNR_AVX2_INLINE NNR_TARGET_AVX2 NNR_INLINE

NNR_AVX2_INLINE __m256 load_pair(const float* pair) {
  return _mm256_castpd_ps(_mm256_broadcast_sd(reinterpret_cast<const double*>(pair)));
}
NNR_AVX2_INLINE __m256 from_even(__m256 by_state) {
  return _mm256_permutevar8x32_ps(by_state, _mm256_setr_epi32(0, 2, 4, 6, 7, 5, 3, 1));
}
// kOddFrom is kEvenFrom with the halves of each four swapped.
NNR_AVX2_INLINE __m256 swap_halves(__m256 x) { return _mm256_permute_ps(x, 0x4e); }
NNR_AVX2_INLINE __m256 select(const __m256* by_neighbour, __m256 after_negative, __m256 after_positive) {
  const __m256 some = _mm256_blendv_ps(by_neighbour[0], by_neighbour[1], after_negative);
  return _mm256_blendv_ps(some, by_neighbour[2], after_positive);
}

NNR_AVX2_INLINE void advance_avx2(TrellisState& state, const PieceCosts& costs, int64_t n, uint8_t* branches) {
  const __m256i by_half = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  __m256 cost = _mm256_load_ps(state.cost);
  for (int64_t i = 0; i < n; ++i) {
    const __m256 from = from_even(cost);
    const __m256 even = _mm256_add_ps(from, _mm256_permutevar_ps(load_pair(costs.even[i]), by_half));
    const __m256 odd = _mm256_add_ps(swap_halves(from), _mm256_permutevar_ps(load_pair(costs.odd[i]), by_half));
    branches[i] = static_cast<uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(odd, even, _CMP_LT_OQ)));
    cost = _mm256_min_ps(odd, even);
  }
  _mm256_store_ps(state.cost, cost);
}

NNR_AVX2_INLINE void advance_with_rate_avx2(TrellisState& state, const PieceCosts& costs, const RateModel& model,
                                            int64_t n, uint8_t* branches, uint8_t* zeros) {
  __m256 zero_costs[3], other_costs[2][3];
  for (int neighbour = 0; neighbour < 3; ++neighbour) {
    zero_costs[neighbour] = _mm256_loadu_ps(model.zero[neighbour]);
    for (int sign = 0; sign < 2; ++sign) other_costs[sign][neighbour] = _mm256_loadu_ps(model.nonzero[sign][neighbour]);
  }
  const __m256 signs[2] = {_mm256_setzero_ps(), _mm256_castsi256_ps(_mm256_set1_epi32(-1))};
  __m256 cost = _mm256_load_ps(state.cost);
  __m256 after_negative = _mm256_load_ps(reinterpret_cast<const float*>(state.follows_negative));
  __m256 after_positive = _mm256_load_ps(reinterpret_cast<const float*>(state.follows_positive));
  for (int64_t i = 0; i < n; ++i) {
    const int negative = costs.negative[i];
    const __m256 base = select(other_costs[negative], after_negative, after_positive);
    const __m256 zero =
        _mm256_add_ps(select(zero_costs, after_negative, after_positive), _mm256_broadcast_ss(&costs.zero[i]));
    const __m256 other = _mm256_add_ps(base, load_pair(costs.even[i]));
    const __m256 is_zero = _mm256_cmp_ps(zero, other, _CMP_LE_OQ);
    const __m256 even = from_even(_mm256_add_ps(cost, _mm256_min_ps(zero, other)));
    const __m256 odd = swap_halves(from_even(_mm256_add_ps(cost, _mm256_add_ps(base, load_pair(costs.odd[i])))));
    const __m256 is_odd = _mm256_cmp_ps(odd, even, _CMP_LT_OQ);
    const __m256 to_zero = _mm256_andnot_ps(is_odd, from_even(is_zero));
    after_negative = _mm256_andnot_ps(to_zero, signs[negative]);
    after_positive = _mm256_andnot_ps(to_zero, signs[1 - negative]);
    branches[i] = static_cast<uint8_t>(_mm256_movemask_ps(is_odd));
    zeros[i] = static_cast<uint8_t>(_mm256_movemask_ps(is_zero));
    cost = _mm256_min_ps(odd, even);
  }
  _mm256_store_ps(state.cost, cost);
  _mm256_store_ps(reinterpret_cast<float*>(state.follows_negative), after_negative);
  _mm256_store_ps(reinterpret_cast<float*>(state.follows_positive), after_positive);
}
#endif

inline int state_before_skip(const TensorLayout& layout, int state) {
  for (int i = 0; i < 3; ++i) state = layout.state_after_skip(state);  // three steps on are one back
  return state;
}

// One weight back: the state before it, and the class of its level. `zeros` counts only if kHasZeros.
template <bool kHasZeros>
NNR_INLINE uint8_t trace_step(int& state, unsigned branches, unsigned zeros) {
  constexpr uint8_t kTable[2 * kDqStates] = {0x00, 0x02, 0x04, 0x06, 0x37, 0x35, 0x33, 0x31,  // class, state before
                                             0x24, 0x26, 0x20, 0x22, 0x13, 0x11, 0x17, 0x15};
  const unsigned is_odd = branches >> state & 1;
  const unsigned found = kTable[8 * is_odd + static_cast<unsigned>(state)];
  state = found & 7;
  if (!kHasZeros) return static_cast<uint8_t>(found >> 4);
  const unsigned is_zero = ~is_odd & zeros >> state & 1;
  return static_cast<uint8_t>((found >> 4 & (is_zero - 1)) | (kZeroClass & (0 - is_zero)));
}

// The indices of weights whose classes are known, and their squared errors, in squared steps. Without a rate term the
// nearer of zero and the class's level was meant.
NNR_INLINE void write_indices(const float* weights, const uint8_t* classes, int64_t n, double inverse_step,
                              bool has_rate, int32_t* out, float* squares) {
  for (int64_t i = 0; i < n; ++i) {
    const Candidates at(weights[i], inverse_step);
    const int32_t cls = classes[i];
    const bool may_be_zero = !has_rate & (((cls + 1) & 2) == 0);
    const float zero = at.zero_distortion(), other = at.distortion(cls);
    const bool is_zero = (cls == kZeroClass) | (may_be_zero & (zero <= other));
    const int32_t size = Candidates::index(at.first, cls);
    const int32_t sign = weights[i] < 0 ? -1 : 1;
    out[i] = is_zero ? 0 : sign * size;
    squares[i] = is_zero ? zero : other;
  }
}

}  // namespace nnr
