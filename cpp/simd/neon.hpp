// AArch64 Advanced SIMD: 16-byte vectors, 32 registers.
#pragma once

#include <stdint.h>

namespace rnnfast::RNNFAST_ISA {

inline constexpr int vector_bytes = 16;

// Tiles: vectors side by side for a panel of so many, and the most rows for so many vectors.
constexpr int tile_vectors(int panel) { return panel; }
constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }
inline constexpr int block_vectors = 4;  // unit blocks per panel where a cell has one gate

// Subnormal numbers count as zero inside the kernels; the caller's mode comes back afterwards.
class FlushDenormals {
 public:
  FlushDenormals() {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    saved_ = mode;
    mode |= uint64_t{1} << 24;
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
};

}  // namespace rnnfast::RNNFAST_ISA
