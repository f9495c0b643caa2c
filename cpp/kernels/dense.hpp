// Products of row-major matrices for dense layers, by the tiles of the recurrent kernels, and the
// softmax of their rows.
//
//   dense_rows     c = a · b + bias    a block of rows of a against all of b, which is packed
//   dense_columns  c = aᵀ · b          a block of the result; sums over all rows of a and b
//   softmax        y = s · e^(x - m) / Σ e^(x - m), with m the largest of a row
//
// Packed panel: [k][vectors of columns], zero beyond the last column.
#pragma once

#include "activations.hpp"
#include "weight_gradient.hpp"

namespace rnnfast::RNNFAST_ISA {

inline constexpr Layout dense_layout = one_gate_layout(0);
template <class Real>
inline constexpr long dense_width = dense_layout.width<Real>();

template <class Real>
index dense_packed(index depth, index columns) {
  return dense_layout.panels<Real>(columns) * depth * dense_width<Real>;
}

// From w [columns][depth].
template <class Real>
void dense_pack_transposed(const Real* w, index depth, index columns, Real* packed,
                           const Worker& me) {
  const Share mine = share(dense_layout.panels<Real>(columns), me);
  for (long panel = mine.begin; panel < mine.end; ++panel)
    pack_panel<Native<Real>>(dense_layout, dense_layout.within<Real>(all_blocks, panel, columns),
                             panel, Matrix<Real>{w, columns, depth},
                             packed + panel * depth * dense_width<Real>);
}

// Row k of `depth` of a panel, as the passes of a tile take it.
template <class Real>
void pack_row(const Real* w, index k, index depth, index columns, long panel, Real* packed) {
  const int vectors = dense_layout.vectors_of<Real>(panel, columns), width = tile_vectors(vectors);
  for (int v = 0; v < vectors; ++v) {
    const long column = dense_layout.unit<Real>(panel, v);
    store(packed + (depth * (v - v % width) + k * width + v % width) * lanes<Real>,
          load_first(w + column, columns - column));
  }
}

// From w [depth][columns], row by row, as memory is read fastest.
template <class Real>
void dense_pack(const Real* w, index depth, index columns, Real* packed, const Worker& me) {
  const Share mine = share(dense_layout.panels<Real>(columns), me);
  for (index k = 0; k < depth; ++k)
    for (long panel = mine.begin; panel < mine.end; ++panel)
      pack_row(w + k * columns, k, depth, columns, panel,
               packed + panel * depth * dense_width<Real>);
}

// A tile of c: rows b … b + rows - 1 of a panel.
template <class Real>
void dense_tile(const DenseRows<Real>& d, long panel, index b, int rows, Ahead& ahead) {
  constexpr long width = dense_width<Real>;
  const int vectors = dense_layout.vectors_of<Real>(panel, d.columns);
  const long first = dense_layout.unit<Real>(panel, 0);
  alignas(64) Real acc[max_rows * width];
  for (int v = 0; v < vectors; ++v) {
    const long column = first + v * lanes<Real>;
    const auto bias = d.bias ? load_first(d.bias + column, d.columns - column) : Vec<Real>{};
    for (int m = 0; m < rows; ++m) store(acc + m * width + v * lanes<Real>, bias);
  }
  const Product<Real> product{
      {d.a + b * d.depth, d.depth, d.depth}, d.b + panel * d.depth * width, d.depth, acc};
  multiply<Native<Real>>(&product, 1, vectors, rows, width, ahead);
  for (int m = 0; m < rows; ++m)
    for (int v = 0; v < vectors; ++v) {
      const long column = first + v * lanes<Real>;
      store_first(d.c + (b + m) * d.columns + column, load(acc + m * width + v * lanes<Real>),
                  d.columns - column);
    }
}

template <class Real>
void dense_rows(const DenseRows<Real>& d, index begin, index end) {
  const FlushDenormals mode;
  for (long panel = 0; panel < dense_layout.panels<Real>(d.columns); ++panel) {
    const int vectors = dense_layout.vectors_of<Real>(panel, d.columns);
    const RowTiles tiles(begin, end, highest_tile(vectors));
    Ahead ahead(d.b);
    for (long i = 0; i < tiles.tiles; ++i)
      dense_tile(d, panel, tiles.begin(i), static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)),
                 ahead);
  }
}

// Rows of the result that a block has at most: its sums stay in the cache.
inline constexpr index dense_block = 256;

template <class Real>
index dense_column_blocks(const DenseColumns<Real>& d) {
  return dense_layout.panels<Real>(d.right) * blocks_of(d.left, dense_block);
}

// Scratch of a block: its sums, and a chunk of b's panel.
template <class Real>
index dense_column_scratch() {
  return (dense_block + gradient_rows) * dense_width<Real>;
}

template <class Real>
void dense_columns(const DenseColumns<Real>& d, index block, Real* scratch) {
  const FlushDenormals mode;
  const index blocks = blocks_of(d.left, dense_block), panel = block / blocks;
  const index begin = block % blocks * dense_block, count = least(d.left - begin, dense_block);
  const int vectors = dense_layout.vectors_of<Real>(panel, d.right);
  const long first = dense_layout.unit<Real>(panel, 0), width = vectors * lanes<Real>;
  Real* sums = scratch;
  Real* right = scratch + dense_block * dense_width<Real>;
  __builtin_memset(sums, 0, count * width * sizeof(Real));
  for (index row = 0; row < d.rows; row += gradient_rows) {
    const index rows = least(d.rows - row, gradient_rows);
    for (index r = 0; r < rows; ++r)
      for (long c = 0; c < width; c += lanes<Real>)
        store(right + r * width + c,
              load_first(d.b + (row + r) * d.right + first + c, d.right - first - c));
    const Run<Real> run{d.a + row * d.left + begin, d.left, 0, 1, rows};
    add_chunk<Native<Real>>(Columns<Real>{{&run, 1}}, right, width, vectors, count, sums);
  }
  const int pass = tile_vectors(vectors);
  for (index m = 0; m < count; ++m)
    for (int v = 0; v < vectors; ++v) {
      const long column = first + v * lanes<Real>;
      const Real* sum = sums + (count * (v - v % pass) + m * pass + v % pass) * lanes<Real>;
      store_first(d.c + (begin + m) * d.right + column, load(sum), d.right - column);
    }
}

template <class Real>
Real largest(const Real* x, index n) {
  Real most = x[0];
  if (n < lanes<Real>) {
    for (index i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
    return most;
  }
  Vec<Real> all = load(x);
  for (index i = lanes<Real>; i < n; i += lanes<Real>)
    all = greater(load(x + least(i, n - lanes<Real>)), all);
  for (long i = 0; i < lanes<Real>; ++i) most = all[i] > most ? all[i] : most;
  return most;
}

// NaN and +∞ make the whole row NaN; -∞ counts nothing beside finite numbers.
template <class Real>
void softmax_row(const Softmax<Real>& s, index row) {
  const Real* x = s.x + row * s.columns;
  Real* y = s.y + row * s.columns;
  const Real most = largest(x, s.columns);
  Vec<Real> sums{};
  for (index i = 0; i < s.columns; i += lanes<Real>) {
    const index n = s.columns - i;
    const auto e = scaled_exp<Real>(
        at_least<Real>(load_first(x + i, n) - most, -ExpConstants<Real>::sigmoid_limit));
    store_first(y + i, e.scale * e.q + e.scale, n);
    sums += load_first(y + i, n);
  }
  const Real sum = joined<Real>(sums, [](auto a, auto b) { return a + b; })[0];
  const Vec<Real> factor = broadcast(s.scales[row] / sum);
  for (index i = 0; i < s.columns; i += lanes<Real>)
    store_first(y + i, load_first(y + i, s.columns - i) * factor, s.columns - i);
  s.norms[2 * row] = most;
  s.norms[2 * row + 1] = sum;
}

template <class Real>
void softmax(const Softmax<Real>& s, index begin, index end) {
  const FlushDenormals mode;
  for (index row = begin; row < end; ++row) softmax_row(s, row);
}

}  // namespace rnnfast::RNNFAST_ISA
