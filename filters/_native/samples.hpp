// Windows of a 4:2:0 picture as the networks see them, and back: six float planes of half size, the four phases of luma,
// Cb and Cr. One pass over the samples each way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../../vvc_nnr/_native/platform.hpp"

namespace filters {

// Rows of samples; an index past the end means the last row or column, as odd sizes are extended.
template <class T>
struct Plane {
  T* data;  // null: no such plane
  int64_t height, width;

  T* row(int64_t y) const { return data + std::min(y, height - 1) * width; }
};

template <class T>
struct Picture {
  Plane<T> luma, cb, cr;
};

// A rectangle of half-size samples.
struct Window {
  int64_t top, left, height, width;
};

template <class T>
NNR_INLINE void read_luma_row(const T* row, int64_t width, const Window& window, float scale, float* even, float* odd) {
  const int64_t n_whole = std::min(window.width, width / 2 - window.left);
  const T* samples = row + 2 * window.left;
  for (int64_t x = 0; x < n_whole; ++x) {
    even[x] = static_cast<float>(samples[2 * x]) / scale;
    odd[x] = static_cast<float>(samples[2 * x + 1]) / scale;
  }
  for (int64_t x = n_whole; x < window.width; ++x) even[x] = odd[x] = static_cast<float>(row[width - 1]) / scale;
}

template <class T>
NNR_INLINE void read_chroma(const Plane<const T>& plane, const Window& window, float scale, float flat, float* out) {
  for (int64_t y = 0; y < window.height; ++y, out += window.width) {
    if (!plane.data) {
      std::fill_n(out, window.width, flat / scale);
      continue;
    }
    const T* samples = plane.row(window.top + y) + window.left;
    for (int64_t x = 0; x < window.width; ++x) out[x] = static_cast<float>(samples[x]) / scale;
  }
}

// Samples over `scale` into out (6, window.height, window.width); absent chroma is `flat`.
template <class T>
NNR_INLINE void read_window(const Picture<const T>& picture, const Window& window, float scale, float flat, float* out) {
  const int64_t n = window.height * window.width;
  for (int64_t y = 0; y < window.height; ++y) {
    for (int64_t phase = 0; phase < 2; ++phase) {
      float* even = out + 2 * phase * n + y * window.width;
      const T* row = picture.luma.row(2 * (window.top + y) + phase);
      read_luma_row(row, picture.luma.width, window, scale, even, even + n);
    }
  }
  read_chroma(picture.cb, window, scale, flat, out + 4 * n);
  read_chroma(picture.cr, window, scale, flat, out + 5 * n);
}

// Round half to even, clipped to 0..peak; `bad` gets a bit that stays if the value is NaN or infinite.
NNR_INLINE int32_t to_sample(float value, float scale, float peak, uint32_t& bad) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bad |= (bits & 0x7f800000u) + 0x00800000u;  // the exponent of all ones carries into the sign
  float x = value * scale;
  x = x > 0.0f ? x : 0.0f;
  x = x < peak ? x : peak;
  const float shift = 8388608.0f;  // 2**23: beyond it floats are whole, so adding it rounds
  return static_cast<int32_t>((x + shift) - shift);
}

template <class T>
NNR_INLINE uint32_t write_luma_row(const float* even, const float* odd, int64_t n, T* row, int64_t width, int64_t left,
                                   float scale, float peak) {
  uint32_t bad = 0;
  const int64_t n_whole = std::min(n, width / 2 - left);
  T* samples = row + 2 * left;
  for (int64_t x = 0; x < n_whole; ++x) {
    samples[2 * x] = static_cast<T>(to_sample(even[x], scale, peak, bad));
    samples[2 * x + 1] = static_cast<T>(to_sample(odd[x], scale, peak, bad));
  }
  for (int64_t x = n_whole; x < n; ++x) {
    row[width - 1] = static_cast<T>(to_sample(even[x], scale, peak, bad));
    to_sample(odd[x], scale, peak, bad);
  }
  return bad;
}

template <class T>
NNR_INLINE uint32_t write_chroma_row(const float* values, int64_t n, T* samples, float scale, float peak) {
  uint32_t bad = 0;
  for (int64_t x = 0; x < n; ++x) {
    const int32_t sample = to_sample(values[x], scale, peak, bad);
    if (samples) samples[x] = static_cast<T>(sample);
  }
  return bad;
}

// What a network gave, with the place in it that belongs to the window.
struct Values {
  const float* data;  // (6, height, width)
  int64_t height, width, top, left;

  const float* row(int64_t plane, int64_t y) const { return data + (plane * height + top + y) * width + left; }
};

// Samples of a window of the picture from real values times `scale`. False if a value is NaN or infinite.
template <class T>
NNR_INLINE bool write_window(const Values& values, const Window& window, float scale, float peak,
                             const Picture<T>& picture) {
  uint32_t bad = 0;
  const auto& luma = picture.luma;
  for (int64_t y = 0; y < window.height; ++y) {
    for (int64_t phase = 0; phase < 2; ++phase) {
      const int64_t at = 2 * (window.top + y) + phase;
      // The row after an odd picture's last is checked and dropped: it comes after the last one's even rows.
      const float *even = values.row(2 * phase, y), *odd = values.row(2 * phase + 1, y);
      if (at < luma.height) {
        bad |= write_luma_row(even, odd, window.width, luma.row(at), luma.width, window.left, scale, peak);
      } else {
        bad |= write_chroma_row<T>(even, window.width, nullptr, scale, peak);
        bad |= write_chroma_row<T>(odd, window.width, nullptr, scale, peak);
      }
    }
    for (int64_t plane = 4; plane < 6; ++plane) {
      const auto& chroma = plane == 4 ? picture.cb : picture.cr;
      T* row = chroma.data ? chroma.row(window.top + y) + window.left : nullptr;
      bad |= write_chroma_row(values.row(plane, y), window.width, row, scale, peak);
    }
  }
  return (bad & 0x80000000u) == 0;
}

template <class T>
NNR_TARGET_AVX2 void read_window_avx2(const Picture<const T>& picture, const Window& window, float scale, float flat,
                                      float* out) {
  read_window(picture, window, scale, flat, out);
}

template <class T>
NNR_TARGET_AVX2 bool write_window_avx2(const Values& values, const Window& window, float scale, float peak,
                                       const Picture<T>& picture) {
  return write_window(values, window, scale, peak, picture);
}

}  // namespace filters
