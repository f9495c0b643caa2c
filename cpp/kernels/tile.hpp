// The register tiles: all arithmetic of note happens in the two loops of this file.
//
//   multiply: acc[m][n] += Σ_k a[m][k] · w[k][n]    m rows of the batch, n vectors of units
//   outer:    acc[m][n]  = Σ_r a[r][m] · g[r][n]    m columns of an input, r rows of the tape
//
// Left words are broadcast straight from row-major memory, right vectors come packed. What a word
// holds is the format's affair; k and r count words.
#pragma once

#include "../contract.hpp"
#include "format.hpp"

namespace rnnfast::RNNFAST_ISA {

inline constexpr int max_rows = 8;

// Rows of the tape that one pass of the weight gradient takes.
inline constexpr int gradient_rows = 512;

// Words of the longest sum formed in one accumulator. Rounding errors grow with its length; blocks
// are added to each other in memory, as a blocked BLAS does. Sums of bytes are exact.
template <class Format>
inline constexpr long chain = 256;
#if defined(RNNFAST_BYTE_PRODUCTS)
template <>
inline constexpr long chain<Int8> = 1L << 30;
#endif

// A left operand: `repeat` pieces of k words, `jump` apart; rows `row` apart.
template <class Real>
struct LeftOperand {
  const Real* a;
  long row;
  long k;
  long repeat = 1;
  long jump = 0;
};

// What the tiles ask the second-level cache for while they multiply, a line with every row of
// weights. A weak third-level cache delivers a panel slower than a tile consumes it; asked for in
// time, it delivers while the tiles of the panel before are at work. A panel for a single tile is
// read as fast as it can be fetched.
struct Ahead {
  const char* at;
  long step;

  // Asks for nothing new; `at` is any address.
  explicit Ahead(const void* at) : at(static_cast<const char*>(at)), step(0) {}
  // Asks for `bytes` in the course of `rows` rows of weights, at most for two lines a row: cores
  // fetch lines in pairs.
  Ahead(const void* at, long bytes, long rows)
      : at(static_cast<const char*>(at)), step(least(bytes / rows, 128)) {}
};

// A product of a panel: acc[m][v] += Σ_k left[m][k] · w[k][v], in passes as wide as the tile that
// hold `pass_k` rows of weights each. Sums of scaled elements are scaled as they are added.
template <class Real>
struct Product {
  LeftOperand<Real> left;
  const Real* w;
  long pass_k;
  Real* acc;
  const Real* extras = nullptr;  // the format's, beside the first vector of weights
};

// The pass from vector v on of all products, one after the other.
template <class Format, int M, int N, class Real = Format::Real>
void multiply_tile(const Product<Real>* products, int count, int v, long acc_row, Ahead& ahead) {
  const long step = ahead.step;
  const char* next = ahead.at;
  for (const Product<Real>* p = products; p != products + count; ++p) {
    const LeftOperand<Real> left = p->left;
    const long row = left.row, pieces = most(chain<Format> / left.k, 1);
    const Real* w = p->w + p->pass_k * v * lanes<Real>;
    for (long piece = 0; piece < left.repeat; piece += pieces)
      for (long first = 0; first < left.k; first += chain<Format>) {
        const long depth = least(chain<Format>, left.k - first),
                   repeat = least(pieces, left.repeat - piece);
        typename Format::Sum c[M][N] = {};
        for (long i = piece; i < piece + repeat; ++i) {
          const Real* a = left.a + i * left.jump + first;
#pragma GCC unroll 4
          for (const Real* end = a + depth; a != end; ++a, w += N * lanes<Real>) {
            if constexpr (M > 1) {  // a single row is never one of many tiles
              fetch(next);
              next += step;
            }
            Vec<Real> right[N];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) right[n] = load(w + n * lanes<Real>);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
              const auto word = Format::spread(a + m * row);
#pragma GCC unroll 4
              for (int n = 0; n < N; ++n) c[m][n] = Format::multiply_add(c[m][n], word, right[n]);
            }
          }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) {
            Real* sum = p->acc + m * acc_row + (v + n) * lanes<Real>;
            if constexpr (Format::extras == 0)
              store(sum, load(sum) + c[m][n]);
            else
              store(sum, load(sum) +
                             left.a[m * row - Format::header] *
                                 Format::value(c[m][n],
                                               p->extras + (v + n) * Format::extras * lanes<Real>));
          }
      }
  }
  ahead.at = next;
}

template <class Format, int M, int N, class Real = Format::Real>
void outer_tile(const Run<Real>* run, int runs, long first, const Real* g, long g_row, Real* acc) {
  Vec<Real> c[M][N] = {};
  for (const auto* s = run; s != run + runs; ++s) {
    const Real* a = s->a + first;
    const Real* right = g + s->row * g_row;
#pragma GCC unroll 4
    for (long r = 0; r < s->count; ++r, a += s->a_stride, right += s->row_stride * g_row) {
      Vec<Real> b[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) b[n] = load(right + n * lanes<Real>);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const auto left = Format::spread(a + m);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) c[m][n] = Format::multiply_add(c[m][n], left, b[n]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      Real* sum = acc + (m * N + n) * lanes<Real>;
      store(sum, load(sum) + c[m][n]);
    }
}

template <class Real>
using MultiplyTile = void (*)(const Product<Real>*, int, int, long, Ahead&);
template <class Real>
using OuterTile = void (*)(const Run<Real>*, int, long, const Real*, long, Real*);

// A number of rows that the instruction set uses: tiles that are too high for it are not compiled.
template <int rows, int highest>
constexpr int used = rows <= highest ? rows : 1;

// The tile of m rows and N vectors.
template <class Format, int N>
MultiplyTile<typename Format::Real> multiply_of(int m) {
  using Real = Format::Real;
  constexpr int highest = tile_rows(N);
  static constexpr MultiplyTile<Real> table[max_rows] = {
      multiply_tile<Format, 1, N>,
      multiply_tile<Format, 2, N>,
      multiply_tile<Format, 3, N>,
      multiply_tile<Format, 4, N>,
      multiply_tile<Format, used<5, highest>, N>,
      multiply_tile<Format, used<6, highest>, N>,
      multiply_tile<Format, used<7, highest>, N>,
      multiply_tile<Format, used<8, highest>, N>,
  };
  return table[m - 1];
}

template <class Format, int N>
OuterTile<typename Format::Real> outer_of(int m) {
  using Real = Format::Real;
  constexpr int highest = tile_rows(N);
  static constexpr OuterTile<Real> table[max_rows] = {
      outer_tile<Format, 1, N>,
      outer_tile<Format, 2, N>,
      outer_tile<Format, 3, N>,
      outer_tile<Format, 4, N>,
      outer_tile<Format, used<5, highest>, N>,
      outer_tile<Format, used<6, highest>, N>,
      outer_tile<Format, used<7, highest>, N>,
      outer_tile<Format, used<8, highest>, N>,
  };
  return table[m - 1];
}

// Rows begin … end cut into as few, equally high tiles as a limit of `highest` allows.
struct RowTiles {
  long first, count, tiles;
  RowTiles(long begin, long end, int highest)
      : first(begin), count(most(end - begin, 0)), tiles(blocks_of(count, highest)) {}
  long begin(long tile) const { return first + count * tile / tiles; }
};

constexpr int highest_tile(int vectors) { return tile_rows(tile_vectors(vectors)); }
constexpr long passes_of(int vectors) {
  return vectors ? blocks_of(vectors, tile_vectors(vectors)) : 0;
}

template <class Format>
MultiplyTile<typename Format::Real> multiply_of(int vectors, int rows) {
  switch (vectors) {
    case 1: return multiply_of<Format, 1>(rows);
    case 2: return multiply_of<Format, 2>(rows);
    case 3: return multiply_of<Format, 3>(rows);
    default: return multiply_of<Format, tile_vectors(4)>(rows);
  }
}

// All products of a panel of `vectors` vectors.
template <class Format, class Real = Format::Real>
inline void multiply(const Product<Real>* products, int count, int vectors, int rows, long acc_row,
                     Ahead& ahead) {
  const int width = tile_vectors(vectors);
  const MultiplyTile<Real> tile = multiply_of<Format>(width, rows);
  for (int v = 0; v < vectors; v += width) tile(products, count, v, acc_row, ahead);
}

}  // namespace rnnfast::RNNFAST_ISA
