// estimator_lanes.hpp in vectors of 32 lanes: nine sets of three contexts at once, the same states and costs.
#pragma once

#include "estimator_avx2.hpp"

namespace nnr {

#if NNR_X86
#define NNR_TARGET_AVX512 __attribute__((target("avx2,bmi,bmi2,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")))
#define NNR_AVX512_INLINE NNR_TARGET_AVX512 NNR_INLINE

struct EstimatorVectors {
  LaneNumbers adaptation;              // kAdaptation[16 + i] at i & 31
  LaneNumbers fast_shift, slow_shift;  // kAdaptation >> shift is the step of a slow state, and 16 times that, but for
                                       // its lowest four bits, the step of a fast one
  LaneNumbers cost[2];                 // of the more and of the less probable bin, by abs(total >> 7)
  uint32_t ones[8] = {};               // lanes whose bin is 1, by the three bins

  EstimatorVectors() {
    for (int i = 0; i < 32; ++i) {
      adaptation.lane[i & 31] = kAdaptation[static_cast<size_t>(i < 16 ? 16 + i : i - 16)];
      for (int is_less = 0; is_less < 2; ++is_less) {
        cost[is_less].lane[i] = static_cast<int16_t>(bin_costs().cost[1 - is_less][32 + i]);
      }
      fast_shift.lane[i] = static_cast<int16_t>(set_of_lane(i).fast_rate - 4);
      slow_shift.lane[i] = static_cast<int16_t>(set_of_lane(i).slow_rate);
    }
    for (unsigned bins = 0; bins < 8; ++bins) {
      for (int lane = 0; lane < kMaxQueues * kSets; ++lane) ones[bins] |= (bins >> lane / kSets & 1) << lane;
    }
  }
};

inline const EstimatorVectors& estimator_vectors() {
  static const EstimatorVectors vectors;
  return vectors;
}

NNR_AVX512_INLINE __m512i load_lanes(const LaneNumbers& numbers) { return _mm512_load_si512(numbers.lane); }

// kAdaptation by the state in the direction of its bin.
NNR_AVX512_INLINE __m512i adaptation_towards(__m512i state, __mmask32 zeros, __m512i table) {
  const __m512i towards = _mm512_mask_sub_epi16(state, zeros, _mm512_setzero_si512(), state);
  return _mm512_permutexvar_epi16(_mm512_srai_epi16(towards, 7), table);
}

NNR_AVX512_INLINE __m512i moved(__m512i state, __m512i step, __mmask32 zeros) {
  return _mm512_add_epi16(state, _mm512_mask_sub_epi16(step, zeros, _mm512_setzero_si512(), step));
}

// Runs n bins of each of one to three contexts, which must differ.
NNR_TARGET_AVX512 inline void run_queues_avx512(const Queue* queues, int n_queues, int n) {
  const EstimatorVectors& vectors = estimator_vectors();
  QueueLanes lanes(queues, n_queues);
  __m512i fast = load_lanes(lanes.fast), slow = load_lanes(lanes.slow);
  __m512i even_sums = _mm512_setzero_si512(), odd_sums = even_sums;
  const __m512i table = load_lanes(vectors.adaptation), more = load_lanes(vectors.cost[0]);
  const __m512i less = load_lanes(vectors.cost[1]), fast_shift = load_lanes(vectors.fast_shift);
  const __m512i slow_shift = load_lanes(vectors.slow_shift), whole = _mm512_set1_epi16(-16);
  const __m512i minus = _mm512_set1_epi16(-1), is_less = _mm512_set1_epi16(32);
  for (int i = 0; i < n; ++i) {
    const unsigned bins = lanes.bins[0][i] + 2u * lanes.bins[1][i] + 4u * lanes.bins[2][i];
    const __mmask32 zeros = ~vectors.ones[bins];
    const __m512i column = _mm512_srai_epi16(_mm512_add_epi16(fast, slow), 7);
    // Bit 5 of the column is set below zero, where 0 is the more probable bin.
    const __m512i towards = _mm512_mask_sub_epi16(column, zeros, minus, column);
    const __m512i at = _mm512_ternarylogic_epi32(_mm512_abs_epi16(column), towards, is_less, 0xf8);
    const __m512i cost = _mm512_permutex2var_epi16(more, at, less);
    even_sums = _mm512_add_epi32(even_sums, _mm512_and_si512(cost, _mm512_set1_epi32(0xffff)));
    odd_sums = _mm512_add_epi32(odd_sums, _mm512_srli_epi32(cost, 16));
    const __m512i fast_step = _mm512_srlv_epi16(adaptation_towards(fast, zeros, table), fast_shift);
    const __m512i slow_step = _mm512_srlv_epi16(adaptation_towards(slow, zeros, table), slow_shift);
    fast = moved(fast, _mm512_and_si512(fast_step, whole), zeros);
    slow = moved(slow, slow_step, zeros);
  }
  alignas(64) uint32_t sums[2][kQueueLanes / 2];  // of even and of odd lanes
  _mm512_store_si512(lanes.fast.lane, fast), _mm512_store_si512(lanes.slow.lane, slow);
  _mm512_store_si512(sums[0], even_sums), _mm512_store_si512(sums[1], odd_sums);
  lanes.finish(queues, n_queues, n, [&](int lane) { return sums[lane & 1][lane >> 1]; });
}
#endif

inline QueueKernel queue_kernel(bool portable) {
#if NNR_X86
  const bool has_avx512 = has_instructions(kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq);
  if (!portable && has_avx2() && has_avx512) return {kMaxQueues, run_queues_avx512};
  if (!portable && has_avx2()) return {kMaxQueues, run_queues_avx2};
#endif
  (void)portable;
  return {2, run_queues_portable};
}

}  // namespace nnr
