// An array of float32 or bfloat16 in a machine's memory that is handed to Python.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "../cpp/bindings/arrays.hpp"
#include "../cpp/bindings/gil.hpp"
#include "dlpack.hpp"
#include "machine.hpp"
#include "view.hpp"

namespace rnnfast::cuda {

template <class Machine>
class DeviceArray {
 public:
  DeviceArray(Machine& machine, std::vector<index> shape, bool narrow = false)
      : shape_(std::move(shape)), narrow_(narrow), stream_(machine.stream()) {
    memory_ = machine.template make<char>(bytes());
  }

  // Of float32.
  float* data() const { return reinterpret_cast<float*>(memory_.data()); }
  Room room() const {
    if (narrow_) return reinterpret_cast<Bfloat16*>(memory_.data());
    return data();
  }
  py::tuple shape() const { return py::tuple(py::cast(shape_)); }
  index size() const {
    return std::accumulate(shape_.begin(), shape_.end(), index{1}, std::multiplies<>());
  }
  const char* dtype() const { return narrow_ ? "bfloat16" : "float32"; }

  // Version 3.
  py::dict interface() const {
    return py::dict(
        py::arg("shape") = shape(), py::arg("typestr") = narrow_ ? bfloat16_name : "<f4",
        py::arg("data") = py::make_tuple(reinterpret_cast<uintptr_t>(data()), false),
        py::arg("version") = 3, py::arg("strides") = py::none(), py::arg("stream") = stream_);
  }

  static py::tuple dlpack_device(const DeviceArray&) {
    return py::make_tuple(dlpack::cuda_device, Machine::device_used);
  }

  // Ready on `stream`: None for the default one, -1 where that is the caller's matter.
  static py::capsule export_dlpack(py::object self, py::object stream, py::object,
                                   py::object device, py::object copy) {
    const auto& array = self.cast<const DeviceArray&>();
    if (!device.is_none() && !device.equal(dlpack_device(array)))
      refuse("dl_device is " + py::repr(device).cast<std::string>() + ", expected the array's own");
    if (!copy.is_none() && copy.cast<bool>()) refuse("copy is True, expected None or False");
    const auto wanted = stream.is_none() ? intptr_t{1} : stream.cast<intptr_t>();
    if (wanted == 0) refuse("stream is 0, expected 1 (default), 2 (per thread) or a handle");
    if (wanted > 0) {
      const typename Machine::Turn turn;
      Machine::order(array.stream_, static_cast<Stream>(wanted));
    }
    struct Export : dlpack::Managed {
      py::object array;
      std::vector<int64_t> shape;
      Stream user;  // 0: not told, or another one for other threads
      ~Export() {   // the memory is freed after what the user has queued
        if (user) after(array.cast<const DeviceArray&>(), user);
      }
    };
    auto made = std::make_unique<Export>();
    made->array = self;
    made->shape.assign(array.shape_.begin(), array.shape_.end());
    const bool lasts = wanted > 0 && wanted != static_cast<intptr_t>(stream_of_the_thread);
    made->user = lasts ? static_cast<Stream>(wanted) : 0;
    made->tensor = {array.data(),
                    {dlpack::cuda_device, Machine::device_used},
                    static_cast<int32_t>(made->shape.size()),
                    array.narrow_ ? dlpack::DataType{dlpack::bfloat, 16, 1}
                                  : dlpack::DataType{dlpack::floating, 32, 1},
                    made->shape.data(),
                    nullptr,
                    0};
    made->deleter = [](dlpack::Managed* used) {
      if (!Py_IsInitialized()) return;
      const WithGil gil;
      delete static_cast<Export*>(used);
    };
    py::capsule capsule(static_cast<dlpack::Managed*>(made.get()), dlpack::name, [](PyObject* c) {
      if (!PyCapsule_IsValid(c, dlpack::name)) return;  // whoever used it frees it
      auto* left = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(c, dlpack::name));
      left->deleter(left);
    });
    made.release();
    return capsule;
  }

  // Its address, where its memory is another library's, which is to free it.
  uintptr_t release() { return reinterpret_cast<uintptr_t>(memory_.release()); }

  // As float32.
  py::array numpy() const {
    py::array_t<float> copy(shape_);
    auto* to = copy.mutable_data();
    const typename Machine::Turn turn;
    const WithoutGil without_gil;
    if (!size()) return copy;
    if (!narrow_) {
      Machine::read(to, memory_.data(), bytes(), stream_);
    } else {
      std::vector<Bfloat16> read(size());
      Machine::read(read.data(), memory_.data(), bytes(), stream_);
      std::transform(read.begin(), read.end(), to, [](Bfloat16 value) { return to_float(value); });
    }
    return copy;
  }

 private:
  index bytes() const { return size() * (narrow_ ? sizeof(Bfloat16) : sizeof(float)); }
  static void after(const DeviceArray& array, Stream user) {
    try {
      const typename Machine::Turn turn;
      Machine::order(user, array.stream_);
    } catch (const std::exception&) {  // the device has failed, as other calls tell
    }
  }
  [[noreturn]] static void refuse(const std::string& text) {
    throw py::buffer_error("__dlpack__: " + text);
  }

  std::vector<index> shape_;
  bool narrow_;
  Stream stream_;
  Buffer<char> memory_;
};

template <class Machine>
void add_device_array(py::module_& m) {
  using Ours = DeviceArray<Machine>;
  py::class_<Ours>(m, "DeviceArray",
                   "An array of float32 or bfloat16 on the GPU, for CUDA's array interface and "
                   "DLPack.")
      .def_property_readonly("shape", &Ours::shape)
      .def_property_readonly("dtype", &Ours::dtype)
      .def("release", &Ours::release)
      .def_property_readonly("__cuda_array_interface__", &Ours::interface)
      .def("__dlpack_device__", &Ours::dlpack_device)
      .def("__dlpack__", &Ours::export_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none())
      .def(
          "__array__",
          [](const Ours& array, const py::object& dtype, const py::object& copy) {
            if (!copy.is_none() && !copy.cast<bool>())
              throw py::value_error("an array on the GPU is copied, expected copy=None or True");
            py::object there = array.numpy();
            return dtype.is_none() ? there : there.attr("astype")(dtype);
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none());
}

}  // namespace rnnfast::cuda
