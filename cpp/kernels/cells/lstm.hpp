// The LSTM cell, with or without projection. a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
//   forward   i, f, o = σ(a_i, a_f, a_o), g = tanh(a_g)
//             c_t = f ∘ c_{t-1} + i ∘ g,  m = o ∘ tanh(c_t),  h_t = m  or  W_hr m
//   backward  dm = dh  or  W_hrᵀ dh
//             dc = dc_t + dm ∘ o ∘ (1 - tanh²(c_t))
//             da_i = dc∘g∘i∘(1-i)   da_f = dc∘c_{t-1}∘f∘(1-f)   da_g = dc∘i∘(1-g²)
//             da_o = dm∘tanh(c_t)∘o∘(1-o)                       dc_{t-1} = dc ∘ f
// The tape holds i f g o, then their gradients; c_t apart; tanh(c_t) is computed again.
#pragma once

#include "../activations.hpp"
#include "../backward.hpp"
#include "../forward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class F, bool projected>
struct LstmGates {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout{4, false, {0, 1, 2, 3}};
  static constexpr Slots x{0, 4}, h{0, 4};
  static constexpr bool second = false;

  static long units(const Size& s) { return s.hidden; }
  static long depth(const Size& s) { return s.output; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hh; }
  static const Real* bias(const Weights<const Real>& w) { return w.b_hh; }

  static void expect(const Forward<Real>& f, const Place<Real>& at) {
    const long hidden = padded<Real>(f.size.hidden), unit = at.panel * lanes<Real>;
    if (!projected) expect_output(f, at, unit, 1);
    for (int m = 0; m < at.rows; ++m) {
      fetch_near(f.c + (at.b + m) * hidden + unit, lanes<Real>);
      if (f.record) fetch_near(f.cells + (at.tape_row + m) * hidden + unit, lanes<Real>);
    }
    expect_tape<F>(f, at, layout.width<Real>());
  }

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    constexpr long n = lanes<Real>;
    const long hidden = padded<Real>(f.size.hidden), unit = at.panel * n;
    for (int m = 0; m < at.rows; ++m, acc += 4 * n) {
      const Vec<Real> i = sigmoid<Real>(load(acc)), forget = sigmoid<Real>(load(acc + n));
      const Vec<Real> g = tanh<Real>(load(acc + 2 * n)), o = sigmoid<Real>(load(acc + 3 * n));
      Real* state = f.c + (at.b + m) * hidden + unit;
      const Vec<Real> c = forget * load(state) + i * g;
      store(state, c);
      const Vec<Real> out = o * tanh<Real>(c);
      if constexpr (projected)
        store(f.operand + (at.tape_row + m) * hidden + unit, out);
      else
        store_first(f.y.at(at.t, at.b + m) + unit, out, f.size.hidden - unit);
      if (!f.record) continue;
      store(f.cells + (at.tape_row + m) * hidden + unit, c);
      auto* gates = elements<F>(f.gates) + (at.panel * at.tape_rows + at.tape_row + m) * 4 * n;
      F::put_gate(gates, i);
      F::put_carry(gates + n, forget);
      F::put_gate(gates + 2 * n, g);
      F::put_gate(gates + 3 * n, o);
    }
  }
};

// h_t = W_hr m
template <class F>
struct Projection {
  using Format = F;
  using Real = F::Real;
  static constexpr Layout layout = one_gate_layout(0);
  static constexpr Slots x{0, 0}, h = all_blocks;
  static constexpr bool second = true;

  static long units(const Size& s) { return s.output; }
  static long depth(const Size& s) { return s.hidden; }
  static const Real* matrix(const Weights<const Real>& w) { return w.w_hr; }
  static const Real* bias(const Weights<const Real>&) { return nullptr; }
  static void start(const Forward<Real>&, const Place<Real>&, Real*) {}
  static void expect(const Forward<Real>& f, const Place<Real>& at) {
    expect_output(f, at, layout.unit<Real>(at.panel, 0),
                  layout.vectors_of<Real>(at.panel, f.size.output));
  }

  [[gnu::noinline]] static void finish(const Forward<Real>& f, const Place<Real>& at,
                                       const Real* acc) {
    const int vectors = layout.vectors_of<Real>(at.panel, f.size.output);
    const long unit = layout.unit<Real>(at.panel, 0);
    for (int m = 0; m < at.rows; ++m, acc += layout.width<Real>())
      for (long v = 0; v < vectors * lanes<Real>; v += lanes<Real>)
        store_first(f.y.at(at.t, at.b + m) + unit + v, load(acc + v), f.size.output - unit - v);
  }
};

template <class F, bool projected>
struct LstmCell {
  using Format = F;
  using Real = F::Real;
  using First = LstmGates<F, projected>;
  using Second = Projection<F>;
  static constexpr bool two_phases = projected;
  static constexpr bool keeps_between = false;
  static constexpr bool carries = false;
  static constexpr Slots dx{0, 4}, dh{0, 4};

  // acc: dm of a panel of unit blocks.
  static void gate_gradients(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    constexpr long n = lanes<Real>;
    const long hidden = padded<Real>(g.size.hidden);
    const auto row = [&](int m, long unit, F::Element* tape, const Real* sum) {
      const Vec<Real> i = F::get_gate(tape), forget = F::get_carry(tape + n);
      const Vec<Real> candidate = F::get_gate(tape + 2 * n), o = F::get_gate(tape + 3 * n);
      const Vec<Real> t = tanh<Real>(load(g.cells + (at.tape_row + m) * hidden + unit));
      const Vec<Real> dm = load(sum);
      Real* state = g.dc + (at.b + m) * hidden + unit;
      const Vec<Real> dc = load(state) + dm * o * (Real{1} - t * t);
      store(state, dc * forget);
      F::put(tape, dc * candidate * i * (Real{1} - i));
      F::put(tape + n, dc * load(at.c_prev + m * hidden + unit) * forget * (Real{1} - forget));
      F::put(tape + 2 * n, dc * i * (Real{1} - candidate * candidate));
      F::put(tape + 3 * n, dm * t * o * (Real{1} - o));
    };
    for_each_unit<Real, 4>(at, at.tape_row, g.size.hidden, elements<F>(g.gates), g.time.taped(),
                           acc, row);
  }

  static void derive(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    if constexpr (projected)
      keep_projected(g, at, acc);
    else
      gate_gradients(g, at, acc);
  }

  // dh_t is the operand of W_hrᵀ dh and of the gradient of W_hr.
  static void keep_projected(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    constexpr long width = Second::layout.template width<Real>();
    auto* tape = elements<F>(g.projected) + (at.panel * g.time.taped() + at.tape_row) * width;
    for (long v = 0; v < at.rows * width; v += lanes<Real>) F::put(tape + v, load(acc + v));
  }

  static TapeColumns<F> second_tape(const Size& s, const TapeData<Real>& data) {
    return {data.projected, Second::layout, all_blocks, s.output, data.rows};
  }
  template <class T>
  static T* second_matrix(const Weights<T>& w) {
    return w.w_hr;
  }
  static Real* second_bias(const Weights<Real>&) { return nullptr; }
  static void derive_second(const Backward<Real>& g, const Moment<Real>& at, const Real* acc) {
    gate_gradients(g, at, acc);
  }
};

template <class F>
using Lstm = LstmCell<F, false>;
template <class F>
using ProjectedLstm = LstmCell<F, true>;

}  // namespace rnnfast::RNNFAST_ISA
