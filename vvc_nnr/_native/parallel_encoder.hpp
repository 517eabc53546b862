// The block rows of a tensor into the codeword, by several threads, and many at once in each of them, as lanes of vectors
// or two by turns: one arithmetic encoder alone waits for its own last bin. Each block row of several is a codeword of its
// own that starts with low = 0, since the range is 256 there, and their numbers are added up at their places.
#pragma once

#include <memory>
#include <new>

#include "block_row_bins.hpp"
#include "block_row_threads.hpp"
#include "block_rows.hpp"
#include "tensor_encoder.hpp"
#include "wide_encoder.hpp"

namespace nnr {

// The number of `row` behind that of `codeword`, whose window it overlaps by 9 bits; false if there is no memory.
inline bool append(Codeword& codeword, Codeword& row) {
  int64_t n_bits = row.position_bits();
  if (!row.reserve(8) || !codeword.reserve(n_bits / 8 + 8)) return false;
  row.encoder.write_window();
  const uint8_t* from = row.buffer.data();
  const auto bits = [from](int64_t at, int n) {
    return load_big_endian_64(from + (at >> 3)) << (at & 7) >> (64 - n);
  };
  ArithmeticEncoder encoder = codeword.encoder;
  encoder.low += bits(0, 9);
  for (int64_t at = 9; n_bits > 0; at += 16, n_bits -= 16) {
    const int n = static_cast<int>(std::min<int64_t>(16, n_bits));
    encoder.append(bits(at, n), n);
  }
  encoder.range = row.encoder.range;
  codeword.encoder = encoder;
  return true;
}

// A block row in the making.
struct EncoderLane {
  BlockRowBins bins;
  Context* contexts;
  Codeword* codeword;
};

// What the threads share.
struct EncoderJob {
  const TensorLayout& layout;
  const TensorChoices& choices;
  const TensorBins bins;
  const int* states;  // where each block row begins
  Codeword* codewords;
  Context* last_contexts;  // as the last block row leaves them
  std::atomic<int64_t> next_block_row{0};
  std::atomic<bool> has_memory{true};

  // The next block row for a lane; false: none left.
  bool start(EncoderLane& lane) {
    const int64_t block_row = next_block_row.fetch_add(1);
    if (block_row >= layout.n_block_rows()) return false;
    lane.bins.start(bins, block_row, states[block_row]);
    lane.codeword = codewords + block_row;
    if (block_row + 1 == layout.n_block_rows()) lane.contexts = last_contexts;
    initialise_contexts(lane.contexts, choices.sets, layout.n_contexts());
    if (layout.n_block_rows() > 1) lane.codeword->encoder.begin_block_row();
    return true;
  }

  // More bins for a lane, from the next block row if there are none; false: none left, or no memory.
  NNR_INLINE bool refill(EncoderLane& lane) {
    while (!lane.bins.fill()) {
      if (!start(lane)) return false;
    }
    if (!lane.codeword->reserve(lane.bins.n_bins())) has_memory = false;
    return has_memory;
  }
};

NNR_INLINE void encode_bin(ArithmeticEncoder& encoder, Context* contexts, Bin bin, const EstimatorTables& tables) {
  if (NNR_UNLIKELY(bin >= kBypass)) return encoder.encode_few_bypass(bin & 255u, bypass_length(bin));
  encoder.encode(contexts[context_of(bin)], value_of(bin), tables);
}

NNR_INLINE void encode_bins(EncoderLane& lane, int n) {
  ArithmeticEncoder encoder = lane.codeword->encoder;
  Context* const contexts = lane.contexts;
  const Bin* next = lane.bins.bins();
  const EstimatorTables& tables = *in_register(&kTables);
  for (const Bin* end = next + n; next != end; ++next) encode_bin(encoder, contexts, *next, tables);
  lane.codeword->encoder = encoder;
  lane.bins.take(n);
}

NNR_INLINE void encode_bins_by_turns(EncoderLane& a, EncoderLane& b, int n) {
  ArithmeticEncoder encoder_a = a.codeword->encoder, encoder_b = b.codeword->encoder;
  Context* const contexts_a = a.contexts;
  Context* const contexts_b = b.contexts;
  const Bin *next_a = a.bins.bins(), *next_b = b.bins.bins();
  const EstimatorTables& tables = *in_register(&kTables);
  for (int i = 0; i < n; ++i) {
    encode_bin(encoder_a, contexts_a, next_a[i], tables);
    encode_bin(encoder_b, contexts_b, next_b[i], tables);
  }
  a.codeword->encoder = encoder_a, b.codeword->encoder = encoder_b;
  a.bins.take(n), b.bins.take(n);
}

// Encodes two lanes, and block rows in their places until none is left.
NNR_INLINE void encode_by_turns(EncoderJob& job, EncoderLane* a, EncoderLane* b, bool has_a, bool has_b) {
  while (has_a && has_b) {
    encode_bins_by_turns(*a, *b, std::min(a->bins.n_bins(), b->bins.n_bins()));
    if (!a->bins.n_bins()) has_a = job.refill(*a);
    if (!b->bins.n_bins()) has_b = job.refill(*b);
  }
  EncoderLane& last = has_a ? *a : *b;
  for (bool has_more = has_a || has_b; has_more; has_more = job.refill(last)) {
    encode_bins(last, last.bins.n_bins());
  }
}

// What one thread does: encodes block rows until none is left.
NNR_INLINE void encode_lanes_any(EncoderJob& job, EncoderLane* a, EncoderLane* b) {
  const bool has_a = job.start(*a) && job.refill(*a), has_b = job.start(*b) && job.refill(*b);
  encode_by_turns(job, a, b, has_a, has_b);
}

inline void encode_lanes_portable(EncoderJob& job, EncoderLane* a, EncoderLane* b) { encode_lanes_any(job, a, b); }

NNR_TARGET_AVX2 inline void encode_lanes_avx2(EncoderJob& job, EncoderLane* a, EncoderLane* b) {
  encode_lanes_any(job, a, b);
}

#if NNR_X86

constexpr int kWorthEncoderLanes = 4;  // fewer take turns faster than as vectors

// The lanes of one thread at work in vectors.
class WideEncoding {
 public:
  WideEncoding(EncoderJob& job, EncoderLane* lanes, int n_lanes, WideEncoder& state)
      : job_(job), lanes_(lanes), n_lanes_(n_lanes), state_(state) {}

  NNR_TARGET_AVX2 void run() {
    for (int i = 0; i < n_lanes_; ++i) start(i);
    while (n_active_ >= kWorthEncoderLanes && job_.has_memory) {
      const int n_steps = prepare();
      if (n_steps == 0) continue;
      run_encoders_avx2(state_, n_lanes_, n_steps);
      for (int i = 0; i < n_lanes_; ++i) {
        if (is_active_[i]) lanes_[i].bins.take(n_steps);
      }
      state_.no_encoder = ArithmeticEncoder{};
    }
    EncoderLane* left[kWorthEncoderLanes] = {lanes_, lanes_};
    int n_left = 0;
    for (int i = 0; i < n_lanes_ && job_.has_memory; ++i) {
      if (!is_active_[i]) continue;
      finish(i);
      left[n_left++] = lanes_ + i;
    }
    for (int i = 0; i < n_left; i += 2) encode_by_turns(job_, left[i], left[i + 1], true, i + 1 < n_left);
  }

 private:
  int n_contexts() const { return job_.layout.remainder() + kRemainderContexts; }

  // The next block row for a lane.
  NNR_INLINE void start(int i) {
    is_active_[i] = job_.start(lanes_[i]) && job_.refill(lanes_[i]);
    n_active_ += is_active_[i];
    if (is_active_[i]) {
      state_.put(i, lanes_[i].codeword->encoder, lanes_[i].contexts, n_contexts());
    } else {
      state_.put_nothing(i);
    }
  }

  void finish(int i) { state_.get(i, lanes_[i].contexts, n_contexts()); }

  // Bins for a run of all lanes, and for how many steps they last.
  NNR_INLINE int prepare() {
    int n_steps = kEncoderRun;
    for (int i = 0; i < n_lanes_; ++i) {
      EncoderLane& lane = lanes_[i];
      if (is_active_[i] && lane.bins.n_bins() < kEncoderRun) {
        if (!lane.bins.fill()) {
          finish(i);
          --n_active_;
          start(i);
        } else if (!lane.codeword->reserve(lane.bins.n_bins())) {
          job_.has_memory = false;
          return 0;
        }
      }
      if (is_active_[i]) n_steps = std::min(n_steps, lane.bins.n_bins());
      state_.next[i] = is_active_[i] ? lane.bins.bins() : state_.no_bins;
    }
    for (int i = n_lanes_; i < kEncoderLanes; ++i) state_.next[i] = state_.no_bins;
    state_.no_encoder.next = state_.no_bytes;
    return n_active_ ? n_steps : 0;
  }

  EncoderJob& job_;
  EncoderLane* lanes_;
  const int n_lanes_;
  WideEncoder& state_;
  int n_active_ = 0;
  bool is_active_[kEncoderLanes] = {};
};

#endif

// How many lanes a thread has, as vectors if they are more than two.
inline int encoder_lane_count([[maybe_unused]] const TensorLayout& layout, [[maybe_unused]] int n_threads,
                              [[maybe_unused]] bool portable) {
#if NNR_X86
  const bool is_wide = !portable && has_avx2() && layout.unary_length <= kMaxWideUnaryLength && layout.is_plain() &&
                       layout.n_block_rows() >= int64_t{kWorthEncoderLanes} * n_threads;
  if (is_wide) return lane_count(layout.n_block_rows(), n_threads, kEncoderLanes);
#endif
  return 2;
}

// All values of the tensor; false if there is no memory. Requires as many marks as block rows if there are several.
inline bool encode_values(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                          const int32_t* indices, Context* contexts, BlockRowMark* marks, int n_threads,
                          bool portable) {
  const auto n_block_rows = static_cast<size_t>(layout.n_block_rows());
  const auto n_contexts = static_cast<size_t>(layout.n_contexts());
  const int n_own_lanes = encoder_lane_count(layout, n_threads, portable);
  const auto n_lanes = static_cast<size_t>(n_own_lanes * n_threads);
  const uint8_t* skipped_rows = choices.row_skip ? choices.skipped_rows : nullptr;
  const bool is_one = n_block_rows == 1;
  const std::unique_ptr<Codeword[]> rows(is_one ? nullptr : new (std::nothrow) Codeword[n_block_rows]);
  const std::unique_ptr<int[]> states(new (std::nothrow) int[n_block_rows]());
  const std::unique_ptr<EncoderLane[]> lanes(new (std::nothrow) EncoderLane[n_lanes]);
  const std::unique_ptr<Context[]> own(new (std::nothrow) Context[n_contexts * n_lanes]);
  if (!(rows || is_one) || !states || !lanes || !own) return false;
  if (!is_one) find_states(layout, indices, skipped_rows, states.get());
  for (size_t i = 0; i < n_lanes; ++i) lanes[i].contexts = own.get() + i * n_contexts;
  EncoderJob job{layout,   choices, TensorBins(layout, indices, skipped_rows), states.get(), is_one ? &codeword : rows.get(),
                 contexts};
  const auto encode = !portable && has_avx2() ? encode_lanes_avx2 : encode_lanes_portable;
#if NNR_X86
  const std::unique_ptr<WideEncoder[]> wide(n_own_lanes > 2 ? new (std::nothrow) WideEncoder[n_threads] : nullptr);
  if (n_own_lanes > 2 && !wide) return false;
#endif
  run_in_threads(n_threads, [&](int thread) {
    EncoderLane* own = lanes.get() + thread * n_own_lanes;
#if NNR_X86
    if (wide) return WideEncoding(job, own, n_own_lanes, wide[thread]).run();
#endif
    encode(job, own, own + 1);
  });
  for (size_t i = 0; !is_one && job.has_memory && i < n_block_rows; ++i) {
    marks[i] = {codeword.position_bits(), codeword.encoder.low_window(), states[i]};
    if (!append(codeword, rows[i])) return false;
    rows[i].buffer.release();
  }
  return job.has_memory;
}

// Adds a tensor to the codeword; the threads do not change it.
// Requires: n_contexts contexts; as many marks as block rows if there are several; up to kMaxThreads threads.
inline Status encode_tensor(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                            const int32_t* indices, Context* contexts, BlockRowMark* marks, int n_threads,
                            bool portable) {
  if (!encode_prologue(codeword, layout, choices)) return Status::out_of_memory;
  n_threads = static_cast<int>(std::min<int64_t>(n_threads, layout.n_block_rows()));
  const bool done = encode_values(codeword, layout, choices, indices, contexts, marks, n_threads, portable);
  return done ? Status::ok : Status::out_of_memory;
}

}  // namespace nnr
