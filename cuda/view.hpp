// Arrays of other libraries that are in a device's memory, read through __cuda_array_interface__
// (https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html) or DLPack.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "../cpp/bindings/arrays.hpp"
#include "dlpack.hpp"
#include "kernels.hpp"
#include "machine.hpp"

namespace rnnfast::cuda {

// bfloat16, as PyTorch and ml_dtypes call it, in __array_interface__ too.
inline constexpr const char* bfloat16_name = "<V2";

// What an object says of its memory.
struct View {
  std::string name;  // "lstm: x", as errors begin
  const void* data = nullptr;
  std::string type;                   // as in __array_interface__: "<f4"
  std::vector<index> shape, strides;  // strides in elements
  std::optional<Stream> stream;       // where it is made ready, and freed
  py::object owner;

  bool is_integer() const { return type == "<i4" || type == "<i8"; }
  bool is_narrow() const { return type == bfloat16_name; }
  Numbers numbers() const {
    if (is_narrow()) return static_cast<const Bfloat16*>(data);
    return static_cast<const float*>(data);
  }
  index count() const {
    index n = 1;
    for (const index axis : shape) n *= axis;
    return n;
  }
  // An array of that shape without memory of its own, for checks that ask no more.
  py::array shadow() const {
    static const int64_t nothing = 0;
    const auto type = is_integer() ? py::dtype::of<int64_t>() : py::dtype::of<float>();
    return py::array(type, shape, std::vector<py::ssize_t>(shape.size(), 0), &nothing, py::none());
  }
  void expect_numbers(const char* or_else = "") const {
    if (!is_narrow()) expect_type("<f4", std::string("float32 or bfloat16") + or_else);
  }
  void expect_type(const char* type_code, const std::string& meaning) const {
    if (type != type_code)
      throw py::value_error(name + " has the type " + type + " on the GPU, expected " + meaning);
  }
};

// Where the elements of an array of rows are; axes that it lacks have length 1.
inline Layout layout_of(const View& view, index first, index second, index width, int axis_of_first,
                        int axis_of_second, int axis_of_width) {
  const auto step = [&](int axis) { return axis < 0 ? 0 : view.strides[axis]; };
  return {first, second, width, {step(axis_of_first), step(axis_of_second), step(axis_of_width)}};
}

namespace views {

inline constexpr const char* interface_name = "__cuda_array_interface__";

inline bool has(py::handle object, const char* attribute) {
  return !PyType_Check(object.ptr()) && py::hasattr(object, attribute);
}

inline Stream as_stream(const std::string& name, const py::object& given) {
  if (py::isinstance<py::int_>(given) && given.cast<py::ssize_t>() > 0) return given.cast<Stream>();
  throw py::value_error(name + " is on stream " + py::repr(given).cast<std::string>() +
                        ", expected 1 (default), 2 (per thread) or a handle");
}

inline std::vector<index> without_gaps(const std::vector<index>& shape) {
  std::vector<index> strides(shape.size());
  index step = 1;
  for (size_t axis = shape.size(); axis-- > 0; step *= shape[axis]) strides[axis] = step;
  return strides;
}

// Bytes of an element of a type like "<f4"; 0 where it is none.
inline index size_of(const std::string& type) {
  return type.size() > 2 ? std::max(0, std::atoi(type.c_str() + 2)) : 0;
}

inline View read_interface(std::string name, const py::dict& d) {
  View view;
  view.name = std::move(name);
  view.type = d["typestr"].cast<std::string>();
  view.shape = d["shape"].cast<std::vector<index>>();
  view.data = reinterpret_cast<const void*>(d["data"].cast<py::tuple>()[0].cast<uintptr_t>());
  if (d.contains("mask") && !d["mask"].is_none())
    throw py::value_error(view.name + " has a mask, expected an array without");
  view.strides = without_gaps(view.shape);
  if (!d.contains("strides") || d["strides"].is_none()) return view;
  const auto bytes = d["strides"].cast<std::vector<index>>();
  const index size = size_of(view.type);
  if (size < 1 || bytes.size() != view.shape.size())
    throw py::value_error(view.name + " has the type " + view.type + " and " +
                          std::to_string(bytes.size()) + " strides for " +
                          std::to_string(view.shape.size()) + " axes");
  for (size_t axis = 0; axis < bytes.size(); ++axis) {
    if (bytes[axis] % size)
      throw py::value_error(view.name + " has strides that are no multiples of its elements");
    view.strides[axis] = bytes[axis] / size;
  }
  return view;
}

inline View of_interface(const std::string& name, py::handle object, const py::object& interface) {
  try {
    View view = read_interface(name, interface);
    view.owner = py::reinterpret_borrow<py::object>(object);
    return view;
  } catch (const py::cast_error&) {
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_LookupError) && !error.matches(PyExc_TypeError)) throw;
  }
  throw py::value_error(name + " has the " + interface_name + " " +
                        py::repr(interface).cast<std::string>() + ", which is none");
}

inline std::string type_of(const dlpack::DataType& t) {
  const std::string size = std::to_string(t.bits / 8);
  if (t.lanes == 1 && t.code == dlpack::floating) return "<f" + size;
  if (t.lanes == 1 && t.code == dlpack::bfloat && t.bits == 16) return bfloat16_name;
  if (t.lanes == 1 && t.code == dlpack::integer) return "<i" + size;
  if (t.lanes == 1 && t.code == dlpack::unsigned_integer) return (t.bits == 8 ? "|u" : "<u") + size;
  if (t.lanes == 1 && t.code == dlpack::boolean) return "|b1";
  return "number " + std::to_string(t.code) + " of DLPack";
}

// Made ready on `stream`.
inline View of_dlpack(std::string name, py::handle object, Stream stream) {
  const py::capsule given = object.attr("__dlpack__")(py::arg("stream") = stream);
  auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(given.ptr(), dlpack::name));
  if (!managed) throw py::error_already_set();
  PyCapsule_SetName(given.ptr(), dlpack::used_name);
  View view;
  view.name = std::move(name);
  view.owner = py::capsule(managed, [](void* p) {
    auto* used = static_cast<dlpack::Managed*>(p);
    if (used->deleter) used->deleter(used);
  });
  const dlpack::Tensor& t = managed->tensor;
  view.data = static_cast<const char*>(t.data) + t.byte_offset;
  view.type = type_of(t.dtype);
  view.shape.assign(t.shape, t.shape + t.ndim);
  view.strides = without_gaps(view.shape);
  if (t.strides) view.strides.assign(t.strides, t.strides + t.ndim);
  return view;
}

// PyTorch's tensors are ready on the stream that is current, and do not say so.
inline std::optional<Stream> stream_of_tensor(py::handle object) {
  const py::dict modules = py::module_::import("sys").attr("modules");
  if (!modules.contains("torch")) return {};
  const py::object torch = modules["torch"];
  if (!py::isinstance(object, torch.attr("Tensor"))) return {};
  const py::object current = torch.attr("cuda").attr("current_stream")(object.attr("device"));
  const auto stream = current.attr("cuda_stream").cast<Stream>();
  return stream ? stream : default_stream;
}

// Whether DLPack tells of an array in a device's memory.
inline bool dlpack_is_there(py::handle object) {
  if (!has(object, "__dlpack_device__")) return false;
  const auto type = object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int32_t>();
  return type == dlpack::cuda_device || type == dlpack::managed_device;
}

// The array interface, which may be dear to ask for; null where there is none.
inline py::object interface_of(py::handle object) {
  if (PyType_Check(object.ptr())) return {};
  return py::getattr(object, interface_name, py::object());
}

// The stream on which an array is made ready, if that can be told.
inline std::optional<Stream> stream_of(const std::string& name, py::handle object,
                                       const py::dict& d) {
  if (d.contains("stream") && !d["stream"].is_none()) return as_stream(name, d["stream"]);
  if (const auto stream = stream_of_tensor(object)) return stream;
  if (has(object, "__dlpack__")) return {};  // which waits for what is not told
  return default_stream;
}

}  // namespace views

// An array in a device's memory, before it is known what uses it.
struct Source {
  std::string name;
  py::object object;
  std::optional<View> view;      // none where DLPack alone tells of it
  std::optional<Stream> stream;  // as View::stream
};

inline bool may_be_there(py::handle object) {
  return object && !object.is_none() && !py::isinstance<py::array>(object);
}
inline bool is_there(py::handle object) {
  return may_be_there(object) && (views::interface_of(object) || views::dlpack_is_there(object));
}

// None if an object is no such array.
inline std::optional<Source> source_of(const std::string& name, py::handle given) {
  if (!may_be_there(given)) return {};
  Source source{name, py::reinterpret_borrow<py::object>(given), {}, {}};
  if (const auto interface = views::interface_of(given)) {
    source.view = views::of_interface(name, given, interface);
    source.stream = views::stream_of(name, given, interface);
    return source;
  }
  if (!views::dlpack_is_there(given)) return {};
  return source;
}

// ValueError unless an array is in the machine's memory.
template <class Machine>
void expect_device(const Source& source) {
  const auto& [name, object, view, stream] = source;
  int device = Machine::device_used;
  if (!view)
    device = object.attr("__dlpack_device__")().cast<py::tuple>()[1].cast<int>();
  else if (view->count())
    device = Machine::device_of(view->data);
  if (device < 0)
    throw py::value_error(name + " says it is on a GPU, but no GPU has memory at its address");
  if (device != Machine::device_used)
    throw py::value_error(name + " is on GPU " + std::to_string(device) + ", expected GPU " +
                          std::to_string(Machine::device_used) + ", the first that CUDA shows");
}

template <class Machine>
Source expect_there(const std::string& name, py::handle object) {
  auto source = source_of(name, object);
  if (!source)
    throw py::value_error(name + " is a " + type_name(object) +
                          " in the CPU's memory, expected an array on the GPU, as x is");
  expect_device<Machine>(*source);
  return *std::move(source);
}

// An array, ready on the stream that the machine uses.
template <class Machine>
View read_view(const Source& source, const Machine& machine) {
  View view;
  if (source.stream) {
    view = *source.view;
    Machine::order(*source.stream, machine.stream());
    view.stream = source.stream;
  } else {
    view = views::of_dlpack(source.name, source.object, machine.stream());
  }
  const index size = views::size_of(view.type);
  if (size && reinterpret_cast<uintptr_t>(view.data) % size)
    throw py::value_error(source.name + " is not aligned to its elements");
  return view;
}
template <class Machine>
View read_view(const std::string& name, py::handle object, const Machine& machine) {
  return read_view(expect_there<Machine>(name, object), machine);
}

// Once all is queued that reads an array: it is freed after that.
template <class Machine>
void leave_view(const View& view, Machine& machine) {
  if (view.stream)
    Machine::order(machine.stream(), *view.stream);
  else
    machine.wait();  // nobody knows where it is freed
}

}  // namespace rnnfast::cuda
