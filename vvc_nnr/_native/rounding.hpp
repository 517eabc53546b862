// Rounding by rate and distortion with feedback: the levels of a matrix whose errors have a quadratic form as their
// cost, chosen in coding order.
//
// The cost of an error E = Q - W (in steps) is  tr(G E H E^T).  With H = B^T diag(d) B and G = A^T diag(g) A (A, B unit
// lower triangular) it is a sum over rows r and columns c of  g_r d_c v_rc^2, where v is the error plus what feedback
// adds:  v = e_rc + sum_{i<c} B_ci e_ri  about the row's own target  W_r - sum_{q<r} A_rq E_q.  So an error is pushed
// onto the weights of the row, and of the rows, that are not coded yet (OBQ/GPTQ, here in pull form), and every weight is a
// scalar problem:  g_r d_c v^2 + bit_weight * bits.
//
// Dependent quantisation has eight survivors, each with its own errors of the row so far. They lie side by side, so a
// step permutes and sums one vector of eight per column before it. Rows end with one survivor; contexts then
// move on by the row's real bins.
#pragma once

#include "context_costs.hpp"
#include "row_feedback.hpp"
#include "status.hpp"

namespace nnr {

struct RoundingInput {
  const TensorLayout& layout;    // no block scan, no codebook, no parent
  const float* weights;          // n_rows x n_columns
  int64_t n_groups;              // of as many rows, each with its own H
  int64_t block;                 // columns that feed back to each other, a divisor of n_columns
  const float* column_feedback;  // B, n_groups x n_columns x block; only what lies below the diagonal of a block counts
  const float* column_weight;    // d, n_groups x n_columns
  const float* row_feedback;     // A, n_rows x n_rows, or null: rows are independent
  const float* row_weight;       // g
  float inverse_step;
  float bit_weight;     // cost of a bit, in squared steps times weights
  const uint8_t* sets;  // n_contexts
};

constexpr int kRefresh = 96;  // columns between two looks at the contexts

class Rounding {
 public:
  Rounding(const RoundingInput& input, bool portable) : input_(input), layout_(input.layout) {
#if NNR_X86
    feed_back_ = !portable && has_avx2() ? feed_back_avx2 : feed_back;
#else
    feed_back_ = feed_back;
#endif
    (void)portable;
    const auto n = static_cast<size_t>(layout_.n_columns);
    contexts_.reset(new (std::nothrow) Context[2 * static_cast<size_t>(layout_.n_contexts())]);
    if (input.row_feedback) rows_errors_.reset(new (std::nothrow) float[static_cast<size_t>(layout_.n_rows) * n]);
    is_ready_ = row_.allocate(n) && contexts_ && (rows_errors_ || !input.row_feedback);
  }

  bool is_ready() const { return is_ready_; }

  // Requires is_ready(). Indices of all rows; returns their bits as the contexts see them.
  double run(int32_t* indices) {
    for (int i = 0; i < layout_.n_contexts(); ++i) contexts_[static_cast<size_t>(i)] = initial_context(input_.sets[i]);
    state_ = 0, neighbour_ = 0;
    double bits = 0;
    for (int64_t row = 0; row < layout_.n_rows; ++row) {
      aim(row);
      int32_t* k = indices + row * layout_.n_columns;
      layout_.dependent ? search_dependent(row, k) : search_uniform(row, k);
      bits += commit(row, k);
    }
    return bits;
  }

 private:
  static constexpr float kNever = 1e30f;

  // Size in steps that an index can have; NaN becomes the largest.
  static float clipped(float x) {
    constexpr float kLargest = 1 << 28;
    const float size = std::fabs(x);
    return size < kLargest ? size : kLargest;
  }

  Context* scratch() { return contexts_.get() + layout_.n_contexts(); }

  void copy_contexts() {
    std::memcpy(scratch(), contexts_.get(), static_cast<size_t>(layout_.n_contexts()) * sizeof(Context));
  }

  // The row's target: the weights in steps, less what the errors of earlier rows can be made up for.
  void aim(int64_t row) {
    const int64_t n = layout_.n_columns, group = row * input_.n_groups / layout_.n_rows;
    column_feedback_ = input_.column_feedback + group * n * input_.block;
    column_weight_ = input_.column_weight + group * n;
    const float* weights = input_.weights + row * n;
    float* target = row_.target.get();
    for (int64_t c = 0; c < n; ++c) target[c] = weights[c] * input_.inverse_step;
    if (!input_.row_feedback) return;
    for (int64_t q = 0; q < row; ++q) {
      const float share = input_.row_feedback[row * layout_.n_rows + q];
      const float* errors = rows_errors_.get() + q * n;
      for (int64_t c = 0; c < n; ++c) target[c] -= share * errors[c];
    }
  }

  void search_dependent(int64_t row, int32_t* out) {
    const int64_t n = layout_.n_columns;
    Survivors& at = row_.survivors;
    for (int s = 0; s < kDqStates; ++s) at.cost[s] = kNever, at.neighbour[s] = neighbour_, at.parent[s] = s;
    at.cost[state_] = 0;
    copy_contexts();
    costs_.make(layout_, scratch());
    int64_t seen = 0;
    int seen_state = state_, seen_neighbour = neighbour_;
    for (int64_t c = 0; c < n; ++c) {
      if (c - seen == kRefresh) {
        normalise();
        look_at_contexts(seen, c, seen_state, seen_neighbour);
        seen = c;
      }
      alignas(32) float sums[kDqStates];
      sum_errors(c, sums);
      step(c, input_.row_weight[row] * column_weight_[c], sums);
    }
    const int best = static_cast<int>(std::min_element(at.cost, at.cost + kDqStates) - at.cost);
    trace_back(best, n, 0, out);
    measure_row(out);
  }

  // What feedback takes from the target of column `c`, by survivor. The errors of the last column are in order already.
  void sum_errors(int64_t c, float* sums) {
    const float* feedback = column_feedback_ + c * input_.block;
    const int64_t before = c % input_.block;  // columns of the block
    float* errors = row_.errors.get() + 8 * (c - before);
    feed_back_(errors, feedback, before - 1, row_.survivors.parent, sums);
    for (int s = 0; s < kDqStates && before > 0; ++s) sums[s] += errors[8 * (before - 1) + s] * feedback[before - 1];
  }

  void normalise() {
    Survivors& at = row_.survivors;
    const float least = *std::min_element(at.cost, at.cost + kDqStates);
    for (float& cost : at.cost) cost = std::min(cost - least, kNever);
  }

  void step(int64_t c, float weight, const float* sums) {
    Survivors& at = row_.survivors;
    const float target = row_.target[static_cast<size_t>(c)];
    const float bit = input_.bit_weight;
    float cost[2][kDqStates];
    int32_t k[2][kDqStates];
    for (int s = 0; s < kDqStates; ++s) {
      const float x = target - sums[s];
      const bool negative = x < 0;
      const float size = clipped(x);
      const int odd = s & 1, neighbour = at.neighbour[s];
      const float nonzero = costs_.nonzero[negative][neighbour][s];
      cost[0][s] = weight * x * x + bit * costs_.zero[neighbour][s];
      k[0][s] = 0;
      cost[1][s] = kNever;
      k[1][s] = 1;
      const int32_t below = std::max(1, static_cast<int32_t>((size + static_cast<float>(odd)) * 0.5f) - 1);
      for (int32_t j = below; j < below + 4; ++j) {
        const float miss = static_cast<float>(2 * j - odd) - size;
        const float price = weight * miss * miss + bit * (nonzero + costs_.of_size(negative, j));
        const int parity = j & 1;
        if (price < cost[parity][s]) cost[parity][s] = price, k[parity][s] = negative ? -j : j;
      }
      cost[0][s] += at.cost[s], cost[1][s] += at.cost[s];
    }
    float* errors = row_.errors.get() + 8 * c;
    int32_t* chosen = row_.k.get() + 8 * c;
    uint8_t* parents = row_.parents.get() + 8 * c;
    float next[kDqStates];
    for (int s = 0; s < kDqStates; ++s) {
      const int even = kEvenFrom[s], odd = kOddFrom[s];
      const bool takes_odd = cost[1][odd] < cost[0][even];
      const int from = takes_odd ? odd : even;
      const int32_t index = k[takes_odd][from];
      next[s] = cost[takes_odd][from];
      chosen[s] = index;
      parents[s] = static_cast<uint8_t>(from);
      at.parent[s] = from;
      errors[s] = static_cast<float>(level_of<true>(index, from)) - target;
    }
    for (int s = 0; s < kDqStates; ++s) at.cost[s] = next[s], at.neighbour[s] = sign_class(chosen[s]);
  }

  // Indices of columns begin..end-1 of the path that ends in `state`, from out[0]; returns the state before them.
  int trace_back(int state, int64_t end, int64_t begin, int32_t* out) const {
    for (int64_t c = end - 1; c >= begin; --c) {
      out[c - begin] = row_.k[static_cast<size_t>(8 * c + state)];
      state = row_.parents[static_cast<size_t>(8 * c + state)];
    }
    return state;
  }

  // The costs from the contexts as the best path so far leaves them.
  void look_at_contexts(int64_t begin, int64_t end, int& state, int& neighbour) {
    const Survivors& at = row_.survivors;
    const int best = static_cast<int>(std::min_element(at.cost, at.cost + kDqStates) - at.cost);
    int32_t path[kRefresh];
    state = trace_back(best, end, begin, path);
    ContextSink sink{scratch()};
    for (int64_t c = begin; c < end; ++c) code(sink, path[c - begin], state, neighbour);
    costs_.make(layout_, scratch());
  }

  NNR_INLINE void code(ContextSink& sink, int32_t k, int& state, int& neighbour) {
    code_value<true>(sink, layout_, Surroundings{state, neighbour, 0, false}, k);
    neighbour = sign_class(k);
    if (layout_.dependent) state = kNextState[state][k & 1];
  }

  // Errors of the row about its own target.
  void measure_row(const int32_t* k) {
    float* errors = row_.errors.get();
    for (int64_t c = 0, state = state_; c < layout_.n_columns; ++c) {
      errors[c] = static_cast<float>(level_of<true>(k[c], static_cast<int>(state))) - row_.target[static_cast<size_t>(c)];
      state = kNextState[state][k[c] & 1];
    }
  }

  void search_uniform(int64_t row, int32_t* out) {
    const int64_t n = layout_.n_columns;
    copy_contexts();
    ContextSink sink{scratch()};
    int state = 0, neighbour = neighbour_;
    float* errors = row_.errors.get();
    for (int64_t c = 0; c < n; ++c) {
      const float target = row_.target[static_cast<size_t>(c)];
      const int64_t before = c % input_.block;
      const float x = target - dot(column_feedback_ + c * input_.block, errors + c - before, before);
      const float weight = input_.row_weight[row] * column_weight_[c];
      if (c % kRefresh == 0) costs_.make(layout_, scratch());
      out[c] = nearest_uniform(x, weight, neighbour);
      errors[c] = static_cast<float>(out[c]) - target;
      code(sink, out[c], state, neighbour);
    }
  }

  int32_t nearest_uniform(float x, float weight, int neighbour) const {
    const bool negative = x < 0;
    const float size = clipped(x);
    const float bit = input_.bit_weight, nonzero = costs_.nonzero[negative][neighbour][0];
    float least = weight * x * x + bit * costs_.zero[neighbour][0];
    int32_t best = 0;
    const int32_t below = std::max(1, static_cast<int32_t>(size));
    for (int32_t j = below; j < below + 2; ++j) {
      const float miss = static_cast<float>(j) - size;
      const float price = weight * miss * miss + bit * (nonzero + costs_.of_size(negative, j));
      if (price < least) least = price, best = negative ? -j : j;
    }
    return best;
  }

  // The row's errors are kept for later rows, and its bins move the contexts; an empty row is left out by the coder.
  double commit(int64_t row, const int32_t* k) {
    const int64_t n = layout_.n_columns;
    if (input_.row_feedback) {
      float* kept = rows_errors_.get() + row * n;
      const float* weights = input_.weights + row * n;
      const float* target = row_.target.get();
      for (int64_t c = 0; c < n; ++c) {
        kept[c] = row_.errors[static_cast<size_t>(c)] + target[c] - weights[c] * input_.inverse_step;
      }
    }
    if (layout_.has_row_skip_flag() && std::all_of(k, k + n, [](int32_t value) { return value == 0; })) {
      state_ = layout_.state_after_skip(state_);
      return 0;
    }
    ContextSink sink{contexts_.get()};
    for (int64_t c = 0; c < n; ++c) code(sink, k[c], state_, neighbour_);
    return sink.bits;
  }

  const RoundingInput& input_;
  const TensorLayout& layout_;
  FeedbackKernel feed_back_;
  RowSearch row_;
  std::unique_ptr<Context[]> contexts_;  // the coder's, and those of a look ahead
  std::unique_ptr<float[]> rows_errors_;
  const float* column_feedback_ = nullptr;  // of the row's group
  const float* column_weight_ = nullptr;
  IndexCosts costs_;
  int state_ = 0, neighbour_ = 0;
  bool is_ready_ = false;
};

}  // namespace nnr
