// 16-byte vectors that every machine of the architecture has (SSE2 on x86-64); 16 registers.
#pragma once

#if defined(__SSE2__)
#include "x86.hpp"
#endif

namespace rnnfast::RNNFAST_ISA {

inline constexpr int vector_bytes = 16;

// Tiles: vectors side by side for a panel of so many, and the most rows for so many vectors.
constexpr int tile_vectors(int panel) { return panel == 4 ? 2 : panel; }
constexpr int tile_rows(int vectors) { return vectors == 3 ? 4 : 6; }
inline constexpr int block_vectors = 2;  // unit blocks per panel where a cell has one gate

#if !defined(__SSE2__)
// Subnormal numbers stay what they are where nothing is known of the machine.
class FlushDenormals {
 public:
  FlushDenormals() {}
};
#endif

}  // namespace rnnfast::RNNFAST_ISA
