// Sixteen lanes side by side, one word of each in a row, for the kernels that decode one bin of all of them at a step.
//
// A context is 32 bits: its fast state times 2^8 and its slow state times 2^4 as the two halves, their rates in the low
// bits of each; so both are updated by one look-up, one shift and one sum. The automaton's step is 32 bits too. A lane
// without a block row decodes nonsense, within its own memory.
// A step leaves one byte per lane, the number that is complete or kNothing; of those that are gathered for a lane, values
// are made.
#pragma once

#include "lane_decoder.hpp"

#if NNR_X86

namespace nnr {

constexpr int kWideLanes = 16, kMaxWideLanes = 2 * kWideLanes;
constexpr int kWideStride = 136;  // contexts per lane, so that lanes do not share cache sets
constexpr int64_t kWideRun = 256;  // steps between two collections
constexpr int kWideValidBits = 24;  // at least so many after a refill: two bins and a window
constexpr int32_t kNothing = -128, kEscaped = -127;
constexpr int kWindowShift = 23;
constexpr uint32_t kStateBits = 0xff00fff0u, kRateBits = 0x000f000fu;

// A step of the automaton: number << 24 | is_escape << 23 | next node << 8 | next context. Where it is an escape, the
// number says so too.
constexpr uint32_t kEscapeBit = 1u << 23, kNodeBits = 0x7ff, kContextBits = 0xff;
constexpr int kNodeShift = 8;

static_assert(Automaton::kMaxNodes - 1 <= kNodeBits && 2 * kMaxLaneUnaryLength + 1 < -kEscaped, "packed steps");
static_assert(kGreater + 2 * kMaxLaneUnaryLength <= kWideStride && kWideStride <= kContextBits, "contexts of a lane");

// LPS ranges as products: kLpsRange[row][column] is (row + 9) * kLpsFactor[column] >> kLpsFactorBits.
constexpr int kLpsFactorBits = 4;

constexpr std::array<uint8_t, 32> make_lps_factors() {
  std::array<uint8_t, 32> factors{};
  for (size_t column = 0; column < 32; ++column) {
    for (int factor = 255; factor > 0; --factor) {
      bool fits = true;
      for (int row = 0; row < 8; ++row) fits = fits && (row + 9) * factor >> kLpsFactorBits == kLpsRange[row][column];
      if (fits) factors[column] = static_cast<uint8_t>(factor);
    }
  }
  return factors;
}

constexpr std::array<uint8_t, 32> kLpsFactor = make_lps_factors();

constexpr bool has_all_factors() {
  for (const uint8_t factor : kLpsFactor) {
    if (factor == 0) return false;
  }
  return true;
}

static_assert(has_all_factors(), "every column is a product");

// The steps of an automaton, packed.
struct WideSteps {
  alignas(64) uint32_t steps[Automaton::kMaxNodes][2];  // by node and bin

  void build(const Automaton& automaton) {
    for (int i = 0; i < 2 * automaton.n_nodes; ++i) {
      const LaneStep& step = automaton.steps[i];
      const int number = step.is_escape ? kEscaped : step.is_complete ? step.number : kNothing;
      steps[i / 2][i & 1] = static_cast<uint32_t>(static_cast<uint8_t>(number)) << 24 |
                            (step.is_escape ? kEscapeBit : 0) | step.at / 2u << kNodeShift | step.context;
    }
  }
};

NNR_INLINE uint32_t packed(const Context& context) {
  const uint32_t fast_rate = context.fast.index >> 8, slow_rate = context.slow_row / kSlowEntries + kMinRate;
  const uint32_t fast = static_cast<uint16_t>(context.fast.scaled * 16) | fast_rate;
  const uint32_t slow = static_cast<uint16_t>(context.slow * 16) | slow_rate;
  return fast << 16 | slow;
}

// The inverse, but for the rates.
NNR_INLINE void unpack(uint32_t packed, Context& to) {
  const int fast = static_cast<int8_t>(packed >> 24);
  to.fast.index = static_cast<uint16_t>((to.fast.index & 0xff00) + fast + 128);
  to.fast.scaled = static_cast<int16_t>(16 * fast);
  to.slow = static_cast<int16_t>(static_cast<int16_t>(packed & 0xfff0) / 16);
}

struct WideState {
  alignas(64) uint32_t value[kWideLanes], range[kWideLanes], next[kWideLanes], n_valid[kWideLanes];
  alignas(64) uint32_t at[kWideLanes];  // the last step
  alignas(64) uint32_t contexts[kWideLanes * kWideStride];
  alignas(64) uint32_t log[kWideRun / 4][kWideLanes];  // bytes of four steps
  const WideSteps* steps;
  const uint8_t* base;  // what `next` and `limit` count from: all codewords are behind it
  alignas(64) uint32_t limit[kWideLanes];
  uint8_t complete[kWideLanes][kWideRun + 64];  // those of the log that hold a number, by lane
  int64_t n_complete[kWideLanes];
  int32_t escaped[kWideLanes][kWideRun];  // values that no byte holds
  int n_escaped[kWideLanes];

  void build(const WideSteps& shared, const uint8_t* codewords) {
    steps = &shared, base = codewords;
    for (int i = 0; i < kWideLanes; ++i) start_idle(i);
  }

  // A lane that has nothing to do and may do anything.
  void start_idle(int i) {
    value[i] = next[i] = limit[i] = 0;
    range[i] = 256u << kWindowShift;
    n_valid[i] = kWideValidBits;
    at[i] = 0;
    std::memset(contexts + i * kWideStride, 0, kWideStride * sizeof *contexts);
  }

  void put_decoder(int i, const ArithmeticDecoder& decoder) {
    const int64_t position = decoder.position_bits();
    const auto n = static_cast<int>(kWideValidBits + (-position & 7));
    value[i] = static_cast<uint32_t>(decoder.value >> 32);
    range[i] = static_cast<uint32_t>(decoder.range >> 32);
    n_valid[i] = static_cast<uint32_t>(n);
    limit[i] = static_cast<uint32_t>(decoder.limit - base);
    next[i] = std::min(static_cast<uint32_t>(decoder.begin - base + ((position + n) >> 3)), limit[i]);
  }

  void get_decoder(int i, ArithmeticDecoder& decoder) const {
    decoder.value = uint64_t{value[i]} << 32;
    decoder.range = uint64_t{range[i]} << 32;
    decoder.n_valid = static_cast<int>(n_valid[i]);
    decoder.next = base + next[i];
  }

  void put_node(int i, uint32_t lane_at, int64_t lane_context) {
    at[i] = lane_at / 2 << kNodeShift | static_cast<uint32_t>(lane_context);
  }

  int node(int i) const { return static_cast<int>(at[i] >> kNodeShift & kNodeBits); }

  void put_lane(int i, const Lane& lane, int unary_length) {
    put_decoder(i, lane.decoder);
    put_node(i, lane.at, lane.context - lane.contexts);
    for (int c = 0; c < kGreater + 2 * unary_length; ++c) contexts[i * kWideStride + c] = packed(lane.contexts[c]);
  }

  // The inverse, but for the decoder. Rates stay as they were put.
  void get_lane(int i, Lane& lane) const {
    lane.at = 2 * static_cast<uint32_t>(node(i));
    lane.out = lane.staging;
    lane.context = lane.contexts + (at[i] & kContextBits);
    for (int c = 0; c < kGreater + 2 * lane.layout->unary_length; ++c) {
      unpack(contexts[i * kWideStride + c], lane.contexts[c]);
    }
  }
};

// The remainder of each lane in `escapes`, and its value into the list of the lane.
NNR_NOINLINE inline void decode_wide_escapes(WideState& state, Lane* lanes, unsigned escapes) {
  for (; escapes; escapes &= escapes - 1) {
    const int i = __builtin_ctz(escapes);
    Lane& lane = lanes[i];
    state.get_decoder(i, lane.decoder);
    lane.decoder.refill();
    lane.at = 2 * static_cast<uint32_t>(state.node(i));
    lane.out = &state.escaped[i][state.n_escaped[i]++];
    decode_escape(lane);
    lane.decoder.refill();
    state.put_decoder(i, lane.decoder);
    state.put_node(i, lane.at, lane.context - lane.contexts);
  }
}

}  // namespace nnr

#endif
