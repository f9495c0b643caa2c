// What AVX512-VNNI adds to AVX-512: products of bytes, summed in integers.
#pragma once

#include <stdint.h>

#include "avx512.hpp"

#define RNNFAST_BYTE_PRODUCTS

namespace rnnfast::RNNFAST_ISA {

typedef int32_t ByteWords __attribute__((vector_size(64)));

// sum[i] + Σ left[4i + j] · right[4i + j] for j = 0 … 3, left unsigned, right signed.
inline ByteWords add_byte_products(ByteWords sum, ByteWords left, ByteWords right) {
  return (ByteWords)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)left, (__m512i)right);
}

}  // namespace rnnfast::RNNFAST_ISA
