// What AVX512-VNNI adds to AVX-512: products of bytes, summed in integers.
#pragma once

#include "avx512.hpp"

#define RNNFAST_BYTE_PRODUCTS

namespace rnnfast::RNNFAST_ISA {

// sum[i] + Σ left[4i + j] · right[4i + j] for j = 0 … 3, left unsigned, right signed.
inline __m512i add_byte_products(__m512i sum, __m512i left, __m512i right) {
  return _mm512_dpbusd_epi32(sum, left, right);
}

}  // namespace rnnfast::RNNFAST_ISA
