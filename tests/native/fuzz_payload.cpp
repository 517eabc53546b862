// Hostile payloads under sanitizers: random tensors are coded, their payloads, dimensions and entry points damaged, and
// decoded in order, from entry points and by the portable kernels. Anything but a status is a bug; undamaged payloads
// must decode to what was coded, and all decoders must agree on damaged ones, side by side too. The last line sums up all that came out:
// it is the same by every compiler, on every processor.
//
//   g++ -std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I vvc_nnr/_native
//       tests/native/fuzz_payload.cpp -o fuzz_payload && ./fuzz_payload 100000 1

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "block_rows.hpp"
#include "dependent.hpp"
#include "parallel_encoder.hpp"
#include "set_choice.hpp"
#include "side_by_side.hpp"
#include "uniform.hpp"

namespace {

using namespace nnr;

struct Source {
  std::mt19937_64 engine;

  uint64_t below(uint64_t n) { return engine() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class T, size_t N>
  T any(const T (&values)[N]) {
    return values[below(N)];
  }
};

struct Tensor {
  TensorLayout layout;
  std::vector<int32_t> indices, base;
  std::vector<uint8_t> history, skipped_rows, sets;
  bool row_skip = false;
};

void point_layout(Tensor& tensor) {
  if (tensor.layout.base) tensor.layout.base = tensor.base.data();
  if (tensor.layout.history) tensor.layout.history = tensor.history.data();
}

void make_layout(Source& source, Tensor& tensor) {
  TensorLayout& layout = tensor.layout;
  layout.n_rows = 1 + static_cast<int64_t>(source.below(source.one_in(4) ? 300 : 40));
  layout.n_columns = 1 + static_cast<int64_t>(source.below(source.one_in(4) ? 8 : 40));
  layout.unary_length = source.any({1, 2, 3, 11, 32, 33, 256});
  layout.block_side = source.any({0, 8, 8, 16});
  layout.dependent = source.one_in(2);
  layout.row_skip_allowed = !source.one_in(4);
  layout.parent_present = source.one_in(3);
  if (!layout.dependent && source.one_in(4)) {
    layout.has_codebook = true;
    layout.max_negative = static_cast<uint32_t>(source.below(20));
    layout.max_positive = static_cast<uint32_t>(source.below(20));
  }
  const auto n = static_cast<size_t>(layout.n_rows * layout.n_columns);
  tensor.base.resize(n);
  tensor.history.resize(n);
  for (size_t i = 0; i < n; ++i) {
    tensor.base[i] = source.one_in(50) ? INT32_MIN : static_cast<int32_t>(source.below(7)) - 3;
    tensor.history[i] = source.one_in(2);
  }
  if (source.one_in(4)) layout.base = tensor.base.data();
  if (source.one_in(2)) layout.history = tensor.history.data();
  layout.use_history = layout.history && layout.parent_present && layout.has_row_skip_flag() && source.one_in(2);
}

void make_indices(Source& source, Tensor& tensor) {
  const TensorLayout& layout = tensor.layout;
  const auto n_rows = static_cast<size_t>(layout.n_rows), n_columns = static_cast<size_t>(layout.n_columns);
  const int bits = source.any({1, 2, 4, 12, 29});
  tensor.indices.assign(n_rows * n_columns, 0);
  tensor.skipped_rows.assign(n_rows, 0);
  tensor.row_skip = layout.has_row_skip_flag() && source.one_in(2);
  for (size_t row = 0; row < n_rows; ++row) {
    tensor.skipped_rows[row] = tensor.row_skip && source.one_in(5);
    for (size_t column = 0; column < n_columns && !tensor.skipped_rows[row]; ++column) {
      const int64_t size =
          static_cast<int64_t>(source.engine() >> (64 - bits)) >> source.below(static_cast<uint64_t>(bits));
      const int64_t k = source.one_in(2) ? size : -size;
      tensor.indices[row * n_columns + column] = static_cast<int32_t>(
          std::clamp(k, -static_cast<int64_t>(layout.max_negative), static_cast<int64_t>(layout.max_positive)));
    }
  }
  tensor.sets.assign(static_cast<size_t>(layout.n_contexts()), 0);
  if (source.one_in(2)) {
    for_each_signalled_context(layout,
                               [&](int i) { tensor.sets[static_cast<size_t>(i)] = source.below(kSets) & 0xff; });
  } else {
    Recorder recorder(layout.n_contexts(), source.one_in(2));
    Recorder another(layout.n_contexts(), source.one_in(2));
    Recorder* both[] = {&recorder, &another};
    const uint8_t* rows = tensor.row_skip ? tensor.skipped_rows.data() : nullptr;
    record_tensor(both, source.one_in(2) ? 2 : 1, layout, tensor.indices.data(), rows);
    choose_sets(recorder, layout, tensor.sets.data());
  }
}

struct Coded {
  std::vector<uint8_t> data;
  std::vector<EntryPoint> entries;
};

// FNV-1a of the bytes so far.
struct Checksum {
  uint64_t sum = 0xcbf29ce484222325u;

  void add(const std::vector<uint8_t>& bytes) {
    for (const uint8_t byte : bytes) sum = (sum ^ byte) * 0x100000001b3u;
  }
  void add(const std::vector<int32_t>& numbers) {
    for (const int32_t number : numbers) {
      for (int shift = 0; shift < 32; shift += 8) {
        sum = (sum ^ (static_cast<uint32_t>(number) >> shift & 255)) * 0x100000001b3u;
      }
    }
  }
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Decoded {
  Status status;
  std::vector<int32_t> numbers;
  std::vector<EntryPoint> marks;
};

// A decoder of its own, with data that end where the allocation ends.
Decoded decode(const std::vector<uint8_t>& payload, TensorLayout layout, const std::vector<EntryPoint>* entries,
               int n_threads, bool portable) {
  std::vector<uint8_t> data = payload;
  data.resize(payload.size() + kPadding);
  data.shrink_to_fit();
  ArithmeticDecoder decoder;
  decoder.start(data.data(), static_cast<int64_t>(payload.size()));
  std::vector<uint8_t> skipped_rows(static_cast<size_t>(layout.n_rows)), sets(static_cast<size_t>(layout.n_contexts()));
  Prologue prologue{false, skipped_rows.data(), sets.data()};
  Decoded found{decode_prologue(decoder, layout, prologue), {}, {}};
  if (!layout.history) layout.use_history = false;
  if (found.status != Status::ok) return found;
  found.numbers.assign(static_cast<size_t>(layout.n_rows * layout.n_columns), 0);
  found.marks.resize(static_cast<size_t>(layout.n_block_rows()));
  const Target target{found.numbers.data(), Output::indices, 0};
  if (entries && can_use_lanes(layout) && entries->size() == found.marks.size()) {
    found.marks = *entries;
    found.status = decode_from_entries(decoder, layout, prologue, target, found.marks.data(), n_threads, portable);
  } else {
    std::vector<Context> contexts(static_cast<size_t>(layout.n_contexts()));
    found.status = decode_values(decoder, layout, prologue, contexts.data(), target, found.marks.data(), portable);
  }
  if (found.status == Status::ok) found.status = decode_end(decoder);
  return found;
}

Coded encode(Tensor& tensor, int n_threads) {
  Codeword codeword;
  std::vector<Context> contexts(static_cast<size_t>(tensor.layout.n_contexts()));
  std::vector<BlockRowMark> marks(static_cast<size_t>(tensor.layout.n_block_rows()));
  const TensorChoices choices{tensor.row_skip, tensor.skipped_rows.data(), tensor.sets.data()};
  encode_tensor(codeword, tensor.layout, choices, tensor.indices.data(), contexts.data(), marks.data(), n_threads, false);
  if (!codeword.reserve(8)) fail("memory");
  codeword.encoder.finish();
  Coded coded{{codeword.buffer.data(), codeword.buffer.data() + codeword.n_bytes()}, {}};
  Decoded found = decode(coded.data, tensor.layout, nullptr, 1, false);
  if (found.status != Status::ok || found.numbers != tensor.indices) fail("an undamaged payload is not decoded");
  coded.entries = found.marks;
  if (found.marks.size() > 1) {
    found = decode(coded.data, tensor.layout, &coded.entries, 2, false);
    if (found.status != Status::ok || found.numbers != tensor.indices) fail("entry points of an undamaged payload");
  }
  return coded;
}

void damage(Source& source, std::vector<uint8_t>& data, const std::vector<uint8_t>& other) {
  const auto any_at = [&] { return static_cast<std::ptrdiff_t>(source.below(data.size() + 1)); };
  switch (source.below(6)) {
    case 0:
      data.resize(static_cast<size_t>(any_at()));
      break;
    case 1:
      data.insert(data.begin() + any_at(), other.begin(), other.end());
      break;
    case 2: {
      const auto at = any_at();
      std::fill(data.begin() + at, data.end(), source.one_in(2) ? 0xff : 0);
      break;
    }
    case 3:
      for (auto at = any_at(); at < static_cast<std::ptrdiff_t>(data.size()); ++at)
        data[static_cast<size_t>(at)] = source.below(256) & 0xff;
      break;
    default:
      for (uint64_t i = source.below(8) + 1; i > 0 && !data.empty(); --i) {
        data[source.below(data.size())] ^= static_cast<uint8_t>(1u << source.below(8));
      }
  }
}

void damage_entries(Source& source, std::vector<EntryPoint>& entries, size_t n_bytes) {
  for (EntryPoint& entry : entries) {
    const int64_t end = 8 * static_cast<int64_t>(n_bytes) - 9;
    if (source.one_in(8)) entry.position_bits = static_cast<int64_t>(source.below(8 * n_bytes + 1));
    if (source.one_in(8)) entry.window = static_cast<unsigned>(source.below(256));
    if (source.one_in(8)) entry.state = static_cast<int>(source.below(kDqStates));
    entry.position_bits = std::clamp<int64_t>(entry.position_bits, 0, std::max<int64_t>(end, 0));
  }
}

void damage_layout(Source& source, Tensor& tensor) {
  if (source.one_in(4)) tensor.layout.n_rows = 1 + static_cast<int64_t>(source.below(3000));
  if (source.one_in(4)) tensor.layout.n_columns = 1 + static_cast<int64_t>(source.below(3000));
  if (source.one_in(4)) tensor.layout.unary_length = 1 + static_cast<int>(source.below(kMaxUnaryLength));
  const auto n = static_cast<size_t>(tensor.layout.n_rows * tensor.layout.n_columns);
  tensor.base.resize(n);
  tensor.history.resize(n);
  point_layout(tensor);
}

void quantise_anything(Source& source, const Tensor& tensor, Checksum& checksum) {
  std::vector<float> weights(tensor.indices.size());
  for (float& w : weights) {
    const auto bits = static_cast<uint32_t>(source.engine());
    std::memcpy(&w, &bits, sizeof w);
    if (!(std::fabs(w) < 1e30f) || source.one_in(2)) w = static_cast<float>(source.below(1000)) / 100 - 5;
  }
  std::vector<int32_t> fast(weights.size()), slow(weights.size());
  const float bit_weight = source.one_in(2) ? 0.0f : 0.3f;
  const uint8_t* rows = tensor.row_skip ? tensor.skipped_rows.data() : nullptr;
  const uint8_t* sets = source.one_in(2) ? tensor.sets.data() : nullptr;
  const QuantiserInput input{tensor.layout, weights.data(), 1.0, bit_weight, rows, sets};
  double fast_cost = 0, slow_cost = 0;
  quantise_dependent(input, fast.data(), nullptr, fast_cost, false);
  quantise_dependent(input, slow.data(), nullptr, slow_cost, true);
  if (fast != slow || fast_cost != slow_cost) fail("the trellis depends on the processor");
  checksum.add(fast);
  const ErrorSums sums{1, 0.4f, 0.05f};
  const QuantiserInput summed{tensor.layout, weights.data(), 1.0, 0.0f, rows, nullptr, &sums};
  quantise_dependent(summed, fast.data(), nullptr, fast_cost, false);
  quantise_dependent(summed, slow.data(), nullptr, slow_cost, true);
  if (fast != slow || fast_cost != slow_cost) fail("the trellis with sums of errors depends on the processor");
  checksum.add(fast);
  quantise_uniform_with_rate(input, fast.data());
  checksum.add(fast);
}

}  // namespace

// A payload that was decoded in order.
struct Known {
  Tensor tensor;
  std::vector<uint8_t> data;
  Decoded in_order;
};

// The same payloads, of as many tensors, side by side; what they come to must be the same.
void compare_side_by_side(std::vector<Known>& all, bool portable) {
  struct Opened {
    Known* known;
    std::vector<uint8_t> data, skipped_rows, sets;
    std::vector<int32_t> numbers;
  };
  std::vector<std::unique_ptr<Opened>> opened;
  std::vector<LoneTensor> tensors;
  for (Known& known : all) {
    point_layout(known.tensor);
    TensorLayout& layout = known.tensor.layout;
    auto own = std::make_unique<Opened>();
    own->known = &known, own->data = known.data;
    own->data.resize(known.data.size() + kPadding);
    own->skipped_rows.resize(static_cast<size_t>(layout.n_rows));
    own->sets.resize(static_cast<size_t>(layout.n_contexts()));
    own->numbers.resize(static_cast<size_t>(layout.n_rows * layout.n_columns));
    ArithmeticDecoder decoder;
    decoder.start(own->data.data(), static_cast<int64_t>(known.data.size()));
    Prologue prologue{false, own->skipped_rows.data(), own->sets.data()};
    if (decode_prologue(decoder, layout, prologue) != Status::ok) continue;
    if (!layout.history) layout.use_history = false;
    const Target target{own->numbers.data(), Output::indices, 0};
    tensors.push_back({decoder, &layout, prologue, target, Status::ok});
    opened.push_back(std::move(own));
  }
  decode_side_by_side(tensors.data(), static_cast<int64_t>(tensors.size()), portable);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Decoded& wanted = opened[i]->known->in_order;
    Status status = tensors[i].status;
    if (status == Status::ok) status = decode_end(tensors[i].decoder);
    const bool is_equal = wanted.status != Status::ok || opened[i]->numbers == wanted.numbers;
    if (status != wanted.status || !is_equal) fail("side by side is not what it is in order");
  }
}

int main(int argc, char** argv) {
  const int64_t n_wanted = argc > 1 ? std::atoll(argv[1]) : 10000;
  Source source{std::mt19937_64(argc > 2 ? static_cast<uint64_t>(std::atoll(argv[2])) : 1)};
  std::vector<uint8_t> other = {0x80, 0};
  int64_t n_by_status[9] = {}, n_done = 0;
  Checksum checksum;
  std::vector<Known> known;
  while (n_done < n_wanted) {
    Tensor tensor;
    make_layout(source, tensor);
    make_indices(source, tensor);
    const Coded coded = encode(tensor, source.one_in(2) ? 2 : 1);
    checksum.add(coded.data);
    if (source.one_in(16)) quantise_anything(source, tensor, checksum);
    for (int i = 0; i < 32; ++i, ++n_done) {
      Tensor damaged = tensor;
      point_layout(damaged);
      std::vector<uint8_t> data = coded.data;
      std::vector<EntryPoint> entries = coded.entries;
      if (!source.one_in(8)) damage(source, data, other);
      if (source.one_in(8)) damage_layout(source, damaged);
      const Decoded in_order = decode(data, damaged.layout, nullptr, 1, false);
      const Decoded portable = decode(data, damaged.layout, nullptr, 1, true);
      if (in_order.status != portable.status || in_order.numbers != portable.numbers) fail("the kernels disagree");
      if (data.size() > 1) {
        damage_entries(source, entries, data.size());
        const int n_threads = source.one_in(16) ? 2 : 1;
        const Decoded from_entries = decode(data, damaged.layout, &entries, n_threads, source.one_in(2));
        if (from_entries.status == Status::ok && from_entries.numbers != in_order.numbers)
          fail("entry points accepted");
      }
      checksum.add(in_order.numbers);
      if (in_order.numbers.size() <= 1 << 14) known.push_back({damaged, data, in_order});
      ++n_by_status[static_cast<int>(in_order.status)];
    }
    other = coded.data;
    if (known.size() < 100) continue;
    for (const bool portable : {false, true}) compare_side_by_side(known, portable);
    known.clear();
  }
  std::printf("%lld damaged payloads; by status:", static_cast<long long>(n_done));
  for (const int64_t n : n_by_status) std::printf(" %lld", static_cast<long long>(n));
  std::printf("; checksum %016llx\n", static_cast<unsigned long long>(checksum.sum));
}
