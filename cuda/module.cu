// The extension module rnnfast._cuda.
#include "cublaslt.hpp"
#include "device.hpp"
#include "layer.hpp"

namespace {

// Throws unless there is a GPU that the kernels have been compiled for.
void require_device() {
  using rnnfast::cuda::check;
  int count = 0;
  check(cudaGetDeviceCount(&count), "looking for a GPU");
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "looking for a GPU");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "looking at the GPU");
  if (major < 8)
    throw std::runtime_error("cuda: the GPU has compute capability " + std::to_string(major) +
                             ".x, expected 8.0 or newer");
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  rnnfast::cuda::add_classes<rnnfast::cuda::Device>(m);
  m.def("require_device", require_device);
  m.def("add_cublaslt_path", rnnfast::cuda::add_cublaslt_path, pybind11::arg("path"));
}
