// One direction of one layer: the loop over time, back-propagation through it, and the products of
// whole sequences around them.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels.hpp"
#include "machine.hpp"

namespace rnnfast::cuda {

// Weights of a direction as products read them; null where a cell has none.
template <class Operand>
struct Weights {
  const Operand *ih, *hh, *hr;  // (G·H, I), (G·H, R), (P, H)
};

// Gradients of the parameters of a direction, assigned; biases are null where there are none.
struct WeightGradients {
  float *ih, *hh, *b_ih, *b_hh, *hr;
};

template <class Machine, class Cell, class Operand, bool projected>
class Recurrence {
 public:
  Recurrence(Machine& machine, const Track<Operand>& track, const Weights<Operand>& weights)
      : machine_(machine), k_(track), w_(weights) {}

  // From the gates of the input in k.gates to y and the last state.
  void forward(const float* h0, const float* c0) {
    machine_.run(Enter<Operand>{k_, h0, c0, at(0)});
    machine_.repeat(steps(), [&](index s) { step(at(s), after(s)); });
  }

  // From d.dh and d.dc, the gradient of the last state, to d.da, d.du and that of the initial one.
  void backward(const GradientTrack<Operand>& d, float* dh0, float* dc0) {
    machine_.repeat(steps(), [&](index n) {
      const index s = steps() - 1 - n;
      step_back(d, at(s), after(s));
    });
    machine_.run(LeaveBack<Operand>{{k_, d, none, at(0)}, dh0, dc0});
  }

  // x (T·B, I), zeros where a sequence has no step.
  void weight_gradients(const GradientTrack<Operand>& d, Matrix<const Operand> x,
                        const WeightGradients& dw) {
    machine_.multiply(Product<Operand>{gates(d.da).t(), x, {dw.ih, GH(), I(), I()}});
    state_weight_gradients(d, dw);
  }

  // All but that of W_ih.
  void state_weight_gradients(const GradientTrack<Operand>& d, const WeightGradients& dw) {
    const auto masked = without_dead_rows(k_.h_operand);
    const Matrix<const Operand> h{masked.data() ? masked.data() : k_.h_operand, rows(), R(), R()};
    const Matrix<const Operand> second{k_.kept_operand, rows(), H(), H()};
    if constexpr (Cell::splits) {
      machine_.multiply(Product<Operand>{first_gates(d.du).t(), h, {dw.hh, GH() - H(), R(), R()}});
      machine_.multiply(Product<Operand>{
          last_gate(d.du).t(), second, {dw.hh + (GH() - H()) * R(), H(), H(), H()}});
    } else {
      machine_.multiply(Product<Operand>{gates(d.du).t(), h, {dw.hh, GH(), R(), R()}});
    }
    if constexpr (projected) {
      const Matrix<const Operand> dp{d.dprojected, rows(), R(), R()};
      machine_.multiply(Product<Operand>{dp.t(), second, {dw.hr, R(), H(), H()}});
    }
    if (!dw.b_ih) return;
    sum_rows(d.da, dw.b_ih);
    if constexpr (Cell::state_gates_differ)
      sum_rows(d.du, dw.b_hh);
    else
      machine_.run(Convert{{GH(), 1, nullptr, nullptr, false}, 1, dw.b_ih, dw.b_hh});
  }

  // dx (T·B, I), assigned or added to.
  void input_gradient(const GradientTrack<Operand>& d, float* dx, bool accumulate) {
    machine_.multiply(
        Product<Operand>{gates(d.da), {w_.ih, GH(), I(), I()}, {dx, rows(), I(), I()}, accumulate});
  }

 private:
  using Read = Matrix<const Operand>;

  index steps() const { return k_.sequences.steps; }
  index at(index s) const { return k_.sequences.at(s); }
  index after(index s) const { return s + 1 < steps() ? at(s + 1) : none; }
  index B() const { return k_.sequences.batch; }
  index I() const { return k_.shape.input; }
  index H() const { return k_.shape.hidden; }
  index R() const { return k_.shape.output; }
  index GH() const { return Cell::gates * H(); }
  index rows() const { return steps() * B(); }

  Read w_hh() const { return {w_.hh, GH(), R(), R()}; }
  Read w_hh_first() const { return {w_.hh, GH() - H(), R(), R()}; }
  Read w_hh_last() const { return {w_.hh + (GH() - H()) * R(), H(), R(), R()}; }
  Read w_hr() const { return {w_.hr, R(), H(), H()}; }
  Read h(index t) const { return {k_.h_operand + t * B() * R(), B(), R(), R()}; }
  Read second(index t) const { return {k_.kept_operand + t * B() * H(), B(), H(), H()}; }

  Read gates(const Operand* d) const { return {d, rows(), GH(), GH()}; }
  Read first_gates(const Operand* d) const { return {d, rows(), GH() - H(), GH()}; }
  Read last_gate(const Operand* d) const { return {d + GH() - H(), rows(), H(), GH()}; }
  Read step_of(Read all, index t) const {
    all.data += t * B() * all.stride;
    all.rows = B();
    return all;
  }

  // Formulas: rnnfast.reference; every product gives one row for each sequence.
  void step(index t, index next) {
    const StepKernel<Cell, Operand> at_t{k_, t, next};
    const Matrix<float> u{k_.u, B(), GH(), GH()};
    if constexpr (Cell::splits) {
      const Matrix<float> first{k_.u, B(), GH() - H(), GH()},
          last{k_.u + GH() - H(), B(), H(), GH()};
      machine_.multiply(Product<Operand>{h(t), w_hh_first().t(), first});
      machine_.run(AdvanceFirst<Cell, Operand>{at_t});
      machine_.multiply(Product<Operand>{second(t), w_hh_last().t(), last});
      machine_.run(AdvanceSecond<Cell, Operand>{at_t});
    } else {
      machine_.multiply(Product<Operand>{h(t), w_hh().t(), u});
      machine_.run(Advance<Cell, Operand, projected>{at_t});
      if constexpr (projected) {
        machine_.multiply(Product<Operand>{second(t), w_hr().t(), {k_.u, B(), R(), R()}});
        machine_.run(Project<Operand>{k_, t, next});
      }
    }
  }

  void step_back(const GradientTrack<Operand>& d, index t, index after) {
    const BackKernel<Operand> at_t{k_, d, t, after};
    const Matrix<float> dh{d.dh, B(), R(), R()}, dhidden{d.dhidden, B(), H(), H()};
    if constexpr (Cell::splits) {
      machine_.run(RetreatSecond<Cell, Operand>{at_t});
      machine_.multiply(Product<Operand>{step_of(last_gate(d.du), t), w_hh_last(), dhidden});
      machine_.run(RetreatFirst<Cell, Operand>{at_t});
      machine_.multiply(Product<Operand>{step_of(first_gates(d.du), t), w_hh_first(), dh, true});
    } else {
      if constexpr (projected) {
        machine_.run(UnprojectBack<Operand>{at_t});
        const Read dp{d.dprojected + t * B() * R(), B(), R(), R()};
        machine_.multiply(Product<Operand>{dp, w_hr(), dhidden});
      }
      machine_.run(Retreat<Cell, Operand, projected>{at_t});
      machine_.multiply(Product<Operand>{step_of(gates(d.du), t), w_hh(), dh, true});
    }
  }

  // Zeros where a sequence has no step: what it carries on may not be finite, and 0 · NaN is no
  // zero.
  auto without_dead_rows(const Operand* h) {
    const bool all_alive = !k_.sequences.lengths;
    auto masked = machine_.template make<Operand>(all_alive ? 0 : rows() * R());
    if (!all_alive) machine_.run(Convert{k_.sequences, R(), h, masked.data()});
    return masked;
  }

  void sum_rows(const Operand* from, float* to) {
    // A thread adds so many, and then as many sums at most.
    const index chunk = std::max<index>(128, static_cast<index>(std::ceil(std::sqrt(rows()))));
    const index chunks = (rows() + chunk - 1) / chunk;
    const auto sums = machine_.template make<float>(chunks * GH());
    machine_.run(SumRows<Operand>{rows(), GH(), chunk, from, sums.data()});
    machine_.run(SumRows<float>{chunks, GH(), chunks, sums.data(), to});
  }

  Machine& machine_;
  Track<Operand> k_;
  Weights<Operand> w_;
};

}  // namespace rnnfast::cuda
