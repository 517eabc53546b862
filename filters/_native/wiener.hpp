// An adaptive Wiener filter: to each sample of the network's output comes a weighted sum of differences to samples around
// it, in the output and in the decoded picture. The weights are whole numbers and belong to a set; a map says which set
// filters which block of 4x4 samples. All in 32-bit integers, so every processor computes the same samples: weights of up to
// 127 on 18 pairs, 6 clipped pairs and a single difference of 16-bit samples sum to at most
// 127 (24 x 131070 + 65535) < 2^31.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "samples.hpp"

namespace filters {

constexpr int64_t kBlock = 4;      // side of a block of one set
constexpr int64_t kWienerPad = 3;  // how far a term reaches
constexpr int64_t kRun = 64;       // samples that are filtered at a time

enum class TermKind : int32_t { kPair, kClippedPair, kDecodedPair, kDecoded };

struct Term {
  TermKind kind;
  int64_t dy, dx;
};

struct WienerSets {
  const std::vector<Term>& terms;
  const int16_t* coefficients;  // (sets, terms)
  const uint8_t* of_block;      // (block rows, block columns)
  int32_t clip, shift, peak;
};

// Samples in 32 bits with kWienerPad more on each side, which repeat the border.
class PaddedPlane {
 public:
  template <class T>
  explicit PaddedPlane(const Plane<const T>& plane)
      : stride_(plane.width + 2 * kWienerPad), samples_((plane.height + 2 * kWienerPad) * stride_) {
    for (int64_t y = -kWienerPad; y < plane.height + kWienerPad; ++y) {
      const T* from = plane.row(std::max<int64_t>(y, 0));
      int32_t* to = &samples_[(y + kWienerPad) * stride_];
      to = std::fill_n(to, kWienerPad, from[0]);
      to = std::copy_n(from, plane.width, to);
      std::fill_n(to, kWienerPad, from[plane.width - 1]);
    }
  }

  int64_t stride() const { return stride_; }
  const int32_t* at(int64_t y, int64_t x) const { return &samples_[(y + kWienerPad) * stride_ + x + kWienerPad]; }

 private:
  int64_t stride_;
  std::vector<int32_t> samples_;
};

NNR_INLINE int32_t clipped(int32_t value, int32_t limit) { return std::min(std::max(value, -limit), limit); }

// sum[x] += weight * term, for a run of samples; `reach` is where the term's first sample is, the other lies opposite.
NNR_INLINE void add_term(TermKind kind, const int32_t* f, const int32_t* d, int64_t reach, int64_t n, int32_t weight,
                         int32_t clip, int32_t* sum) {
  switch (kind) {
    case TermKind::kPair:
      for (int64_t x = 0; x < n; ++x) sum[x] += weight * (f[x + reach] + f[x - reach] - 2 * f[x]);
      break;
    case TermKind::kClippedPair:
      for (int64_t x = 0; x < n; ++x) {
        sum[x] += weight * (clipped(f[x + reach] - f[x], clip) + clipped(f[x - reach] - f[x], clip));
      }
      break;
    case TermKind::kDecodedPair:
      for (int64_t x = 0; x < n; ++x) sum[x] += weight * (d[x + reach] + d[x - reach] - 2 * f[x]);
      break;
    case TermKind::kDecoded:
      for (int64_t x = 0; x < n; ++x) sum[x] += weight * (d[x] - f[x]);
      break;
  }
}

template <class T>
NNR_INLINE void filter_run(const PaddedPlane& filtered, const PaddedPlane& decoded, const WienerSets& sets,
                           const int16_t* weights, int64_t y, int64_t x, int64_t n, T* out) {
  const int32_t *f = filtered.at(y, x), *d = decoded.at(y, x);
  int32_t sum[kRun] = {};
  for (const Term& term : sets.terms) {
    const int32_t weight = *weights++;
    if (weight) add_term(term.kind, f, d, term.dy * filtered.stride() + term.dx, n, weight, sets.clip, sum);
  }
  const int32_t half = 1 << (sets.shift - 1);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<T>(std::clamp(f[i] + ((sum[i] + half) >> sets.shift), 0, sets.peak));
  }
}

template <class T>
NNR_INLINE void wiener_filter(const PaddedPlane& filtered, const PaddedPlane& decoded, const WienerSets& sets,
                              const Plane<T>& out) {
  const int64_t n_columns = (out.width + kBlock - 1) / kBlock, n_terms = sets.terms.size();
  for (int64_t y = 0; y < out.height; ++y) {
    const uint8_t* row = sets.of_block + y / kBlock * n_columns;
    for (int64_t x = 0, end; x < out.width; x = end) {
      const uint8_t set = row[x / kBlock];
      const int64_t limit = std::min(x + kRun, out.width);
      for (end = x + kBlock; end < limit && row[end / kBlock] == set;) end += kBlock;
      end = std::min(end, limit);
      filter_run(filtered, decoded, sets, sets.coefficients + set * n_terms, y, x, end - x, out.row(y) + x);
    }
  }
}

template <class T>
NNR_TARGET_AVX2 void wiener_filter_avx2(const PaddedPlane& filtered, const PaddedPlane& decoded, const WienerSets& sets,
                                        const Plane<T>& out) {
  wiener_filter(filtered, decoded, sets, out);
}

// The activity of each block of 4x4 samples: |2f - left - right| + |2f - above - below|, summed over the block.
NNR_INLINE void block_activity(const PaddedPlane& plane, int64_t height, int64_t width, int32_t* out) {
  const int64_t n_columns = (width + kBlock - 1) / kBlock, stride = plane.stride();
  for (int64_t y = 0; y < height; ++y) {
    const int32_t* f = plane.at(y, 0);
    int32_t* sums = out + y / kBlock * n_columns;
    for (int64_t x = 0; x < width; ++x) {
      sums[x / kBlock] += std::abs(2 * f[x] - f[x - 1] - f[x + 1]) + std::abs(2 * f[x] - f[x - stride] - f[x + stride]);
    }
  }
}

}  // namespace filters
