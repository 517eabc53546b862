// The rate term of the thorough search: each path's own contexts, so that every bin is counted at what it will cost.
#pragma once

#include <memory>
#include <new>

#include "path_search.hpp"
#include "path_search_avx2.hpp"
#include "quantiser_input.hpp"

namespace nnr {

inline void search_by_paths(TrellisState& state, PieceCosts& costs, PathContexts& paths, const float* weights,
                            int64_t n, double inverse_step, uint8_t* branches, uint8_t* zeros) {
  measure_apart(weights, n, inverse_step, costs);
  advance_with_contexts(state, paths, costs, n, branches, zeros);
}

#if NNR_X86
NNR_TARGET_AVX2 inline void search_by_paths_avx2(TrellisState& state, PieceCosts& costs, PathContexts& paths,
                                                 const float* weights, int64_t n, double inverse_step,
                                                 uint8_t* branches, uint8_t* zeros) {
  measure_apart(weights, n, inverse_step, costs);
  advance_with_contexts_avx2(state, paths, costs, n, branches, zeros);
}
#endif

class PathRate {
 public:
  static constexpr bool kHasRate = true;

  // Requires a plain layout.
  PathRate(const QuantiserInput& input, bool portable) : input_(input) {
#if NNR_X86
    if (!portable && has_avx2()) search_ = search_by_paths_avx2;
#endif
    (void)portable;
    paths_.reset(new (std::nothrow) PathContexts{});
  }

  bool is_ready() const { return paths_ != nullptr; }
  void start() { paths_->bin_weight = input_.bit_weight / (1 << kCostBits); }
  void begin_block_row() { paths_->start(input_.layout, input_.sets); }
  void begin_segment(int64_t) {}

  // States move on as in TrellisState::skip, and paths with them.
  void skip() {
    uint8_t parent[kDqStates];
    for (int s = 0; s < kDqStates; ++s) parent[input_.layout.state_after_skip(s)] = static_cast<uint8_t>(s);
    paths_->permute(parent);
  }

  void search(TrellisState& state, const float* weights, int64_t n, uint8_t* branches, uint8_t* zeros) {
    search_(state, costs_, *paths_, weights, n, input_.inverse_step, branches, zeros);
    paths_->close_uniform_places();
  }

 private:
  const QuantiserInput& input_;
  decltype(&search_by_paths) search_ = search_by_paths;
  PieceCosts costs_;
  std::unique_ptr<PathContexts> paths_;
};

}  // namespace nnr
