// BPTT of a layer in one kernel.
//
// A block multiplies the gradients of its own gates by its own weights, which gives a part of the
// gradient of every unit's state, and pushes it to the block that has the unit. There the parts are
// added in the order of the blocks, so that results repeat bit for bit.
#pragma once

#include "thread.hpp"

namespace rnnfast::cuda::persistent {

template <class Operand>
struct BackwardSide {
  Track<Operand> k;
  const Operand* w_hh;  // (G·H, H)
  GradientTrack<Operand> d;
  float *dh0, *dc0;
};

// From d.dh and d.dc, the gradient of the last state, to d.da, d.du and that of the initial one.
template <class G>
struct Backward : Kernel<G, BackwardSide<typename G::Operand>> {
  using Pack = PackWeights<G, true>;

  struct Shared : LowWeights<G> {
    Terms<G::chunks_back, G::columns> du[2][G::halves];
    // What the blocks gave the state before even and odd steps.
    alignas(16) float sums[2][G::blocks][G::tiles][sums_of_tile<G>];
    uint64_t full[2];
  };
  template <class Block>
  RNNFAST_BLOCK void operator()(Block& block) const;
};

template <class G, class Block>
class BackwardThread : Thread<G, BackwardSide<typename G::Operand>, Block> {
  using Base = Thread<G, BackwardSide<typename G::Operand>, Block>;
  using Cell = typename Base::Cell;
  using Operand = typename Base::Operand;
  using Address = typename Base::Address;
  using Base::block_, Base::blocks_, Base::columns_, Base::H_, Base::k_, Base::side_, Base::steps_;
  static constexpr int gates = Base::gates, cells = G::cells, cells_of_tile = cells / G::tiles;
  static constexpr int chains = chains_of<G>(G::bands_back);

 public:
  RNNFAST_BLOCK BackwardThread(const Backward<G>& kernel, Block& block)
      : Base(kernel, block), shared_(*block.template shared<typename Backward<G>::Shared>()) {}

  RNNFAST_BLOCK void run() {
    const int bytes = blocks_ * G::units / 2 * pairs() * static_cast<int>(sizeof(Words));
    this->load_weights(parts_, shared_);
    enter();
    load_step(steps_ - 1);
    this->begin(shared_.full, steps_, bytes);
    for (int n = 0; n < steps_; ++n) {
      const int s = steps_ - 1 - n;
      if (n > 0) this->await(shared_.full, n, steps_, bytes);
      if (n > 0) receive(n % 2);
      retreat(s, n % 2);
      if (s > 0) load_step(s - 1);
      block_.sync();
      multiply(n % 2);
    }
    this->await(shared_.full, steps_, steps_, bytes);
    receive(steps_ % 2);
    leave();
    block_.sync_cluster();
  }

 private:
  RNNFAST_BLOCK int tiles() const { return (columns_ + 7) / 8; }
  RNNFAST_BLOCK int pairs() const { return (columns_ + 1) / 2; }  // of columns: a lane has two
  RNNFAST_BLOCK Address cell(int i) const {
    return this->address(cell_backward<G>(block_.thread(), i));
  }

  RNNFAST_BLOCK void enter() {
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      length_[i] = this->length(own);
      dh_[i] = own.there ? side_.d.dh[own.state] : 0.0f;
      dc_[i] = own.there && Cell::has_cell_state ? side_.d.dc[own.state] : 0.0f;
    });
  }

  // Long before it is needed.
  RNNFAST_BLOCK void load_step(int s) {
    const int t = this->step_at(s);
    const float* from = this->of_step(k_.gates, t, gates * H_);
    const index dy_stride = side_.d.dy_stride;
    const Numbers dy = this->of_step(side_.d.dy, t, dy_stride);
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      reset_[i] = s + 1 < steps_ && this->reset(border_after(s), own);
      if (!own.there) return;
      unrolled<gates>([&](int g) { saved_[i].gate[g] = (from + g * H_)[own.first_gate]; });
      const auto state = [&](const float* all) { return this->of_step(all, t, H_)[own.state]; };
      saved_[i].kept = Cell::state_gates_differ ? state(k_.kept) : 0.0f;
      saved_[i].h = Cell::state_gates_differ ? state(k_.h) : 0.0f;
      saved_[i].c = Cell::has_cell_state ? state(k_.c) : 0.0f;
      const unsigned at = this->of_row(own.b, dy_stride, own.j);
      dy_[i] = dy ? dy[at] : 0.0f;
    });
  }
  RNNFAST_BLOCK int border_after(int s) const { return this->border(this->step_at(s + 1)); }

  RNNFAST_BLOCK void receive(int parity) {
    unrolled<cells>([&](int i) {
      const int tile = i / cells_of_tile, n = i % cells_of_tile;
      if (!cell(i).there) return;
      float sum = 0.0f;
      unrolled<G::blocks>([&](int from) {
        if (from < blocks_)
          sum += shared_.sums[parity][from][tile][block_.thread() + n * block_threads];
      });
      dh_[i] += sum;
    });
  }

  RNNFAST_BLOCK void retreat(int s, int parity) {
    unrolled<cells>([&](int i) {
      const auto position = cell_backward<G>(block_.thread(), i);
      UnitGradient<gates> g{};
      step_back(s, i, g);
      unrolled<G::halves>([&](int half) {
        Bfloat16 du[G::slots];
        unrolled<G::slots>([&](int slot) {
          du[slot] = half_of(slot >= gates              ? 0.0f
                             : Cell::state_gates_differ ? g.du[slot]
                                                        : g.da[slot],
                             half);
        });
        shared_.du[parity][half].put(position.unit * G::slots, position.column, du);
      });
      record(this->step_at(s), i, g);
    });
  }

  RNNFAST_BLOCK void step_back(int s, int i, UnitGradient<gates>& g) {
    const bool forgotten = reset_[i] && border_after(s) < length_[i];
    g.dh = forgotten ? 0.0f : dh_[i];
    g.dc = forgotten ? 0.0f : dc_[i];
    if (this->step_at(s) < length_[i]) {
      g.dh += dy_[i];
      Cell::backward(k_.shape.nonlinearity, saved_[i], g);
    }
    dh_[i] = g.dh, dc_[i] = g.dc;
  }

  RNNFAST_BLOCK void record(int t, int i, const UnitGradient<gates>& g) const {
    const auto own = cell(i);
    if (!own.there) return;
    auto *da = this->of_step(side_.d.da, t, gates * H_),
         *du = this->of_step(side_.d.du, t, gates * H_);
    unrolled<gates>([&](int n) {
      (da + n * H_)[own.first_gate] = to_operand<Operand>(g.da[n]);
      if (Cell::state_gates_differ) (du + n * H_)[own.first_gate] = to_operand<Operand>(g.du[n]);
    });
  }

  // What the gates of step n, counted backwards, give to the state before it: for step n + 1.
  RNNFAST_BLOCK void multiply(int parity) {
    const int first_band = block_.thread() / 32 * G::bands_back;
    unrolled<G::tiles>([&](int tile) {
      if (tile >= tiles()) return;
      Sums<chains> sums[G::bands_back][1];
      Base::multiply(parts_, shared_, shared_.du[parity], tile, sums);
      unrolled<G::bands_back>(
          [&](int band) { push(1 - parity, tile, first_band + band, sums[band][0]); });
    });
  }

  RNNFAST_BLOCK void push(int parity, int tile, int band, const Sums<chains>& sums) {
    constexpr int bands_of_block = G::units / 16;
    const int to = band / bands_of_block, first_column = tile * 8 + Lane(block_.thread()).quad * 2;
    if (to >= blocks_ || first_column >= columns_) return;
    Words words;
    unrolled<4>([&](int n) { words.word[n] = bits_as<uint32_t>(sums.sum(n)); });
    const int first = (band % bands_of_block * 32 + block_.thread() % 32) * 4;
    block_.push(to, &shared_.sums[parity][block_.rank()][tile][first], words,
                &shared_.full[parity]);
  }

  RNNFAST_BLOCK void leave() const {
    const int first = this->step_at(0);
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      if (!own.there) return;
      const bool forgotten = k_.sequences.fresh(first, own.b);
      side_.dh0[own.state] = forgotten ? 0.0f : dh_[i];
      if (Cell::has_cell_state) side_.dc0[own.state] = forgotten ? 0.0f : dc_[i];
    });
  }

  typename Backward<G>::Shared& shared_;
  Part parts_[G::bands_back][G::chunks_back];
  Unit<gates> saved_[cells];
  float dy_[cells], dh_[cells], dc_[cells];
  int length_[cells];
  bool reset_[cells];
};

template <class G>
template <class Block>
RNNFAST_BLOCK void Backward<G>::operator()(Block& block) const {
  BackwardThread<G, Block>(*this, block).run();
}

}  // namespace rnnfast::cuda::persistent
