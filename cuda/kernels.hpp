// The kernels: each is the code of one thread, called with its number. No thread reads what another
// one of the same kernel writes.
#pragma once

#include "cells.hpp"
#include "track.hpp"

namespace rnnfast::cuda {

// Which sequence and unit a thread serves, and their row among those of all steps.
struct Place {
  index b, j, row;
};
RNNFAST_HD Place place(index thread, index units, index t, index batch) {
  return {thread / units, thread % units, t * batch + thread / units};
}

// 1. The initial state enters the first step.
template <class Operand>
struct Enter {
  Track<Operand> k;
  const float *h0, *c0;  // null: zeros
  index first;

  RNNFAST_HD index threads() const { return k.sequences.batch * k.shape.hidden; }
  RNNFAST_HD void operator()(index i) const {
    const index b = i / k.shape.hidden, j = i % k.shape.hidden, R = k.shape.output;
    if (j < R) k.enter_h(first, b, j, h0 ? h0[b * R + j] : 0.0f);
    if (k.c) k.enter_c(first, b, j, c0 ? c0[i] : 0.0f);
  }
};

template <class Cell, class Operand>
RNNFAST_HD Unit<Cell::gates> load(const Track<Operand>& k, index row, index j) {
  const index H = k.shape.hidden;
  Unit<Cell::gates> s;
  for (int g = 0; g < Cell::gates; ++g) s.gate[g] = k.gates[(row * Cell::gates + g) * H + j];
  s.kept = k.kept ? k.kept[row * H + j] : 0.0f;
  s.h = k.shape.output == H ? k.h[row * H + j] : 0.0f;
  s.c = k.c ? k.c[row * H + j] : 0.0f;
  return s;
}

// What the products of a step give gate g of unit j, with its bias.
template <int gates, class Operand>
RNNFAST_HD float product(const Track<Operand>& k, index b, int g, index j) {
  const index H = k.shape.hidden, at = g * H + j;
  return k.u[b * gates * H + at] + (k.b_hh ? k.b_hh[at] : 0.0f);
}

template <class Cell, class Operand>
struct StepKernel {
  Track<Operand> k;
  index t, next;

  RNNFAST_HD index threads() const { return k.sequences.batch * k.shape.hidden; }
  RNNFAST_HD float gate_of_input(index row, int g, index j) const {
    const index H = k.shape.hidden;
    return k.gates[(row * Cell::gates + g) * H + j] + (k.b_ih ? k.b_ih[g * H + j] : 0.0f);
  }
};

// 2. The step of a cell whose products are all of the state.
template <class Cell, class Operand, bool projected>
struct Advance : StepKernel<Cell, Operand> {
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    auto s = load<Cell>(k, row, j);
    if (k.sequences.alive(this->t, b)) {
      float u[Cell::gates];
      for (int g = 0; g < Cell::gates; ++g) {
        s.gate[g] = this->gate_of_input(row, g, j);
        u[g] = product<Cell::gates>(k, b, g, j);
      }
      Cell::forward(k.shape.nonlinearity, s, u);
      for (int g = 0; g < Cell::gates; ++g) k.gates[(row * Cell::gates + g) * H + j] = s.gate[g];
      if (k.kept) k.kept[row * H + j] = s.kept;
    }
    if (Cell::has_cell_state) k.enter_c(this->next, b, j, s.c);
    if (projected)
      k.kept_operand[row * H + j] = to_operand<Operand>(s.h);
    else
      k.leave_h(this->t, this->next, b, j, s.h);
  }
};

// 3. h of a projected cell: its product is in u, (B, P).
template <class Operand>
struct Project {
  Track<Operand> k;
  index t, next;

  RNNFAST_HD index threads() const { return k.sequences.batch * k.shape.output; }
  RNNFAST_HD void operator()(index i) const {
    k.leave_h(t, next, i / k.shape.output, i % k.shape.output, k.u[i]);
  }
};

// 2. and 3. of a cell whose second product reads what the first one gave.
template <class Cell, class Operand>
struct AdvanceFirst : StepKernel<Cell, Operand> {
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    auto s = load<Cell>(k, row, j);
    s.kept = 0.0f;
    if (k.sequences.alive(this->t, b)) {
      float u[Cell::gates - 1];
      for (int g = 0; g < Cell::gates - 1; ++g) {
        s.gate[g] = this->gate_of_input(row, g, j);
        u[g] = product<Cell::gates>(k, b, g, j);
      }
      Cell::forward_first(s, u);
      for (int g = 0; g < Cell::gates - 1; ++g)
        k.gates[(row * Cell::gates + g) * H + j] = s.gate[g];
    }
    k.kept_operand[row * H + j] = to_operand<Operand>(s.kept);
  }
};

template <class Cell, class Operand>
struct AdvanceSecond : StepKernel<Cell, Operand> {
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    constexpr int last = Cell::gates - 1;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    auto s = load<Cell>(k, row, j);
    if (k.sequences.alive(this->t, b)) {
      s.gate[last] = this->gate_of_input(row, last, j);
      Cell::forward_second(s, product<Cell::gates>(k, b, last, j));
      k.gates[(row * Cell::gates + last) * H + j] = s.gate[last];
    }
    k.leave_h(this->t, this->next, b, j, s.h);
  }
};

// BPTT. `after` is the step that was run next, whose product has added to dh.
template <class Operand>
struct BackKernel {
  Track<Operand> k;
  GradientTrack<Operand> d;
  index t, after;

  RNNFAST_HD index threads() const { return k.sequences.batch * k.shape.hidden; }
  // What reaches a state between two steps; nothing reaches what was forgotten.
  RNNFAST_HD float reaching(const float* between, index at, index b) const {
    return after != none && k.sequences.fresh(after, b) ? 0.0f : between[at];
  }
};

// 3. Of a projected h.
template <class Operand>
struct UnprojectBack : BackKernel<Operand> {
  RNNFAST_HD index threads() const { return this->k.sequences.batch * this->k.shape.output; }
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const auto& d = this->d;
    const index P = k.shape.output;
    const auto [b, j, row] = place(i, P, this->t, k.sequences.batch);
    const bool alive = k.sequences.alive(this->t, b);
    const float dh = this->reaching(d.dh, i, b);
    d.dprojected[row * P + j] = to_operand<Operand>(alive ? dh + d.of_output(row, j) : 0.0f);
    d.dh[i] = alive ? 0.0f : dh;
  }
};

template <class Cell, class Operand, bool projected>
struct Retreat : BackKernel<Operand> {
  RNNFAST_HD void operator()(index i) const {
    constexpr int gates = Cell::gates;
    const auto& k = this->k;
    const auto& d = this->d;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    UnitGradient<gates> g{};
    g.dh = projected ? d.dhidden[i] : this->reaching(d.dh, i, b);
    g.dc = Cell::has_cell_state ? this->reaching(d.dc, i, b) : 0.0f;
    if (k.sequences.alive(this->t, b)) {
      if (!projected) g.dh += d.of_output(row, j);
      Cell::backward(k.shape.nonlinearity, load<Cell>(k, row, j), g);
    }
    for (int n = 0; n < gates; ++n) {
      const index at = (row * gates + n) * H + j;
      d.da[at] = to_operand<Operand>(g.da[n]);
      if (Cell::state_gates_differ) d.du[at] = to_operand<Operand>(g.du[n]);
    }
    if (!projected) d.dh[i] = g.dh;
    if (Cell::has_cell_state) d.dc[i] = g.dc;
  }
};

template <class Cell, class Operand>
struct RetreatSecond : BackKernel<Operand> {
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const auto& d = this->d;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    UnitGradient<Cell::gates> g{};
    g.dh = this->reaching(d.dh, i, b);
    if (k.sequences.alive(this->t, b)) {
      g.dh += d.of_output(row, j);
      Cell::backward_second(load<Cell>(k, row, j), g);
    }
    for (int n = 1; n < Cell::gates; ++n)
      d.da[(row * Cell::gates + n) * H + j] = to_operand<Operand>(g.da[n]);
    d.dh[i] = g.dh;
  }
};

template <class Cell, class Operand>
struct RetreatFirst : BackKernel<Operand> {
  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const auto& d = this->d;
    const index H = k.shape.hidden;
    const auto [b, j, row] = place(i, H, this->t, k.sequences.batch);
    float dr = 0.0f;
    if (k.sequences.alive(this->t, b))
      d.dh[i] += Cell::backward_first(load<Cell>(k, row, j), d.dhidden[i], dr);
    d.da[row * Cell::gates * H + j] = to_operand<Operand>(dr);
  }
};

// 1. What reaches the initial state.
template <class Operand>
struct LeaveBack : BackKernel<Operand> {
  float *dh0, *dc0;

  RNNFAST_HD void operator()(index i) const {
    const auto& k = this->k;
    const index b = i / k.shape.hidden, j = i % k.shape.hidden, R = k.shape.output;
    if (j < R) dh0[b * R + j] = this->reaching(this->d.dh, b * R + j, b);
    if (k.c) dc0[i] = this->reaching(this->d.dc, i, b);
  }
};

// Rows (T, B, width) as an operand of products; those without a step are zeros, whatever they hold.
struct Convert {
  Sequences sequences;
  index width;
  Numbers from;
  Room to;

  RNNFAST_HD index threads() const { return sequences.steps * sequences.batch * width; }
  RNNFAST_HD void operator()(index i) const {
    const index row = i / width, t = row / sequences.batch, b = row % sequences.batch;
    to.put(i, sequences.alive(t, b) ? from[i] : 0.0f);
  }
};

// (rows, columns) → (columns, rows)
struct Transpose {
  index rows, columns;
  Numbers from;
  float* to;

  RNNFAST_HD index threads() const { return rows * columns; }
  RNNFAST_HD void operator()(index i) const { to[i] = from[i % rows * columns + i / rows]; }
};

// Three axes and where along them an array's elements lie, in elements.
struct Layout {
  index first, second, width;
  index steps[3];

  RNNFAST_HD index count() const { return first * second * width; }
  bool has_gaps() const {
    const auto off = [](index length, index step, index dense) {
      return length != 1 && step != dense;
    };
    return off(width, steps[2], 1) || off(second, steps[1], width) ||
           off(first, steps[0], second * width);
  }
  RNNFAST_HD index at(index i) const {
    return i / (second * width) * steps[0] + i / width % second * steps[1] + i % width * steps[2];
  }
};

// A copy without gaps, in the order of the axes.
template <class T>
struct Arrange {
  Layout layout;
  const T* from;
  T* to;

  RNNFAST_HD index threads() const { return layout.count(); }
  RNNFAST_HD void operator()(index i) const { to[i] = from[layout.at(i)]; }
};

// The same of numbers, which may change their type.
struct ArrangeNumbers {
  Layout layout;
  Numbers from;
  Room to;

  RNNFAST_HD index threads() const { return layout.count(); }
  RNNFAST_HD void operator()(index i) const { to.put(i, from[layout.at(i)]); }
};

inline constexpr int32_t no_token = -1;

// Tokens that are the caller's: what is none becomes no_token.
template <class Integer>
struct ReadTokens {
  Layout layout;
  index tokens;
  const Integer* from;
  int32_t* to;

  RNNFAST_HD index threads() const { return layout.count(); }
  RNNFAST_HD void operator()(index i) const {
    const Integer token = from[layout.at(i)];
    to[i] = token >= 0 && token < tokens ? static_cast<int32_t>(token) : no_token;
  }
};

// Gates of tokens: rows of W_ihᵀ, (I, columns); NaN where there is no token.
struct Gather {
  Sequences sequences;
  index columns;
  const int32_t* tokens;  // (T, B)
  const float* rows;
  float* gates;

  RNNFAST_HD index threads() const { return sequences.steps * sequences.batch * columns; }
  RNNFAST_HD void operator()(index i) const {
    const index row = i / columns;
    if (!sequences.alive(row / sequences.batch, row % sequences.batch)) return;
    const index token = tokens[row];
    gates[i] =
        token == no_token ? bits_as<float>(0x7fc00000u) : rows[token * columns + i % columns];
  }
};

// dW_ih of tokens: thread (column, token) adds up the rows of that token, in their order. `sorted`
// are the tokens in ascending order, `row` where each of them was.
template <class Operand>
struct Scatter {
  index rows, columns, tokens;
  const int32_t *sorted, *row;
  const Operand* da;
  float* dweight;  // (columns, tokens)

  RNNFAST_HD index threads() const { return columns * tokens; }
  RNNFAST_HD index first_not_below(int32_t token) const {
    index low = 0, high = rows;
    while (low < high) {
      const index middle = (low + high) / 2;
      if (sorted[middle] < token)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  RNNFAST_HD void operator()(index i) const {
    const index column = i % columns;
    const auto token = static_cast<int32_t>(i / columns);
    float sum = 0.0f;
    for (index n = first_not_below(token); n < rows && sorted[n] == token; ++n)
      sum += to_float(da[row[n] * columns + column]);
    dweight[column * tokens + token] = sum;
  }
};

// Sums over the rows of a matrix, in two steps: of every `chunk` rows, then of those sums.
template <class T>
struct SumRows {
  index rows, columns, chunk;
  const T* from;
  float* to;  // (⌈rows / chunk⌉, columns)

  RNNFAST_HD index threads() const { return (rows + chunk - 1) / chunk * columns; }
  RNNFAST_HD void operator()(index i) const {
    const index first = i / columns * chunk, column = i % columns;
    float sum = 0.0f;
    for (index r = first; r < first + chunk && r < rows; ++r)
      sum += to_float(from[r * columns + column]);
    to[i] = sum;
  }
};

// Dropout between layers; formula: rnnfast.reference.dropout.
struct Drop {
  index count, layer;
  uint64_t seed;
  uint32_t threshold;  // round(p · 2²⁴)
  float scale;         // 1 / (1 - p)
  const float* from;
  float* to;

  RNNFAST_HD index threads() const { return count; }
  RNNFAST_HD static uint64_t splitmix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
  }
  RNNFAST_HD void operator()(index i) const {
    const uint64_t position = static_cast<uint64_t>(layer * count + i);
    to[i] = splitmix64(seed + position) >> 40 < threshold ? 0.0f : from[i] * scale;
  }
};

}  // namespace rnnfast::cuda
