#include "spec.hpp"

#include <algorithm>
#include <initializer_list>
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

using Shape = std::initializer_list<index>;

index count_of(Shape shape) {
  index count = 1;
  for (index n : shape) count = product(count, n);
  return count;
}

// Calls visit(name, member of Weights, shape) for the parameters of a layer and direction, in the
// order in which they lie.
template <class Real, class Visit>
void for_each_part(const Spec& spec, index layer, Visit visit) {
  using W = Weights<Real>;
  const index gates = product(spec.traits().gates, spec.hidden);
  visit("weight_ih", &W::w_ih, Shape{gates, spec.layer_input(layer)});
  visit("weight_hh", &W::w_hh, Shape{gates, spec.output()});
  if (spec.bias) visit("bias_ih", &W::b_ih, Shape{gates});
  if (spec.bias) visit("bias_hh", &W::b_hh, Shape{gates});
  if (spec.projection) visit("weight_hr", &W::w_hr, Shape{spec.projection, spec.hidden});
}

// Where the parameters of a layer and direction begin: those of all layers but the first are alike.
index offset_of(const Spec& spec, index layer, index direction) {
  const auto count = [&](index l) {
    index all = 0;
    for_each_part<float>(spec, l,
                         [&](const char*, auto, Shape shape) { all = sum(all, count_of(shape)); });
    return all;
  };
  const index before = layer * spec.directions + direction,
              first = std::min<index>(before, spec.directions);
  return sum(product(first, count(0)), product(before - first, count(1)));
}

}  // namespace

std::vector<Parameter> parameters(const Spec& spec) {
  parameter_count(spec);  // throws
  std::vector<Parameter> all;
  index offset = 0;
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int direction = 0; direction < spec.directions; ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction ? "_reverse" : "");
      for_each_part<float>(spec, layer, [&](const char* name, auto, Shape shape) {
        all.push_back({name + suffix, shape, offset});
        offset += count_of(shape);
      });
    }
  return all;
}

index parameter_count(const Spec& spec) {
  product(spec.directions, spec.output());
  const index count = offset_of(spec, spec.layers, 0);
  product(count, index{8} * 16);  // bytes, with room for padded copies
  return count;
}

template <class Real>
Weights<Real> weights(const Spec& spec, Real* flat, index layer, int direction) {
  Weights<Real> w{};
  flat += offset_of(spec, layer, direction);
  for_each_part<Real>(spec, layer, [&](const char*, auto part, Shape shape) {
    w.*part = flat;
    flat += count_of(shape);
  });
  return w;
}

#define RNNFAST_INSTANTIATE(Real) template Weights<Real> weights(const Spec&, Real*, index, int);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)
RNNFAST_INSTANTIATE(const float)
RNNFAST_INSTANTIATE(const double)
RNNFAST_INSTANTIATE(const char)  // for what only asks where they are

}  // namespace rnnfast
