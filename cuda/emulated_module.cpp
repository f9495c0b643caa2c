// The extension module _emulated: the GPU's engine on the CPU, for tests.
#include "emulator.hpp"
#include "layer.hpp"

PYBIND11_MODULE(_emulated, m) { rnnfast::cuda::add_classes<rnnfast::cuda::Emulator>(m); }
