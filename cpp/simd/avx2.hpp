// AVX2 with FMA: 32-byte vectors, 16 registers.
#pragma once

#include "x86.hpp"

namespace rnnfast::RNNFAST_ISA {

inline constexpr int vector_bytes = 32;

// Tiles: vectors side by side for a panel of so many, and the most rows for so many vectors.
constexpr int tile_vectors(int panel) { return panel == 4 ? 2 : panel; }
constexpr int tile_rows(int vectors) { return vectors == 3 ? 4 : 6; }
inline constexpr int block_vectors = 2;  // unit blocks per panel where a cell has one gate

}  // namespace rnnfast::RNNFAST_ISA
