// The search without a rate term that keeps the errors of a kernel, and of a row, from adding up.
//
// What a layer is fed is smooth and mostly of one sign. So its output errs less by errors whose sum over the taps of a
// kernel, or over a row, is small. An error e costs
//
//     e^2 + a ((K + e)^2 - K^2) + b ((R + e)^2 - R^2)        K, R: sums of the errors before it in its kernel and row
//
// which adds up to the squared errors, and a and b times the squared sums. Each survivor has sums of its own. They are
// kept as `pull` = 2 (a K + b R), so that an error costs (1 + a + b) e^2 + pull e, and as `row_pull` = 2 b R, which is
// what is left of it where a kernel begins. Between zero and the level of the even class the smaller error is taken.
#pragma once

#include "quantiser_input.hpp"
#include "trellis.hpp"

namespace nnr {

// Signed errors of one piece by class, and what they cost alone; pairs in the order of even and odd states.
struct PieceErrors {
  alignas(32) float even[kPiece][2];
  alignas(32) float odd[kPiece][2];
  alignas(32) float even_cost[kPiece][2];
  alignas(32) float odd_cost[kPiece][2];
};

struct SumState {
  alignas(32) float pull[kDqStates];
  alignas(32) float row_pull[kDqStates];
  int64_t n_left;  // weights before a kernel begins

  // A row, or the part of it in a block, from a column on.
  void start(int64_t column, int64_t n_taps) { *this = {{}, {}, (n_taps - column % n_taps) % n_taps}; }
};

NNR_INLINE void measure_errors(const float* weights, int64_t n, double inverse_step, const ErrorSums& weight,
                               PieceErrors& errors) {
  const float own_weight = 1 + weight.kernel + weight.row;
  for (int64_t i = 0; i < n; ++i) {
    const Candidates at(weights[i], inverse_step);
    const float zero = static_cast<float>(at.steps), sign = weights[i] < 0 ? -1.0f : 1.0f;
    float miss[4];
    for (int32_t cls = 0; cls < 4; ++cls) miss[cls] = at.miss(cls);
    for (const int32_t cls : {0, 3}) miss[cls] = zero * zero <= miss[cls] * miss[cls] ? zero : miss[cls];
    errors.even[i][0] = sign * miss[0], errors.even[i][1] = sign * miss[3];
    errors.odd[i][0] = sign * miss[2], errors.odd[i][1] = sign * miss[1];
    errors.even_cost[i][0] = own_weight * (miss[0] * miss[0]);
    errors.even_cost[i][1] = own_weight * (miss[3] * miss[3]);
    errors.odd_cost[i][0] = own_weight * (miss[2] * miss[2]);
    errors.odd_cost[i][1] = own_weight * (miss[1] * miss[1]);
  }
}

NNR_INLINE void advance_with_sums(TrellisState& state, SumState& sums, const ErrorSums& weight,
                                  const PieceErrors& errors, int64_t n, uint8_t* branches) {
  const float per_error = 2 * (weight.kernel + weight.row), per_row_error = 2 * weight.row;
  for (int64_t i = 0; i < n; ++i, --sums.n_left) {
    if (sums.n_left == 0) std::memcpy(sums.pull, sums.row_pull, sizeof sums.pull), sums.n_left = weight.n_taps;
    const SumState before = sums;
    float next[kDqStates];
    unsigned taken = 0;
    for (int s = 0; s < kDqStates; ++s) {
      const int half = s >> 2, a = kEvenFrom[s], b = kOddFrom[s];
      const float even = (state.cost[a] + errors.even_cost[i][half]) + errors.even[i][half] * before.pull[a];
      const float odd = (state.cost[b] + errors.odd_cost[i][half]) + errors.odd[i][half] * before.pull[b];
      const bool is_odd = odd < even;
      const float error = is_odd ? errors.odd[i][half] : errors.even[i][half];
      taken |= static_cast<unsigned>(is_odd) << s;
      next[s] = is_odd ? odd : even;
      sums.pull[s] = before.pull[is_odd ? b : a] + per_error * error;
      sums.row_pull[s] = before.row_pull[is_odd ? b : a] + per_row_error * error;
    }
    std::memcpy(state.cost, next, sizeof next);
    branches[i] = static_cast<uint8_t>(taken);
  }
}

#if NNR_X86
NNR_AVX2_INLINE void advance_with_sums_avx2(TrellisState& state, SumState& sums, const ErrorSums& weight,
                                            const PieceErrors& errors, int64_t n, uint8_t* branches) {
  const __m256i by_half = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  const __m256 per_error = _mm256_set1_ps(2 * (weight.kernel + weight.row));
  const __m256 per_row_error = _mm256_set1_ps(2 * weight.row);
  __m256 cost = _mm256_load_ps(state.cost), pull = _mm256_load_ps(sums.pull), row_pull = _mm256_load_ps(sums.row_pull);
  for (int64_t i = 0; i < n;) {
    if (sums.n_left == 0) pull = row_pull, sums.n_left = weight.n_taps;
    const int64_t end = std::min(n, i + sums.n_left);
    sums.n_left -= end - i;
    for (; i < end; ++i) {
      const __m256 by_even = _mm256_permutevar_ps(load_pair(errors.even[i]), by_half);
      const __m256 by_odd = _mm256_permutevar_ps(load_pair(errors.odd[i]), by_half);
      const __m256 even_cost = _mm256_permutevar_ps(load_pair(errors.even_cost[i]), by_half);
      const __m256 odd_cost = _mm256_permutevar_ps(load_pair(errors.odd_cost[i]), by_half);
      const __m256 from = from_even(cost), even_pull = from_even(pull), even_row_pull = from_even(row_pull);
      const __m256 odd_pull = swap_halves(even_pull), odd_row_pull = swap_halves(even_row_pull);
      const __m256 even = _mm256_add_ps(_mm256_add_ps(from, even_cost), _mm256_mul_ps(by_even, even_pull));
      const __m256 odd = _mm256_add_ps(_mm256_add_ps(swap_halves(from), odd_cost), _mm256_mul_ps(by_odd, odd_pull));
      const __m256 is_odd = _mm256_cmp_ps(odd, even, _CMP_LT_OQ);
      branches[i] = static_cast<uint8_t>(_mm256_movemask_ps(is_odd));
      cost = _mm256_min_ps(odd, even);
      pull = _mm256_blendv_ps(_mm256_add_ps(even_pull, _mm256_mul_ps(per_error, by_even)),
                              _mm256_add_ps(odd_pull, _mm256_mul_ps(per_error, by_odd)), is_odd);
      row_pull = _mm256_blendv_ps(_mm256_add_ps(even_row_pull, _mm256_mul_ps(per_row_error, by_even)),
                                  _mm256_add_ps(odd_row_pull, _mm256_mul_ps(per_row_error, by_odd)), is_odd);
    }
  }
  _mm256_store_ps(state.cost, cost);
  _mm256_store_ps(sums.pull, pull);
  _mm256_store_ps(sums.row_pull, row_pull);
}
#endif

inline void search_with_sums(TrellisState& state, SumState& sums, PieceErrors& errors, const ErrorSums& weight,
                             const float* weights, int64_t n, double inverse_step, uint8_t* branches) {
  measure_errors(weights, n, inverse_step, weight, errors);
  advance_with_sums(state, sums, weight, errors, n, branches);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void search_with_sums_avx2(TrellisState& state, SumState& sums, PieceErrors& errors,
                                                  const ErrorSums& weight, const float* weights, int64_t n,
                                                  double inverse_step, uint8_t* branches) {
  measure_errors(weights, n, inverse_step, weight, errors);
  advance_with_sums_avx2(state, sums, weight, errors, n, branches);
}
#endif

// No rate term, but sums of errors.
class SummedErrors {
 public:
  static constexpr bool kHasRate = false;

  SummedErrors(const QuantiserInput& input, bool portable) : input_(input) {
#if NNR_X86
    if (!portable && has_avx2()) search_ = search_with_sums_avx2;
#endif
    (void)portable;
  }

  bool is_ready() const { return true; }
  void start() {}
  void begin_block_row() {}
  void begin_segment(int64_t column) { sums_.start(column, input_.error_sums->n_taps); }
  void skip() {}
  void search(TrellisState& state, const float* weights, int64_t n, uint8_t* branches, uint8_t*) {
    search_(state, sums_, errors_, *input_.error_sums, weights, n, input_.inverse_step, branches);
  }

 private:
  const QuantiserInput& input_;
  decltype(&search_with_sums) search_ = search_with_sums;
  SumState sums_{};
  PieceErrors errors_;
};

}  // namespace nnr
