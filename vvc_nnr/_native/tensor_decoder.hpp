// One tensor out of the codeword, in order: prologue, then block row after block row.
#pragma once

#include "tensor_encoder.hpp"
#include "value_decoding.hpp"

namespace nnr {

// What the prologue said (history mode goes into the layout).
struct Prologue {
  bool row_skip = false;
  uint8_t* skipped_rows;  // n_rows, zeros before
  uint8_t* sets;          // n_contexts, zeros before
};

// The header of an entry point, its position counted from the beginning of the codeword.
struct EntryPoint {
  int64_t position_bits;
  unsigned window;
  int state;
};

// Leaves the history flag in layout.use_history, even if there is no map (which counts as all zero).
inline Status decode_prologue(ArithmeticDecoder& decoder, TensorLayout& layout, Prologue& prologue) {
  layout.use_history = false;
  if (layout.has_row_skip_flag()) {
    decoder.refill();
    if (layout.parent_present) layout.use_history = decoder.decode_bypass();
    prologue.row_skip = decoder.decode_bypass();
    Context context = initial_context(0);
    for (int64_t row = 0; prologue.row_skip && row < layout.n_rows; ++row) {
      decoder.refill();
      prologue.skipped_rows[row] = static_cast<uint8_t>(decoder.decode(context));
      if (row % kCheckInterval == 0 && decoder.is_truncated()) return Status::truncated;
    }
  }
  Context flag = initial_context(0);
  for_each_signalled_context(layout, [&](int context) {
    decoder.refill();
    if (decoder.decode(flag)) prologue.sets[context] = static_cast<uint8_t>(1 + decoder.decode_bypass(3));
  });
  return decoder.is_truncated() ? Status::truncated : Status::ok;
}

// Requires n_contexts contexts; as many marks as block rows, if there are several and `marks` is given.
inline Status decode_values(ArithmeticDecoder& decoder, const TensorLayout& layout, const Prologue& prologue,
                            Context* contexts, const Target& target, EntryPoint* marks, bool portable) {
  const int64_t n_block_rows = layout.n_block_rows();
  const uint8_t* skipped_rows = prologue.row_skip ? prologue.skipped_rows : nullptr;
  int state = 0;
  for (int64_t block_row = 0; block_row < n_block_rows; ++block_row) {
    initialise_contexts(contexts, prologue.sets, layout.n_contexts());
    if (n_block_rows > 1) {
      decoder.range = kBlockRowRange;
      if (decoder.value >= decoder.range) return Status::bad_block_row;
      if (marks) marks[block_row] = {decoder.position_bits(), decoder.window(), state};
    }
    const Status status = decode_block_row(decoder, layout, contexts, skipped_rows, block_row, target, state, portable);
    if (status != Status::ok) return status;
  }
  return Status::ok;
}

// After the last tensor: the terminate bin, the stop bit, zeros, and the end of the data.
inline Status decode_end(ArithmeticDecoder& decoder) {
  decoder.refill();
  if (decoder.is_truncated()) return Status::truncated;
  if (!decoder.decode_terminate()) return Status::no_terminate_bin;
  const int64_t stop = decoder.position_bits() + 8;
  if (stop >= 8 * decoder.n_bytes()) return Status::truncated;
  const uint8_t last = decoder.begin[stop >> 3];
  if (static_cast<uint8_t>(last << (stop & 7)) != 0x80) return Status::bad_stop_bit;
  return (stop >> 3) + 1 == decoder.n_bytes() ? Status::ok : Status::trailing_bytes;
}

}  // namespace nnr
