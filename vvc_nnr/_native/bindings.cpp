// The kernels as a Python module. Nothing is checked here but what memory safety needs; the door is tensor_coding.py.

#include "bin_entropy.hpp"
#include "dependent.hpp"
#include "float_planes.hpp"
#include "python_coders.hpp"
#include "python_rounding.hpp"
#include "rows.hpp"
#include "runs.hpp"
#include "set_choice.hpp"
#include "uniform.hpp"

namespace {

using namespace nnr;

struct BinRecord {
  int status;
  Array<uint8_t> sets;      // the best, by context
  Array<uint64_t> n_bins;   // by context and value of the bin
  Array<double> cost_bits;  // by context and set
  uint64_t n_bypass;
};

// The cheapest estimator set of each context.
Status find_sets(const TensorLayout& layout, const int32_t* indices, const uint8_t* skipped_rows, int n_threads,
                 bool portable, uint8_t* sets) {
  const int n = layout.n_contexts();
  n_threads = static_cast<int>(std::min<int64_t>(n_threads, layout.n_block_rows()));
  std::memset(sets, 0, static_cast<size_t>(n));
  std::vector<std::unique_ptr<Recorder>> owned;
  std::vector<Recorder*> recorders;
  for (int i = 0; i < n_threads; ++i) {
    owned.push_back(std::make_unique<Recorder>(n, portable));
    recorders.push_back(owned.back().get());
  }
  if (!record_tensor(recorders.data(), n_threads, layout, indices, skipped_rows)) return Status::out_of_memory;
  choose_sets(*recorders[0], layout, sets);
  return Status::ok;
}

BinRecord record_bins(const Layout& layout, const Array<int32_t>& indices, const Rows& skipped_rows, int n_threads,
                      bool portable) {
  require(n_threads > 0 && n_threads <= kMaxThreads, "threads");
  n_threads = static_cast<int>(std::min<int64_t>(n_threads, layout.n_block_rows()));
  const int32_t* k = layout.values(indices);
  const uint8_t* rows = layout.rows(skipped_rows);
  const int n = layout.n_contexts();
  BinRecord found{0, Array<uint8_t>(n), Array<uint64_t>({n, 2}), Array<double>({n, kSets}), 0};
  std::memset(found.sets.mutable_data(), 0, static_cast<size_t>(n));
  std::vector<std::unique_ptr<Recorder>> owned;
  std::vector<Recorder*> recorders;
  for (int i = 0; i < n_threads; ++i) {
    owned.push_back(std::make_unique<Recorder>(n, portable));
    recorders.push_back(owned.back().get());
  }
  bool done;
  {
    py::gil_scoped_release release;
    done = record_tensor(recorders.data(), n_threads, layout, k, rows);
  }
  if (!done) return found.status = static_cast<int>(Status::out_of_memory), found;
  const Recorder& recorder = *recorders[0];
  choose_sets(recorder, layout, found.sets.mutable_data());
  for (int i = 0; i < n; ++i) {
    const ContextRecord& record = recorder.record(i);
    *found.n_bins.mutable_data(i, 0) = record.n_bins - record.n_ones;
    *found.n_bins.mutable_data(i, 1) = record.n_ones;
    for (int set = 0; set < kSets; ++set) {
      *found.cost_bits.mutable_data(i, set) = static_cast<double>(record.cost[set]) / (1 << kCostBits);
    }
  }
  found.n_bypass = recorder.n_bypass();
  return found;
}

// A tensor alone in its codeword: payload, entry points, whether rows are skipped and which, estimator sets.
struct LonePayload {
  int status;
  py::bytes data;
  Marks marks;
  bool row_skip;
  Rows rows;
  Array<uint8_t> sets;
};

// Requires no history. `may_skip`: rows of zeros are skipped where there are any. Sets are the cheapest if none are given.
LonePayload encode_lone(const Layout& layout, const Array<int32_t>& indices, uint32_t qp, int n_qp_bits, bool may_skip,
                        const Rows& given_sets, int n_threads, bool portable) {
  require(n_threads > 0 && n_threads <= kMaxThreads, "threads");
  const int32_t* k = layout.values(indices);
  if (given_sets) layout.sets(*given_sets);
  LonePayload found{0, {}, {}, false, {}, given_sets ? *given_sets : Array<uint8_t>(layout.n_contexts())};
  if (may_skip && layout.has_row_skip_flag()) {
    found.rows.emplace(layout.n_rows);
    found.row_skip = find_empty_rows(k, layout.n_rows, layout.n_columns, found.rows->mutable_data()) > 0;
    if (!found.row_skip) found.rows.reset();
  }
  uint8_t* own_sets = given_sets ? nullptr : found.sets.mutable_data();
  TensorChoices choices;
  choices.row_skip = found.row_skip, choices.skipped_rows = found.row_skip ? found.rows->data() : nullptr;
  choices.sets = found.sets.data();
  const int64_t n_block_rows = layout.n_block_rows();
  std::vector<BlockRowMark> marks(static_cast<size_t>(n_block_rows > 1 ? n_block_rows : 0));
  Codeword codeword;
  Status status = Status::ok;
  {
    py::gil_scoped_release release;
    if (own_sets) status = find_sets(layout, k, choices.skipped_rows, n_threads, portable, own_sets);
    if (status == Status::ok && !codeword.reserve(n_qp_bits)) status = Status::out_of_memory;
    if (status == Status::ok) {
      codeword.encoder.encode_bypass(qp, n_qp_bits);
      std::vector<Context> contexts(static_cast<size_t>(layout.n_contexts()));
      status = encode_tensor(codeword, layout, choices, k, contexts.data(), marks.data(), n_threads, portable);
    }
    if (status == Status::ok && !codeword.reserve(8)) status = Status::out_of_memory;
    if (status == Status::ok) codeword.encoder.finish();
  }
  found.status = static_cast<int>(status);
  if (status != Status::ok) return found;
  found.data = py::bytes(reinterpret_cast<const char*>(codeword.buffer.data()), static_cast<size_t>(codeword.n_bytes()));
  for (const BlockRowMark& mark : marks) found.marks.emplace_back(mark.position_bits, mark.low, mark.state);
  return found;
}

using PricedTensor = std::tuple<int, Array<int32_t>, double>;  // status, indices, cost

using SumWeights = std::optional<std::tuple<int64_t, float, float>>;  // taps of a kernel; of kernels and of rows

using QuantisedTensor = std::tuple<int, Array<int32_t>, std::optional<Array<double>>>;  // status, indices, row errors

// Squared errors of rows in squared steps, where quantisation is dependent.
QuantisedTensor quantise(const Layout& layout, const Array<float>& weights, double inverse_step, float bit_weight,
                      const SumWeights& sum_weights, const Rows& zero_rows, bool portable) {
  ErrorSums sums{};
  if (sum_weights) std::tie(sums.n_taps, sums.kernel, sums.row) = *sum_weights;
  require(!sum_weights || (layout.dependent && bit_weight == 0 && sums.n_taps > 0), "sums of errors");
  const QuantiserInput input{layout,     layout.values(weights), inverse_step,
                             bit_weight, layout.rows(zero_rows), nullptr, sum_weights ? &sums : nullptr};
  Array<int32_t> indices({layout.n_rows, layout.n_columns});
  int32_t* out = indices.mutable_data();
  Status status = Status::ok;
  std::optional<Array<double>> row_errors;
  if (layout.dependent) row_errors.emplace(layout.n_rows);
  double* errors = row_errors ? row_errors->mutable_data() : nullptr;
  {
    py::gil_scoped_release release;
    double cost = 0;
    if (layout.dependent) {
      status = quantise_dependent(input, out, errors, cost, portable);
    } else if (bit_weight > 0) {
      status = quantise_uniform_with_rate(input, out);
    } else {
      quantise_uniform(input.weights, layout.n(), static_cast<float>(inverse_step), out, portable);
    }
  }
  return {static_cast<int>(status), indices, row_errors};
}

PricedTensor quantise_by_paths(const Layout& layout, const Array<float>& weights, double inverse_step, float bit_weight,
                               const Rows& zero_rows, const Array<uint8_t>& sets, bool portable) {
  require(layout.dependent && layout.is_plain() && bit_weight > 0, "layout or weight of a bit");
  const QuantiserInput input{layout,     layout.values(weights), inverse_step,
                             bit_weight, layout.rows(zero_rows), layout.sets(sets)};
  Array<int32_t> indices({layout.n_rows, layout.n_columns});
  int32_t* out = indices.mutable_data();
  double cost = 0;
  Status status;
  {
    py::gil_scoped_release release;
    status = quantise_dependent(input, out, nullptr, cost, portable);
  }
  return {static_cast<int>(status), indices, cost};
}

Array<int32_t> to_levels(const Layout& layout, const Array<int32_t>& indices, const Rows& skipped_rows) {
  const int32_t* k = layout.values(indices);
  const uint8_t* rows = layout.rows(skipped_rows);
  Array<int32_t> levels({layout.n_rows, layout.n_columns});
  int32_t* out = levels.mutable_data();
  py::gil_scoped_release release;
  indices_to_levels(layout, k, rows, out);
  return levels;
}

Array<double> row_energies(const Array<float>& rows) {
  require(rows.ndim() == 2, "two dimensions");
  Array<double> sums(rows.shape(0));
  const float* w = rows.data();
  double* out = sums.mutable_data();
  const int64_t n_rows = rows.shape(0), n_columns = rows.shape(1);
  py::gil_scoped_release release;
  sum_row_squares(w, n_rows, n_columns, out);
  return sums;
}

Array<double> row_errors(const Layout& layout, const Array<float>& weights, const Array<int32_t>& indices,
                         const Rows& skipped_rows, float step, float limit) {
  const float* w = layout.values(weights);
  const int32_t* k = layout.values(indices);
  const uint8_t* rows = layout.rows(skipped_rows);
  Array<double> sums(layout.n_rows);
  double* out = sums.mutable_data();
  py::gil_scoped_release release;
  sum_row_errors(layout, w, k, rows, step, limit, out);
  return sums;
}

std::tuple<double, Array<double>, Array<double>> difference_sums(const Array<float>& rows, double shift) {
  require(rows.ndim() == 2, "two dimensions");
  const int64_t n_rows = rows.shape(0), n_columns = rows.shape(1);
  Array<double> row_sums(n_rows), column_sums(n_columns);
  const float* from = rows.data();
  double *by_row = row_sums.mutable_data(), *by_column = column_sums.mutable_data(), squares;
  {
    py::gil_scoped_release release;
    squares = sum_differences(from, n_rows, n_columns, shift, by_row, by_column);
  }
  return {squares, row_sums, column_sums};
}

bool has_gap(const Array<float>& values, int64_t n_sample, int gap_octaves) {
  require(n_sample > 0 && values.size() <= INT64_MAX / (n_sample + 40503), "sample");
  const float* from = values.data();
  const int64_t n = values.size();
  py::gil_scoped_release release;
  return has_exponent_gap(from, n, n_sample, gap_octaves);
}

std::pair<int64_t, Array<uint8_t>> empty_rows(const Layout& layout, const Array<int32_t>& indices) {
  Array<uint8_t> rows(layout.n_rows);
  const int32_t* k = layout.values(indices);
  uint8_t* out = rows.mutable_data();
  const int64_t n = find_empty_rows(k, layout.n_rows, layout.n_columns, out);
  return {n, rows};
}

std::pair<int64_t, Array<uint8_t>> small_rows(const Layout& layout, const Array<float>& weights, float limit) {
  Array<uint8_t> rows(layout.n_rows);
  const int64_t n =
      find_small_rows(layout.values(weights), layout.n_rows, layout.n_columns, limit, rows.mutable_data());
  return {n, rows};
}

// Least and largest value; NaN if one is. Requires one.
std::pair<float, float> extremes_of(const float* values, int64_t n) {
  float low = values[0], high = values[0];
  bool has_nan = false;
  for (int64_t i = 0; i < n; ++i) {
    const float value = values[i];
    has_nan |= value != value;
    low = value < low ? value : low, high = value > high ? value : high;
  }
  if (!has_nan) return {low, high};
  return {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::quiet_NaN()};
}

// The exponent of the coarsest power of two of which all values are whole multiples. None: a value has no level (NaN,
// infinity, negative zero); 0: all are zero.
std::optional<int> grid_exponent(const Array<float>& values) {
  const float* from = values.data();
  const int64_t n = values.size();
  int found = INT32_MAX;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    if (bits == 0) continue;
    const int exponent = static_cast<int>(bits >> 23 & 255);
    if (exponent == 255 || bits == uint32_t{1} << 31) return std::nullopt;
    const uint32_t mantissa = (bits & ((1u << 23) - 1)) | static_cast<uint32_t>(exponent > 0) << 23;
    const int n_zeros = 31 - leading_zeros(mantissa & (~mantissa + 1));
    found = std::min(found, std::max(exponent, 1) - 127 - 23 + n_zeros);
  }
  return found == INT32_MAX ? 0 : found;
}

// Different values in ascending order, the place of each value among them, and how often each comes. Requires no NaN.
std::tuple<Array<float>, Array<int32_t>, Array<int64_t>> distinct(const Array<float>& values) {
  const float* from = values.data();
  const int64_t n = values.size();
  Array<int32_t> places(n);
  int32_t* place = places.mutable_data();
  std::vector<float> members;
  std::vector<int64_t> counts;
  {
    py::gil_scoped_release release;
    members.assign(from, from + n);
    std::sort(members.begin(), members.end());
    members.erase(std::unique(members.begin(), members.end()), members.end());
    counts.assign(members.size(), 0);
    for (int64_t i = 0; i < n; ++i) {
      const auto at = std::lower_bound(members.begin(), members.end(), from[i]) - members.begin();
      place[i] = static_cast<int32_t>(at);
      ++counts[static_cast<size_t>(at)];
    }
  }
  return {Array<float>(static_cast<int64_t>(members.size()), members.data()), places,
          Array<int64_t>(static_cast<int64_t>(counts.size()), counts.data())};
}

// How many runs of four values there are, of one in 16, or in 64 of many, that what they are chooses, and how many of
// these differ.
template <class Word>
std::pair<int64_t, int64_t> chosen_runs(const Array<Word>& values) {
  const Word* from = values.data();
  const int64_t n = values.size();
  std::vector<uint64_t> runs;
  py::gil_scoped_release release;
  find_chosen_runs(from, n, n > 1 << 16 ? 26 : 28, runs);
  return {static_cast<int64_t>(runs.size()), count_different(runs)};
}

// The order of Exp-Golomb codes, up to `most`, that makes the gaps between ascending numbers smallest, and their bits.
std::pair<int, int64_t> best_gap_order(const Array<int64_t>& numbers, int most) {
  require(0 <= most && most < 63, "order");
  const int64_t* from = numbers.data();
  const int64_t n = numbers.size();
  std::pair<int, int64_t> best{0, INT64_MAX};
  for (int order = 0; order <= most; ++order) {
    int64_t n_bits = 0;
    for (int64_t i = 1; i < n; ++i) {
      const auto gap = static_cast<uint64_t>(from[i]) - static_cast<uint64_t>(from[i - 1]) - 1;
      n_bits += 2 * (64 - leading_zeros((gap >> order) + 1)) - 1 + order;
    }
    if (n_bits < best.second) best = {order, n_bits};
  }
  return best;
}

// The exponents of floats less a centre, and the planes of what is left, behind some bytes.
template <class Word>
std::pair<Array<int32_t>, py::bytes> split_floats_of(const Array<Word>& values, int mantissa_bits, int n_dropped,
                                                     int centre, const std::string& head) {
  const int n_bits = 8 * static_cast<int>(sizeof(Word));
  require(0 < mantissa_bits && mantissa_bits < n_bits - 1 && mantissa_bits - n_dropped + 1 < n_bits, "mantissa bits");
  require(0 <= n_dropped && n_dropped <= mantissa_bits, "dropped bits");
  const int64_t n = values.size(), n_kept = mantissa_bits - n_dropped + 1;
  Array<int32_t> exponents(n);
  py::bytes planes(nullptr, head.size() + static_cast<size_t>(n_kept / 8 * n + n_kept % 8 * ((n + 7) / 8)));
  const Word* from = values.data();
  int32_t* out = exponents.mutable_data();
  auto* bytes = reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(planes.ptr()));
  {
    py::gil_scoped_release release;
    std::copy(head.begin(), head.end(), bytes);
    split_floats(from, n, {mantissa_bits, n_dropped, centre}, out, bytes + head.size());
  }
  return {exponents, planes};
}

// The inverse; false if an exponent is out of range.
template <class Word>
bool join_floats_of(const Array<int32_t>& exponents, const Array<uint8_t>& planes, int mantissa_bits, int n_dropped,
                    int centre, bool skips_zeros, Array<Word> values) {
  const int n_bits = 8 * static_cast<int>(sizeof(Word));
  require(0 < mantissa_bits && mantissa_bits < n_bits - 1 && mantissa_bits - n_dropped + 1 < n_bits, "mantissa bits");
  require(0 <= n_dropped && n_dropped <= mantissa_bits && 0 <= centre && centre < 1 << 16, "dropped bits or centre");
  const int64_t n = exponents.size(), n_kept = mantissa_bits - n_dropped + 1;
  require(values.size() == n && planes.size() == n_kept / 8 * n + n_kept % 8 * ((n + 7) / 8), "sizes");
  const int32_t* from = exponents.data();
  const uint8_t* bytes = planes.data();
  Word* out = values.mutable_data();
  py::gil_scoped_release release;
  return join_floats(from, n, {mantissa_bits, n_dropped, centre}, skips_zeros, bytes, out);
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  choose_instructions();
  m.doc() = "Kernels for coded tensors; unchecked, see vvc_nnr.kernels.entropy_coding.";
  py::class_<Layout>(m, "Layout")
      .def(py::init(&make_layout), py::arg("n_rows"), py::arg("n_columns"), py::arg("unary_length"),
           py::arg("block_side"), py::arg("dependent"), py::arg("row_skip_allowed"), py::arg("parent_present"),
           py::arg("codebook").none(true), py::arg("base").none(true), py::arg("history").none(true),
           py::arg("use_history"))
      .def_property_readonly("n_contexts", &Layout::n_contexts)
      .def_property_readonly("n_block_rows", &Layout::n_block_rows)
      .def_property_readonly("has_row_skip_flag", &Layout::has_row_skip_flag)
      .def_property_readonly("is_coded", &Layout::is_coded);
  py::class_<Encoder>(m, "Encoder")
      .def(py::init<>())
      .def("put_bits", &Encoder::put_bits)
      .def("encode", &Encoder::encode)
      .def("finish", &Encoder::finish)
      .def("state", &Encoder::state)
      .def("contexts", &Encoder::contexts);
  py::class_<Decoder>(m, "Decoder")
      .def(py::init<py::bytes>())
      .def("get_bits", &Decoder::get_bits)
      .def("decode_prologue", &Decoder::decode_prologue)
      .def("decode_values", &Decoder::decode_values)
      .def("finish", &Decoder::finish)
      .def("state", &Decoder::state)
      .def("contexts", &Decoder::contexts);
  m.def("decode_together", &decode_together);
  py::class_<BinRecord>(m, "BinRecord")
      .def_readonly("status", &BinRecord::status)
      .def_readonly("sets", &BinRecord::sets)
      .def_readonly("n_bins", &BinRecord::n_bins)
      .def_readonly("cost_bits", &BinRecord::cost_bits)
      .def_readonly("n_bypass", &BinRecord::n_bypass);
  py::class_<LonePayload>(m, "LonePayload")
      .def_readonly("status", &LonePayload::status)
      .def_readonly("data", &LonePayload::data)
      .def_readonly("marks", &LonePayload::marks)
      .def_readonly("row_skip", &LonePayload::row_skip)
      .def_readonly("rows", &LonePayload::rows)
      .def_readonly("sets", &LonePayload::sets);
  m.def("encode_lone", &encode_lone);
  m.def("record_bins", &record_bins);
  m.def("quantise", &quantise);
  m.def("quantise_by_paths", &quantise_by_paths);
  m.def("to_levels", &to_levels);
  m.def("row_energies", &row_energies);
  m.def("row_errors", &row_errors);
  m.def("difference_sums", &difference_sums);
  m.def("has_exponent_gap", &has_gap);
  m.def("empty_rows", &empty_rows);
  m.def("small_rows", &small_rows);
  m.def("round_with_feedback", &round_with_feedback);
  m.def("best_unary_length", [](const Array<int32_t>& indices, int default_length, int64_t n_tiny) {
    return best_unary_length(indices.data(), indices.size(), default_length, n_tiny);
  });
  m.def("integer_bits", [](const Array<int32_t>& integers) { return integer_bits(integers.data(), integers.size()); });
  m.def("extremes", [](const Array<float>& values) {
    const auto [low, high] = extremes_of(values.data(), values.size());
    return std::pair<float, float>(low, high);
  });
  m.def("extremes", [](const Array<int32_t>& values) {
    require(values.size() > 0, "a value");
    const auto [low, high] = std::minmax_element(values.data(), values.data() + values.size());
    return std::pair<int32_t, int32_t>(*low, *high);
  });
  m.def("grid_exponent", &grid_exponent);
  m.def("distinct", &distinct);
  m.def("best_gap_order", &best_gap_order);
  m.def("chosen_runs", &chosen_runs<uint8_t>);
  m.def("chosen_runs", &chosen_runs<uint16_t>);
  m.def("chosen_runs", &chosen_runs<uint32_t>);
  m.def("chosen_runs", &chosen_runs<uint64_t>);
  m.def("split_floats", &split_floats_of<uint8_t>);
  m.def("split_floats", &split_floats_of<uint16_t>);
  m.def("split_floats", &split_floats_of<uint32_t>);
  m.def("split_floats", &split_floats_of<uint64_t>);
  m.def("join_floats", &join_floats_of<uint8_t>);
  m.def("join_floats", &join_floats_of<uint16_t>);
  m.def("join_floats", &join_floats_of<uint32_t>);
  m.def("join_floats", &join_floats_of<uint64_t>);
}
