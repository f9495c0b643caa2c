// The forward pass of one layer and direction; the only forward time loop.
//
// Step t, for every panel of units and tile of rows:
//   1. acc = bias (or the input product made beforehand, or what the first phase left)
//   2. acc += W_ih x_t        (tokens: the row of W_ih that the token names)
//   3. acc += W_hh h_{t-1}    (second phase: its own matrix and operand)
//   4. the cell's pointwise `finish` writes h_t, c_t and what BPTT needs
// Sums run over k upwards whatever the tile, so a row's result depends on that row alone.
#pragma once

#include "direct.hpp"
#include "pack.hpp"

namespace rnnfast::RNNFAST_ISA {

// Where a tile lies and what it reads.
template <class Real>
struct Place {
  index t, b;  // step and first row
  int rows;
  long panel;
  long tape_row;       // row of `gates`, `cells` and `operand` that belongs to b
  long tape_rows;      // rows of a panel of `gates`
  const Real* h_prev;  // h_{t-1} of row b; rows h_row apart
  long h_row;
  const Real* left;  // its words; rows left_row apart
  long left_row;
  Real* twin;  // for the words of h_t, where they are not h_t itself
};

// Writes a vector of h_t: where the user finds it, and for the next step's product.
template <class Format, class Real = Format::Real>
void store_hidden(const Forward<Real>& f, const Place<Real>& at, int m, long unit, Vec<Real> h,
                  long left) {
  store_first(f.y.at(at.t, at.b + m) + unit, h, left);
  if constexpr (!Format::native) Format::put(elements<Format>(at.twin + m * at.left_row) + unit, h);
}

// Words of a row of Forward::operand.
template <class Format>
constexpr long operand_row(const Size& s) {
  return padded<typename Format::Real>(s.hidden) / Format::group;
}

// Products of a phase: x feeds the vectors Phase::x, h (or the operand) Phase::h.
template <class Phase>
struct PhasePlan {
  using Format = Phase::Format;
  using Real = Format::Real;
  long units, x_k, h_k;  // words

  explicit PhasePlan(const Size& s)
      : units(Phase::units(s)),
        x_k(Phase::x.count ? words_of<Format>(s.input) : 0),
        h_k(words_of<Format>(Phase::depth(s))) {}

  // A tile as high as both products allow.
  static constexpr int rows = static_cast<int>(
      least(highest_tile(Phase::h.count), highest_tile(Phase::x.count ? Phase::x.count : 1)));

  long panels() const { return Phase::layout.template panels<Real>(units); }
  Slots slots(Slots wanted, long panel) const {
    return Phase::layout.template within<Real>(wanted, panel, units);
  }
  long panel_size() const {
    return (Phase::layout.vectors + Phase::x.count * x_k + Phase::h.count * h_k) * lanes<Real>;
  }
  long size() const { return panels() * panel_size(); }
  long panel_bytes() const { return panel_size() * static_cast<long>(sizeof(Real)); }
  // Rows of weights that a tile goes through.
  long passes(const Forward<Real>& f) const {
    const long x = f.tokens || f.input ? 0 : passes_of(Phase::x.count) * x_k;
    return x + passes_of(Phase::h.count) * h_k;
  }
  const Real* x_weights(const Real* panel) const {
    return panel + Phase::layout.template width<Real>();
  }
  const Real* h_weights(const Real* panel) const {
    return x_weights(panel) + Phase::x.count * x_k * lanes<Real>;
  }
};

template <class Phase, class Real = Phase::Format::Real>
void pack_phase(const Size& size, const Weights<const Real>& w, Real* packed, const Worker& me) {
  using Format = Phase::Format;
  const PhasePlan<Phase> plan(size);
  const auto& layout = Phase::layout;
  const Share mine = share(plan.panels(), me);
  for (long panel = mine.begin; panel < mine.end; ++panel) {
    Real* p = packed + panel * plan.panel_size();
    const Slots x = plan.slots(Phase::x, panel), h = plan.slots(Phase::h, panel);
    __builtin_memset(p, 0, layout.template width<Real>() * sizeof(Real));
    if (Phase::x.count) pack_bias(layout, x, panel, w.b_ih, plan.units, p);
    pack_bias(layout, h, panel, Phase::bias(w), plan.units, p);
    Real* x_weights = const_cast<Real*>(plan.x_weights(p));
    Real* h_weights = const_cast<Real*>(plan.h_weights(p));
    if (Phase::x.count)
      pack_panel<Format>(layout, x, panel, Matrix<Real>{w.w_ih, plan.units, size.input}, x_weights);
    pack_panel<Format>(layout, h, panel,
                       Matrix<Real>{Phase::matrix(w), plan.units, Phase::depth(size)}, h_weights);
  }
}

// acc[m] += W_ih[:, token of row m]: packed weights hold that column as consecutive vectors.
template <class Format, class Real = Format::Real>
void add_tokens(const int32_t* token, int rows, const Real* w, long pass_k, int vectors, Real* acc,
                long acc_row) {
  const int width = tile_vectors(vectors);
  for (int m = 0; m < rows; ++m)
    for (int v = 0; v < vectors; ++v) {
      const long k = token[m] / Format::group;
      const long pass = pass_k * (v - v % width) + k * width + v % width;
      Real* sum = acc + m * acc_row + v * lanes<Real>;
      const Vec<Real> words = load(w + pass * lanes<Real>);
      store(sum, load(sum) + Format::part(words, token[m] % Format::group));
    }
}

template <class Phase, class Real>
void add_input(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
               const Real* panel, Real* acc, Ahead& ahead) {
  const Slots x = plan.slots(Phase::x, at.panel);
  Real* sum = acc + x.first * lanes<Real>;
  constexpr long acc_row = Phase::layout.template width<Real>();
  const int32_t* token = f.tokens ? f.tokens + f.time.offset[at.t] + at.b : nullptr;
  using Format = Phase::Format;
  if constexpr (Format::native)
    if (!f.packed)
      return add_direct(
          Phase::layout, x, at.panel, Matrix<Real>{f.weights.w_ih, plan.units, plan.x_k},
          token ? nullptr : f.x.at(at.t, at.b), f.x.row, token, at.rows, acc, acc_row);
  const Real* w = plan.x_weights(panel);
  if (token) return add_tokens<Format>(token, at.rows, w, plan.x_k, x.count, sum, acc_row);
  const LeftOperand<Real> left{f.x.at(at.t, at.b), f.x.row, plan.x_k};
  multiply<Format>(left, w, plan.x_k, 0, x.count, at.rows, sum, acc_row, ahead);
}

template <class Phase, class Real>
void add_recurrent(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
                   const Real* panel, Real* acc, Ahead& ahead) {
  const Slots h = plan.slots(Phase::h, at.panel);
  constexpr long acc_row = Phase::layout.template width<Real>();
  using Format = Phase::Format;
  LeftOperand<Real> left{at.left, at.left_row, plan.h_k};
  if constexpr (Phase::second) {
    left.row = operand_row<Format>(f.size);
    left.a = f.operand + at.tape_row * left.row;
  }
  if constexpr (Format::native)
    if (!f.packed)
      return add_direct(Phase::layout, h, at.panel,
                        Matrix<Real>{Phase::matrix(f.weights), plan.units, plan.h_k}, left.a,
                        left.row, static_cast<const int32_t*>(nullptr), at.rows, acc, acc_row);
  multiply<Format>(left, plan.h_weights(panel), plan.h_k, 0, h.count, at.rows,
                   acc + h.first * lanes<Real>, acc_row, ahead);
}

template <class Phase, class Real>
void start_with_bias(const Forward<Real>& f, const PhasePlan<Phase>& plan, long panel,
                     const Real* packed, int rows, Real* acc) {
  constexpr long width = Phase::layout.template width<Real>();
  alignas(64) Real direct[width];
  const Real* bias = packed;
  if (!f.packed) {
    __builtin_memset(direct, 0, sizeof direct);
    if (Phase::x.count)
      pack_bias(Phase::layout, plan.slots(Phase::x, panel), panel, f.weights.b_ih, plan.units,
                direct);
    pack_bias(Phase::layout, plan.slots(Phase::h, panel), panel, Phase::bias(f.weights), plan.units,
              direct);
    bias = direct;
  }
  for (int m = 0; m < rows; ++m)
    for (long v = 0; v < width; v += lanes<Real>) store(acc + m * width + v, load(bias + v));
}

// The part of the product that x makes, kept for all rows: [panel][N][x vectors].
template <class Real>
Real* input_row(const Real* input, long total, long panel, long row, int vectors) {
  return const_cast<Real*>(input) + (panel * total + row) * vectors * lanes<Real>;
}

template <class Phase, class Real>
void forward_tile(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
                  const Real* panel, Ahead& ahead) {
  constexpr long width = Phase::layout.template width<Real>();
  alignas(64) Real acc[max_rows * width];
  start_with_bias<Phase>(f, plan, at.panel, panel, at.rows, acc);
  if constexpr (Phase::second) Phase::start(f, at, acc);
  if (Phase::x.count && f.input) {
    constexpr long part = Phase::x.count * lanes<Real>;
    for (int m = 0; m < at.rows; ++m)
      __builtin_memcpy(acc + m * width,
                       input_row(f.input, f.time.total(), at.panel, f.time.offset[at.t] + at.b + m,
                                 Phase::x.count),
                       part * sizeof(Real));
  } else if (Phase::x.count) {
    add_input<Phase>(f, plan, at, panel, acc, ahead);
  }
  add_recurrent<Phase>(f, plan, at, panel, acc, ahead);
  Phase::finish(f, at, acc);
}

// Where the rows of a step find their predecessors, and put the words of their own.
template <class Real>
struct Previous {
  const Real* h;
  long h_row;
  const Real* left;
  long left_row;
  Real* twin;
};

// Of the step processed as number p, for rows that begin there or go on.
template <class Format, class Real = Format::Real>
Previous<Real> previous(const Forward<Real>& f, index p, bool begin) {
  Previous<Real> prev{f.h0, padded<Real>(f.size.output), nullptr, 0, nullptr};
  if (!begin) prev.h = f.y.at(f.time.time(p - 1), 0), prev.h_row = f.y.row;
  prev.left = prev.h, prev.left_row = prev.h_row;
  if constexpr (!Format::native) {
    prev.left_row = padded<Real>(f.size.output) / Format::group;
    const long twin = f.time.rows(0) * prev.left_row;
    prev.left = f.twins + (begin ? 2 : (p - 1) & 1) * twin;
    prev.twin = f.twins + (p & 1) * twin;
  }
  return prev;
}

// Rows [begin, end) of step t that all have, or all lack, a predecessor.
template <class Phase, class Real>
void forward_rows(const Forward<Real>& f, const PhasePlan<Phase>& plan, long panel,
                  const Real* packed, index t, Share rows, const Previous<Real>& prev,
                  Ahead& ahead) {
  const RowTiles tiles(rows.begin, rows.end, PhasePlan<Phase>::rows);
  for (long i = 0; i < tiles.tiles; ++i) {
    const index b = tiles.begin(i);
    const int count = static_cast<int>(tiles.begin(i + 1) - b);
    const long first = f.record ? f.time.offset[t] : 0;
    const long total = f.record ? f.time.taped() : f.time.rows(0);
    const Place<Real> at{.t = t,
                         .b = b,
                         .rows = count,
                         .panel = panel,
                         .tape_row = first + b,
                         .tape_rows = total,
                         .h_prev = prev.h + b * prev.h_row,
                         .h_row = prev.h_row,
                         .left = prev.left + b * prev.left_row,
                         .left_row = prev.left_row,
                         .twin = prev.twin + b * prev.left_row};
    forward_tile<Phase>(f, plan, at, packed, ahead);
  }
}

template <class Phase, class Real>
void forward_phase(const Forward<Real>& f, const Real* packed, index p, const Worker& me) {
  const PhasePlan<Phase> plan(f.size);
  using Format = Phase::Format;
  const index t = f.time.time(p), active = f.time.rows(t);
  const index started = p ? least(active, f.time.rows(f.time.time(p - 1))) : 0;
  const Share rows = row_share(f.time.rows(0), me), panels = unit_share(plan.panels(), me);
  const Previous<Real> going = previous<Format>(f, p, p == 0);
  const Previous<Real> beginning = previous<Format>(f, p, true);
  const long tiles = blocks_of(least(rows.end, active) - rows.begin, plan.rows);
  const Walk walk{panels, (p & 1) != 0};
  for (long i = panels.begin; i < panels.end; ++i) {
    const long panel = walk.at(i);
    const auto weights = [&](long panel) {
      return f.packed ? packed + panel * plan.panel_size() : nullptr;
    };
    const Real* w = weights(panel);
    Ahead ahead(w);
    if (f.prefetch && tiles > 1 && i + 1 < panels.end)
      ahead = {weights(walk.at(i + 1)), plan.panel_bytes(), tiles * plan.passes(f)};
    forward_rows(f, plan, panel, w, t, {rows.begin, least(rows.end, started)}, going, ahead);
    forward_rows(f, plan, panel, w, t, {most(rows.begin, started), least(rows.end, active)},
                 beginning, ahead);
  }
}

// W_ih x + bias of all rows at once, where a single sequence leaves the step's own product too
// narrow. The rows of x are evenly spaced.
template <class Phase, class Real>
void input_product(const Forward<Real>& f, Real* input, const Worker& me) {
  using Format = Phase::Format;
  const FlushDenormals mode;
  const PhasePlan<Phase> plan(f.size);
  const long total = f.time.total(),
             x_row = f.time.rows(0) == 1 && !f.x.offset ? f.x.step : f.x.row;
  constexpr long width = Phase::layout.template width<Real>();
  alignas(64) Real acc[max_rows * width];
  const Share panels = share(plan.panels(), me);
  for (long panel = panels.begin; panel < panels.end; ++panel) {
    const Real* w = f.packed + panel * plan.panel_size();
    Ahead ahead(w);
    const Slots x = plan.slots(Phase::x, panel);
    const RowTiles tiles(0, total, PhasePlan<Phase>::rows);
    for (long i = 0; i < tiles.tiles; ++i) {
      const long row = tiles.begin(i);
      const int rows = static_cast<int>(tiles.begin(i + 1) - row);
      start_with_bias<Phase>(f, plan, panel, w, rows, acc);
      if (f.tokens) {
        add_tokens<Format>(f.tokens + row, rows, plan.x_weights(w), plan.x_k, x.count, acc, width);
      } else {
        const LeftOperand<Real> left{f.x.base + row * x_row, x_row, plan.x_k};
        multiply<Format>(left, plan.x_weights(w), plan.x_k, 0, x.count, rows, acc, width, ahead);
      }
      for (int m = 0; m < rows; ++m)
        __builtin_memcpy(input_row(input, total, panel, row + m, Phase::x.count), acc + m * width,
                         x.count * lanes<Real> * sizeof(Real));
    }
  }
}

template <class Cell, class Real = Cell::Format::Real>
void forward(const Forward<Real>& f, const Worker& me) {
  const FlushDenormals mode;
  using First = Cell::First;
  for (index p = 0; p < f.time.steps; ++p) {
    forward_phase<First>(f, f.packed, p, me);
    if constexpr (Cell::two_phases) {
      if (me.split_units && !me.meet(me.team, me.index)) return;
      const Real* second = f.packed ? f.packed + PhasePlan<First>(f.size).size() : nullptr;
      forward_phase<typename Cell::Second>(f, second, p, me);
    }
    if (!(me.split_units ? me.meet : me.proceed)(me.team, me.index)) return;
  }
}

}  // namespace rnnfast::RNNFAST_ISA
