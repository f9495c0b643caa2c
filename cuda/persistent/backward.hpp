// BPTT of one direction in one kernel.
//
// A block multiplies the gradients of its own gates by its own weights, which gives a part of the
// gradient of every unit's state, and pushes it to the block that has the unit. There the parts are
// added in the order of the blocks, so that results repeat bit for bit.
#pragma once

#include "forward.hpp"

namespace rnnfast::cuda {

template <class Operand>
struct BackwardSide {
  Track<Operand> k;
  const Operand* w_hh;  // (G·H, H)
  GradientTrack<Operand> d;
  float *dh0, *dc0;
};

// From d.dh and d.dc, the gradient of the last state, to d.da, d.du and that of the initial one.
template <class G>
struct PersistentBackward : Persistent<G, BackwardSide<typename G::Operand>> {
  using Pack = PackWeights<G, true>;

  struct Shared {
    [[no_unique_address]] LowWeights<G> low;
    Terms<G::chunks_back, G::columns> du[2][G::halves];
    // What the blocks gave the state before even and odd steps.
    float sums[2][G::blocks][G::tiles][sums_of_tile<G>];
    uint64_t full[2];
  };
  template <class Block>
  RNNFAST_BLOCK void operator()(Block& block) const;
};

template <class G, class Block>
class BackwardThread : PersistentThread<G, BackwardSide<typename G::Operand>, Block> {
  using Base = PersistentThread<G, BackwardSide<typename G::Operand>, Block>;
  using Cell = typename Base::Cell;
  using Operand = typename Base::Operand;
  using Place = typename Base::Place;
  using Base::block_, Base::blocks_, Base::columns_, Base::first_unit_, Base::H_, Base::k_,
      Base::side_;
  static constexpr int gates = Base::gates, cells = G::cells, cells_of_tile = cells / G::tiles;
  static constexpr int chains = chains_of<G>(G::bands_back);

 public:
  RNNFAST_BLOCK BackwardThread(const PersistentBackward<G>& kernel, Block& block)
      : Base(kernel, block),
        d_(this->side_.d),
        shared_(*block.template shared<typename PersistentBackward<G>::Shared>()) {}

  RNNFAST_BLOCK void run() {
    const index steps = k_.sequences.steps;
    const int bytes = blocks_ * tiles() * sums_of_tile<G> * static_cast<int>(sizeof(float));
    this->load(parts_, shared_.low);
    enter();
    this->begin(shared_.full, steps, bytes);
    for (index n = 0; n < steps; ++n) {
      const index s = steps - 1 - n, t = k_.sequences.at(s);
      load_step(t, this->after(s));
      if (n > 0) {
        this->await(shared_.full, n, steps, bytes);
        receive(n % 2);
      }
      retreat(t, n % 2);
      block_.sync();
      multiply(n % 2);
    }
    this->await(shared_.full, steps, steps, bytes);
    receive(steps % 2);
    leave();
    block_.sync_cluster();
  }

 private:
  RNNFAST_BLOCK int tiles() const { return (columns_ + 7) / 8; }
  RNNFAST_BLOCK int first_band() const { return block_.thread() / 32 * G::bands_back; }

  RNNFAST_BLOCK void enter() {
    unrolled<cells>([&](int i) {
      const auto at = this->place(cell_backward<G>(block_.thread(), i));
      dh_[i] = at.there ? d_.dh[at.state] : 0.0f;
      dc_[i] = at.there && Cell::has_cell_state ? d_.dc[at.state] : 0.0f;
    });
  }

  // Ahead of what the other blocks give.
  RNNFAST_BLOCK void load_step(index t, index after) {
    const float *from = this->of_step(k_.gates, t, gates * H_), *h = this->of_step(k_.h, t, H_),
                *c = this->of_step(k_.c, t, H_), *kept = this->of_step(k_.kept, t, H_),
                *dy = this->of_step(d_.dy, t, d_.dy_stride);
    unrolled<cells>([&](int i) {
      const auto at = this->place(cell_backward<G>(block_.thread(), i));
      run_[i] = this->run_of(at, t, after);
      if (!at.there) return;
      unrolled<gates>([&](int g) { saved_[i].gate[g] = (from + g * H_)[at.first_gate]; });
      saved_[i].kept = Cell::state_gates_differ ? kept[at.state] : 0.0f;
      saved_[i].h = Cell::state_gates_differ ? h[at.state] : 0.0f;
      saved_[i].c = Cell::has_cell_state ? c[at.state] : 0.0f;
      dy_[i] = d_.dy ? dy[this->at(at.b, static_cast<int>(d_.dy_stride), at.j)] : 0.0f;
    });
  }

  RNNFAST_BLOCK void receive(int parity) {
    unrolled<cells>([&](int i) {
      const int tile = i / cells_of_tile, n = i % cells_of_tile;
      if (tile >= tiles()) return;
      float sum = 0.0f;
      unrolled<G::blocks>([&](int from) {
        if (from < blocks_)
          sum += shared_.sums[parity][from][tile][block_.thread() + n * block_threads];
      });
      dh_[i] += sum;
    });
  }

  RNNFAST_BLOCK void retreat(index t, int parity) {
    unrolled<cells>([&](int i) {
      const auto cell = cell_backward<G>(block_.thread(), i);
      const auto at = this->place(cell);
      UnitGradient<gates> g{};
      if (at.there) step_back(t, at, i, g);
      unrolled<G::slots>([&](int slot) {
        const float du = slot >= gates ? 0.0f : Cell::state_gates_differ ? g.du[slot] : g.da[slot];
        unrolled<G::halves>([&](int half) {
          shared_.du[parity][half].at(cell.unit * G::slots + slot, cell.column) = half_of(du, half);
        });
      });
    });
  }

  RNNFAST_BLOCK void step_back(index t, const Place& at, int i, UnitGradient<gates>& g) {
    g.dh = run_[i].fresh ? 0.0f : dh_[i];
    g.dc = run_[i].fresh ? 0.0f : dc_[i];
    if (run_[i].alive) {
      g.dh += dy_[i];
      Cell::backward(k_.shape.nonlinearity, saved_[i], g);
    }
    dh_[i] = g.dh, dc_[i] = g.dc;
    auto *da = this->of_step(d_.da, t, gates * H_), *du = this->of_step(d_.du, t, gates * H_);
    unrolled<gates>([&](int n) {
      (da + n * H_)[at.first_gate] = to_operand<Operand>(g.da[n]);
      if (Cell::state_gates_differ) (du + n * H_)[at.first_gate] = to_operand<Operand>(g.du[n]);
    });
  }

  // What step n's gates give to the state before it, for step n + 1 here.
  RNNFAST_BLOCK void multiply(int parity) {
    unrolled<G::tiles>([&](int tile) {
      if (tile >= tiles()) return;
      Sums<chains> sums[G::bands_back][1];
      unrolled<G::chunks_back>([&](int chunk) {
        Base::multiply(parts_, shared_.low, shared_.du[parity], chunk, tile, sums);
      });
      block_.multiplied();
      unrolled<G::bands_back>(
          [&](int band) { push(1 - parity, tile, first_band() + band, sums[band][0]); });
    });
  }

  RNNFAST_BLOCK void push(int parity, int tile, int band, const Sums<chains>& sums) {
    constexpr int bands_of_block = G::units / 16;
    const int to = band / bands_of_block;
    if (to >= blocks_) return;
    Eight four;
    unrolled<4>([&](int n) { four.pairs[n] = bits_as<uint32_t>(sums.sum(n)); });
    const int word = (band % bands_of_block * 32 + block_.thread() % 32) * 4;
    block_.push(to, &shared_.sums[parity][block_.rank()][tile][word], four, &shared_.full[parity]);
  }

  RNNFAST_BLOCK void leave() const {
    const index first = k_.sequences.at(0);
    unrolled<cells>([&](int i) {
      const auto at = this->place(cell_backward<G>(block_.thread(), i));
      if (!at.there) return;
      const bool forgotten = k_.sequences.fresh(first, at.b);
      side_.dh0[at.state] = forgotten ? 0.0f : dh_[i];
      if (Cell::has_cell_state) side_.dc0[at.state] = forgotten ? 0.0f : dc_[i];
    });
  }

  const GradientTrack<Operand>& d_;
  typename PersistentBackward<G>::Shared& shared_;
  Part parts_[G::bands_back][G::chunks_back];
  Unit<gates> saved_[cells];
  float dy_[cells], dh_[cells], dc_[cells];
  typename Base::Run run_[cells];
};

template <class G>
template <class Block>
RNNFAST_BLOCK void PersistentBackward<G>::operator()(Block& block) const {
  BackwardThread<G, Block>(*this, block).run();
}

}  // namespace rnnfast::cuda
