// The arithmetic decoder: a 9-bit window of the codeword and the range, both at the top of 64-bit words.
//
// `value` holds the window and, below it, bits that were fetched ahead; `range` has zeros below its 9 bits. A bin costs
// no memory access to the codeword; `refill` fetches 7 bytes at once and needs no branch. After it at least 56 bits are
// valid: enough for six context bins (7 bits each at most) with 9 bits left to compare.
// Memory: the buffer goes on for kPadding zero bytes behind its end. A decoder that has run past the end stays at
// `limit` and reads zeros for ever; `is_truncated` tells.
#pragma once

#include "estimator.hpp"

namespace nnr {

constexpr int kPadding = 16;
constexpr int kBinsPerRefill = 6;
constexpr uint64_t kInitialRange = uint64_t{510} << kRangeShift;
constexpr uint64_t kBlockRowRange = uint64_t{256} << kRangeShift;

struct ArithmeticDecoder {
  uint64_t value;
  uint64_t range;
  const uint8_t* next;
  int n_valid;  // bits of `value` that come from the codeword, 0..63
  const uint8_t* begin;
  const uint8_t* limit;  // end of data + 8; a decoder inside the codeword never gets there

  void start(const uint8_t* data, int64_t n_bytes) {
    value = 0;
    range = kInitialRange;
    next = begin = data;
    limit = data + n_bytes + 8;
    n_valid = 0;
    refill();
  }

  // Continue at an entry point. Requires 0 <= position_bits and position_bits + 9 <= 8 * number of bytes.
  void enter(int64_t position_bits, unsigned window) {
    const int64_t first = position_bits + 9;
    const int used = static_cast<int>(first & 7);
    next = begin + (first >> 3);
    value = uint64_t{window} << kRangeShift;
    range = kBlockRowRange;
    n_valid = 9;
    if (used) {
      value |= uint64_t{static_cast<uint8_t>(*next << used)} << (kRangeShift - 8);
      n_valid += 8 - used;
      ++next;
    }
    refill();
  }

  // Number of bits shifted out of the window so far.
  int64_t position_bits() const { return 8 * (next - begin) - n_valid; }
  unsigned window() const { return static_cast<unsigned>(value >> kRangeShift); }
  int64_t n_bytes() const { return limit - 8 - begin; }
  bool is_truncated() const { return next == limit || position_bits() + 9 > 8 * n_bytes(); }

  NNR_INLINE void refill() {
    value |= load_big_endian_64(next) >> n_valid;
    const uint8_t* after = next + ((63 - n_valid) >> 3);
    next = after < limit ? after : limit;
    n_valid |= 56;
  }

  NNR_INLINE void shift(int n) {
    value <<= n;
    range <<= n;
    n_valid -= n;
  }

  // A bin on which the caller branches: the test for the less probable symbol is a branch too, predicted with it.
  NNR_INLINE bool decode(Context& context) {
    const int64_t total = context.total();
    const uint64_t lps = lps_range(total, range);
    const uint64_t mps = range - lps;
    bool bin = total >= 0;
    if (value < mps) {
      range = mps;
      shift(static_cast<int>(~mps >> 63));
    } else {
      value -= mps;
      range = lps;
      bin = !bin;
      shift(leading_zeros(lps));
    }
    context.update(-static_cast<int64_t>(bin));
    return bin;
  }

  // The same without a branch, for bins on which nothing but data depend: all ones for bin 1, zero for bin 0.
  NNR_INLINE int64_t decode_mask(Context& context) {
    const int64_t total = context.total();
    const uint64_t lps = lps_range(total, range);
    const uint64_t mps = range - lps;
    const uint64_t is_mps = -static_cast<uint64_t>(value < mps);
    value -= mps & ~is_mps;
    range = lps + ((mps - lps) & is_mps);
    const int64_t ones = static_cast<int64_t>(is_mps) ^ (total >> 63);
    shift(leading_zeros(range));
    context.update(ones);
    return ones;
  }

  NNR_INLINE unsigned decode_bypass() {
    const uint64_t half = range >> 1;
    const unsigned bin = value >= half;
    value = (value - (half & -static_cast<uint64_t>(bin))) << 1;
    --n_valid;
    return bin;
  }

  // Up to 32 bins, the most significant first.
  uint64_t decode_bypass(int n_bins) {
    uint64_t bins = 0;
    for (int i = 0; i < n_bins; ++i) {
      if ((i & 31) == 0) refill();
      bins = bins << 1 | decode_bypass();
    }
    refill();
    return bins;
  }

  // The terminate bin; leaves the position where the stop bit is the last of the window if the bin is 1.
  bool decode_terminate() {
    range -= uint64_t{2} << kRangeShift;
    if (value >= range) return true;
    shift(static_cast<int>(~range >> 63));
    return false;
  }
};

}  // namespace nnr
