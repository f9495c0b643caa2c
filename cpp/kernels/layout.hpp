// How the gates of a cell lie in panels: the order shared by the packed weights, the scratch rows
// of a tile, and the tape.
//
// A panel is what one register tile computes: either all gates of one block of units (LSTM, GRU)
// or several unit blocks of a single gate (basic cell, second products). A unit block is as many
// units as a vector has lanes.
#pragma once

#include "../contract.hpp"
#include "../simd/simd.hpp"

namespace rnnfast::RNNFAST_ISA {

// A range of the vectors of a panel.
struct Slots {
  int first;
  int count;
};

struct Layout {
  int vectors;
  bool one_gate;  // vectors are consecutive unit blocks of gate[0]; else gates of one unit block
  int gate[4];    // PyTorch's row block of each vector

  template <class Real>
  constexpr long panels(long units) const {
    const long blocks = blocks_of(units, lanes<Real>);
    return one_gate ? blocks_of(blocks, vectors) : blocks;
  }
  // The last panel of a single gate may be narrower.
  template <class Real>
  constexpr int vectors_of(long panel, long units) const {
    if (!one_gate) return vectors;
    return static_cast<int>(least(vectors, blocks_of(units, lanes<Real>) - panel * vectors));
  }
  template <class Real>
  constexpr long unit(long panel, int v) const {
    return (one_gate ? panel * vectors + v : panel) * lanes<Real>;
  }
  constexpr int gate_of(int v) const { return one_gate ? gate[0] : gate[v]; }
  // `slots` of a panel, which in a narrow panel are as many as there are.
  template <class Real>
  constexpr Slots within(Slots slots, long panel, long units) const {
    return one_gate ? Slots{0, vectors_of<Real>(panel, units)} : slots;
  }
  template <class Real>
  constexpr long width() const {
    return vectors * lanes<Real>;
  }
};

constexpr Layout one_gate_layout(int gate) {
  return {block_vectors, true, {gate, gate, gate, gate}};
}
inline constexpr Slots all_blocks{0, block_vectors};

// For a tile `at` of a one-gate panel, a Place or a Moment: calls f(m, unit, gates, sum) for every
// block of units and every row, where `unit` is the block's first, `gates` its vectors in a tape of
// `vectors` to a panel, whose row `tape_row` is the tile's first, and `sum` its vector in `acc`.
template <class Real, int vectors, class At, class Element, class Sum, class F>
inline void for_each_unit(const At& at, long tape_row, long units, Element* tape, long tape_rows,
                          Sum* acc, F f) {
  constexpr Layout columns = one_gate_layout(0);
  constexpr long width = vectors * lanes<Real>;
  const int blocks = columns.vectors_of<Real>(at.panel, units);
  for (int v = 0; v < blocks; ++v) {
    const long unit = columns.unit<Real>(at.panel, v);
    Element* gates = tape + (unit / lanes<Real> * tape_rows + tape_row) * width;
    for (int m = 0; m < at.rows; ++m, gates += width)
      f(m, unit, gates, acc + m * columns.width<Real>() + v * lanes<Real>);
  }
}

}  // namespace rnnfast::RNNFAST_ISA
