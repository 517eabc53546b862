// One row of a 3x3 convolution in integers with what follows it. Features lie in groups of four bytes (the head's in two
// 16-bit halves), pixel after pixel, so that one instruction multiplies and sums a group for 16 pixels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../../vvc_nnr/_native/platform.hpp"

namespace filters {

constexpr int64_t kLanes = 16;  // pixels of a vector
constexpr int64_t kTile = 8;    // output channels that are summed at a time

// What a layer makes of a sum, for each output channel: value = sum * scale + bias, level = value * inverse_step + zero.
struct LayerNumbers {
  const float *scale, *bias, *inverse_step, *zero;
};

struct Rows {
  const uint8_t *above, *here, *below;
};

struct RowTask {
  Rows input;
  const int32_t* weights;
  const int64_t* wide_weights;  // the same, a group in four 16-bit numbers
  int64_t n_groups, n_out;
  int64_t group_bytes;   // from one group of the input, or the levels, to the next
  int64_t n_padded;      // pixels, a multiple of kLanes
  int64_t width;         // pixels that count
  LayerNumbers numbers;
  const float* addend;   // rows of floats, `plane_stride` apart
  float* sums;           // likewise
  uint8_t* levels;       // the next layer's input
  int64_t plane_stride;
};

// head: ReLU, kept, levels. hidden: levels with ReLU. stream: plus addend, kept, levels. body: plus addend, ReLU, levels.
// tail: plus addend, kept.
enum class Kind { head, hidden, stream, body, tail };

constexpr bool has_addend(Kind kind) { return kind == Kind::stream || kind == Kind::body || kind == Kind::tail; }
constexpr bool has_relu(Kind kind) { return kind == Kind::head || kind == Kind::body; }
constexpr bool has_sums(Kind kind) { return kind == Kind::head || kind == Kind::stream || kind == Kind::tail; }

struct RowFunctions {
  void (*head)(const RowTask&);
  void (*hidden)(const RowTask&);
  void (*stream)(const RowTask&);
  void (*body)(const RowTask&);
  void (*tail)(const RowTask&);
};

// ---- for any processor

template <bool kPairs>
inline void add_products(const uint8_t* pixels, int32_t weights, int64_t n, int32_t* sums) {
  if constexpr (kPairs) {
    int16_t w[2];
    std::memcpy(w, &weights, sizeof w);
    const auto* samples = reinterpret_cast<const int16_t*>(pixels);
    for (int64_t x = 0; x < n; ++x) sums[x] += samples[2 * x] * w[0] + samples[2 * x + 1] * w[1];
  } else {
    int8_t w[4];
    std::memcpy(w, &weights, sizeof w);
    for (int64_t x = 0; x < n; ++x) {
      sums[x] += pixels[4 * x] * w[0] + pixels[4 * x + 1] * w[1] + pixels[4 * x + 2] * w[2] + pixels[4 * x + 3] * w[3];
    }
  }
}

inline uint8_t to_level(float value, float inverse_step, float zero) {
  float x = value * inverse_step;
  x = x + zero;
  x = x > 0.0f ? x : 0.0f;
  x = x < 255.0f ? x : 255.0f;
  return static_cast<uint8_t>((x + 8388608.0f) - 8388608.0f);
}

template <Kind kKind>
void convolve_portable(const RowTask& task) {
  std::vector<int32_t> sums(static_cast<size_t>(task.n_padded));
  for (int64_t out = 0; out < task.n_out; ++out) {
    std::fill(sums.begin(), sums.end(), 0);
    const int32_t* weights = task.weights + out / kTile * kTile * 9 * task.n_groups + out % kTile;
    for (int64_t group = 0; group < task.n_groups; ++group) {
      for (const uint8_t* row : {task.input.above, task.input.here, task.input.below}) {
        for (int64_t dx = -1; dx <= 1; ++dx, weights += kTile) {
          const uint8_t* pixels = row + group * task.group_bytes + (kLanes + dx) * 4;
          add_products<kKind == Kind::head>(pixels, *weights, task.width, sums.data());
        }
      }
    }
    const auto& numbers = task.numbers;
    const int64_t plane = out * task.plane_stride;
    uint8_t* levels = task.levels + out / 4 * task.group_bytes + kLanes * 4 + out % 4;
    for (int64_t x = 0; x < task.width; ++x) {
      float value = static_cast<float>(sums[static_cast<size_t>(x)]) * numbers.scale[out];
      value = value + numbers.bias[out];
      if constexpr (has_addend(kKind)) value = value + task.addend[plane + x];
      if constexpr (has_relu(kKind)) value = value > 0.0f ? value : 0.0f;
      if constexpr (has_sums(kKind)) task.sums[plane + x] = value;
      if constexpr (kKind != Kind::tail) levels[4 * x] = to_level(value, numbers.inverse_step[out], numbers.zero[out]);
    }
  }
}

// ---- for AVX2, which multiplies and sums 16 bits without saturating: a group fills half as many pixels of a vector

#if NNR_X86

// As assembly, since GCC 12 sums products in another order, for which it has not registers enough.
NNR_TARGET_AVX2 NNR_INLINE void add_in_place(__m256i& sums, __m256i products) {
  asm("vpaddd %1, %0, %0" : "+x"(sums) : "x"(products));
}

// 8 pixels of a group from `pixels` on: as they are in pairs of 16 bits, else widened, four to a vector.
template <bool kPairs, int kVectors>
NNR_TARGET_AVX2 NNR_INLINE void load_pixels(const uint8_t* pixels, __m256i (&found)[kVectors]) {
  if constexpr (kPairs) {
    found[0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels));
  } else {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      found[v] = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + v * 16)));
    }
  }
}

// The sums of 8 pixels in their order.
template <bool kPairs, int kVectors>
NNR_TARGET_AVX2 NNR_INLINE __m256i whole_sums(const __m256i (&sums)[kVectors]) {
  if constexpr (kPairs) {
    return sums[0];
  } else {
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[0], sums[1]), 0xd8);
  }
}

NNR_TARGET_AVX2 NNR_INLINE __m256i interleave_8(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m128i half = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m256i order = _mm256_broadcastsi128_si256(half);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_shuffle_epi8(bytes, order);
}

NNR_TARGET_AVX2 NNR_INLINE __m256i to_levels_8(__m256 value, float inverse_step, float zero) {
  __m256 x = _mm256_mul_ps(value, _mm256_set1_ps(inverse_step));
  x = _mm256_add_ps(x, _mm256_set1_ps(zero));
  x = _mm256_max_ps(x, _mm256_setzero_ps());
  return _mm256_cvtps_epi32(_mm256_min_ps(x, _mm256_set1_ps(255.0f)));
}

// kOut output channels from `first` on, for 8 pixels from `x` on.
template <Kind kKind, int kOut>
NNR_TARGET_AVX2 NNR_INLINE void convolve_8(const RowTask& task, int64_t first, int64_t x) {
  constexpr bool kPairs = kKind == Kind::head;
  constexpr int kVectors = kPairs ? 1 : 2;
  __m256i sums[kOut][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kOut; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm256_setzero_si256();
  }
  int64_t at_weight = first / kTile * kTile * 9 * task.n_groups + first % kTile;
  for (int64_t group = 0; group < task.n_groups; ++group) {
    const int64_t offset = group * task.group_bytes + (kLanes + x - 1) * 4;
    const uint8_t* rows[3] = {task.input.above + offset, task.input.here + offset, task.input.below + offset};
#pragma GCC unroll 3
    for (int dy = 0; dy < 3; ++dy) {
#pragma GCC unroll 3
      for (int dx = 0; dx < 3; ++dx, at_weight += kTile) {
        __m256i pixels[kVectors];
        load_pixels<kPairs>(rows[dy] + dx * 4, pixels);
#pragma GCC unroll 4
        for (int i = 0; i < kOut; ++i) {
          const __m256i w = kPairs ? _mm256_set1_epi32(task.weights[at_weight + i])
                                   : _mm256_set1_epi64x(task.wide_weights[at_weight + i]);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            add_in_place(sums[i][v], _mm256_madd_epi16(pixels[v], w));
          }
        }
      }
    }
  }
  const __m256i n_left = _mm256_set1_epi32(static_cast<int>(std::min<int64_t>(8, task.width - x)));
  const __m256i mask = _mm256_cmpgt_epi32(n_left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  __m256i levels[kOut];
#pragma GCC unroll 4
  for (int i = 0; i < kOut; ++i) {
    const int64_t out = first + i, plane = out * task.plane_stride + x;
    const __m256 sum = _mm256_cvtepi32_ps(whole_sums<kPairs>(sums[i]));
    __m256 value = _mm256_mul_ps(sum, _mm256_set1_ps(task.numbers.scale[out]));
    value = _mm256_add_ps(value, _mm256_set1_ps(task.numbers.bias[out]));
    if constexpr (has_addend(kKind)) value = _mm256_add_ps(value, _mm256_maskload_ps(task.addend + plane, mask));
    if constexpr (has_relu(kKind)) value = _mm256_max_ps(value, _mm256_setzero_ps());
    if constexpr (has_sums(kKind)) _mm256_maskstore_ps(task.sums + plane, mask, value);
    if constexpr (kKind != Kind::tail) {
      levels[i] = to_levels_8(value, task.numbers.inverse_step[out], task.numbers.zero[out]);
    }
  }
  if constexpr (kKind != Kind::tail) {
    uint8_t* to = task.levels + first / 4 * task.group_bytes + (kLanes + x) * 4;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), interleave_8(levels[0], levels[1], levels[2], levels[3]));
  }
}

template <Kind kKind>
NNR_TARGET_AVX2 void convolve_avx2(const RowTask& task) {
  for (int64_t x = 0; x < task.width; x += 8) {
    int64_t first = 0;
    for (; first + 4 <= task.n_out; first += 4) convolve_8<kKind, 4>(task, first, x);
    if constexpr (kKind == Kind::tail) convolve_8<kKind, 2>(task, first, x);
  }
}

#endif

// ---- for AVX-512 with VNNI

#if NNR_X86
#define FILTERS_TARGET_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

template <bool kPairs>
FILTERS_TARGET_VNNI NNR_INLINE void add_dot(__m512i& sums, __m512i pixels, __m512i weights) {
  // As assembly, since GCC 12 moves the sums from register to register around the intrinsic.
  if constexpr (kPairs) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(pixels), "v"(weights));
  } else {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(pixels), "v"(weights));
  }
}

// Four vectors of whole numbers from 0 to 255 as the bytes of a group.
FILTERS_TARGET_VNNI NNR_INLINE __m512i interleave(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
  return _mm512_shuffle_epi8(bytes, order);
}

FILTERS_TARGET_VNNI NNR_INLINE __m512i to_levels(__m512 value, float inverse_step, float zero) {
  __m512 x = _mm512_mul_ps(value, _mm512_set1_ps(inverse_step));
  x = _mm512_add_ps(x, _mm512_set1_ps(zero));
  x = _mm512_max_ps(x, _mm512_setzero_ps());
  return _mm512_cvtps_epi32(_mm512_min_ps(x, _mm512_set1_ps(255.0f)));
}

// kOut output channels from `first` on, for kVectors times 16 pixels from `x` on.
template <Kind kKind, int kOut, int kVectors>
FILTERS_TARGET_VNNI NNR_INLINE void convolve_block(const RowTask& task, int64_t first, int64_t x) {
  __m512i sums[kOut][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kOut; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_setzero_si512();
  }
  const int32_t* weights = task.weights + first * 9 * task.n_groups;
  for (int64_t group = 0; group < task.n_groups; ++group) {
    const int64_t offset = group * task.group_bytes + (kLanes + x - 1) * 4;
    const uint8_t* rows[3] = {task.input.above + offset, task.input.here + offset, task.input.below + offset};
#pragma GCC unroll 3
    for (int dy = 0; dy < 3; ++dy) {
#pragma GCC unroll 3
      for (int dx = 0; dx < 3; ++dx, weights += kTile) {
        __m512i pixels[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) pixels[v] = _mm512_loadu_si512(rows[dy] + dx * 4 + v * 64);
#pragma GCC unroll 8
        for (int i = 0; i < kOut; ++i) {
          const __m512i w = _mm512_set1_epi32(weights[i]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) add_dot<kKind == Kind::head>(sums[i][v], pixels[v], w);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = x + v * kLanes;
    const int64_t n_left = std::min(kLanes, task.width - at);
    const auto mask = static_cast<__mmask16>((1u << std::max<int64_t>(0, n_left)) - 1);
    __m512i levels[kOut];
#pragma GCC unroll 8
    for (int i = 0; i < kOut; ++i) {
      const int64_t out = first + i, plane = out * task.plane_stride + at;
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][v]), _mm512_set1_ps(task.numbers.scale[out]));
      value = _mm512_add_ps(value, _mm512_set1_ps(task.numbers.bias[out]));
      if constexpr (has_addend(kKind)) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, task.addend + plane));
      if constexpr (has_relu(kKind)) value = _mm512_max_ps(value, _mm512_setzero_ps());
      if constexpr (has_sums(kKind)) _mm512_mask_storeu_ps(task.sums + plane, mask, value);
      if constexpr (kKind != Kind::tail) {
        levels[i] = to_levels(value, task.numbers.inverse_step[out], task.numbers.zero[out]);
      }
    }
    if constexpr (kKind != Kind::tail) {
#pragma GCC unroll 2
      for (int i = 0; i < kOut; i += 4) {
        uint8_t* to = task.levels + (first + i) / 4 * task.group_bytes + (kLanes + at) * 4;
        _mm512_storeu_si512(to, interleave(levels[i], levels[i + 1], levels[i + 2], levels[i + 3]));
      }
    }
  }
}

template <Kind kKind, int kOut>
FILTERS_TARGET_VNNI void convolve_vnni(const RowTask& task) {
  constexpr int kVectors = 3;
  int64_t x = 0;
  for (; x + kVectors * kLanes <= task.n_padded; x += kVectors * kLanes) {
    for (int64_t first = 0; first < task.n_out; first += kOut) convolve_block<kKind, kOut, kVectors>(task, first, x);
  }
  for (; x < task.n_padded; x += kLanes) {
    for (int64_t first = 0; first < task.n_out; first += kOut) convolve_block<kKind, kOut, 1>(task, first, x);
  }
}

#endif

enum class Instructions { portable, avx2, vnni };

// The widest that this processor has.
inline Instructions best_instructions() {
#if NNR_X86
  if (nnr::has_instructions(nnr::kAvx512F | nnr::kAvx512Bw | nnr::kAvx512Vnni)) return Instructions::vnni;
#endif
  return nnr::has_avx2() ? Instructions::avx2 : Instructions::portable;
}

inline RowFunctions row_functions([[maybe_unused]] Instructions instructions) {
#if NNR_X86
  if (instructions == Instructions::vnni) {
    return {convolve_vnni<Kind::head, 8>, convolve_vnni<Kind::hidden, 8>, convolve_vnni<Kind::stream, 8>,
            convolve_vnni<Kind::body, 8>, convolve_vnni<Kind::tail, 6>};
  }
  if (instructions == Instructions::avx2) {
    return {convolve_avx2<Kind::head>, convolve_avx2<Kind::hidden>, convolve_avx2<Kind::stream>,
            convolve_avx2<Kind::body>, convolve_avx2<Kind::tail>};
  }
#endif
  return {convolve_portable<Kind::head>, convolve_portable<Kind::hidden>, convolve_portable<Kind::stream>,
          convolve_portable<Kind::body>, convolve_portable<Kind::tail>};
}

}  // namespace filters
