// All kernels of one instruction set and one element type. cmake/isa.cmake compiles this file for
// every pair of them with RNNFAST_ISA, RNNFAST_REAL and the instruction set's flags.
#include "cells/basic.hpp"
#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "probe.hpp"
#include "weight_gradient.hpp"

namespace rnnfast::RNNFAST_ISA {
namespace {

template <class Cell, class Real>
Sizes sizes(const Size& s) {
  using First = Cell::First;
  constexpr Layout layout = First::layout;
  Sizes n{};
  const PhasePlan<First, Real> plan(s);
  n.packed_forward = plan.size();
  n.panels = plan.panels();
  n.gates_per_row = plan.panels() * layout.width<Real>();
  n.input_per_row = plan.panels() * First::x.count * lanes<Real>;
  n.packed_backward = BackwardPlan<Cell, Real>(s).size();
  n.padded_hidden = padded<Real>(s.hidden);
  n.padded_output = padded<Real>(s.output);
  if constexpr (Cell::two_phases) {
    const TapeColumns<Real> tape = Cell::second_tape(s, TapeData<Real>{});
    n.packed_forward += PhasePlan<typename Cell::Second, Real>(s).size();
    n.projected_per_row =
        tape.layout.template panels<Real>(tape.units) * tape.layout.template width<Real>();
  }
  return n;
}

template <class Cell, class Real>
void pack_forward(const Size& s, const Weights<const Real>& w, Real* packed, const Worker& me) {
  pack_phase<typename Cell::First>(s, w, packed, me);
  if constexpr (Cell::two_phases)
    pack_phase<typename Cell::Second>(s, w,
                                      packed + PhasePlan<typename Cell::First, Real>(s).size(), me);
}

template <class Cell, class Real>
constexpr CellKernels<Real> kernels() {
  return {sizes<Cell, Real>,
          pack_forward<Cell, Real>,
          pack_backward<Cell, Real>,
          input_product<typename Cell::First, Real>,
          forward<Cell, Real>,
          backward<Cell, Real>,
          gradient_scratch<Cell, Real>,
          weight_gradient<Cell, Real>};
}

}  // namespace

// In the order of cells.hpp.
extern const KernelTable<RNNFAST_REAL> RNNFAST_TABLE;
const KernelTable<RNNFAST_REAL> RNNFAST_TABLE = {
    {kernels<Basic<RNNFAST_REAL>, RNNFAST_REAL>(), kernels<Lstm<RNNFAST_REAL>, RNNFAST_REAL>(),
     kernels<ProjectedLstm<RNNFAST_REAL>, RNNFAST_REAL>(),
     kernels<Gru<RNNFAST_REAL>, RNNFAST_REAL>(),
     kernels<GruResetBefore<RNNFAST_REAL>, RNNFAST_REAL>()},
    dropout<RNNFAST_REAL>,
    map_tanh<RNNFAST_REAL>,
    map_sigmoid<RNNFAST_REAL>,
    fma_probe<RNNFAST_REAL>,
};

}  // namespace rnnfast::RNNFAST_ISA
