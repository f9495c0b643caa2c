#include "options.hpp"

#include <pybind11/stl.h>

#include <initializer_list>
#include <utility>

namespace rnnfast {
namespace {

// The element of `all`, pairs of a name and a value, that has the given name.
template <class Value>
Value value_named(const char* argument, const std::string& name,
                  std::initializer_list<std::pair<const char*, Value>> all) {
  std::string known;
  for (const auto& [key, value] : all) {
    if (name == key) return value;
    known.append(known.empty() ? "'" : ", '").append(key).append("'");
  }
  throw py::value_error(std::string(argument) + " is '" + name + "', expected one of " + known);
}

Cell choose_cell(const std::string& name, bool projects, bool reset_after) {
  const Cell cell = value_named<Cell>("cell", name,
                                      {{"rnn", Cell::basic},
                                       {"lstm", projects ? Cell::lstm_projected : Cell::lstm},
                                       {"gru", reset_after ? Cell::gru : Cell::gru_reset_before}});
  if (projects && !traits(cell).projects)
    throw py::value_error(name + ": proj_size is for the LSTM alone, expected 0");
  return cell;
}

}  // namespace

Compute compute_named(const char* argument, const std::string& name) {
  return value_named<Compute>(
      argument, name,
      {{"float32", Compute::native}, {"bfloat16", Compute::bfloat16}, {"int8", Compute::int8}});
}

Spec make_spec(const std::string& cell, index input_size, index hidden_size, index num_layers,
               bool bias, bool batch_first, double dropout, bool bidirectional, index proj_size,
               bool reset_after, const std::string& nonlinearity, const std::string& compute,
               index recompute) {
  return {
      .cell = choose_cell(cell, proj_size != 0, reset_after),
      .input = input_size,
      .hidden = hidden_size,
      .layers = num_layers,
      .bias = bias,
      .batch_first = batch_first,
      .dropout = dropout,
      .directions = bidirectional ? 2 : 1,
      .projection = proj_size,
      .nonlinearity = value_named<Nonlinearity>("nonlinearity", nonlinearity,
                                                {{"tanh", Nonlinearity::tanh},
                                                 {"relu", Nonlinearity::relu},
                                                 {"sigmoid", Nonlinearity::sigmoid},
                                                 {"identity", Nonlinearity::identity}}),
      .compute = compute_named("compute", compute),
      .recompute = recompute,
  };
}

py::list parameter_list(const Spec& spec) {
  py::list all;
  for (const Parameter& p : parameters(spec))
    all.append(py::make_tuple(p.name, py::tuple(py::cast(p.shape)), p.offset));
  return all;
}

}  // namespace rnnfast
