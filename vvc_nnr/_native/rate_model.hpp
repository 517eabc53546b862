// What an index will cost, for the quantisers: bits by state, neighbour and magnitude.
//
// The model follows the tensor: bins of the path decided so far are counted, older ones fading out, and the tables are
// remade block by block. All paths of a trellis share the tables; only the neighbour's class is each path's own.
#pragma once

#include <cmath>

#include "tensor_layout.hpp"

namespace nnr {

constexpr int kMagnitudes = 512;
constexpr float kFading = 0.75f;

struct BinCount {
  float n[2];

  float bits(int bin) const { return -std::log2((n[bin] + 0.4f) / (n[0] + n[1] + 0.8f)); }
  void fade() { n[0] *= kFading, n[1] *= kFading; }
};

struct RateModel {
  int unary_length;
  float bit_weight;  // squared steps per bit

  BinCount significant[3][kDqStates] = {};  // by neighbour and state
  BinCount sign[3] = {};
  BinCount greater[2][kMaxUnaryLength] = {};

  // Tables, times bit_weight.
  float zero[3][kDqStates];
  float nonzero[2][3][kDqStates];  // significance and sign; by sign
  float size[2][kMagnitudes];      // by sign and magnitude

  void count(int state, int neighbour, int32_t k, float weight) {
    significant[neighbour][state].n[k != 0] += weight;
    if (k == 0) return;
    const bool negative = k < 0;
    const uint32_t reached = magnitude(k);
    sign[neighbour].n[negative] += weight;
    for (int j = 0; j < unary_length; ++j) {
      const bool more = reached > static_cast<uint32_t>(j) + 1;
      greater[negative][j].n[more] += weight;
      if (!more) break;
    }
  }

  void fade() {
    for (auto& row : significant) {
      for (BinCount& bin : row) bin.fade();
    }
    for (BinCount& bin : sign) bin.fade();
    for (auto& row : greater) {
      for (int j = 0; j < unary_length; ++j) row[j].fade();
    }
  }

  void make_tables() {
    for (int neighbour = 0; neighbour < 3; ++neighbour) {
      for (int state = 0; state < kDqStates; ++state) {
        zero[neighbour][state] = bit_weight * significant[neighbour][state].bits(0);
        for (int negative = 0; negative < 2; ++negative) {
          const float bits = significant[neighbour][state].bits(1) + sign[neighbour].bits(negative);
          nonzero[negative][neighbour][state] = bit_weight * bits;
        }
      }
    }
    for (int negative = 0; negative < 2; ++negative) make_sizes(negative);
  }

  // Flat from kMagnitudes - 1 on, where one more costs next to nothing and zero is out of the question.
  NNR_INLINE float size_cost(bool negative, int32_t reached) const {
    return (&size[0][0])[kMagnitudes * negative + std::min(reached, kMagnitudes - 1)];
  }

 private:
  void make_sizes(int negative) {
    size[negative][0] = 0;
    float ones = 0;
    int reached = 1;
    for (; reached <= unary_length && reached < kMagnitudes; ++reached) {
      const BinCount& bin = greater[negative][reached - 1];
      size[negative][reached] = bit_weight * (ones + bin.bits(0));
      ones += bin.bits(1);
    }
    for (int p = 0; reached < kMagnitudes; ++p) {
      const float bits = ones + 2 * static_cast<float>(p) + 1;
      for (int i = 0; i < 1 << p && reached < kMagnitudes; ++i) size[negative][reached++] = bit_weight * bits;
    }
  }
};

}  // namespace nnr
