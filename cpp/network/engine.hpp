// Layers × directions × sequences: prepares what the kernels need and calls them in order.
#pragma once

#include "../threads/team.hpp"
#include "plan.hpp"
#include "spec.hpp"
#include "tape.hpp"

namespace rnnfast {

// Packed weights of all layers and directions, for calls that share their parameters.
template <class Real>
struct PackedNetwork {
  const InstructionSet* instructions;
  std::vector<Buffer<Real>> tracks;
  std::vector<PerOperand<Real>> scales;  // of each track, as in Forward
};

// h [L·D][B][P] and c [L·D][B][H]; null stands for zeros (inputs) or unwanted (outputs).
template <class Real>
struct State {
  Real* h = nullptr;
  Real* c = nullptr;
};

template <class Real>
struct ForwardCall {
  const Real* parameters;             // null where packed weights are given
  const PackedNetwork<Real>* packed;  // may be null
  Rows<const Real> x;                 // the user's array …
  Rows<const int32_t> tokens;         // … or the caller's tokens
  State<const Real> initial;
  Rows<Real> y;       // assigned
  State<Real> final;  // assigned
};

template <class Real>
struct BackwardCall {
  const Real* parameters;
  Rows<const Real> dy;  // may be null
  State<const Real> dfinal;
  Real* dparameters;     // assigned
  Rows<Real> dx;         // assigned; may be null
  State<Real> dinitial;  // assigned
};

template <class Real>
PackedNetwork<Real> pack(const Spec& spec, const Real* parameters, Lease& lease);

// The largest magnitudes of each track's left operands in what a tape recorded, in the format of
// Reals and without dropout; NaN where one is NaN.
template <class Real>
std::vector<PerOperand<Real>> magnitudes(const Spec& spec, const Tape<Real>& tape);

// Inference where `tape` is null; else `sequences` is the tape's own.
template <class Real>
void forward(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
             Tape<Real>* tape, Lease& lease);

// One time step of a whole network that reads the weights as they lie, or packed ones.
template <class Real>
void step(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
          Lease& lease);

// Uses the tape up.
template <class Real>
void backward(const Spec& spec, const BackwardCall<Real>& call, Tape<Real>& tape, Lease& lease);

// How a layer is run, and what the plan was chosen by and against.
struct Explanation {
  Work work;
  Machine machine;
  Plan plan;
  double rows_alone, units_alone;  // shares of a single thread's time, as Plan::share
};

// Of each direction of a layer. `rows` ≤ steps · batch, the sum of the lengths.
template <class Real>
std::vector<Explanation> explain(const Spec& spec, index steps, index rows, index batch,
                                 bool tokens, int threads);

}  // namespace rnnfast
