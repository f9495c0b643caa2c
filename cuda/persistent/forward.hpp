// All steps of one direction in one kernel.
#pragma once

#include "../cells.hpp"
#include "../track.hpp"
#include "weights.hpp"

namespace rnnfast::cuda {

// What one direction of a layer needs.
template <class Operand>
struct ForwardSide {
  Track<Operand> k;      // for BPTT all of it is filled, unless k.h is null
  const Operand* w_hh;   // (G·H, H)
  const float *h0, *c0;  // null: zeros
};

// Clusters for each slice of the batch, in both directions of a layer at once.
template <class G, class Side>
struct Persistent {
  using Geometry = G;
  Side sides[2];
  const Eight* weights[2];  // of each side, from PackWeights
  int directions;
  int blocks;   // of a cluster
  index slice;  // sequences of a cluster

  RNNFAST_HD index slices() const { return (sides[0].k.sequences.batch + slice - 1) / slice; }
  index clusters() const { return directions * slices(); }
};

// W_hh's second halves.
template <class G, int halves = G::halves>
struct LowWeights {
  Eight pieces[G::parts][2][block_threads];
};
template <class G>
struct LowWeights<G, 1> {};

// A thread of such a kernel, and its block.
template <class G, class Side, class Block>
class PersistentThread {
 public:
  using Cell = typename G::Cell;
  using Operand = typename G::Operand;
  static constexpr int gates = Cell::gates;

  RNNFAST_BLOCK PersistentThread(const Persistent<G, Side>& kernel, Block& block)
      : PersistentThread(kernel, block, static_cast<int>(block.cluster() / kernel.slices())) {}

 protected:
  // Where a cell is in the arrays of a step, whose size is an int's.
  struct Place {
    bool there;
    int b, j;
    unsigned state, first_gate;
  };
  // Whether a sequence runs, and whether the state before or after it is forgotten.
  struct Run {
    bool alive, fresh;
  };
  RNNFAST_BLOCK Place place(const Position& p) const {
    const int j = first_unit_ + p.unit, b = first_b_ + p.column;
    return {j < H_ && p.column < columns_, b, j, at(b, H_, j), at(b, gates * H_, j)};
  }
  RNNFAST_BLOCK static unsigned at(int b, int width, int j) {
    return static_cast<unsigned>(b) * width + j;
  }
  RNNFAST_BLOCK Run run_of(const Place& at, index t, index next) const {
    const Sequences& all = k_.sequences;
    if (!at.there) return {false, false};
    return {all.alive(t, at.b), next != none && all.fresh(next, at.b)};
  }
  // The part of an array (T, B, width) that step t has.
  template <class T>
  RNNFAST_BLOCK T* of_step(T* all, index t, index width) const {
    return all + t * k_.sequences.batch * width;
  }
  // Weights: first halves to registers, second ones to shared memory, where no other thread reads
  // them.
  template <int bands, int chunks>
  RNNFAST_BLOCK void load(Part (&parts)[bands][chunks], LowWeights<G>& low) const {
    const auto piece = [&](int half, int n, int product) {
      return weights_[piece_at<G>(block_.rank(), half, n, product, block_.thread())];
    };
    unrolled<bands * chunks>(
        [&](int n) { parts[n / chunks][n % chunks] = {piece(0, n, 0), piece(0, n, 1)}; });
    if constexpr (G::halves > 1)
      for (int n = 0; n < 2 * G::parts; ++n)
        low.pieces[n / 2][n % 2][block_.thread()] = piece(1, n / 2, n % 2);
  }
  // The chunk of operands of both halves in some tiles, times the weights in all bands.
  template <int bands, int chunks, int tiles, int chains, int columns>
  RNNFAST_BLOCK void multiply(const Part (&parts)[bands][chunks], const LowWeights<G>& low,
                              Terms<chunks, columns> (&operand)[G::halves], int chunk,
                              int first_tile, Sums<chains> (&sums)[bands][tiles]) {
    const Lane lane(block_.thread());
    Eight b[tiles][G::halves];
    unrolled<tiles>([&](int tile) {
      unrolled<G::halves>([&](int half) {
        const int column = (first_tile + tile) * 8 + lane.row;
        b[tile][half] = *operand[half].eight(chunk, column, lane.quad);
      });
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
  }
  RNNFAST_BLOCK index after(index s) const {
    return s + 1 < k_.sequences.steps ? k_.sequences.at(s + 1) : none;
  }

  // What other blocks push for steps 1, 2, … arrives at `full` of that step.
  RNNFAST_BLOCK void begin(uint64_t (&full)[2], index last, int bytes) {
    if (block_.thread() == 0) {
      block_.init(&full[0]);
      block_.init(&full[1]);
      expect(full, 1, last, bytes);
      expect(full, 2, last, bytes);
    }
    block_.sync_cluster();
  }
  RNNFAST_BLOCK void expect(uint64_t (&full)[2], index step, index last, int bytes) {
    if (step <= last) block_.expect(&full[step % 2], bytes);
  }
  // No other block pushes for step + 2 before this one has pushed for step + 1.
  RNNFAST_BLOCK void await(uint64_t (&full)[2], index step, index last, int bytes) {
    block_.wait(&full[step % 2], (step - 1) / 2 % 2);
    if (block_.thread() == 0) expect(full, step + 2, last, bytes);
  }

  const Track<Operand>& k_;
  const Side& side_;
  Block& block_;
  const Eight* weights_;
  int H_, blocks_, columns_, first_unit_, first_b_;

 private:
  RNNFAST_BLOCK PersistentThread(const Persistent<G, Side>& kernel, Block& block, int direction)
      : k_(kernel.sides[direction].k),
        side_(kernel.sides[direction]),
        block_(block),
        weights_(kernel.weights[direction]),
        H_(static_cast<int>(k_.shape.hidden)),
        blocks_(kernel.blocks),
        first_unit_(block.rank() * G::units),
        first_b_(static_cast<int>(block.cluster() % kernel.slices() * kernel.slice)) {
    const index left = k_.sequences.batch - first_b_;
    columns_ = static_cast<int>(left < kernel.slice ? left : kernel.slice);
  }
};

// From the gates of the input in k.gates to y and the last state.
template <class G>
struct PersistentForward : Persistent<G, ForwardSide<typename G::Operand>> {
  using Pack = PackWeights<G, false>;

  struct Shared {
    [[no_unique_address]] LowWeights<G> low;
    Terms<G::chunks, G::columns> h[2][G::halves];  // that enters even and odd steps
    float b_ih[G::slots][G::units], b_hh[G::slots][G::units];
    uint64_t full[2];
  };
  template <class Block>
  RNNFAST_BLOCK void operator()(Block& block) const;
};

template <class G, class Block>
class ForwardThread : PersistentThread<G, ForwardSide<typename G::Operand>, Block> {
  using Base = PersistentThread<G, ForwardSide<typename G::Operand>, Block>;
  using Cell = typename Base::Cell;
  using Place = typename Base::Place;
  using Base::block_, Base::blocks_, Base::columns_, Base::first_unit_, Base::H_, Base::k_,
      Base::side_;
  static constexpr int gates = Base::gates, cells = G::cells;
  static constexpr int chains = chains_of<G>(G::bands * G::tiles);

 public:
  RNNFAST_BLOCK ForwardThread(const PersistentForward<G>& kernel, Block& block)
      : Base(kernel, block),
        shared_(*block.template shared<typename PersistentForward<G>::Shared>()) {}

  RNNFAST_BLOCK void run() {
    const index last = k_.sequences.steps - 1;
    const int bytes = (blocks_ - 1) * pieces() * static_cast<int>(sizeof(Eight));
    this->load(parts_, shared_.low);
    load_biases();
    enter();
    this->begin(shared_.full, blocks_ > 1 ? last : 0, bytes);
    for (index s = 0; s <= last; ++s) {
      load_gates(k_.sequences.at(s), this->after(s));
      if (s > 0 && blocks_ > 1) this->await(shared_.full, s, last, bytes);
      multiply(s % 2);
      advance(s);
      block_.sync();
      if (s < last) push((s + 1) % 2);
    }
    block_.sync_cluster();
  }

 private:
  RNNFAST_BLOCK void load_biases() {
    for (int i = block_.thread(); i < G::slots * G::units; i += block_threads) {
      const int slot = i / G::units, unit = i % G::units, j = first_unit_ + unit;
      const bool there = slot < gates && j < H_;
      shared_.b_ih[slot][unit] = there && k_.b_ih ? k_.b_ih[slot * H_ + j] : 0.0f;
      shared_.b_hh[slot][unit] = there && k_.b_hh ? k_.b_hh[slot * H_ + j] : 0.0f;
    }
  }

  // The initial state: of all units where the products read it, of its own cells in each thread.
  RNNFAST_BLOCK void enter() {
    const float *h0 = side_.h0, *c0 = side_.c0;
    const index t = k_.sequences.at(0);
    constexpr int all = G::chunks * depth;
    for (int i = block_.thread(); i < all * G::columns; i += block_threads) {
      const int j = i % all, column = i / all;
      const int b = this->first_b_ + column;
      const bool there = h0 && j < H_ && column < columns_ && !k_.sequences.fresh(t, b);
      put(0, j, column, there ? h0[b * H_ + j] : 0.0f);
      put(1, j, column, 0.0f);
    }
    unrolled<cells>([&](int i) {
      const auto at = this->place(cell_forward<G>(block_.thread(), i));
      const bool there = at.there && !k_.sequences.fresh(t, at.b);
      h_[i] = there && h0 ? h0[at.state] : 0.0f;
      c_[i] = there && c0 ? c0[at.state] : 0.0f;
      if (at.there) keep_state(t, at, i);
    });
  }

  // The state that products of even or odd steps read.
  RNNFAST_BLOCK void put(int parity, int j, int column, float value) {
    unrolled<G::halves>(
        [&](int half) { shared_.h[parity][half].at(j, column) = half_of(value, half); });
  }

  // What enters step t.
  RNNFAST_BLOCK void keep_state(index t, const Place& at, int i) const {
    if (!k_.h) return;
    this->of_step(k_.h, t, H_)[at.state] = h_[i];
    if constexpr (G::halves == 1)
      this->of_step(k_.h_operand, t, H_)[at.state] = to_operand<Bfloat16>(h_[i]);
    if (Cell::has_cell_state) this->of_step(k_.c, t, H_)[at.state] = c_[i];
  }

  // Ahead of the products, which take longer.
  RNNFAST_BLOCK void load_gates(index t, index next) {
    const float* from = this->of_step(k_.gates, t, gates * H_);
    unrolled<cells>([&](int i) {
      const auto at = this->place(cell_forward<G>(block_.thread(), i));
      run_[i] = this->run_of(at, t, next);
      unrolled<gates>(
          [&](int g) { gates_[i][g] = at.there ? (from + g * H_)[at.first_gate] : 0.0f; });
    });
  }

  RNNFAST_BLOCK void multiply(int parity) {
    Sums<chains> sums[G::bands][G::tiles];
    unrolled<G::chunks>(
        [&](int chunk) { Base::multiply(parts_, shared_.low, shared_.h[parity], chunk, 0, sums); });
    block_.multiplied();
    unrolled<G::bands>([&](int band) {
      unrolled<G::tiles>([&](int tile) {
        constexpr int each = 4 / G::slots;
        give_out(sums[band][tile], u_ + (band * G::tiles + tile) * each);
      });
    });
  }

  // Sums of gates to the threads whose cells' they are: each of two lanes has two gates of two
  // cells.
  RNNFAST_BLOCK void give_out(const Sums<chains>& sums, float (*u)[G::slots]) {
    if constexpr (G::slots == 1) {
      unrolled<4>([&](int n) { u[n][0] = sums.sum(n); });
    } else {
      const bool second = Lane(block_.thread()).row % 2;
      unrolled<2>([&](int n) {
        const float first_cell = sums.sum(2 * n), second_cell = sums.sum(2 * n + 1);
        const float other = block_.trade(second ? first_cell : second_cell, 4);
        u[0][n] = second ? other : first_cell;
        u[0][n + 2] = second ? second_cell : other;
      });
    }
  }

  RNNFAST_BLOCK void advance(index s) {
    const index t = k_.sequences.at(s), next = this->after(s);
    unrolled<cells>([&](int i) {
      const auto cell = cell_forward<G>(block_.thread(), i);
      const auto at = this->place(cell);
      if (at.there) {
        const bool alive = run_[i].alive;
        if (alive) compute(t, at, cell.unit, i);
        this->of_step(k_.y, t, k_.y_stride)[this->at(at.b, static_cast<int>(k_.y_stride), at.j)] =
            alive ? h_[i] : 0.0f;
        leave(next, at, i);
      }
      if (next != none)
        put((s + 1) % 2, first_unit_ + cell.unit, cell.column, at.there ? h_[i] : 0.0f);
    });
  }

  RNNFAST_BLOCK void compute(index t, const Place& at, int unit, int i) {
    Unit<gates> s;
    float u[gates];
    s.h = h_[i], s.c = c_[i], s.kept = 0.0f;
    unrolled<gates>([&](int g) {
      s.gate[g] = gates_[i][g] + shared_.b_ih[g][unit];
      u[g] = u_[i][g] + shared_.b_hh[g][unit];
    });
    Cell::forward(k_.shape.nonlinearity, s, u);
    h_[i] = s.h, c_[i] = s.c;
    if (!k_.h) return;
    float* to = this->of_step(k_.gates, t, gates * H_);
    unrolled<gates>([&](int g) { (to + g * H_)[at.first_gate] = s.gate[g]; });
    if (Cell::state_gates_differ) this->of_step(k_.kept, t, H_)[at.state] = s.kept;
  }

  RNNFAST_BLOCK void leave(index next, const Place& at, int i) {
    if (next == none) {
      k_.h_last[at.state] = h_[i];
      if (Cell::has_cell_state) k_.c_last[at.state] = c_[i];
      return;
    }
    if (run_[i].fresh) h_[i] = c_[i] = 0.0f;
    keep_state(next, at, i);
  }

  // The block's part of an operand: `depth` units of a sequence are four pieces.
  RNNFAST_BLOCK int pieces() const { return G::halves * G::units / depth * columns_ * 4; }
  RNNFAST_BLOCK void push(int parity) {
    const int all = pieces() * (blocks_ - 1);
    for (int i = block_.thread(); i < all; i += block_threads) {
      const int to = (block_.rank() + 1 + i / pieces()) % blocks_, n = i % pieces() / 4;
      const int column = n % columns_, half = n / columns_ % G::halves;
      const int chunk = first_unit_ / depth + n / columns_ / G::halves;
      Eight* piece = shared_.h[parity][half].eight(chunk, column, i % 4);
      block_.push(to, piece, *piece, &shared_.full[parity]);
    }
  }

  typename PersistentForward<G>::Shared& shared_;
  Part parts_[G::bands][G::chunks];
  float gates_[cells][gates], u_[cells][G::slots];
  float h_[cells], c_[cells];
  typename Base::Run run_[cells];
};

template <class G>
template <class Block>
RNNFAST_BLOCK void PersistentForward<G>::operator()(Block& block) const {
  ForwardThread<G, Block>(*this, block).run();
}

}  // namespace rnnfast::cuda
