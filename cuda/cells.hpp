// The cells' mathematics for one unit of one sequence. Gates a are those of the input with b_ih, u
// those of the state with b_hh; d + name is a gradient. Formulas: rnnfast.reference.
#pragma once

#include <cmath>

#include "../cpp/cells.hpp"
#include "host_device.hpp"

namespace rnnfast::cuda {

RNNFAST_HD float sigmoid(float a) {
#ifdef __CUDA_ARCH__
  return __fdividef(1.0f, 1.0f + expf(-a));  // within 2 ulp, and 0 for what overflows
#else
  return 1.0f / (1.0f + expf(-a));
#endif
}
RNNFAST_HD float sigmoid_slope(float y) { return y * (1.0f - y); }
RNNFAST_HD float tanh_slope(float y) { return 1.0f - y * y; }

RNNFAST_HD float activate(Nonlinearity kind, float a) {
  switch (kind) {
    case Nonlinearity::tanh: return tanhf(a);
    case Nonlinearity::relu: return a <= 0.0f ? 0.0f : a;
    case Nonlinearity::sigmoid: return sigmoid(a);
    default: return a;
  }
}

RNNFAST_HD float slope(Nonlinearity kind, float y) {
  switch (kind) {
    case Nonlinearity::tanh: return tanh_slope(y);
    case Nonlinearity::relu: return y <= 0.0f ? 0.0f : 1.0f;
    case Nonlinearity::sigmoid: return sigmoid_slope(y);
    default: return 1.0f;
  }
}

// One unit. `gate` are a on entry and the activated gates after `forward`; `kept` is what BPTT
// needs beside gates and states: GRU's W_hn h + b_hn where the reset gate comes after that product,
// and r ∘ h where it comes before.
template <int gates>
struct Unit {
  float gate[gates];
  float kept;
  float h, c;  // before the step; `forward` makes them those after it
};

// Gradients at one unit.
template <int gates>
struct UnitGradient {
  float da[gates], du[gates];
  float
      dh;  // on entry of h after the step, then the part that reaches h before it past the product
  float dc;
};

struct Basic {
  static constexpr int gates = 1;
  static constexpr bool has_cell_state = false, splits = false, state_gates_differ = false;

  RNNFAST_HD static void forward(Nonlinearity kind, Unit<1>& s, const float* u) {
    s.h = s.gate[0] = activate(kind, s.gate[0] + u[0]);
  }

  RNNFAST_HD static void backward(Nonlinearity kind, const Unit<1>& s, UnitGradient<1>& d) {
    d.da[0] = d.dh * slope(kind, s.gate[0]);
    d.dh = 0.0f;
  }
};

// h is o ∘ tanh(c) here; a projection comes after it.
struct Lstm {
  static constexpr int gates = 4;
  static constexpr bool has_cell_state = true, splits = false, state_gates_differ = false;

  RNNFAST_HD static void forward(Nonlinearity, Unit<4>& s, const float* u) {
    const float i = s.gate[0] = sigmoid(s.gate[0] + u[0]);
    const float f = s.gate[1] = sigmoid(s.gate[1] + u[1]);
    const float g = s.gate[2] = tanhf(s.gate[2] + u[2]);
    const float o = s.gate[3] = sigmoid(s.gate[3] + u[3]);
    s.c = f * s.c + i * g;
    s.h = o * tanhf(s.c);
  }

  RNNFAST_HD static void backward(Nonlinearity, const Unit<4>& s, UnitGradient<4>& d) {
    const float i = s.gate[0], f = s.gate[1], g = s.gate[2], o = s.gate[3];
    const float tanh_c = tanhf(f * s.c + i * g);
    const float dc = d.dc + d.dh * o * tanh_slope(tanh_c);
    d.da[0] = dc * g * sigmoid_slope(i);
    d.da[1] = dc * s.c * sigmoid_slope(f);
    d.da[2] = dc * i * tanh_slope(g);
    d.da[3] = d.dh * tanh_c * sigmoid_slope(o);
    d.dc = dc * f;
    d.dh = 0.0f;
  }
};

struct Gru {
  static constexpr int gates = 3;
  static constexpr bool has_cell_state = false, splits = false, state_gates_differ = true;

  RNNFAST_HD static void forward(Nonlinearity, Unit<3>& s, const float* u) {
    const float r = s.gate[0] = sigmoid(s.gate[0] + u[0]);
    const float z = s.gate[1] = sigmoid(s.gate[1] + u[1]);
    s.kept = u[2];
    const float n = s.gate[2] = tanhf(s.gate[2] + r * u[2]);
    s.h = n + z * (s.h - n);
  }

  RNNFAST_HD static void backward(Nonlinearity, const Unit<3>& s, UnitGradient<3>& d) {
    const float r = s.gate[0], z = s.gate[1], n = s.gate[2];
    const float dn = d.dh * (1.0f - z) * tanh_slope(n);
    d.da[0] = d.du[0] = dn * s.kept * sigmoid_slope(r);
    d.da[1] = d.du[1] = d.dh * (s.h - n) * sigmoid_slope(z);
    d.da[2] = dn;
    d.du[2] = dn * r;
    d.dh *= z;
  }
};

// In two parts, as W_hn multiplies r ∘ h.
struct GruResetBefore {
  static constexpr int gates = 3;
  static constexpr bool has_cell_state = false, splits = true, state_gates_differ = false;

  // 1. r, z and r ∘ h
  RNNFAST_HD static void forward_first(Unit<3>& s, const float* u) {
    s.gate[0] = sigmoid(s.gate[0] + u[0]);
    s.gate[1] = sigmoid(s.gate[1] + u[1]);
    s.kept = s.gate[0] * s.h;
  }
  // 2. n and h, from W_hn (r ∘ h) + b_hn
  RNNFAST_HD static void forward_second(Unit<3>& s, float u) {
    const float n = s.gate[2] = tanhf(s.gate[2] + u);
    s.h = n + s.gate[1] * (s.h - n);
  }

  // 2. of n and z
  RNNFAST_HD static void backward_second(const Unit<3>& s, UnitGradient<3>& d) {
    const float z = s.gate[1], n = s.gate[2];
    d.da[1] = d.dh * (s.h - n) * sigmoid_slope(z);
    d.da[2] = d.dh * (1.0f - z) * tanh_slope(n);
    d.dh *= z;
  }
  // 1. of r, from the gradient of r ∘ h; what is returned is added to dh
  RNNFAST_HD static float backward_first(const Unit<3>& s, float drh, float& dr) {
    dr = drh * s.h * sigmoid_slope(s.gate[0]);
    return drh * s.gate[0];
  }
};

}  // namespace rnnfast::cuda
