// The GRU with the reset gate after the recurrent product (PyTorch, cuDNN).
//   forward   r, z = σ(W_i x_t + b_i + W_h h_{t-1} + b_h)
//             s = W_hn h_{t-1} + b_hn,  n = tanh(W_in x_t + b_in + r ∘ s)
//             h_t = (1 - z) ∘ n + z ∘ h_{t-1}
//   backward  da_n = dh∘(1-z)∘(1-n²)   da_z = dh∘(h_{t-1}-n)∘z∘(1-z)
//             da_r = da_n∘s∘r∘(1-r)    ds = da_n∘r                    dh_{t-1} += dh∘z
// Panels hold n r z s: x feeds the first three, h the last three, each without a gap.
#pragma once

#include "../activations.hpp"
#include "../backward.hpp"
#include "../forward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class F>
struct GruGates {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout{4, false, {2, 0, 1, 2}};
  static constexpr Slots x{0, 3}, h{1, 3};
  static constexpr bool second = false;

  static long units(const Size& s) { return s.hidden; }
  static long depth(const Size& s) { return s.output; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hh; }
  static const Real* bias(const Weights<const Real>& w) { return w.b_hh; }

  static void expect(const Forward<Real>& f, const Place<Real>& at) {
    expect_output(f, at, at.panel * lanes<Real>, 1);
    expect_tape<F>(f, at, layout.width<Real>());
  }

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    constexpr long w = lanes<Real>;
    const long unit = at.panel * w, left = f.size.hidden - unit;
    for (int m = 0; m < at.rows; ++m, acc += 4 * w) {
      const Vec<Real> r = sigmoid<Real>(load(acc + w)), z = sigmoid<Real>(load(acc + 2 * w));
      const Vec<Real> s = load(acc + 3 * w), n = tanh<Real>(load(acc) + r * s);
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, left);
      store_first(f.y.at(at.t, at.b + m) + unit, n + z * (h - n), left);
      if (!f.record) continue;
      auto* gates = elements<F>(f.gates) + (at.panel * at.tape_rows + at.tape_row + m) * 4 * w;
      F::put_gate(gates, n);
      F::put_gate(gates + w, r);
      F::put_carry(gates + 2 * w, z);
      F::put_gate(gates + 3 * w, s);
    }
  }
};

template <class F>
struct Gru {
  using Format = F;
  using Real = F::Real;
  using First = GruGates<F>;
  static constexpr bool two_phases = false;
  static constexpr bool keeps_between = false;
  static constexpr bool carries = true;
  static constexpr Slots dx{0, 3}, dh{1, 3};

  static void derive(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    constexpr long w = lanes<Real>;
    const auto row = [&](int m, long unit, F::Element* tape, const Real* sum) {
      const Vec<Real> n = F::get_gate(tape), r = F::get_gate(tape + w),
                      z = F::get_carry(tape + 2 * w);
      const Vec<Real> s = F::get_gate(tape + 3 * w), dh = load(sum);
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, g.size.hidden - unit);
      const Vec<Real> dn = dh * (Real{1} - z) * (Real{1} - n * n);
      F::put(tape + w, dn * s * r * (Real{1} - r));
      F::put(tape + 2 * w, dh * (h - n) * z * (Real{1} - z));
      F::put(tape, dn);
      F::put(tape + 3 * w, dn * r);
      store(g.dh + (at.b + m) * padded<Real>(g.size.output) + unit, dh * z);
    };
    for_each_unit<Real, 4>(at, at.tape_row, g.size.hidden, elements<F>(g.gates), g.time.taped(),
                           acc, row);
  }
};

}  // namespace rnnfast::RNNFAST_ISA
