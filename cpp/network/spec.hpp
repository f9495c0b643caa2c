// What a layer object is: cell, sizes, and where each parameter lies in its flat buffer.
#pragma once

#include <string>
#include <vector>

#include "../contract.hpp"

namespace rnnfast {

inline constexpr index automatic = -1;

struct Spec {
  Cell cell;
  index input;
  index hidden;
  index layers;
  bool bias;
  bool batch_first;
  double dropout;
  int directions;
  index projection;  // 0: none
  Nonlinearity nonlinearity;
  Compute compute;
  index recompute = 0;  // steps of a window that BPTT computes again, 0: none, automatic: √T

  const CellTraits& traits() const { return rnnfast::traits(cell); }
  index output() const { return projection ? projection : hidden; }  // P
  index width() const { return directions * output(); }              // of a layer's output
  index layer_input(index layer) const { return layer ? width() : input; }
  Size size(index layer) const { return {layer_input(layer), hidden, output(), nonlinearity}; }
};

struct Parameter {
  std::string name;
  std::vector<index> shape;
  index offset;
};

// PyTorch's names, shapes and order. Throws std::length_error where the sizes overflow.
std::vector<Parameter> parameters(const Spec& spec);
index parameter_count(const Spec& spec);

// The parameters of one layer and direction inside the flat buffer.
template <class Real>
Weights<Real> weights(const Spec& spec, Real* flat, index layer, int direction);

}  // namespace rnnfast
