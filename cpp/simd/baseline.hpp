// 16-byte vectors that every machine of the architecture has (SSE2 on x86-64); 16 registers.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace rnnfast::RNNFAST_ISA {

inline constexpr int vector_bytes = 16;

// Tiles: vectors side by side for a panel of so many, and the most rows for so many vectors.
constexpr int tile_vectors(int panel) { return panel == 4 ? 2 : panel; }
constexpr int tile_rows(int vectors) { return vectors == 3 ? 4 : 6; }
inline constexpr int block_vectors = 2;  // unit blocks per panel where a cell has one gate

// Rows of the tape that one pass of the weight gradient takes.
inline constexpr int gradient_rows = 512;

// Subnormal numbers count as zero inside the kernels; the caller's mode comes back afterwards.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  FlushDenormals() {}
#endif
};

}  // namespace rnnfast::RNNFAST_ISA
