// The extension module rnnfast._cuda.
#include "cublaslt.hpp"
#include "device.hpp"
#include "layer.hpp"

namespace {

// Throws unless there is a GPU that the kernels have been compiled for.
void require_device() {
  using namespace rnnfast::cuda;
  const Device::Turn turn;
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, each<Transpose>), "looking for kernels for this GPU");
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  rnnfast::cuda::add_classes<rnnfast::cuda::Device>(m);
  m.def("require_device", require_device);
  m.def("add_cublaslt_folder", rnnfast::cuda::add_cublaslt_folder, pybind11::arg("folder"));
}
