// What a layer object is: cell, sizes, and where each parameter lies in its flat buffer.
#pragma once

#include <string>
#include <vector>

#include "../contract.hpp"

namespace rnnfast {

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
Weights<Real> weights(const Spec& spec, Real* flat, index layer, int direction) {
  const index gates = spec.traits().gates * spec.hidden, out = spec.output();
  const auto count = [&](index l) {
    return gates * (spec.layer_input(l) + out + (spec.bias ? 2 : 0)) +
           spec.projection * spec.hidden;
  };
  Real* p = flat;
  if (layer) p += spec.directions * (count(0) + (layer - 1) * count(1));
  p += direction * count(layer);
  Weights<Real> w{};
  const auto take = [&](index n) { return n ? (p += n) - n : nullptr; };
  w.w_ih = take(gates * spec.layer_input(layer));
  w.w_hh = take(gates * out);
  w.b_ih = take(spec.bias ? gates : 0);
  w.b_hh = take(spec.bias ? gates : 0);
  w.w_hr = take(spec.projection * spec.hidden);
  return w;
}

}  // namespace rnnfast
