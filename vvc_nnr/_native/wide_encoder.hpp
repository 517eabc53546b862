// Up to sixteen codewords encoded side by side, one bin of each at a step, in two vectors of eight lanes (AVX2).
//
// Contexts are packed as in WideState. What a step adds to `low` and how far it shifts it is gathered in 32 bits, and
// goes to the lane's arithmetic encoder before a step could overflow them: low is a sum of what its bins add, each
// shifted by all that follow.
#pragma once

#include "block_row_bins.hpp"
#include "tensor_encoder.hpp"
#include "wide_lanes_avx2.hpp"

#if NNR_X86

namespace nnr {

constexpr int kEncoderLanes = 2 * kEight;
constexpr int kEncoderStride = 264;  // contexts per lane: what the byte of a bypass bin tells is within them
constexpr int kMaxWideUnaryLength = 32;
constexpr int kEncoderRun = 256;  // steps between two looks at what lanes have left
constexpr uint32_t kGatheredBits = 14;  // after so many a step may shift by 8 more: 9 + 22 bits fit a word

static_assert(kGreater + 4 * kMaxWideUnaryLength + kRemainderContexts <= 256, "a context is a byte");
static_assert(2 * kEncoderRun <= kBinPiece, "runs are not cut short by refills");

struct WideEncoder {
  alignas(64) uint32_t contexts[kEncoderLanes * kEncoderStride];
  alignas(64) Bin bins[kEight][kEncoderLanes];  // of eight steps, by step and lane
  alignas(64) uint32_t range[kEncoderLanes];
  ArithmeticEncoder* encoders[kEncoderLanes];
  const Bin* next[kEncoderLanes];
  // Of lanes that have nothing to do, and encode zeros for nobody.
  Bin no_bins[kEncoderRun + kEight];
  uint8_t no_bytes[kEncoderRun + kEncoderMargin];
  ArithmeticEncoder no_encoder;

  WideEncoder() {
    std::memset(contexts, 0, sizeof contexts);
    std::memset(no_bins, 0, sizeof no_bins);
    for (int i = 0; i < kEncoderLanes; ++i) put_nothing(i);
  }

  void put_nothing(int i) {
    encoders[i] = &no_encoder;
    range[i] = 256u << kWindowShift;
  }

  void put(int i, ArithmeticEncoder& encoder, const Context* from, int n_contexts) {
    encoders[i] = &encoder;
    range[i] = static_cast<uint32_t>(encoder.range >> 32);
    for (int c = 0; c < n_contexts; ++c) contexts[i * kEncoderStride + c] = packed(from[c]);
  }

  // The inverse; rates stay as they were put.
  void get(int i, Context* to, int n_contexts) const {
    encoders[i]->range = uint64_t{range[i]} << 32;
    for (int c = 0; c < n_contexts; ++c) unpack(contexts[i * kEncoderStride + c], to[c]);
  }
};

// Lanes 8 * half on.
struct EightEncoders {
  WideEncoder& state;
  const EightTables& tables;
  const int first;
  uint32_t* const contexts;
  __m256i range, low, n_gathered;

  NNR_EIGHT_INLINE EightEncoders(WideEncoder& from, const EightTables& shared, int half)
      : state(from), tables(shared), first(kEight * half), contexts(from.contexts + first * kEncoderStride) {
    range = load_eight(state.range + first);
    low = n_gathered = _mm256_setzero_si256();
  }

  // The next eight bins of each lane, by step.
  NNR_EIGHT_INLINE void fetch(int at) {
    __m128i rows[kEight], pairs[kEight], fours[kEight];
    for (int i = 0; i < kEight; ++i) {
      rows[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state.next[first + i] + at));
    }
    for (int i = 0; i < kEight; i += 2) {
      pairs[i] = _mm_unpacklo_epi16(rows[i], rows[i + 1]), pairs[i + 1] = _mm_unpackhi_epi16(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < kEight; i += 4) {
      for (int j = 0; j < 2; ++j) {
        fours[i + 2 * j] = _mm_unpacklo_epi32(pairs[i + j], pairs[i + j + 2]);
        fours[i + 2 * j + 1] = _mm_unpackhi_epi32(pairs[i + j], pairs[i + j + 2]);
      }
    }
    for (int j = 0; j < 4; ++j) {
      store_row(2 * j, _mm_unpacklo_epi64(fours[j], fours[j + 4]));
      store_row(2 * j + 1, _mm_unpackhi_epi64(fours[j], fours[j + 4]));
    }
  }
  NNR_EIGHT_INLINE void store_row(int step, __m128i bins) const {
    _mm_store_si128(reinterpret_cast<__m128i*>(state.bins[step] + first), bins);
  }

  NNR_EIGHT_INLINE uint32_t& context(int step, int i) const {
    const auto* places = reinterpret_cast<const uint8_t*>(state.bins[step] + first);
    return (contexts + i * kEncoderStride)[size_t{places[2 * i]}];
  }
  NNR_EIGHT_INLINE __m256i load_contexts(int step) const {
    int32_t words[kEight];
    for (int i = 0; i < kEight; ++i) words[i] = static_cast<int32_t>(context(step, i));
    return join(words);
  }
  NNR_EIGHT_INLINE void store_contexts(int step, __m256i words) const {
    const __m128i quarters[2] = {_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)};
    for (int i = 0; i < kEight; i += 4) {
      context(step, i) = static_cast<uint32_t>(_mm_cvtsi128_si32(quarters[i / 4]));
      context(step, i + 1) = static_cast<uint32_t>(_mm_extract_epi32(quarters[i / 4], 1));
      context(step, i + 2) = static_cast<uint32_t>(_mm_extract_epi32(quarters[i / 4], 2));
      context(step, i + 3) = static_cast<uint32_t>(_mm_extract_epi32(quarters[i / 4], 3));
    }
  }

  // One bin of each lane.
  NNR_EIGHT_INLINE void step(int at) {
    const __m128i row = _mm_load_si128(reinterpret_cast<const __m128i*>(state.bins[at] + first));
    const __m256i bins = _mm256_cvtepu16_epi32(row);
    if (NNR_LIKELY(!(_mm_movemask_epi8(row) & 0xaaaa))) {
      step_as<false>(at, bins);
    } else {
      step_as<true>(at, bins);
    }
    if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(n_gathered, _mm256_set1_epi32(kGatheredBits)))) flush();
  }

  // kBypass: some lanes may have bypass bins.
  template <bool kHasBypass>
  NNR_EIGHT_INLINE void step_as(int at, __m256i bins) {
    const __m256i packed = load_contexts(at);
    const __m256i is_zero = _mm256_cmpgt_epi32(_mm256_set1_epi32(kBinValue), bins);
    const __m256i total = _mm256_madd_epi16(packed, load_eight(tables.ones));  // rates add less than 2^4
    const __m256i lps = lps_of(tables, range, _mm256_srai_epi32(total, 11));
    const __m256i mps = _mm256_sub_epi32(range, lps);
    const __m256i is_lps = _mm256_xor_si256(is_zero, _mm256_srai_epi32(total, 31));
    const __m256i updated = updated_contexts(tables, packed, is_zero);
    __m256i added = _mm256_and_si256(_mm256_srli_epi32(mps, kWindowShift), is_lps);
    __m256i next_range = _mm256_blendv_epi8(mps, lps, is_lps);
    if (!kHasBypass) {
      store_contexts(at, updated);
    } else {
      const __m256i is_bypass = _mm256_cmpgt_epi32(bins, _mm256_set1_epi32(kBypass - 1));
      store_contexts(at, _mm256_blendv_epi8(updated, packed, is_bypass));
      const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bins, 8), _mm256_set1_epi32(7));
      const __m256i n_bins = _mm256_and_si256(_mm256_add_epi32(last, load_eight(tables.one)), is_bypass);
      low = _mm256_sllv_epi32(low, n_bins);
      n_gathered = _mm256_add_epi32(n_gathered, n_bins);
      const __m256i bypassed = _mm256_madd_epi16(_mm256_and_si256(bins, _mm256_set1_epi32(0xff)),
                                                 _mm256_srli_epi32(range, kWindowShift));
      added = _mm256_blendv_epi8(added, bypassed, is_bypass);
      next_range = _mm256_blendv_epi8(next_range, range, is_bypass);
    }
    const __m256i shift = shift_of(tables, next_range);
    range = _mm256_sllv_epi32(next_range, shift);
    low = _mm256_sllv_epi32(_mm256_add_epi32(low, added), shift);
    n_gathered = _mm256_add_epi32(n_gathered, shift);
  }

  // What was gathered, to the arithmetic encoders.
  NNR_EIGHT_INLINE void flush() {
    alignas(32) uint32_t lows[kEight], lengths[kEight];
    store_eight(lows, low), store_eight(lengths, n_gathered);
    for (int i = 0; i < kEight; ++i) {
      state.encoders[first + i]->append(lows[i], static_cast<int>(lengths[i]));
    }
    low = n_gathered = _mm256_setzero_si256();
  }

  NNR_EIGHT_INLINE void finish() {
    flush();
    store_eight(state.range + first, range);
  }
};

// n_steps bins of each lane of one vector or of two, which hide each other's latency; n_steps up to kEncoderRun.
template <bool kPair>
NNR_EIGHT_INLINE void encode_eight_turns(WideEncoder& state, int n_steps) {
  const EightTables& tables = *in_register(&kEightTables);
  EightEncoders a(state, tables, 0), b(state, tables, kPair ? 1 : 0);
  for (int at = 0; at < n_steps; at += kEight) {
    a.fetch(at);
    if (kPair) b.fetch(at);
    const int n = std::min(kEight, n_steps - at);
    for (int i = 0; i < n; ++i) {
      a.step(i);
      if (kPair) b.step(i);
    }
  }
  a.finish();
  if (kPair) b.finish();
}

NNR_TARGET_AVX2 inline void run_encoders_avx2(WideEncoder& state, int n_lanes, int n_steps) {
  n_lanes > kEight ? encode_eight_turns<true>(state, n_steps) : encode_eight_turns<false>(state, n_steps);
}

}  // namespace nnr

#endif
