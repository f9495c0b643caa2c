// Back-propagation through time of one layer and direction; the only backward time loop.
//
// Visit of step t, whose successor in the direction of processing is s:
//   1. dh = W_hhᵀ da_s (+ what the cell carries over, or the gradient of the final state) + dy_t:
//      dy last, so that a loop over steps before t leaves in dh what one over all steps adds dy to
//   2. the cell's pointwise `derive` turns the saved gates of t into da_t, in the same memory
//   3. dx_s = W_ihᵀ da_s
//   second phase, where the cell has one: its own product and `derive_second`
// A last visit before the first step leaves the gradient of the initial state in dh.
#pragma once

#include "pack.hpp"

namespace rnnfast::RNNFAST_ISA {

// Where a tile of gradients lies.
template <class Real>
struct Moment {
  index t, b;
  int rows;
  long panel;          // of columns: block_vectors unit blocks
  long tape_row;       // row of (t, b)
  const Real* h_prev;  // h_{t-1} of row b; rows h_row apart
  long h_row;
  const Real* c_prev;  // c_{t-1} of row b, where the cell has one
};

template <class Real>
struct TapeData {
  const Real* gates = nullptr;
  const Real* projected = nullptr;
  long rows = 0;
};

// `slots` of a tape as the left operand of a product.
template <class Format>
struct TapeColumns {
  using Real = Format::Real;
  const Real* data;  // words
  Layout layout;
  Slots slots;
  long units;
  long rows;

  long depth() const { return tape_rows<Format>(layout, slots, units); }
  // Words of a panel's row, and of a vector of it.
  long row() const { return tape_words<Format>(layout.width<Real>()); }
  static constexpr long vector = tape_words<Format>(lanes<Real>);

  // Writes one or two of them, the rows of which begin at `row` of the tape; returns how many.
  int left_operands(long row, LeftOperand<Real> (&left)[2]) const {
    const long width = this->row(), blocks = blocks_of(units, lanes<Real>);
    const Real* a = data + row * width;
    if (!layout.one_gate) {
      left[0] = {a + slots.first * vector, width, slots.count * vector, blocks, rows * width};
      return 1;
    }
    const long full = blocks / layout.vectors, rest = blocks % layout.vectors;
    int n = 0;
    if (full) left[n++] = {a, width, width, full, rows * width};
    if (rest) left[n++] = {a + full * rows * width, width, rest * vector};
    return n;
  }
};

template <class Cell>
struct BackwardPlan {
  using Format = Cell::Format;
  using Real = Format::Real;
  static constexpr Layout columns = one_gate_layout(0);
  static constexpr int rows = highest_tile(block_vectors);

  static TapeColumns<Format> tape(const Backward<Real>& g, Slots slots) {
    return {g.gates, Cell::First::layout, slots, g.size.hidden, g.time.taped()};
  }

  long h_depth, x_depth, second_depth, h_panels, x_panels, second_panels;

  explicit BackwardPlan(const Size& s) {
    constexpr Layout layout = Cell::First::layout;
    h_depth = tape_rows<Format>(layout, Cell::dh, s.hidden);
    x_depth = tape_rows<Format>(layout, Cell::dx, s.hidden);
    h_panels = columns.panels<Real>(s.output);
    x_panels = columns.panels<Real>(s.input);
    second_depth = second_panels = 0;
    if constexpr (Cell::two_phases) {
      second_depth = Cell::second_tape(s, TapeData<Real>{}).depth();
      second_panels = columns.panels<Real>(s.hidden);
    }
  }
  static long panel_size(long depth) { return depth * columns.width<Real>(); }
  long x_offset() const { return h_panels * panel_size(h_depth); }
  long panel_depth(long panel) const { return panel < h_panels ? h_depth : x_depth; }
  long panel_bytes(long panel) const {
    return panel_size(panel_depth(panel)) * static_cast<long>(sizeof(Real));
  }
  long panel_offset(long panel) const {
    return panel < h_panels ? panel * panel_size(h_depth)
                            : x_offset() + (panel - h_panels) * panel_size(x_depth);
  }
  // Rows of weights that a tile goes through.
  long passes(long panel) const { return passes_of(block_vectors) * panel_depth(panel); }
  long second_offset() const { return x_offset() + x_panels * panel_size(x_depth); }
  long size() const { return second_offset() + second_panels * panel_size(second_depth); }
};

template <class Format, class Real = Format::Real>
void pack_column_panels(const Layout& layout, Slots slots, const Matrix<Real>& m, long panels,
                        Real* packed, const Worker& me) {
  constexpr Layout columns = one_gate_layout(0);
  const long size = tape_rows<Format>(layout, slots, m.units) * columns.width<Real>();
  const Share mine = share(panels, me);
  for (long panel = mine.begin; panel < mine.end; ++panel)
    pack_columns<Format>(layout, slots, m, columns.unit<Real>(panel, 0),
                         columns.vectors_of<Real>(panel, m.k), packed + panel * size);
}

template <class Cell, class Real = Cell::Format::Real>
void pack_backward(const Size& size, const Weights<const Real>& w, Real* packed, const Worker& me) {
  using Format = Cell::Format;
  const BackwardPlan<Cell> plan(size);
  constexpr Layout layout = Cell::First::layout;
  pack_column_panels<Format>(layout, Cell::dh, Matrix<Real>{w.w_hh, size.hidden, size.output},
                             plan.h_panels, packed, me);
  pack_column_panels<Format>(layout, Cell::dx, Matrix<Real>{w.w_ih, size.hidden, size.input},
                             plan.x_panels, packed + plan.x_offset(), me);
  if constexpr (Cell::two_phases) {
    const TapeColumns<Format> tape = Cell::second_tape(size, TapeData<Real>{});
    pack_column_panels<Format>(tape.layout, tape.slots,
                               Matrix<Real>{Cell::second_matrix(w), tape.units, size.hidden},
                               plan.second_panels, packed + plan.second_offset(), me);
  }
}

// acc += tape · w for rows b, b + 1, … of step t.
template <class Format, class Real = Format::Real>
void add_columns(const Backward<Real>& g, const TapeColumns<Format>& tape, index t, index b,
                 const Real* w, int vectors, int rows, Real* acc, Ahead& ahead) {
  LeftOperand<Real> left[2];
  Product<Real> products[2];
  const int n = tape.left_operands(g.time.offset[t] + b, left);
  for (int i = 0; i < n; w += left[i].k * left[i].repeat * tile_vectors(vectors) * lanes<Real>, ++i)
    products[i] = {left[i], w, tape.depth(), acc};
  multiply<Format>(products, n, vectors, rows, one_gate_layout(0).width<Real>(), ahead);
}

// acc[m] (+)= columns of a row-major array; absent arrays count as zero.
template <class Real>
void add_rows(const Real* a, long row, long columns, int vectors, int rows, Real* acc) {
  if (!a) return;
  constexpr long width = one_gate_layout(0).width<Real>();
  for (int m = 0; m < rows; ++m)
    for (long v = 0; v < vectors * lanes<Real>; v += lanes<Real>) {
      Real* sum = acc + m * width + v;
      store(sum, load(sum) + load_first(a + m * row + v, columns - v));
    }
}

// The visit to step t as number p of the order of processing; p = -1 ends the loop.
template <class Real>
struct Visit {
  const Backward<Real>& g;
  index p, t, s, q;           // s, q: successor and predecessor in the order of processing
  index here, after, before;  // active rows of t, s, q; none where there is no such step

  Visit(const Backward<Real>& g, index p) : g(g), p(p) {
    const auto at = [&](index p, index& t, index& rows) {
      const bool exists = p >= 0 && p < g.time.steps;
      t = exists ? g.time.time(p) : 0;
      rows = exists ? g.time.rows(t) : 0;
    };
    at(p, t, here);
    at(p + 1, s, after);
    at(p - 1, q, before);
  }

  Moment<Real> moment(index b, int rows, long panel) const {
    const long hidden = padded<Real>(g.size.hidden), output = padded<Real>(g.size.output);
    Moment<Real> m{t, b, rows, panel, g.time.offset[t] + b, g.h0 + b * output, output, nullptr};
    const bool continues = b < before;
    if (continues) m.h_prev = g.y.at(q, b), m.h_row = g.y.row;
    if (g.cells)
      m.c_prev = continues ? g.cells + (g.time.offset[q] + b) * hidden : g.c0 + b * hidden;
    return m;
  }

  // Calls f(b, rows) for tiles of [begin, end) that do not straddle `cut`.
  template <class F>
  static void tiles(Share rows, index cut, int highest, F f) {
    const Share parts[2] = {{rows.begin, least(rows.end, cut)}, {most(rows.begin, cut), rows.end}};
    for (const Share& part : parts) {
      const RowTiles tiles(part.begin, part.end, highest);
      for (long i = 0; i < tiles.tiles; ++i)
        f(tiles.begin(i), static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)));
    }
  }
};

// acc[m] = columns of a row-major array.
template <class Real>
void copy_rows(const Real* a, long row, long columns, int vectors, int rows, Real* acc) {
  constexpr long width = one_gate_layout(0).width<Real>();
  for (int m = 0; m < rows; ++m)
    for (long v = 0; v < vectors * lanes<Real>; v += lanes<Real>)
      store(acc + m * width + v, load_first(a + m * row + v, columns - v));
}

template <class Cell, class Real>
void hidden_gradient(const Visit<Real>& visit, Share mine, long panel, const Real* w,
                     Ahead& ahead) {
  using Plan = BackwardPlan<Cell>;
  const Backward<Real>& g = visit.g;
  constexpr long width = Plan::columns.template width<Real>();
  const long output = padded<Real>(g.size.output),
             unit = Plan::columns.template unit<Real>(panel, 0);
  const int vectors = Plan::columns.template vectors_of<Real>(panel, g.size.output);
  const TapeColumns<typename Cell::Format> tape = Plan::tape(g, Cell::dh);
  alignas(64) Real acc[max_rows * width];
  const auto sum = [&](index b, int rows, bool here, bool after) {
    __builtin_memset(acc, 0, sizeof acc);
    if (Cell::carries || !after)
      copy_rows<Real>(g.dh + b * output + unit, output, output - unit, vectors, rows, acc);
    if (after) add_columns(g, tape, visit.s, b, w, vectors, rows, acc, ahead);
    if (here && g.dy)
      add_rows(g.dy.at(visit.t, b) + unit, g.dy.row, g.size.output - unit, vectors, rows, acc);
  };
  const index both = least(visit.here, visit.after);
  const auto derive = [&](index begin, index end, bool after) {
    Visit<Real>::tiles({most(mine.begin, begin), least(mine.end, end)}, visit.before, Plan::rows,
                       [&](index b, int rows) {
                         sum(b, rows, true, after);
                         Cell::derive(g, visit.moment(b, rows, panel), acc);
                       });
  };
  derive(0, both, true);
  derive(both, visit.here, false);
  // Rows whose first step was s: this is the gradient of their initial state.
  Visit<Real>::tiles({most(mine.begin, visit.here), least(mine.end, visit.after)}, 0, Plan::rows,
                     [&](index b, int rows) {
                       sum(b, rows, false, true);
                       for (int m = 0; m < rows; ++m)
                         __builtin_memcpy(g.dh + (b + m) * output + unit, acc + m * width,
                                          vectors * lanes<Real> * sizeof(Real));
                     });
}

template <class Cell, class Real>
void input_gradient(const Visit<Real>& visit, Share mine, long panel, const Real* w, Ahead& ahead) {
  using Plan = BackwardPlan<Cell>;
  const Backward<Real>& g = visit.g;
  constexpr long width = Plan::columns.template width<Real>();
  const long column = Plan::columns.template unit<Real>(panel, 0);
  const int vectors = Plan::columns.template vectors_of<Real>(panel, g.size.input);
  const TapeColumns<typename Cell::Format> tape = Plan::tape(g, Cell::dx);
  alignas(64) Real acc[max_rows * width];
  Visit<Real>::tiles({mine.begin, least(mine.end, visit.after)}, 0, Plan::rows,
                     [&](index b, int rows) {
                       __builtin_memset(acc, 0, sizeof acc);
                       add_columns(g, tape, visit.s, b, w, vectors, rows, acc, ahead);
                       if (g.add_dx)
                         add_rows<Real>(g.dx.at(visit.s, b) + column, g.dx.row,
                                        g.size.input - column, vectors, rows, acc);
                       for (int m = 0; m < rows; ++m)
                         for (long v = 0; v < vectors * lanes<Real>; v += lanes<Real>)
                           store_first(g.dx.at(visit.s, b + m) + column + v,
                                       load(acc + m * width + v), g.size.input - column - v);
                     });
}

template <class Cell, class Real>
void second_gradient(const Visit<Real>& visit, Share mine, long panel, const Real* w,
                     Ahead& ahead) {
  using Plan = BackwardPlan<Cell>;
  const Backward<Real>& g = visit.g;
  const int vectors = Plan::columns.template vectors_of<Real>(panel, g.size.hidden);
  const TapeColumns<typename Cell::Format> tape =
      Cell::second_tape(g.size, TapeData<Real>{g.gates, g.projected, g.time.taped()});
  alignas(64) Real acc[max_rows * Plan::columns.template width<Real>()];
  Visit<Real>::tiles({mine.begin, least(mine.end, visit.here)}, visit.before, Plan::rows,
                     [&](index b, int rows) {
                       __builtin_memset(acc, 0, sizeof acc);
                       add_columns(g, tape, visit.t, b, w, vectors, rows, acc, ahead);
                       Cell::derive_second(g, visit.moment(b, rows, panel), acc);
                     });
}

template <class Cell, class Real = Cell::Format::Real>
void backward(const Backward<Real>& g, const Worker& me) {
  const FlushDenormals mode;
  const BackwardPlan<Cell> plan(g.size);
  const Share rows = row_share(g.time.rows(0), me);
  const Share panels = unit_share(plan.h_panels + (g.dx ? plan.x_panels : 0), me);
  for (index p = g.time.steps - 1; p >= -1; --p) {
    const Visit<Real> visit(g, p);
    const long tiles = blocks_of(least(rows.end, visit.after) - rows.begin, plan.rows);
    const Walk walk{panels, (p & 1) != 0};
    for (long i = panels.begin; i < panels.end; ++i) {
      const long panel = walk.at(i);
      const Real* w = g.packed + plan.panel_offset(panel);
      Ahead ahead(w);
      if (const long next = walk.at(i + 1); g.prefetch && tiles > 1 && i + 1 < panels.end)
        ahead = {g.packed + plan.panel_offset(next), plan.panel_bytes(next),
                 tiles * plan.passes(panel)};
      if (panel < plan.h_panels)
        hidden_gradient<Cell>(visit, rows, panel, w, ahead);
      else
        input_gradient<Cell>(visit, rows, panel - plan.h_panels, w, ahead);
    }
    if constexpr (Cell::two_phases) {
      if (!me.finish_step()) return;
      const Share second = unit_share(plan.second_panels, me);
      for (long panel = second.begin; panel < second.end; ++panel) {
        const Real* w =
            g.packed + plan.second_offset() + panel * plan.panel_size(plan.second_depth);
        Ahead ahead(w);
        second_gradient<Cell>(visit, rows, panel, w, ahead);
      }
    }
    if (!me.finish_step()) return;
  }
}

}  // namespace rnnfast::RNNFAST_ISA
