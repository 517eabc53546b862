// The bins of a block row in coding order, each with its context, a piece at a time: what coders and recorders take.
//
// Which bins a value has depends on it alone, but for the contexts of the first two. Those of small values are therefore
// made once, and copied whole: a branch for each bin would be guessed wrong at nearly every value.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "value_coding.hpp"

namespace nnr {

// Its context, and kBinValue if it is 1; from kBypass on, kBypass + 256 * (n - 1) + the value of n bypass bins, n up to 8.
using Bin = uint16_t;

constexpr Bin kBypass = 0x8000, kBinValue = 0x4000;
constexpr int kBinPiece = 1024;
constexpr int kCopiedBins = 16;   // so many are copied at once
constexpr int kSegmentsAhead = 4;
constexpr int kMaxCopied = 14;    // the largest magnitude whose bins are copied

static_assert(kMaxContexts < kBinValue, "a bin with its context");

NNR_INLINE int context_of(Bin bin) { return bin & (kBinValue - 1); }
NNR_INLINE bool value_of(Bin bin) { return bin >= kBinValue; }  // of a bin below kBypass
NNR_INLINE int bypass_length(Bin bin) { return (bin >> 8 & 7) + 1; }

// Takes the bins of a value into an array.
struct BinWriter {
  Bin* next;

  NNR_INLINE void bin(int context, bool bin) { *next++ = static_cast<Bin>(context + bin * kBinValue); }
  void bypass(uint64_t bins, int n_bins) {
    for (int n; n_bins > 0; n_bins -= n) {
      n = std::min(n_bins, 8);
      *next++ = static_cast<Bin>(kBypass + 256 * (n - 1) + (bins >> (n_bins - n) & ((1u << n) - 1)));
    }
  }
  NNR_INLINE void remainder(const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    next = behind_remainder(next, layout, rest, limit);
  }

 private:
  // By the place alone, so that a loop keeps it in a register.
  static NNR_NOINLINE Bin* behind_remainder(Bin* next, const TensorLayout& layout, uint64_t rest, uint64_t limit) {
    BinWriter writer{next};
    code_remainder(writer, layout, rest, limit);
    return writer.next;
  }
};

// The bins of a value in state 0 with the neighbour 0, the first four as one word.
struct ValueBins {
  uint64_t first;
  Bin others[kCopiedBins - 4];
  int32_t n;
  int32_t neighbour;  // that the value is
};

class TensorBins {
 public:
  TensorBins(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows)
      : layout(layout), indices(indices), skipped_rows(skipped_rows) {
    max_copied = layout.is_plain() ? std::min(kMaxCopied, layout.unary_length) : -1;
    for (int k = -max_copied; k <= max_copied; ++k) {
      ValueBins& made = values_[k + kMaxCopied];
      Bin bins[kCopiedBins] = {};
      BinWriter writer{bins};
      code_value<true>(writer, layout, Surroundings{0, 0, 0, false}, k);
      std::memcpy(&made.first, bins, sizeof made.first);
      std::memcpy(made.others, bins + 4, sizeof made.others);
      made.n = static_cast<int32_t>(writer.next - bins), made.neighbour = sign_class(k);
    }
    for (int i = 0; i < 3 * kDqStates; ++i) {
      const Bin first[4] = {static_cast<Bin>(i), static_cast<Bin>(i % 3), 0, 0};
      std::memcpy(&contexts_[i], first, sizeof first);
    }
  }

  const ValueBins& of(int32_t k) const { return values_[k + kMaxCopied]; }
  // What a state and a neighbour add to the first bins of a value, 3 * state + neighbour.
  uint64_t contexts(int surroundings) const { return contexts_[surroundings]; }

  const TensorLayout& layout;
  const int32_t* const indices;
  const uint8_t* const skipped_rows;
  int max_copied;  // -1: none

 private:
  ValueBins values_[2 * kMaxCopied + 1] = {};
  uint64_t contexts_[3 * kDqStates];
};

static_assert(kSignificance == 0 && kMaxCopied + 2 <= kCopiedBins, "copied bins");
static_assert(kBinPiece >= 2 * (kMaxUnaryLength + 2 + kRemainderContexts + 4), "a value always fits");

class BlockRowBins {
 public:
  // From the first value on. The tensor must stay.
  void start(const TensorBins& tensor, int64_t block_row, int state) {
    const int64_t side = tensor.layout.side();
    begin_ = end_ = bins_;
    tensor_ = &tensor;
    top_ = row_ = block_row * side, bottom_ = std::min(top_ + side, tensor.layout.n_rows);
    left_ = column_ = 0;
    at_ = {state, 0, 0, false};
  }

  // More bins behind those that are left; how many there are then, none at the end.
  NNR_INLINE int fill() {
    const auto n_left = n_bins();
    std::memmove(bins_, begin_, static_cast<size_t>(n_left) * sizeof *bins_);
    begin_ = bins_;
    end_ = tensor_->layout.is_plain() ? fill_as<true>(bins_ + n_left) : fill_as<false>(bins_ + n_left);
    return n_bins();
  }

  // Those at hand.
  const Bin* bins() const { return begin_; }
  int n_bins() const { return static_cast<int>(end_ - begin_); }
  void take(int n) { begin_ += n; }
  int state() const { return at_.state; }

 private:
  template <bool kPlain>
  NNR_INLINE const Bin* fill_as(Bin* from) {
    const TensorLayout& layout = tensor_->layout;
    const Bin* full = bins_ + kBinPiece - (layout.unary_length + 2 + kRemainderContexts + 4);
    BinWriter writer{from};
    for (; left_ < layout.n_columns; next_segment()) {
      if (tensor_->skipped_rows && tensor_->skipped_rows[row_]) {
        at_.state = layout.state_after_skip(at_.state);
        continue;
      }
      prefetch_segment();
      const int64_t n = std::min(layout.side(), layout.n_columns - left_);
      if (!fill_segment<kPlain>(row_ * layout.n_columns + left_, n, full, writer)) break;
      column_ = 0;
    }
    return writer.next;
  }

  void next_segment() {
    if (++row_ == bottom_) row_ = top_, left_ += tensor_->layout.side();
  }

  // The beginning of a segment that comes soon: segments are short, and far from each other.
  NNR_INLINE void prefetch_segment() const {
    const int64_t n_rows = bottom_ - top_, ahead = row_ + std::min<int64_t>(kSegmentsAhead, n_rows);
    const bool is_here = ahead < bottom_;
    const int64_t row = is_here ? ahead : ahead - n_rows, left = is_here ? left_ : left_ + tensor_->layout.side();
    const int64_t n = std::min(tensor_->layout.side(), tensor_->layout.n_columns - left);
    if (n <= 0) return;
    const int32_t* at = tensor_->indices + row * tensor_->layout.n_columns + left;
    prefetch(at), prefetch(at + n - 1);
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
        const uint64_t first = value.first + tensor.contexts(3 * at.state + at.neighbour);
        std::memcpy(writer.next, &first, sizeof first);
        std::memcpy(writer.next + 4, value.others, sizeof value.others);
        writer.next += value.n;
        at.neighbour = value.neighbour;
      } else {
        if (!kPlain) {
          at.base = layout.base ? layout.base[begin + column] : 0;
          at.history = layout.use_history && layout.history[begin + column];
        }
        code_value<kPlain>(writer, layout, at, k);
        at.neighbour = sign_class(k);
      }
      at.state = next_state[at.state][k & 1];
    }
    at_ = at, column_ = column, into = writer;
    return column == n;
  }

  const TensorBins* tensor_ = nullptr;
  int64_t top_ = 0, bottom_ = 0;
  int64_t left_ = 0, row_ = 0, column_ = 0;  // the next value: block, row, and column within the segment
  Surroundings at_{};
  const Bin *begin_ = nullptr, *end_ = nullptr;  // what is left
  Bin bins_[kBinPiece + kCopiedBins];
};

}  // namespace nnr
