// The estimators of three contexts in vectors of AVX2: states of 16 bits in two of them, and what tables are asked
// with, and answer, as the bytes of one.
#pragma once

#include "estimator_queues.hpp"

#if NNR_X86

namespace nnr {

struct EstimatorBytes {
  // kAdaptation / 16 by place, from -16 on and from 0 on; costs of the more and of the less probable bin by their low
  // and high bytes, by abs(total >> 7) below 16 and from there on. Each twice.
  alignas(32) uint8_t adaptation[2][32], cost[2][2][2][32];
  // By the three bins: 1 or -1 for bin 1 or 0, and -1 for bin 0, in the order of packed lanes.
  LaneNumbers sign[8];
  alignas(32) int8_t flip[8][32];
  LaneNumbers fast_factor, slow_factor;  // 2^(16 - rate) and 2^(12 - rate)

  // Where a lane of 16 bits is among bytes, once two vectors of them are packed.
  static int packed(int lane) { return 16 * (lane % 16 / 8) + 8 * (lane / 16) + lane % 8; }

  EstimatorBytes() {
    const BinCosts& costs = bin_costs();
    for (int i = 0; i < 32; ++i) {
      for (int part = 0; part < 2; ++part) {
        const int at = 16 * part + i % 16;
        adaptation[part][i] = static_cast<uint8_t>(kAdaptation[static_cast<size_t>(at)] >> 4);
        for (int is_less = 0; is_less < 2; ++is_less) {
          const uint16_t found = costs.cost[1 - is_less][32 + at];
          cost[is_less][0][part][i] = static_cast<uint8_t>(found);
          cost[is_less][1][part][i] = static_cast<uint8_t>(found >> 8);
        }
      }
      fast_factor.lane[i] = static_cast<int16_t>(1 << (16 - set_of_lane(i).fast_rate));
      slow_factor.lane[i] = static_cast<int16_t>(1 << (12 - set_of_lane(i).slow_rate));
      for (int bins = 0; bins < 8; ++bins) {
        const bool bin = i >= kMaxQueues * kSets || (bins >> i / kSets & 1);
        sign[bins].lane[i] = bin ? 1 : -1;
        flip[bins][packed(i)] = bin ? 0 : -1;
      }
    }
  }
};

inline const EstimatorBytes& estimator_bytes() {
  static const EstimatorBytes bytes;
  return bytes;
}

#define NNR_QUEUES_INLINE NNR_TARGET_AVX2 NNR_INLINE

template <class T>
NNR_QUEUES_INLINE __m256i load_256(const T* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

// Sixteen lanes of 16 bits and the sixteen behind them.
struct LanePair {
  __m256i low, high;

  NNR_QUEUES_INLINE explicit LanePair(const LaneNumbers& from)
      : low(load_256(from.lane)), high(load_256(from.lane + 16)) {}
  NNR_QUEUES_INLINE void store(LaneNumbers& to) const {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.lane), low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.lane + 16), high);
  }

  // What a bin changes; bits of `kept` stay in a step.
  NNR_QUEUES_INLINE void adapt(const EstimatorBytes& bytes, const LaneNumbers& sign, const LaneNumbers& factor,
                               __m256i kept) {
    const LanePair by_bin(sign), factors(factor);
    const __m256i towards_low = _mm256_srai_epi16(_mm256_sign_epi16(low, by_bin.low), 7);
    const __m256i towards_high = _mm256_srai_epi16(_mm256_sign_epi16(high, by_bin.high), 7);
    // A byte whose highest bit is set looks up zero.
    const __m256i place = _mm256_packs_epi16(towards_low, towards_high);
    const __m256i below = _mm256_xor_si256(place, _mm256_set1_epi8(INT8_MIN));
    const __m256i adaptation = _mm256_or_si256(_mm256_shuffle_epi8(load_256(bytes.adaptation[0]), below),
                                               _mm256_shuffle_epi8(load_256(bytes.adaptation[1]), place));
    const __m256i zero = _mm256_setzero_si256();
    const __m256i step_low = _mm256_mulhi_epu16(_mm256_unpacklo_epi8(zero, adaptation), factors.low);
    const __m256i step_high = _mm256_mulhi_epu16(_mm256_unpackhi_epi8(zero, adaptation), factors.high);
    low = _mm256_add_epi16(low, _mm256_sign_epi16(_mm256_and_si256(step_low, kept), by_bin.low));
    high = _mm256_add_epi16(high, _mm256_sign_epi16(_mm256_and_si256(step_high, kept), by_bin.high));
  }
};

// Sums of bytes, of even and of odd ones.
struct ByteSums {
  __m256i even, odd;

  NNR_QUEUES_INLINE ByteSums() : even(_mm256_setzero_si256()), odd(even) {}
  NNR_QUEUES_INLINE void add(__m256i bytes) {
    even = _mm256_add_epi16(even, _mm256_and_si256(bytes, _mm256_set1_epi16(0xff)));
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(bytes, 8));
  }
  NNR_QUEUES_INLINE void store(uint16_t (&to)[2][16]) const {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to[0]), even);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to[1]), odd);
  }
};

static_assert(kQueueLength * 255 < 1 << 16, "sums of bytes");

// A byte of each cost, from its four tables: by `column`, whose fifth bit is the highest of `is_far`, and `is_less`.
NNR_QUEUES_INLINE __m256i cost_bytes(const uint8_t (&more)[2][32], const uint8_t (&less)[2][32], __m256i column,
                                     __m256i is_far, __m256i is_less) {
  const __m256i if_more = _mm256_blendv_epi8(_mm256_shuffle_epi8(load_256(more[0]), column),
                                             _mm256_shuffle_epi8(load_256(more[1]), column), is_far);
  const __m256i if_less = _mm256_blendv_epi8(_mm256_shuffle_epi8(load_256(less[0]), column),
                                             _mm256_shuffle_epi8(load_256(less[1]), column), is_far);
  return _mm256_blendv_epi8(if_more, if_less, is_less);
}

// Runs n bins of each of one to three contexts, which must differ; n up to kQueueLength.
NNR_TARGET_AVX2 inline void run_queues_avx2(const Queue* queues, int n_queues, int n) {
  const EstimatorBytes& bytes = estimator_bytes();
  QueueLanes lanes(queues, n_queues);
  LanePair fast(lanes.fast), slow(lanes.slow);
  ByteSums low_bytes, high_bytes;
  const __m256i whole = _mm256_set1_epi16(-16), all = _mm256_set1_epi16(-1);
  for (int i = 0; i < n; ++i) {
    const unsigned bins = lanes.bins[0][i] + 2u * lanes.bins[1][i] + 4u * lanes.bins[2][i];
    const __m256i column_low = _mm256_srai_epi16(_mm256_add_epi16(fast.low, slow.low), 7);
    const __m256i column_high = _mm256_srai_epi16(_mm256_add_epi16(fast.high, slow.high), 7);
    const __m256i signed_column = _mm256_packs_epi16(column_low, column_high);
    // Below zero, 0 is the more probable bin.
    const __m256i is_less = _mm256_xor_si256(signed_column, load_256(bytes.flip[bins]));
    const __m256i column = _mm256_abs_epi8(signed_column), is_far = _mm256_slli_epi16(column, 3);
    low_bytes.add(cost_bytes(bytes.cost[0][0], bytes.cost[1][0], column, is_far, is_less));
    high_bytes.add(cost_bytes(bytes.cost[0][1], bytes.cost[1][1], column, is_far, is_less));
    fast.adapt(bytes, bytes.sign[bins], bytes.fast_factor, whole);
    slow.adapt(bytes, bytes.sign[bins], bytes.slow_factor, all);
  }
  alignas(32) uint16_t low_sums[2][16], high_sums[2][16];
  low_bytes.store(low_sums), high_bytes.store(high_sums);
  fast.store(lanes.fast), slow.store(lanes.slow);
  lanes.finish(queues, n_queues, n, [&](int lane) {
    const int at = EstimatorBytes::packed(lane);
    return low_sums[at & 1][at >> 1] + (uint32_t{high_sums[at & 1][at >> 1]} << 8);
  });
}

}  // namespace nnr

#endif
