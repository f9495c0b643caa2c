#include "kept.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "layers.hpp"

namespace rnnfast {
namespace {

constexpr index sample_size = 256;

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
bool same(const Real* a, const Real* b, index count) {
  return std::memcmp(a, b, count * sizeof(Real)) == 0;
}

// Calls job(begin, end) for shares of so many parameters.
void in_shares(index count, Lease& lease, const std::function<void(index, index)>& job) {
  pack_in_shares(count, lease, [&](const Worker& me) {
    job(count * me.index / me.count, count * (me.index + 1) / me.count);
  });
}

}  // namespace

template <class Real>
bool KeptWeights<Real>::holds(const Real* parameters, Lease& lease) const {
  if (packed_->instructions != &current()) return false;
  std::atomic<bool> equal{true};
  in_shares(parameters_.size(), lease, [&](index begin, index end) {
    if (!same(parameters + begin, parameters_.data() + begin, end - begin))
      equal.store(false, std::memory_order_relaxed);
  });
  return equal;
}

// Packs the copy: the caller's array may change meanwhile, by another thread or a signal handler.
template <class Real>
void KeptWeights<Real>::keep(const Spec& spec, const Real* parameters, Lease& lease) {
  parameters_ = Buffer<Real>(parameter_count(spec));
  in_shares(parameters_.size(), lease, [&](index begin, index end) {
    std::memcpy(parameters_.data() + begin, parameters + begin, (end - begin) * sizeof(Real));
  });
  packed_ = pack(spec, parameters_.data(), lease);
}

template <class Real>
const PackedNetwork<Real>* KeptWeights<Real>::find(const Spec& spec, const Real* parameters,
                                                   Lease& lease) {
  std::vector<Real> sample = sample_of(parameters, parameter_count(spec));
  const bool like_last = sample.size() == sample_.size() &&
                         same(sample.data(), sample_.data(), static_cast<index>(sample.size()));
  sample_ = std::move(sample);
  if (like_last && !packed_) {
    keep(spec, parameters, lease);
  } else if (packed_ && !(like_last && holds(parameters, lease))) {
    packed_.reset();
    parameters_ = {};
  }
  return packed_ ? &*packed_ : nullptr;
}

template <class Real>
index KeptWeights<Real>::bytes() const {
  index sum = parameters_.bytes();
  if (packed_)
    for (const auto& track : packed_->tracks) sum += track.bytes();
  return sum;
}

template class KeptWeights<float>;
template class KeptWeights<double>;

}  // namespace rnnfast
