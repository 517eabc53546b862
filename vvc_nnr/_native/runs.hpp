// Runs of values that come again: a part of all runs of four, chosen by what they are.
#pragma once

#include <algorithm>
#include <vector>

#include "platform.hpp"

namespace nnr {

constexpr int kRunPiece = 64;

// 32 bits of a value.
template <class Word>
NNR_INLINE uint32_t folded(Word value) {
  if constexpr (sizeof(Word) <= 4) return value;
  return static_cast<uint32_t>(value) + static_cast<uint32_t>(uint64_t{value} >> 32) * 0x85ebca6bu;
}

// Appends a number for each run whose product sum has nothing but zeros from bit `shift` on; few others have the same.
template <class Word>
NNR_INLINE void find_chosen_runs_as(const Word* values, int64_t n, int shift, std::vector<uint64_t>& runs) {
  const uint32_t limit = uint32_t{1} << shift;
  const auto take = [&](const Word* at) {
    runs.push_back(at[0] * 0x9e3779b97f4a7c15u + at[1] * 0xc2b2ae3d27d4eb4fu + at[2] * 0x165667b19e3779f9u +
                   at[3] * 0xd6e8feb86659fd93u);
  };
  const auto sum_of = [](const Word* at) NNR_LAMBDA_INLINE {
    return folded(at[0]) * 0x9e3779b1u + folded(at[1]) * 0x85ebca77u + folded(at[2]) * 0xc2b2ae3du +
           folded(at[3]) * 0x27d4eb2fu;
  };
  int64_t i = 0;
  for (; i + kRunPiece + 3 <= n; i += kRunPiece) {
    uint32_t sums[kRunPiece], least = UINT32_MAX;
    for (int j = 0; j < kRunPiece; ++j) sums[j] = sum_of(values + i + j);
    for (int j = 0; j < kRunPiece; ++j) least = std::min(least, sums[j]);
    if (least >= limit) continue;
    for (int j = 0; j < kRunPiece; ++j) {
      if (sums[j] < limit) take(values + i + j);
    }
  }
  for (; i + 4 <= n; ++i) {
    if (sum_of(values + i) < limit) take(values + i);
  }
}

template <class Word>
NNR_TARGET_AVX2 void find_chosen_runs_avx2(const Word* values, int64_t n, int shift, std::vector<uint64_t>& runs) {
  find_chosen_runs_as(values, n, shift, runs);
}

// Throws std::bad_alloc.
template <class Word>
void find_chosen_runs(const Word* values, int64_t n, int shift, std::vector<uint64_t>& runs) {
  has_avx2() ? find_chosen_runs_avx2(values, n, shift, runs) : find_chosen_runs_as(values, n, shift, runs);
}

// How many different numbers there are. Throws std::bad_alloc.
inline int64_t count_different(const std::vector<uint64_t>& numbers) {
  size_t size = 64;
  while (size < 2 * numbers.size()) size *= 2;
  std::vector<uint64_t> places(size);  // 0: empty
  int64_t n_found = 0;
  bool has_zero = false;
  for (const uint64_t number : numbers) {
    size_t at = number >> 32 & (size - 1);
    while (places[at] != 0 && places[at] != number) at = (at + 1) & (size - 1);
    n_found += number != 0 && places[at] != number;
    has_zero = has_zero || number == 0;
    places[at] = number;
  }
  return n_found + has_zero;
}

}  // namespace nnr
