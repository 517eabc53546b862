// The estimators of up to three contexts in the lanes of one kernel: lane 9 * queue + set, the last five of 32 idle.
#pragma once

#include "estimator_lanes.hpp"

namespace nnr {

// How many contexts a kernel runs at once, and the kernel.
struct QueueKernel {
  int max_queues;
  void (*run)(const Queue* queues, int n_queues, int n);
};

constexpr int kMaxQueues = 3;
constexpr int kQueueLanes = 32;

// One number per lane, as vectors are loaded.
struct alignas(64) LaneNumbers {
  int16_t lane[kQueueLanes] = {};
};

inline const EstimatorSet& set_of_lane(int lane) { return kEstimatorSets[static_cast<size_t>(lane % kSets)]; }

// Of n bins, a byte each.
NNR_INLINE unsigned count_ones(const uint8_t* bins, int n) {
  unsigned n_ones = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8) n_ones += load_little_endian_64(bins + i) * 0x0101010101010101u >> 56;
  for (; i < n; ++i) n_ones += bins[i];
  return n_ones;
}

// What the lanes begin with, and what becomes of their contexts. Contexts must differ.
struct QueueLanes {
  LaneNumbers fast, slow;
  const uint8_t* bins[kMaxQueues];  // one of them again in place of those that are not there

  QueueLanes(const Queue* queues, int n_queues) {
    for (int q = 0; q < kMaxQueues; ++q) {
      const Queue& queue = queues[q < n_queues ? q : 0];
      bins[q] = queue.bins;
      for (int set = 0; set < kSets; ++set) {
        fast.lane[kSets * q + set] = queue.record->fast[static_cast<size_t>(set)];
        slow.lane[kSets * q + set] = queue.record->slow[static_cast<size_t>(set)];
      }
    }
  }

  // After n bins of each; cost_of(lane) is what they cost in it.
  template <class CostOf>
  void finish(const Queue* queues, int n_queues, int n, const CostOf& cost_of) const {
    for (int q = 0; q < n_queues; ++q) {
      ContextRecord& record = *queues[q].record;
      for (int set = 0; set < kSets; ++set) {
        const int lane = kSets * q + set;
        record.fast[static_cast<size_t>(set)] = fast.lane[lane];
        record.slow[static_cast<size_t>(set)] = slow.lane[lane];
        record.cost[set] += cost_of(lane);
      }
      record.n_bins += static_cast<uint64_t>(n);
      record.n_ones += count_ones(queues[q].bins, n);
    }
  }
};

}  // namespace nnr
