// The sixteen lanes of a WideState as two vectors of eight, for processors with AVX2, and those with AVX-512 whose gathers
// are slow: what those would do are loads and stores of single words here.
#pragma once

#include "wide_state.hpp"

#if NNR_X86

namespace nnr {

#define NNR_EIGHT_INLINE NNR_TARGET_AVX2 NNR_INLINE

constexpr int kEight = 8;

// Vectors that the compiler is not to build anew at each step.
struct EightTables {
  alignas(32) uint8_t lps[2][32];         // kLpsFactor by column, below 16 and from there on; twice each
  alignas(32) uint8_t adaptation[2][32];  // kAdaptation / 16 by place, from -16 on and from 0 on; twice each
  alignas(32) uint8_t rate[32];           // 2^(7 - rate), twice
  alignas(32) uint8_t swap[32];           // bytes of words the other way round
  alignas(32) uint32_t column_low[8], column_high[8], one[8], bytes_of_lps[8], float_bias[8], valid_bits[8], word_bits[8];
  alignas(32) uint32_t states[8], rates[8], numbers[8];
  alignas(32) uint16_t ones[16], is_upper[16], is_below[16];
  alignas(8) uint8_t compress[256][8];  // by bits: the places of those that are set
};

template <class T, size_t n>
constexpr void fill(T (&words)[n], T word) {
  for (T& each : words) each = word;
}

constexpr EightTables make_eight_tables() {
  EightTables tables{};
  for (int i = 0; i < 32; ++i) {
    const int at = i & 15;
    tables.lps[0][i] = kLpsFactor[static_cast<size_t>(at)], tables.lps[1][i] = kLpsFactor[static_cast<size_t>(16 + at)];
    tables.adaptation[0][i] = static_cast<uint8_t>(kAdaptation[static_cast<size_t>(at)] >> 4);
    tables.adaptation[1][i] = static_cast<uint8_t>(kAdaptation[static_cast<size_t>(16 + at)] >> 4);
    tables.rate[i] = at < 8 ? static_cast<uint8_t>(1 << (7 - at)) : 0;
    tables.swap[i] = static_cast<uint8_t>(at ^ 3);
  }
  // A byte whose highest bit is set looks up zero: three of each lane, and the column in one of the two tables.
  fill(tables.column_low, 0x80808070u), fill(tables.column_high, 0x808080f0u);
  fill(tables.one, 1u), fill(tables.bytes_of_lps, 0xffu << kWindowShift), fill(tables.float_bias, 127u + 8);
  fill(tables.valid_bits, static_cast<uint32_t>(kWideValidBits)), fill(tables.word_bits, 31u);
  fill(tables.states, kStateBits), fill(tables.rates, kRateBits), fill(tables.numbers, 0xff000000u);
  fill(tables.ones, uint16_t{1}), fill(tables.is_upper, uint16_t{0x8000}), fill(tables.is_below, uint16_t{0x80});
  for (unsigned bits = 0; bits < 256; ++bits) {
    int n = 0;
    for (unsigned i = 0; i < 8; ++i) {
      if (bits >> i & 1) tables.compress[bits][n++] = static_cast<uint8_t>(i);
    }
  }
  return tables;
}

inline constexpr EightTables kEightTables = make_eight_tables();

template <class T>
NNR_EIGHT_INLINE __m256i load_eight(const T* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}
template <class T>
NNR_EIGHT_INLINE void store_eight(T* to, __m256i words) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), words);
}

NNR_EIGHT_INLINE __m256i join(const int32_t* words) {
  __m128i low = _mm_cvtsi32_si128(words[0]), high = _mm_cvtsi32_si128(words[4]);
  low = _mm_insert_epi32(low, words[1], 1), high = _mm_insert_epi32(high, words[5], 1);
  low = _mm_insert_epi32(low, words[2], 2), high = _mm_insert_epi32(high, words[6], 2);
  low = _mm_insert_epi32(low, words[3], 3), high = _mm_insert_epi32(high, words[7], 3);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// The LPS range of each lane at the top of 32 bits, from total >> 7.
NNR_EIGHT_INLINE __m256i lps_of(const EightTables& tables, __m256i range, __m256i total) {
  const __m256i column = _mm256_abs_epi32(total);
  const __m256i low = _mm256_add_epi8(column, load_eight(tables.column_low));
  const __m256i high = _mm256_add_epi8(column, load_eight(tables.column_high));
  const __m256i factor = _mm256_or_si256(_mm256_shuffle_epi8(load_eight(tables.lps[0]), low),
                                         _mm256_shuffle_epi8(load_eight(tables.lps[1]), high));
  const __m256i row = _mm256_add_epi32(_mm256_srli_epi32(range, 28), load_eight(tables.one));
  return _mm256_and_si256(_mm256_slli_epi32(_mm256_mullo_epi16(factor, row), kWindowShift - kLpsFactorBits),
                          load_eight(tables.bytes_of_lps));
}

// Packed contexts after a bin, all ones in `is_zero` for bin 0.
NNR_EIGHT_INLINE __m256i updated_contexts(const EightTables& tables, __m256i packed, __m256i is_zero) {
  const __m256i sign = _mm256_or_si256(is_zero, load_eight(tables.ones));
  const __m256i towards = _mm256_sign_epi16(_mm256_and_si256(packed, load_eight(tables.states)), sign);
  const __m256i place = _mm256_or_si256(_mm256_srai_epi16(towards, 11), load_eight(tables.is_upper));
  const __m256i adaptation = _mm256_or_si256(
      _mm256_shuffle_epi8(load_eight(tables.adaptation[0]), _mm256_xor_si256(place, load_eight(tables.is_below))),
      _mm256_shuffle_epi8(load_eight(tables.adaptation[1]), place));
  const __m256i rates = _mm256_or_si256(_mm256_and_si256(packed, load_eight(tables.rates)), load_eight(tables.is_upper));
  const __m256i factor = _mm256_shuffle_epi8(load_eight(tables.rate), rates);
  const __m256i change =
      _mm256_and_si256(_mm256_slli_epi16(_mm256_mullo_epi16(adaptation, factor), 1), load_eight(tables.states));
  return _mm256_add_epi16(packed, _mm256_sign_epi16(change, sign));
}

// The shift that brings a range back to the top of 32 bits: the exponent of its window as a float counts its bits.
NNR_EIGHT_INLINE __m256i shift_of(const EightTables& tables, __m256i range) {
  const __m256i window = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_srli_epi32(range, kWindowShift)));
  return _mm256_sub_epi32(load_eight(tables.float_bias), _mm256_srli_epi32(window, 23));
}

// Lanes 8 * half on of a state. Where they are in the automaton and in their contexts stays in the state's memory, whose
// words and bytes are places for loads.
struct EightLanes {
  WideState& state;
  const EightTables& tables;
  const int first;
  uint32_t* const contexts;
  const uint8_t* const places;  // per lane four bytes: the context, two of the node, the number
  __m256i value, range, next, n_valid, packed, log, first_log;

  NNR_EIGHT_INLINE EightLanes(WideState& from, const EightTables& shared, int half)
      : state(from), tables(shared), first(kEight * half), contexts(from.contexts + first * kWideStride),
        places(reinterpret_cast<const uint8_t*>(from.at + first)) {
    log = first_log = _mm256_setzero_si256();
    load();
  }
  NNR_EIGHT_INLINE void load() {
    value = load_eight(state.value + first), range = load_eight(state.range + first);
    next = load_eight(state.next + first), n_valid = load_eight(state.n_valid + first);
    load_contexts(load_eight(state.at + first));
  }
  NNR_EIGHT_INLINE void store() const {
    store_eight(state.value + first, value), store_eight(state.range + first, range);
    store_eight(state.next + first, next), store_eight(state.n_valid + first, n_valid);
  }

  NNR_EIGHT_INLINE uint32_t& context(int i) const { return (contexts + i * kWideStride)[size_t{places[4 * i]}]; }
  NNR_EIGHT_INLINE const double* steps(int i) const {
    uint16_t node;
    std::memcpy(&node, places + 4 * i + 1, sizeof node);
    return reinterpret_cast<const double*>(state.steps->steps[node]);
  }

  // Those of steps. Their places are taken out of the vectors, faster than out of memory that was just written.
  NNR_EIGHT_INLINE void load_contexts(__m256i reached) {
    const __m128i low = _mm256_castsi256_si128(reached), high = _mm256_extracti128_si256(reached, 1);
    const uint32_t at[kEight] = {byte<0>(low), byte<4>(low), byte<8>(low), byte<12>(low),
                                 byte<0>(high), byte<4>(high), byte<8>(high), byte<12>(high)};
    int32_t words[kEight];
    for (int i = 0; i < kEight; ++i) words[i] = static_cast<int32_t>((contexts + i * kWideStride)[size_t{at[i]}]);
    packed = join(words);
  }
  template <int kAt>
  static NNR_EIGHT_INLINE uint32_t byte(__m128i from) {
    return static_cast<uint32_t>(_mm_extract_epi8(from, kAt));
  }
  NNR_EIGHT_INLINE void store_contexts(__m256i words) const {
    const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
    context(0) = static_cast<uint32_t>(_mm_cvtsi128_si32(low));
    context(1) = static_cast<uint32_t>(_mm_extract_epi32(low, 1));
    context(2) = static_cast<uint32_t>(_mm_extract_epi32(low, 2));
    context(3) = static_cast<uint32_t>(_mm_extract_epi32(low, 3));
    context(4) = static_cast<uint32_t>(_mm_cvtsi128_si32(high));
    context(5) = static_cast<uint32_t>(_mm_extract_epi32(high, 1));
    context(6) = static_cast<uint32_t>(_mm_extract_epi32(high, 2));
    context(7) = static_cast<uint32_t>(_mm_extract_epi32(high, 3));
  }

  NNR_EIGHT_INLINE void refill() {
    store_eight(state.next + first, next);
    int32_t words[kEight];
    for (int i = 0; i < kEight; ++i) std::memcpy(&words[i], state.base + state.next[first + i], sizeof *words);
    const __m256i word = _mm256_shuffle_epi8(join(words), load_eight(tables.swap));
    value = _mm256_or_si256(value, _mm256_srlv_epi32(word, n_valid));
    const __m256i n_bytes = _mm256_srli_epi32(_mm256_sub_epi32(load_eight(tables.word_bits), n_valid), 3);
    next = _mm256_min_epu32(_mm256_add_epi32(next, n_bytes), load_eight(state.limit + first));
    n_valid = _mm256_or_si256(n_valid, load_eight(tables.valid_bits));
  }

  // One bin of each lane; the packed steps that it leads to.
  NNR_EIGHT_INLINE __m256i step() {
    // Halves of a shuffle are lanes 0 1 4 5 and 2 3 6 7.
    const auto pairs = [this](int i) NNR_TARGET_AVX2 { return _mm_loadh_pd(_mm_load_sd(steps(i)), steps(i + 1)); };
    const __m256 left = _mm256_castpd_ps(_mm256_insertf128_pd(_mm256_castpd128_pd256(pairs(0)), pairs(4), 1));
    const __m256 right = _mm256_castpd_ps(_mm256_insertf128_pd(_mm256_castpd128_pd256(pairs(2)), pairs(6), 1));
    const __m256i if_zero = _mm256_castps_si256(_mm256_shuffle_ps(left, right, 0x88));
    const __m256i if_one = _mm256_castps_si256(_mm256_shuffle_ps(left, right, 0xdd));

    const __m256i total = _mm256_madd_epi16(packed, load_eight(tables.ones));  // rates add less than 2^4
    const __m256i lps = lps_of(tables, range, _mm256_srai_epi32(total, 11));
    const __m256i mps = _mm256_sub_epi32(range, lps);
    const __m256i is_lps = _mm256_cmpeq_epi32(_mm256_max_epu32(value, mps), value);
    const __m256i is_zero = _mm256_xor_si256(is_lps, _mm256_srai_epi32(total, 31));
    const __m256i reached = _mm256_blendv_epi8(if_one, if_zero, is_zero);

    store_contexts(updated_contexts(tables, packed, is_zero));
    store_eight(state.at + first, reached);
    load_contexts(reached);

    value = _mm256_sub_epi32(value, _mm256_and_si256(mps, is_lps));
    range = _mm256_blendv_epi8(mps, lps, is_lps);
    const __m256i shift = shift_of(tables, range);
    value = _mm256_sllv_epi32(value, shift);
    range = _mm256_sllv_epi32(range, shift);
    n_valid = _mm256_sub_epi32(n_valid, shift);
    return reached;
  }

  // Puts the numbers of step i into the log.
  NNR_EIGHT_INLINE void note(int64_t i, __m256i reached) {
    log = _mm256_or_si256(_mm256_srli_epi32(log, 8), _mm256_and_si256(reached, load_eight(tables.numbers)));
    if ((i & 3) != 3) return;
    if ((i & 4) == 0) {
      first_log = log;
      return;
    }
    uint32_t* const to = state.log[(i >> 2) - 1] + 2 * first;
    store_eight(to, _mm256_unpacklo_epi32(first_log, log)), store_eight(to + kEight, _mm256_unpackhi_epi32(first_log, log));
  }

  // After n_steps steps.
  NNR_EIGHT_INLINE void finish(int64_t n_steps) {
    const __m256i nothing = _mm256_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(kNothing) << 24));
    for (int64_t i = n_steps; i & 7; ++i) note(i, nothing);
    store();
  }
};

// Where `note` puts the eight bytes of a lane.
constexpr int kLogPlace[kEight] = {0, 1, 4, 5, 2, 3, 6, 7};

NNR_EIGHT_INLINE unsigned escapes_of(__m256i reached) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_slli_epi32(reached, 8))));
}

// n_steps bins of each lane of a state, n_steps up to kWideRun.
NNR_EIGHT_INLINE void take_eight_turns(WideState& state, Lane* lanes, int64_t n_steps, unsigned active) {
  std::memset(state.n_escaped, 0, sizeof state.n_escaped);
  const EightTables& tables = *in_register(&kEightTables);
  EightLanes a(state, tables, 0), b(state, tables, 1);
  for (int64_t i = 0; i < n_steps; ++i) {
    if ((i & 1) == 0) a.refill(), b.refill();
    const __m256i reached_a = a.step(), reached_b = b.step();
    a.note(i, reached_a), b.note(i, reached_b);
    if (NNR_LIKELY(!escapes_of(_mm256_or_si256(reached_a, reached_b)))) continue;
    a.store(), b.store();
    const unsigned escapes = escapes_of(reached_a) | escapes_of(reached_b) << kEight;
    for (unsigned idle = escapes & ~active; idle; idle &= idle - 1) state.at[__builtin_ctz(idle)] = 0;  // leads nowhere
    decode_wide_escapes(state, lanes, escapes & active);
    a.load(), b.load();
  }
  a.finish(n_steps), b.finish(n_steps);
}

// The numbers that n_steps steps of a lane completed.
NNR_EIGHT_INLINE void collect_eight(WideState& state, int i, int64_t n_steps) {
  const __m128i none = _mm_set1_epi8(static_cast<char>(kNothing));
  const EightTables& tables = *in_register(&kEightTables);
  const uint32_t* from = state.log[0] + 2 * ((i & kEight) + kLogPlace[i % kEight]);
  uint8_t* to = state.complete[i];
  for (int64_t first = 0; first < n_steps; first += 8, from += 2 * kWideLanes) {
    const __m128i log = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    const unsigned complete = ~static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(log, none))) & 0xff;
    const __m128i places = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(tables.compress[complete]));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(log, places));
    to += __builtin_popcount(complete);
  }
  state.n_complete[i] = to - state.complete[i];
}

// Bytes as they are delivered, n up to eight.
struct EightNumbers {
  const bool to_values;
  const __m256 step;
  const int32_t* escaped;

  NNR_EIGHT_INLINE __m256i of(const uint8_t* from, int64_t n) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    __m256i numbers = _mm256_cvtepi8_epi32(bytes);
    const __m128i is_escaped = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(static_cast<char>(kEscaped)));
    const unsigned escapes = static_cast<unsigned>(_mm_movemask_epi8(is_escaped)) & ((1u << n) - 1);
    if (NNR_UNLIKELY(escapes)) {
      alignas(32) int32_t words[kEight];
      store_eight(words, numbers);
      for (unsigned rest = escapes; rest; rest &= rest - 1) words[__builtin_ctz(rest)] = *escaped++;
      numbers = load_eight(words);
    }
    return to_values ? _mm256_castps_si256(_mm256_mul_ps(step, _mm256_cvtepi32_ps(numbers))) : numbers;
  }
};

// What `deliver` does, with the numbers that were collected.
NNR_EIGHT_INLINE void deliver_eight(const WideState& state, int i, Lane& lane) {
  const Target& target = *lane.target;
  EightNumbers numbers{target.output == Output::values, _mm256_set1_ps(target.step), state.escaped[i]};
  const uint8_t* from = state.complete[i];
  for (const uint8_t* end = from + state.n_complete[i]; from < end;) {
    const Run run = take_run(lane, end - from);
    int32_t* const to = target.numbers + run.place;
    int64_t j = 0;
    for (; j + kEight <= run.n; j += kEight) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), numbers.of(from + j, kEight));
    }
    if (j < run.n) {
      alignas(32) int32_t rest[kEight];
      store_eight(rest, numbers.of(from + j, run.n - j));
      std::memcpy(to + j, rest, static_cast<size_t>(run.n - j) * sizeof *rest);
    }
    from += run.n;
  }
}

// Of one state.
NNR_TARGET_AVX2 inline void run_wide_avx2(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active) {
  take_eight_turns(*states, lanes, n_steps, active);
  for (uint32_t rest = active; rest; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    collect_eight(*states, i, n_steps);
    deliver_eight(*states, i, lanes[i]);
  }
}

}  // namespace nnr

#endif
