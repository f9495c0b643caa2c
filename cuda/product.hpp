// A product of matrices.
#pragma once

#include "host_device.hpp"

namespace rnnfast::cuda {

// A row-major matrix; `columns` of a row that is `stride` elements long.
template <class T>
struct Matrix {
  T* data;
  index rows, columns, stride;
  bool transposed = false;  // read as (columns, rows)

  Matrix t() const { return {data, rows, columns, stride, !transposed}; }
  RNNFAST_HD index width() const { return transposed ? rows : columns; }
  RNNFAST_HD T& at(index row, index column) const {
    return data[transposed ? column * stride + row : row * stride + column];
  }
};

// c = a b, or c += a b.
template <class Operand>
struct Product {
  Matrix<const Operand> a, b;
  Matrix<float> c;
  bool accumulate = false;
};

// A kernel for it, where there is no better one.
template <class Operand>
struct Multiply {
  Product<Operand> p;

  RNNFAST_HD index threads() const { return p.c.rows * p.c.columns; }
  RNNFAST_HD void operator()(index i) const {
    const index row = i / p.c.columns, column = i % p.c.columns;
    float& to = p.c.at(row, column);
    double sum = p.accumulate ? to : 0.0f;
    for (index n = 0; n < p.a.width(); ++n)
      sum += double{to_float(p.a.at(row, n))} * to_float(p.b.at(n, column));
    to = static_cast<float>(sum);
  }
};

}  // namespace rnnfast::cuda
