#include "spec.hpp"

#include <stdexcept>

namespace rnnfast {
namespace {

index product(index a, index b) {
  index r;
  if (__builtin_mul_overflow(a, b, &r)) throw std::length_error("the parameters overflow memory");
  return r;
}

index sum(index a, index b) {
  index r;
  if (__builtin_add_overflow(a, b, &r)) throw std::length_error("the parameters overflow memory");
  return r;
}

}  // namespace

std::vector<Parameter> parameters(const Spec& spec) {
  std::vector<Parameter> all;
  index offset = 0;
  const auto add = [&](const std::string& name, std::vector<index> shape) {
    all.push_back({name, shape, offset});
    index count = 1;
    for (index n : shape) count = product(count, n);
    offset = sum(offset, count);
  };
  const index gates = product(spec.traits().gates, spec.hidden);
  product(spec.directions, spec.output());
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int direction = 0; direction < spec.directions; ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction ? "_reverse" : "");
      add("weight_ih" + suffix, {gates, spec.layer_input(layer)});
      add("weight_hh" + suffix, {gates, spec.output()});
      if (spec.bias) {
        add("bias_ih" + suffix, {gates});
        add("bias_hh" + suffix, {gates});
      }
      if (spec.projection) add("weight_hr" + suffix, {spec.projection, spec.hidden});
    }
  product(offset, 8 * 16);  // bytes, with room for padded copies
  return all;
}

index parameter_count(const Spec& spec) {
  const auto all = parameters(spec);
  index count = 1;
  for (index n : all.back().shape) count *= n;
  return all.back().offset + count;
}

}  // namespace rnnfast
