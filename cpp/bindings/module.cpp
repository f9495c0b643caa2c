// The extension module rnnfast._core: a table of contents.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../dispatch/cpu.hpp"
#include "../dispatch/dispatch.hpp"
#include "../threads/team.hpp"
#include "arrays.hpp"
#include "dense.hpp"
#include "layer.hpp"
#include "options.hpp"
#include "probes.hpp"

namespace rnnfast {
namespace {

std::vector<std::string> names_of(const std::vector<InstructionSet>& sets) {
  std::vector<std::string> names;
  for (const auto& set : sets) names.push_back(set.name);
  return names;
}

// Those with kernels of their own for a precision of products, for tests: the others share them.
std::vector<InstructionSet> distinct_sets(const std::string& compute) {
  std::vector<InstructionSet> sets;
  const auto kernels = [&](const InstructionSet& set) {
    return &table<float>(set, compute_named("compute", compute));
  };
  for (const auto& set : instruction_sets())
    if (sets.empty() || kernels(set) != kernels(sets.back())) sets.push_back(set);
  return sets;
}

constexpr const char* get_num_threads_doc =
    R"(Tell how many threads calls use where they do not say.

Returns
-------
num_threads : int
    What `set_num_threads` set, else the environment's RNNFAST_NUM_THREADS, else the number of
    physical cores that the process may use.
)";

constexpr const char* set_num_threads_doc = R"(Set how many threads calls use where they do not say.

It holds for the whole process and all layers; `num_threads` of a call goes before it. Results do
not depend on it, bit for bit.

Parameters
----------
num_threads : int
    From 1 to 1024, also more than there are cores. Small calls use fewer.

Raises
------
TypeError
    If num_threads is no integer.
ValueError
    If it is less than 1 or more than 1024.
)";

}  // namespace

PYBIND11_MODULE(_core, m) {
  current();  // an unknown RNNFAST_ISA fails the import
  default_threads();

  py::class_<PyTape>(m, "Tape")
      .def_property_readonly("dropout_seed", &PyTape::dropout_seed)
      .def_property_readonly("nbytes", &PyTape::bytes);
  py::class_<PyPacked>(m, "Packed");  // NOLINT(bugprone-unused-raii)
  py::class_<PyWeightCache>(m, "WeightCache")
      .def(py::init<>())
      .def_readonly("nbytes", &PyWeightCache::bytes);
  py::class_<PyLayer>(m, "Layer")
      .def(py::init([](const std::string& cell, const std::string& dtype, index input_size,
                       index hidden_size, index num_layers, bool bias, bool batch_first,
                       double dropout, bool bidirectional, index proj_size, bool reset_after,
                       const std::string& nonlinearity, const std::string& compute,
                       index recompute) {
             return make_layer(dtype, make_spec(cell, input_size, hidden_size, num_layers, bias,
                                                batch_first, dropout, bidirectional, proj_size,
                                                reset_after, nonlinearity, compute, recompute));
           }),
           py::arg("cell"), py::arg("dtype"), py::arg("input_size"), py::arg("hidden_size"),
           py::arg("num_layers"), py::arg("bias"), py::arg("batch_first"), py::arg("dropout"),
           py::arg("bidirectional"), py::arg("proj_size"), py::arg("reset_after"),
           py::arg("nonlinearity"), py::arg("compute"), py::arg("recompute"))
      .def("parameters", &PyLayer::parameters)
      .def("forward", &PyLayer::forward, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("lengths"), py::arg("reset"), py::arg("record"), py::arg("seed"),
           py::arg("num_threads"), py::arg("weights"))
      .def("backward", &PyLayer::backward, py::arg("parameters"), py::arg("tape"), py::arg("dy"),
           py::arg("dstate"), py::arg("out"), py::arg("input_gradient"), py::arg("num_threads"))
      .def("step", &PyLayer::step, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("num_threads"), py::arg("packed"))
      .def("pack", &PyLayer::pack, py::arg("parameters"), py::arg("scales"), py::arg("num_threads"))
      .def("use_openmp", &PyLayer::use_openmp, py::arg("parallel"), py::arg("thread_num"),
           py::arg("num_threads"))
      .def("magnitudes", &PyLayer::magnitudes, py::arg("tape"))
      .def("explain", &PyLayer::explain, py::arg("steps"), py::arg("rows"), py::arg("batch"),
           py::arg("tokens"), py::arg("num_threads"));

  m.def("dense_forward", dense_forward, py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("y"), py::arg("num_threads"));
  m.def("dense_input_gradient", dense_input_gradient, py::arg("dy"), py::arg("weight"),
        py::arg("dx"), py::arg("num_threads"));
  m.def("dense_weight_gradient", dense_weight_gradient, py::arg("dy"), py::arg("x"),
        py::arg("dweight"), py::arg("num_threads"));
  m.def("softmax", softmax, py::arg("x"), py::arg("scales"), py::arg("y"), py::arg("norms"),
        py::arg("num_threads"));

  m.def("isa", [] { return current().name; });
  m.def("isas", [] { return names_of(instruction_sets()); });
  m.def(
      "isas_for", [](const std::string& compute) { return names_of(distinct_sets(compute)); },
      py::arg("compute"));
  m.def("use_isa", [](const std::string& name) { use(name); }, py::arg("name"));
  m.def("cpu", cpu_name);
  m.def("compiler", compiler_name);
  m.def("max_threads", [] { return max_threads; });
  m.def("get_num_threads", default_threads, get_num_threads_doc);
  m.def(
      "set_num_threads", [](const py::object& n) { set_default_threads(as_thread_count(n)); },
      py::arg("num_threads"), set_num_threads_doc);
  m.def("activation", activation, py::arg("name"), py::arg("x"));
  m.def("measure_fma_peak", measure_fma_peak, py::arg("dtype"), py::arg("num_threads"),
        py::arg("seconds"));
  m.def("measure_read_bandwidth", measure_read_bandwidth, py::arg("nbytes"), py::arg("num_threads"),
        py::arg("seconds"));
}

}  // namespace rnnfast
