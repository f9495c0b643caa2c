// Gradients of weights and biases: one product over all rows of the tape after BPTT.
//
//   dW[gate row][k] = Σ_rows da[row][gate row] · a[row][k]      db = Σ_rows da[row]
//
// A thread owns whole panels of gate rows, so no sum is split between threads and the result does
// not depend on their number. Rows are taken in chunks that fit the cache; partial sums of a chunk
// are added to the transposed gradient, which is turned round at the end.
#pragma once

#include "backward.hpp"

namespace rnnfast::RNNFAST_ISA {

// Up to gradient_rows rows of a list of runs; `next` moves on.
template <class Real>
struct Chunk {
  static constexpr int limit = 64;
  Run<Real> run[limit];
  int runs = 0;

  struct Cursor {
    index run = 0, row = 0;
  };

  Chunk(const Runs<Real>& all, Cursor& next) {
    long left = gradient_rows;
    while (next.run < all.size && left && runs < limit) {
      const Run<Real>& r = all.data[next.run];
      const index count = least(left, r.count - next.row);
      run[runs++] = {r.a + next.row * r.a_stride, r.a_stride, r.row + next.row * r.row_stride,
                     r.row_stride, count};
      left -= count;
      next.row += count;
      if (next.row == r.count) next = {next.run + 1, 0};
    }
  }

  long rows() const {
    long n = 0;
    for (int i = 0; i < runs; ++i) n += run[i].count;
    return n;
  }
};

template <class Real>
void outer(const Chunk<Real>& chunk, long first, const Real* g, long g_row, int rows, int vectors,
           Real* acc) {
  OuterTile<Real> tile = nullptr;
  switch (vectors) {
    case 1: tile = outer_of<Real, 1>(rows); break;
    case 2: tile = outer_of<Real, 2>(rows); break;
    case 3: tile = outer_of<Real, 3>(rows); break;
    default: tile = outer_of<Real, tile_vectors(4)>(rows);
  }
  tile(chunk.run, chunk.runs, first, g, g_row, acc);
}

// A chunk whose columns lie as in its operand, or copied as the tiles take them.
template <class Real>
struct Columns {
  Chunk<Real> chunk;
  long tile;  // from one copied tile to the next; 0: not copied

  long first(const RowTiles& tiles, long i) const { return tile ? i * tile : tiles.begin(i); }
};

// [tile][row][max_rows]. Every panel reads the columns again, and those of rows that lie a power of
// two apart share a few sets of the cache.
template <class Real>
Columns<Real> copy_columns(const Chunk<Real>& chunk, long k, int highest, Real* copy) {
  constexpr index block = 8;  // rows whose lines stay near from one tile to the next
  const RowTiles tiles(0, k, highest);
  Columns<Real> copied{chunk, chunk.rows() * max_rows};
  for (int i = 0; i < chunk.runs; ++i) {
    const Run<Real>& run = chunk.run[i];
    copied.chunk.run[i].a = copy;
    copied.chunk.run[i].a_stride = max_rows;
    for (index r = 0; r < run.count; r += block) {
      const index rows = least(block, run.count - r);
      for (long t = 0; t < tiles.tiles; ++t) {
        const long first = tiles.begin(t), width = tiles.begin(t + 1) - first;
        const Real* from = run.a + r * run.a_stride + first;
        Real* to = copy + t * copied.tile;
        for (index n = 0; n < rows; ++n, from += run.a_stride, to += max_rows)
          if (first + max_rows <= k)  // a fixed size is faster; what is too much is never read
            __builtin_memcpy(to, from, max_rows * sizeof(Real));
          else
            __builtin_memcpy(to, from, width * sizeof(Real));
      }
      copy += rows * max_rows;
    }
  }
  return copied;
}

// sums[pass][k][vectors of the pass] += the chunk's share.
template <class Real>
void add_chunk(const Columns<Real>& columns, const Real* g, long g_row, int vectors, long k,
               Real* sums) {
  const int width = tile_vectors(vectors);
  for (int v = 0; v < vectors; v += width) {
    const RowTiles tiles(0, k, tile_rows(width));
    for (long i = 0; i < tiles.tiles; ++i)
      outer(columns.chunk, columns.first(tiles, i), g + v * lanes<Real>, g_row,
            static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)), width,
            sums + (k * v + tiles.begin(i) * width) * lanes<Real>);
  }
}

// The columns of W_ih that tokens name: sums[token] += da[row].
template <class Real>
void add_tokens_gradient(const Chunk<Real>& chunk, const int32_t* token, const Real* g, long g_row,
                         int vectors, long k, Real* sums) {
  const int width = tile_vectors(vectors);
  for (int i = 0; i < chunk.runs; ++i) {
    const Run<Real>& run = chunk.run[i];
    for (index n = 0; n < run.count; ++n) {
      const index row = run.row + n * run.row_stride;
      for (int v = 0; v < vectors; ++v) {
        const long column = k * (v - v % width) + long{token[row]} * width + v % width;
        Real* sum = sums + column * lanes<Real>;
        store(sum, load(sum) + load(g + row * g_row + v * lanes<Real>));
      }
    }
  }
}

// The transposed sums of a panel into PyTorch's rows.
template <class Real>
void unpack_gradient(const Layout& layout, Slots slots, long panel, long units, long k,
                     const Real* sums, Real* dw) {
  const int width = tile_vectors(slots.count);
  for (int v = 0; v < slots.count; ++v) {
    const long unit = layout.unit<Real>(panel, slots.first + v);
    const long rows = least(lanes<Real>, units - unit);
    Real* out = dw + (layout.gate_of(slots.first + v) * units + unit) * k;
    const Real* column = sums + (k * (v - v % width) + v % width) * lanes<Real>;
    for (long k0 = 0; k0 < k; k0 += lanes<Real>) {
      Vec<Real> square[lanes<Real>];
      for (long i = 0; i < lanes<Real>; ++i)
        square[i] = k0 + i < k ? load(column + (k0 + i) * width * lanes<Real>) : Vec<Real>{};
      transpose<Real>(square);
      for (long i = 0; i < rows; ++i) store_first(out + i * k + k0, square[i], k - k0);
    }
  }
}

// sums[v] += the rows of a chunk.
template <int N, class Real>
void add_chunk_rows(const Chunk<Real>& chunk, const Real* g, long g_row, Real* sums) {
  Vec<Real> sum[N] = {};
  for (int i = 0; i < chunk.runs; ++i) {
    const Run<Real>& run = chunk.run[i];
    const Real* row = g + run.row * g_row;
    for (index r = 0; r < run.count; ++r, row += run.row_stride * g_row)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sum[v] += load(row + v * lanes<Real>);
  }
  for (int v = 0; v < N; ++v) store(sums + v * lanes<Real>, load(sums + v * lanes<Real>) + sum[v]);
}

template <class Real>
void add_bias_chunk(const Chunk<Real>& chunk, const Real* g, long g_row, int vectors, Real* sums) {
  switch (vectors) {
    case 1: return add_chunk_rows<1>(chunk, g, g_row, sums);
    case 2: return add_chunk_rows<2>(chunk, g, g_row, sums);
    case 3: return add_chunk_rows<3>(chunk, g, g_row, sums);
    default: return add_chunk_rows<4>(chunk, g, g_row, sums);
  }
}

// One product of the list: the columns of an operand, and a column of ones for the bias, beside
// `slots` of a tape.
template <class Real>
struct GradientProduct {
  TapeColumns<Real> tape;
  Runs<Real> runs;  // the operand; beside tokens only the rows count
  const int32_t* tokens;
  long k;
  Real* dw;
  Real* db;

  static constexpr long worth_copying = 8;  // panels that read the columns

  long panels() const { return tape.layout.template panels<Real>(tape.units); }
  long panel_sums() const { return tape.slots.count * (k + 1) * lanes<Real>; }
  int highest() const { return highest_tile(tape.slots.count); }
  long scratch(int threads) const {
    const long copy = tokens ? 0 : blocks_of(k, highest()) * gradient_rows * max_rows;
    return blocks_of(panels(), threads) * panel_sums() + copy;
  }

  void run(const Worker& me, Real* scratch) const {
    const Share mine = share(panels(), me);
    const bool copies = !tokens && mine.end - mine.begin >= worth_copying;
    const auto sums = [&](long panel) { return scratch + (panel - mine.begin) * panel_sums(); };
    __builtin_memset(scratch, 0, (mine.end - mine.begin) * panel_sums() * sizeof(Real));
    for (typename Chunk<Real>::Cursor next; next.run < runs.size;) {
      const Columns<Real> lying{Chunk<Real>(runs, next), 0};
      const auto copied = copies ? copy_columns(lying.chunk, k, highest(), sums(mine.end)) : lying;
      for (long panel = mine.begin; panel < mine.end; ++panel) {
        const bool fits = highest_tile(slots(panel).count) == highest();
        add(fits ? copied : lying, panel, sums(panel));
      }
      if (!me.proceed(me.team, me.index)) return;
    }
    for (long panel = mine.begin; panel < mine.end; ++panel) finish(panel, sums(panel));
  }

 private:
  Slots slots(long panel) const {
    return tape.layout.template within<Real>(tape.slots, panel, tape.units);
  }

  void add(const Columns<Real>& columns, long panel, Real* sums) const {
    const Slots s = slots(panel);
    const long width = tape.layout.template width<Real>();
    const Real* g = tape.data + panel * tape.rows * width + s.first * lanes<Real>;
    if (tokens)
      add_tokens_gradient(columns.chunk, tokens, g, width, s.count, k, sums);
    else
      add_chunk(columns, g, width, s.count, k, sums);
    if (db) add_bias_chunk(columns.chunk, g, width, s.count, sums + s.count * k * lanes<Real>);
  }

  void finish(long panel, const Real* sums) const {
    const Slots s = slots(panel);
    unpack_gradient(tape.layout, s, panel, tape.units, k, sums, dw);
    if (!db) return;
    for (int v = 0; v < s.count; ++v) {
      const long unit = tape.layout.template unit<Real>(panel, s.first + v);
      store_first(db + tape.layout.gate_of(s.first + v) * tape.units + unit,
                  load(sums + (s.count * k + v) * lanes<Real>), tape.units - unit);
    }
  }
};

// All products of a cell: W_ih with b_ih, W_hh with b_hh, and the second phase's own.
template <class Cell, class Real>
struct GradientProducts {
  static constexpr int count = Cell::two_phases ? 3 : 2;
  GradientProduct<Real> product[count];

  explicit GradientProducts(const WeightGradient<Real>& g) {
    const Size& s = g.size;
    constexpr Layout layout = Cell::First::layout;
    product[0] = {
        {g.gates, layout, Cell::dx, s.hidden, g.rows}, g.x, g.tokens, s.input, g.d.w_ih, g.d.b_ih};
    product[1] = {
        {g.gates, layout, Cell::dh, s.hidden, g.rows}, g.h, nullptr, s.output, g.d.w_hh, g.d.b_hh};
    if constexpr (Cell::two_phases)
      product[2] = {Cell::second_tape(s, TapeData<Real>{g.gates, g.projected, g.rows}),
                    g.operand,
                    nullptr,
                    s.hidden,
                    Cell::second_matrix(g.d),
                    Cell::second_bias(g.d)};
  }
};

template <class Cell, class Real>
index gradient_scratch(const Size& size, int threads) {
  WeightGradient<Real> g{};
  g.size = size;
  long needed = 0;
  for (const auto& product : GradientProducts<Cell, Real>(g).product)
    needed = most(needed, product.scratch(threads));
  return needed;
}

template <class Cell, class Real>
void weight_gradient(const WeightGradient<Real>& g, const Worker& me) {
  const FlushDenormals mode;
  Real* scratch = g.scratch + me.index * gradient_scratch<Cell, Real>(g.size, me.count);
  for (const auto& product : GradientProducts<Cell, Real>(g).product) product.run(me, scratch);
}

}  // namespace rnnfast::RNNFAST_ISA
