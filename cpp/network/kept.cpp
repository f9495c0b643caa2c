#include "kept.hpp"

#include <atomic>
#include <cstring>

#include "layers.hpp"

namespace rnnfast {
namespace {

// Calls job(begin, end) for shares of so many parameters.
void in_shares(index count, Lease& lease, const std::function<void(index, index)>& job) {
  pack_in_shares(count, lease, [&](const Worker& me) {
    job(count * me.index / me.count, count * (me.index + 1) / me.count);
  });
}

// Bit for bit, so that NaN equals itself.
template <class Real>
bool same(const Real* a, const Real* b, index count, Lease& lease) {
  std::atomic<bool> equal{true};
  in_shares(count, lease, [&](index begin, index end) {
    if (std::memcmp(a + begin, b + begin, (end - begin) * sizeof(Real)) != 0)
      equal.store(false, std::memory_order_relaxed);
  });
  return equal;
}

}  // namespace

template <class Real>
std::shared_ptr<const KeptWeights<Real>> keep(const Spec& spec, const Real* parameters,
                                              std::shared_ptr<const KeptWeights<Real>> last,
                                              Lease& lease) {
  const index count = parameter_count(spec);
  if (last && last->packed.instructions == &current() &&
      same(parameters, last->parameters.data(), count, lease))
    return last;
  last.reset();  // which makes room
  auto kept = std::make_shared<KeptWeights<Real>>();
  kept->parameters = Buffer<Real>(count);
  in_shares(count, lease, [&](index begin, index end) {
    std::memcpy(kept->parameters.data() + begin, parameters + begin, (end - begin) * sizeof(Real));
  });
  kept->packed = pack(spec, parameters, lease);
  return kept;
}

template std::shared_ptr<const KeptWeights<float>> keep(const Spec&, const float*,
                                                        std::shared_ptr<const KeptWeights<float>>,
                                                        Lease&);
template std::shared_ptr<const KeptWeights<double>> keep(const Spec&, const double*,
                                                         std::shared_ptr<const KeptWeights<double>>,
                                                         Lease&);

}  // namespace rnnfast
