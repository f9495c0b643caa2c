#include "spec.hpp"

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

}  // namespace

std::vector<Parameter> parameters(const Spec& spec) {
  std::vector<Parameter> all;
  index offset = 0;
  product(spec.directions, spec.output());
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int direction = 0; direction < spec.directions; ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction ? "_reverse" : "");
      for_each_part<float>(spec, layer, [&](const char* name, auto, Shape shape) {
        all.push_back({name + suffix, shape, offset});
        offset = sum(offset, count_of(shape));
      });
    }
  product(offset, index{8} * 16);  // bytes, with room for padded copies
  return all;
}

index parameter_count(const Spec& spec) {
  const auto all = parameters(spec);
  index count = 1;
  for (index n : all.back().shape) count *= n;
  return all.back().offset + count;
}

template <class Real>
Weights<Real> weights(const Spec& spec, Real* flat, index layer, int direction) {
  Weights<Real> w{};
  for (index l = 0; l <= layer; ++l)
    for (int d = 0; d < (l < layer ? spec.directions : direction + 1); ++d) {
      w = {};
      for_each_part<Real>(spec, l, [&](const char*, auto part, Shape shape) {
        w.*part = flat;
        flat += count_of(shape);
      });
    }
  return w;
}

#define RNNFAST_INSTANTIATE(Real) template Weights<Real> weights(const Spec&, Real*, index, int);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)
RNNFAST_INSTANTIATE(const float)
RNNFAST_INSTANTIATE(const double)
RNNFAST_INSTANTIATE(const char)  // for what only asks where they are

}  // namespace rnnfast
