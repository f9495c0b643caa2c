// The compiled half of a Python layer whose machine is not the CPU, as cpp/bindings/layer.cpp.
#pragma once

#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "../cpp/bindings/options.hpp"
#include "borrowed.hpp"
#include "carried.hpp"
#include "placed.hpp"

namespace rnnfast::cuda {

template <class Machine>
class MachineLayer {
 public:
  MachineLayer(const Spec& spec, bool tf32) : own_(spec, tf32) {}

  py::list parameters() const { return parameter_list(own_.spec); }

  // From now on what calls with arrays of the machine need is in memory from there.
  void use_memory(Borrowed* memory) { own_.memory = memory; }

  // As those of rnnfast._core.Layer.
  py::tuple forward(py::handle parameters, py::handle x, py::handle state, py::handle lengths,
                    py::handle reset, bool record, uint64_t seed, py::handle num_threads,
                    py::handle packed) {
    refuse_threads(num_threads);
    return run({parameters, x, state, lengths, reset, packed, record, seed, false});
  }

  py::tuple step(py::handle parameters, py::handle x, py::handle state, py::handle num_threads,
                 py::handle packed) {
    refuse_threads(num_threads);
    if (own_.spec.directions > 1)
      throw py::value_error(own_.text("step needs a layer that is not bidirectional"));
    const py::none none;
    const auto result = run({parameters, x, state, none, none, packed, false, 0, true});
    return py::make_tuple(result[0], result[1]);
  }

  // The parameters are those of the forward call; the tape has them where they were NumPy arrays.
  py::tuple backward(py::handle parameters, Tape<Machine>& tape, py::handle dy, py::handle dstate,
                     py::handle out, bool input_gradient, py::handle num_threads) {
    refuse_threads(num_threads);
    if (tape.layer != own_.serial)
      throw py::value_error(
          own_.text("tape was recorded by another layer, expected one from this layer's forward"));
    input_gradient = input_gradient && !tape.tokens;
    if (tape.there)
      return Placed<Machine>(own_).backward(parameters, tape, dy, dstate, out, input_gradient);
    return Carried<Machine>(own_).backward(tape, dy, dstate, out, input_gradient);
  }

  Packed pack(py::array parameters, py::handle scales, py::handle num_threads) {
    refuse_threads(num_threads);
    if (!scales.is_none()) throw py::value_error(own_.text("scales are given, expected None"));
    return Carried<Machine>(own_).pack(parameters);
  }

 private:
  void refuse_threads(py::handle num_threads) const {
    if (!num_threads.is_none())
      throw py::value_error(
          own_.text("num_threads is given, expected None where the CPU is not used"));
  }
  py::tuple run(const Call& call) {
    if (const auto x = source_of(own_.text("x"), call.x))
      return Placed<Machine>(own_).forward(call, *x);
    return Carried<Machine>(own_).forward(call);
  }

  Common<Machine> own_;
};

// The classes of a module; `make` turns the options of a Python layer into one of ours.
template <class Machine>
void add_classes(py::module_& m) {
  using Ours = MachineLayer<Machine>;
  py::class_<Tape<Machine>>(m, "Tape")
      .def_readonly("dropout_seed", &Tape<Machine>::dropout_seed)
      .def_readonly("nbytes", &Tape<Machine>::bytes)
      .def_readonly("persistent_kernels", &Tape<Machine>::persistent_kernels);
  // Local: the modules of two machines have them in common.
  py::class_<Packed>(m, "Packed", py::module_local());  // NOLINT(bugprone-unused-raii)
  add_device_array<Machine>(m);
  // Never freed: buffers may outlive all else.
  py::class_<Borrowed, std::unique_ptr<Borrowed, py::nodelete>>(m, "Memory", py::module_local())
      .def(py::init<py::function, py::function>(), py::arg("take"), py::arg("give"));
  py::class_<Ours>(m, "Layer")
      .def(py::init([](const std::string& cell, index input_size, index hidden_size,
                       index num_layers, bool bias, bool batch_first, double dropout,
                       bool bidirectional, index proj_size, bool reset_after,
                       const std::string& nonlinearity, const std::string& compute) {
             const bool tf32 = compute == "tf32";
             return std::make_unique<Ours>(
                 make_spec(cell, input_size, hidden_size, num_layers, bias, batch_first, dropout,
                           bidirectional, proj_size, reset_after, nonlinearity,
                           tf32 ? "float32" : compute, 0),
                 tf32);
           }),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("num_layers"),
           py::arg("bias"), py::arg("batch_first"), py::arg("dropout"), py::arg("bidirectional"),
           py::arg("proj_size"), py::arg("reset_after"), py::arg("nonlinearity"),
           py::arg("compute"))
      .def("parameters", &Ours::parameters)
      .def("use_memory", &Ours::use_memory, py::arg("memory"))
      .def("forward", &Ours::forward, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("lengths"), py::arg("reset"), py::arg("record"), py::arg("seed"),
           py::arg("num_threads"), py::arg("weights"))
      .def("backward", &Ours::backward, py::arg("parameters"), py::arg("tape"), py::arg("dy"),
           py::arg("dstate"), py::arg("out"), py::arg("input_gradient"), py::arg("num_threads"))
      .def("step", &Ours::step, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("num_threads"), py::arg("packed"))
      .def("pack", &Ours::pack, py::arg("parameters"), py::arg("scales"), py::arg("num_threads"));
}

}  // namespace rnnfast::cuda
