// Encoder and decoder of one payload as Python objects.
#pragma once

#include "block_rows.hpp"
#include "parallel_encoder.hpp"
#include "python_layout.hpp"
#include "side_by_side.hpp"

namespace nnr {

using Marks = std::vector<std::tuple<int64_t, unsigned, int>>;  // position in bits, window or low, DQ state
using ContextStates = std::vector<std::pair<int, int>>;         // fast, slow

inline ContextStates states_of(const std::vector<Context>& contexts) {
  ContextStates found;
  for (const Context& context : contexts) found.emplace_back(context.fast.scaled / 16, context.slow);
  return found;
}

class Encoder {
 public:
  void put_bits(uint32_t bits, int n_bits) {
    require(codeword_.reserve(n_bits), "memory");
    codeword_.encoder.encode_bypass(bits, n_bits);
  }

  std::pair<int, Marks> encode(const Layout& layout, const Array<int32_t>& indices, bool row_skip,
                               const Rows& skipped_rows, const Array<uint8_t>& sets, int n_threads,
                               bool portable) {
    require(n_threads > 0 && n_threads <= kMaxThreads, "threads");
    TensorChoices choices;
    choices.row_skip = row_skip, choices.skipped_rows = layout.rows(skipped_rows), choices.sets = layout.sets(sets);
    require(!row_skip || choices.skipped_rows, "skipped rows");
    const int32_t* k = layout.values(indices);
    const int64_t n_block_rows = layout.n_block_rows();
    std::vector<BlockRowMark> marks(static_cast<size_t>(n_block_rows > 1 ? n_block_rows : 0));
    contexts_.resize(static_cast<size_t>(layout.n_contexts()));
    Status status;
    {
      py::gil_scoped_release release;
      status = encode_tensor(codeword_, layout, choices, k, contexts_.data(), marks.data(), n_threads, portable);
    }
    Marks found;
    for (const BlockRowMark& mark : marks) found.emplace_back(mark.position_bits, mark.low, mark.state);
    return {static_cast<int>(status), found};
  }

  py::bytes finish() {
    require(codeword_.reserve(8), "memory");
    codeword_.encoder.finish();
    return {reinterpret_cast<const char*>(codeword_.buffer.data()), static_cast<size_t>(codeword_.n_bytes())};
  }

  std::tuple<int64_t, unsigned, unsigned> state() const {
    const ArithmeticEncoder& encoder = codeword_.encoder;
    return {codeword_.position_bits(), static_cast<unsigned>(encoder.range >> kRangeShift), encoder.low_window()};
  }
  ContextStates contexts() const { return states_of(contexts_); }

 private:
  Codeword codeword_;
  std::vector<Context> contexts_;
};

class Decoder {
 public:
  explicit Decoder(const py::bytes& data) {
    const std::string_view view = data;
    data_.assign(view.begin(), view.end());
    data_.resize(view.size() + kPadding);
    decoder_.start(data_.data(), static_cast<int64_t>(view.size()));
  }

  uint64_t get_bits(int n_bits) { return decoder_.decode_bypass(n_bits); }

  std::tuple<int, bool, bool, Array<uint8_t>, Array<uint8_t>> decode_prologue(const Layout& layout) {
    Layout read = layout;
    Array<uint8_t> skipped_rows(layout.n_rows), sets(layout.n_contexts());
    Prologue prologue{false, skipped_rows.mutable_data(), sets.mutable_data()};
    Status status;
    {
      py::gil_scoped_release release;
      std::memset(prologue.skipped_rows, 0, static_cast<size_t>(layout.n_rows));
      std::memset(prologue.sets, 0, static_cast<size_t>(layout.n_contexts()));
      status = nnr::decode_prologue(decoder_, read, prologue);
    }
    return {static_cast<int>(status), prologue.row_skip, read.use_history, skipped_rows, sets};
  }

  std::pair<int, Marks> decode_values(const Layout& layout, Rows skipped_rows, Array<uint8_t> sets, py::array numbers,
                                      int output, float step, const std::optional<Marks>& entries, int n_threads,
                                      bool portable) {
    require(numbers.size() == layout.n() && numbers.itemsize() == 4 && numbers.writeable(), "numbers");
    require(n_threads > 0 && n_threads <= kMaxThreads, "threads");
    require(output >= 0 && output <= 2, "output");
    layout.rows(skipped_rows), layout.sets(sets);
    Prologue prologue{skipped_rows.has_value(), skipped_rows ? skipped_rows->mutable_data() : nullptr,
                      sets.mutable_data()};
    const Target target{static_cast<int32_t*>(numbers.mutable_data()), static_cast<Output>(output), step};
    const int64_t n_block_rows = layout.n_block_rows();
    std::vector<EntryPoint> marks(static_cast<size_t>(n_block_rows > 1 ? n_block_rows : 0));
    const bool use_entries = entries && can_use_lanes(layout);
    if (use_entries) fill(marks, *entries);
    contexts_.resize(static_cast<size_t>(layout.n_contexts()));
    Status status;
    {
      py::gil_scoped_release release;
      if (use_entries) {
        status = decode_from_entries(decoder_, layout, prologue, target, marks.data(), n_threads, portable);
      } else {
        status = nnr::decode_values(decoder_, layout, prologue, contexts_.data(), target, marks.data(), portable);
      }
    }
    Marks found;
    for (const EntryPoint& mark : marks) found.emplace_back(mark.position_bits, mark.window, mark.state);
    return {static_cast<int>(status), found};
  }

  // A tensor without entry points, to be decoded beside others; `take` gets what became of it. What it is made of must
  // stay.
  LoneTensor lone(const Layout& layout, const Rows& skipped_rows, const Array<uint8_t>& sets, py::array& numbers,
                  int output, float step) const {
    require(numbers.size() == layout.n() && numbers.itemsize() == 4 && numbers.writeable(), "numbers");
    require(output >= 0 && output <= 2, "output");
    layout.rows(skipped_rows), layout.sets(sets);
    // They are only read.
    auto* rows = skipped_rows ? const_cast<uint8_t*>(skipped_rows->data()) : nullptr;
    const Prologue prologue{skipped_rows.has_value(), rows, const_cast<uint8_t*>(sets.data())};
    const Target target{static_cast<int32_t*>(numbers.mutable_data()), static_cast<Output>(output), step};
    return {decoder_, &layout, prologue, target, Status::ok};
  }
  int take(const LoneTensor& tensor) {
    decoder_ = tensor.decoder;
    return static_cast<int>(tensor.status);
  }

  int finish() { return static_cast<int>(decode_end(decoder_)); }

  std::tuple<int64_t, unsigned, unsigned> state() const {
    return {decoder_.position_bits(), static_cast<unsigned>(decoder_.range >> kRangeShift), decoder_.window()};
  }
  ContextStates contexts() const { return states_of(contexts_); }

 private:
  void fill(std::vector<EntryPoint>& marks, const Marks& entries) const {
    require(entries.size() + 1 == marks.size(), "one entry point per block row but the first");
    for (size_t i = 0; i < entries.size(); ++i) {
      const auto& [position_bits, window, state] = entries[i];
      require(position_bits >= 0 && position_bits + 9 <= 8 * decoder_.n_bytes(), "entry position");
      require(window < 256 && state >= 0 && state < kDqStates, "entry window or state");
      marks[i + 1] = {position_bits, window, state};
    }
  }

  std::vector<uint8_t> data_;
  ArithmeticDecoder decoder_;
  std::vector<Context> contexts_;
};

// Decoder, layout, skipped rows, sets, numbers, output, step: what `Decoder::decode_values` takes.
using LoneInput = std::tuple<Decoder*, const Layout*, Rows, Array<uint8_t>, py::array, int, float>;

// Tensors of a decoder each, side by side; a status for each.
inline std::vector<int> decode_together(std::vector<LoneInput> inputs, bool portable) {
  std::vector<LoneTensor> tensors;
  for (auto& [decoder, layout, skipped_rows, sets, numbers, output, step] : inputs) {
    require(decoder && layout, "decoder and layout");
    tensors.push_back(decoder->lone(*layout, skipped_rows, sets, numbers, output, step));
  }
  {
    py::gil_scoped_release release;
    decode_side_by_side(tensors.data(), static_cast<int64_t>(tensors.size()), portable);
  }
  std::vector<int> statuses;
  for (size_t i = 0; i < tensors.size(); ++i) statuses.push_back(std::get<0>(inputs[i])->take(tensors[i]));
  return statuses;
}

}  // namespace nnr
