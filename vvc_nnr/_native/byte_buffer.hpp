// A growing byte array that reports a lack of memory instead of throwing.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace nnr {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;
  ~ByteBuffer() { std::free(data_); }

  // Room for n_used + n_more bytes, the first n_used of which stay; false if there is no memory.
  bool reserve(int64_t n_used, int64_t n_more) {
    if (capacity_ - n_used >= n_more) return true;
    const int64_t wanted = n_used + n_more + (n_used >> 1) + 4096;
    void* grown = std::realloc(data_, static_cast<size_t>(wanted));
    if (!grown) return false;
    data_ = static_cast<uint8_t*>(grown);
    capacity_ = wanted;
    return true;
  }

  void release() {
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
  }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace nnr
