// The kernels of the filters as a Python module. Nothing is checked here but what memory safety needs; the doors are
// filters/inference/tiles.py, filters/inference/native.py and filters/decisions/wiener.py.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "line_filter.hpp"
#include "samples.hpp"
#include "wiener.hpp"

namespace {

namespace py = pybind11;
using namespace filters;

template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Chroma = std::optional<std::pair<Array<T>, Array<T>>>;
using Rectangle = std::tuple<int64_t, int64_t, int64_t, int64_t>;

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

template <class T, class Data>
Plane<T> plane_of(Data* data, const Array<std::remove_const_t<T>>& array) {
  require(array.ndim() == 2 && array.size() > 0, "a plane of two dimensions");
  return {data, array.shape(0), array.shape(1)};
}

template <class T>
void require_chroma(const Array<T>& luma, const Chroma<T>& chroma) {
  if (!chroma) return;
  for (const auto* plane : {&chroma->first, &chroma->second}) {
    require(plane->ndim() == 2 && plane->shape(0) == (luma.shape(0) + 1) / 2 &&
                plane->shape(1) == (luma.shape(1) + 1) / 2,
            "chroma of half size");
  }
}

template <class T>
Picture<const T> input_picture(const Array<T>& luma, const Chroma<T>& chroma) {
  Picture<const T> picture{plane_of<const T>(luma.data(), luma), {}, {}};
  require_chroma(luma, chroma);
  if (chroma) {
    picture.cb = plane_of<const T>(chroma->first.data(), chroma->first);
    picture.cr = plane_of<const T>(chroma->second.data(), chroma->second);
  }
  return picture;
}

template <class T>
Picture<T> output_picture(Array<T>& luma, Chroma<T>& chroma) {
  Picture<T> picture{plane_of<T>(luma.mutable_data(), luma), {}, {}};
  require_chroma(luma, chroma);
  if (chroma) {
    picture.cb = plane_of<T>(chroma->first.mutable_data(), chroma->first);
    picture.cr = plane_of<T>(chroma->second.mutable_data(), chroma->second);
  }
  return picture;
}

template <class T>
Window window_of(const Rectangle& rectangle, const Picture<T>& picture) {
  const auto [top, left, height, width] = rectangle;
  const int64_t rows = (picture.luma.height + 1) / 2, columns = (picture.luma.width + 1) / 2;
  require(top >= 0 && left >= 0 && height > 0 && width > 0 && height <= rows - top && width <= columns - left,
          "a window inside the picture");
  return {top, left, height, width};
}

template <class T>
Array<float> read(const Array<T>& luma, const Chroma<T>& chroma, const Rectangle& rectangle, float scale, float flat,
                  bool portable) {
  const auto picture = input_picture(luma, chroma);
  const auto window = window_of(rectangle, picture);
  Array<float> out({int64_t{6}, window.height, window.width});
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  (!portable && nnr::has_avx2() ? read_window_avx2<T> : read_window<T>)(picture, window, scale, flat, data);
  return out;
}

template <class T>
bool write(const Array<float>& values, std::pair<int64_t, int64_t> place, const Rectangle& rectangle, float scale,
           float peak, Array<T>& luma, Chroma<T>& chroma, bool portable) {
  const auto picture = output_picture(luma, chroma);
  const auto window = window_of(rectangle, picture);
  require(values.ndim() == 3 && values.shape(0) == 6, "six planes of values");
  const Values from{values.data(), values.shape(1), values.shape(2), place.first, place.second};
  require(from.top >= 0 && from.left >= 0 && window.height <= from.height - from.top &&
              window.width <= from.width - from.left,
          "values for the whole window");
  py::gil_scoped_release release;
  return (!portable && nnr::has_avx2() ? write_window_avx2<T> : write_window<T>)(from, window, scale, peak, picture);
}

// Kind, rows down, columns to the right.
using TermNumbers = std::tuple<int32_t, int64_t, int64_t>;

std::vector<Term> terms_of(const std::vector<TermNumbers>& numbers) {
  std::vector<Term> terms;
  for (const auto& [kind, dy, dx] : numbers) {
    require(kind >= 0 && kind <= static_cast<int32_t>(TermKind::kDecoded), "a kind of term");
    for (const int64_t d : {dy, dx}) require(d >= -kWienerPad && d <= kWienerPad, "terms nearby");
    terms.push_back({static_cast<TermKind>(kind), dy, dx});
  }
  return terms;
}

template <class T>
void require_blocks(const Plane<const T>& plane, const py::array& blocks) {
  require(blocks.ndim() == 2 && blocks.shape(0) == (plane.height + kBlock - 1) / kBlock &&
              blocks.shape(1) == (plane.width + kBlock - 1) / kBlock,
          "a map of the plane's blocks");
}

template <class T>
Array<T> wiener(const Array<T>& filtered, const Array<T>& decoded, const Array<uint8_t>& sets,
                const Array<int16_t>& coefficients, const std::vector<TermNumbers>& term_numbers, int32_t clip,
                int32_t shift, int32_t peak, bool portable) {
  const auto f = plane_of<const T>(filtered.data(), filtered);
  const auto d = plane_of<const T>(decoded.data(), decoded);
  require(f.height == d.height && f.width == d.width, "planes of one size");
  require_blocks(f, sets);
  const auto terms = terms_of(term_numbers);
  require(coefficients.ndim() == 2 && coefficients.shape(1) == static_cast<int64_t>(terms.size()), "coefficients");
  require(*std::max_element(sets.data(), sets.data() + sets.size()) < coefficients.shape(0), "sets that are there");
  require(shift > 0 && shift < 16 && clip >= 0 && clip <= 65535 && peak > 0 && peak <= std::numeric_limits<T>::max(),
          "numbers in range");
  Array<T> out({f.height, f.width});
  const Plane<T> to{out.mutable_data(), f.height, f.width};
  const WienerSets numbers{terms, coefficients.data(), sets.data(), clip, shift, peak};
  py::gil_scoped_release release;
  const PaddedPlane padded_f(f), padded_d(d);
  (!portable && nnr::has_avx2() ? wiener_filter_avx2<T> : wiener_filter<T>)(padded_f, padded_d, numbers, to);
  return out;
}

template <class T>
Array<int32_t> activity(const Array<T>& samples) {
  const auto plane = plane_of<const T>(samples.data(), samples);
  Array<int32_t> out({(plane.height + kBlock - 1) / kBlock, (plane.width + kBlock - 1) / kBlock});
  int32_t* sums = out.mutable_data();
  std::fill_n(sums, out.size(), 0);
  py::gil_scoped_release release;
  block_activity(PaddedPlane(plane), plane.height, plane.width, sums);
  return out;
}

template <class T>
void define(py::module_& m) {
  m.def("read_window", &read<T>, py::arg("luma").noconvert(), py::arg("chroma").noconvert(), py::arg("window"),
        py::arg("scale"), py::arg("flat"), py::arg("portable"));
  m.def("write_window", &write<T>, py::arg("values").noconvert(), py::arg("place"), py::arg("window"),
        py::arg("scale"), py::arg("peak"), py::arg("luma").noconvert(), py::arg("chroma").noconvert(),
        py::arg("portable"));
  m.def("wiener", &wiener<T>, py::arg("filtered").noconvert(), py::arg("decoded").noconvert(),
        py::arg("sets").noconvert(), py::arg("coefficients").noconvert(), py::arg("terms"), py::arg("clip"),
        py::arg("shift"), py::arg("peak"), py::arg("portable"));
  m.def("block_activity", &activity<T>, py::arg("samples").noconvert());
}

// Groups of input channels, output channels, weights, what stands for 0 in the input (none: 0).
using Layer = std::tuple<int64_t, int64_t, Array<int32_t>, std::optional<Array<uint8_t>>>;

// A network whose arrays live as long as it.
class IntegerFilter {
 public:
  IntegerFilter(int64_t n_channels, int64_t n_blocks, bool has_qp_plane, std::vector<Layer> layers)
      : arrays_(std::move(layers)), network_{n_channels, n_blocks, has_qp_plane, {}} {
    require(n_channels > 0 && n_channels % kTile == 0 && n_channels <= 4096 && n_blocks > 0 && n_blocks <= 256 &&
                static_cast<int64_t>(arrays_.size()) == 2 * n_blocks + 3,
            "a network's shape");
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const auto& [n_groups, n_out, weights, zero] = arrays_[i];
      require(n_groups == (i == 0 ? 3 + has_qp_plane : n_channels / 4), "groups of inputs");
      require(n_out == (i + 1 == arrays_.size() ? 6 : n_channels), "outputs");
      require(weights.size() == (n_out + kTile - 1) / kTile * kTile * n_groups * 9, "weights");
      require(!zero || zero->size() == 4 * n_groups, "zeros");
      auto wide = i == 0 ? std::vector<int64_t>() : widened(weights.data(), weights.size());
      network_.layers.push_back({n_groups, n_out, weights.data(), std::move(wide), zero ? zero->data() : nullptr});
    }
  }

  Array<float> run(const Array<float>& planes, const std::vector<Array<float>>& numbers, float qp_level,
                   bool portable) const {
    require(planes.ndim() == 3 && planes.shape(0) == 6 && planes.size() > 0, "six planes");
    require(numbers.size() == network_.layers.size(), "numbers of each layer");
    std::vector<LayerNumbers> pointers;
    for (size_t i = 0; i < numbers.size(); ++i) {
      const int64_t n = network_.layers[i].n_out;
      require(numbers[i].ndim() == 2 && numbers[i].shape(0) == 4 && numbers[i].shape(1) == n, "four rows of numbers");
      const float* data = numbers[i].data();
      pointers.push_back({data, data + n, data + 2 * n, data + 3 * n});
    }
    Array<float> out({int64_t{6}, planes.shape(1), planes.shape(2)});
    const auto instructions = portable ? Instructions::portable : best_instructions();
    LineFilter filter(network_, pointers, qp_level, planes.shape(1), planes.shape(2), instructions);
    const float* from = planes.data();
    float* to = out.mutable_data();
    bool done;
    {
      py::gil_scoped_release release;
      done = filter.run(from, to);
    }
    if (!done) throw std::bad_alloc();
    return out;
  }

 private:
  std::vector<Layer> arrays_;
  Network network_;
};

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  nnr::choose_instructions();
  m.doc() = "Kernels for pictures; unchecked, see vvc_nnr.filters: plane_windows, integer, wiener.";
  define<uint8_t>(m);
  define<uint16_t>(m);
  m.def("integer_instructions", [] {
    constexpr std::array kNames{"portable", "AVX2", "AVX-512 VNNI"};  // in the order of Instructions
    return kNames[static_cast<size_t>(best_instructions())];
  });
  py::class_<IntegerFilter>(m, "IntegerFilter")
      .def(py::init<int64_t, int64_t, bool, std::vector<Layer>>(), py::arg("n_channels"), py::arg("n_blocks"),
           py::arg("has_qp_plane"), py::arg("layers"))
      .def("run", &IntegerFilter::run, py::arg("planes").noconvert(), py::arg("numbers"), py::arg("qp_level"),
           py::arg("portable"));
}
