// Floats as exponents, and planes of what is left of them: signs and mantissas, which no coder makes smaller.
#pragma once

#include <algorithm>

#include "platform.hpp"

namespace nnr {

struct FloatParts {
  int mantissa_bits;
  int n_dropped;  // lowest mantissa bits that no value has
  int centre;     // of the exponents
};

// What a piece takes stays in the cache.
constexpr int64_t kFloatPiece = 4096;
static_assert(kFloatPiece % 8 == 0, "whole bytes of bit planes");

// The bit `place` of eight bytes, the first lowest.
NNR_INLINE uint8_t bits_of_eight(uint64_t bytes, int place) {
  return static_cast<uint8_t>((bytes >> place & 0x0101010101010101u) * 0x0102040810204080u >> 56);
}

// `exponents` get n numbers, less the centre. The sign above the mantissa bits that are kept: `planes` get all lowest
// bytes of that, then the next ones, then what is left bit by bit, (n + 7) / 8 bytes each.
template <class Word>
NNR_INLINE void split_floats_as(const Word* values, int64_t n, const FloatParts& parts, int32_t* exponents,
                                uint8_t* planes) {
  const int n_kept = parts.mantissa_bits - parts.n_dropped, n_whole = (n_kept + 1) / 8, n_single = (n_kept + 1) % 8;
  const int sign_place = 8 * static_cast<int>(sizeof(Word)) - 1;
  const uint64_t exponent_mask = (uint64_t{1} << (sign_place - parts.mantissa_bits)) - 1;
  const uint64_t mantissa_mask = (uint64_t{1} << parts.mantissa_bits) - 1;
  uint8_t* const single = planes + n_whole * n;
  const int64_t row = (n + 7) / 8;
  uint8_t rest[kFloatPiece];
  for (int64_t begin = 0; begin < n; begin += kFloatPiece) {
    const int64_t size = std::min(kFloatPiece, n - begin);
    const Word* at = values + begin;
    const auto kept = [&](int64_t i) NNR_LAMBDA_INLINE {
      return static_cast<Word>(static_cast<Word>(at[i] & static_cast<Word>(mantissa_mask)) >> parts.n_dropped |
                               static_cast<Word>(at[i] >> sign_place) << n_kept);
    };
    for (int64_t i = 0; i < size; ++i) {
      exponents[begin + i] =
          static_cast<int32_t>(at[i] >> parts.mantissa_bits & static_cast<Word>(exponent_mask)) - parts.centre;
    }
    for (int plane = 0; plane < n_whole; ++plane) {
      uint8_t* out = planes + plane * n + begin;
      for (int64_t i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(kept(i) >> 8 * plane);
    }
    if (n_single == 0) continue;
    for (int64_t i = 0; i < size; ++i) rest[i] = static_cast<uint8_t>(kept(i) >> 8 * n_whole);
    std::fill(rest + size, rest + (size + 7) / 8 * 8, uint8_t{0});
    for (int place = 0; place < n_single; ++place) {
      uint8_t* out = single + place * row + begin / 8;
      for (int64_t i = 0; i < size; i += 8) out[i / 8] = bits_of_eight(load_little_endian_64(rest + i), place);
    }
  }
}

template <class Word>
void split_floats_portable(const Word* values, int64_t n, const FloatParts& parts, int32_t* exponents,
                           uint8_t* planes) {
  split_floats_as(values, n, parts, exponents, planes);
}

template <class Word>
NNR_TARGET_AVX2 void split_floats_avx2(const Word* values, int64_t n, const FloatParts& parts, int32_t* exponents,
                                       uint8_t* planes) {
  split_floats_as(values, n, parts, exponents, planes);
}

// Requires: n numbers at `exponents`, and n * n_whole + n_single * ((n + 7) / 8) bytes at `planes`.
template <class Word>
void split_floats(const Word* values, int64_t n, const FloatParts& parts, int32_t* exponents, uint8_t* planes) {
  has_avx2() ? split_floats_avx2(values, n, parts, exponents, planes)
             : split_floats_portable(values, n, parts, exponents, planes);
}

// A byte for each bit, that of the lowest bit first.
NNR_INLINE uint64_t bytes_of_bits(uint8_t bits) {
  const uint64_t alone = bits * 0x0101010101010101u & 0x8040201008040201u;
  return (alone + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

// The inverse; false if an exponent is out of range. `skips_zeros`: exponents from 0 on are one more than that.
template <class Word>
NNR_INLINE bool join_floats_as(const int32_t* exponents, int64_t n, const FloatParts& parts, bool skips_zeros,
                               const uint8_t* planes, Word* values) {
  const int n_kept = parts.mantissa_bits - parts.n_dropped, n_whole = (n_kept + 1) / 8, n_single = (n_kept + 1) % 8;
  const int sign_place = 8 * static_cast<int>(sizeof(Word)) - 1;
  const int64_t largest = (int64_t{1} << (sign_place - parts.mantissa_bits)) - 1;
  const auto mantissa_mask = static_cast<Word>((uint64_t{1} << n_kept) - 1);
  const uint8_t* const single = planes + n_whole * n;
  const int64_t row = (n + 7) / 8;
  const int32_t least = -parts.centre, most = static_cast<int32_t>(largest) - parts.centre + skips_zeros;
  bool are_in_range = true;
  uint8_t singles[kFloatPiece];
  Word rest[kFloatPiece];
  for (int64_t begin = 0; begin < n; begin += kFloatPiece) {
    const int64_t size = std::min(kFloatPiece, n - begin);
    std::fill(rest, rest + size, Word{0});
    for (int plane = 0; plane < n_whole; ++plane) {
      const uint8_t* from = planes + plane * n + begin;
      for (int64_t i = 0; i < size; ++i) rest[i] |= static_cast<Word>(static_cast<Word>(from[i]) << 8 * plane);
    }
    if (n_single > 0) {
      for (int64_t i = 0; i < size; i += 8) {
        uint64_t eight = 0;
        for (int place = 0; place < n_single; ++place) {
          eight |= bytes_of_bits(single[place * row + (begin + i) / 8]) << place;
        }
        store_little_endian_64(singles + i, eight);
      }
      for (int64_t i = 0; i < size; ++i) rest[i] |= static_cast<Word>(static_cast<Word>(singles[i]) << 8 * n_whole);
    }
    int32_t lowest = most, highest = least;
    for (int64_t i = 0; i < size; ++i) {
      const int32_t coded = exponents[begin + i];
      lowest = std::min(lowest, coded), highest = std::max(highest, coded);
      const uint32_t exponent =
          static_cast<uint32_t>(coded) + static_cast<uint32_t>(parts.centre) - (skips_zeros && coded > 0);
      values[begin + i] = static_cast<Word>(static_cast<Word>(static_cast<Word>(exponent) << parts.mantissa_bits) |
                                            static_cast<Word>((rest[i] & mantissa_mask) << parts.n_dropped) |
                                            static_cast<Word>(static_cast<Word>(rest[i] >> n_kept) << sign_place));
    }
    are_in_range = are_in_range && least <= lowest && highest <= most;
  }
  return are_in_range;
}

template <class Word>
bool join_floats_portable(const int32_t* exponents, int64_t n, const FloatParts& parts, bool skips_zeros,
                          const uint8_t* planes, Word* values) {
  return join_floats_as(exponents, n, parts, skips_zeros, planes, values);
}

template <class Word>
NNR_TARGET_AVX2 bool join_floats_avx2(const int32_t* exponents, int64_t n, const FloatParts& parts, bool skips_zeros,
                                      const uint8_t* planes, Word* values) {
  return join_floats_as(exponents, n, parts, skips_zeros, planes, values);
}

// Requires what split_floats does, and a centre below 2^16.
template <class Word>
bool join_floats(const int32_t* exponents, int64_t n, const FloatParts& parts, bool skips_zeros, const uint8_t* planes,
                 Word* values) {
  return has_avx2() ? join_floats_avx2(exponents, n, parts, skips_zeros, planes, values)
                    : join_floats_portable(exponents, n, parts, skips_zeros, planes, values);
}

}  // namespace nnr
