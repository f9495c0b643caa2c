// The extension module _emulated: the GPU's engine on the CPU, for tests.
#include "emulator.hpp"
#include "layer.hpp"

PYBIND11_MODULE(_emulated, m) {
  using namespace rnnfast::cuda;
  add_classes<Emulator>(m);
  m.def("seed", [](uint32_t seed) { EmulatedStreams::all().seed(seed); }, pybind11::arg("seed"));
}
