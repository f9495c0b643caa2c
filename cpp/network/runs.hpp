// The left operands of the weight gradients: which rows of x, of h and of the second product's
// operand lie beside which rows of the tape.
#pragma once

#include <vector>

#include "../contract.hpp"

namespace rnnfast {

// x_t beside every row; without x (tokens) the rows alone.
template <class Real>
std::vector<Run<Real>> input_runs(const Timeline& time, const Rows<const Real>& x);

// h_{t-1} beside every row: an earlier output, or the initial state.
template <class Real>
std::vector<Run<Real>> hidden_runs(const Timeline& time, const Rows<const Real>& y, const Real* h0,
                                   index h0_row);

template <class Real>
Runs<Real> view(const std::vector<Run<Real>>& runs) {
  return {runs.data(), static_cast<index>(runs.size())};
}

}  // namespace rnnfast
