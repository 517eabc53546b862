// The sixteen lanes of a WideState as the lanes of vectors, with the tables, gathers and scatters of AVX-512.
#pragma once

#include "wide_state.hpp"

#if NNR_X86

namespace nnr {

#define NNR_TARGET_WIDE \
  __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,avx512vbmi2")))
#define NNR_WIDE_INLINE NNR_TARGET_WIDE NNR_INLINE

// kLpsFactor; adaptation times 2^4, from place 0 and then from -16.
struct WideTables {
  alignas(64) uint32_t lps[32];
  alignas(64) uint16_t adaptation[32];
};

constexpr WideTables make_wide_tables() {
  WideTables tables{};
  for (size_t column = 0; column < 32; ++column) tables.lps[column] = kLpsFactor[column];
  for (int i = -16; i < 16; ++i) tables.adaptation[i & 31] = static_cast<uint16_t>(kAdaptation[16 + i] << 4);
  return tables;
}

inline constexpr WideTables kWideTables = make_wide_tables();

struct WideVectors {
  __m512i value, range, next, n_valid, node, context;  // place in `contexts`
  __m512i packed;                                      // the contexts themselves
  __m512i first_contexts;

  NNR_WIDE_INLINE void load(const WideState& from) {
    value = _mm512_load_si512(from.value), range = _mm512_load_si512(from.range);
    next = _mm512_load_si512(from.next), n_valid = _mm512_load_si512(from.n_valid);
    const __m512i at = _mm512_load_si512(from.at);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    first_contexts = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(kWideStride));
    reach(at);
    context = context_of(at);
    packed = _mm512_i32gather_epi32(context, from.contexts, 4);
  }
  NNR_WIDE_INLINE void reach(__m512i at) {
    node = _mm512_and_si512(_mm512_srli_epi32(at, kNodeShift), _mm512_set1_epi32(kNodeBits));
  }
  NNR_WIDE_INLINE __m512i context_of(__m512i at) const {
    return _mm512_add_epi32(_mm512_and_si512(at, _mm512_set1_epi32(kContextBits)), first_contexts);
  }
  NNR_WIDE_INLINE void store(WideState& to) const {
    _mm512_store_si512(to.value, value), _mm512_store_si512(to.range, range);
    _mm512_store_si512(to.next, next), _mm512_store_si512(to.n_valid, n_valid);
    _mm512_store_si512(to.at, _mm512_or_si512(_mm512_slli_epi32(node, kNodeShift),
                                              _mm512_sub_epi32(context, first_contexts)));
  }

  NNR_WIDE_INLINE void refill(const uint8_t* data, __m512i limit) {
    const __m512i swap = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
    const __m512i word = _mm512_shuffle_epi8(_mm512_i32gather_epi32(next, data, 1), swap);
    value = _mm512_or_si512(value, _mm512_srlv_epi32(word, n_valid));
    const __m512i n_bytes = _mm512_srli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(31), n_valid), 3);
    next = _mm512_min_epu32(_mm512_add_epi32(next, n_bytes), limit);
    n_valid = _mm512_or_si512(n_valid, _mm512_set1_epi32(kWideValidBits));
  }

  // The LPS range of each lane at the top of 32 bits, from total >> 7.
  NNR_WIDE_INLINE __m512i lps_range(__m512i total) const {
    const auto* tables = reinterpret_cast<const __m512i*>(kWideTables.lps);
    const __m512i factor = _mm512_permutex2var_epi32(tables[0], _mm512_abs_epi32(total), tables[1]);
    const __m512i row = _mm512_add_epi32(_mm512_srli_epi32(range, 28), _mm512_set1_epi32(1));
    return _mm512_and_si512(_mm512_slli_epi32(_mm512_mullo_epi16(factor, row), kWindowShift - kLpsFactorBits),
                            _mm512_set1_epi32(0xff << kWindowShift));
  }

  // One bin of each lane; the packed steps that it leads to. What does not depend on the bin is fetched ahead of it.
  NNR_WIDE_INLINE __m512i step(WideState& state) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    const __m512i left = _mm512_i32gather_epi64(_mm512_castsi512_si256(node), state.steps->steps, 8);
    const __m512i right = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(node, 1), state.steps->steps, 8);
    const __m512i if_zero = _mm512_permutex2var_epi32(left, even, right);
    const __m512i if_one = _mm512_permutex2var_epi32(left, odd, right);

    const __m512i total = _mm512_madd_epi16(packed, _mm512_set1_epi16(1));  // rates add less than 2^4
    const __m512i lps = lps_range(_mm512_srai_epi32(total, 11));
    const __m512i mps = _mm512_sub_epi32(range, lps);
    const __mmask16 is_lps = _mm512_cmpge_epu32_mask(value, mps);
    const __mmask16 is_zero = _kxor_mask16(is_lps, _mm512_movepi32_mask(total));
    const __m512i reached = _mm512_mask_mov_epi32(if_one, is_zero, if_zero);
    reach(reached);
    const __m512i next_context = context_of(reached);
    const __m512i next_packed = _mm512_i32gather_epi32(next_context, state.contexts, 4);

    value = _mm512_mask_sub_epi32(value, is_lps, value, mps);
    range = _mm512_mask_mov_epi32(mps, is_lps, lps);
    const __m512i shift = _mm512_lzcnt_epi32(range);
    value = _mm512_sllv_epi32(value, shift);
    range = _mm512_sllv_epi32(range, shift);
    n_valid = _mm512_sub_epi32(n_valid, shift);

    const __m512i state_bits = _mm512_set1_epi32(static_cast<int32_t>(kStateBits));
    const __m512i states = _mm512_and_si512(packed, state_bits);
    const __m512i flip = _mm512_movm_epi32(is_zero);  // (x ^ -1) + 1 is -x
    const __m512i signed_states = _mm512_sub_epi16(_mm512_xor_si512(states, flip), flip);
    const __m512i adaptation = _mm512_permutexvar_epi16(_mm512_srai_epi16(signed_states, 11),
                                                        _mm512_load_si512(kWideTables.adaptation));
    const __m512i rates = _mm512_and_si512(packed, _mm512_set1_epi32(static_cast<int32_t>(kRateBits)));
    const __m512i change = _mm512_and_si512(_mm512_srlv_epi16(adaptation, rates), state_bits);
    const __m512i signed_change = _mm512_sub_epi16(_mm512_xor_si512(change, flip), flip);
    const __m512i updated = _mm512_add_epi16(packed, signed_change);
    // The next context was fetched before this one is written, so as not to wait for it: it may be the same.
    _mm512_i32scatter_epi32(state.contexts, context, updated, 4);
    packed = _mm512_mask_mov_epi32(next_packed, _mm512_cmpeq_epi32_mask(next_context, context), updated);
    context = next_context;
    return reached;
  }
};

// Vectors of lanes at work, and what they log.
struct WideRunner {
  WideState& state;
  WideVectors vectors;
  __m512i log;

  NNR_WIDE_INLINE explicit WideRunner(WideState& from) : state(from) {
    log = _mm512_setzero_si512();
    vectors.load(state);
    std::memset(state.n_escaped, 0, sizeof state.n_escaped);
  }

  NNR_WIDE_INLINE void refill() { vectors.refill(state.base, _mm512_load_si512(state.limit)); }

  // One bin of each lane; only lanes in `active` count.
  NNR_WIDE_INLINE void step(Lane* lanes, __mmask16 active) {
    const __m512i numbers = _mm512_set1_epi32(static_cast<int32_t>(0xff000000u));
    const __m512i reached = vectors.step(state);
    log = _mm512_or_si512(_mm512_srli_epi32(log, 8), _mm512_and_si512(reached, numbers));
    const __mmask16 escapes = _mm512_mask_test_epi32_mask(active, reached, _mm512_set1_epi32(kEscapeBit));
    if (NNR_UNLIKELY(escapes)) {
      vectors.store(state);
      decode_wide_escapes(state, lanes, escapes);
      vectors.load(state);
    }
  }

  // After n_steps steps.
  NNR_WIDE_INLINE void finish(int64_t n_steps) {
    if (n_steps & 3) {
      const __m512i nothing = _mm512_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(kNothing) << 24));
      for (int64_t i = n_steps; i & 3; ++i) log = _mm512_or_si512(_mm512_srli_epi32(log, 8), nothing);
      _mm512_store_si512(state.log[n_steps >> 2], log);
    }
    vectors.store(state);
  }
};

// n_steps bins of each lane of one vector or of two, which hide each other's latency; n_steps up to kWideRun.
template <bool kPair>
NNR_WIDE_INLINE void take_wide_turns(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active) {
  const auto active_a = static_cast<__mmask16>(active), active_b = static_cast<__mmask16>(active >> kWideLanes);
  WideRunner a(states[0]), b(states[kPair ? 1 : 0]);
  for (int64_t i = 0; i < n_steps; ++i) {
    if ((i & 1) == 0) a.refill();
    if (kPair && (i & 1) == 0) b.refill();
    a.step(lanes, active_a);
    if (kPair) b.step(lanes + kWideLanes, active_b);
    if ((i & 3) == 3) _mm512_store_si512(a.state.log[i >> 2], a.log);
    if (kPair && (i & 3) == 3) _mm512_store_si512(b.state.log[i >> 2], b.log);
  }
  a.finish(n_steps);
  if (kPair) b.finish(n_steps);
}

// The numbers that n_steps steps of a lane completed.
NNR_WIDE_INLINE void collect(WideState& state, int i, int64_t n_steps) {
  const __m512i rows = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32(kWideLanes));
  const __m512i none = _mm512_set1_epi8(static_cast<char>(kNothing));
  int64_t n = 0;
  for (int64_t first = 0; first < n_steps; first += 64) {
    const int64_t n_words = std::min<int64_t>(16, (n_steps - first + 3) >> 2);
    const auto wanted = static_cast<__mmask16>((1u << n_words) - 1);
    const __m512i log = _mm512_mask_i32gather_epi32(none, wanted, rows, &state.log[first >> 2][i], 4);
    const __mmask64 complete = _mm512_cmpneq_epi8_mask(log, none);
    _mm512_storeu_si512(state.complete[i] + n, _mm512_maskz_compress_epi8(complete, log));
    n += __builtin_popcountll(complete);
  }
  state.n_complete[i] = n;
}

// What `deliver` does, with the numbers that were collected.
NNR_WIDE_INLINE void deliver_wide(const WideState& state, int i, Lane& lane) {
  const bool to_values = lane.target->output == Output::values;
  const __m512 step = _mm512_set1_ps(lane.target->step);
  const uint8_t* from = state.complete[i];
  const int32_t* escaped = state.escaped[i];
  for (const uint8_t* end = from + state.n_complete[i]; from < end;) {
    const Run run = take_run(lane, end - from);
    int32_t* to = lane.target->numbers + run.place;
    for (int64_t j = 0; j < run.n; j += 16) {
      const auto wanted = static_cast<__mmask16>((1u << std::min<int64_t>(16, run.n - j)) - 1);
      __m512i numbers = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j)));
      const __mmask16 escapes = _mm512_mask_cmpeq_epi32_mask(wanted, numbers, _mm512_set1_epi32(kEscaped));
      if (NNR_UNLIKELY(escapes)) {
        numbers = _mm512_mask_expandloadu_epi32(numbers, escapes, escaped);
        escaped += __builtin_popcount(escapes);
      }
      if (to_values) numbers = _mm512_castps_si512(_mm512_mul_ps(step, _mm512_cvtepi32_ps(numbers)));
      _mm512_mask_storeu_epi32(to + j, wanted, numbers);
    }
    from += run.n;
  }
}

NNR_TARGET_WIDE inline void run_wide_avx512(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active) {
  active >> kWideLanes ? take_wide_turns<true>(states, lanes, n_steps, active)
                       : take_wide_turns<false>(states, lanes, n_steps, active);
  for (uint32_t rest = active; rest; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    collect(states[i / kWideLanes], i % kWideLanes, n_steps);
  }
  for (uint32_t rest = active; rest; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    deliver_wide(states[i / kWideLanes], i % kWideLanes, lanes[i]);
  }
}

}  // namespace nnr

#endif
