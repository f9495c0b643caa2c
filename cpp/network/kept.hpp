// Packed weights kept from one call to the next of the same parameters.
#pragma once

#include <memory>

#include "engine.hpp"

namespace rnnfast {

// Parameters are the caller's to change at any time, and nothing tells that he has: they are
// compared with a copy, which takes a tenth of the time of packing them.
template <class Real>
struct KeptWeights {
  Buffer<Real> parameters;
  PackedNetwork<Real> packed;
};

// Whether a call over so many rows spends a good part of its time on packing.
inline bool worth_keeping(index rows) { return rows > 0 && rows <= 2048; }

// `last` if it holds these parameters, packed for the instruction set in use; else new ones.
template <class Real>
std::shared_ptr<const KeptWeights<Real>> keep(const Spec& spec, const Real* parameters,
                                              std::shared_ptr<const KeptWeights<Real>> last,
                                              Lease& lease);

}  // namespace rnnfast
