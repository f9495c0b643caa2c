// Gradients of weights and biases: one product over all rows of the tape after BPTT.
//
//   dW[gate row][k] = Σ_rows da[row][gate row] · a[row][k]      db = Σ_rows da[row]
//
// A thread owns whole panels of gate rows, so no sum is split between threads and the result does
// not depend on their number. Rows come in chunks that fit the cache, in one call or several; the
// sums of a chunk are added to the transposed gradient, which is turned round at the end.
#pragma once

#include "backward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Real>
index rows_of(const Runs<Real>& chunk) {
  index n = 0;
  for (index i = 0; i < chunk.size; ++i) n += chunk.data[i].count;
  return n;
}

template <class Format, class Real = Format::Real>
void outer(const Runs<Real>& chunk, long first, const Real* g, long g_row, int rows, int vectors,
           Real* acc) {
  OuterTile<Real> tile = nullptr;
  switch (vectors) {
    case 1: tile = outer_of<Format, 1>(rows); break;
    case 2: tile = outer_of<Format, 2>(rows); break;
    case 3: tile = outer_of<Format, 3>(rows); break;
    default: tile = outer_of<Format, tile_vectors(4)>(rows);
  }
  tile(chunk.data, static_cast<int>(chunk.size), first, g, g_row, acc);
}

// A chunk whose columns lie as in its operand, or copied as tiles of `height` take them.
template <class Real>
struct Columns {
  Runs<Real> chunk;
  Run<Real> copy{};  // of the chunk's rows
  long tile = 0;     // from one copied tile to the next; 0: not copied
  int height = 0;

  Runs<Real> runs() const { return tile ? Runs<Real>{&copy, 1} : chunk; }
  long first(const RowTiles& tiles, long i) const { return tile ? i * tile : tiles.begin(i); }
};

// Rows whose lines stay near from one tile to the next while columns are copied.
inline constexpr index copy_block = 8;

// `rows` ≤ copy_block rows of k words to their places in the tiles.
template <class Real>
void copy_block_rows(const Real* from, index stride, index rows, long k, const RowTiles& tiles,
                     long tile, Real* to) {
  for (long t = 0; t < tiles.tiles; ++t) {
    const long first = tiles.begin(t), width = tiles.begin(t + 1) - first;
    for (index n = 0; n < rows; ++n) {
      const Real* source = from + n * stride + first;
      Real* target = to + t * tile + n * max_rows;
      if (first + max_rows <= k)  // a fixed size is faster; what is too much is never read
        __builtin_memcpy(target, source, max_rows * sizeof(Real));
      else
        __builtin_memcpy(target, source, width * sizeof(Real));
    }
  }
}

// [tile][row][max_rows]. Every panel reads the columns again, and those of rows that lie a power of
// two apart share a few sets of the cache.
template <class Real>
Columns<Real> copy_columns(const Runs<Real>& chunk, long k, int height, Real* copy) {
  const RowTiles tiles(0, k, height);
  const index count = rows_of(chunk);
  const Columns<Real> copied{
      chunk, {copy, max_rows, chunk.data[0].row, 1, count}, count * max_rows, height};
  for (const Run<Real>* run = chunk.data; run != chunk.data + chunk.size; ++run)
    for (index r = 0; r < run->count; r += copy_block) {
      const index rows = least(copy_block, run->count - r);
      copy_block_rows(run->a + r * run->a_stride, run->a_stride, rows, k, tiles, copied.tile, copy);
      copy += rows * max_rows;
    }
  return copied;
}

// The rows of a chunk in order, to be joined to words along the sum.
template <class Real>
struct RowList {
  const Real* a[gradient_rows];
  index row[gradient_rows];
  index count = 0;

  explicit RowList(const Runs<Real>& chunk) {
    for (const Run<Real>* run = chunk.data; run != chunk.data + chunk.size; ++run)
      for (index n = 0; n < run->count; ++n, ++count) {
        a[count] = run->a + n * run->a_stride;
        row[count] = run->row + n * run->row_stride;
      }
  }
};

// The n-th word of the sum: what `vector(r)` is for each of its rows, zero past the last one.
template <class Format, class Vector>
auto join_rows(index n, index count, Vector vector) {
  Vec<typename Format::Real> parts[Format::group] = {};
  for (long j = 0; j < Format::group && n * Format::group + j < count; ++j)
    parts[j] = vector(n * Format::group + j);
  return Format::word(parts);
}

// copy_columns for rows that are no words yet. `lines` is scratch for copy_block rows of k and
// max_rows more.
template <class Format, class Real = Format::Real>
Columns<Real> join_columns(const RowList<Real>& list, long k, int height, Real* lines, Real* copy) {
  const RowTiles tiles(0, k, height);
  const index words = words_of<Format>(list.count), line = padded<Real>(k) + max_rows;
  const Columns<Real> copied{{}, {copy, max_rows, 0, 1, words}, words * max_rows, height};
  for (index n = 0; n < words; n += copy_block) {
    const index rows = least(copy_block, words - n);
    for (index i = 0; i < rows; ++i)
      for (long c = 0; c < k; c += lanes<Real>)
        store(lines + i * line + c, join_rows<Format>(n + i, list.count, [&](index r) {
                return load_first(list.a[r] + c, k - c);
              }));
    copy_block_rows(lines, line, rows, line, tiles, copied.tile, copy + n * max_rows);
  }
  return copied;
}

// `vectors` vectors of the tape's rows, joined to words along the sum: [word][vector].
template <class Format, class Real = Format::Real>
void join_tape(const RowList<Real>& list, const typename Format::Element* g, long g_row,
               int vectors, Real* copy) {
  for (index n = 0; n < words_of<Format>(list.count); ++n)
    for (int v = 0; v < vectors; ++v, copy += lanes<Real>)
      store(copy, join_rows<Format>(n, list.count, [&](index r) {
              return Format::get(g + list.row[r] * g_row + v * lanes<Real>);
            }));
}

// sums[pass][k][vectors of the pass] += the chunk's share.
template <class Format, class Real = Format::Real>
void add_chunk(const Columns<Real>& columns, const Real* g, long g_row, int vectors, long k,
               Real* sums) {
  const int width = tile_vectors(vectors);
  for (int v = 0; v < vectors; v += width) {
    const RowTiles tiles(0, k, tile_rows(width));
    for (long i = 0; i < tiles.tiles; ++i)
      outer<Format>(columns.runs(), columns.first(tiles, i), g + v * lanes<Real>, g_row,
                    static_cast<int>(tiles.begin(i + 1) - tiles.begin(i)), width,
                    sums + (k * v + tiles.begin(i) * width) * lanes<Real>);
  }
}

// The columns of W_ih that tokens name: sums[token] += da[row].
template <class Format, class Real = Format::Real>
void add_tokens_gradient(const Runs<Real>& chunk, const int32_t* token,
                         const typename Format::Element* g, long g_row, int vectors, long k,
                         Real* sums) {
  const int width = tile_vectors(vectors);
  for (index i = 0; i < chunk.size; ++i) {
    const Run<Real>& run = chunk.data[i];
    for (index n = 0; n < run.count; ++n) {
      const index row = run.row + n * run.row_stride;
      for (int v = 0; v < vectors; ++v) {
        const long column = k * (v - v % width) + long{token[row]} * width + v % width;
        Real* sum = sums + column * lanes<Real>;
        store(sum, load(sum) + Format::get(g + row * g_row + v * lanes<Real>));
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
template <class Format, int N, class Real = Format::Real>
void add_chunk_rows(const Runs<Real>& chunk, const typename Format::Element* g, long g_row,
                    Real* sums) {
  Vec<Real> sum[N] = {};
  for (index i = 0; i < chunk.size; ++i) {
    const Run<Real>& run = chunk.data[i];
    const auto* row = g + run.row * g_row;
    for (index r = 0; r < run.count; ++r, row += run.row_stride * g_row)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sum[v] += Format::get(row + v * lanes<Real>);
  }
  for (int v = 0; v < N; ++v) store(sums + v * lanes<Real>, load(sums + v * lanes<Real>) + sum[v]);
}

template <class Format, class Real = Format::Real>
void add_bias_chunk(const Runs<Real>& chunk, const typename Format::Element* g, long g_row,
                    int vectors, Real* sums) {
  switch (vectors) {
    case 1: return add_chunk_rows<Format, 1>(chunk, g, g_row, sums);
    case 2: return add_chunk_rows<Format, 2>(chunk, g, g_row, sums);
    case 3: return add_chunk_rows<Format, 3>(chunk, g, g_row, sums);
    default: return add_chunk_rows<Format, 4>(chunk, g, g_row, sums);
  }
}

// One product of the list: the columns of an operand, and a column of ones for the bias, beside
// `slots` of a tape.
template <class Format>
struct GradientProduct {
  using Real = Format::Real;
  TapeColumns<Format> tape;
  Chunks<Real> chunks;  // of the operand; beside tokens only the rows count
  const int32_t* tokens;
  long k;
  Real* dw;
  Real* db;

  static constexpr long worth_copying = 8;  // panels that read the columns

  long panels() const { return tape.layout.template panels<Real>(tape.units); }
  long panel_sums() const { return tape.slots.count * (k + 1) * lanes<Real>; }
  long sums() const { return panels() * panel_sums(); }
  // Scratch of a thread: columns, and for joining lines and the tape.
  long column_space() const {
    return tokens ? 0
                  : blocks_of(k, highest_tile(tape.slots.count)) * words_of<Format>(gradient_rows) *
                        max_rows;
  }
  long line_space() const {
    return Format::native || tokens ? 0 : copy_block * (padded<Real>(k) + max_rows);
  }
  long tape_space() const {
    return Format::native || tokens
               ? 0
               : words_of<Format>(gradient_rows) * tape.layout.template width<Real>();
  }
  long scratch() const { return column_space() + line_space() + tape_space(); }

  // `all`: the sums of all panels.
  void run(const WeightGradient<Real>& g, const Worker& me, Real* all, Real* space) const {
    const Share mine = share(panels(), me);
    const auto sums = [&](long panel) { return all + panel * panel_sums(); };
    if (g.first)
      __builtin_memset(sums(mine.begin), 0, (mine.end - mine.begin) * panel_sums() * sizeof(Real));
    for (index i = 0; i < chunks.size; ++i) {
      const Runs<Real>& chunk = chunks.data[i];
      if constexpr (Format::native)
        add_panels(chunk, chunk, mine, sums, space);
      else
        add_panels(RowList<Real>(chunk), chunk, mine, sums, space);
      if (!me.proceed(me.team, me.member)) return;
    }
    if (!g.last) return;
    for (long panel = mine.begin; panel < mine.end; ++panel) finish(panel, sums(panel));
  }

 private:
  Slots slots(long panel) const {
    return tape.layout.template within<Real>(tape.slots, panel, tape.units);
  }
  // Elements of a row of the tape, and where those of a panel's slots begin.
  long width() const { return tape.layout.template width<Real>(); }
  const auto* gradients(long panel) const {
    return elements<Format>(tape.data) + panel * tape.rows * width() +
           slots(panel).first * lanes<Real>;
  }

  // The chunk's share of a thread's panels; `rows` are the chunk, or a list of its rows.
  template <class Rows, class Sums>
  void add_panels(const Rows& rows, const Runs<Real>& chunk, Share mine, Sums sums,
                  Real* space) const {
    const bool copies = mine.end - mine.begin >= worth_copying;
    Columns<Real> columns{chunk};
    for (long panel = mine.begin; panel < mine.end; ++panel) {
      const Slots s = slots(panel);
      if (tokens)
        add_tokens_gradient<Format>(chunk, tokens, gradients(panel), width(), s.count, k,
                                    sums(panel));
      else
        add_product(rows, columns, copies, panel, sums(panel), space);
      if (db)
        add_bias_chunk<Format>(chunk, gradients(panel), width(), s.count,
                               sums(panel) + s.count * k * lanes<Real>);
    }
  }

  // `columns`: what the panel before has copied.
  void add_product(const Runs<Real>& chunk, Columns<Real>& columns, bool copies, long panel,
                   Real* sums, Real* space) const {
    const Slots s = slots(panel);
    const int height = highest_tile(s.count);
    const bool copied = copies && height == highest_tile(tape.slots.count);
    if (copied && columns.height != height) columns = copy_columns(chunk, k, height, space);
    add_chunk<Format>(copied ? columns : Columns<Real>{chunk}, gradients(panel), width(), s.count,
                      k, sums);
  }

  // The same for operands and a tape that have to be joined to words.
  void add_product(const RowList<Real>& list, Columns<Real>& columns, bool, long panel, Real* sums,
                   Real* space) const {
    const Slots s = slots(panel);
    const int height = highest_tile(s.count);
    Real* lines = space + column_space();
    Real* joined = lines + line_space();
    if (columns.height != height) columns = join_columns<Format>(list, k, height, lines, space);
    join_tape<Format>(list, gradients(panel), width(), s.count, joined);
    add_chunk<Format>(columns, joined, s.count * lanes<Real>, s.count, k, sums);
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
template <class Cell>
struct GradientProducts {
  using Real = Cell::Real;
  static constexpr int count = Cell::two_phases ? 3 : 2;
  GradientProduct<typename Cell::Format> product[count];

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

template <class Cell>
index gradient_sums(const Size& size) {
  WeightGradient<typename Cell::Real> g{};
  g.size = size;
  long sums = 0;
  for (const auto& product : GradientProducts<Cell>(g).product) sums += product.sums();
  return sums;
}

template <class Cell>
index gradient_scratch(const Size& size) {
  WeightGradient<typename Cell::Real> g{};
  g.size = size;
  long needed = 0;
  for (const auto& product : GradientProducts<Cell>(g).product)
    needed = most(needed, product.scratch());
  return needed;
}

template <class Cell, class Real = Cell::Real>
void weight_gradient(const WeightGradient<Real>& g, const Worker& me) {
  const FlushDenormals mode;
  Real* sums = g.sums;
  Real* space = g.scratch + me.index * gradient_scratch<Cell>(g.size);
  for (const auto& product : GradientProducts<Cell>(g).product) {
    product.run(g, me, sums, space);
    sums += product.sums();
  }
}

}  // namespace rnnfast::RNNFAST_ISA
