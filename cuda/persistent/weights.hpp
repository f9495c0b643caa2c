// W_hh in the order in which the threads of persistent kernels load it.
#pragma once

#include "geometry.hpp"

namespace rnnfast::cuda::persistent {

// Where eight of a thread's weights are: those of a warp side by side. `product`: for which of the
// two that a part is for.
template <class G>
RNNFAST_HD index piece_at(int block, int half, int part, int product, int thread) {
  return (((index{block} * G::halves + half) * G::parts + part) * 2 + product) * block_threads +
         thread;
}

// Thread i makes the i-th piece. `back`: for BPTT.
template <class G, bool back>
struct PackWeights {
  using Operand = typename G::Operand;
  index hidden;
  int blocks;
  const Operand* w_hh;  // (G·H, H)
  Words* pieces;

  RNNFAST_HD static index count(int blocks) { return piece_at<G>(blocks, 0, 0, 0, 0); }
  RNNFAST_HD index threads() const { return count(blocks); }
  RNNFAST_HD void operator()(index i) const {
    const int thread = static_cast<int>(i % block_threads), product = i / block_threads % 2;
    const int part = static_cast<int>(i / (2 * block_threads) % G::parts);
    const int half = static_cast<int>(i / (2 * block_threads * G::parts) % G::halves);
    const int block = static_cast<int>(i / (2 * block_threads * G::parts * G::halves));
    const Lane lane(thread);
    Words piece;
    for (int n = 0; n < 4; ++n) {
      const int row = lane.row + n % 2 * 8, term = 8 * lane.quad + 4 * product + n / 2 * 2;
      const auto at = [&](int t) {
        return half_of(element(block, thread / 32, part, row, t), half).bits;
      };
      piece.word[n] = static_cast<uint32_t>(at(term + 1)) << 16 | at(term);
    }
    pieces[i] = piece;
  }

 private:
  RNNFAST_HD float element(int block, int warp, int part, int row, int term) const {
    if (back) {
      const int band = warp * G::bands_back + part / G::chunks_back;
      const int to = part % G::chunks_back * depth + term;
      return weight(block, to / G::slots, to % G::slots, band * 16 + unit_of_row_back(row));
    }
    const int band = warp * G::bands + part / G::chunks;
    const int unit = band * (16 / G::slots) + unit_of_row<G>(row);
    return weight(block, unit, slot_of_row<G>(row), part % G::chunks * depth + term);
  }
  // From unit `from` to a gate of a unit of the block; zero where there is none.
  RNNFAST_HD float weight(int block, int unit, int slot, index from) const {
    const index j = block * G::units + unit;
    if (j >= hidden || from >= hidden || slot >= G::Cell::gates) return 0.0f;
    return to_float(w_hh[(slot * hidden + j) * hidden + from]);
  }
};

}  // namespace rnnfast::cuda::persistent
