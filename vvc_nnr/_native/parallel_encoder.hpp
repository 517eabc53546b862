// A tensor of several block rows into the codeword by several threads: each block row is a codeword of its own that
// starts with low = 0, since the range is 256 there, and their numbers are added up at their places.
#pragma once

#include <memory>
#include <new>

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

// What encode_values does, with the same result. Requires several block rows.
inline bool encode_values_in_threads(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                                     const int32_t* indices, Context* contexts, BlockRowMark* marks, int n_threads,
                                     bool portable) {
  const auto n_block_rows = static_cast<size_t>(layout.n_block_rows());
  const auto n_contexts = static_cast<size_t>(layout.n_contexts());
  const uint8_t* skipped_rows = choices.row_skip ? choices.skipped_rows : nullptr;
  const std::unique_ptr<Codeword[]> rows(new (std::nothrow) Codeword[n_block_rows]);
  const std::unique_ptr<int[]> states(new (std::nothrow) int[n_block_rows]);
  const std::unique_ptr<Context[]> own(new (std::nothrow) Context[n_contexts * static_cast<size_t>(n_threads)]);
  if (!rows || !states || !own) return false;
  find_states(layout, indices, skipped_rows, states.get());
  const bool done = visit_block_rows(layout, n_threads, [&](int thread, int64_t block_row) {
    const auto place = static_cast<size_t>(block_row);
    Context* used = own.get() + static_cast<size_t>(thread) * n_contexts;
    initialise_contexts(used, choices.sets, layout.n_contexts());
    rows[place].encoder.begin_block_row();
    int state = states[place];
    if (!encode_block_row(rows[place], layout, indices, block_row, skipped_rows, used, state, portable)) return false;
    if (place + 1 == n_block_rows) std::copy(used, used + n_contexts, contexts);
    return true;
  });
  for (size_t i = 0; done && i < n_block_rows; ++i) {
    marks[i] = {codeword.position_bits(), codeword.encoder.low_window(), states[i]};
    if (!append(codeword, rows[i])) return false;
    rows[i].buffer.release();
  }
  return done;
}

// Adds a tensor to the codeword; the threads do not change it.
// Requires: n_contexts contexts; as many marks as block rows if there are several; up to kMaxThreads threads.
inline Status encode_tensor(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                            const int32_t* indices, Context* contexts, BlockRowMark* marks, int n_threads,
                            bool portable) {
  initialise_contexts(contexts, choices.sets, layout.n_contexts());
  if (!encode_prologue(codeword, layout, choices)) return Status::out_of_memory;
  const bool done =
      n_threads > 1 && layout.n_block_rows() > 1
          ? encode_values_in_threads(codeword, layout, choices, indices, contexts, marks, n_threads, portable)
          : encode_values(codeword, layout, choices, indices, contexts, marks, portable);
  return done ? Status::ok : Status::out_of_memory;
}

}  // namespace nnr
