// Products that read the weights as PyTorch lays them out, for a single time step: packing would
// cost more than the step.
#pragma once

#include "pack.hpp"

namespace rnnfast::RNNFAST_ISA {

// Dot products of x with `rows` ≤ lanes consecutive rows of w; lanes beyond repeat the last row.
template <class Real>
Vec<Real> dot_rows(const Real* w, long row, long rows, const Real* x, long k) {
  Vec<Real> sum[lanes<Real>] = {};
  long i = 0;
  for (; i + lanes<Real> <= k; i += lanes<Real>) {
    const Vec<Real> right = load(x + i);
#pragma GCC unroll 16
    for (long r = 0; r < lanes<Real>; ++r) sum[r] += load(w + least(r, rows - 1) * row + i) * right;
  }
  if (i < k) {
    const Vec<Real> right = load_first(x + i, k - i);
    for (long r = 0; r < lanes<Real>; ++r)
      sum[r] += load_first(w + least(r, rows - 1) * row + i, k - i) * right;
  }
  return sums_of<Real>(sum);
}

template <class Real>
Vec<Real> column_of(const Real* w, long row, long rows) {
  Vec<Real> v{};
  for (long r = 0; r < rows; ++r) v[r] = w[r * row];
  return v;
}

// acc[m] += the products of `slots` with row m of x, or with the one-hot rows of the tokens.
template <class Real>
void add_direct(const Layout& layout, Slots slots, long panel, const Matrix<Real>& m, const Real* x,
                long x_row, const int32_t* token, int rows, Real* acc, long acc_row) {
  for (int v = slots.first; v < slots.first + slots.count; ++v) {
    const long unit = layout.unit<Real>(panel, v);
    const long count = least(lanes<Real>, m.units - unit);
    const Real* w = m.w + (layout.gate_of(v) * m.units + unit) * m.k;
    for (int r = 0; r < rows; ++r) {
      Real* sum = acc + r * acc_row + v * lanes<Real>;
      const Vec<Real> product =
          token ? column_of(w + token[r], m.k, count) : dot_rows(w, m.k, count, x + r * x_row, m.k);
      store(sum, load(sum) + product);
    }
  }
}

}  // namespace rnnfast::RNNFAST_ISA
