// The block rows of a tensor into the codeword, by several threads, and two by turns in each of them: one arithmetic
// encoder alone waits for its own last bin. Each block row of several is a codeword of its own that starts with low = 0,
// since the range is 256 there, and their numbers are added up at their places.
#pragma once

#include <memory>
#include <new>

#include "block_row_bins.hpp"
#include "block_row_threads.hpp"
#include "tensor_encoder.hpp"

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
  const Bin* next;
  int n_left;  // of the bins at hand
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
    while (!(lane.n_left = lane.bins.fill())) {
      if (!start(lane)) return false;
    }
    lane.next = lane.bins.bins();
    if (!lane.codeword->reserve(lane.n_left)) has_memory = false;
    return has_memory;
  }
};

NNR_INLINE void encode_bin(ArithmeticEncoder& encoder, Context* contexts, Bin bin, const EstimatorTables& tables) {
  if (NNR_UNLIKELY(bin >= kBypass)) return encoder.encode_few_bypass(bin & 255u, (bin >> 8 & 7) + 1);
  encoder.encode(contexts[bin >> 1], bin & 1, tables);
}

NNR_INLINE void encode_bins(EncoderLane& lane, int n) {
  ArithmeticEncoder encoder = lane.codeword->encoder;
  Context* const contexts = lane.contexts;
  const Bin* next = lane.next;
  const EstimatorTables& tables = *in_register(&kTables);
  for (const Bin* end = next + n; next != end; ++next) encode_bin(encoder, contexts, *next, tables);
  lane.codeword->encoder = encoder;
  lane.next = next, lane.n_left -= n;
}

NNR_INLINE void encode_bins_by_turns(EncoderLane& a, EncoderLane& b, int n) {
  ArithmeticEncoder encoder_a = a.codeword->encoder, encoder_b = b.codeword->encoder;
  Context* const contexts_a = a.contexts;
  Context* const contexts_b = b.contexts;
  const Bin *next_a = a.next, *next_b = b.next;
  const EstimatorTables& tables = *in_register(&kTables);
  for (int i = 0; i < n; ++i) {
    encode_bin(encoder_a, contexts_a, next_a[i], tables);
    encode_bin(encoder_b, contexts_b, next_b[i], tables);
  }
  a.codeword->encoder = encoder_a, b.codeword->encoder = encoder_b;
  a.next += n, a.n_left -= n;
  b.next += n, b.n_left -= n;
}

// What one thread does: encodes block rows until none is left.
NNR_INLINE void encode_lanes_any(EncoderJob& job, EncoderLane* a, EncoderLane* b) {
  bool has_a = job.start(*a) && job.refill(*a), has_b = job.start(*b) && job.refill(*b);
  while (has_a && has_b) {
    encode_bins_by_turns(*a, *b, std::min(a->n_left, b->n_left));
    if (!a->n_left) has_a = job.refill(*a);
    if (!b->n_left) has_b = job.refill(*b);
  }
  EncoderLane& last = has_a ? *a : *b;
  for (bool has_more = has_a || has_b; has_more; has_more = job.refill(last)) encode_bins(last, last.n_left);
}

inline void encode_lanes_portable(EncoderJob& job, EncoderLane* a, EncoderLane* b) { encode_lanes_any(job, a, b); }

NNR_TARGET_AVX2 inline void encode_lanes_avx2(EncoderJob& job, EncoderLane* a, EncoderLane* b) {
  encode_lanes_any(job, a, b);
}

// All values of the tensor; false if there is no memory. Requires as many marks as block rows if there are several.
inline bool encode_values(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                          const int32_t* indices, Context* contexts, BlockRowMark* marks, int n_threads,
                          bool portable) {
  const auto n_block_rows = static_cast<size_t>(layout.n_block_rows());
  const auto n_contexts = static_cast<size_t>(layout.n_contexts());
  const auto n_lanes = static_cast<size_t>(2 * n_threads);
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
  run_in_threads(n_threads, [&](int thread) { encode(job, &lanes[2 * thread], &lanes[2 * thread + 1]); });
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
