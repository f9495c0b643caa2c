// Probes that measure the machine's multiply-add peak and how fast it reads.
#pragma once

#include "tile.hpp"

namespace rnnfast::RNNFAST_ISA {

// As many chains of multiply-adds as a tile has accumulators: the registers a product keeps busy,
// for which some cores clock down.
template <class Format>
double fma_probe(index rounds) {
  using Real = Format::Real;
  constexpr int width = tile_vectors(4), chains = width * tile_rows(width);
  typename Format::Sum c[chains], sum{};
  for (int i = 0; i < chains; ++i) c[i] = (typename Format::Sum)broadcast(static_cast<Real>(i));
  const Real some = Real(0.25);
  const auto start = (typename Format::Sum)Format::spread(&some);
  const Vec<Real> factor = broadcast(some);
  for (index r = 0; r < rounds; ++r) {
    // The chain runs through a factor: a constant product would be computed once.
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) c[i] = Format::multiply_add(start, c[i], factor);
  }
  for (int i = 0; i < chains; ++i) sum += c[i];
  Real lane[lanes<Real>];
  store(lane, (Vec<Real>)sum);
  const volatile Real keep = lane[0];
  (void)keep;
  return 2.0 * Format::group * chains * lanes<Real> * static_cast<double>(rounds);
}

// Sums in chains of their own, enough that no addition waits for the one before: loads alone bound
// it, and the sum needs all of them.
template <class Real>
Real read_probe(const Real* x, index n) {
  constexpr index chains = 8, block = chains * lanes<Real>;
  Vec<Real> sums[chains]{};
  index i = 0;
  for (; i + block <= n; i += block) {
#pragma GCC unroll 8
    for (index j = 0; j < chains; ++j) sums[j] += load(x + i + j * lanes<Real>);
  }
  for (; i < n; i += lanes<Real>) sums[0] += load_first(x + i, n - i);
  for (index j = 1; j < chains; ++j) sums[0] += sums[j];
  Real sum{};
  for (index lane = 0; lane < lanes<Real>; ++lane) sum += sums[0][lane];
  return sum;
}

}  // namespace rnnfast::RNNFAST_ISA
