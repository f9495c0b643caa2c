// The list of cells. A new cell is a line here, a file in kernels/cells, its twin in
// rnnfast.reference and a class in layers.py.
#pragma once

namespace rnnfast {

enum class Cell : int { basic, lstm, lstm_projected, gru, gru_reset_before };
inline constexpr int cell_count = 5;

struct CellTraits {
  const char* name;     // what error messages call the layer
  int gates;            // row blocks of weight_ih and weight_hh, in PyTorch's order
  bool has_cell_state;  // c beside h
  bool projects;        // h = W_hr (o ∘ tanh c)
  bool needs_operand;   // a second product reads a vector of H that is neither x nor h
  bool records;         // BPTT needs more of the forward pass than h

  // Of a step, after each of which threads that split the units meet.
  constexpr int phases() const { return needs_operand ? 2 : 1; }
};

inline constexpr CellTraits cell_traits[cell_count] = {
    {"rnn", 1, false, false, false, false}, {"lstm", 4, true, false, false, true},
    {"lstm", 4, true, true, true, true},    {"gru", 3, false, false, false, true},
    {"gru", 3, false, false, true, true},
};

constexpr const CellTraits& traits(Cell cell) { return cell_traits[static_cast<int>(cell)]; }

// Precision of the products: the layer's own type; bfloat16 summed in float; or, for inference,
// scaled integers of eight bits.
enum class Compute : int { native, bfloat16, int8 };

enum class Nonlinearity : int { tanh, relu, sigmoid, identity };

}  // namespace rnnfast
