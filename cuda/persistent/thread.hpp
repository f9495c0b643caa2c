// A thread of a persistent kernel: what it does alike forward and back.
#pragma once

#include "../cells.hpp"
#include "../track.hpp"
#include "weights.hpp"

namespace rnnfast::cuda::persistent {

// One cluster for each slice of the batch and each direction of a layer. A Side is what a direction
// has: its track k, its W_hh, and more.
template <class G, class Side>
struct Kernel {
  using Geometry = G;
  Side sides[2];
  const Words* weights[2];  // of each side, from PackWeights
  int directions;
  int blocks;   // of a cluster
  index slice;  // sequences of a cluster

  index clusters() const { return (sides[0].k.sequences.batch + slice - 1) / slice; }
};

// W_hh's second halves.
template <class G, int halves = G::halves>
struct LowWeights {
  Words pieces[G::parts][2][block_threads];
};
template <class G>
struct LowWeights<G, 1> {};

template <class G, class Side, class Block>
class Thread {
 public:
  using Cell = typename G::Cell;
  using Operand = typename G::Operand;
  static constexpr int gates = Cell::gates;

  RNNFAST_BLOCK Thread(const Kernel<G, Side>& kernel, Block& block)
      : side_(kernel.sides[block.direction()]),
        k_(side_.k),
        block_(block),
        weights_(kernel.weights[block.direction()]),
        steps_(static_cast<int>(k_.sequences.steps)),
        H_(static_cast<int>(k_.shape.hidden)),
        blocks_(kernel.blocks),
        first_unit_(block.rank() * G::units),
        first_b_(static_cast<int>(block.cluster() * kernel.slice)) {
    const index left = k_.sequences.batch - first_b_;
    columns_ = static_cast<int>(left < kernel.slice ? left : kernel.slice);
  }

 protected:
  // Where a cell is in the arrays of a step, whose sizes are an int's.
  struct Address {
    bool there;
    int b, j;
    unsigned state, first_gate;
  };
  RNNFAST_BLOCK Address address(const Position& p) const {
    const int j = first_unit_ + p.unit, b = first_b_ + p.column;
    return {j < H_ && p.column < columns_, b, j, of_row(b, H_, j), of_row(b, gates * H_, j)};
  }
  RNNFAST_BLOCK static unsigned of_row(int b, index width, int j) {
    return static_cast<unsigned>(b) * static_cast<unsigned>(width) + j;
  }
  // The part of an array (T, B, width) that step t has.
  template <class Pointer>
  RNNFAST_BLOCK Pointer of_step(Pointer all, int t, index width) const {
    return all + t * k_.sequences.batch * width;
  }

  // What Sequences tells, in loads that do not wait for each other: a sequence runs at steps before
  // its `length`, and the state at step t is forgotten where there is a `reset` at its `border`.
  RNNFAST_BLOCK int step_at(int s) const { return static_cast<int>(k_.sequences.at(s)); }
  RNNFAST_BLOCK int length(const Address& cell) const {
    if (!cell.there) return 0;
    return k_.sequences.lengths ? k_.sequences.lengths[cell.b] : steps_;
  }
  RNNFAST_BLOCK int border(int t) const { return k_.sequences.reverse ? t + 1 : t; }
  RNNFAST_BLOCK bool reset(int border, const Address& cell) const {
    if (!k_.sequences.reset || !cell.there || border >= steps_) return false;
    return k_.sequences.reset[border * k_.sequences.batch + cell.b];
  }

  // Weights: first halves to registers, second ones to shared memory, where no other thread reads
  // them.
  template <int bands, int chunks>
  RNNFAST_BLOCK void load_weights(Part (&parts)[bands][chunks], LowWeights<G>& low) const {
    const auto piece = [&](int half, int n, int product) {
      return weights_[piece_at<G>(block_.rank(), half, n, product, block_.thread())];
    };
    unrolled<bands * chunks>(
        [&](int n) { parts[n / chunks][n % chunks] = {piece(0, n, 0), piece(0, n, 1)}; });
    if constexpr (G::halves > 1)
      for (int n = 0; n < 2 * G::parts; ++n)
        low.pieces[n / 2][n % 2][block_.thread()] = piece(1, n / 2, n % 2);
  }

  // Adds the products of the weights in all bands with operands in some tiles.
  template <int bands, int chunks, int tiles, int chains, int columns>
  RNNFAST_BLOCK void multiply(const Part (&parts)[bands][chunks], const LowWeights<G>& low,
                              Terms<chunks, columns> (&operand)[G::halves], int first_tile,
                              Sums<chains> (&sums)[bands][tiles]) {
    const Lane lane(block_.thread());
    unrolled<chunks>([&](int chunk) {
      Words b[tiles][G::halves];
      unrolled<tiles * G::halves>([&](int n) {
        const int column = (first_tile + n / G::halves) * 8 + lane.row;
        b[n / G::halves][n % G::halves] =
            load(operand[n % G::halves].words(chunk, column, lane.quad));
      });
      unrolled<bands>([&](int band) {
        unrolled<tiles * G::halves>([&](int n) {
          sums[band][n % tiles].add(block_, chunk, parts[band][chunk], b[n % tiles][n / tiles]);
        });
        if constexpr (G::halves > 1) {
          const auto& pieces = low.pieces[band * chunks + chunk];
          const Part part{pieces[0][block_.thread()], pieces[1][block_.thread()]};
          unrolled<tiles>([&](int tile) { sums[band][tile].add(block_, chunk, part, b[tile][0]); });
        }
      });
    });
    block_.multiplied();
  }

  // What blocks push for steps 1, 2, …, `last` arrives at `full` of that step.
  RNNFAST_BLOCK void begin(uint64_t (&full)[2], int last, int bytes) {
    if (block_.thread() == 0) {
      block_.init(&full[0]);
      block_.init(&full[1]);
      expect(full, 1, last, bytes);
      expect(full, 2, last, bytes);
    }
    block_.sync_cluster();
  }
  // No block pushes for step + 2 before this one has pushed for step + 1.
  RNNFAST_BLOCK void await(uint64_t (&full)[2], int step, int last, int bytes) {
    block_.wait(&full[step % 2], (step - 1) / 2 % 2);
    if (block_.thread() == 0) expect(full, step + 2, last, bytes);
  }

  const Side& side_;
  const Track<Operand>& k_;
  Block& block_;
  const Words* weights_;
  int steps_, H_, blocks_, columns_, first_unit_, first_b_;

 private:
  RNNFAST_BLOCK void expect(uint64_t (&full)[2], int step, int last, int bytes) {
    if (step <= last) block_.expect(&full[step % 2], bytes);
  }
};

}  // namespace rnnfast::cuda::persistent
