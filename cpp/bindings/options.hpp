// From the options of a Python layer to its Spec.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "../network/spec.hpp"

namespace rnnfast {

namespace py = pybind11;

Compute compute_named(const char* argument, const std::string& name);
Spec make_spec(const std::string& cell, index input_size, index hidden_size, index num_layers,
               bool bias, bool batch_first, double dropout, bool bidirectional, index proj_size,
               bool reset_after, const std::string& nonlinearity, const std::string& compute,
               index recompute);

// [(name, shape, offset)]
py::list parameter_list(const Spec& spec);

}  // namespace rnnfast
