// Products that read the weights as PyTorch lays them out, for a single time step: packing would
// cost more than the step.
#pragma once

#include "pack.hpp"

namespace rnnfast::RNNFAST_ISA {

// Products of `rows` ≤ lanes consecutive rows of w with x, a vector of partial sums for each; lanes
// beyond repeat the last row. Rows are taken four at a time: the caches deliver more of them at
// once more slowly.
template <class Real>
[[gnu::always_inline]] inline void add_rows_times(const Real* w, long row, long rows, const Real* x,
                                                  long k, Vec<Real> (&sum)[lanes<Real>]) {
  constexpr long block = least(4, lanes<Real>), pair = 2 * lanes<Real>;
  const long whole = k - k % lanes<Real>;
#pragma GCC unroll 16
  for (long first = 0; first < lanes<Real>; first += block) {
    const auto at = [&](long r) { return w + least(first + r, rows - 1) * row; };
    Vec<Real> even[block] = {}, odd[block] = {};
    long i = 0;
    for (; i + pair <= k; i += pair) {
      const Vec<Real> right = load(x + i), next = load(x + i + lanes<Real>);
#pragma GCC unroll 4
      for (long r = 0; r < block; ++r) {
        even[r] += load(at(r) + i) * right;
        odd[r] += load(at(r) + i + lanes<Real>) * next;
      }
    }
    if (i < whole) {
      const Vec<Real> right = load(x + i);
#pragma GCC unroll 4
      for (long r = 0; r < block; ++r) even[r] += load(at(r) + i) * right;
    }
#pragma GCC unroll 4
    for (long r = 0; r < block; ++r) sum[first + r] += even[r] + odd[r];
  }
  if (whole == k) return;
  const Vec<Real> right = load_first(x + whole, k - whole);
  for (long r = 0; r < lanes<Real>; ++r)
    sum[r] += load_first(w + least(r, rows - 1) * row + whole, k - whole) * right;
}

template <class Real>
Vec<Real> column_of(const Real* w, long row, long rows) {
  Vec<Real> v{};
  for (long r = 0; r < rows; ++r) v[r] = w[r * row];
  return v;
}

// A matrix [gates · units][k] and the vectors of a panel that it feeds, with rows of what
// multiplies it, or the tokens that name columns of it.
template <class Real>
struct DirectOperand {
  Slots slots;
  Matrix<Real> m;
  const Real* x;
  long x_row;
  const int32_t* token;

  bool feeds(int v) const { return v >= slots.first && v < slots.first + slots.count; }
};

// acc += the products of vector v of a panel. Both operands share their partial sums: to sum across
// vectors costs as much as a few columns.
template <class Real>
void add_direct(const Layout& layout, long panel, int v, const DirectOperand<Real> (&operands)[2],
                int rows, Real* acc, long acc_row) {
  const long unit = layout.unit<Real>(panel, v);
  for (int b = 0; b < rows; ++b) {
    Vec<Real> sum[lanes<Real>] = {}, picked{};
    for (const auto& o : operands) {
      if (!o.feeds(v)) continue;
      const long count = least(lanes<Real>, o.m.units - unit);
      const Real* w = o.m.w + (layout.gate_of(v) * o.m.units + unit) * o.m.k;
      if (o.token)
        picked = column_of(w + o.token[b], o.m.k, count);
      else
        add_rows_times(w, o.m.k, count, o.x + b * o.x_row, o.m.k, sum);
    }
    Real* to = acc + b * acc_row + v * lanes<Real>;
    store(to, load(to) + picked + sums_of<Real>(sum));
  }
}

}  // namespace rnnfast::RNNFAST_ISA
