// AVX-512 (F, BW, DQ, VL): 64-byte vectors, 32 registers.
#pragma once

#include <immintrin.h>

#include "x86.hpp"

namespace rnnfast::RNNFAST_ISA {

inline constexpr int vector_bytes = 64;

// Tiles: vectors side by side for a panel of so many, and the most rows for so many vectors.
constexpr int tile_vectors(int panel) { return panel; }
constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }
inline constexpr int block_vectors = 4;  // unit blocks per panel where a cell has one gate

// As in simd.hpp, by one instruction, which compilers do not make of a choice between vectors here.
// Masks of all lanes: GCC 12 warns of its own header's uninitialised vector in the forms without.
typedef float Floats __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(64)));
inline Floats lesser(Floats a, Floats b) { return (Floats)_mm512_maskz_min_ps(0xffff, a, b); }
inline Floats greater(Floats a, Floats b) { return (Floats)_mm512_maskz_max_ps(0xffff, a, b); }
inline Doubles lesser(Doubles a, Doubles b) { return (Doubles)_mm512_maskz_min_pd(0xff, a, b); }
inline Doubles greater(Doubles a, Doubles b) { return (Doubles)_mm512_maskz_max_pd(0xff, a, b); }

}  // namespace rnnfast::RNNFAST_ISA
