// exp, tanh and the logistic function on vectors.
//
// e^x = 2^n · e^r with n = round(x / ln 2) from the addition of a number so large that its last bit
// counts ones, and that leaves n with the exponent's bias in the last bits of the sum. r = x - n·ln
// 2 in two parts, |r| ≤ ln 2 / 2. (e^r - 1 - r) / r² is the Chebyshev interpolant of degree 4
// (float, relative error of e^r - 1: 2.5e-8) or 9 (double, 4.2e-17), computed for this file with 60
// digits.
//   sigmoid(x) = 1 / (1 + e^-x)                        float: ≤ 4 ulp for |x| < 8
//   tanh(x)    = sign(x) · m / (m + 2), m = e^|2x| - 1  float: ≤ 4 ulp for |x| < 8
// NaN comes out as NaN, ±∞ as the exact limits. tests/test_activations.py enforces the bounds.
#pragma once

#include "../simd/simd.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Real>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float magic = 12583039.0f;  // 1.5 · 2^23 + 127
  static constexpr int mantissa = 23;
  static constexpr float ln2_high = 0.693359375f;  // few bits: n · ln2_high is exact
  static constexpr float ln2_low = -2.12194440e-4f;
  static constexpr float sigmoid_limit = 88.0f;  // e^88 is finite, its inverse flushed to zero
  static constexpr float tanh_limit = 9.5f;      // beyond, tanh rounds to 1
  static constexpr float c[] = {0.5f, 0.166665763055606383f, 0.0416665537625676384f,
                                0.00836329275303060231f, 0.00139263256181334621f};
};

template <>
struct ExpConstants<double> {
  static constexpr double magic = 6755399441056767.0;  // 1.5 · 2^52 + 1023
  static constexpr int mantissa = 52;
  static constexpr double ln2_high = 0.693147180369123816490;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double sigmoid_limit = 709.0;
  static constexpr double tanh_limit = 19.5;
  static constexpr double c[] = {0.500000000000000104,     0.166666666666666675,
                                 0.0416666666666234768,    0.00833333333333001176,
                                 0.00138888889175382958,   0.000198412698633032233,
                                 0.0000248015207925726928, 2.75572680728900983e-6,
                                 2.76203274282682382e-7,   2.51005692758136826e-8};
};

template <class Real>
struct ScaledExp {
  Vec<Real> scale;  // 2^n
  Vec<Real> q;      // e^r - 1
};

template <class Real>
inline ScaledExp<Real> scaled_exp(Vec<Real> x) {
  using K = ExpConstants<Real>;
  const Vec<Real> shifted = x * static_cast<Real>(1.44269504088896340736) + K::magic;
  const Vec<Real> n = shifted - K::magic;
  const Vec<Real> r = (x - n * K::ln2_high) - n * K::ln2_low;
  constexpr int degree = sizeof(K::c) / sizeof(K::c[0]) - 1;
  Vec<Real> p = broadcast(K::c[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) p = p * r + K::c[i];
  return {(Vec<Real>)((IntVec<Real>)shifted << K::mantissa), (r * r) * p + r};
}

template <class Real>
inline Vec<Real> sigmoid(Vec<Real> x) {
  constexpr Real limit = ExpConstants<Real>::sigmoid_limit;
  // For large x its exponential vanishes against 1.
  const auto e = scaled_exp<Real>(-at_most<Real>(at_least<Real>(x, -limit), limit));
  return Real{1} / (Real{1} + (e.scale * e.q + e.scale));
}

template <class Real>
inline Vec<Real> tanh(Vec<Real> x) {
  constexpr Real limit = ExpConstants<Real>::tanh_limit;
  const IntVec<Real> sign_bit = (IntVec<Real>)broadcast(Real{-0.0});
  const IntVec<Real> sign = (IntVec<Real>)x & sign_bit;
  const Vec<Real> magnitude = (Vec<Real>)((IntVec<Real>)x & ~sign_bit);
  const auto e = scaled_exp<Real>(at_most<Real>(magnitude, limit) * Real{2});
  const Vec<Real> m = e.scale * e.q + (e.scale - Real{1});
  return (Vec<Real>)((IntVec<Real>)(m / (m + Real{2})) | sign);
}

}  // namespace rnnfast::RNNFAST_ISA
