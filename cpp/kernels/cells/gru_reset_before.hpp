// The GRU with the reset gate before the recurrent product (Cho et al. 2014, arXiv:1406.1078).
//   forward   r, z = σ(W_i x_t + b_i + W_h h_{t-1} + b_h)
//             n = tanh(W_in x_t + b_in + W_hn (r ∘ h_{t-1}) + b_hn)
//             h_t = (1 - z) ∘ n + z ∘ h_{t-1}
//   backward  da_n = dh∘(1-z)∘(1-n²)   da_z = dh∘(h_{t-1}-n)∘z∘(1-z)
//             d(r∘h) = W_hnᵀ da_n      da_r = d(r∘h)∘h_{t-1}∘r∘(1-r)
//             dh_{t-1} += dh∘z + d(r∘h)∘r
// Panels hold n r z. The second product needs r ∘ h of every unit, hence a phase of its own.
#pragma once

#include "../activations.hpp"
#include "../backward.hpp"
#include "../forward.hpp"

namespace rnnfast::RNNFAST_ISA {

// Leaves W_in x_t + b_in, r and z for the second phase, and r ∘ h in the operand.
template <class F>
struct ResetGates {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout{3, false, {2, 0, 1}};
  static constexpr Slots x{0, 3}, h{1, 2};
  static constexpr bool second = false;

  static long units(const Size& s) { return s.hidden; }
  static long depth(const Size& s) { return s.output; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hh; }
  static const Real* bias(const Weights<const Real>& w) { return w.b_hh; }

  static void expect(const Forward<Real>&, const Place<Real>&) {}  // scratch, which is near

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    constexpr long w = lanes<Real>;
    const long unit = at.panel * w;
    Real* gates = f.between + (at.panel * f.time.rows(0) + at.b) * 3 * w;
    Real* operand = f.operand + at.tape_row * padded<Real>(f.size.hidden) + unit;
    for (int m = 0; m < at.rows; ++m, acc += 3 * w, gates += 3 * w) {
      const Vec<Real> r = sigmoid<Real>(load(acc + w));
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, f.size.hidden - unit);
      store(gates, load(acc));
      store(gates + w, r);
      store(gates + 2 * w, sigmoid<Real>(load(acc + 2 * w)));
      store(operand + m * padded<Real>(f.size.hidden), r * h);
    }
  }
};

template <class F>
struct Candidate {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout = one_gate_layout(2);
  static constexpr Slots x{0, 0}, h = all_blocks;
  static constexpr bool second = true;

  static long units(const Size& s) { return s.hidden; }
  static long depth(const Size& s) { return s.hidden; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hh; }
  static const Real* bias(const Weights<const Real>& w) { return w.b_hh; }

  static void start(const Forward<Real>& f, const Place<Real>& at, Real* acc) {
    const auto row = [](int, long, const Real* gates, Real* sum) {
      store(sum, load(sum) + load(gates));
    };
    for_each_unit<Real, 3>(at, at.b, f.size.hidden, f.between, f.time.rows(0), acc, row);
  }

  static void expect(const Forward<Real>& f, const Place<Real>& at) {
    expect_output(f, at, layout.unit<Real>(at.panel, 0),
                  layout.vectors_of<Real>(at.panel, f.size.hidden));
  }

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    constexpr long w = lanes<Real>;
    const auto row = [&](int m, long unit, const Real* gates, const Real* sum) {
      const long left = f.size.hidden - unit;
      const Vec<Real> n = tanh<Real>(load(sum)), z = load(gates + 2 * w);
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, left);
      store_first(f.y.at(at.t, at.b + m) + unit, n + z * (h - n), left);
      if (!f.record) return;
      auto* tape = elements<F>(f.gates) + (unit / w * at.tape_rows + at.tape_row + m) * 3 * w;
      F::put_gate(tape, n);
      F::put_gate(tape + w, load(gates + w));
      F::put_carry(tape + 2 * w, z);
    };
    for_each_unit<Real, 3>(at, at.b, f.size.hidden, f.between, f.time.rows(0), acc, row);
  }
};

template <class F>
struct GruResetBefore {
  using Format = F;
  using Real = F::Real;
  using First = ResetGates<F>;
  using Second = Candidate<F>;
  static constexpr bool two_phases = true;
  static constexpr bool keeps_between = true;
  static constexpr bool carries = true;
  static constexpr Slots dx{0, 3}, dh{1, 2};

  static Real* carry(const Backward<Real>& g, const Moment<Real>& at, int m, long unit) {
    return g.dh + (at.b + m) * padded<Real>(g.size.output) + unit;
  }

  static void derive(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    constexpr long w = lanes<Real>;
    const auto row = [&](int m, long unit, F::Element* tape, const Real* sum) {
      const Vec<Real> n = F::get_gate(tape), z = F::get_carry(tape + 2 * w), dh = load(sum);
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, g.size.hidden - unit);
      F::put(tape, dh * (Real{1} - z) * (Real{1} - n * n));
      F::put(tape + 2 * w, dh * (h - n) * z * (Real{1} - z));
      store(carry(g, at, m, unit), dh * z);
    };
    for_each_unit<Real, 3>(at, at.tape_row, g.size.hidden, elements<F>(g.gates), g.time.taped(),
                           acc, row);
  }

  static TapeColumns<F> second_tape(const Size& s, const TapeData<Real>& data) {
    return {data.gates, First::layout, {0, 1}, s.hidden, data.rows};
  }
  template <class T>
  static T* second_matrix(const Weights<T>& w) {
    return w.w_hh;
  }
  static Real* second_bias(const Weights<Real>& d) { return d.b_hh; }

  // acc: d(r ∘ h).
  static void derive_second(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    constexpr long w = lanes<Real>;
    const auto row = [&](int m, long unit, F::Element* tape, const Real* sum) {
      const Vec<Real> r = F::get_gate(tape + w), d = load(sum);
      const Vec<Real> h = load_first(at.h_prev + m * at.h_row + unit, g.size.hidden - unit);
      F::put(tape + w, d * h * r * (Real{1} - r));
      Real* dh = carry(g, at, m, unit);
      store(dh, load(dh) + d * r);
    };
    for_each_unit<Real, 3>(at, at.tape_row, g.size.hidden, elements<F>(g.gates), g.time.taped(),
                           acc, row);
  }
};

}  // namespace rnnfast::RNNFAST_ISA
