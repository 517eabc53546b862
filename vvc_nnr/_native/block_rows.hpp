// All block rows of a tensor by several threads, from their entry points.
#pragma once

#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "lane_decoder.hpp"

namespace nnr {

inline bool can_use_lanes(const TensorLayout& layout) {
  return layout.is_plain() && layout.n_block_rows() > 1 && layout.unary_length <= kMaxLaneUnaryLength;
}

inline void run_threads(Lane* lanes, int n_lanes, int n_threads, LaneJob& job, bool portable) {
  constexpr int kMaxThreads = 64;
  std::thread threads[kMaxThreads];
  const int n_more = std::min(n_threads - 1, kMaxThreads);
  int n_started = 0;
  try {
    for (; n_started < n_more; ++n_started) {
      Lane* own = lanes + (n_started + 1) * n_lanes;
      threads[n_started] = std::thread([=, &job] { decode_lanes(own, n_lanes, job, portable); });
    }
  } catch (const std::system_error&) {  // fewer threads do the same work
  }
  decode_lanes(lanes, n_lanes, job, portable);
  for (int i = 0; i < n_started; ++i) threads[i].join();
}

// Requires can_use_lanes(layout); entries as decode_lanes does, of all block rows but the first, which is found here.
inline Status decode_from_entries(ArithmeticDecoder& decoder, const TensorLayout& layout, const Prologue& prologue,
                                  const Target& target, EntryPoint* entries, int n_lanes, int n_threads,
                                  bool portable) {
  decoder.range = kBlockRowRange;
  if (decoder.value >= decoder.range) return Status::bad_block_row;
  entries[0] = {decoder.position_bits(), decoder.window(), 0};
  std::unique_ptr<Automaton> automaton(new (std::nothrow) Automaton);
  std::unique_ptr<Lane[]> lanes(new (std::nothrow) Lane[static_cast<size_t>(n_lanes * n_threads)]);
  std::unique_ptr<Context[]> initial(new (std::nothrow) Context[static_cast<size_t>(layout.n_contexts())]);
  if (!automaton || !lanes || !initial) return Status::out_of_memory;
  const bool to_levels = target.output != Output::indices;
  layout.dependent ? automaton->build<true>(layout.unary_length, to_levels)
                   : automaton->build<false>(layout.unary_length, to_levels);
  initialise_contexts(initial.get(), prologue.sets, layout.n_contexts());
  LaneJob job{layout, prologue, target, entries, initial.get(), *automaton, decoder};
  run_threads(lanes.get(), n_lanes, n_threads, job, portable);
  const auto status = static_cast<Status>(job.status.load());
  if (status == Status::ok) decoder = job.end;
  return status;
}

}  // namespace nnr
