// Packed weights kept from one call to the next of the same parameters.
#pragma once

#include <optional>
#include <vector>

#include "engine.hpp"

namespace rnnfast {

// Parameters are the caller's to change at any time, and nothing tells that he has. A sample of
// them tells most changes for nothing. Where two calls see the same sample, the second one packs a
// copy of the parameters, and later ones compare them with it, which takes half the time of packing
// or less.
template <class Real>
class KeptWeights {
 public:
  // Weights that hold these parameters; null where the call had better pack them for itself.
  const PackedNetwork<Real>* find(const Spec& spec, const Real* parameters, Lease& lease);
  index bytes() const;

 private:
  bool holds(const Real* parameters, Lease& lease) const;
  void keep(const Spec& spec, const Real* parameters, Lease& lease);

  std::vector<Real> sample_;  // of the last call's parameters
  Buffer<Real> parameters_;
  std::optional<PackedNetwork<Real>> packed_;  // of parameters_
};

// Whether a call over so many rows spends a good part of its time on packing.
inline bool worth_keeping(index rows) { return rows > 0 && rows <= 2048; }

}  // namespace rnnfast
