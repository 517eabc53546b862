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

// The steps of one or more kinds of tensors, each of which has its nodes from a root on. With n states (1 where not
// dependent) these are: significance 3 * state + neighbour; sign 3 * n + the same; greater 6 * n + 2 * n * j +
// 2 * state + negative.
struct Automaton {
  static constexpr int kMaxNodes = 2048;

  LaneStep steps[2 * kMaxNodes];  // by 2 * node + bin
  int n_nodes = 0;

  static int n_states(bool dependent) { return dependent ? kDqStates : 1; }
  static int n_nodes_of(int unary_length, bool dependent) { return n_states(dependent) * (6 + 2 * unary_length); }
  static int significance_node(int state, int neighbour) { return 3 * state + neighbour; }
  // By a node less its root.
  static int state_of(int node, bool dependent) {
    const int n = n_states(dependent);
    return node < 6 * n ? node % (3 * n) / 3 : (node - 6 * n) % (2 * n) / 2;
  }

  bool has_room(int unary_length, bool dependent) const {
    return n_nodes + n_nodes_of(unary_length, dependent) <= kMaxNodes;
  }

  // The root of another kind; requires room for it.
  int add(int unary_length, bool dependent, bool to_levels) {
    const int root = n_nodes;
    n_nodes += n_nodes_of(unary_length, dependent);
    dependent ? build<true>(root, unary_length, to_levels) : build<false>(root, unary_length, to_levels);
    return root;
  }

 private:
  static LaneStep go_on(int node, int context) {
    return {0, static_cast<uint16_t>(2 * node), static_cast<uint16_t>(context), 0, 0};
  }

  template <bool kDependent>
  static LaneStep complete(int root, int state, int32_t k, bool to_levels) {
    const int next = kDependent ? kNextState[state][k & 1] : 0;
    const int node = significance_node(next, sign_class(k));
    const int32_t number = to_levels ? level_of<kDependent>(k, state) : k;
    return {static_cast<int16_t>(number), static_cast<uint16_t>(2 * (root + node)),
            static_cast<uint16_t>(kSignificance + node), 1, 0};
  }

  template <bool kDependent>
  void build(int root, int unary_length, bool to_levels) {
    constexpr int n = kDependent ? kDqStates : 1;
    for (int state = 0; state < n; ++state) {
      const int first_greater = root + 6 * n + 2 * state;
      for (int neighbour = 0; neighbour < 3; ++neighbour) {
        const int node = root + significance_node(state, neighbour), sign = 3 * n + node;
        steps[2 * node] = complete<kDependent>(root, state, 0, to_levels);
        steps[2 * node + 1] = go_on(sign, kSign + neighbour);
        for (int negative = 0; negative < 2; ++negative) {
          steps[2 * sign + negative] = go_on(first_greater + negative, kGreater + negative);
        }
      }
      for (int j = 0; j < unary_length; ++j) {
        for (int negative = 0; negative < 2; ++negative) {
          const int node = first_greater + 2 * n * j + negative;
          const bool is_last = j + 1 == unary_length;
          steps[2 * node] = complete<kDependent>(root, state, negative ? -(j + 1) : j + 1, to_levels);
          steps[2 * node + 1] = is_last ? go_on(node, kGreater) : go_on(node + 2 * n, kGreater + 2 * j + 2 + negative);
          steps[2 * node + 1].is_escape = is_last;
        }
      }
    }
  }
};

static_assert(kDqStates * (6 + 2 * kMaxLaneUnaryLength) <= Automaton::kMaxNodes, "room for any kind");

struct LaneJob {
  const TensorLayout& layout;
  const Prologue& prologue;
  const Target& target;
  const EntryPoint* entries;  // of all block rows, the first one being where the values begin
  const Context* initial;     // n_contexts
  const Automaton& automaton;  // its root is 0
  const ArithmeticDecoder anywhere;  // in the codeword
  ArithmeticDecoder end{};           // after the last block row; written by the thread that decodes it
  std::atomic<int64_t> next_block_row{0};
  std::atomic<int> status{static_cast<int>(Status::ok)};

  bool has_failed() const { return status.load(std::memory_order_relaxed) != static_cast<int>(Status::ok); }
  void fail(Status why) { status.store(static_cast<int>(why), std::memory_order_relaxed); }
};

struct Lane {
  ArithmeticDecoder decoder;
  const Automaton* automaton;
  Context* context;
  int32_t* out;
  uint32_t at;  // in the automaton: 2 * node
  int root;     // of its kind there
  bool is_bad;  // a value was out of range; what follows it is nonsense
  const TensorLayout* layout;
  const Target* target;
  int64_t block_row;
  int64_t n_missing;  // values of the block row not yet decoded
  int64_t left, row;  // where the next value goes: block, row, and column within the segment
  int64_t column;
  Context contexts[kGreater + 4 * kMaxLaneUnaryLength + 37];
  int32_t staging[kStaging];

  void start_value(int state, int neighbour) {
    const int node = Automaton::significance_node(state, neighbour);
    at = static_cast<uint32_t>(2 * (root + node));
    context = contexts + kSignificance + node;
  }
  // Not within a value.
  bool is_at_value() const {
    return static_cast<int>(at / 2) - root < 3 * Automaton::n_states(layout->dependent);
  }
  // Of the trellis, where this node is.
  int state(int node) const { return Automaton::state_of(node - root, layout->dependent); }
};

// From the first value of a block row on. Its decoder and contexts are set.
inline void start_values(Lane& lane, const TensorLayout& layout, const Target& target, const Automaton& automaton,
                         int root, int64_t block_row, int state) {
  lane.automaton = &automaton, lane.layout = &layout, lane.target = &target;
  lane.root = root;
  lane.start_value(state, 0);
  lane.out = lane.staging;
  lane.is_bad = false;
  lane.block_row = block_row;
  lane.left = lane.column = 0;
  lane.row = block_row * layout.side();
  lane.n_missing = std::min(layout.side(), layout.n_rows - lane.row) * layout.n_columns;
}

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
      start_values(lane, layout, job.target, job.automaton, 0, block_row, layout.dependent ? entry.state : 0);
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
NNR_INLINE Run take_run(Lane& lane, int64_t n_values) {
  const TensorLayout& layout = *lane.layout;
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
NNR_INLINE void deliver(Lane& lane) {
  for (const int32_t* from = lane.staging; from < lane.out;) {
    const Run run = take_run(lane, lane.out - from);
    lane.target->put(from, run.n, run.place);
    from += run.n;
  }
  lane.out = lane.staging;
}

NNR_NOINLINE inline void decode_escape(Lane& lane) {
  const TensorLayout& layout = *lane.layout;
  const int node = static_cast<int>(lane.at / 2), state = lane.state(node);
  const bool negative = (node - lane.root) & 1;
  const uint32_t size = decode_remainder(lane.decoder, layout, lane.contexts, negative);
  lane.is_bad |= size == 0;
  const auto k = static_cast<int32_t>(negative ? 0u - size : size);
  const bool to_levels = layout.dependent && lane.target->output != Output::indices;
  *lane.out++ = to_levels ? level_of<true>(k, state) : k;
  lane.start_value(layout.dependent ? kNextState[state][k & 1] : 0, sign_class(k));
}

NNR_INLINE void step(Lane& lane) {
  const int64_t ones = lane.decoder.decode_mask(*lane.context);
  const LaneStep& next = lane.automaton->steps[lane.at - ones];
  *lane.out = next.number;
  lane.out += next.is_complete;
  lane.at = next.at;
  lane.context = lane.contexts + next.context;
  if (NNR_UNLIKELY(next.is_escape)) decode_escape(lane);
}

// n_bins turns, each of which completes one value at most.
NNR_INLINE void take_turns_any(Lane* lanes, int n_lanes, int64_t n_bins) {
  for (int64_t i = 0; i < n_bins; i += kBinsPerRefill) {
    for (int lane = 0; lane < n_lanes; ++lane) lanes[lane].decoder.refill();
    const int64_t n = std::min<int64_t>(kBinsPerRefill, n_bins - i);
    for (int64_t j = 0; j < n; ++j) {
      for (int lane = 0; lane < n_lanes; ++lane) step(lanes[lane]);
    }
  }
}

NNR_TARGET_AVX2 inline void take_turns_avx2(Lane* lanes, int n_lanes, int64_t n_bins) {
  take_turns_any(lanes, n_lanes, n_bins);
}

inline void take_turns(Lane* lanes, int n_lanes, bool avx2) {
  int64_t n_bins = kStaging;
  for (int i = 0; i < n_lanes; ++i) n_bins = std::min(n_bins, lanes[i].n_missing);
  (avx2 ? take_turns_avx2 : take_turns_any)(lanes, n_lanes, n_bins);
}

// Puts a lane into the place of another one.
inline void move_lane(Lane& to, const Lane& from) {
  std::memcpy(static_cast<void*>(&to), &from, sizeof to);
  to.context = to.contexts + (from.context - from.contexts);
  to.out = to.staging + (from.out - from.staging);
}

// What one thread does: decodes block rows until none is left. Requires: a plain layout with a block scan and a unary
// length up to kMaxLaneUnaryLength; entry positions inside the data, windows below 256, states below 8.
inline void decode_lanes(Lane* lanes, int n_lanes, LaneJob& job, bool portable) {
  const bool avx2 = !portable && has_avx2();
  int n_active = 0;
  while (n_active < n_lanes && start_lane(lanes[n_active], job, portable)) ++n_active;
  while (n_active > 0 && !job.has_failed()) {
    take_turns(lanes, n_active, avx2);
    for (int i = n_active - 1; i >= 0; --i) {
      Lane& lane = lanes[i];
      deliver(lane);
      if (lane.is_bad) return job.fail(Status::value_out_of_range);
      if (lane.decoder.is_truncated()) return job.fail(Status::truncated);
      if (lane.n_missing > 0) continue;
      if (!ends_well(job, lane.decoder, lane.block_row, lane.state(static_cast<int>(lane.at / 2)))) return;
      if (start_lane(lane, job, portable)) continue;
      if (i != --n_active) move_lane(lane, lanes[n_active]);
    }
  }
}

// The values that a lane still misses, in a loop for it alone; it is at a value, and has no skipped rows.
template <bool kDependent>
NNR_INLINE void decode_rest_as(Lane& lane) {
  ArithmeticDecoder decoder = lane.decoder;
  const TensorLayout& layout = *lane.layout;
  const int node = static_cast<int>(lane.at / 2) - lane.root;
  Surroundings at{node / 3, node % 3, 0, false};
  const bool to_levels = lane.target->output != Output::indices;
  while (lane.n_missing > 0 && !lane.is_bad) {
    const Run run = take_run(lane, std::min(lane.n_missing, kCheckInterval));
    int32_t* numbers = lane.target->numbers + run.place;
    for (int64_t i = 0; i < run.n; ++i) {
      int32_t k;
      if (NNR_UNLIKELY(!decode_value<true>(decoder, layout, lane.contexts, at, layout.unary_length, k))) {
        lane.is_bad = true;
        break;
      }
      numbers[i] = kDependent && to_levels ? level_of<kDependent>(k, at.state) : k;
      at.neighbour = sign_class(k);
      if (kDependent) at.state = kNextState[at.state][k & 1];
    }
    if (lane.is_bad) break;
    lane.target->finish(numbers, run.n);
    if (NNR_UNLIKELY(decoder.is_truncated())) break;
  }
  lane.decoder = decoder;
}

NNR_INLINE void decode_rest_any(Lane& lane) {
  lane.layout->dependent ? decode_rest_as<true>(lane) : decode_rest_as<false>(lane);
}

NNR_TARGET_AVX2 inline void decode_rest_avx2(Lane& lane) { decode_rest_any(lane); }

inline void decode_rest(Lane& lane, bool portable) {
  !portable && has_avx2() ? decode_rest_avx2(lane) : decode_rest_any(lane);
}

}  // namespace nnr
