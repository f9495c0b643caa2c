// How the operands of products are stored: packed weights, the rows that multiply them, the tape.
//
// Products run over words as large as a Real. A word holds `group` elements that follow each other
// along the sum; a tile broadcasts words of the left operand, and every lane of a right vector is
// a word. Accumulators, states and the cells' mathematics are Reals whatever the format.
//
//   Native<Real>   elements are Reals, a word is one of them
//   BFloat16       elements are float's upper halves, rounded to nearest even; two to a word where
//                  the instruction set multiplies such pairs, else one, widened
#pragma once

#include "../simd/simd.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class T>
struct Native {
  using Real = T;
  using Element = T;
  static constexpr long group = 1;
  static constexpr bool native = true;  // rows of the user's arrays are operands as they are

  static Vec<T> get(const T* p) { return load(p); }
  static void put(T* p, Vec<T> v) { store(p, v); }
  static Vec<T> spread(const T* word) { return broadcast(*word); }
  static Vec<T> word(const Vec<T>* parts) { return parts[0]; }
  static Vec<T> part(Vec<T> words, long) { return words; }
  static Vec<T> multiply_add(Vec<T> sum, Vec<T> left, Vec<T> right) { return sum + left * right; }
};

// Rounded to the nearest upper half, ties to even; NaN stays NaN.
inline Vec<float> rounded(Vec<float> v) {
  const IntVec<float> bits = (IntVec<float>)v;
  const IntVec<float> nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  return (Vec<float>)((v == v ? nearest : quiet) & ~0xffff);
}

#if defined(RNNFAST_BFLOAT16_PAIRS)
struct BFloat16 {
  using Real = float;
  using Element = uint16_t;
  static constexpr long group = 2;
  static constexpr bool native = false;

  static Vec<float> get(const uint16_t* p) {
    typedef uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
    Halves halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    return (Vec<float>)(__builtin_convertvector(halves, IntVec<float>) << 16);
  }
  static void put(uint16_t* p, Vec<float> v) { store_narrowed(p, v); }
  // Bits, whatever they would mean as a number.
  static Vec<float> spread(const float* word) {
    int32_t bits;
    __builtin_memcpy(&bits, word, sizeof bits);
    return (Vec<float>)(bits - IntVec<float>{});
  }
  static Vec<float> word(const Vec<float>* parts) {
    const IntVec<float> low = (IntVec<float>)rounded(parts[0]) >> 16 & 0xffff;
    return (Vec<float>)(low | (IntVec<float>)rounded(parts[1]));
  }
  static Vec<float> part(Vec<float> words, long i) {
    const IntVec<float> bits = (IntVec<float>)words;
    return (Vec<float>)(i ? bits & ~0xffff : bits << 16);
  }
  static Vec<float> multiply_add(Vec<float> sum, Vec<float> left, Vec<float> right) {
    return add_pair_products(sum, left, right);
  }
};
#else
struct BFloat16 : Native<float> {
  static constexpr bool native = false;

  static void put(float* p, Vec<float> v) { store(p, rounded(v)); }
  static Vec<float> word(const Vec<float>* parts) { return rounded(parts[0]); }
};
#endif

template <class Format>
constexpr long words_of(long elements) {
  return blocks_of(elements, Format::group);
}

// Memory of words as elements.
template <class Format>
auto* elements(typename Format::Real* words) {
  return reinterpret_cast<Format::Element*>(words);
}
template <class Format>
const auto* elements(const typename Format::Real* words) {
  return reinterpret_cast<const Format::Element*>(words);
}

// Words of a row of so many columns, whole vectors of them.
template <class Format>
constexpr long row_words(long columns) {
  return padded<typename Format::Real>(columns) / Format::group;
}

// Rows of a left operand, `row` words apart.
template <class Real>
struct LeftRows {
  const Real* at;
  long row;
};

// Rows [begin, end) of a matrix as products read them: where they are, or made in `scratch`.
template <class Format, class Real = Format::Real>
LeftRows<Real> left_rows(const Real* from, long row, long columns, long begin, long end,
                         Real* scratch) {
  if constexpr (Format::native) return {from, row};
  const long words = row_words<Format>(columns);
  for (long b = begin; b < end; ++b)
    for (long c = 0; c < columns; c += lanes<Real>)
      Format::put(elements<Format>(scratch + b * words) + c,
                  load_first(from + b * row + c, columns - c));
  return {scratch, words};
}

}  // namespace rnnfast::RNNFAST_ISA
