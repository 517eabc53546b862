// Tensors of codewords of their own at once, by the lanes that otherwise take block rows: what a network of many tensors
// has without entry points. A tensor that a lane fails at is decoded again alone, so that it ends in one way everywhere.
#pragma once

#include <memory>
#include <new>
#include <vector>

#include "wide_lanes.hpp"

namespace nnr {

constexpr int64_t kMinLaneValues = 128;  // fewer are decoded before a lane has started
constexpr int kWorthWideLanes = 7;      // fewer take turns faster than as vectors

// A tensor whose prologue was read.
struct LoneTensor {
  ArithmeticDecoder decoder;  // where its values begin, and in the end behind them
  const TensorLayout* layout;
  Prologue prologue;
  Target target;
  Status status;
};

inline Status decode_alone(LoneTensor& tensor, bool portable) {
  const std::unique_ptr<Context[]> contexts(new (std::nothrow) Context[static_cast<size_t>(tensor.layout->n_contexts())]);
  if (!contexts) return Status::out_of_memory;
  return decode_values(tensor.decoder, *tensor.layout, tensor.prologue, contexts.get(), tensor.target, nullptr, portable);
}

inline bool can_share(const LoneTensor& tensor) {
  const TensorLayout& layout = *tensor.layout;
  return layout.is_plain() && layout.n_block_rows() == 1 && layout.unary_length <= kMaxLaneUnaryLength &&
         layout.n_rows * layout.n_columns >= kMinLaneValues && !tensor.prologue.row_skip;
}

class SideBySide {
 public:
  explicit SideBySide(bool portable) : portable_(portable) {
#if NNR_X86
    kernel_ = wide_kernel(portable);
#endif
  }

  void decode(LoneTensor* tensors, int64_t n) {
    std::vector<LoneTensor*> shared;
    for (int64_t i = 0; i < n; ++i) {
      if (can_share(tensors[i])) {
        shared.push_back(&tensors[i]);
      } else {
        tensors[i].status = decode_alone(tensors[i], portable_);
      }
    }
    // The largest first: the others are to be at work while it is.
    std::stable_sort(shared.begin(), shared.end(), [](const LoneTensor* a, const LoneTensor* b) {
      return a->layout->n_rows * a->layout->n_columns > b->layout->n_rows * b->layout->n_columns;
    });
    lanes_.reset(new Lane[static_cast<size_t>(std::max(kMaxLanes, kMaxAtOnce))]);
    for (size_t first = 0; first < shared.size();) {
      const size_t end = take_kinds(shared, first);
      waiting_.assign(shared.begin() + static_cast<std::ptrdiff_t>(first), shared.begin() + static_cast<std::ptrdiff_t>(end));
      next_ = 0;
      run();
      first = end;
    }
  }

 private:
#if NNR_X86
  static constexpr int kMaxAtOnce = kMaxWideLanes;
#else
  static constexpr int kMaxAtOnce = kMaxLanes;
#endif
  static constexpr int64_t kMaxCodewordBytes = int64_t{1} << 29;  // offsets of vectors have 32 bits

  struct Kind {
    int unary_length;
    bool dependent, to_levels;
    int root;
  };

  static Kind kind_of(const LoneTensor& tensor) {
    const TensorLayout& layout = *tensor.layout;
    return {layout.unary_length, layout.dependent, layout.dependent && tensor.target.output != Output::indices, 0};
  }

  int* root_of(const Kind& kind) {
    for (Kind& known : kinds_) {
      if (known.unary_length == kind.unary_length && known.dependent == kind.dependent &&
          known.to_levels == kind.to_levels) {
        return &known.root;
      }
    }
    return nullptr;
  }

  // Tensors from `first` on whose kinds the automaton has room for, and whose codewords fit in one array; their end.
  size_t take_kinds(const std::vector<LoneTensor*>& tensors, size_t first) {
    if (!automaton_) automaton_.reset(new Automaton);
    automaton_->n_nodes = 0;
    kinds_.clear();
    int64_t n_bytes = 0;
    size_t end = first;
    for (; end < tensors.size(); ++end) {
      Kind kind = kind_of(*tensors[end]);
      n_bytes += tensors[end]->decoder.n_bytes() + kPadding;
      if (end > first && n_bytes > kMaxCodewordBytes) break;
      if (root_of(kind)) continue;
      if (!automaton_->has_room(kind.unary_length, kind.dependent)) break;
      kind.root = automaton_->add(kind.unary_length, kind.dependent, kind.to_levels);
      kinds_.push_back(kind);
    }
    return end;
  }

  // The next tensor for a lane; false: none left.
  bool start(int i) {
    if (next_ == waiting_.size()) return false;
    LoneTensor& tensor = *waiting_[next_];
    Lane& lane = lanes_[static_cast<size_t>(i)];
    lane.decoder = tensor.decoder;
    if (!moved_.empty()) {  // the codeword is here too
      const int64_t at = lane.decoder.next - lane.decoder.begin, n_bytes = lane.decoder.n_bytes();
      lane.decoder.begin = codewords_.data() + moved_[next_];
      lane.decoder.next = lane.decoder.begin + at;
      lane.decoder.limit = lane.decoder.begin + n_bytes + 8;
    }
    lane.decoder.refill();
    initialise_contexts(lane.contexts, tensor.prologue.sets, tensor.layout->n_contexts());
    start_values(lane, *tensor.layout, tensor.target, *automaton_, *root_of(kind_of(tensor)), 0, 0);
    tensors_[i] = &tensor;
    ++next_;
    return true;
  }

  // Whether a lane has all its values, or has failed. Its tensor is done then.
  bool finish(int i) {
    const Lane& lane = lanes_[static_cast<size_t>(i)];
    LoneTensor& tensor = *tensors_[i];
    if (lane.is_bad || lane.decoder.is_truncated()) {
      tensor.status = decode_alone(tensor, portable_);
      return true;
    }
    if (lane.n_missing > 0) return false;
    const int64_t at = lane.decoder.next - lane.decoder.begin;
    const uint8_t *begin = tensor.decoder.begin, *limit = tensor.decoder.limit;
    tensor.decoder = lane.decoder;
    tensor.decoder.begin = begin, tensor.decoder.limit = limit, tensor.decoder.next = begin + at;
    tensor.status = Status::ok;
    return true;
  }

  void run() {
    moved_.clear();
#if NNR_X86
    if (kernel_.max_lanes && waiting_.size() >= kWorthWideLanes) return run_wide_lanes();
#endif
    int n_active = 0;
    while (n_active < kMaxLanes && start(n_active)) ++n_active;
    run_turns(n_active);
  }

  void run_turns(int n_active) {
    const bool avx2 = !portable_ && has_avx2();
    while (n_active > 0) {
      if (n_active == 1 && next_ == waiting_.size()) return run_last();
      take_turns(lanes_.get(), n_active, avx2);
      for (int i = n_active - 1; i >= 0; --i) {
        deliver(lanes_[static_cast<size_t>(i)]);
        if (!finish(i) || start(i)) continue;
        if (i != --n_active) {
          move_lane(lanes_[static_cast<size_t>(i)], lanes_[static_cast<size_t>(n_active)]);
          tensors_[i] = tensors_[n_active];
        }
      }
    }
  }

  // The rest of the first lane, by the faster loop for one alone.
  void run_last() {
    Lane& lane = lanes_[0];
    while (!lane.is_bad && lane.n_missing > 0 && !lane.is_at_value()) {
      lane.decoder.refill();
      step(lane);
      deliver(lane);
    }
    if (!finish(0)) {
      decode_rest(lane, portable_);
      finish(0);
    }
  }

#if NNR_X86
  void run_wide_lanes() {
    gather_codewords();
    if (!states_) states_.reset(new WideState[kMaxWideLanes / kWideLanes]);
    if (!steps_) steps_.reset(new WideSteps);
    steps_->build(*automaton_);
    for (int s = 0; s < kMaxWideLanes / kWideLanes; ++s) states_[static_cast<size_t>(s)].build(*steps_, codewords_.data());
    const int n_lanes = lanes_for(waiting_.size());
    uint32_t active = 0;
    for (int i = 0; i < n_lanes; ++i) start_wide(i, active);
    while (__builtin_popcount(active) >= kWorthWideLanes) {
      kernel_.run(states_.get(), lanes_.get(), wide_run(lanes_.get(), active), active);
      for (uint32_t rest = active; rest; rest &= rest - 1) {
        const int i = __builtin_ctz(rest);
        Lane& lane = lanes_[static_cast<size_t>(i)];
        state_of(i).get_decoder(i % kWideLanes, lane.decoder);
        if (finish(i)) start_wide(i, active);
      }
      if (__builtin_popcount(active) <= kWideLanes && active >> kWideLanes) pack(active);
    }
    int n_active = 0;
    for (uint32_t rest = active; rest; rest &= rest - 1, ++n_active) {
      const int i = __builtin_ctz(rest);
      state_of(i).get_lane(i % kWideLanes, lanes_[static_cast<size_t>(i)]);
      if (i == n_active) continue;
      move_lane(lanes_[static_cast<size_t>(n_active)], lanes_[static_cast<size_t>(i)]);
      tensors_[n_active] = tensors_[i];
    }
    run_turns(n_active);
  }

  // Two vectors only where they are worth it.
  int lanes_for(size_t n_tensors) const {
    const auto most = static_cast<size_t>(kernel_.max_lanes);
    return static_cast<int>(std::min<size_t>(n_tensors, n_tensors < most ? kWideLanes : most));
  }

  WideState& state_of(int i) { return states_[static_cast<size_t>(i / kWideLanes)]; }

  void start_wide(int i, uint32_t& active) {
    active &= ~(1u << i);
    if (!start(i)) return state_of(i).start_idle(i % kWideLanes);
    state_of(i).put_lane(i % kWideLanes, lanes_[static_cast<size_t>(i)], tensors_[i]->layout->unary_length);
    active |= 1u << i;
  }

  // Moves the lanes of the second vector into the first one, which has room for them.
  void pack(uint32_t& active) {
    for (uint32_t rest = active >> kWideLanes << kWideLanes; rest; rest &= rest - 1) {
      const int from = __builtin_ctz(rest), to = __builtin_ctz(~active);
      state_of(from).get_lane(from % kWideLanes, lanes_[static_cast<size_t>(from)]);
      move_lane(lanes_[static_cast<size_t>(to)], lanes_[static_cast<size_t>(from)]);
      tensors_[to] = tensors_[from];
      lanes_[static_cast<size_t>(to)].decoder.refill();
      state_of(to).put_lane(to % kWideLanes, lanes_[static_cast<size_t>(to)], tensors_[to]->layout->unary_length);
      active = (active & ~(1u << from)) | 1u << to;
    }
  }

  // All codewords in one array, so that vectors tell places in them by 32 bits.
  void gather_codewords() {
    int64_t n_bytes = 0;
    for (const LoneTensor* tensor : waiting_) {
      moved_.push_back(n_bytes);
      n_bytes += tensor->decoder.n_bytes() + kPadding;
    }
    codewords_.resize(static_cast<size_t>(n_bytes));
    for (size_t i = 0; i < waiting_.size(); ++i) {
      const ArithmeticDecoder& decoder = waiting_[i]->decoder;
      std::memcpy(codewords_.data() + moved_[i], decoder.begin, static_cast<size_t>(decoder.n_bytes() + kPadding));
    }
  }

  WideKernel kernel_;
  std::unique_ptr<WideState[]> states_;
  std::unique_ptr<WideSteps> steps_;
#endif

  const bool portable_;
  std::unique_ptr<Lane[]> lanes_;
  std::unique_ptr<Automaton> automaton_;
  std::vector<Kind> kinds_;
  std::vector<LoneTensor*> waiting_;
  size_t next_ = 0;
  LoneTensor* tensors_[kMaxAtOnce > kMaxLanes ? kMaxAtOnce : kMaxLanes] = {};
  std::vector<int64_t> moved_;  // where in `codewords_` each codeword begins; empty: nowhere
  std::vector<uint8_t> codewords_;
};

// Decodes all tensors; each has a status then. Throws std::bad_alloc where there is no memory.
inline void decode_side_by_side(LoneTensor* tensors, int64_t n, bool portable) { SideBySide(portable).decode(tensors, n); }

}  // namespace nnr
