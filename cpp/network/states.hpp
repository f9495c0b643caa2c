// States at the ends of sequences, one row for each in the user's arrays, and of segments, one row
// for each in the kernels'.
#pragma once

#include "engine.hpp"

namespace rnnfast {

// Which segments begin with the given initial state of their sequence, and which leave its final
// state, in the given direction.
bool takes_initial(const Segment& segment, bool reverse);
bool leaves_final(const Segment& segment, bool reverse);
using Chosen = bool (*)(const Segment&, bool reverse);

// One row per segment, `padded` apart, from one row per sequence; zero where not chosen.
template <class Real>
Buffer<Real> spread(const Sequences& sequences, Chosen chosen, bool reverse, const Real* user,
                    index columns, index padded);

// The other way round: only the chosen segments' sequences are assigned.
template <class Real>
void collect(const Sequences& sequences, Chosen chosen, bool reverse, const Real* rows,
             index columns, index padded, Real* user);

// The part of a state array that belongs to one layer and direction.
template <class Real>
Real* part(Real* all, index track, index batch, index columns) {
  return all ? all + track * batch * columns : nullptr;
}

// A state passes through where a sequence has no steps; every other one is overwritten later.
template <class Real>
void pass_state(const Spec& spec, const Sequences& sequences, const State<const Real>& from,
                const State<Real>& to);

// Sequences with a segment lose what pass_state gave them: only takes_initial's are set later.
template <class Real>
void clear_started(const Spec& spec, const Sequences& sequences, const State<Real>& state);

}  // namespace rnnfast
