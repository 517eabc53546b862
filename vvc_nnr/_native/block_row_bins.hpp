// The bins of a block row in coding order, each with its context, a piece at a time: what coders and recorders take.
//
// Which bins a value has depends on it alone, but for the contexts of the first two. Those of small values are therefore
// made once, and copied whole: a branch for each bin would be guessed wrong at nearly every value.
#pragma once

#include <memory>
#include <new>

#include "value_coding.hpp"

namespace nnr {

// 2 * context + bin; from kBypass on, kBypass + 256 * (n - 1) + the value of n bypass bins, n up to 8.
using Bin = uint16_t;

constexpr Bin kBypass = 0x8000;
constexpr int kBinPiece = 4096;
constexpr int kCopiedBins = 16;   // so many are copied at once
constexpr int kMaxCopied = 14;    // the largest magnitude whose bins are copied

static_assert(2 * kMaxContexts < kBypass, "a bin with its context");

// Takes the bins of a value into an array.
struct BinWriter {
  Bin* next;

  NNR_INLINE void bin(int context, bool bin) { *next++ = static_cast<Bin>(2 * context + bin); }
  void bypass(uint64_t bins, int n_bins) {
    for (int n; n_bins > 0; n_bins -= n) {
      n = std::min(n_bins, 8);
      *next++ = static_cast<Bin>(kBypass + 256 * (n - 1) + (bins >> (n_bins - n) & ((1u << n) - 1)));
    }
  }
  NNR_NOINLINE void remainder(const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    code_remainder(*this, layout, rest, limit);
  }
};

// The bins of a value in state 0 with the neighbour 0.
struct ValueBins {
  Bin bins[kCopiedBins];
  int64_t n;
};

class TensorBins {
 public:
  TensorBins(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows)
      : layout(layout), indices(indices), skipped_rows(skipped_rows) {
    max_copied = layout.is_plain() ? std::min(kMaxCopied, layout.unary_length) : -1;
    for (int k = -max_copied; k <= max_copied; ++k) {
      ValueBins& made = values_[k + kMaxCopied];
      BinWriter writer{made.bins};
      code_value<true>(writer, layout, Surroundings{0, 0, 0, false}, k);
      made.n = writer.next - made.bins;
    }
  }

  const ValueBins& of(int32_t k) const { return values_[k + kMaxCopied]; }

  const TensorLayout& layout;
  const int32_t* const indices;
  const uint8_t* const skipped_rows;
  int max_copied;  // -1: none

 private:
  ValueBins values_[2 * kMaxCopied + 1] = {};
};

static_assert(kSignificance == 0 && kMaxCopied + 2 <= kCopiedBins, "copied bins");

class BlockRowBins {
 public:
  // From the first value on. The tensor must stay.
  void start(const TensorBins& tensor, int64_t block_row, int state) {
    const int64_t side = tensor.layout.side();
    tensor_ = &tensor;
    top_ = row_ = block_row * side, bottom_ = std::min(top_ + side, tensor.layout.n_rows);
    left_ = column_ = 0;
    at_ = {state, 0, 0, false};
  }

  // The next bins, and how many they are; none at the end.
  NNR_INLINE int fill() {
    return tensor_->layout.is_plain() ? fill_as<true>() : fill_as<false>();
  }

  const Bin* bins() const { return bins_; }
  int state() const { return at_.state; }

 private:
  template <bool kPlain>
  NNR_INLINE int fill_as() {
    const TensorLayout& layout = tensor_->layout;
    const Bin* full = bins_ + kBinPiece - (layout.unary_length + 2 + kRemainderContexts + 4);
    BinWriter writer{bins_};
    for (; left_ < layout.n_columns; next_segment()) {
      if (tensor_->skipped_rows && tensor_->skipped_rows[row_]) {
        at_.state = layout.state_after_skip(at_.state);
        continue;
      }
      const int64_t n = std::min(layout.side(), layout.n_columns - left_);
      if (!fill_segment<kPlain>(row_ * layout.n_columns + left_, n, full, writer)) break;
      column_ = 0;
    }
    return static_cast<int>(writer.next - bins_);
  }

  void next_segment() {
    if (++row_ == bottom_) row_ = top_, left_ += tensor_->layout.side();
  }

  // False if the piece is full.
  template <bool kPlain>
  NNR_INLINE bool fill_segment(int64_t begin, int64_t n, const Bin* full, BinWriter& into) {
    const TensorBins& tensor = *tensor_;
    const TensorLayout& layout = tensor.layout;
    const auto* next_state = layout.dependent ? kNextState : kUniformNextState;
    const int32_t* indices = tensor.indices + begin;
    const auto reach = static_cast<uint32_t>(tensor.max_copied);
    BinWriter writer = into;
    Surroundings at = at_;
    int64_t column = column_;
    for (; column < n && writer.next <= full; ++column) {
      const int32_t k = indices[column];
      if (kPlain && NNR_LIKELY(static_cast<uint32_t>(k) + reach <= 2 * reach)) {
        const ValueBins& value = tensor.of(k);
        std::memcpy(writer.next, value.bins, sizeof value.bins);
        writer.next[0] = static_cast<Bin>(writer.next[0] + 2 * (3 * at.state + at.neighbour));
        writer.next[1] = static_cast<Bin>(writer.next[1] + 2 * at.neighbour);
        writer.next += value.n;
      } else {
        if (!kPlain) {
          at.base = layout.base ? layout.base[begin + column] : 0;
          at.history = layout.use_history && layout.history[begin + column];
        }
        code_value<kPlain>(writer, layout, at, k);
      }
      at.neighbour = sign_class(k);
      at.state = next_state[at.state][k & 1];
    }
    at_ = at, column_ = column, into = writer;
    return column == n;
  }

  const TensorBins* tensor_ = nullptr;
  int64_t top_ = 0, bottom_ = 0;
  int64_t left_ = 0, row_ = 0, column_ = 0;  // the next value: block, row, and column within the segment
  Surroundings at_{};
  Bin bins_[kBinPiece + kCopiedBins];
};

}  // namespace nnr
