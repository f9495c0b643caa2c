// The compiled half of a Python layer: one class for both element types.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "../network/spec.hpp"

namespace rnnfast {

namespace py = pybind11;

// What a training call leaves for backward. Opaque to Python.
class PyTape {
 public:
  virtual ~PyTape() = default;
  virtual py::object dropout_seed() const = 0;
  virtual index bytes() const = 0;
};

// Weights as they were when they were packed.
class PyPacked {
 public:
  virtual ~PyPacked() = default;
};

// What calls keep for the next one that is given it, of whatever layer. Touched under the GIL.
struct PyWeightCache {
  uint64_t layer = 0;
  std::shared_ptr<void> of_layer;  // a WeightCache of the layer's type
  index bytes = 0;
};

class PyLayer {
 public:
  virtual ~PyLayer() = default;
  // [(name, shape, offset)]
  virtual py::list parameters() const = 0;
  // (y, state, tape or None). `weights`: None, a PyWeightCache, which recorded calls empty, or a
  // PyPacked, beside which parameters are not read and may be None.
  virtual py::tuple forward(py::handle parameters, py::handle x, py::handle state,
                            py::handle lengths, py::handle reset, bool record, uint64_t seed,
                            py::handle num_threads, py::handle weights) const = 0;
  // (dx or None, dstate, dparameters: `out`, or new where that is None)
  virtual py::tuple backward(py::array parameters, PyTape& tape, py::handle dy, py::handle dstate,
                             py::handle out, bool input_gradient, py::handle num_threads) const = 0;
  virtual py::tuple step(py::handle parameters, py::handle x, py::handle state,
                         py::handle num_threads, py::handle packed) const = 0;
  // scales: None, or an array (L*D, 3) as magnitudes makes
  virtual std::unique_ptr<PyPacked> pack(py::array parameters, py::handle scales,
                                         py::handle num_threads) const = 0;
  // From now on the runs of calls, not what they share out to be claimed, take place on an OpenMP
  // runtime's threads: the addresses of its GOMP_parallel, omp_get_thread_num, omp_get_num_threads.
  virtual void use_openmp(uintptr_t parallel, uintptr_t thread_num, uintptr_t num_threads) = 0;
  // (L*D, 3): the largest of x, of h and of the second product's input
  virtual py::array magnitudes(PyTape& tape) const = 0;
  // [{name: value}], one for each layer
  virtual py::list explain(index steps, index rows, index batch, bool tokens,
                           py::handle num_threads) const = 0;
};

std::unique_ptr<PyLayer> make_layer(const std::string& dtype, const Spec& spec);

}  // namespace rnnfast
