// One index from bins, and a block row of them from one decoder.
#pragma once

#include "arithmetic_decoder.hpp"
#include "status.hpp"
#include "value_coding.hpp"

namespace nnr {

// What the numbers of a decoded tensor are: coded indices, what multiplies the step, or float32 products.
enum class Output : int { indices = 0, levels = 1, values = 2 };

struct Target {
  int32_t* numbers;  // n_rows * n_columns; float32 bits if values
  Output output;
  float step;

  // Turns levels in place.
  NNR_INLINE void finish(int32_t* begin, int64_t n) const {
    if (output != Output::values) return;
    for (int64_t i = 0; i < n; ++i) {
      const float value = step * static_cast<float>(begin[i]);
      std::memcpy(begin + i, &value, sizeof value);
    }
  }

  // Writes levels at a place of the tensor.
  NNR_INLINE void put(const int32_t* from, int64_t n, int64_t place) const {
    int32_t* to = numbers + place;
    if (output != Output::values) {
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof *to);
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      const float value = step * static_cast<float>(from[i]);
      std::memcpy(to + i, &value, sizeof value);
    }
  }
};

// Largest magnitude that is taken: the levels of dependent indices must fit 32 bits.
inline uint64_t largest_magnitude(const TensorLayout& layout, bool negative) {
  const uint64_t by_type = layout.dependent ? (uint64_t{1} << 30) - 1 : (uint64_t{1} << 31) - !negative;
  return std::min<uint64_t>(by_type, layout.max_magnitude(negative));
}

// abs(k), after all greater flags were 1; 0 if it is more than `largest`.
inline uint32_t decode_remainder(ArithmeticDecoder& decoder, const TensorLayout& layout, Context* contexts,
                                 bool negative) {
  const uint64_t first = static_cast<uint64_t>(layout.unary_length) + 1;
  const uint64_t limit = layout.max_magnitude(negative);
  uint64_t begin = 0;
  int p = 0;
  for (; first + begin + (uint64_t{1} << p) <= limit; ++p) {
    if (p == kRemainderContexts) return 0;
    decoder.refill();
    if (!decoder.decode(contexts[layout.remainder() + p])) break;
    begin += uint64_t{1} << p;
  }
  const uint64_t size = first + begin + decoder.decode_bypass(p);
  return size <= largest_magnitude(layout, negative) ? static_cast<uint32_t>(size) : 0;
}

NNR_NOINLINE inline uint32_t decode_remainder_apart(ArithmeticDecoder& decoder, const TensorLayout& layout,
                                                    Context* contexts, bool negative) {
  return decode_remainder(decoder, layout, contexts, negative);
}

// An index; false if it is out of range.
template <bool kPlain>
NNR_INLINE bool decode_value(ArithmeticDecoder& decoder, const TensorLayout& layout, Context* contexts,
                             const Surroundings& at, int unary_length, int32_t& k) {
  k = 0;
  decoder.refill();
  const bool is_coded = kPlain || layout.is_coded();
  if (!is_coded || !decoder.decode(contexts[significance_context<kPlain>(at)])) return true;
  uint32_t negative;  // 0 or 1
  if (kPlain || (layout.max_negative > 0 && layout.max_positive > 0)) {
    negative = decoder.decode_mask(contexts[sign_context<kPlain>(at)]) & 1;
  } else {
    negative = layout.max_negative > 0;
  }
  const uint32_t limit = kPlain ? UINT32_MAX : layout.max_magnitude(negative);
  uint32_t size = 1;
  for (int j = 0; kPlain || size < limit; ++j) {
    if (NNR_UNLIKELY(j == unary_length)) {
      ArithmeticDecoder copy = decoder;
      size = decode_remainder_apart(copy, layout, contexts, negative);
      decoder = copy;
      break;
    }
    if (NNR_UNLIKELY(decoder.n_valid < 16)) decoder.refill();
    if (!decoder.decode(contexts[greater_context<kPlain>(at, unary_length, j, negative)])) break;
    ++size;
  }
  k = static_cast<int32_t>((size ^ (0u - negative)) + negative);
  return size != 0;
}

constexpr int64_t kCheckInterval = 4096;  // values between two looks at the end of the data

// The values of a block row. `decoder` and `state` move on; skipped rows become zeros.
template <bool kDependent, bool kPlain>
NNR_INLINE Status decode_block_row_as(ArithmeticDecoder& shared, const TensorLayout& layout, Context* contexts,
                                      const uint8_t* skipped_rows, int64_t block_row, const Target& target,
                                      int& state) {
  ArithmeticDecoder decoder = shared;
  Status status = Status::ok;
  Surroundings at{state, 0, 0, false};
  const int unary_length = layout.unary_length;
  const bool to_levels = target.output != Output::indices;
  for_each_segment(layout, block_row, [&](const Segment& segment) NNR_LAMBDA_INLINE {
    int32_t* values = target.numbers + segment.begin;
    if (skipped_rows && skipped_rows[segment.row]) {
      std::memset(values, 0, static_cast<size_t>(segment.n) * sizeof *values);
      at.state = layout.state_after_skip(at.state);
      return true;
    }
    for (int64_t i = 0; i < segment.n;) {
      const int64_t run = i;
      const int64_t run_end = std::min(segment.n, i + kCheckInterval);
      for (; i < run_end; ++i) {
        if (!kPlain) {
          at.base = layout.base ? layout.base[segment.begin + i] : 0;
          at.history = layout.use_history && layout.history[segment.begin + i];
        }
        int32_t k;
        if (NNR_UNLIKELY(!decode_value<kPlain>(decoder, layout, contexts, at, unary_length, k))) {
          status = Status::value_out_of_range;
          return false;
        }
        values[i] = kDependent && to_levels ? level_of<kDependent>(k, at.state) : k;
        at.neighbour = sign_class(k);
        if (kDependent) at.state = kNextState[at.state][k & 1];
      }
      target.finish(values + run, run_end - run);
      if (NNR_UNLIKELY(decoder.is_truncated())) {
        status = Status::truncated;
        return false;
      }
    }
    return true;
  });
  shared = decoder;
  state = at.state;
  return status;
}

NNR_INLINE Status decode_block_row_any(ArithmeticDecoder& decoder, const TensorLayout& layout, Context* contexts,
                                       const uint8_t* skipped_rows, int64_t block_row, const Target& target,
                                       int& state) {
#define NNR_DECODE(dependent, plain) \
  decode_block_row_as<dependent, plain>(decoder, layout, contexts, skipped_rows, block_row, target, state)
  if (layout.is_plain()) return layout.dependent ? NNR_DECODE(true, true) : NNR_DECODE(false, true);
  return layout.dependent ? NNR_DECODE(true, false) : NNR_DECODE(false, false);
#undef NNR_DECODE
}

NNR_TARGET_AVX2 inline Status decode_block_row_avx2(ArithmeticDecoder& decoder, const TensorLayout& layout,
                                                    Context* contexts, const uint8_t* skipped_rows, int64_t block_row,
                                                    const Target& target, int& state) {
  return decode_block_row_any(decoder, layout, contexts, skipped_rows, block_row, target, state);
}

inline Status decode_block_row(ArithmeticDecoder& decoder, const TensorLayout& layout, Context* contexts,
                               const uint8_t* skipped_rows, int64_t block_row, const Target& target, int& state,
                               bool portable) {
  if (!portable && has_avx2()) {
    return decode_block_row_avx2(decoder, layout, contexts, skipped_rows, block_row, target, state);
  }
  return decode_block_row_any(decoder, layout, contexts, skipped_rows, block_row, target, state);
}

}  // namespace nnr
