// The nine estimator sets of a context side by side: what its bins would cost in each.
//
// One lane per set. An estimator waits for its own last step, so two contexts run at once where possible.
// A cost is the ideal code length of the arithmetic coder's own intervals, averaged over the ranges it may have.
#pragma once

#include <array>
#include <cmath>

#include "estimator.hpp"

namespace nnr {

constexpr int kLanes = 16;
constexpr int kQueueLength = 256;
constexpr int kCostBits = 12;  // a cost is in 1/4096 bit, below 2^16

#if NNR_GNU
typedef int16_t Lanes __attribute__((vector_size(2 * kLanes)));
typedef uint16_t CostLanes __attribute__((vector_size(2 * kLanes)));
typedef uint32_t SumLanes __attribute__((vector_size(4 * kLanes)));
#else
using Lanes = std::array<int16_t, kLanes>;
using SumLanes = std::array<uint32_t, kLanes>;
#endif

struct BinCosts {
  uint16_t cost[2][64];  // by bin and (total >> 7) + 32
};

inline BinCosts make_bin_costs() {
  BinCosts costs{};
  for (int column = 0; column < 32; ++column) {
    double lps_bits = 0, mps_bits = 0, weight = 0;
    for (int range = 256; range < 510; ++range) {
      const double share = static_cast<double>(kLpsRange[range >> 5 & 7][column]) / range;
      lps_bits -= std::log2(share) / range;
      mps_bits -= std::log2(1 - share) / range;
      weight += 1.0 / range;
    }
    const auto scaled = [weight](double bits) {
      return static_cast<uint16_t>(std::lround(bits / weight * (1 << kCostBits)));
    };
    costs.cost[1][32 + column] = scaled(mps_bits);
    costs.cost[0][32 + column] = scaled(lps_bits);
    if (column > 0) {
      costs.cost[1][32 - column] = scaled(lps_bits);
      costs.cost[0][32 - column] = scaled(mps_bits);
    }
  }
  return costs;
}

inline const BinCosts& bin_costs() {
  static const BinCosts costs = make_bin_costs();
  return costs;
}

struct alignas(64) ContextRecord {
  Lanes fast, slow;  // states of the nine sets; fast times 16
  uint64_t cost[kLanes];
  uint64_t n_bins;
  uint64_t n_ones;

  void reset_states() {
    for (int lane = 0; lane < kLanes; ++lane) {
      const EstimatorSet& set = kEstimatorSets[lane < kSets ? lane : 0];
      fast[lane] = static_cast<int16_t>(16 * set.fast);
      slow[lane] = static_cast<int16_t>(set.slow);
    }
  }
};

struct RateLanes {
  Lanes fast, slow;  // 2^(7 - rate): ((x >> 4) * that) >> 3 is x >> rate
};

inline RateLanes make_rate_lanes() {
  RateLanes rates{};
  for (int lane = 0; lane < kLanes; ++lane) {
    const EstimatorSet& set = kEstimatorSets[lane < kSets ? lane : 0];
    rates.fast[lane] = static_cast<int16_t>(1 << (7 - set.fast_rate));
    rates.slow[lane] = static_cast<int16_t>(1 << (7 - set.slow_rate));
  }
  return rates;
}

#if NNR_GNU

// kAdaptation[i] >> rate for i = 0..31, without look-ups and shifts by lane: the maximum of four lines, and a product.
NNR_INLINE Lanes adaptation(Lanes i, Lanes factor) {
  const Lanes a = 157 - 14 * i, b = 89 - 6 * i, c = 65 - 4 * i, d = Lanes{} + 4;
  const Lanes ab = a > b ? a : b, cd = c > d ? c : d;
  return (((ab > cd ? ab : cd) & (i < 31)) * factor) >> 3;
}

// One cost per lane, by column = (total >> 7) + 32.
NNR_INLINE void add_costs(const uint16_t* costs, Lanes fast, Lanes slow, SumLanes& sum) {
  const int16_t* table = reinterpret_cast<const int16_t*>(costs);
  const Lanes column = ((fast + slow) >> 7) + 32;
  const Lanes cost = column < 32 ? look_up_by_lane(table, column) : look_up_by_lane(table + 32, column);
  sum += __builtin_convertvector(reinterpret_cast<CostLanes>(cost), SumLanes);
}

// A bin into the states, which are kept times `scale`; `flip` is -1 for bin 0, so that (x ^ flip) - flip is -x, else 0.
NNR_INLINE void adapt(Lanes& states, Lanes factor, int16_t flip, int16_t scale) {
  const Lanes step = adaptation((((states ^ flip) - flip) >> 7) + 16, factor) * scale;
  states += (step ^ flip) - flip;
}

#else

// The same, lane after lane.
NNR_INLINE void add_costs(const uint16_t* costs, const Lanes& fast, const Lanes& slow, SumLanes& sum) {
  for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] += costs[((fast[lane] + slow[lane]) >> 7) + 32];
}

NNR_INLINE void adapt(Lanes& states, const Lanes& factor, int16_t flip, int16_t scale) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const int at = (((states[lane] ^ flip) - flip) >> 7) + 16;
    const int step = (kAdaptation[static_cast<size_t>(at)] * factor[lane] >> 7) * scale;
    states[lane] = static_cast<int16_t>(states[lane] + ((step ^ flip) - flip));
  }
}

#endif

// The estimators of one context at work.
struct Runner {
  Lanes fast, slow;
  SumLanes sum;
  unsigned n_ones;

  NNR_INLINE explicit Runner(const ContextRecord& record) : fast(record.fast), slow(record.slow), sum{}, n_ones(0) {}

  NNR_INLINE void step(unsigned bin, const BinCosts& costs, const RateLanes& rates) {
    const auto flip = static_cast<int16_t>(static_cast<int>(bin) - 1);
    n_ones += bin;
    add_costs(costs.cost[bin], fast, slow, sum);
    adapt(fast, rates.fast, flip, 16);
    adapt(slow, rates.slow, flip, 1);
  }

  NNR_INLINE void finish(ContextRecord& record, int n_bins) const {
    record.fast = fast;
    record.slow = slow;
    for (int lane = 0; lane < kSets; ++lane) record.cost[lane] += sum[lane];
    record.n_bins += static_cast<uint64_t>(n_bins);
    record.n_ones += n_ones;
  }
};

// A context and its next bins.
struct Queue {
  ContextRecord* record;
  uint8_t* bins;
};

// Runs n bins of each of one or two contexts, which must differ.
NNR_INLINE void run_queues(const Queue* queues, int n_queues, int n) {
  const BinCosts& costs = bin_costs();
  const RateLanes rates = make_rate_lanes();
  const Queue a = queues[0], b = queues[n_queues - 1];
  Runner runner_a(*a.record), runner_b(*b.record);
  if (n_queues == 1) {
    for (int i = 0; i < n; ++i) runner_a.step(a.bins[i], costs, rates);
  } else {
    for (int i = 0; i < n; ++i) {
      runner_a.step(a.bins[i], costs, rates);
      runner_b.step(b.bins[i], costs, rates);
    }
    runner_b.finish(*b.record, n);
  }
  runner_a.finish(*a.record, n);
}

inline void run_queues_portable(const Queue* queues, int n_queues, int n) { run_queues(queues, n_queues, n); }

}  // namespace nnr
