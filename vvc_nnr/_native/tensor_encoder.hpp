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

// Works on a copy of the encoder, which the caller puts back.
struct EncoderSink {
  ArithmeticEncoder encoder;
  ByteBuffer& buffer;
  Context* contexts;

  NNR_INLINE bool reserve(int64_t n_bins) { return encoder.reserve(buffer, n_bins); }
  NNR_INLINE void bin(int context, bool bin) { encoder.encode(contexts[context], bin); }
  NNR_INLINE void bypass(uint64_t bins, int n_bins) { encoder.encode_bypass(bins, n_bins); }
  NNR_INLINE void remainder(const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    encoder = remainder_apart(*this, layout, rest, limit);
  }
  static NNR_NOINLINE ArithmeticEncoder remainder_apart(EncoderSink sink, const TensorLayout& layout, uint64_t rest,
                                                        uint64_t limit) {
    code_remainder(sink, layout, rest, limit);
    return sink.encoder;
  }
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

NNR_INLINE bool encode_block_row_any(Codeword& codeword, const TensorLayout& layout, const int32_t* indices,
                                     int64_t block_row, const uint8_t* skipped_rows, Context* contexts, int& state) {
  EncoderSink sink{codeword.encoder, codeword.buffer, contexts};
  const bool done = code_block_row(sink, layout, indices, block_row, skipped_rows, state);
  codeword.encoder = sink.encoder;
  return done;
}

NNR_TARGET_AVX2 inline bool encode_block_row_avx2(Codeword& codeword, const TensorLayout& layout,
                                                  const int32_t* indices, int64_t block_row,
                                                  const uint8_t* skipped_rows, Context* contexts, int& state) {
  return encode_block_row_any(codeword, layout, indices, block_row, skipped_rows, contexts, state);
}

inline bool encode_block_row(Codeword& codeword, const TensorLayout& layout, const int32_t* indices, int64_t block_row,
                             const uint8_t* skipped_rows, Context* contexts, int& state, bool portable) {
  return !portable && has_avx2()
             ? encode_block_row_avx2(codeword, layout, indices, block_row, skipped_rows, contexts, state)
             : encode_block_row_any(codeword, layout, indices, block_row, skipped_rows, contexts, state);
}

inline bool encode_values(Codeword& codeword, const TensorLayout& layout, const TensorChoices& choices,
                          const int32_t* indices, Context* contexts, BlockRowMark* marks, bool portable) {
  const int64_t n_block_rows = layout.n_block_rows();
  const uint8_t* skipped_rows = choices.row_skip ? choices.skipped_rows : nullptr;
  int state = 0;
  for (int64_t block_row = 0; block_row < n_block_rows; ++block_row) {
    if (n_block_rows > 1) {
      if (block_row > 0) initialise_contexts(contexts, choices.sets, layout.n_contexts());
      codeword.encoder.begin_block_row();
      marks[block_row] = {codeword.position_bits(), codeword.encoder.low_window(), state};
    }
    if (!encode_block_row(codeword, layout, indices, block_row, skipped_rows, contexts, state, portable)) return false;
  }
  return true;
}

}  // namespace nnr
