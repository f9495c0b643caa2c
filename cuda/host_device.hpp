// What thread code needs to be compiled for the GPU by nvcc and, as plain C++, for its emulation.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define RNNFAST_HD __host__ __device__ __forceinline__
#else
#define RNNFAST_HD inline
#endif

namespace rnnfast::cuda {

using index = std::ptrdiff_t;

// An operand of products in bfloat16: the upper half of a float, rounded to nearest even.
struct Bfloat16 {
  uint16_t bits;
};

template <class To, class From>
RNNFAST_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  union {
    From from;
    To to;
  } both{from};
  return both.to;
}

RNNFAST_HD float to_float(float value) { return value; }
RNNFAST_HD float to_float(Bfloat16 value) {
  return bits_as<float>(static_cast<uint32_t>(value.bits) << 16);
}

template <class Operand>
RNNFAST_HD Operand to_operand(float value);

template <>
RNNFAST_HD float to_operand<float>(float value) {
  return value;
}

template <>
RNNFAST_HD Bfloat16 to_operand<Bfloat16>(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

}  // namespace rnnfast::cuda
