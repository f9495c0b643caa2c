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

// The steps 0 … T cut into groups that hold as many rows as `most` allows, but a step at least; T
// ends the list of their first steps. A group depends on its first step alone, so a part of the
// steps that begins with a group has the same ones.
std::vector<index> groups(const Timeline& time, index most);

// Runs cut into chunks: groups from the one processed last to the first, in the order in which BPTT
// comes to them, and each group into equal parts.
template <class Real>
class Chunked {
 public:
  Chunked(const Timeline& time, index most, const std::vector<Run<Real>>& runs);

  Chunks<Real> view() const { return {chunks_.data(), static_cast<index>(chunks_.size())}; }

 private:
  void add(const std::vector<Run<Real>>& runs, index begin, index end);

  std::vector<Run<Real>> runs_;
  std::vector<Runs<Real>> chunks_;
};

}  // namespace rnnfast
