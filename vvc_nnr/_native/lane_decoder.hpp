// Several block rows of one tensor at once, from their entry points.
//
// One arithmetic decoder is bound by latency: each bin waits for the one before. A thread therefore takes turns between
// several decoders (lanes), one bin each. So that turns never depend on what a lane is doing, the syntax of a value is
// an automaton: a table says for each node and bin which context comes next and whether a value is complete. A step has
// no branch but the one into the remainder of rare large values.
// Lanes write into short staging rows and deliver them to the tensor between runs of steps.
#pragma once

#include <atomic>

#include "tensor_decoder.hpp"

namespace nnr {

constexpr int kMaxLaneUnaryLength = 32;
constexpr int kStaging = 1026;  // values per delivery, a multiple of kBinsPerRefill
constexpr int kMaxLanes = 6;  // per thread, taking turns

struct LaneStep {
  int16_t number;    // index or level of the value that is complete
  uint16_t at;       // 2 * next node
  uint16_t context;  // next context
  uint8_t is_complete;
  uint8_t is_escape;  // all greater flags were 1: a remainder follows
};

// Nodes: significance 3 * state + neighbour; sign 24 + the same; greater 48 + 16 * j + 2 * state + negative.
struct Automaton {
  LaneStep steps[2 * (48 + 16 * kMaxLaneUnaryLength)];  // by 2 * node + bin

  static int significance_node(int state, int neighbour) { return 3 * state + neighbour; }
  static int greater_node(int state, int negative, int j) { return 48 + 16 * j + 2 * state + negative; }
  static int state_of(int node) { return node < 48 ? node % 24 / 3 : (node - 48) % 16 / 2; }

  static LaneStep go_on(int node, int context) {
    return {0, static_cast<uint16_t>(2 * node), static_cast<uint16_t>(context), 0, 0};
  }

  template <bool kDependent>
  static LaneStep complete(int state, int32_t k, bool to_levels) {
    const int next = kDependent ? kNextState[state][k & 1] : 0;
    const int node = significance_node(next, sign_class(k));
    const int32_t number = to_levels ? level_of<kDependent>(k, state) : k;
    return {static_cast<int16_t>(number), static_cast<uint16_t>(2 * node), static_cast<uint16_t>(kSignificance + node),
            1, 0};
  }

  template <bool kDependent>
  void build(int unary_length, bool to_levels) {
    for (int state = 0; state < kDqStates; ++state) {
      for (int neighbour = 0; neighbour < 3; ++neighbour) {
        const int node = significance_node(state, neighbour), sign = 24 + node;
        steps[2 * node] = complete<kDependent>(state, 0, to_levels);
        steps[2 * node + 1] = go_on(sign, kSign + neighbour);
        for (int negative = 0; negative < 2; ++negative) {
          steps[2 * sign + negative] = go_on(greater_node(state, negative, 0), kGreater + negative);
        }
      }
      for (int j = 0; j < unary_length; ++j) {
        for (int negative = 0; negative < 2; ++negative) {
          const int node = greater_node(state, negative, j);
          const bool is_last = j + 1 == unary_length;
          steps[2 * node] = complete<kDependent>(state, negative ? -(j + 1) : j + 1, to_levels);
          steps[2 * node + 1] = is_last ? go_on(node, kGreater) : go_on(node + 16, kGreater + 2 * j + 2 + negative);
          steps[2 * node + 1].is_escape = is_last;
        }
      }
    }
  }
};

struct LaneJob {
  const TensorLayout& layout;
  const Prologue& prologue;
  const Target& target;
  const EntryPoint* entries;  // of all block rows, the first one being where the values begin
  const Context* initial;     // n_contexts
  const Automaton& automaton;
  const ArithmeticDecoder anywhere;  // in the codeword
  ArithmeticDecoder end{};           // after the last block row; written by the thread that decodes it
  std::atomic<int64_t> next_block_row{0};
  std::atomic<int> status{static_cast<int>(Status::ok)};

  bool has_failed() const { return status.load(std::memory_order_relaxed) != static_cast<int>(Status::ok); }
  void fail(Status why) { status.store(static_cast<int>(why), std::memory_order_relaxed); }
};

struct Lane {
  ArithmeticDecoder decoder;
  Context* context;
  int32_t* out;
  uint32_t at;  // in the automaton: 2 * node
  int64_t block_row;
  int64_t n_missing;  // values of the block row not yet decoded
  int64_t left, row;  // where the next value goes: block, row, and column within the segment
  int64_t column;
  Context contexts[kGreater + 4 * kMaxLaneUnaryLength + 37];
  int32_t staging[kStaging];
};

inline bool has_skipped_row(const LaneJob& job, int64_t block_row) {
  const int64_t side = job.layout.side(), top = block_row * side;
  const int64_t n = std::min(side, job.layout.n_rows - top);
  return job.prologue.row_skip && std::memchr(job.prologue.skipped_rows + top, 1, static_cast<size_t>(n));
}

// What the codeword says at the end of a block row must be what the next entry point says.
inline bool ends_well(LaneJob& job, const ArithmeticDecoder& decoder, int64_t block_row, int state) {
  if (decoder.is_truncated()) return job.fail(Status::truncated), false;
  if (block_row + 1 == job.layout.n_block_rows()) {
    job.end = decoder;
    return true;
  }
  const EntryPoint& next = job.entries[block_row + 1];
  const bool is_equal = decoder.position_bits() == next.position_bits && decoder.window() == next.window &&
                        (!job.layout.dependent || state == next.state);
  return is_equal || (job.fail(Status::bad_entry_point), false);
}

// Takes the next block row that needs decoding in turns; those with skipped rows are decoded at once. False: none left.
inline bool start_lane(Lane& lane, LaneJob& job, bool portable) {
  const TensorLayout& layout = job.layout;
  while (!job.has_failed()) {
    const int64_t block_row = job.next_block_row.fetch_add(1, std::memory_order_relaxed);
    if (block_row >= layout.n_block_rows()) return false;
    const EntryPoint& entry = job.entries[block_row];
    lane.decoder = job.anywhere;
    lane.decoder.enter(entry.position_bits, entry.window);
    std::memcpy(lane.contexts, job.initial, static_cast<size_t>(layout.n_contexts()) * sizeof(Context));
    if (!has_skipped_row(job, block_row)) {
      const int node = Automaton::significance_node(entry.state, 0);
      lane.at = static_cast<uint32_t>(2 * node);
      lane.context = lane.contexts + kSignificance + node;
      lane.out = lane.staging;
      lane.block_row = block_row;
      lane.left = lane.column = 0;
      lane.row = block_row * layout.side();
      lane.n_missing = std::min(layout.side(), layout.n_rows - lane.row) * layout.n_columns;
      return true;
    }
    int state = entry.state;
    const Status status = decode_block_row(lane.decoder, layout, lane.contexts, job.prologue.skipped_rows, block_row,
                                           job.target, state, portable);
    if (status != Status::ok)
      job.fail(status);
    else
      ends_well(job, lane.decoder, block_row, state);
  }
  return false;
}

// Values of a lane that stay together in the tensor.
struct Run {
  int64_t n;
  int64_t place;
};

// The next run of a lane, of n_values at most, 1 or more.
NNR_INLINE Run take_run(Lane& lane, const TensorLayout& layout, int64_t n_values) {
  const int64_t side = layout.side(), top = lane.block_row * side;
  const int64_t width = std::min(side, layout.n_columns - lane.left);
  const Run run{std::min(width - lane.column, n_values), lane.row * layout.n_columns + lane.left + lane.column};
  lane.n_missing -= run.n;
  lane.column += run.n;
  if (lane.column == width) {
    lane.column = 0;
    if (++lane.row == std::min(top + side, layout.n_rows)) lane.row = top, lane.left += side;
  }
  return run;
}

// Moves the staged values into the tensor.
NNR_INLINE void deliver(Lane& lane, const LaneJob& job) {
  for (const int32_t* from = lane.staging; from < lane.out;) {
    const Run run = take_run(lane, job.layout, lane.out - from);
    job.target.put(from, run.n, run.place);
    from += run.n;
  }
  lane.out = lane.staging;
}

template <bool kDependent>
NNR_NOINLINE void decode_escape(Lane& lane, LaneJob& job) {
  const bool negative = lane.at >> 1 & 1;
  const int state = Automaton::state_of(static_cast<int>(lane.at / 2));
  const uint32_t size = decode_remainder(lane.decoder, job.layout, lane.contexts, negative);
  if (size == 0) job.fail(Status::value_out_of_range);
  const auto k = static_cast<int32_t>(negative ? 0u - size : size);
  const int node = Automaton::significance_node(kDependent ? kNextState[state][k & 1] : 0, sign_class(k));
  *lane.out++ = job.target.output == Output::indices ? k : level_of<kDependent>(k, state);
  lane.at = static_cast<uint32_t>(2 * node);
  lane.context = lane.contexts + kSignificance + node;
}

template <bool kDependent>
NNR_INLINE void step(Lane& lane, const Automaton& automaton, LaneJob& job) {
  const int64_t ones = lane.decoder.decode_mask(*lane.context);
  const LaneStep& next = automaton.steps[lane.at - ones];
  *lane.out = next.number;
  lane.out += next.is_complete;
  lane.at = next.at;
  lane.context = lane.contexts + next.context;
  if (NNR_UNLIKELY(next.is_escape)) decode_escape<kDependent>(lane, job);
}

// n_bins turns, each of which completes one value at most.
template <bool kDependent>
NNR_INLINE void take_turns(Lane* lanes, int n_lanes, LaneJob& job, int64_t n_bins) {
  const Automaton& automaton = job.automaton;
  for (int64_t i = 0; i < n_bins; i += kBinsPerRefill) {
    for (int lane = 0; lane < n_lanes; ++lane) lanes[lane].decoder.refill();
    const int64_t n = std::min<int64_t>(kBinsPerRefill, n_bins - i);
    for (int64_t j = 0; j < n; ++j) {
      for (int lane = 0; lane < n_lanes; ++lane) step<kDependent>(lanes[lane], automaton, job);
    }
  }
}

NNR_INLINE void take_turns_any(Lane* lanes, int n_lanes, LaneJob& job, int64_t n_bins) {
  job.layout.dependent ? take_turns<true>(lanes, n_lanes, job, n_bins) : take_turns<false>(lanes, n_lanes, job, n_bins);
}

NNR_TARGET_AVX2 inline void take_turns_avx2(Lane* lanes, int n_lanes, LaneJob& job, int64_t n_bins) {
  take_turns_any(lanes, n_lanes, job, n_bins);
}

// What one thread does: decodes block rows until none is left. Requires: a plain layout with a block scan and a unary
// length up to kMaxLaneUnaryLength; entry positions inside the data, windows below 256, states below 8.
inline void decode_lanes(Lane* lanes, int n_lanes, LaneJob& job, bool portable) {
  const bool avx2 = !portable && has_avx2();
  int n_active = 0;
  while (n_active < n_lanes && start_lane(lanes[n_active], job, portable)) ++n_active;
  while (n_active > 0 && !job.has_failed()) {
    int64_t n_bins = kStaging;
    for (int i = 0; i < n_active; ++i) n_bins = std::min(n_bins, lanes[i].n_missing);
    (avx2 ? take_turns_avx2 : take_turns_any)(lanes, n_active, job, n_bins);
    for (int i = n_active - 1; i >= 0; --i) {
      Lane& lane = lanes[i];
      deliver(lane, job);
      if (lane.decoder.is_truncated()) return job.fail(Status::truncated);
      if (lane.n_missing > 0) continue;
      if (!ends_well(job, lane.decoder, lane.block_row, Automaton::state_of(static_cast<int>(lane.at / 2)))) return;
      if (start_lane(lane, job, portable)) continue;
      if (i != --n_active) {
        std::memcpy(static_cast<void*>(&lane), &lanes[n_active], sizeof lane);
        lane.context = lane.contexts + (lanes[n_active].context - lanes[n_active].contexts);
        lane.out = lane.staging;
      }
    }
  }
}

}  // namespace nnr
