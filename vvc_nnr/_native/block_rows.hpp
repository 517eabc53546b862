// All block rows of a tensor by several threads, from their entry points.
#pragma once

#include <memory>
#include <new>

#include "block_row_threads.hpp"
#include "wide_lanes.hpp"

namespace nnr {

inline bool can_use_lanes(const TensorLayout& layout) {
  return layout.is_plain() && layout.n_block_rows() > 1 && layout.unary_length <= kMaxLaneUnaryLength;
}

constexpr int kFewLanes = 5;  // so many take turns faster than as vectors

// Lanes per thread, so that no thread takes the others' block rows, nor has a few slow ones left at the end.
inline int lane_count(int64_t n_block_rows, int n_threads, int max_lanes) {
  const int64_t n_rows = (n_block_rows + n_threads - 1) / n_threads;
  const int64_t n_rounds = (n_rows + max_lanes - 1) / max_lanes;
  return static_cast<int>((n_rows + n_rounds - 1) / n_rounds);
}

// What the threads work with; none of it is theirs to allocate.
struct Workbench {
  int n_lanes = 0, n_states = 0;
  bool is_wide = false;
  std::unique_ptr<Lane[]> lanes;
#if NNR_X86
  WideKernel kernel;
  std::unique_ptr<WideState[]> states;
  std::unique_ptr<WideSteps> steps;
#endif

  // False if there is no memory.
  bool build(const TensorLayout& layout, [[maybe_unused]] const Automaton& automaton,
             [[maybe_unused]] int64_t n_bytes, int n_threads, [[maybe_unused]] bool portable) {
    const int64_t n_block_rows = layout.n_block_rows();
    n_lanes = lane_count(n_block_rows, n_threads, kMaxLanes);
#if NNR_X86
    kernel = wide_kernel(portable);
    is_wide = kernel.max_lanes > 0 && n_bytes < 1 << 30 && n_block_rows > int64_t{kFewLanes} * n_threads;
    if (is_wide) {
      n_lanes = lane_count(n_block_rows, n_threads, kernel.max_lanes);
      n_states = (n_lanes + kWideLanes - 1) / kWideLanes;
      states.reset(new (std::nothrow) WideState[static_cast<size_t>(n_states * n_threads)]);
      steps.reset(new (std::nothrow) WideSteps);
      if (!states || !steps) return false;
      steps->build(automaton);
    }
#endif
    lanes.reset(new (std::nothrow) Lane[static_cast<size_t>(n_lanes * n_threads)]);
    return lanes != nullptr;
  }

  void work(int thread, LaneJob& job, bool portable) {
    Lane* own = lanes.get() + thread * n_lanes;
#if NNR_X86
    if (is_wide) return decode_wide_lanes(kernel, states.get() + thread * n_states, *steps, own, n_lanes, job);
#endif
    decode_lanes(own, n_lanes, job, portable);
  }
};

// Requires can_use_lanes(layout); up to kMaxThreads threads; entries as decode_lanes does, of all block rows but the
// first, which is found here.
inline Status decode_from_entries(ArithmeticDecoder& decoder, const TensorLayout& layout, const Prologue& prologue,
                                  const Target& target, EntryPoint* entries, int n_threads, bool portable) {
  decoder.range = kBlockRowRange;
  if (decoder.value >= decoder.range) return Status::bad_block_row;
  entries[0] = {decoder.position_bits(), decoder.window(), 0};
  std::unique_ptr<Automaton> automaton(new (std::nothrow) Automaton);
  std::unique_ptr<Context[]> initial(new (std::nothrow) Context[static_cast<size_t>(layout.n_contexts())]);
  Workbench bench;
  if (!automaton || !initial) return Status::out_of_memory;
  automaton->add(layout.unary_length, layout.dependent, target.output != Output::indices);
  if (!bench.build(layout, *automaton, decoder.n_bytes(), n_threads, portable)) return Status::out_of_memory;
  initialise_contexts(initial.get(), prologue.sets, layout.n_contexts());
  LaneJob job{layout, prologue, target, entries, initial.get(), *automaton, decoder};
  run_in_threads(n_threads, [&](int thread) { bench.work(thread, job, portable); });
  const auto status = static_cast<Status>(job.status.load());
  if (status == Status::ok) decoder = job.end;
  return status;
}

}  // namespace nnr
