// The vector type of the instruction set this translation unit is compiled for, with what all
// instruction sets do alike. The file named after a set holds what differs: the vector's width, the
// tile shapes, the block sizes and the floating-point mode.
//
// Everything lives in a namespace named after the instruction set and is reached by no other
// translation unit: code compiled for AVX-512 must never be linked in place of its baseline twin.
#pragma once

#if !defined(RNNFAST_ISA)
#error "RNNFAST_ISA names the instruction set; cmake/isa.cmake defines it"
#endif

#include <stdint.h>

#define RNNFAST_TEXT(x) #x
#define RNNFAST_FILE_OF(isa) RNNFAST_TEXT(isa.hpp)
#include RNNFAST_FILE_OF(RNNFAST_ISA)
#undef RNNFAST_FILE_OF
#undef RNNFAST_TEXT

namespace rnnfast::RNNFAST_ISA {

template <class Real>
struct Bits;
template <>
struct Bits<float> {
  using type = int32_t;
};
template <>
struct Bits<double> {
  using type = int64_t;
};

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};

template <class Real>
using Vec = VectorOf<Real>::type;
template <class Real>
using IntVec = VectorOf<typename Bits<Real>::type>::type;

template <class Real>
inline constexpr long lanes = vector_bytes / static_cast<long>(sizeof(Real));

constexpr long blocks_of(long n, long size) { return (n + size - 1) / size; }

template <class Real>
constexpr long padded(long n) {
  return blocks_of(n, lanes<Real>) * lanes<Real>;
}

constexpr long least(long a, long b) { return a < b ? a : b; }
constexpr long most(long a, long b) { return a > b ? a : b; }

template <class Real>
inline Vec<Real> load(const Real* p) {
  Vec<Real> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class Real>
inline void store(Real* p, Vec<Real> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Asks for a line that will be read once soon, in the second-level cache.
inline void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// Asks for n elements that will be written next, in the first-level cache.
template <class T>
inline void fetch_near(const T* p, long n) {
  for (long i = 0; i < n; i += 64 / static_cast<long>(sizeof(T))) __builtin_prefetch(p + i, 1, 3);
}

template <class Real>
inline Vec<Real> broadcast(Real a) {
  return a - Vec<Real>{};
}

// The lesser and the greater of two; b where one of them is NaN.
template <class V>
inline V lesser(V a, V b) {
  return a < b ? a : b;
}
template <class V>
inline V greater(V a, V b) {
  return a > b ? a : b;
}

// NaN passes through.
template <class Real>
inline Vec<Real> at_most(Vec<Real> x, Real limit) {
  return lesser(broadcast(limit), x);
}
template <class Real>
inline Vec<Real> at_least(Vec<Real> x, Real limit) {
  return greater(broadcast(limit), x);
}

// The first n lanes, the others zero; any n, also none or more than a vector holds.
template <class Real>
inline Vec<Real> load_first(const Real* p, long n) {
  if (n >= lanes<Real>) return load(p);
  Vec<Real> v{};
  for (long i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

template <class Real>
inline void store_first(Real* p, Vec<Real> v, long n) {
  if (n >= lanes<Real>) return store(p, v);
  for (long i = 0; i < n; ++i) p[i] = v[i];
}

template <long... i>
struct Indices {};

// 0 … n - 1
template <long n, long... i>
constexpr auto up_to() {
  if constexpr (n == 0)
    return Indices<i...>{};
  else
    return up_to<n - 1, n - 1, i...>();
}

template <long half, class V, long... i>
inline V halves_exchanged(V v, Indices<i...>) {
  return __builtin_shufflevector(v, v, (i ^ half)...);
}

// What f makes of all lanes of v, in each of them: rounds that each join two halves.
template <class Real, long half = lanes<Real> / 2, class V, class F>
inline V joined(V v, F f) {
  v = f(v, halves_exchanged<half>(v, up_to<lanes<Real>>()));
  if constexpr (half > 1) return joined<Real, half / 2>(v, f);
  return v;
}

// In-place transposition of a square of vectors: log2(lanes) rounds that each exchange the
// off-diagonal halves of blocks of doubling size.
template <class Real, long half, long... i>
inline void exchange(Vec<Real>& a, Vec<Real>& b, Indices<i...>) {
  constexpr long n = lanes<Real>;
  const Vec<Real> low = __builtin_shufflevector(a, b, (i & half ? n + i - half : i)...);
  b = __builtin_shufflevector(a, b, (i & half ? n + i : i + half)...);
  a = low;
}

template <class Real, long half>
inline void exchange(Vec<Real>& a, Vec<Real>& b) {
  exchange<Real, half>(a, b, up_to<lanes<Real>>());
}

template <class Real, long half = 1>
inline void transpose(Vec<Real> (&v)[lanes<Real>]) {
#pragma GCC unroll 16
  for (long i = 0; i < lanes<Real>; ++i)
    if (!(i & half)) exchange<Real, half>(v[i], v[i + half]);
  if constexpr (2 * half < lanes<Real>) transpose<Real, 2 * half>(v);
}

// Lane i is the sum of v[i]'s lanes: rounds that each turn two vectors into one of sums by twos.
template <class Real, long half = 1>
inline Vec<Real> sums_of(Vec<Real> (&v)[lanes<Real>]) {
#pragma GCC unroll 8
  for (long i = 0; i < lanes<Real> / (2 * half); ++i) {
    exchange<Real, half>(v[2 * i], v[2 * i + 1]);
    v[i] = v[2 * i] + v[2 * i + 1];
  }
  if constexpr (2 * half < lanes<Real>) return sums_of<Real, 2 * half>(v);
  return v[0];
}

}  // namespace rnnfast::RNNFAST_ISA
