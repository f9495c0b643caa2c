// Memory of another library's allocator, asked through Python.
#pragma once

#include <pybind11/pybind11.h>

#include "../cpp/bindings/gil.hpp"
#include "machine.hpp"

namespace rnnfast::cuda {

class Borrowed final : public Memory {
 public:
  // take(bytes, stream) → address; give(address)
  Borrowed(pybind11::function take, pybind11::function give)
      : take_(std::move(take)), give_(std::move(give)) {}

  void* take(index bytes, Stream stream) override {
    const WithGil gil;
    return reinterpret_cast<void*>(take_(bytes, stream).template cast<uintptr_t>());
  }
  void give(void* block, Stream) noexcept override {
    if (!Py_IsInitialized()) return;
    const WithGil gil;
    pybind11::error_scope raised;  // what the caller is about to raise
    try {
      give_(reinterpret_cast<uintptr_t>(block));
    } catch (pybind11::error_already_set& error) {
      error.discard_as_unraisable("rnnfast: giving memory back");
    }
  }

 private:
  pybind11::function take_, give_;
};

}  // namespace rnnfast::cuda
