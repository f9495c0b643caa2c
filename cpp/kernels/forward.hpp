// The forward pass of one layer and direction; the only forward time loop.
//
// Step t, for every panel of units and tile of rows:
//   1. acc = bias (or the input product made beforehand, or what the first phase left)
//   2. acc += W_ih x_t        (tokens: the row of W_ih that the token names)
//   3. acc += W_hh h_{t-1}    (second phase: its own matrix and operand)
//   4. the cell's pointwise `finish` writes h_t, c_t and what BPTT needs; `expect` has asked for
//      their memory before the products began
// There is one copy of `finish`, so that no two of its callers round differently.
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
  LeftRows<Real> x;  // of row b: what the products read
  LeftRows<Real> h;
};

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
    return (Phase::layout.vectors + Phase::x.count * (Format::extras + x_k) +
            Phase::h.count * (Format::extras + h_k)) *
           lanes<Real>;
  }
  long size() const { return panels() * panel_size(); }
  long panel_bytes() const { return panel_size() * static_cast<long>(sizeof(Real)); }
  // Rows of weights that a tile goes through.
  long passes(const Forward<Real>& f) const {
    const long x = f.tokens || f.input ? 0 : passes_of(Phase::x.count) * x_k;
    return x + passes_of(Phase::h.count) * h_k;
  }
  const Real* x_weights(const Real* panel) const {
    return panel + Phase::layout.template width<Real>() +
           Phase::x.count * Format::extras * lanes<Real>;
  }
  const Real* h_weights(const Real* panel) const {
    return x_weights(panel) +
           (Phase::x.count * x_k + Phase::h.count * Format::extras) * lanes<Real>;
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
      Vec<Real> column = Format::part(words, token[m] % Format::group);
      if constexpr (Format::extras > 0)
        column *= load(w - Format::extras * (vectors - v) * lanes<Real>);
      store(sum, load(sum) + column);
    }
}

// A product of a tile: rows of x_t or h_{t-1} with the k rows of their weights in a panel.
template <class Format, class Real = Format::Real>
Product<Real> product_of(const LeftRows<Real>& left, const Real* w, long k, Slots slots,
                         Real* acc) {
  return {{left.at, left.row, k},
          w,
          k,
          acc + slots.first * lanes<Real>,
          w - Format::extras * slots.count * lanes<Real>};
}

// Both products of a tile from the weights as they lie.
template <class Phase, class Real>
void add_direct(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
                const int32_t* token, Real* acc) {
  const DirectOperand<Real> operands[2] = {
      {Phase::x.count ? plan.slots(Phase::x, at.panel) : Slots{},
       {f.weights.w_ih, plan.units, plan.x_k},
       at.x.at,
       at.x.row,
       token},
      {plan.slots(Phase::h, at.panel),
       {Phase::matrix(f.weights), plan.units, plan.h_k},
       at.h.at,
       at.h.row,
       nullptr}};
  for (int v = 0; v < Phase::layout.template vectors_of<Real>(at.panel, plan.units); ++v)
    add_direct(Phase::layout, at.panel, v, operands, at.rows, acc,
               Phase::layout.template width<Real>());
}

// Both products of a tile; x_t's unless it was made beforehand.
template <class Phase, class Real>
void add_products(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
                  const Real* panel, Real* acc, Ahead& ahead) {
  using Format = Phase::Format;
  constexpr long acc_row = Phase::layout.template width<Real>();
  const int32_t* token = f.tokens ? f.tokens + f.time.offset[at.t] + at.b : nullptr;
  if constexpr (Format::native)
    if (!f.packed) return add_direct(f, plan, at, token, acc);
  const Slots x = plan.slots(Phase::x, at.panel), h = plan.slots(Phase::h, at.panel);
  const Product<Real> both[2] = {product_of<Format>(at.x, plan.x_weights(panel), plan.x_k, x, acc),
                                 product_of<Format>(at.h, plan.h_weights(panel), plan.h_k, h, acc)};
  const bool dense = Phase::x.count && !f.input && !token;
  if (Phase::x.count && token && !f.input)
    add_tokens<Format>(token, at.rows, plan.x_weights(panel), plan.x_k, x.count, both[0].acc,
                       acc_row);
  if (dense && x.count == h.count)
    return multiply<Format>(both, 2, h.count, at.rows, acc_row, ahead);
  if (dense) multiply<Format>(both, 1, x.count, at.rows, acc_row, ahead);
  multiply<Format>(both + 1, 1, h.count, at.rows, acc_row, ahead);
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

// Asks for the rows of h_t that a tile will write, `vectors` of units from `unit` on.
template <class Real>
void expect_output(const Forward<Real>& f, const Place<Real>& at, long unit, int vectors) {
  for (int m = 0; m < at.rows; ++m)
    fetch_near(f.y.at(at.t, at.b + m) + unit, vectors * lanes<Real>);
}

// The same for the tape, as far as the tile fills a panel of it, `width` elements wide.
template <class Format, class Real = Format::Real>
void expect_tape(const Forward<Real>& f, const Place<Real>& at, long width) {
  if (!f.record) return;
  fetch_near(elements<Format>(f.gates) + (at.panel * at.tape_rows + at.tape_row) * width,
             at.rows * width);
}

// The input product made beforehand, which holds x's biases, and the biases of all else.
template <class Phase, class Real>
void start_with_input(const Forward<Real>& f, const Place<Real>& at, const Real* packed,
                      Real* acc) {
  constexpr long width = Phase::layout.template width<Real>(), part = Phase::x.count * lanes<Real>;
  const Real* input =
      input_row(f.input, f.time.total(), at.panel, f.time.offset[at.t] + at.b, Phase::x.count);
  for (int m = 0; m < at.rows; ++m, acc += width, input += part) {
    __builtin_memcpy(acc, input, part * sizeof(Real));
    __builtin_memcpy(acc + part, packed + part, (width - part) * sizeof(Real));
  }
}

// Steps 1 to 3.
template <class Phase, class Real>
void tile_sums(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Place<Real>& at,
               const Real* panel, Real* acc, Ahead& ahead) {
  if (Phase::x.count && f.input)
    start_with_input<Phase>(f, at, panel, acc);
  else
    start_with_bias<Phase>(f, plan, at.panel, panel, at.rows, acc);
  if constexpr (Phase::second) Phase::start(f, at, acc);
  Phase::expect(f, at);
  add_products(f, plan, at, panel, acc, ahead);
}

// Asks for the input product that a thread adds to next, after panel number i of its walk: the one
// of the next panel, or of the same one in the next step, which walks back.
template <class Phase, class Real>
void expect_product(const Forward<Real>& f, const Walk& walk, long i, index p, index b) {
  const bool ends = i + 1 == walk.panels.end;
  if (!f.input || (ends && p + 1 == f.time.steps)) return;
  const index row = f.time.offset[f.time.time(p + ends)] + b;
  const Real* next =
      input_row(f.input, f.time.total(), walk.at(ends ? i : i + 1), row, Phase::x.count);
  for (int v = 0; v < Phase::x.count; ++v) fetch(next + v * lanes<Real>);
}

// What the rows of a step read.
template <class Real>
struct StepRows {
  const Real* h_prev;  // of row 0; rows h_row apart
  long h_row;
  LeftRows<Real> x, h;

  Place<Real> place(const Forward<Real>& f, index t, index b, int rows, long panel) const {
    const long first = f.record ? f.time.offset[t] : 0;
    const long total = f.record ? f.time.taped() : f.time.rows(0);
    return {t,
            b,
            rows,
            panel,
            first + b,
            total,
            h_prev + b * h_row,
            h_row,
            {x.at + b * x.row, x.row},
            {h.at + b * h.row, h.row}};
  }
};

// Asks for the rows of x that a thread's next step reads, a share with each of its panels.
template <class Real>
void expect_input(const Forward<Real>& f, index p, Share rows, Share panels, long panel) {
  if (!f.x || f.input || p >= f.time.steps) return;
  const index t = f.time.time(p);
  const long count = most(least(rows.end, f.time.rows(t)) - rows.begin, 0);
  const long shares = panels.end - panels.begin;
  const auto row = [&](long i) { return rows.begin + count * (i - panels.begin) / shares; };
  for (long b = row(panel); b < row(panel + 1); ++b)
    for (long i = 0; i < f.size.input; i += lanes<Real>) fetch(f.x.at(t, b) + i);
}

// Rows [begin, end) of step t that all have, or all lack, a predecessor.
template <class Phase, class Real>
void forward_rows(const Forward<Real>& f, const PhasePlan<Phase>& plan, long panel,
                  const Real* packed, index t, Share rows, const StepRows<Real>& step,
                  Ahead& ahead) {
  const RowTiles tiles(rows.begin, rows.end, PhasePlan<Phase>::rows);
  for (long i = 0; i < tiles.tiles; ++i) {
    const index b = tiles.begin(i);
    const int count = static_cast<int>(tiles.begin(i + 1) - b);
    const Place<Real> at = step.place(f, t, b, count, panel);
    alignas(64) Real acc[max_rows * Phase::layout.template width<Real>()];
    tile_sums<Phase>(f, plan, at, packed, acc, ahead);
    Phase::finish(f, at, acc);
  }
}

// Row b of step p, panel after panel. What finishes one row of a panel is a chain of operations
// that wait for each other; several panels' go side by side.
template <class Phase, class Real>
void forward_row(const Forward<Real>& f, const PhasePlan<Phase>& plan, const Walk& walk,
                 const Real* packed, index p, index b, const StepRows<Real>& step) {
  constexpr long width = Phase::layout.template width<Real>();
  const index t = f.time.time(p);
  alignas(64) Real acc[max_rows * width];
  for (long first = walk.panels.begin; first < walk.panels.end; first += max_rows) {
    const long count = least(walk.panels.end - first, max_rows);
    for (long i = 0; i < count; ++i) {
      const long panel = walk.at(first + i);
      const Real* w = f.packed ? packed + panel * plan.panel_size() : nullptr;
      if constexpr (Phase::x.count) {
        expect_input(f, p + 1, {b, b + 1}, walk.panels, first + i);
        expect_product<Phase>(f, walk, first + i, p, b);
      }
      Ahead ahead(w);
      tile_sums<Phase>(f, plan, step.place(f, t, b, 1, panel), w, acc + i * width, ahead);
    }
    for (long i = 0; i < count; ++i)
      Phase::finish(f, step.place(f, t, b, 1, walk.at(first + i)), acc + i * width);
  }
}

// A thread's scratch: the words of x_t, or of a block of x, and of h_{t-1} or the operand.
inline constexpr long input_block = 64;

template <class Format>
long x_scratch(const Size& s, index batch) {
  return Format::native ? 0 : most(batch, input_block) * row_words<Format>(s.input);
}

template <class Cell>
index forward_scratch(const Size& s, index batch) {
  using Format = Cell::Format;
  if (Format::native) return 0;
  return x_scratch<Format>(s, batch) + batch * row_words<Format>(most(s.hidden, s.output));
}

// The rows of step p that begin there, or go on. Threads that own units make the words of all rows
// each for itself, which costs less than one more meeting.
template <class Phase, class Real>
StepRows<Real> step_rows(const Forward<Real>& f, index p, Share rows, bool begin, Real* scratch) {
  using Format = Phase::Format;
  const index t = f.time.time(p);
  StepRows<Real> step{f.h0, padded<Real>(f.size.output), {}, {}};
  if (!begin) step.h_prev = f.y.at(f.time.time(p - 1), 0), step.h_row = f.y.row;
  if (Phase::x.count && f.x && !f.input)
    step.x = left_rows<Format>(f.x.at(t, 0), f.x.row, f.size.input, rows.begin, rows.end, scratch,
                               f.scales.x);
  Real* rest = scratch + x_scratch<Format>(f.size, f.time.rows(0));
  if constexpr (Phase::second) {
    const long row = padded<Real>(f.size.hidden);
    step.h = left_rows<Format>(f.operand + (f.record ? f.time.offset[t] : 0) * row, row,
                               Phase::depth(f.size), rows.begin, rows.end, rest, f.scales.operand);
  } else {
    step.h = left_rows<Format>(step.h_prev, step.h_row, Phase::depth(f.size), rows.begin, rows.end,
                               rest, f.scales.h);
  }
  return step;
}

template <class Phase, class Real>
void forward_phase(const Forward<Real>& f, const Real* packed, index p, const Worker& me,
                   Real* scratch) {
  const PhasePlan<Phase> plan(f.size);
  const index t = f.time.time(p), active = f.time.rows(t);
  const index started = p ? least(active, f.time.rows(f.time.time(p - 1))) : 0;
  const Share rows = row_share(f.time.rows(0), me), panels = unit_share(plan.panels(), me);
  const Share going{rows.begin, least(rows.end, started)};
  const Share beginning{most(rows.begin, started), least(rows.end, active)};
  const auto going_rows = step_rows<Phase>(f, p, going, p == 0, scratch);
  const auto beginning_rows = step_rows<Phase>(f, p, beginning, true, scratch);
  const auto tiles_of = [](Share share) {
    return blocks_of(most(share.end - share.begin, 0), PhasePlan<Phase>::rows);
  };
  const long tiles = tiles_of(going) + tiles_of(beginning);
  const Walk walk{panels, (p & 1) != 0};
  if (least(rows.end, active) - rows.begin == 1)
    return forward_row(f, plan, walk, packed, p, rows.begin,
                       rows.begin < started ? going_rows : beginning_rows);
  for (long i = panels.begin; i < panels.end; ++i) {
    const long panel = walk.at(i);
    const auto weights = [&](long panel) {
      return f.packed ? packed + panel * plan.panel_size() : nullptr;
    };
    const Real* w = weights(panel);
    if constexpr (Phase::x.count) expect_input(f, p + 1, rows, panels, i);
    Ahead ahead(w);
    if (f.prefetch && tiles > 1 && i + 1 < panels.end)
      ahead = {weights(walk.at(i + 1)), plan.panel_bytes(), tiles * plan.passes(f)};
    forward_rows(f, plan, panel, w, t, going, going_rows, ahead);
    forward_rows(f, plan, panel, w, t, beginning, beginning_rows, ahead);
  }
}

// W_ih x + bias of rows [rows.begin, rows.end), of which `left` is the first.
template <class Phase, class Real>
void input_rows(const Forward<Real>& f, const PhasePlan<Phase>& plan, Real* input, long panel,
                Share rows, const LeftRows<Real>& left) {
  using Format = Phase::Format;
  constexpr long width = Phase::layout.template width<Real>();
  alignas(64) Real acc[max_rows * width];
  const Real* w = f.packed + panel * plan.panel_size();
  const Slots x = plan.slots(Phase::x, panel);
  Ahead ahead(w);
  const RowTiles tiles(rows.begin, rows.end, PhasePlan<Phase>::rows);
  for (long i = 0; i < tiles.tiles; ++i) {
    const long row = tiles.begin(i);
    const int count = static_cast<int>(tiles.begin(i + 1) - row);
    start_with_bias<Phase>(f, plan, panel, w, count, acc);
    if (f.tokens) {
      add_tokens<Format>(f.tokens + row, count, plan.x_weights(w), plan.x_k, x.count, acc, width);
    } else {
      const LeftRows<Real> first{left.at + (row - rows.begin) * left.row, left.row};
      const auto product = product_of<Format>(first, plan.x_weights(w), plan.x_k, x, acc);
      multiply<Format>(&product, 1, x.count, count, width, ahead);
    }
    for (int m = 0; m < count; ++m)
      __builtin_memcpy(input_row(input, f.time.total(), panel, row + m, Phase::x.count),
                       acc + m * width, x.count * lanes<Real> * sizeof(Real));
  }
}

// W_ih x + bias of rows begin … end - 1 at once, where a single sequence leaves the step's own
// product too narrow. The rows of x are evenly spaced.
template <class Cell, class Real = Cell::Format::Real>
void input_product(const Forward<Real>& f, Real* input, index begin, index end, const Worker& me) {
  using Format = Cell::Format;
  using Phase = Cell::First;
  const FlushDenormals mode;
  const PhasePlan<Phase> plan(f.size);
  const long block = Format::native ? most(end - begin, 1) : input_block,
             x_row = f.time.rows(0) == 1 && !f.x.offset ? f.x.step : f.x.row;
  Real* scratch = f.scratch + me.index * forward_scratch<Cell>(f.size, f.time.rows(0));
  const Share panels = share(plan.panels(), me);
  for (long row = begin; row < end; row += block) {
    const Share rows{row, least(row + block, end)};
    const auto left = left_rows<Format>(f.x.base + row * x_row, x_row, f.size.input, 0,
                                        f.tokens ? 0 : rows.end - rows.begin, scratch, f.scales.x);
    for (long panel = panels.begin; panel < panels.end; ++panel)
      input_rows(f, plan, input, panel, rows, left);
  }
}

template <class Cell, class Real = Cell::Format::Real>
void forward(const Forward<Real>& f, const Worker& me) {
  const FlushDenormals mode;
  using First = Cell::First;
  Real* scratch = f.scratch + me.index * forward_scratch<Cell>(f.size, f.time.rows(0));
  for (index p = 0; p < f.time.steps; ++p) {
    forward_phase<First>(f, f.packed, p, me, scratch);
    if constexpr (Cell::two_phases) {
      if (!me.finish_step()) return;
      const Real* second = f.packed ? f.packed + PhasePlan<First>(f.size).size() : nullptr;
      forward_phase<typename Cell::Second>(f, second, p, me, scratch);
    }
    if (!me.finish_step()) return;
  }
}

}  // namespace rnnfast::RNNFAST_ISA
