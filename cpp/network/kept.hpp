// Packed weights kept from one call to the next of the same parameters.
#pragma once

#include <memory>
#include <vector>

#include "engine.hpp"

namespace rnnfast {

// Packed weights, and a copy of the parameters that they were made of.
template <class Real>
struct KeptWeights {
  Buffer<Real> parameters;
  PackedNetwork<Real> packed;

  index bytes() const;
};

// Whether a call over so many rows spends a good part of its time on packing.
inline bool worth_keeping(index rows) { return rows > 0 && rows <= 2048; }

// Parameters are the caller's to change at any time, and nothing tells of it. A sample of them
// tells most changes for nothing. Where two calls see the same sample, the second one keeps what it
// packs, and later ones compare the parameters with the copy, which takes half the time of packing
// or less. After changes that no sample tells it takes ever more calls.
template <class Real>
class WeightCache {
 public:
  struct Call {
    std::shared_ptr<const KeptWeights<Real>> kept;
    bool keeps = false;  // what it packs
    bool stale = false;  // what was kept
  };

  // At the begin and the end of a call, never two at once.
  Call begin(const Real* parameters, index count);
  void end(const Call& call);
  index bytes() const { return kept_ ? kept_->bytes() : 0; }

  // In between: weights that hold the parameters; null where the call has to pack them for itself.
  static const PackedNetwork<Real>* find(Call& call, const Spec& spec, const Real* parameters,
                                         Lease& lease);

 private:
  std::vector<Real> sample_;  // of the last call's parameters
  std::shared_ptr<const KeptWeights<Real>> kept_;
  int equal_ = 0, wanted_ = 1;  // calls that saw the sample again, and how many have to
};

}  // namespace rnnfast
