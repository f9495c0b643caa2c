// What the instruction sets of x86-64 have in common: the floating-point mode.
#pragma once

#include <xmmintrin.h>

namespace rnnfast::RNNFAST_ISA {

// Subnormal numbers count as zero inside the kernels; the caller's mode comes back afterwards.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

}  // namespace rnnfast::RNNFAST_ISA
