#include "kept.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace rnnfast {
namespace {

constexpr index sample_size = 256;
constexpr int most_wanted = 1024;

// Values from one end to the other.
template <class Real>
std::vector<Real> sample_of(const Real* parameters, index count) {
  const index n = std::min(sample_size, count);
  std::vector<Real> sample(n);
  for (index i = 0; i < n; ++i) sample[i] = parameters[(count - 1) * i / std::max<index>(n - 1, 1)];
  return sample;
}

// Bit for bit, so that NaN equals itself.
template <class Real>
bool same(const Real* a, const Real* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(Real)) == 0;
}

template <class Real>
bool holds(const KeptWeights<Real>& kept, const Real* parameters, Lease& lease) {
  if (kept.packed.instructions != &current()) return false;
  std::atomic<bool> equal{true};
  lease.parallel(kept.parameters.size(), sizeof(Real), [&](index begin, index end) {
    if (!same(parameters + begin, kept.parameters.data() + begin, end - begin))
      equal.store(false, std::memory_order_relaxed);
  });
  return equal;
}

// Packs the copy: the caller's array may change meanwhile, by another thread or a signal handler.
template <class Real>
std::shared_ptr<const KeptWeights<Real>> keep(const Spec& spec, const Real* parameters,
                                              Lease& lease) {
  Buffer<Real> copy(parameter_count(spec));
  lease.parallel(copy.size(), sizeof(Real), [&](index begin, index end) {
    std::memcpy(copy.data() + begin, parameters + begin, (end - begin) * sizeof(Real));
  });
  PackedNetwork<Real> packed = pack<Real>(spec, copy.data(), lease);
  return std::make_shared<KeptWeights<Real>>(KeptWeights<Real>{std::move(copy), std::move(packed)});
}

}  // namespace

template <class Real>
index KeptWeights<Real>::bytes() const {
  index sum = parameters.bytes();
  for (const auto& track : packed.tracks) sum += track.bytes();
  return sum;
}

template <class Real>
auto WeightCache<Real>::begin(const Real* parameters, index count) -> Call {
  std::vector<Real> sample = sample_of(parameters, count);
  if (sample.size() != sample_.size() || !same(sample.data(), sample_.data(), sample.size())) {
    sample_ = std::move(sample);
    kept_.reset();
    equal_ = 0;
    return {};
  }
  if (kept_) return {kept_};
  return {nullptr, ++equal_ >= wanted_};
}

template <class Real>
const PackedNetwork<Real>* WeightCache<Real>::find(Call& call, const Spec& spec,
                                                   const Real* parameters, Lease& lease) {
  if (call.keeps)
    call.kept = keep(spec, parameters, lease);
  else if (call.kept)
    call.stale = !holds(*call.kept, parameters, lease);
  return call.kept && !call.stale ? &call.kept->packed : nullptr;
}

template <class Real>
void WeightCache<Real>::end(const Call& call) {
  if (call.stale) {
    if (kept_ == call.kept) kept_.reset();
    wanted_ = std::min(2 * wanted_, most_wanted);
    equal_ = 0;
  } else if (call.keeps && equal_ >= wanted_) {
    kept_ = call.kept;
  } else if (call.kept) {
    wanted_ = std::max(wanted_ / 2, 1);
  }
}

template struct KeptWeights<float>;
template struct KeptWeights<double>;
template class WeightCache<float>;
template class WeightCache<double>;

}  // namespace rnnfast
