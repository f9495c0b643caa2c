// The basic (Elman) cell.
//   forward   h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
//   backward  da = dh ∘ φ'(a), with φ' written in terms of h_t
#pragma once

#include "../activations.hpp"
#include "../backward.hpp"
#include "../forward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Real>
inline Vec<Real> apply(Nonlinearity f, Vec<Real> a) {
  switch (f) {
    case Nonlinearity::tanh: return tanh<Real>(a);
    case Nonlinearity::relu: return a < Real{0} ? Vec<Real>{} : a;
    case Nonlinearity::sigmoid: return sigmoid<Real>(a);
    default: return a;
  }
}

// φ'(a) · dh from h = φ(a).
template <class Real>
inline Vec<Real> times_slope(Nonlinearity f, Vec<Real> h, Vec<Real> dh) {
  switch (f) {
    case Nonlinearity::tanh: return dh * (Real{1} - h * h);
    case Nonlinearity::relu: return h <= Real{0} ? Vec<Real>{} : dh;
    case Nonlinearity::sigmoid: return dh * h * (Real{1} - h);
    default: return dh;
  }
}

template <class F>
struct BasicPhase {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout = one_gate_layout(0);
  static constexpr Slots x = all_blocks, h = all_blocks;
  static constexpr bool second = false;

  static long units(const Size& s) { return s.hidden; }
  static long depth(const Size& s) { return s.output; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hh; }
  static const Real* bias(const Weights<const Real>& w) { return w.b_hh; }

  static void expect(const Forward<Real>& f, const Place<Real>& at) {
    expect_output(f, at, layout.unit<Real>(at.panel, 0),
                  layout.vectors_of<Real>(at.panel, f.size.hidden));
  }

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    const int vectors = layout.vectors_of<Real>(at.panel, f.size.hidden);
    for (int m = 0; m < at.rows; ++m, acc += layout.width<Real>()) {
      const long unit = layout.unit<Real>(at.panel, 0);
      for (long v = 0; v < vectors * lanes<Real>; v += lanes<Real>)
        store_first(f.y.at(at.t, at.b + m) + unit + v,
                    apply<Real>(f.size.nonlinearity, load(acc + v)), f.size.hidden - unit - v);
    }
  }
};

template <class F>
struct Basic {
  using Format = F;
  using Real = F::Real;
  using First = BasicPhase<F>;
  static constexpr bool two_phases = false;
  static constexpr bool keeps_between = false;
  static constexpr bool carries = false;
  static constexpr Slots dx = all_blocks, dh = all_blocks;

  static void derive(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    const int vectors = First::layout.template vectors_of<Real>(at.panel, g.size.hidden);
    constexpr long width = First::layout.template width<Real>();
    for (int m = 0; m < at.rows; ++m, acc += width) {
      const long unit = First::layout.template unit<Real>(at.panel, 0);
      const Real* h = g.y.at(at.t, at.b + m) + unit;
      auto* da = elements<F>(g.gates) + (at.panel * g.time.taped() + at.tape_row + m) * width;
      for (int v = 0; v < vectors; ++v)
        F::put(da + v * lanes<Real>,
               times_slope<Real>(
                   g.size.nonlinearity,
                   load_first(h + v * lanes<Real>, g.size.hidden - unit - v * lanes<Real>),
                   load(acc + v * lanes<Real>)));
    }
  }
};

}  // namespace rnnfast::RNNFAST_ISA
