// What bins will take by the entropy of how often they come: how many greater flags pay, and how long integers get.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "platform.hpp"

namespace nnr {

// The binary logarithm of a number above zero, by operations that every processor rounds alike.
inline double log2_alike(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1023} << 52;
  double mantissa;
  std::memcpy(&mantissa, &bits, sizeof mantissa);
  if (mantissa > 1.4142135623730951) mantissa /= 2, ++exponent;
  // ln m = 2 artanh((m - 1) / (m + 1)), an argument below 0.172.
  const double x = (mantissa - 1) / (mantissa + 1), square = x * x;
  double sum = 0;
  for (int k = 21; k > 0; k -= 2) sum = sum * square + 1.0 / k;
  return exponent + 2 * x * sum * 1.4426950408889634;
}

constexpr int kFlagLengths[] = {1, 2, 3, 4, 5, 7, 10, 11, 14, 19};  // numbers of flags that are tried
constexpr int kMostFlags = 19, kMaxSuffix = 33;                     // no suffix is longer
constexpr int64_t kTellingSizes = 1 << 14;
constexpr double kLearningBits = 2.0;  // of a context, times the binary logarithm of its bins plus one
constexpr double kFieldBits = 8, kSetFlagBits = 0.15;

// What the bins of a context take, by how many are ones.
inline double context_bits(double bins, double ones) {
  const double share = std::clamp(ones / std::max(bins, 1.0), 1e-9, 1 - 1e-9);
  const double entropy = -share * log2_alike(share) - (1 - share) * log2_alike(1 - share);
  return bins * entropy + kLearningBits * log2_alike(1 + bins);
}

// How many magnitudes are below a number.
class Magnitudes {
 public:
  // One in `stride` of n indices. Throws std::bad_alloc.
  Magnitudes(const int32_t* indices, int64_t n, int64_t stride) {
    for (int64_t i = 0; i < n; i += stride) largest_ = std::max(largest_, size_of(indices[i]));
    if (largest_ < kTellingSizes) {
      below_.assign(static_cast<size_t>(largest_) + 2, 0);
      for (int64_t i = 0; i < n; i += stride) ++below_[static_cast<size_t>(size_of(indices[i])) + 1];
      for (size_t i = 1; i < below_.size(); ++i) below_[i] += below_[i - 1];
    } else {
      for (int64_t i = 0; i < n; i += stride) sorted_.push_back(size_of(indices[i]));
      std::sort(sorted_.begin(), sorted_.end());
    }
    n_ = (n + stride - 1) / stride;
  }

  int64_t largest() const { return largest_; }
  int64_t from(int64_t size) const { return n_ - below(size); }
  int64_t below(int64_t size) const {
    if (size > largest_) return n_;
    if (sorted_.empty()) return below_[static_cast<size_t>(size)];
    return std::lower_bound(sorted_.begin(), sorted_.end(), size) - sorted_.begin();
  }

 private:
  static int64_t size_of(int32_t index) { return index < 0 ? -int64_t{index} : index; }

  int64_t n_ = 0, largest_ = 0;
  std::vector<int64_t> below_, sorted_;  // by magnitude, or the magnitudes themselves where they are large
};

// Prefixes and suffixes of the magnitudes above a number of flags. Suffixes of k bits are those of 2^k to 2^(k + 1) - 1
// beyond the flags.
inline double escape_bits(const Magnitudes& sizes, int length, double stride) {
  double found = 0;
  for (int k = 0; k < kMaxSuffix; ++k) {
    const int64_t first = length + (int64_t{1} << k), next = length + (int64_t{2} << k);
    const int64_t last = length + (int64_t{1} << kMaxSuffix);
    const double reached = static_cast<double>(sizes.below(last) - sizes.below(first)) * stride;
    const double beyond = static_cast<double>(sizes.below(last) - sizes.below(next)) * stride;
    found += context_bits(reached, beyond) + k * (reached - beyond);
  }
  return found;
}

// The number of greater flags that codes n indices in about the fewest bits; that of the default where it is as good.
inline int best_unary_length(const int32_t* indices, int64_t n, int default_length, int64_t n_tiny) {
  const int64_t stride = (n + kTellingSizes - 1) / kTellingSizes;
  const Magnitudes sizes(indices, n, std::max<int64_t>(stride, 1));
  if (sizes.largest() <= 1) return default_length;
  if (n <= n_tiny) return 1;
  const auto scale = static_cast<double>(stride);
  double flags = 0, least = 0;
  int best = 0, n_counted = 0;
  for (const int length : kFlagLengths) {
    if (length > std::max<int64_t>(sizes.largest(), default_length)) break;
    for (; n_counted < length; ++n_counted) {  // two contexts, of the signs, share a flag
      const double reached = static_cast<double>(sizes.from(n_counted + 1)) * scale;
      const double beyond = static_cast<double>(sizes.from(n_counted + 2)) * scale;
      flags += 2 * context_bits(reached / 2, beyond / 2);
    }
    const double header = kSetFlagBits * 2 * length + (length == default_length ? 0 : kFieldBits);
    const double bits = flags + escape_bits(sizes, length, scale) + header;
    if (best == 0 || bits < least) best = length, least = bits;
  }
  return best;
}

// Bits of integers by their entropy behind the signs of their neighbours; magnitudes up to kOwnBins have bins of their
// own, larger ones bits.
inline double integer_bits(const int32_t* integers, int64_t n) {
  constexpr int kOwnBins = 10, kKinds = kOwnBins + 32;
  int64_t counts[2 * kKinds + 1][3] = {};
  int64_t n_suffix_bits = 0;
  int before = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t size = integers[i] < 0 ? -int64_t{integers[i]} : integers[i];
    int n_bits = 0;
    if (size > kOwnBins) {
      n_bits = 64 - leading_zeros(static_cast<uint64_t>(size - kOwnBins));
      n_suffix_bits += n_bits - 1;
    }
    const int sign = (integers[i] > 0) - (integers[i] < 0);
    ++counts[kKinds + sign * (static_cast<int>(std::min<int64_t>(size, kOwnBins)) + n_bits)][before + 1];
    before = sign;
  }
  double bits = 0;
  for (int column = 0; column < 3; ++column) {
    int64_t total = 0;
    for (const auto& row : counts) {
      total += row[column];
      if (row[column]) bits -= static_cast<double>(row[column]) * log2_alike(static_cast<double>(row[column]));
    }
    if (total) bits += static_cast<double>(total) * log2_alike(static_cast<double>(total));
  }
  return bits + static_cast<double>(n_suffix_bits);
}

}  // namespace nnr
