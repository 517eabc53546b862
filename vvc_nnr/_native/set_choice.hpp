// The cheapest estimator set per context, from the bins that the context will really see.
//
// A recorder takes the tensor's bins instead of an encoder. Each context collects its bins in a short queue; full
// queues run through the estimators of all sets, and the costs are added up.
#pragma once

#include <memory>
#include <new>
#include <utility>

#include "block_row_threads.hpp"
#include "estimator_lanes.hpp"
#include "value_coding.hpp"

namespace nnr {

class Recorder {
 public:
  Recorder(int n_contexts, bool portable)
      : n_contexts_(n_contexts), costs_(bin_costs()), rates_(make_rate_lanes()), run_(run_kernels(portable)) {
    const auto n = static_cast<size_t>(n_contexts);
    records_.reset(new (std::nothrow) ContextRecord[n]());
    queues_.reset(new (std::nothrow) uint8_t[(n + 1) * kQueueLength]);
    if (!is_ready()) return;
    for (size_t i = 0; i < n; ++i) records_[i].queue = queues_.get() + i * kQueueLength;
    spare_ = queues_.get() + n * kQueueLength;
    reset_states();
  }

  bool is_ready() const { return records_ && queues_; }
  bool reserve(int64_t) { return true; }

  NNR_INLINE void bin(int context, bool bin) {
    ContextRecord& record = records_[static_cast<size_t>(context)];
    record.queue[record.n_queued] = bin;
    if (NNR_UNLIKELY(++record.n_queued == kQueueLength)) take_full_queue(record);
  }

  void bypass(uint64_t, int n_bins) { n_bypass_ += static_cast<uint64_t>(n_bins); }

  void remainder(const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    code_remainder(*this, layout, rest, limit);
  }

  // All bins so far are counted and the estimators start anew.
  void end_block_row() {
    run_waiting();
    for (int i = 0; i < n_contexts_; ++i) {
      ContextRecord& record = records_[static_cast<size_t>(i)];
      if (record.n_queued) run_.one(record, record.queue, record.n_queued, costs_, rates_);
      record.n_queued = 0;
    }
    reset_states();
  }

  // The counts and costs of another recorder of the same contexts, both at the end of a block row.
  void add(const Recorder& other) {
    for (int i = 0; i < n_contexts_; ++i) {
      ContextRecord& to = records_[static_cast<size_t>(i)];
      const ContextRecord& from = other.record(i);
      for (int lane = 0; lane < kSets; ++lane) to.cost[lane] += from.cost[lane];
      to.n_bins += from.n_bins;
      to.n_ones += from.n_ones;
    }
    n_bypass_ += other.n_bypass_;
  }

  const ContextRecord& record(int context) const { return records_[static_cast<size_t>(context)]; }
  uint64_t n_bypass() const { return n_bypass_; }

 private:
  void reset_states() {
    for (int i = 0; i < n_contexts_; ++i) records_[static_cast<size_t>(i)].reset_states();
  }

  // Runs the queue with the one that waits, or lets it wait.
  NNR_NOINLINE void take_full_queue(ContextRecord& record) {
    record.n_queued = 0;
    if (waiting_ && waiting_ != &record) {
      run_.two(*waiting_, spare_, record, record.queue, costs_, rates_);
      waiting_ = nullptr;
      return;
    }
    run_waiting();
    waiting_ = &record;
    std::swap(record.queue, spare_);
  }

  void run_waiting() {
    if (waiting_) run_.one(*waiting_, spare_, kQueueLength, costs_, rates_);
    waiting_ = nullptr;
  }

  int n_contexts_;
  const BinCosts& costs_;
  const RateLanes rates_;
  const RunKernels run_;
  std::unique_ptr<ContextRecord[]> records_;
  std::unique_ptr<uint8_t[]> queues_;
  ContextRecord* waiting_ = nullptr;  // its full queue is spare_
  uint8_t* spare_ = nullptr;
  uint64_t n_bypass_ = 0;
};

// Takes the bins of the whole tensor, the first of n_threads recorders those of all others in the end; false if there is
// no memory. The threads do not change the result.
inline bool record_tensor(Recorder* const* recorders, int n_threads, const TensorLayout& layout, const int32_t* indices,
                          const uint8_t* skipped_rows) {
  const auto n_block_rows = static_cast<size_t>(layout.n_block_rows());
  const std::unique_ptr<int[]> states(new (std::nothrow) int[n_block_rows]());
  bool is_ready = states != nullptr;
  for (int i = 0; i < n_threads; ++i) is_ready = is_ready && recorders[i]->is_ready();
  if (!is_ready) return false;
  if (n_block_rows > 1) find_states(layout, indices, skipped_rows, states.get());
  visit_block_rows(layout, n_threads, [&](int thread, int64_t block_row) {
    int state = states[static_cast<size_t>(block_row)];
    code_block_row(*recorders[thread], layout, indices, block_row, skipped_rows, state);
    recorders[thread]->end_block_row();
    return true;
  });
  for (int i = 1; i < n_threads; ++i) recorders[0]->add(*recorders[i]);
  return true;
}

// Requires sets of n_contexts zeros. The cost of naming a set is that of the adaptive flag plus three bits.
inline void choose_sets(const Recorder& recorder, const TensorLayout& layout, uint8_t* sets) {
  const BinCosts& costs = bin_costs();
  Context flag = initial_context(0);
  for_each_signalled_context(layout, [&](int context) {
    const ContextRecord& record = recorder.record(context);
    const int64_t column = (flag.total() >> 7) + 32;
    const uint64_t named = costs.cost[1][column] + (3u << kCostBits);
    uint64_t least = record.cost[0] + costs.cost[0][column];
    for (int set = 1; set < kSets; ++set) {
      if (record.cost[set] + named < least) {
        least = record.cost[set] + named;
        sets[context] = static_cast<uint8_t>(set);
      }
    }
    flag.update(-static_cast<int64_t>(sets[context] > 0));
  });
}

}  // namespace nnr
