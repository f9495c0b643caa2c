// Loads, stores, transposition and packing of one instruction set against plain loops. Compiled
// once for each with the kernels' flags, so nothing of the standard library may be included here.
#include "../../cpp/kernels/pack.hpp"

namespace rnnfast::RNNFAST_ISA {
namespace {

struct Failure {
  const char* what = nullptr;
};

// Deterministic values without a zero among them.
template <class Real>
Real value(long i) {
  return static_cast<Real>((i * 7919) % 1000 + 1);
}

template <class Real>
void check_first(Failure& failure) {
  constexpr long n = lanes<Real>;
  for (long count = -1; count <= n + 1; ++count) {
    Real from[2 * n], to[2 * n];
    for (long i = 0; i < 2 * n; ++i) from[i] = value<Real>(i), to[i] = Real{-1};
    const Vec<Real> v = load_first(from + 1, count);
    for (long i = 0; i < n; ++i)
      if (v[i] != (i < count ? from[i + 1] : Real{0})) failure.what = "load_first";
    store_first(to + 1, load(from), count);
    for (long i = 0; i < 2 * n; ++i)
      if (to[i] != (i >= 1 && i <= least(count, n) ? from[i - 1] : Real{-1}))
        failure.what = "store_first";
  }
}

template <class Real>
void check_transpose(Failure& failure) {
  constexpr long n = lanes<Real>;
  Vec<Real> square[n];
  for (long i = 0; i < n; ++i)
    for (long j = 0; j < n; ++j) square[i][j] = value<Real>(i * n + j);
  transpose<Real>(square);
  for (long i = 0; i < n; ++i)
    for (long j = 0; j < n; ++j)
      if (square[i][j] != value<Real>(j * n + i)) failure.what = "transpose";
}

constexpr long most_units = 37, most_k = 35, gates = 4;
constexpr long all_units[] = {1, 3, 16, 17, 32, most_units};
constexpr long all_k[] = {1, 4, 15, 16, 17, most_k};

// Element (gate, unit, k) of a matrix, zero beyond its units.
template <class Real>
Real element(const Matrix<Real>& m, long gate, long unit, long k) {
  return unit < m.units ? m.w[(gate * m.units + unit) * m.k + k] : Real{0};
}

// What a format makes of a number.
template <class Real>
Real stored(Native<Real>, Real a) {
  return a;
}
float stored(BFloat16, float a) {
  uint32_t bits;
  __builtin_memcpy(&bits, &a, sizeof bits);
  const uint32_t rest = bits & 0xffff;
  bits -= rest;
  if (rest > 0x8000 || (rest == 0x8000 && bits & 0x10000)) bits += 0x10000;
  __builtin_memcpy(&a, &bits, sizeof bits);
  return a;
}

template <class Format, class Real = Format::Real>
void check_panels(const Layout& layout, Slots wanted, const Matrix<Real>& m, Failure& failure) {
  constexpr long n = lanes<Real>, group = Format::group;
  static Real packed[4 * n * most_k + n];
  for (long panel = 0; panel < layout.panels<Real>(m.units); ++panel) {
    const Slots slots = layout.within<Real>(wanted, panel, m.units);
    const long size = slots.count * n * words_of<Format>(m.k);
    for (long i = 0; i < size + n; ++i) packed[i] = Real{-1};
    pack_panel<Format>(layout, slots, panel, m, packed);
    const int width = tile_vectors(slots.count);
    const Real* at = packed;
    for (int pass = 0; pass < slots.count; pass += width)
      for (long word = 0; word < words_of<Format>(m.k); ++word)
        for (int v = pass; v < pass + width; ++v, at += n)
          for (long i = 0; i < n * group; ++i) {
            const int slot = slots.first + v;
            const long unit = layout.unit<Real>(panel, slot) + i % n, k = word * group + i / n;
            const Real expected = k < m.k ? element(m, layout.gate_of(slot), unit, k) : Real{0};
            if (Format::part(load(at), i / n)[i % n] != stored(Format(), expected))
              failure.what = "pack_panel";
          }
    for (long i = size; i < size + n; ++i)
      if (packed[i] != Real{-1}) failure.what = "pack_panel wrote behind its end";
  }
}

template <class Format, class Real = Format::Real>
void check_columns(const Layout& layout, Slots wanted, const Matrix<Real>& m, Failure& failure) {
  constexpr long n = lanes<Real>, group = Format::group;
  constexpr Layout columns = one_gate_layout(0);
  static Real packed[(most_units + n) * gates * block_vectors * n];
  for (long panel = 0; panel < columns.panels<Real>(m.k); ++panel) {
    const long column = columns.unit<Real>(panel, 0);
    const int vectors = columns.vectors_of<Real>(panel, m.k);
    pack_columns<Format>(layout, wanted, m, column, vectors, packed);
    const Real* at = packed;
    for (long p = 0; p < layout.panels<Real>(m.units); ++p) {
      const Slots slots = layout.within<Real>(wanted, p, m.units);
      for (int slot = slots.first; slot < slots.first + slots.count; ++slot)
        for (long i = 0; i < n; i += group)
          for (long v = 0; v < vectors; ++v, at += n)
            for (long c = 0; c < n * group; ++c) {
              const long k = column + v * n + c % n;
              const long unit = layout.unit<Real>(p, slot) + i + c / n;
              const Real expected = k < m.k ? element(m, layout.gate_of(slot), unit, k) : Real{0};
              if (Format::part(load(at), c / n)[c % n] != stored(Format(), expected))
                failure.what = "pack_columns";
            }
    }
    if (at - packed != tape_rows<Format>(layout, wanted, m.units) * vectors * n)
      failure.what = "tape_rows";
  }
}

template <class Format, class Real = Format::Real>
void check_packing(Failure& failure) {
  static Real w[gates * most_units * most_k];
  for (long i = 0; i < gates * most_units * most_k; ++i) w[i] = value<Real>(i);
  constexpr Layout all{4, false, {0, 1, 2, 3}}, gru{4, false, {2, 0, 1, 2}};
  constexpr Layout one = one_gate_layout(0);
  for (long units : all_units)
    for (long k : all_k) {
      const Matrix<Real> m{w, units, k};
      check_panels<Format>(all, {0, 4}, m, failure);
      check_panels<Format>(gru, {0, 3}, m, failure);
      check_panels<Format>(gru, {1, 3}, m, failure);
      check_panels<Format>(one, all_blocks, m, failure);
      check_columns<Format>(all, {0, 4}, m, failure);
      check_columns<Format>(gru, {1, 3}, m, failure);
      check_columns<Format>(one, all_blocks, m, failure);
    }
}

}  // namespace

// The name of what failed, or null.
const char* check_packing() {
  Failure failure;
  check_first<float>(failure);
  check_first<double>(failure);
  check_transpose<float>(failure);
  check_transpose<double>(failure);
  check_packing<Native<float>>(failure);
  check_packing<Native<double>>(failure);
  check_packing<BFloat16>(failure);
  return failure.what;
}

}  // namespace rnnfast::RNNFAST_ISA
