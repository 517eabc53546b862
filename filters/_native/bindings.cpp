// The kernels of the filters as a Python module. Nothing is checked here but what memory safety needs; the door is
// filters/plane_windows.py.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <tuple>

#include "samples.hpp"

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

template <class T>
void define(py::module_& m) {
  m.def("read_window", &read<T>, py::arg("luma").noconvert(), py::arg("chroma").noconvert(), py::arg("window"),
        py::arg("scale"), py::arg("flat"), py::arg("portable"));
  m.def("write_window", &write<T>, py::arg("values").noconvert(), py::arg("place"), py::arg("window"),
        py::arg("scale"), py::arg("peak"), py::arg("luma").noconvert(), py::arg("chroma").noconvert(),
        py::arg("portable"));
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "Kernels for pictures; unchecked, see vvc_nnr.filters.plane_windows.";
  define<uint8_t>(m);
  define<uint16_t>(m);
}
