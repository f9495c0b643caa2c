// All steps of a layer in one kernel.
#pragma once

#include "thread.hpp"

namespace rnnfast::cuda::persistent {

template <class Operand>
struct ForwardSide {
  Track<Operand> k;      // for BPTT all of it is filled, unless k.h is null
  const Operand* w_hh;   // (G·H, H)
  const float *h0, *c0;  // null: zeros
};

// From the gates of the input in k.gates to y and the last state.
template <class G>
struct Forward : Kernel<G, ForwardSide<typename G::Operand>> {
  using Pack = PackWeights<G, false>;

  struct Shared : LowWeights<G> {
    Terms<G::chunks, G::columns> h[2][G::halves];  // that enters even and odd steps
    float b_ih[G::slots][G::units], b_hh[G::slots][G::units];
    uint64_t full[2];
  };
  template <class Block>
  RNNFAST_BLOCK void operator()(Block& block) const;
};

template <class G, class Block>
class ForwardThread : Thread<G, ForwardSide<typename G::Operand>, Block> {
  using Base = Thread<G, ForwardSide<typename G::Operand>, Block>;
  using Cell = typename Base::Cell;
  using Address = typename Base::Address;
  using Base::block_, Base::blocks_, Base::columns_, Base::first_unit_, Base::H_, Base::k_,
      Base::side_, Base::steps_;
  static constexpr int gates = Base::gates, cells = G::cells;
  static constexpr int chains = chains_of<G>(G::bands * G::tiles);

 public:
  RNNFAST_BLOCK ForwardThread(const Forward<G>& kernel, Block& block)
      : Base(kernel, block), shared_(*block.template shared<typename Forward<G>::Shared>()) {}

  RNNFAST_BLOCK void run() {
    const int last = blocks_ > 1 ? steps_ - 1 : 0;  // that is pushed for
    const int bytes =
        (blocks_ - 1) * G::halves * G::units / depth * pieces() * static_cast<int>(sizeof(Words));
    this->load_weights(parts_, shared_);
    load_biases();
    enter();
    this->begin(shared_.full, last, bytes);
    for (int s = 0; s < steps_; ++s) {
      load_step(s);
      prefetch_step(s + 2);
      if (s > 0 && s <= last) this->await(shared_.full, s, last, bytes);
      multiply(s % 2);
      advance(s);
      block_.sync();
      if (s < last) push((s + 1) % 2);
      record(s);
    }
    block_.sync_cluster();
  }

 private:
  RNNFAST_BLOCK Address cell(int i) const {
    return this->address(cell_forward<G>(block_.thread(), i));
  }

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
    const int t = this->step_at(0);
    constexpr int all = G::chunks * depth;
    for (int i = block_.thread(); i < all * G::columns; i += block_threads) {
      const int j = i % all, column = i / all, b = this->first_b_ + column;
      const bool there = h0 && j < H_ && column < columns_ && !k_.sequences.fresh(t, b);
      put(0, j, column, there ? h0[this->of_row(b, H_, j)] : 0.0f);
      put(1, j, column, 0.0f);
    }
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      const bool there = own.there && !k_.sequences.fresh(t, own.b);
      length_[i] = this->length(own);
      h_[i] = there && h0 ? h0[own.state] : 0.0f;
      c_[i] = there && c0 ? c0[own.state] : 0.0f;
      if (own.there) record_state(t, own, i);
    });
  }

  // The state that products of even or odd steps read.
  RNNFAST_BLOCK void put(int parity, int j, int column, float value) {
    unrolled<G::halves>([&](int half) {
      const Bfloat16 values[] = {half_of(value, half)};
      shared_.h[parity][half].put(j, column, values);
    });
  }

  // Ahead of the products, which take longer.
  RNNFAST_BLOCK void load_step(int s) {
    const float* from = this->of_step(k_.gates, this->step_at(s), gates * H_);
    const int border = border_after(s);
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      unrolled<gates>(
          [&](int g) { gates_[i][g] = own.there ? (from + g * H_)[own.first_gate] : 0.0f; });
      reset_[i] = this->reset(border, own);
    });
  }
  // Gates of all steps may be more than the cache holds.
  RNNFAST_BLOCK void prefetch_step(int s) {
    if (s >= steps_) return;
    const float* from = this->of_step(k_.gates, this->step_at(s), gates * H_);
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      unrolled<gates>([&](int g) {
        if (own.there) block_.prefetch(from + g * H_ + own.first_gate);
      });
    });
  }
  RNNFAST_BLOCK int border_after(int s) const {
    return s + 1 < steps_ ? this->border(this->step_at(s + 1)) : steps_;
  }

  RNNFAST_BLOCK void multiply(int parity) {
    Sums<chains> sums[G::bands][G::tiles];
    Base::multiply(parts_, shared_, shared_.h[parity], 0, sums);
    unrolled<G::bands * G::tiles>(
        [&](int n) { give_out(sums[n / G::tiles][n % G::tiles], u_ + n * (4 / G::slots)); });
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

  // The cells' mathematics, and h to where the next step's products read it.
  RNNFAST_BLOCK void advance(int s) {
    const int t = this->step_at(s), border = border_after(s);
    unrolled<cells>([&](int i) {
      const auto position = cell_forward<G>(block_.thread(), i);
      if (t < length_[i]) compute(position.unit, i);
      reset_[i] = reset_[i] && border < length_[i];
      put((s + 1) % 2, first_unit_ + position.unit, position.column, reset_[i] ? 0.0f : h_[i]);
    });
  }

  RNNFAST_BLOCK void compute(int unit, int i) {
    Unit<gates> s;
    float u[gates];
    s.h = h_[i], s.c = c_[i], s.kept = 0.0f;
    unrolled<gates>([&](int g) {
      s.gate[g] = gates_[i][g] + shared_.b_ih[g][unit];
      u[g] = u_[i][g] + shared_.b_hh[g][unit];
    });
    Cell::forward(k_.shape.nonlinearity, s, u);
    unrolled<gates>([&](int g) { gates_[i][g] = s.gate[g]; });
    h_[i] = s.h, c_[i] = s.c, kept_[i] = s.kept;
  }

  RNNFAST_BLOCK int pieces() const { return columns_ * (depth / 8); }  // of `depth` units
  RNNFAST_BLOCK void push(int parity) {
    const int warp = block_.thread() / 32, lane = block_.thread() % 32;
    for (int n = warp; n < blocks_ - 1; n += block_warps) {
      const int next = block_.rank() + 1 + n, to = next < blocks_ ? next : next - blocks_;
      unrolled<G::units / depth * G::halves>([&](int part) {
        const int chunk = first_unit_ / depth + part / G::halves;
        Words* own = shared_.h[parity][part % G::halves].words(chunk, 0, 0);
        for (int i = lane; i < pieces(); i += 32)
          block_.push(to, own + i, load(own + i), &shared_.full[parity]);
      });
    }
  }

  // While what has been pushed is under way.
  RNNFAST_BLOCK void record(int s) {
    const int t = this->step_at(s);
    unrolled<cells>([&](int i) {
      const auto own = cell(i);
      if (!own.there) return;
      const bool alive = t < length_[i];
      if (alive && k_.h) record_gates(t, own, i);
      this->of_step(k_.y, t, k_.y_stride)
          .put(this->of_row(own.b, k_.y_stride, own.j), alive ? h_[i] : 0.0f);
      if (reset_[i]) h_[i] = c_[i] = 0.0f;
      if (s + 1 < steps_) return record_state(this->step_at(s + 1), own, i);
      k_.h_last[own.state] = h_[i];
      if (Cell::has_cell_state) k_.c_last[own.state] = c_[i];
    });
  }
  RNNFAST_BLOCK void record_gates(int t, const Address& own, int i) const {
    float* to = this->of_step(k_.gates, t, gates * H_);
    unrolled<gates>([&](int g) { (to + g * H_)[own.first_gate] = gates_[i][g]; });
    if (Cell::state_gates_differ) this->of_step(k_.kept, t, H_)[own.state] = kept_[i];
  }
  // What enters step t.
  RNNFAST_BLOCK void record_state(int t, const Address& own, int i) const {
    if (!k_.h) return;
    this->of_step(k_.h, t, H_)[own.state] = h_[i];
    if constexpr (G::halves == 1)
      this->of_step(k_.h_operand, t, H_)[own.state] = to_operand<Bfloat16>(h_[i]);
    if (Cell::has_cell_state) this->of_step(k_.c, t, H_)[own.state] = c_[i];
  }

  typename Forward<G>::Shared& shared_;
  Part parts_[G::bands][G::chunks];
  float gates_[cells][gates], u_[cells][G::slots];
  float h_[cells], c_[cells], kept_[cells];
  int length_[cells];
  bool reset_[cells];
};

template <class G>
template <class Block>
RNNFAST_BLOCK void Forward<G>::operator()(Block& block) const {
  ForwardThread<G, Block>(*this, block).run();
}

}  // namespace rnnfast::cuda::persistent
