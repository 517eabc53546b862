// The cheapest estimator set per context, from the bins that the context will really see.
//
// A recorder takes the tensor's bins as an encoder does. Each context collects its bins in a short queue; full queues run
// through the estimators of all sets, and the costs are added up.
#pragma once

#include <memory>
#include <new>

#include "block_row_bins.hpp"
#include "block_row_threads.hpp"
#include "estimator_avx512.hpp"

namespace nnr {

class Recorder {
 public:
  Recorder(int n_contexts, bool portable) : n_contexts_(n_contexts), kernel_(queue_kernel(portable)) {
    const auto n = static_cast<size_t>(n_contexts);
    records_.reset(new (std::nothrow) ContextRecord[n]);
    is_used_.reset(new (std::nothrow) bool[n]());
    ends_.reset(new (std::nothrow) uint8_t*[n]);
    memory_.reset(new (std::nothrow) uint8_t[(n + kMaxQueues + 1) * kQueueLength]);
    if (!is_ready()) return;
    const auto misplaced = reinterpret_cast<uintptr_t>(memory_.get()) % kQueueLength;
    uint8_t* queues = memory_.get() + (misplaced ? kQueueLength - misplaced : 0);
    for (size_t i = 0; i < n; ++i) ends_[i] = queues + i * kQueueLength;
    for (size_t i = 0; i < kMaxQueues; ++i) spare_[i] = queues + (n + i) * kQueueLength;
  }

  bool is_ready() const { return records_ && is_used_ && ends_ && memory_; }

  void take(const Bin* bins, int n) {
    uint8_t** ends = ends_.get();
    for (int i = 0; i < n; ++i) {
      const Bin bin = bins[i];
      if (NNR_UNLIKELY(bin >= kBypass)) {
        n_bypass_ += static_cast<uint64_t>(bypass_length(bin));
        continue;
      }
      uint8_t*& end = ends[context_of(bin)];
      *end++ = value_of(bin);
      if (NNR_UNLIKELY(length(end) == 0)) take_full_queue(context_of(bin));
    }
  }

  // All bins so far are counted and the estimators start anew.
  void end_block_row() {
    run_waiting();
    for (int i = 0; i < n_contexts_; ++i) {
      uint8_t*& end = ends_[static_cast<size_t>(i)];
      const int n = length(end);
      end -= n;
      if (!n) continue;
      const Queue queue{&used_record(i), end};
      kernel_.run(&queue, 1, n);
    }
    for (int i = 0; i < n_contexts_; ++i) {
      if (is_used_[static_cast<size_t>(i)]) records_[static_cast<size_t>(i)].reset_states();
    }
  }

  // The counts and costs of another recorder of the same contexts, both at the end of a block row.
  void add(const Recorder& other) {
    for (int i = 0; i < n_contexts_; ++i) {
      if (!other.is_used_[static_cast<size_t>(i)]) continue;
      ContextRecord& to = used_record(i);
      const ContextRecord& from = other.record(i);
      for (int lane = 0; lane < kSets; ++lane) to.cost[lane] += from.cost[lane];
      to.n_bins += from.n_bins;
      to.n_ones += from.n_ones;
    }
    n_bypass_ += other.n_bypass_;
  }

  const ContextRecord& record(int context) const {
    static const ContextRecord none{};
    return is_used_[static_cast<size_t>(context)] ? records_[static_cast<size_t>(context)] : none;
  }
  uint64_t n_bypass() const { return n_bypass_; }

 private:
  // That of a context which has bins: most have none in small tensors.
  ContextRecord& used_record(int context) {
    ContextRecord& record = records_[static_cast<size_t>(context)];
    if (!is_used_[static_cast<size_t>(context)]) {
      is_used_[static_cast<size_t>(context)] = true;
      record = ContextRecord{};
      record.reset_states();
    }
    return record;
  }

  // Of a queue that is not full, by its end: queues begin at multiples of their length.
  static NNR_INLINE int length(const uint8_t* end) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(end) % kQueueLength);
  }

  // Lets a full queue wait for others, since one estimator alone waits for itself; then all of them are run.
  NNR_NOINLINE void take_full_queue(int context) {
    ContextRecord& record = used_record(context);
    uint8_t*& end = ends_[static_cast<size_t>(context)];
    for (int i = 0; i < n_waiting_; ++i) {
      if (waiting_[i].record == &record) {
        run_waiting();
        break;
      }
    }
    waiting_[n_waiting_] = {&record, end - kQueueLength};
    end = spare_[n_waiting_];
    spare_[n_waiting_] = waiting_[n_waiting_].bins;
    if (++n_waiting_ == kernel_.max_queues) run_waiting();
  }

  void run_waiting() {
    if (n_waiting_) kernel_.run(waiting_, n_waiting_, kQueueLength);
    n_waiting_ = 0;
  }

  int n_contexts_;
  const QueueKernel kernel_;
  std::unique_ptr<ContextRecord[]> records_;  // of those that are used
  std::unique_ptr<bool[]> is_used_;
  std::unique_ptr<uint8_t*[]> ends_;  // of each context's queue
  std::unique_ptr<uint8_t[]> memory_;
  Queue waiting_[kMaxQueues];  // full, of different contexts
  int n_waiting_ = 0;
  uint8_t* spare_[kMaxQueues];  // queues in place of those that are going to wait, or their memory once they have run
  uint64_t n_bypass_ = 0;
};

// Takes the bins of the whole tensor, the first of n_threads recorders those of all others in the end; false if there is
// no memory. The threads do not change the result.
inline bool record_tensor(Recorder* const* recorders, int n_threads, const TensorLayout& layout, const int32_t* indices,
                          const uint8_t* skipped_rows) {
  const auto n_block_rows = static_cast<size_t>(layout.n_block_rows());
  const std::unique_ptr<int[]> states(new (std::nothrow) int[n_block_rows]());
  const std::unique_ptr<BlockRowBins[]> bins(new (std::nothrow) BlockRowBins[static_cast<size_t>(n_threads)]);
  bool is_ready = states && bins;
  for (int i = 0; i < n_threads; ++i) is_ready = is_ready && recorders[i]->is_ready();
  if (!is_ready) return false;
  if (n_block_rows > 1) find_states(layout, indices, skipped_rows, states.get());
  const TensorBins tensor(layout, indices, skipped_rows);
  visit_block_rows(layout, n_threads, [&](int thread, int64_t block_row) {
    BlockRowBins& own = bins[static_cast<size_t>(thread)];
    own.start(tensor, block_row, states[static_cast<size_t>(block_row)]);
    while (const int n = own.fill()) {
      recorders[thread]->take(own.bins(), n);
      own.take(n);
    }
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
