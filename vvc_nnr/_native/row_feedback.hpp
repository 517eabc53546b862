// Eight survivors of a row with their errors so far, and what these take from the next target.
//
// The errors of a column lie side by side. A step of the search permutes and sums one vector of eight per column before
// it, which is all that survivors cost.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "trellis.hpp"

namespace nnr {

// A step of the search: the eight survivors and how they were reached.
struct Survivors {
  alignas(32) float cost[kDqStates];
  alignas(32) int32_t neighbour[kDqStates];  // sign class of the last index
  alignas(32) int32_t parent[kDqStates];
};

struct RowSearch {
  std::unique_ptr<float[]> errors;      // n_columns x 8: level - target of each survivor's path
  std::unique_ptr<int32_t[]> k;         // n_columns x 8
  std::unique_ptr<uint8_t[]> parents;   // n_columns x 8
  std::unique_ptr<float[]> target;      // n_columns, in steps
  Survivors survivors;

  bool allocate(size_t n_columns) {
    errors.reset(new (std::nothrow) float[8 * n_columns + 8]);
    k.reset(new (std::nothrow) int32_t[8 * n_columns]);
    parents.reset(new (std::nothrow) uint8_t[8 * n_columns]);
    target.reset(new (std::nothrow) float[n_columns]);
    return errors && k && parents && target;
  }
};

// Moves the errors of the columns before `c` to the survivors that descend from them, and sums them up.
using FeedbackKernel = void (*)(float* errors, const float* feedback, int64_t c, const int32_t* parent, float* sums);

inline void feed_back(float* errors, const float* feedback, int64_t c, const int32_t* parent, float* sums) {
  float total[kDqStates] = {};
  for (int64_t i = 0; i < c; ++i) {
    float moved[kDqStates];
    for (int s = 0; s < kDqStates; ++s) moved[s] = errors[8 * i + parent[s]];
    for (int s = 0; s < kDqStates; ++s) total[s] += moved[s] * feedback[i];
    std::memcpy(errors + 8 * i, moved, sizeof moved);
  }
  std::memcpy(sums, total, sizeof total);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void feed_back_avx2(float* errors, const float* feedback, int64_t c, const int32_t* parent,
                                           float* sums) {
  const __m256i from = _mm256_load_si256(reinterpret_cast<const __m256i*>(parent));
  __m256 total = _mm256_setzero_ps();
  for (int64_t i = 0; i < c; ++i) {
    const __m256 moved = _mm256_permutevar8x32_ps(_mm256_loadu_ps(errors + 8 * i), from);
    _mm256_storeu_ps(errors + 8 * i, moved);
    total = _mm256_add_ps(total, _mm256_mul_ps(moved, _mm256_broadcast_ss(feedback + i)));
  }
  _mm256_storeu_ps(sums, total);
}
#endif

// In eight sums, so that every instruction set adds in the same order.
NNR_INLINE float dot(const float* a, const float* b, int64_t n) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) sums[lane] += a[i] * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace nnr
