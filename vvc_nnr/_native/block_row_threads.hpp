// Work on the block rows of one tensor by several threads, when encoding. A block row depends on those before it by its
// DQ state alone, which the indices tell.
#pragma once

#include <atomic>
#include <system_error>
#include <thread>

#include "tensor_layout.hpp"

namespace nnr {

constexpr int kMaxThreads = 64;

// Calls work(thread) in n_threads threads, this one included; in fewer if the system has none left.
template <class Work>
void run_in_threads(int n_threads, Work&& work) {
  std::thread threads[kMaxThreads];
  int n_started = 0;
  try {
    for (; n_started + 1 < n_threads; ++n_started) {
      threads[n_started] = std::thread([&work, n_started] { work(n_started + 1); });
    }
  } catch (const std::system_error&) {
  }
  work(0);
  for (int i = 0; i < n_started; ++i) threads[i].join();
}

// Calls visit(thread, block_row) for every block row, in any order, until one of them returns false.
template <class Visit>
bool visit_block_rows(const TensorLayout& layout, int n_threads, Visit&& visit) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  run_in_threads(n_threads, [&](int thread) {
    for (int64_t row; !failed && (row = next.fetch_add(1)) < layout.n_block_rows();) {
      if (!visit(thread, row)) failed = true;
    }
  });
  return !failed;
}

// The DQ state at the start of each block row; n_block_rows entries.
inline void find_states(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows, int* states) {
  int state = 0;
  for (int64_t block_row = 0; block_row < layout.n_block_rows(); ++block_row) {
    states[block_row] = state;
    for_each_segment(layout, block_row, [&](const Segment& segment) {
      if (!layout.dependent) return false;
      const bool skipped = skipped_rows && skipped_rows[segment.row];
      state = skipped ? layout.state_after_skip(state) : state_after(state, indices + segment.begin, segment.n);
      return true;
    });
  }
}

}  // namespace nnr
