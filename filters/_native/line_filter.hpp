// A residual filter in integers, all layers at once: each step takes one row of the picture in and hands one row on from
// layer to layer, so that what a layer needs is still in the cache. 8-bit features times 8-bit weights, summed exactly in
// 32 bits; the first layer takes the samples in 16 bits. What follows a sum is one float operation after the other, never
// fused: every processor computes the same bits.
//
// ```
//  row y of planes ─ head ─┬─ conv ─ conv ─ + ─ ... ─ body ─ + ─ tail ─ + ─ row y - depth
//                          ├────────────────┘                │          │
//                          └─────────────────────────────────┘     planes
// ```
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "convolution_rows.hpp"

namespace filters {

constexpr float kLevelsPerUnit = 16368.0f;  // 16 for a code value at 10 bit
constexpr float kMaxLevel = 8200.0f;

// The numbers of a layer that do not depend on the QP.
struct LayerWeights {
  int64_t n_groups;              // of input channels: four of 8 bits, two of 16 bits
  int64_t n_out;
  const int32_t* weights;        // (tiles of kTile outputs, groups, 3, 3, kTile), a group in each int32
  std::vector<int64_t> wide_weights;  // the same, a group of four 8-bit weights in 16 bits each; the head has none
  const uint8_t* input_zero;     // (4 n_groups): what a feature of 0 is in the input; the head has none
};

// Groups of four 8-bit weights as groups of four 16-bit ones.
inline std::vector<int64_t> widened(const int32_t* weights, int64_t n) {
  std::vector<int64_t> wide(static_cast<size_t>(n));
  for (size_t i = 0; i < wide.size(); ++i) {
    int8_t narrow[4];
    std::memcpy(narrow, weights + i, sizeof narrow);
    const int16_t group[4] = {narrow[0], narrow[1], narrow[2], narrow[3]};
    std::memcpy(&wide[i], group, sizeof group);
  }
  return wide;
}

struct Network {
  int64_t n_channels, n_blocks;
  bool has_qp_plane;
  std::vector<LayerWeights> layers;  // head, two of each block, body, tail
};

// Rows of one layer's input in a ring of four, and a row of zeros for above and below the picture.
class RowRing {
 public:
  void reset(uint8_t* data, int64_t row_bytes) { data_ = data, row_bytes_ = row_bytes; }
  static int64_t bytes(int64_t row_bytes) { return (kRows + 1) * row_bytes; }
  uint8_t* row(int64_t y) const { return data_ + (y & (kRows - 1)) * row_bytes_; }
  uint8_t* zeros() const { return data_ + kRows * row_bytes_; }
  Rows around(int64_t y, int64_t height) const {
    return {y > 0 ? row(y - 1) : zeros(), row(y), y + 1 < height ? row(y + 1) : zeros()};
  }

 private:
  static constexpr int64_t kRows = 4;
  uint8_t* data_ = nullptr;
  int64_t row_bytes_ = 0;
};

class LineFilter {
 public:
  // `numbers` has one entry for each layer. Both outlive this.
  LineFilter(const Network& network, const std::vector<LayerNumbers>& numbers, float qp_level, int64_t height,
             int64_t width, Instructions instructions)
      : network_(network), numbers_(numbers), qp_level_(qp_level), height_(height), width_(width),
        convolve_(row_functions(instructions)) {}

  // planes and out: (6, height, width). False without memory.
  bool run(const float* planes, float* out) {
    if (!allocate()) return false;
    const auto n_layers = static_cast<int64_t>(network_.layers.size());
    for (int64_t step = 0; step < height_ + n_layers; ++step) {
      if (step < height_) take_in(planes, step);
      for (int64_t layer = 0; layer < n_layers; ++layer) {
        const int64_t y = step - 1 - layer;
        if (y >= 0 && y < height_) run_layer(layer, y, planes, out);
      }
    }
    return true;
  }

 private:
  int64_t n_padded() const { return (width_ + kLanes - 1) / kLanes * kLanes; }
  int64_t group_bytes() const { return (n_padded() + 2 * kLanes) * 4; }
  int64_t n_kept() const { return 2 * network_.n_blocks + 3; }  // rows from the head to the body
  float* kept(float* rows, int64_t y) const { return rows + y % n_kept() * network_.n_channels * n_padded(); }

  bool allocate() {
    int64_t n_bytes = 64;
    for (const auto& layer : network_.layers) n_bytes += RowRing::bytes(layer.n_groups * group_bytes());
    const int64_t n_floats = n_kept() * network_.n_channels * n_padded();
    memory_.reset(new (std::nothrow) uint8_t[static_cast<size_t>(n_bytes + 2 * n_floats * 4)]);
    if (!memory_) return false;
    auto* data = memory_.get() + (64 - reinterpret_cast<uintptr_t>(memory_.get()) % 64);
    features_ = reinterpret_cast<float*>(data);
    stream_ = features_ + n_floats;
    data += 2 * n_floats * 4;
    rings_.resize(network_.layers.size());
    for (size_t i = 0; i < rings_.size(); ++i) {
      const auto& layer = network_.layers[i];
      const int64_t row_bytes = layer.n_groups * group_bytes();
      rings_[i].reset(data, row_bytes);
      for (int row = 0; row < 5; ++row) fill_zero(layer, data + row * row_bytes, -kLanes, n_padded() + kLanes);
      data += RowRing::bytes(row_bytes);
    }
    return true;
  }

  // Pixels from `begin` to `end` of all groups of a row become what stands for 0.
  void fill_zero(const LayerWeights& layer, uint8_t* row, int64_t begin, int64_t end) const {
    for (int64_t group = 0; group < layer.n_groups; ++group) {
      uint8_t* pixels = row + group * group_bytes() + (begin + kLanes) * 4;
      for (int64_t x = 0; x < end - begin; ++x) {
        for (int64_t i = 0; i < 4; ++i) pixels[4 * x + i] = layer.input_zero ? layer.input_zero[4 * group + i] : 0;
      }
    }
  }

  // Samples as 16-bit integers, pairs of planes side by side.
  void take_in(const float* planes, int64_t y) {
    uint8_t* row = rings_[0].row(y);
    for (int64_t plane = 0; plane < 6; ++plane) {
      const float* from = planes + (plane * height_ + y) * width_;
      auto* to = reinterpret_cast<int16_t*>(row + plane / 2 * group_bytes() + 4 * kLanes) + plane % 2;
      for (int64_t x = 0; x < width_; ++x) to[2 * x] = to_level(from[x]);
    }
    if (!network_.has_qp_plane) return;
    auto* to = reinterpret_cast<int16_t*>(row + 3 * group_bytes() + 4 * kLanes);
    for (int64_t x = 0; x < width_; ++x) to[2 * x] = static_cast<int16_t>(qp_level_);
  }

  static int16_t to_level(float sample) {
    float x = (sample - 0.5f) * kLevelsPerUnit;
    x = x > -kMaxLevel ? x : -kMaxLevel;
    x = x < kMaxLevel ? x : kMaxLevel;
    const float shift = 12582912.0f;  // 1.5 * 2**23: floats there are whole, so adding it rounds
    return static_cast<int16_t>((x + shift) - shift);
  }

  void run_layer(int64_t index, int64_t y, const float* planes, float* out) {
    const auto last = static_cast<int64_t>(network_.layers.size()) - 1;
    const auto at = static_cast<size_t>(index);
    const auto& layer = network_.layers[at];
    RowTask task{rings_[at].around(y, height_), layer.weights, layer.wide_weights.data(), layer.n_groups, layer.n_out,
                 group_bytes(), n_padded(), width_, numbers_[at], nullptr, nullptr, nullptr, 0};
    if (index == last) {
      task.addend = planes + y * width_;
      task.sums = out + y * width_;
      task.plane_stride = height_ * width_;
      return convolve_.tail(task);
    }
    task.levels = rings_[at + 1].row(y);
    task.plane_stride = n_padded();
    if (index == 0) {
      task.sums = kept(features_, y);
      convolve_.head(task);
    } else if (index == last - 1) {
      task.addend = kept(features_, y);
      convolve_.body(task);
    } else if (index % 2 == 1) {
      convolve_.hidden(task);
    } else {
      task.addend = kept(index == 2 ? features_ : stream_, y);
      task.sums = kept(stream_, y);
      convolve_.stream(task);
    }
    fill_zero(network_.layers[at + 1], task.levels, width_, n_padded());
  }

  const Network& network_;
  const std::vector<LayerNumbers>& numbers_;
  float qp_level_;
  int64_t height_, width_;
  RowFunctions convolve_;
  // Features of the head, and the sums of the blocks so far, from when they are made until the body has used them.
  std::unique_ptr<uint8_t[]> memory_;
  std::vector<RowRing> rings_;
  float *features_ = nullptr, *stream_ = nullptr;
};

}  // namespace filters
