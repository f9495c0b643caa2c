// Kernels beside the cells: dropout between layers, sums, activations on whole arrays, and the
// probes that measure the machine's multiply-add peak and how fast it reads.
#pragma once

#include "activations.hpp"
#include "tile.hpp"

namespace rnnfast::RNNFAST_ISA {

// Steele, Lea and Flood 2014: the finaliser of SplitMix64.
inline uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

template <class Real>
void dropout(const Real* x, Real* y, index n, uint64_t seed, double probability) {
  const uint64_t threshold = static_cast<uint64_t>(probability * 16777216.0 + 0.5);
  const Real scale = probability < 1 ? static_cast<Real>(1 / (1 - probability)) : Real{0};
  for (index i = 0; i < n; ++i)
    y[i] =
        (splitmix64(seed + static_cast<uint64_t>(i)) >> 40) >= threshold ? scale * x[i] : Real{0};
}

template <class Real>
void add(const Real* x, Real* y, index n) {
  const FlushDenormals mode;
  for (index i = 0; i < n; i += lanes<Real>)
    store_first(y + i, load_first(y + i, n - i) + load_first(x + i, n - i), n - i);
}

template <class Real, Vec<Real> (*function)(Vec<Real>)>
void map(const Real* x, Real* y, index n) {
  const FlushDenormals mode;
  for (index i = 0; i < n; i += lanes<Real>)
    store_first(y + i, function(load_first(x + i, n - i)), n - i);
}

template <class Real>
void map_tanh(const Real* x, Real* y, index n) {
  map<Real, tanh<Real>>(x, y, n);
}

template <class Real>
void map_sigmoid(const Real* x, Real* y, index n) {
  map<Real, sigmoid<Real>>(x, y, n);
}

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
