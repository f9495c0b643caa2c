// THE list of cells, of which their numbers, traits and kernels are made. What else a new one needs
// is told in CONTRIBUTING.md, "Add a cell".
#pragma once

namespace rnnfast {

// X(value of Cell, its template in kernels/cells, traits)
#define RNNFAST_CELLS(X)                                                                \
  X(basic, Basic, .name = "rnn", .gates = 1)                                            \
  X(lstm, Lstm, .name = "lstm", .gates = 4, .has_cell_state = true, .records = true)    \
  X(lstm_projected, ProjectedLstm, .name = "lstm", .gates = 4, .has_cell_state = true,  \
    .projects = true, .needs_operand = true, .records = true)                           \
  X(gru, Gru, .name = "gru", .gates = 3, .records = true)                               \
  X(gru_reset_before, GruResetBefore, .name = "gru", .gates = 3, .needs_operand = true, \
    .records = true)

struct CellTraits {
  const char* name;             // what error messages call the layer
  int gates;                    // row blocks of weight_ih and weight_hh, in PyTorch's order
  bool has_cell_state = false;  // c beside h
  bool projects = false;        // h = W_hr (o ∘ tanh c)
  bool needs_operand = false;   // a second product reads a vector of H that is neither x nor h
  bool records = false;         // BPTT needs more of the forward pass than h

  // Of a step, after each of which threads that split the units meet.
  constexpr int phases() const { return needs_operand ? 2 : 1; }
};

#define RNNFAST_VALUE(cell, kernels, ...) cell,
enum class Cell : int { RNNFAST_CELLS(RNNFAST_VALUE) };
#undef RNNFAST_VALUE

#define RNNFAST_TRAITS(cell, kernels, ...) {__VA_ARGS__},
inline constexpr CellTraits cell_traits[] = {RNNFAST_CELLS(RNNFAST_TRAITS)};
#undef RNNFAST_TRAITS

inline constexpr int cell_count = sizeof cell_traits / sizeof *cell_traits;

constexpr const CellTraits& traits(Cell cell) { return cell_traits[static_cast<int>(cell)]; }

// Precision of the products: the layer's own type; bfloat16 summed in float; or, for inference,
// scaled integers of eight bits.
enum class Compute : int { native, bfloat16, int8 };

enum class Nonlinearity : int { tanh, relu, sigmoid, identity };

}  // namespace rnnfast
