// What a training forward pass keeps for back-propagation through time.
#pragma once

#include <vector>

#include "../dispatch/dispatch.hpp"
#include "sequence.hpp"
#include "spec.hpp"
#include "workspace.hpp"

namespace rnnfast {

// One layer and direction. Where windows are computed again: h0, and in `cells` the cell states
// before each window.
template <class Real>
struct Track {
  Buffer<Real> gates, cells, operand;
  Buffer<Real> h0, c0;  // [segments][P'], [segments][H']

  index bytes() const {
    return gates.bytes() + cells.bytes() + operand.bytes() + h0.bytes() + c0.bytes();
  }
};

template <class Real>
struct Tape {
  Tape(Sequences order, const Spec& spec, uint64_t seed)
      : sequences(std::move(order)),
        dropout_seed(seed),
        outputs(spec.layers),
        dropped(spec.layers),
        tracks(spec.layers * spec.directions) {}

  // What is held beside the caller's arrays x and y.
  index bytes() const {
    index sum = gathered.bytes() + tokens.bytes();
    for (const auto& buffer : outputs) sum += buffer.bytes();
    for (const auto& buffer : dropped) sum += buffer.bytes();
    for (const auto& track : tracks) sum += track.bytes();
    return sum;
  }

  const InstructionSet* instructions = nullptr;  // whose lanes shaped the buffers; forward tells
  Sequences sequences;
  uint64_t dropout_seed;
  Rows<const Real> x;  // first layer's input: the user's, or gathered
  Buffer<Real> gathered;
  Buffer<int32_t> tokens;             // [N] instead of x
  Rows<Real> y;                       // last layer's output: the user's, or packed
  std::vector<Buffer<Real>> outputs;  // of each layer, [N][width]; the last only where packed
  std::vector<Buffer<Real>> dropped;  // the same after dropout
  std::vector<Track<Real>> tracks;    // [layers · directions]
};

}  // namespace rnnfast
