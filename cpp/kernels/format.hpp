// How the operands of products are stored: packed weights, the rows that multiply them, the tape.
//
// Products run over words as large as a Real. A word holds `group` elements that follow each other
// along the sum; a tile broadcasts words of the left operand, and every lane of a right vector is
// a word. Biases, states and the cells' mathematics are Reals whatever the format.
//
//   Native<Real>   elements are Reals, a word is one of them
//   BFloat16       elements are float's upper halves, rounded to nearest even; two to a word where
//                  the instruction set multiplies such pairs, else one, widened. Gates, which no
//                  product reads, lie in the tape as IEEE halves there
//   Int8           for inference: integers from -127 to 127, by a scale for each row of weights and
//                  for the left operand, fixed beforehand or each row's own; four to a word where
//                  the instruction set multiplies bytes, else one, as a float
#pragma once

#include "../simd/simd.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class T>
struct Native {
  using Real = T;
  using Element = T;   // of the tape
  using Sum = Vec<T>;  // what a tile accumulates
  struct Scale {};     // of a vector of weights
  static constexpr long group = 1;
  static constexpr long header = 0;     // words before those of a left row
  static constexpr long extras = 0;     // vectors beside each vector of weights
  static constexpr bool native = true;  // rows of the user's arrays are operands as they are
  static constexpr bool trains = true;

  // The tape's gradients, which products read; its gates; and those that carry a state on.
  static Vec<T> get(const T* p) { return load(p); }
  static void put(T* p, Vec<T> v) { store(p, v); }
  static Vec<T> get_gate(const T* p) { return load(p); }
  static void put_gate(T* p, Vec<T> v) { store(p, v); }
  static Vec<T> get_carry(const T* p) { return load(p); }
  static void put_carry(T* p, Vec<T> v) { store(p, v); }
  static Vec<T> spread(const T* word) { return broadcast(*word); }
  static Vec<T> word(const Vec<T>* parts, Scale = {}) { return parts[0]; }
  static Vec<T> part(Vec<T> words, long) { return words; }
  static Vec<T> multiply_add(Vec<T> sum, Vec<T> left, Vec<T> right) { return sum + left * right; }
};

// Rounded to the nearest upper half, ties to even; NaN stays NaN.
inline Vec<float> rounded(Vec<float> v) {
  typedef uint32_t Bits __attribute__((vector_size(vector_bytes)));
  const Bits bits = (Bits)v, nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  return (Vec<float>)((v == v ? nearest : quiet) & 0xffff0000);
}

// A word in every lane: bits, whatever they would mean as a number.
inline IntVec<float> spread_bits(const float* word) {
  int32_t bits;
  __builtin_memcpy(&bits, word, sizeof bits);
  return bits - IntVec<float>{};
}

// Left rows of a format without scales: elements one after the other.
template <class Format>
inline void put_row(const float* row, long columns, float* words) {
  auto* to = reinterpret_cast<Format::Element*>(words);
  for (long c = 0; c < columns; c += lanes<float>)
    Format::put(to + c, load_first(row + c, columns - c));
}

#if defined(RNNFAST_BFLOAT16_PAIRS)
struct BFloat16 {
  using Real = float;
  using Element = uint16_t;
  using Sum = Vec<float>;
  struct Scale {};
  static constexpr long group = 2, header = 0, extras = 0;
  static constexpr bool native = false, trains = true;

  static Vec<float> get(const uint16_t* p) {
    typedef uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
    Halves halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    return (Vec<float>)(__builtin_convertvector(halves, IntVec<float>) << 16);
  }
  static void put(uint16_t* p, Vec<float> v) { store_narrowed(p, v); }
  // Gates lie below one, where halves are eight times finer than bfloat16; the one that does not,
  // the product that a GRU's r scales, is bounded.
  static Vec<float> get_gate(const uint16_t* p) { return from_halves(p); }
  static void put_gate(uint16_t* p, Vec<float> v) {
    constexpr float most = 65504;  // the largest half
    store_halves(p, at_least(at_most(v, most), -most));
  }
  static void make_row(const float* row, long columns, float* words, float) {
    put_row<BFloat16>(row, columns, words);
  }
  // A gate near one is a factor of many steps: what it lacks of one is kept, with a minus sign.
  static Vec<float> get_carry(const uint16_t* p) {
    const Vec<float> v = from_halves(p);
    return (IntVec<float>)v < 0 ? 1.0f + v : v;
  }
  static void put_carry(uint16_t* p, Vec<float> v) {
    store_halves(p, v > 0.5f ? (Vec<float>)((IntVec<float>)(1.0f - v) | INT32_MIN) : v);
  }
  static Vec<float> spread(const float* word) { return (Vec<float>)spread_bits(word); }
  static Vec<float> word(const Vec<float>* parts, Scale = {}) {
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
  static void make_row(const float* row, long columns, float* words, float) {
    put_row<BFloat16>(row, columns, words);
  }
  static Vec<float> word(const Vec<float>* parts, Scale = {}) { return rounded(parts[0]); }
};
#endif

// What scales numbers to integers.
struct ByteScale {
  Vec<float> size, inverse;

  explicit ByteScale(Vec<float> s) : size(s), inverse(s > 0 ? 1 / s : Vec<float>{}) {}
  // To the nearest integer, by the addition of a number so large that its last bit counts ones;
  // what lies beyond 127 becomes that. NaN becomes anything.
  IntVec<float> integers(Vec<float> v) const {
    constexpr float magic = 12582912.0f;  // 1.5 · 2^23
    const Vec<float> bounded = at_least(at_most(v * inverse, 127.0f), -127.0f);
    return (IntVec<float>)(bounded + magic) - (IntVec<float>)broadcast(magic);
  }
};

// The scale of a row that its largest magnitude gives, in every lane.
inline Vec<float> own_scale(const float* row, long columns) {
  Vec<float> most{};
  for (long c = 0; c < columns; c += lanes<float>) {
    const auto bits = (IntVec<float>)load_first(row + c, columns - c);
    most = greater((Vec<float>)(bits & INT32_MAX), most);
  }
  return joined<float>(most, [](auto a, auto b) { return greater(a, b); }) / 127.0f;
}

// Lane i: the scale of row i of `rows`.
inline ByteScale column_scale(const float* w, long row, long rows, long k) {
  Vec<float> scale{};
  for (long i = 0; i < rows; ++i) scale[i] = own_scale(w + i * row, k)[0];
  return ByteScale(scale);
}

// Gives `put` the integers of a row, a vector at a time. Returns the row's scale: `fixed`, or its
// own where that is zero; NaN where not all of the row is finite, and then so is what it scales.
template <class Put>
inline float put_integers(const float* row, long columns, float fixed, Put put) {
  const ByteScale scale(fixed > 0 ? broadcast(fixed) : own_scale(row, columns));
  Vec<float> nothing{};
  for (long c = 0; c < columns; c += lanes<float>) {
    const Vec<float> v = load_first(row + c, columns - c);
    nothing += v * 0.0f;
    put(c, scale.integers(v));
  }
  return (scale.size + joined<float>(nothing, [](auto a, auto b) { return a + b; }))[0];
}

struct Int8Base {
  using Real = float;
  using Element = float;
  using Scale = ByteScale;
  static constexpr long header = 1;  // the row's scale
  static constexpr bool native = false, trains = false;

  static void put_gate(float* p, Vec<float> v) { store(p, v); }
  static void put_carry(float* p, Vec<float> v) { store(p, v); }
};

#if defined(RNNFAST_BYTE_PRODUCTS)
// Left elements are 128 too large, as the instruction wants one operand unsigned; beside the
// scales stands what that adds to each sum.
struct Int8 : Int8Base {
  using Sum = IntVec<float>;
  static constexpr long group = 4, extras = 2;

  static void make_row(const float* row, long columns, float* words, float fixed) {
    auto* to = reinterpret_cast<char*>(words + header);
    words[0] = put_integers(row, columns, fixed, [to](long c, IntVec<float> q) {
      typedef uint8_t Bytes __attribute__((vector_size(vector_bytes / 4)));
      const Bytes bytes = __builtin_convertvector(q + 128, Bytes);
      __builtin_memcpy(to + c, &bytes, sizeof bytes);
    });
  }
  static IntVec<float> spread(const float* word) { return spread_bits(word); }
  static Vec<float> word(const Vec<float>* parts, const Scale& scale) {
    IntVec<float> bytes{};
    for (int i = 0; i < 4; ++i) bytes |= (scale.integers(parts[i]) & 0xff) << 8 * i;
    return (Vec<float>)bytes;
  }
  static Vec<float> part(Vec<float> words, long i) {
    return __builtin_convertvector((IntVec<float>)words << (24 - 8 * i) >> 24, Vec<float>);
  }
  static Sum multiply_add(Sum sum, IntVec<float> left, Vec<float> right) {
    return add_byte_products(sum, left, (IntVec<float>)right);
  }
  // extras of a vector: its scale, then the sum of 128 times its elements.
  static void make_extras(const Scale& scale, const float* w, long words, long stride,
                          float* extras) {
    const IntVec<float> ones = IntVec<float>{} - 0x7f7f7f80;  // four bytes of 128
    Sum sum{};
    for (long k = 0; k < words; ++k) sum = multiply_add(sum, ones, load(w + k * stride));
    store(extras, scale.size);
    store(extras + lanes<float>, (Vec<float>)sum);
  }
  static Vec<float> value(Sum sum, const float* extras) {
    const auto excess = (IntVec<float>)load(extras + lanes<float>);
    return __builtin_convertvector(sum - excess, Vec<float>) * load(extras);
  }
};
#else
struct Int8 : Int8Base {
  using Sum = Vec<float>;
  static constexpr long group = 1, extras = 1;

  static Vec<float> as_float(IntVec<float> q) { return __builtin_convertvector(q, Vec<float>); }
  static void make_row(const float* row, long columns, float* words, float fixed) {
    words[0] = put_integers(row, columns, fixed, [words](long c, IntVec<float> q) {
      store(words + header + c, as_float(q));
    });
  }
  static Vec<float> spread(const float* word) { return broadcast(*word); }
  static Vec<float> word(const Vec<float>* parts, const Scale& scale) {
    return as_float(scale.integers(parts[0]));
  }
  static Vec<float> part(Vec<float> words, long) { return words; }
  static Sum multiply_add(Sum sum, Vec<float> left, Vec<float> right) { return sum + left * right; }
  static void make_extras(const Scale& scale, const float*, long, long, float* extras) {
    store(extras, scale.size);
  }
  static Vec<float> value(Sum sum, const float* extras) { return sum * load(extras); }
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

// Words that so many elements of a tape take.
template <class Format>
constexpr long tape_words(long elements) {
  return elements * static_cast<long>(sizeof(typename Format::Element)) /
         static_cast<long>(sizeof(typename Format::Real));
}

// Words of a left row of so many columns, whole vectors of them.
template <class Format>
constexpr long row_words(long columns) {
  return Format::header + padded<typename Format::Real>(columns) / Format::group;
}

// Rows of a left operand, `row` words apart.
template <class Real>
struct LeftRows {
  const Real* at;
  long row;
};

// Rows [begin, end) of a matrix as products read them: where they are, or made in `scratch`, by
// the `fixed` scale where there is one.
template <class Format, class Real = Format::Real>
LeftRows<Real> left_rows(const Real* from, long row, long columns, long begin, long end,
                         Real* scratch, Real fixed) {
  if constexpr (Format::native)
    return {from, row};
  else {
    const long words = row_words<Format>(columns);
    for (long b = begin; b < end; ++b)
      Format::make_row(from + b * row, columns, scratch + b * words, fixed);
    return {scratch + Format::header, words};
  }
}

}  // namespace rnnfast::RNNFAST_ISA
