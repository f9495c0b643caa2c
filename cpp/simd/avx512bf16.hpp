// What AVX512-BF16 adds to AVX-512: products of pairs of bfloat16, summed in float.
#pragma once

#include "avx512.hpp"

#define RNNFAST_BFLOAT16_PAIRS

namespace rnnfast::RNNFAST_ISA {

// sum[i] + left[2i] · right[2i] + left[2i + 1] · right[2i + 1]; the operands' bits are pairs.
inline __m512 add_pair_products(__m512 sum, __m512 left, __m512 right) {
  return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
}

// Rounds to nearest even.
inline void store_narrowed(uint16_t* p, __m512 v) {
  _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(v));
}

}  // namespace rnnfast::RNNFAST_ISA
