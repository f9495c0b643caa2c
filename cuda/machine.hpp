// What computes: a GPU or its emulation. The engine is a template over a Machine:
//
//   machine.template make<T>(count)    Buffer<T>: uninitialised memory, freed with the buffer
//   machine.run(kernel)                kernel(i) for all i < kernel.threads()
//   machine.multiply(product)          a Product of matrices
//   machine.sort(tokens, count, sorted, row)
//                                      tokens in ascending, equal ones in their own order
//   machine.zero(pointer, bytes)
//   machine.upload(to, from, bytes)    from the caller's memory
//   machine.download(to, from, bytes)  to the caller's memory
//   Machine::Turn                      lives while a thread uses the machine
//   machine.repeat(count, body)        body(n) for all n < count, which is kernels and products
//   machine.wait()                     until all of it is done
//   machine.settle()                   the same, whatever went wrong
//
// All is done in the order of the calls; what is uploaded or downloaded stays where it is until
// then.
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
  index width() const { return transposed ? rows : columns; }
};

// c = a b, or c += a b.
template <class Operand>
struct Product {
  Matrix<const Operand> a, b;
  Matrix<float> c;
  bool accumulate = false;
};

}  // namespace rnnfast::cuda
