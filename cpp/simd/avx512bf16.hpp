// What AVX512-BF16 adds to AVX512-VNNI: products of pairs of bfloat16, summed in float.
#pragma once

#include "avx512vnni.hpp"

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

// IEEE's half precision.
inline __m512 from_halves(const uint16_t* p) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));
}
inline void store_halves(uint16_t* p, __m512 v) {
  constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtps_ph(0xffff, v, nearest));
}

}  // namespace rnnfast::RNNFAST_ISA
