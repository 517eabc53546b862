// The context model: two integer log-domain estimators, a fast and a slow one, whose sum `total` is the log-odds of 1.
//
// An update by bin (g = +1 or -1) is  state += g * (kAdaptation[16 + ((g * state) >> 7)] >> rate), the fast state being
// kept times 16 so that both run on the scale of 2^7 per unit of the table. Both updates are table-driven:
// the fast state has 256 values, so its successor is looked up; the slow one looks up its increment.
// Invariant: -4096 <= total < 4096, and an LPS range lies in [2, 228].
#pragma once

#include <array>
#include <cstdint>

#include "platform.hpp"

namespace nnr {

constexpr int kSets = 9;

struct EstimatorSet {
  int fast_rate, slow_rate, fast, slow;
};

constexpr std::array<EstimatorSet, kSets> kEstimatorSets = {{
    {5, 4, 0, 0},
    {5, 4, -41, -654},
    {5, 4, 95, 1519},
    {4, 5, 0, 0},
    {6, 6, 30, 482},
    {6, 6, 95, 1519},
    {6, 6, -21, -337},
    {7, 5, 0, 0},
    {7, 5, 30, 482},
}};

constexpr int kMinRate = 4;
constexpr int kRates = 4;

// The 33rd entry is never reached by a valid state.
constexpr std::array<int16_t, 33> kAdaptation = {2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464,
                                                 368,  272,  208,  144,  80,   64,   64,   64,  64,  64,  64,
                                                 64,   64,   64,   64,   64,   64,   64,   64,  64,  0,   0};

// LPS ranges: row by the three bits below the top bit of the range, column by abs(total >> 7).
constexpr uint8_t kLpsRange[8][32] = {
    {128, 112, 97, 84, 74, 65, 57, 50, 45, 39, 34, 30, 27, 23, 20, 18,
     15,  14,  12, 11, 10, 9,  7,  7,  5,  5,  4,  4,  3,  3,  2,  2},
    {142, 125, 108, 93, 82, 72, 63, 56, 50, 43, 38, 33, 30, 26, 22, 20,
     17,  16,  13,  12, 11, 10, 8,  8,  6,  6,  5,  5,  3,  3,  2,  2},
    {156, 137, 119, 103, 90, 79, 70, 61, 55, 48, 42, 37, 33, 28, 24, 22,
     19,  17,  15,  13,  12, 11, 9,  9,  6,  6,  5,  5,  4,  4,  2,  2},
    {171, 150, 130, 112, 99, 87, 76, 67, 60, 52, 46, 40, 36, 31, 27, 24,
     21,  19,  16,  15,  13, 12, 10, 10, 7,  7,  6,  6,  4,  4,  3,  3},
    {185, 162, 141, 121, 107, 94, 82, 73, 65, 56, 50, 43, 39, 34, 29, 26,
     22,  21,  17,  16,  14,  13, 11, 11, 8,  8,  6,  6,  4,  4,  3,  3},
    {199, 175, 152, 131, 115, 101, 89, 78, 70, 61, 54, 47, 42, 36, 31, 28,
     24,  22,  19,  17,  15,  14,  12, 12, 8,  8,  7,  7,  5,  5,  3,  3},
    {213, 187, 163, 140, 123, 108, 95, 84, 75, 65, 58, 50, 45, 39, 33, 30,
     26,  24,  20,  18,  16,  15,  13, 13, 9,  9,  7,  7,  5,  5,  3,  3},
    {228, 200, 174, 150, 132, 116, 102, 90, 80, 70, 62, 54, 48, 42, 36, 32,
     28,  26,  22,  20,  18,  16,  14,  14, 10, 10, 8,  8,  6,  6,  4,  4},
};

struct FastState {
  uint16_t index;  // 256 * (rate - kMinRate) + state + 128
  int16_t scaled;  // 16 * state
};

constexpr int kSlowEntries = 66;

struct EstimatorTables {
  FastState fast_next[2][256 * kRates] = {};
  // By rate and ((slow + kSlowOffset[bin]) >> 7): entries 0..31 for bin 1 (floor), 33..64 for bin 0 (ceiling).
  int16_t slow_step[kRates][kSlowEntries] = {};
  // By (total >> 7) + 32 and row, at the top of 64 bits.
  uint64_t lps[64][8] = {};
};

constexpr int kSlowOffset[2] = {48 * 128 + 127, 16 * 128};
constexpr int kRangeShift = 55;

constexpr int floor_div(int value, int divisor) {
  return value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor);
}

constexpr EstimatorTables make_estimator_tables() {
  EstimatorTables tables;
  for (int rate = 0; rate < kRates; ++rate) {
    for (int state = -128; state < 128; ++state) {
      for (int bin = 0; bin < 2; ++bin) {
        const int sign = bin ? 1 : -1;
        const int next = state + sign * (kAdaptation[16 + floor_div(sign * state, 8)] >> (rate + kMinRate));
        FastState& entry = tables.fast_next[bin][256 * rate + state + 128];
        entry.index = static_cast<uint16_t>(256 * rate + next + 128);
        entry.scaled = static_cast<int16_t>(16 * next);
      }
    }
    for (int i = -16; i < 16; ++i) tables.slow_step[rate][i + 16] = kAdaptation[16 + i] >> (rate + kMinRate);
    for (int i = -15; i <= 16; ++i) {
      tables.slow_step[rate][i + 48] = static_cast<int16_t>(-(kAdaptation[16 - i] >> (rate + kMinRate)));
    }
  }
  for (int column = -32; column < 32; ++column) {
    for (int row = 0; row < 8; ++row) {
      const int distance = column < 0 ? -column : column;
      tables.lps[column + 32][row] = uint64_t{kLpsRange[row][distance < 32 ? distance : 31]} << kRangeShift;
    }
  }
  return tables;
}

inline constexpr EstimatorTables kTables = make_estimator_tables();

struct Context {
  FastState fast;
  int16_t slow;
  uint16_t slow_row;  // kSlowEntries * (rate - kMinRate)

  NNR_INLINE int64_t total() const { return int64_t{fast.scaled} + slow; }

  // `ones` has all bits set for bin 1, none for bin 0.
  NNR_INLINE void update(int64_t ones, const EstimatorTables& tables = kTables) {
    fast = (&tables.fast_next[0][0])[fast.index + (ones & (256 * kRates))];
    const int64_t offset = kSlowOffset[0] + (ones & (kSlowOffset[1] - kSlowOffset[0]));
    slow = static_cast<int16_t>(slow + (&tables.slow_step[0][0])[slow_row + ((slow + offset) >> 7)]);
  }
};

static_assert(sizeof(Context) == 8, "a context is one 64-bit load");

inline Context initial_context(int set) {
  const EstimatorSet& s = kEstimatorSets[static_cast<size_t>(set)];
  Context context;
  context.fast.index = static_cast<uint16_t>(256 * (s.fast_rate - kMinRate) + s.fast + 128);
  context.fast.scaled = static_cast<int16_t>(16 * s.fast);
  context.slow = static_cast<int16_t>(s.slow);
  context.slow_row = static_cast<uint16_t>(kSlowEntries * (s.slow_rate - kMinRate));
  return context;
}

// LPS range for a range at the top of 64 bits (bit 63 set): the three bits below bit 63 choose the row.
NNR_INLINE uint64_t lps_range(int64_t total, uint64_t range, const EstimatorTables& tables = kTables) {
  return (&tables.lps[32][0])[(total >> 7) * 8 + static_cast<int64_t>(range >> 60) - 8];
}

}  // namespace nnr
