// Block rows in up to 32 lanes of vectors, by the kernels of this processor.
#pragma once

#include "wide_lanes_avx2.hpp"
#include "wide_lanes_avx512.hpp"

#if NNR_X86

namespace nnr {

// The kernel of this processor, and how many lanes it is to have.
struct WideKernel {
  void (*run)(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active);
  int max_lanes;  // 0: none
};

inline WideKernel wide_kernel(bool portable) {
  constexpr uint64_t kWideSets = kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq | kAvx512Cd | kAvx512Vbmi | kAvx512Vbmi2;
  if (portable || !has_avx2()) return {nullptr, 0};
  const bool has_gathers = has_instructions(kWideSets) && !has_slow_gathers();
  return has_gathers ? WideKernel{run_wide_avx512, kMaxWideLanes} : WideKernel{run_wide_avx2, kWideLanes};
}

// So many steps that no lane completes more values than it misses.
inline int64_t wide_run(const Lane* lanes, uint32_t active) {
  int64_t n_steps = kWideRun;
  for (uint32_t rest = active; rest; rest &= rest - 1) n_steps = std::min(n_steps, lanes[__builtin_ctz(rest)].n_missing);
  return n_steps;
}

// What decode_lanes does, with up to kMaxWideLanes lanes, of two states.
inline void decode_wide_lanes(const WideKernel& kernel, WideState* states, const WideSteps& steps, Lane* lanes,
                              int n_lanes, LaneJob& job) {
  uint32_t active = 0;
  const auto start = [&](int i) {
    active &= ~(1u << i);
    if (!start_lane(lanes[i], job, false)) return;
    states[i / kWideLanes].put_lane(i % kWideLanes, lanes[i], job.layout.unary_length);
    active |= 1u << i;
  };
  for (int i = 0; i < n_lanes; i += kWideLanes) {
    states[i / kWideLanes].build(steps, job.anywhere.begin);
  }
  for (int i = 0; i < n_lanes; ++i) start(i);
  while (active && !job.has_failed()) {
    kernel.run(states, lanes, wide_run(lanes, active), active);
    for (uint32_t rest = active; rest; rest &= rest - 1) {
      const int i = __builtin_ctz(rest);
      const WideState& state = states[i / kWideLanes];
      Lane& lane = lanes[i];
      state.get_decoder(i % kWideLanes, lane.decoder);
      if (lane.is_bad) return job.fail(Status::value_out_of_range);
      if (lane.decoder.is_truncated()) return job.fail(Status::truncated);
      if (lane.n_missing > 0) continue;
      if (!ends_well(job, lane.decoder, lane.block_row, lane.state(state.node(i % kWideLanes)))) return;
      start(i);
    }
  }
}

}  // namespace nnr

#endif
