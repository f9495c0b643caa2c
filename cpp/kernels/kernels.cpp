// All kernels of one instruction set and one format. cmake/isa.cmake compiles this file for every
// pair of them with RNNFAST_ISA, RNNFAST_FORMAT, RNNFAST_TABLE and the instruction set's flags.
#include "cells/basic.hpp"
#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "dense.hpp"
#include "elementwise.hpp"
#include "probe.hpp"

namespace rnnfast::RNNFAST_ISA {
namespace {

template <class Cell>
Sizes sizes(const Size& s) {
  using Format = Cell::Format;
  using Real = Format::Real;
  using First = Cell::First;
  constexpr Layout layout = First::layout;
  Sizes n{};
  const PhasePlan<First> plan(s);
  n.packed_forward = plan.size();
  n.panels = plan.panels();
  n.gates_per_row = plan.panels() * tape_words<Format>(layout.width<Real>());
  if (Cell::keeps_between) n.between_per_row = plan.panels() * layout.width<Real>();
  n.input_per_row = plan.panels() * First::x.count * lanes<Real>;
  if (Format::trains) n.packed_backward = BackwardPlan<Cell>(s).size();
  n.gradient_rows = gradient_rows;
  n.padded_hidden = padded<Real>(s.hidden);
  n.padded_output = padded<Real>(s.output);
  if constexpr (Cell::two_phases) {
    const TapeColumns<Format> tape = Cell::second_tape(s, TapeData<Real>{});
    n.packed_forward += PhasePlan<typename Cell::Second>(s).size();
    n.projected_per_row = tape.layout.template panels<Real>(tape.units) * tape.row();
  }
  return n;
}

template <class Cell, class Real = Cell::Format::Real>
void pack_forward(const Size& s, const Weights<const Real>& w, Real* packed, const Worker& me) {
  using First = Cell::First;
  pack_phase<First>(s, w, packed, me);
  if constexpr (Cell::two_phases)
    pack_phase<typename Cell::Second>(s, w, packed + PhasePlan<First>(s).size(), me);
}

template <class Cell>
constexpr CellKernels<typename Cell::Real> kernels() {
  CellKernels<typename Cell::Real> k{};
  k.sizes = sizes<Cell>;
  k.pack_forward = pack_forward<Cell>;
  k.forward_scratch = forward_scratch<Cell>;
  k.input_product = input_product<Cell>;
  k.forward = forward<Cell>;
  if constexpr (Cell::Format::trains) {
    k.pack_backward = pack_backward<Cell>;
    k.backward = backward<Cell>;
    k.gradient_sums = gradient_sums<Cell>;
    k.gradient_scratch = gradient_scratch<Cell>;
    k.weight_gradient = weight_gradient<Cell>;
  }
  return k;
}

template <class Format, class Real = Format::Real>
constexpr DenseKernels<Real> dense() {
  if constexpr (Format::native)
    return {dense_packed<Real>,          dense_pack<Real>,
            dense_pack_transposed<Real>, dense_rows<Real>,
            dense_column_blocks<Real>,   dense_column_scratch<Real>,
            dense_columns<Real>,         softmax<Real>};
  else
    return {};
}

#define RNNFAST_KERNELS(cell, type, ...) kernels<type<Format>>(),

template <class Format>
constexpr KernelTable<typename Format::Real> table() {
  using Real = Format::Real;
  return {
      {RNNFAST_CELLS(RNNFAST_KERNELS)},
      dense<Format>(),
      dropout<Real>,
      add<Real>,
      map_tanh<Real>,
      map_sigmoid<Real>,
      fma_probe<Format>,
      read_probe<Real>,
  };
}

#undef RNNFAST_KERNELS

}  // namespace

extern const KernelTable<RNNFAST_FORMAT::Real> RNNFAST_TABLE;
const KernelTable<RNNFAST_FORMAT::Real> RNNFAST_TABLE = table<RNNFAST_FORMAT>();

}  // namespace rnnfast::RNNFAST_ISA
