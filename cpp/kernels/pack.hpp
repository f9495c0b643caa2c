// Weights from PyTorch's row-major matrices into the order in which the tiles read them.
//
//   forward   panel: [bias: vectors], x: [pass][k = I][vectors of the pass], the same for h
//   backward  column panel: [k = gate rows in tape order][vectors of columns]
//
// k counts words of the format. Units and columns beyond the matrix are zero.
#pragma once

#include "layout.hpp"
#include "tile.hpp"

namespace rnnfast::RNNFAST_ISA {

struct Share {
  long begin, end;
};

inline Share share(long n, int index, int count) {
  return {n * index / count, n * (index + 1) / count};
}
inline Share share(long n, const Worker& me) { return share(n, me.index, me.count); }

// In the time loops.
inline Share unit_share(long panels, const Worker& me) {
  return share(panels, me.place(), me.crew);
}
inline Share row_share(long batch, const Worker& me) {
  return share(batch, me.own_crew(), me.crews());
}

// The panels of a share, back and forth: what one step read last is still in the cache when the
// next one begins.
struct Walk {
  Share panels;
  bool back;

  long at(long i) const { return back ? panels.begin + panels.end - 1 - i : i; }
};

// `rows` ≤ lanes rows of w, k columns each, become a vector for every word, `stride` apart.
template <class Format, class Real = Format::Real>
void pack_vectors(const Real* w, long row, long rows, long k, const typename Format::Scale& scale,
                  Real* packed, long stride) {
  for (long k0 = 0; k0 < k; k0 += lanes<Real>) {
    Vec<Real> square[lanes<Real>];
    for (long i = 0; i < lanes<Real>; ++i)
      square[i] = i < rows ? load_first(w + i * row + k0, k - k0) : Vec<Real>{};
    transpose<Real>(square);
    const long words = words_of<Format>(least(lanes<Real>, k - k0));
    for (long i = 0; i < words; ++i)
      store(packed + (k0 / Format::group + i) * stride,
            Format::word(square + i * Format::group, scale));
  }
}

// A matrix [gates · units][k] as the right operand of a product over k.
template <class Real>
struct Matrix {
  const Real* w;
  long units;
  long k;
};

// Writes `slots` of a panel, pass by pass, and before them what the format wants beside them.
template <class Format, class Real = Format::Real>
void pack_panel(const Layout& layout, Slots slots, long panel, const Matrix<Real>& m,
                Real* packed) {
  const int width = tile_vectors(slots.count);
  for (int v = 0; v < slots.count; ++v) {
    const long unit = layout.unit<Real>(panel, slots.first + v);
    const long row = layout.gate_of(slots.first + v) * m.units + unit;
    Real* pass = packed + (words_of<Format>(m.k) * (v - v % width) + v % width) * lanes<Real>;
    const Real* w = m.w + row * m.k;
    const long rows = least(lanes<Real>, m.units - unit), stride = width * lanes<Real>;
    if constexpr (Format::extras == 0) {
      pack_vectors<Format>(w, m.k, rows, m.k, {}, pass, stride);
    } else {
      const auto scale = column_scale(w, m.k, rows, m.k);
      pack_vectors<Format>(w, m.k, rows, m.k, scale, pass, stride);
      Format::make_extras(scale, pass, words_of<Format>(m.k), stride,
                          packed - Format::extras * (slots.count - v) * lanes<Real>);
    }
  }
}

template <class Real>
void pack_bias(const Layout& layout, Slots slots, long panel, const Real* bias, long units,
               Real* packed) {
  if (!bias) return;
  for (int v = slots.first; v < slots.first + slots.count; ++v) {
    const long unit = layout.unit<Real>(panel, v);
    Real* sum = packed + v * lanes<Real>;
    store(sum, load(sum) + load_first(bias + layout.gate_of(v) * units + unit, units - unit));
  }
}

// Columns [column, column + vectors) of `slots` of the whole matrix, rows in tape order.
template <class Format, class Real = Format::Real>
void pack_columns(const Layout& layout, Slots wanted, const Matrix<Real>& m, long column,
                  int vectors, Real* packed) {
  for (long panel = 0; panel < layout.panels<Real>(m.units); ++panel) {
    const Slots slots = layout.within<Real>(wanted, panel, m.units);
    for (int v = slots.first; v < slots.first + slots.count; ++v) {
      const long unit = layout.unit<Real>(panel, v);
      const Real* rows = m.w + (layout.gate_of(v) * m.units + unit) * m.k;
      for (long i = 0; i < lanes<Real>; i += Format::group)
        for (int n = 0; n < vectors; ++n, packed += lanes<Real>) {
          const long c = column + n * lanes<Real>;
          Vec<Real> parts[Format::group];
          for (long j = 0; j < Format::group; ++j)
            parts[j] = unit + i + j < m.units ? load_first(rows + (i + j) * m.k + c, m.k - c)
                                              : Vec<Real>{};
          store(packed, Format::word(parts));
        }
    }
  }
}

// Rows of the right operand that pack_columns makes.
template <class Format, class Real = Format::Real>
constexpr long tape_rows(const Layout& layout, Slots slots, long units) {
  const long blocks = blocks_of(units, lanes<Real>);
  return (layout.one_gate ? blocks : blocks * slots.count) * lanes<Real> / Format::group;
}

}  // namespace rnnfast::RNNFAST_ISA
