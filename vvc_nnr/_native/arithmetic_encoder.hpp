// The arithmetic encoder: exact low and a 9-bit range. Bytes leave in groups of four; a carry runs back into them.
//
// `low` has 9 + n_pending bits, and one more until a carry is taken out. The encoder is a small value that a loop keeps
// in registers; it writes behind `next` without a check: reserve one byte per bin (a bin takes 7 bits at most) and
// kEncoderMargin ahead of a run of bins.
#pragma once

#include "byte_buffer.hpp"
#include "estimator.hpp"

namespace nnr {

constexpr int64_t kEncoderMargin = 16;

struct ArithmeticEncoder {
  uint64_t low = 0;
  uint64_t range = uint64_t{510} << kRangeShift;  // at the top, as in the decoder
  int64_t n_pending = 0;
  uint8_t* next = nullptr;

  NNR_INLINE void encode(Context& context, bool bin, const EstimatorTables& tables = kTables) {
    const int64_t total = context.total();
    const uint64_t lps = lps_range(total, range, tables);
    const uint64_t mps = range - lps;
    const uint64_t is_lps = -static_cast<uint64_t>(bin != (total >= 0));
    low += (mps & is_lps) >> kRangeShift;
    range = mps + ((lps - mps) & is_lps);
    const int n = leading_zeros(range);
    range <<= n;
    shift_low(n);
    context.update(-static_cast<int64_t>(bin), tables);
  }

  // The last n_bins of `bins`, the most significant first.
  void encode_bypass(uint64_t bins, int n_bins) {
    while (n_bins > 0) {
      const int n = n_bins < 16 ? n_bins : 16;
      n_bins -= n;
      encode_few_bypass(bins >> n_bins & ((uint64_t{1} << n) - 1), n);
    }
  }

  // Up to 16 bins, all of `bins`.
  NNR_INLINE void encode_few_bypass(uint64_t bins, int n_bins) {
    append(bins * (range >> kRangeShift), n_bins);
  }

  void begin_block_row() { range = uint64_t{256} << kRangeShift; }

  // The terminate bin with value 1, the flush, the stop bit and zeros up to a byte border.
  void finish() {
    low += (range >> kRangeShift) - 2;
    shift_low(7);
    const int64_t n_padding = -(n_pending + 2) & 7, n_bits = n_pending + 2 + n_padding;
    const uint64_t tail = (low >> 8 << 1 | 1) << n_padding;
    if (tail >> n_bits) carry();
    for (int64_t at = n_bits - 8; at >= 0; at -= 8) *next++ = static_cast<uint8_t>(tail >> at);
  }

  // A number to be added after n_bits more, up to 22.
  NNR_INLINE void append(uint64_t bits, int n_bits) {
    low = (low << n_bits) + bits;
    n_pending += n_bits;
    if (n_pending >= 32) flush();
  }

  // All bits of low behind the bytes, for a reader; the encoder is not to go on.
  void write_window() {
    if (low >> (9 + n_pending)) carry();
    const uint64_t bits = low << (55 - n_pending);
    store_big_endian_32(next, static_cast<uint32_t>(bits >> 32));
    store_big_endian_32(next + 4, static_cast<uint32_t>(bits));
  }

  int64_t position_bits(const ByteBuffer& buffer) const { return 8 * (next - buffer.data()) + n_pending; }
  unsigned low_window() const { return static_cast<unsigned>(low & 511); }

  // Room for n_bins more in the buffer that `next` points into, which may move.
  NNR_INLINE bool reserve(ByteBuffer& buffer, int64_t n_bins) {
    const int64_t n_used = next - buffer.data();
    if (!buffer.reserve(n_used, n_bins + kEncoderMargin)) return false;
    next = buffer.data() + n_used;
    return true;
  }

 private:
  NNR_INLINE void shift_low(int n) {
    low <<= n;
    n_pending += n;
    if (NNR_UNLIKELY(n_pending >= 32)) flush();
  }

  // Moves the highest 32 bits out; n_pending is 32..53.
  NNR_INLINE void flush() {
    n_pending -= 32;
    const int64_t below = 9 + n_pending;
    const uint64_t out = low >> below;
    low &= (uint64_t{1} << below) - 1;
    if (NNR_UNLIKELY(out >> 32)) carry();
    store_big_endian_32(next, static_cast<uint32_t>(out));
    next += 4;
  }

  // Cannot run past the first byte, since the codeword is a number below 1.
  NNR_INLINE void carry() const {
    uint8_t* byte = next;
    while (++*--byte == 0) {
    }
  }
};

}  // namespace nnr
