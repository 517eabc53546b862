// Rows of contexts as vectors: what their bins cost, and how bins change them.
//
// A row is one vector of 16-bit lanes, fast states in its lower half, slow ones in its upper, so that both are permuted,
// updated and put in place by the same instructions.
#pragma once

#include "path_contexts.hpp"

#if NNR_X86

namespace nnr {

NNR_AVX2_INLINE __m256i load_row(const void* row) { return _mm256_load_si256(static_cast<const __m256i*>(row)); }
NNR_AVX2_INLINE void store_row(void* row, __m256i value) { _mm256_store_si256(static_cast<__m256i*>(row), value); }
NNR_AVX2_INLINE __m256i all_of(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }

// A constant that is kept, where a compiler would make it anew at each use.
NNR_AVX2_INLINE __m256i kept(__m256i constant) {
  asm("" : "+x"(constant));
  return constant;
}

// kAdaptation[16 + i] >> 4 for i = -16..15: look-ups in two halves, each of which gives zero for the other's numbers.
struct AdaptationTable {
  __m256i low, high;
  const __m256i top_bit = kept(all_of(0x80)), low_byte = kept(all_of(0xff));
  const __m256i whole = kept(_mm256_set_m128i(_mm_set1_epi16(-1), _mm_set1_epi16(-16)));  // see RateRow

  NNR_AVX2_INLINE AdaptationTable() {
    alignas(32) uint8_t bytes[2][32];
    for (size_t i = 0; i < 32; ++i) {
      bytes[0][i] = static_cast<uint8_t>(kAdaptation[i & 15] >> 4);
      bytes[1][i] = static_cast<uint8_t>(kAdaptation[16 + (i & 15)] >> 4);
    }
    low = load_row(bytes[0]), high = load_row(bytes[1]);
  }

  NNR_AVX2_INLINE __m256i look_up(__m256i i) const {
    const __m256i below = _mm256_shuffle_epi8(low, _mm256_xor_si256(i, top_bit));
    return _mm256_and_si256(_mm256_or_si256(below, _mm256_shuffle_epi8(high, i)), low_byte);
  }

  // The row after a bin: `signs` is 1 for bin 1, -1 for bin 0, and 0 where there is none.
  NNR_AVX2_INLINE __m256i updated(__m256i row, __m256i rates, __m256i signs) const {
    const __m256i scaled = _mm256_mullo_epi16(look_up(_mm256_srai_epi16(_mm256_sign_epi16(row, signs), 7)), rates);
    const __m256i step = _mm256_and_si256(_mm256_srli_epi16(scaled, 4), whole);
    return _mm256_add_epi16(row, _mm256_sign_epi16(step, signs));
  }
};

// Costs of both bins of sixteen contexts.
struct PairCosts {
  __m256i zero, one;

  static NNR_AVX2_INLINE __m256i lower(__m256i costs) { return _mm256_cvtepu16_epi32(_mm256_castsi256_si128(costs)); }
  static NNR_AVX2_INLINE __m256i upper(__m256i costs) {
    return _mm256_cvtepu16_epi32(_mm256_extracti128_si256(costs, 1));
  }
};

// Costs of the more and of the less probable bin by abs(total >> 7), 32 entries of 16 bits each.
struct CostTable {
  __m256i more[4], less[4];  // low bytes of entries 0..15 and 16..31, then high bytes
  // Added to an entry's number, or to 256 times that, they make the bytes to look up in each plane: bit 7 is clear in
  // those that name an entry of the plane, set in all others.
  const __m256i offset[4] = {kept(all_of(0x8070)), kept(all_of(0x80f0)), kept(all_of(0x7080)), kept(all_of(0xf080))};

  NNR_AVX2_INLINE CostTable() {
    fill(more, bin_costs().cost[1] + 32);
    fill(less, bin_costs().cost[0] + 32);
  }

  // Of two rows, those of `a` in the lower half.
  NNR_AVX2_INLINE PairCosts look_up(__m256i a, __m256i b) const {
    const __m256i fast = _mm256_permute2x128_si256(a, b, 0x20), slow = _mm256_permute2x128_si256(a, b, 0x31);
    const __m256i total = _mm256_add_epi16(fast, slow);
    const __m256i column = _mm256_abs_epi16(_mm256_srai_epi16(total, 7)), shifted = _mm256_slli_epi16(column, 8);
    const __m256i at[4] = {_mm256_add_epi16(column, offset[0]), _mm256_add_epi16(column, offset[1]),
                           _mm256_add_epi16(shifted, offset[2]), _mm256_add_epi16(shifted, offset[3])};
    const __m256i more_probable = look_up(more, at), less_probable = look_up(less, at);
    const __m256i is_negative = _mm256_srai_epi16(total, 15);
    return {_mm256_blendv_epi8(less_probable, more_probable, is_negative),
            _mm256_blendv_epi8(more_probable, less_probable, is_negative)};
  }

 private:
  static NNR_AVX2_INLINE void fill(__m256i* planes, const uint16_t* costs) {
    for (int plane = 0; plane < 4; ++plane) {
      alignas(32) uint8_t bytes[32];
      for (int i = 0; i < 32; ++i) {
        bytes[i] = static_cast<uint8_t>(costs[16 * (plane & 1) + (i & 15)] >> 8 * (plane >> 1));
      }
      planes[plane] = load_row(bytes);
    }
  }

  static NNR_AVX2_INLINE __m256i look_up(const __m256i* planes, const __m256i* at) {
    const __m256i low = _mm256_or_si256(_mm256_shuffle_epi8(planes[0], at[0]), _mm256_shuffle_epi8(planes[1], at[1]));
    const __m256i high = _mm256_or_si256(_mm256_shuffle_epi8(planes[2], at[2]), _mm256_shuffle_epi8(planes[3], at[3]));
    return _mm256_or_si256(low, high);
  }
};

struct SizeCosts {
  __m256i even, odd;  // of the even and of the odd index that each survivor may choose
};

// Of sizes 1 and 2.
NNR_AVX2_INLINE SizeCosts least_size_costs(const PathContexts& paths, bool negative, const CostTable& table) {
  const PairCosts found = table.look_up(load_row(&paths.chain[0][negative]), load_row(&paths.chain[1][negative]));
  return {_mm256_add_epi32(PairCosts::lower(found.one), PairCosts::upper(found.zero)), PairCosts::lower(found.zero)};
}

NNR_AVX2_INLINE SizeCosts size_costs(const PathContexts& paths, bool negative, const Sizes& sizes,
                                     const CostTable& table) {
  const int32_t least = std::min(sizes.even[0], sizes.odd[0]);
  ChainEnd ends[3];
  for (int i = 0; i < 3; ++i) ends[i] = chain_end(paths.unary_length, least + i);
  __m256i cost[3] = {}, ones = _mm256_setzero_si256();
  for (int place = 0; place <= ends[2].place; ++place) {
    const __m256i row = load_row(&paths.chain[place][paths.side_of(place, negative)]);
    const PairCosts found = table.look_up(row, row);
    const __m256i ended = _mm256_add_epi32(ones, PairCosts::lower(found.zero));
    for (int i = 0; i < 3; ++i) {
      if (ends[i].place == place) cost[i] = _mm256_add_epi32(ended, _mm256_set1_epi32(ends[i].n_bypass << kCostBits));
    }
    ones = _mm256_add_epi32(ones, PairCosts::lower(found.one));
  }
  return {_mm256_blend_epi32(cost[sizes.even[0] - least], cost[sizes.even[1] - least], 0xaa),
          _mm256_blend_epi32(cost[sizes.odd[0] - least], cost[sizes.odd[1] - least], 0xaa)};
}

}  // namespace nnr

#endif
