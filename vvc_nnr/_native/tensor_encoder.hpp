// One tensor into the codeword: prologue, then the block rows.
#pragma once

#include "arithmetic_encoder.hpp"
#include "status.hpp"
#include "value_coding.hpp"

namespace nnr {

// What the encoder is free to choose (history mode is in the layout).
struct TensorChoices {
  bool row_skip = false;
  const uint8_t* skipped_rows = nullptr;  // n_rows; each marked row is all zero
  const uint8_t* sets = nullptr;          // n_contexts
};

// Where a block row begins. The decoder's window there is the codeword's less `low`.
struct BlockRowMark {
  int64_t position_bits;
  unsigned low;
  int state;
};

inline void initialise_contexts(Context* contexts, const uint8_t* sets, int n) {
  for (int i = 0; i < n; ++i) contexts[i] = initial_context(sets[i]);
}

// A codeword in the making.
struct Codeword {
  ByteBuffer buffer;
  ArithmeticEncoder encoder;

  bool reserve(int64_t n_bins) { return encoder.reserve(buffer, n_bins); }
  int64_t position_bits() const { return encoder.position_bits(buffer); }
  int64_t n_bytes() const { return encoder.next - buffer.data(); }
};

inline bool encode_prologue(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices) {
  ArithmeticEncoder& encoder = codeword.encoder;
  if (!codeword.reserve(layout.n_rows + 4 * layout.n_contexts() + 2)) return false;
  if (layout.has_row_skip_flag()) {
    if (layout.parent_present) encoder.encode_bypass(layout.use_history, 1);
    encoder.encode_bypass(choices.row_skip, 1);
    Context context = initial_context(0);
    for (int64_t row = 0; choices.row_skip && row < layout.n_rows; ++row) {
      encoder.encode(context, choices.skipped_rows[row] != 0);
    }
  }
  Context flag = initial_context(0);
  for_each_signalled_context(layout, [&](int context) {
    const unsigned set = choices.sets[context];
    encoder.encode(flag, set > 0);
    if (set > 0) encoder.encode_bypass(set - 1, 3);
  });
  return true;
}

}  // namespace nnr
