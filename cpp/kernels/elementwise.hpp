// Kernels on whole arrays beside the cells: dropout between layers, sums and activations.
#pragma once

#include "../contract.hpp"
#include "activations.hpp"

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

}  // namespace rnnfast::RNNFAST_ISA
