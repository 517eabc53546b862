// Sixteen lanes as the lanes of vectors: a step decodes one bin of each, with the tables of AVX-512 processors.
//
// Each vector holds one word per lane. A context is 32 bits: its fast state times 2^8 and its slow state times 2^4 as
// the two halves, their rates in the low bits of each; so both are updated by one look-up, one shift and one sum. The
// automaton's step is 32 bits too. A lane without a block row decodes nonsense, within its own memory.
// A step leaves one byte per lane, the number that is complete or kNothing; `collect` gathers the numbers of a lane,
// `deliver_wide` makes values of them.
#pragma once

#include "lane_decoder.hpp"

#if NNR_X86

namespace nnr {

#define NNR_TARGET_WIDE \
  __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,avx512vbmi2")))
#define NNR_WIDE_INLINE NNR_TARGET_WIDE NNR_INLINE

constexpr int kWideLanes = 16, kMaxWideLanes = 2 * kWideLanes;
constexpr int kWideStride = 136;  // contexts per lane, so that lanes do not share cache sets
constexpr int64_t kWideRun = 256;  // steps between two collections
constexpr int kWideValidBits = 24;  // at least so many after a refill: two bins and a window
constexpr int32_t kNothing = -128, kEscaped = -127;
constexpr int kWindowShift = 23;
constexpr uint32_t kStateBits = 0xff00fff0u, kRateBits = 0x000f000fu;

// A step of the automaton: number << 24 | is_escape << 23 | next node << 12 | next context.
constexpr uint32_t kEscapeBit = 1u << 23, kNodeBits = 0x7ff, kContextBits = 0xfff;

static_assert(Automaton::kMaxNodes - 1 <= kNodeBits && 2 * kMaxLaneUnaryLength + 1 < -kEscaped, "packed steps");
static_assert(kGreater + 2 * kMaxLaneUnaryLength <= kWideStride, "contexts of a lane");

// The steps of an automaton, packed.
struct WideSteps {
  alignas(64) uint32_t steps[Automaton::kMaxNodes][2];  // by node and bin

  void build(const Automaton& automaton) {
    for (int i = 0; i < 2 * automaton.n_nodes; ++i) {
      const LaneStep& step = automaton.steps[i];
      const uint32_t number = static_cast<uint8_t>(step.is_complete ? step.number : kNothing);
      steps[i / 2][i & 1] = number << 24 | (step.is_escape ? kEscapeBit : 0) | step.at / 2u << 12 | step.context;
    }
  }
};

struct WideState {
  alignas(64) uint32_t value[kWideLanes], range[kWideLanes], next[kWideLanes], n_valid[kWideLanes];
  alignas(64) uint32_t node[kWideLanes], context[kWideLanes];  // place in `contexts`
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
    node[i] = 0;
    context[i] = static_cast<uint32_t>(i * kWideStride);
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
    node[i] = lane_at / 2;
    context[i] = static_cast<uint32_t>(i * kWideStride + lane_context);
  }

  void put_lane(int i, const Lane& lane, int unary_length) {
    put_decoder(i, lane.decoder);
    put_node(i, lane.at, lane.context - lane.contexts);
    for (int c = 0; c < kGreater + 2 * unary_length; ++c) {
      const Context& from = lane.contexts[c];
      const uint32_t fast_rate = from.fast.index >> 8, slow_rate = from.slow_row / kSlowEntries + kMinRate;
      const uint32_t fast = static_cast<uint16_t>(from.fast.scaled * 16) | fast_rate;
      const uint32_t slow = static_cast<uint16_t>(from.slow * 16) | slow_rate;
      contexts[i * kWideStride + c] = fast << 16 | slow;
    }
  }

  // The inverse, but for the decoder. Rates stay as they were put.
  void get_lane(int i, Lane& lane) const {
    lane.at = 2 * node[i];
    lane.out = lane.staging;
    lane.context = lane.contexts + (context[i] - static_cast<uint32_t>(i * kWideStride));
    for (int c = 0; c < kGreater + 2 * lane.layout->unary_length; ++c) {
      Context& to = lane.contexts[c];
      const uint32_t packed = contexts[i * kWideStride + c];
      const int fast = static_cast<int8_t>(packed >> 24);
      to.fast.index = static_cast<uint16_t>((to.fast.index & 0xff00) + fast + 128);
      to.fast.scaled = static_cast<int16_t>(16 * fast);
      to.slow = static_cast<int16_t>(static_cast<int16_t>(packed & 0xfff0) / 16);
    }
  }
};

// LPS ranges by column, four rows to a word; adaptation times 2^4, from place 0 and then from -16.
struct WideTables {
  alignas(64) uint32_t lps[2][32];
  alignas(64) uint16_t adaptation[32];
};

constexpr WideTables make_wide_tables() {
  WideTables tables{};
  for (int row = 0; row < 8; ++row) {
    for (int column = 0; column < 32; ++column) {
      tables.lps[row / 4][column] |= static_cast<uint32_t>(kLpsRange[row][column]) << (8 * (row & 3));
    }
  }
  for (int i = -16; i < 16; ++i) tables.adaptation[i & 31] = static_cast<uint16_t>(kAdaptation[16 + i] << 4);
  return tables;
}

inline constexpr WideTables kWideTables = make_wide_tables();

// The remainder of each lane in `escapes`, and its value into the list of the lane.
NNR_NOINLINE inline void decode_wide_escapes(WideState& state, Lane* lanes, unsigned escapes) {
  for (; escapes; escapes &= escapes - 1) {
    const int i = __builtin_ctz(escapes);
    Lane& lane = lanes[i];
    state.get_decoder(i, lane.decoder);
    lane.decoder.refill();
    lane.at = 2 * state.node[i];
    lane.out = &state.escaped[i][state.n_escaped[i]++];
    decode_escape(lane);
    lane.decoder.refill();
    state.put_decoder(i, lane.decoder);
    state.put_node(i, lane.at, lane.context - lane.contexts);
  }
}

struct WideVectors {
  __m512i value, range, next, n_valid, node, context;
  __m512i packed;  // the contexts themselves

  NNR_WIDE_INLINE void load(const WideState& from) {
    value = _mm512_load_si512(from.value), range = _mm512_load_si512(from.range);
    next = _mm512_load_si512(from.next), n_valid = _mm512_load_si512(from.n_valid);
    node = _mm512_load_si512(from.node), context = _mm512_load_si512(from.context);
    packed = _mm512_i32gather_epi32(context, from.contexts, 4);
  }
  NNR_WIDE_INLINE void store(WideState& to) const {
    _mm512_store_si512(to.value, value), _mm512_store_si512(to.range, range);
    _mm512_store_si512(to.next, next), _mm512_store_si512(to.n_valid, n_valid);
    _mm512_store_si512(to.node, node), _mm512_store_si512(to.context, context);
  }

  NNR_WIDE_INLINE void refill(const uint8_t* data, __m512i limit) {
    const __m512i swap = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
    const __m512i word = _mm512_shuffle_epi8(_mm512_i32gather_epi32(next, data, 1), swap);
    value = _mm512_or_si512(value, _mm512_srlv_epi32(word, n_valid));
    const __m512i n_bytes = _mm512_srli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(31), n_valid), 3);
    next = _mm512_min_epu32(_mm512_add_epi32(next, n_bytes), limit);
    n_valid = _mm512_or_si512(n_valid, _mm512_set1_epi32(kWideValidBits));
  }

  // The LPS range of each lane at the top of 32 bits, from total >> 7.
  NNR_WIDE_INLINE __m512i lps_range(__m512i total) const {
    const auto* tables = reinterpret_cast<const __m512i*>(kWideTables.lps);
    const __m512i column = _mm512_abs_epi32(total);
    const __m512i low = _mm512_permutex2var_epi32(tables[0], column, tables[1]);
    const __m512i high = _mm512_permutex2var_epi32(tables[2], column, tables[3]);
    const __mmask16 is_high = _mm512_test_epi32_mask(range, _mm512_set1_epi32(1 << (kWindowShift + 7)));
    // Bits 29 and 28 of the range choose the byte; a rotation brings it to the window.
    const __m512i byte = _mm512_srli_epi32(_mm512_and_si512(range, _mm512_set1_epi32(0x30000000)), 25);
    const __m512i rotation = _mm512_add_epi32(byte, _mm512_set1_epi32(32 - kWindowShift));
    const __m512i four = _mm512_mask_mov_epi32(low, is_high, high);
    return _mm512_and_si512(_mm512_rorv_epi32(four, rotation), _mm512_set1_epi32(0xff << kWindowShift));
  }

  // One bin of each lane; the packed steps that it leads to. What does not depend on the bin is fetched ahead of it.
  NNR_WIDE_INLINE __m512i step(WideState& state, __m512i first_contexts) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    const __m512i left = _mm512_i32gather_epi64(_mm512_castsi512_si256(node), state.steps->steps, 8);
    const __m512i right = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(node, 1), state.steps->steps, 8);
    const __m512i if_zero = _mm512_permutex2var_epi32(left, even, right);
    const __m512i if_one = _mm512_permutex2var_epi32(left, odd, right);

    const __m512i total = _mm512_madd_epi16(packed, _mm512_set1_epi16(1));  // rates add less than 2^4
    const __m512i lps = lps_range(_mm512_srai_epi32(total, 11));
    const __m512i mps = _mm512_sub_epi32(range, lps);
    const __mmask16 is_lps = _mm512_cmpge_epu32_mask(value, mps);
    const __mmask16 is_zero = _kxor_mask16(is_lps, _mm512_movepi32_mask(total));
    const __m512i reached = _mm512_mask_mov_epi32(if_one, is_zero, if_zero);
    node = _mm512_and_si512(_mm512_srli_epi32(reached, 12), _mm512_set1_epi32(kNodeBits));
    const __m512i next_context =
        _mm512_add_epi32(_mm512_and_si512(reached, _mm512_set1_epi32(kContextBits)), first_contexts);
    const __m512i next_packed = _mm512_i32gather_epi32(next_context, state.contexts, 4);

    value = _mm512_mask_sub_epi32(value, is_lps, value, mps);
    range = _mm512_mask_mov_epi32(mps, is_lps, lps);
    const __m512i shift = _mm512_lzcnt_epi32(range);
    value = _mm512_sllv_epi32(value, shift);
    range = _mm512_sllv_epi32(range, shift);
    n_valid = _mm512_sub_epi32(n_valid, shift);

    const __m512i state_bits = _mm512_set1_epi32(static_cast<int32_t>(kStateBits));
    const __m512i states = _mm512_and_si512(packed, state_bits);
    const __m512i flip = _mm512_movm_epi32(is_zero);  // (x ^ -1) + 1 is -x
    const __m512i signed_states = _mm512_sub_epi16(_mm512_xor_si512(states, flip), flip);
    const __m512i adaptation = _mm512_permutexvar_epi16(_mm512_srai_epi16(signed_states, 11),
                                                        _mm512_load_si512(kWideTables.adaptation));
    const __m512i rates = _mm512_and_si512(packed, _mm512_set1_epi32(static_cast<int32_t>(kRateBits)));
    const __m512i change = _mm512_and_si512(_mm512_srlv_epi16(adaptation, rates), state_bits);
    const __m512i signed_change = _mm512_sub_epi16(_mm512_xor_si512(change, flip), flip);
    const __m512i updated = _mm512_add_epi16(packed, signed_change);
    // The next context was fetched before this one is written, so as not to wait for it: it may be the same.
    _mm512_i32scatter_epi32(state.contexts, context, updated, 4);
    packed = _mm512_mask_mov_epi32(next_packed, _mm512_cmpeq_epi32_mask(next_context, context), updated);
    context = next_context;
    return reached;
  }
};

// Vectors of lanes at work, and what they log.
struct WideRunner {
  WideState& state;
  WideVectors vectors;
  __m512i first_contexts, log;

  NNR_WIDE_INLINE explicit WideRunner(WideState& from) : state(from) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    first_contexts = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(kWideStride));
    log = _mm512_setzero_si512();
    vectors.load(state);
    std::memset(state.n_escaped, 0, sizeof state.n_escaped);
  }

  NNR_WIDE_INLINE void refill() { vectors.refill(state.base, _mm512_load_si512(state.limit)); }

  // One bin of each lane; only lanes in `active` count.
  NNR_WIDE_INLINE void step(Lane* lanes, __mmask16 active) {
    const __m512i numbers = _mm512_set1_epi32(static_cast<int32_t>(0xff000000u));
    const __m512i reached = vectors.step(state, first_contexts);
    log = _mm512_or_si512(_mm512_srli_epi32(log, 8), _mm512_and_si512(reached, numbers));
    const __mmask16 escapes = _mm512_mask_test_epi32_mask(active, reached, _mm512_set1_epi32(kEscapeBit));
    if (NNR_UNLIKELY(escapes)) {
      vectors.store(state);
      decode_wide_escapes(state, lanes, escapes);
      vectors.load(state);
      const __m512i mark = _mm512_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(kEscaped) << 24));
      log = _mm512_mask_or_epi32(log, escapes, _mm512_andnot_si512(numbers, log), mark);
    }
  }

  // After n_steps steps.
  NNR_WIDE_INLINE void finish(int64_t n_steps) {
    if (n_steps & 3) {
      const __m512i nothing = _mm512_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(kNothing) << 24));
      for (int64_t i = n_steps; i & 3; ++i) log = _mm512_or_si512(_mm512_srli_epi32(log, 8), nothing);
      _mm512_store_si512(state.log[n_steps >> 2], log);
    }
    vectors.store(state);
  }
};

// n_steps bins of each lane of one vector or of two, which hide each other's latency; n_steps up to kWideRun.
template <bool kPair>
NNR_WIDE_INLINE void take_wide_turns(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active) {
  const auto active_a = static_cast<__mmask16>(active), active_b = static_cast<__mmask16>(active >> kWideLanes);
  WideRunner a(states[0]), b(states[kPair ? 1 : 0]);
  for (int64_t i = 0; i < n_steps; ++i) {
    if ((i & 1) == 0) a.refill();
    if (kPair && (i & 1) == 0) b.refill();
    a.step(lanes, active_a);
    if (kPair) b.step(lanes + kWideLanes, active_b);
    if ((i & 3) == 3) _mm512_store_si512(a.state.log[i >> 2], a.log);
    if (kPair && (i & 3) == 3) _mm512_store_si512(b.state.log[i >> 2], b.log);
  }
  a.finish(n_steps);
  if (kPair) b.finish(n_steps);
}

// The numbers that n_steps steps of a lane completed.
NNR_WIDE_INLINE void collect(WideState& state, int i, int64_t n_steps) {
  const __m512i rows = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32(kWideLanes));
  const __m512i none = _mm512_set1_epi8(static_cast<char>(kNothing));
  int64_t n = 0;
  for (int64_t first = 0; first < n_steps; first += 64) {
    const int64_t n_words = std::min<int64_t>(16, (n_steps - first + 3) >> 2);
    const auto wanted = static_cast<__mmask16>((1u << n_words) - 1);
    const __m512i log = _mm512_mask_i32gather_epi32(none, wanted, rows, &state.log[first >> 2][i], 4);
    const __mmask64 complete = _mm512_cmpneq_epi8_mask(log, none);
    _mm512_storeu_si512(state.complete[i] + n, _mm512_maskz_compress_epi8(complete, log));
    n += __builtin_popcountll(complete);
  }
  state.n_complete[i] = n;
}

// What `deliver` does, with the numbers that were collected.
NNR_WIDE_INLINE void deliver_wide(const WideState& state, int i, Lane& lane) {
  const bool to_values = lane.target->output == Output::values;
  const __m512 step = _mm512_set1_ps(lane.target->step);
  const uint8_t* from = state.complete[i];
  const int32_t* escaped = state.escaped[i];
  for (const uint8_t* end = from + state.n_complete[i]; from < end;) {
    const Run run = take_run(lane, end - from);
    int32_t* to = lane.target->numbers + run.place;
    for (int64_t j = 0; j < run.n; j += 16) {
      const auto wanted = static_cast<__mmask16>((1u << std::min<int64_t>(16, run.n - j)) - 1);
      __m512i numbers = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j)));
      const __mmask16 escapes = _mm512_mask_cmpeq_epi32_mask(wanted, numbers, _mm512_set1_epi32(kEscaped));
      if (NNR_UNLIKELY(escapes)) {
        numbers = _mm512_mask_expandloadu_epi32(numbers, escapes, escaped);
        escaped += __builtin_popcount(escapes);
      }
      if (to_values) numbers = _mm512_castps_si512(_mm512_mul_ps(step, _mm512_cvtepi32_ps(numbers)));
      _mm512_mask_storeu_epi32(to + j, wanted, numbers);
    }
    from += run.n;
  }
}

NNR_TARGET_WIDE inline void run_wide(WideState* states, Lane* lanes, int64_t n_steps, uint32_t active) {
  active >> kWideLanes ? take_wide_turns<true>(states, lanes, n_steps, active)
                       : take_wide_turns<false>(states, lanes, n_steps, active);
  for (uint32_t rest = active; rest; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    collect(states[i / kWideLanes], i % kWideLanes, n_steps);
  }
  for (uint32_t rest = active; rest; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    deliver_wide(states[i / kWideLanes], i % kWideLanes, lanes[i]);
  }
}

inline bool has_wide_lanes() {
  return has_avx2() && has_instructions(kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq | kAvx512Cd | kAvx512Vbmi |
                                        kAvx512Vbmi2);
}

// So many steps that no lane completes more values than it misses.
inline int64_t wide_run(const Lane* lanes, uint32_t active) {
  int64_t n_steps = kWideRun;
  for (uint32_t rest = active; rest; rest &= rest - 1) n_steps = std::min(n_steps, lanes[__builtin_ctz(rest)].n_missing);
  return n_steps;
}

// What decode_lanes does, with up to kMaxWideLanes lanes, of two states.
inline void decode_wide_lanes(WideState* states, const WideSteps& steps, Lane* lanes, int n_lanes, LaneJob& job) {
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
    run_wide(states, lanes, wide_run(lanes, active), active);
    for (uint32_t rest = active; rest; rest &= rest - 1) {
      const int i = __builtin_ctz(rest);
      const WideState& state = states[i / kWideLanes];
      Lane& lane = lanes[i];
      state.get_decoder(i % kWideLanes, lane.decoder);
      if (lane.is_bad) return job.fail(Status::value_out_of_range);
      if (lane.decoder.is_truncated()) return job.fail(Status::truncated);
      if (lane.n_missing > 0) continue;
      const int node = static_cast<int>(state.node[i % kWideLanes]);
      if (!ends_well(job, lane.decoder, lane.block_row, lane.state(node))) return;
      start(i);
    }
  }
}

}  // namespace nnr

#endif
