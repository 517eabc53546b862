// path_search.hpp in vectors, one lane per survivor: the same costs, the same choices, the same contexts.
#pragma once

#include "path_costs_avx2.hpp"

#if NNR_X86

namespace nnr {

// Eight 32-bit masks as 16-bit ones, in both halves.
NNR_AVX2_INLINE __m256i narrow_mask(__m256 mask) {
  const __m256i packed = _mm256_packs_epi32(_mm256_castps_si256(mask), _mm256_castps_si256(mask));
  return _mm256_permute4x64_epi64(packed, 0x88);
}

// Of vectors 0..7, lane i of vector i in both halves.
NNR_AVX2_INLINE __m256i diagonal(const __m256i* v) {
  const __m256i a = _mm256_blend_epi16(v[0], v[1], 0x02), b = _mm256_blend_epi16(v[2], v[3], 0x08);
  const __m256i c = _mm256_blend_epi16(v[4], v[5], 0x20), d = _mm256_blend_epi16(v[6], v[7], 0x80);
  return _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x0c), _mm256_blend_epi16(c, d, 0xc0), 0xf0);
}

// Sign class of each survivor's last index, as masks.
struct Neighbours {
  __m256i negative, positive;

  NNR_AVX2_INLINE __m256i select(const __m256i* by_neighbour) const {
    const __m256i some = _mm256_blendv_epi8(by_neighbour[0], by_neighbour[1], negative);
    return _mm256_blendv_epi8(some, by_neighbour[2], positive);
  }
  NNR_AVX2_INLINE __m256i number() const {
    const __m256i minus = _mm256_add_epi16(negative, _mm256_add_epi16(positive, positive));
    return _mm256_sub_epi16(_mm256_setzero_si256(), minus);
  }
};

// How the survivors after a weight follow from those before it. Masks and places are by survivor after it.
struct Step {
  __m256i order;     // bytes to shuffle: its parent
  __m256i took_odd;  // the parent took an odd index
  __m256i is_empty;  // it took zero
  unsigned taken, zeros;
};

class PathSearch {
 public:
  NNR_AVX2_INLINE PathSearch(const TrellisState& state, PathContexts& paths) : paths_(paths) {
    for (int i = 0; i < 3 * kDqStates; ++i) numbers_[i] = kept(all_of(i));
    alignas(32) uint8_t bytes[2][32];
    for (int i = 0; i < 32; ++i) {
      bytes[0][i] = static_cast<uint8_t>(2 * kEvenFrom[i / 2 & 7] + (i & 1));
      bytes[1][i] = static_cast<uint8_t>(2 * kOddFrom[i / 2 & 7] + (i & 1));
    }
    even_order_ = load_row(bytes[0]), odd_order_ = load_row(bytes[1]);
    cost_ = _mm256_load_ps(state.cost);
    last_.negative = narrow_mask(_mm256_castsi256_ps(load_row(state.follows_negative)));
    last_.positive = narrow_mask(_mm256_castsi256_ps(load_row(state.follows_positive)));
    __m256i here[kDqStates];
    for (int s = 0; s < kDqStates; ++s) {
      __m256i rows[3];
      for (int b = 0; b < 3; ++b) rows[b] = load_row(&paths.significant[b][s]);
      here[s] = last_.select(rows);
    }
    significant_ = diagonal(here);
    for (int b = 0; b < 3; ++b) {
      significant_rates_[b] = load_row(&paths.significant_rate[b]), sign_rates_[b] = load_row(&paths.sign_rate[b]);
    }
  }

  NNR_AVX2_INLINE void finish(TrellisState& state) const {
    _mm256_store_ps(state.cost, cost_);
    store_row(state.follows_negative, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(last_.negative)));
    store_row(state.follows_positive, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(last_.positive)));
  }

  // The best way to each state over weight i. `is_least`: the indices to choose from are 0, 1 and 2.
  NNR_AVX2_INLINE Step choose(const PieceCosts& costs, int64_t i, bool is_least) {
    const bool negative = costs.negative[i];
    const PairCosts flags = costs_.look_up(significant_, sign());
    const __m256i sign_cost = PairCosts::upper(negative ? flags.one : flags.zero);
    const __m256i nonzero = _mm256_add_epi32(PairCosts::lower(flags.one), sign_cost);
    const SizeCosts of_size = NNR_LIKELY(is_least) ? least_size_costs(paths_, negative, costs_)
                                                   : size_costs(paths_, negative, Sizes(costs.first[i]), costs_);
    const __m256 zero = weighted(PairCosts::lower(flags.zero), _mm256_broadcast_ss(&costs.zero[i]));
    const __m256 other = weighted(_mm256_add_epi32(nonzero, of_size.even), load_pair(costs.even[i]));
    const __m256 is_zero = _mm256_cmp_ps(zero, other, _CMP_LE_OQ);
    const __m256 even = from_even(_mm256_add_ps(cost_, _mm256_min_ps(zero, other)));
    const __m256 by_odd = weighted(_mm256_add_epi32(nonzero, of_size.odd), load_pair(costs.odd[i]));
    const __m256 odd = swap_halves(from_even(_mm256_add_ps(cost_, by_odd)));
    const __m256 is_odd = _mm256_cmp_ps(odd, even, _CMP_LT_OQ);
    cost_ = _mm256_min_ps(odd, even);
    const __m256i took_odd = narrow_mask(is_odd);
    return {_mm256_blendv_epi8(even_order_, odd_order_, took_odd), took_odd,
            narrow_mask(_mm256_andnot_ps(is_odd, from_even(is_zero))),
            static_cast<unsigned>(_mm256_movemask_ps(is_odd)), static_cast<unsigned>(_mm256_movemask_ps(is_zero))};
  }

  // Every survivor's contexts: its parent's, moved by the index that it took.
  NNR_AVX2_INLINE void follow(const Step& step, bool negative, int32_t first, bool is_least) {
    const __m256i number = last_.number();
    follow_sign(step, number, negative ? one_ : minus_);
    const __m256i rates = last_.select(significant_rates_);
    const __m256i after_zero = _mm256_shuffle_epi8(adaptation_.updated(significant_, rates, minus_), step.order);
    const __m256i after_other = _mm256_shuffle_epi8(adaptation_.updated(significant_, rates, one_), step.order);
    const __m256i moved = _mm256_blendv_epi8(after_other, after_zero, step.is_empty);
    const __m256i by_survivor = _mm256_broadcastsi128_si256(_mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i at = _mm256_shuffle_epi8(_mm256_add_epi16(by_survivor, _mm256_slli_epi16(number, 3)), step.order);
    const __m256i filled = _mm256_xor_si256(step.is_empty, minus_), none = _mm256_setzero_si256();
    last_.negative = negative ? filled : none;
    last_.positive = negative ? none : filled;
    __m256i next[kDqStates];
#pragma GCC unroll 8
    for (int s = 0; s < kDqStates; ++s) {
      __m256i rows[3];
      for (int b = 0; b < 3; ++b) rows[b] = follow_row(paths_.significant[b][s], step.order, at, 8 * b + s, moved);
      next[s] = last_.select(rows);
    }
    significant_ = diagonal(next);
    follow_chain(step, negative, first, is_least);
  }

 private:
  // distortion + bits at their weight.
  NNR_AVX2_INLINE __m256 weighted(__m256i bins, __m256 distortion) const {
    const __m256 weight = _mm256_broadcast_ss(&paths_.bin_weight);
    return _mm256_add_ps(distortion, _mm256_mul_ps(weight, _mm256_cvtepi32_ps(bins)));
  }

  // The sign context that each survivor uses next.
  NNR_AVX2_INLINE __m256i sign() const {
    const __m256i rows[3] = {load_row(&paths_.sign[0]), load_row(&paths_.sign[1]), load_row(&paths_.sign[2])};
    return last_.select(rows);
  }

  // A row after the step, with `moved` where the parent used the context of this `number`.
  NNR_AVX2_INLINE __m256i follow_row(ContextRow& row, __m256i order, __m256i at, int number, __m256i moved) const {
    const __m256i kept = _mm256_shuffle_epi8(load_row(&row), order);
    const __m256i next = _mm256_blendv_epi8(kept, moved, _mm256_cmpeq_epi16(at, numbers_[number]));
    store_row(&row, next);
    return next;
  }

  // `number` is that of the sign context of each parent.
  NNR_AVX2_INLINE void follow_sign(const Step& step, __m256i number, __m256i bin_sign) {
    const __m256i updated = adaptation_.updated(sign(), last_.select(sign_rates_), bin_sign);
    const __m256i moved = _mm256_shuffle_epi8(updated, step.order);
    const __m256i at = _mm256_or_si256(_mm256_shuffle_epi8(number, step.order), step.is_empty);
    for (int b = 0; b < 3; ++b) follow_row(paths_.sign[b], step.order, at, b, moved);
  }

  NNR_AVX2_INLINE void follow_chain(const Step& step, bool negative, int32_t first, bool is_least) {
    int n_places = 2;
    if (NNR_LIKELY(is_least)) {
      const __m256i end = _mm256_or_si256(_mm256_andnot_si256(step.took_odd, one_), step.is_empty);
      follow_place(0, negative, step.order, end);
      follow_place(1, negative, step.order, end);
    } else {
      const Sizes sizes(first);
      const __m256i by_size = _mm256_blendv_epi8(ends_of(sizes.even), ends_of(sizes.odd), step.took_odd);
      const __m256i end = _mm256_or_si256(by_size, step.is_empty);
      n_places = chain_end(paths_.unary_length, std::max(sizes.even[1], sizes.odd[1])).place + 1;
      for (int place = 0; place < n_places; ++place) follow_place(place, negative, step.order, end);
    }
    paths_.n_open = std::max(paths_.n_open, n_places);
    for (int place = n_places; place < paths_.n_open; ++place) {
      for (ContextRow& row : paths_.chain[place]) store_row(&row, _mm256_shuffle_epi8(load_row(&row), step.order));
    }
  }

  // One place of the chain, for indices whose chains end at `end`, -1 for a zero.
  NNR_AVX2_INLINE void follow_place(int place, bool negative, __m256i order, __m256i end) {
    const int side = paths_.side_of(place, negative);
    ContextRow& row = paths_.chain[place][side];
    ContextRow& other = paths_.chain[place][1 - side];
    const __m256i at = all_of(place), rates = load_row(&paths_.chain_rate[place][side]);
    const __m256i signs = _mm256_sub_epi16(_mm256_cmpeq_epi16(end, at), _mm256_cmpgt_epi16(end, at));
    store_row(&row, adaptation_.updated(_mm256_shuffle_epi8(load_row(&row), order), rates, signs));
    store_row(&other, _mm256_shuffle_epi8(load_row(&other), order));
  }

  // Survivors 0..3 come from even states and the others from odd ones, by even and by odd indices alike.
  NNR_AVX2_INLINE __m256i ends_of(const int32_t* sizes) const {
    const __m128i even = _mm_set1_epi16(static_cast<int16_t>(chain_end(paths_.unary_length, sizes[0]).place));
    const __m128i odd = _mm_set1_epi16(static_cast<int16_t>(chain_end(paths_.unary_length, sizes[1]).place));
    return _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(even, odd));
  }

  PathContexts& paths_;
  const AdaptationTable adaptation_;
  const CostTable costs_;
  const __m256i one_ = kept(all_of(1)), minus_ = kept(all_of(-1));
  __m256i numbers_[3 * kDqStates];  // 0..23, each in all lanes
  __m256i even_order_, odd_order_;
  __m256i significant_rates_[3], sign_rates_[3];
  __m256 cost_;
  Neighbours last_;
  __m256i significant_;  // the significance context that each survivor uses next
};

NNR_AVX2_INLINE void advance_with_contexts_avx2(TrellisState& state, PathContexts& paths, const PieceCosts& costs,
                                                int64_t n, uint8_t* branches, uint8_t* zeros) {
  PathSearch search(state, paths);
  const int32_t least = paths.unary_length > 1 ? 1 : 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool is_least = costs.first[i] <= least;
    const Step step = search.choose(costs, i, is_least);
    search.follow(step, costs.negative[i], costs.first[i], is_least);
    branches[i] = static_cast<uint8_t>(step.taken);
    zeros[i] = static_cast<uint8_t>(step.zeros);
  }
  search.finish(state);
}

}  // namespace nnr

#endif
