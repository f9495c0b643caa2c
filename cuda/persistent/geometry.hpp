// How persistent kernels lay the weights of a layer into the registers of a cluster of thread
// blocks, and its states into their shared memory.
//
// A cluster computes a slice of the batch for all steps. Each of its blocks has some of the units
// and keeps their rows of W_hh in registers; the state of all units lies in the shared memory of
// every block. Products are those of a warp's tensor cores, D (16, 8) += A (16, 32) B (32, 8), of
// bfloat16. A float is split into two of them, its halves, and of the four products of two floats
// the smallest is left out; W_hh's second halves lie in shared memory.
//
// An LSTM of 512 units: A (16, 32) is one of a warp's `bands` (1) of 16 rows and one of the
// `chunks` (16) of 32 of the 512 terms; the rows are four units with four gates, `slots`, each. The
// 8 warps of a block have 32 `units`, 16 `blocks` all of them. In BPTT the terms are the block's
// 128 gates, 4 `chunks_back`, and the rows all units: 4 `bands_back` of each of the warps. A `tile`
// is 8 sequences; a `cell`, a unit of a sequence, belongs to one thread:
//
//   rows 2 u, 2 u + 8 of a band: gates 0 and 1 of unit u of its four     lanes 8 u to 8 u + 3
//   rows 2 u + 1, 2 u + 9:       gates 2 and 3                           lanes 8 u + 4 to 8 u + 7
//
// whose lanes trade, so that each has all gates of one cell.
#pragma once

#include <algorithm>
#include <cstring>

#include "../host_device.hpp"

// Code of a thread that knows its block.
#ifdef __CUDACC__
#define RNNFAST_BLOCK __device__ __forceinline__
#else
#define RNNFAST_BLOCK inline
#endif

namespace rnnfast::cuda::persistent {

// A thread of a warp in such a product, done as two mma.m16n8k16 (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"): it has the rows `row` and `row` + 8 of A and D, the columns 2 `quad` and
// 2 `quad` + 1 of D, and column `row` of B. Which of the 32 terms of a sum it has may be chosen, if
// A and B agree: the eight from 8 `quad` on, so that it reads both as they lie in memory.
struct Lane {
  int row, quad;
  RNNFAST_HD explicit Lane(int thread) : row(thread % 32 / 4), quad(thread % 4) {}
};

inline constexpr int block_threads = 256, block_warps = block_threads / 32;
inline constexpr int most_blocks = 16;  // of a cluster
inline constexpr int depth = 32;        // terms of a product

// body(n) for all n < count, as straight code: arrays that it indexes may be registers.
template <int count, class Body>
RNNFAST_BLOCK void unrolled(Body body) {
#ifdef __CUDACC__
#pragma unroll
#endif
  for (int n = 0; n < count; ++n) body(n);
}

// What is loaded and pushed at once: four floats, or eight of bfloat16.
struct alignas(16) Words {
  uint32_t word[4];
};

// How many bfloat16 numbers an operand is the sum of.
template <class Operand>
inline constexpr int halves_of = sizeof(Operand) / sizeof(Bfloat16);

RNNFAST_HD Bfloat16 half_of(float value, int half) {
  const auto first = to_operand<Bfloat16>(value);
  if (half == 0) return first;
  const float rest = value - to_float(first);
  return to_operand<Bfloat16>(rest - rest == 0.0f ? rest : 0.0f);  // of what is not finite: none
}

// An operand B in shared memory, or a half of it: chunks of 32 terms, in each of them the columns
// one after another.
template <int chunks, int columns>
struct alignas(16) Terms {
  Bfloat16 terms[chunks][columns][depth];

  // Neighbouring terms of a column.
  template <int count>
  RNNFAST_BLOCK void put(int term, int column, const Bfloat16 (&values)[count]) {
    const auto t = static_cast<unsigned>(term);
    void* to = &terms[t / depth][column][t % depth];
    memcpy(__builtin_assume_aligned(to, sizeof values), values, sizeof values);
  }
  RNNFAST_BLOCK Words* words(int chunk, int column, int quad) {
    return reinterpret_cast<Words*>(&terms[chunk][column][8 * quad]);
  }
};
RNNFAST_BLOCK Words load(const Words* from) {
  Words words;
  memcpy(&words, __builtin_assume_aligned(from, sizeof words), sizeof words);
  return words;
}

// At most 32 · `chunks_` units, 8 · `tiles_` sequences.
template <class Cell_, class Operand_, int chunks_, int tiles_>
struct Geometry {
  using Cell = Cell_;
  using Operand = Operand_;
  static constexpr int halves = halves_of<Operand>;
  static constexpr int chunks = chunks_, tiles = tiles_;
  static constexpr int columns = 8 * tiles;
  // Rows of A for each unit: one, or four, of which a GRU leaves one empty.
  static constexpr int slots = Cell::gates == 1 ? 1 : 4;
  // A warp's share of A, in 16 rows: as many as 128 registers of a thread hold, or as there are.
  static constexpr int bands = std::min(16 / chunks, (chunks * slots) / 4);
  static constexpr int units = block_warps * bands * 16 / slots;  // of a block
  // The same weights for BPTT, whose A is W_hhᵀ: its rows are all units, its terms the block's.
  static constexpr int bands_back = chunks * depth / 16 / block_warps;
  static constexpr int chunks_back = units * slots / depth;
  static constexpr int cells = units * columns / block_threads;  // units × sequences of a thread
  static constexpr int parts = bands * chunks;                   // of A, of a thread
  static constexpr int blocks = chunks * depth / units;          // of a cluster, for the most units

  static_assert(units % depth == 0 && blocks >= 1 && blocks <= most_blocks);
  static_assert(parts <= 16 && parts == bands_back * chunks_back);
};

// A unit of a block and a sequence of a cluster.
struct Position {
  int unit, column;
};

// Those whose sums a thread has after `forward` of the i-th pair of a band and a tile.
template <class G>
RNNFAST_HD Position cell_forward(int thread, int i) {
  constexpr int each = 4 / G::slots;
  const Lane lane(thread);
  const int pair = i / each, n = i % each;
  const int band = thread / 32 * G::bands + pair / G::tiles, first = pair % G::tiles * 8;
  if (G::slots == 1) return {band * 16 + lane.row + n / 2 * 8, first + 2 * lane.quad + n % 2};
  return {band * 4 + lane.row / 2, first + 2 * lane.quad + lane.row % 2};
}

// Rows r of a band in `forward`: a unit of the band and its gate. Neighbouring lanes have the same
// unit, and two of its gates each.
template <class G>
RNNFAST_HD int unit_of_row(int r) {
  return G::slots == 1 ? r : r % 8 / 2;
}
template <class G>
RNNFAST_HD int slot_of_row(int r) {
  return G::slots == 1 ? 0 : r % 2 * 2 + r / 8;
}

// Rows r of a band in BPTT: a unit of the band, such that the sums of a warp's cells lie side by
// side and are of neighbouring units.
RNNFAST_HD int unit_of_row_back(int r) { return r % 8 * 2 + r / 8; }

// A block's sums of a tile, as the threads that formed them have them: (bands, lanes, 4).
template <class G>
inline constexpr int sums_of_tile = G::units * 8;

// The i-th cell of a thread in BPTT: its sums are the words `thread` + n · 256 of each tile.
template <class G>
RNNFAST_HD Position cell_backward(int thread, int i) {
  constexpr int of_tile = G::cells / G::tiles, more = block_threads / 8;
  const Lane lane(thread % 128 / 4);
  const int n = thread % 4;
  const int unit = thread / 128 * 16 + unit_of_row_back(lane.row + n / 2 * 8);
  return {unit + i % of_tile * more, 2 * lane.quad + n % 2 + i / of_tile * 8};
}

// A thread's part of A (16, 32), for both products.
struct Part {
  Words first, second;
};

// In how many chains to form each of so many sums: a product waits for the one before in its chain.
template <class G>
constexpr int chains_of(int sums) {
  return std::max(4 / G::halves / sums, 1);
}

// Sums of a band and a tile.
template <int chains>
struct Sums {
  float d[chains][4] = {};

  template <class Block>
  RNNFAST_BLOCK void add(Block& block, int chunk, const Part& a, const Words& b) {
    block.multiply(d[2 * chunk % chains], d[(2 * chunk + 1) % chains], a, b);
  }
  RNNFAST_BLOCK float sum(int n) const {
    float all = d[0][n];
    unrolled<chains - 1>([&](int c) { all += d[c + 1][n]; });
    return all;
  }
};

}  // namespace rnnfast::cuda::persistent
