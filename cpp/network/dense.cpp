#include "dense.hpp"

#include <algorithm>

#include "layers.hpp"

namespace rnnfast {
namespace {

constexpr index row_block = 120;  // rows that stay in the cache from panel to panel; a multiple of
                                  // the height of most tiles

// Threads that so much work is worth waking.
int threads_for(index rows, index in, index out, const Lease& lease) {
  constexpr double worth_waking = 1e6;
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in * out);
  return flops < worth_waking ? 1 : lease.threads();
}

template <class Real>
const DenseKernels<Real>& kernels() {
  return table<Real>(current()).dense;
}

template <class Real>
void multiply_rows(const DenseRows<Real>& d, Lease& lease) {
  const int blocks = static_cast<int>((d.rows + row_block - 1) / row_block);
  lease.share(threads_for(d.rows, d.depth, d.columns, lease), blocks, true, [&](int block, int) {
    kernels<Real>().rows(d, block * row_block, std::min((block + 1) * row_block, d.rows));
  });
}

}  // namespace

template <class Real>
void dense_forward(index rows, index in, index out, const Real* x, const Real* w, const Real* bias,
                   Real* y, Lease& lease) {
  const Buffer<Real> packed(kernels<Real>().packed(in, out));
  pack_in_shares(packed.size(), lease, [&](const Worker& me) {
    kernels<Real>().pack_transposed(w, in, out, packed.data(), me);
  });
  multiply_rows<Real>({rows, in, out, x, packed.data(), bias, y}, lease);
}

template <class Real>
void dense_input_gradient(index rows, index in, index out, const Real* dy, const Real* w, Real* dx,
                          Lease& lease) {
  const Buffer<Real> packed(kernels<Real>().packed(out, in));
  pack_in_shares(packed.size(), lease,
                 [&](const Worker& me) { kernels<Real>().pack(w, out, in, packed.data(), me); });
  multiply_rows<Real>({rows, out, in, dy, packed.data(), nullptr, dx}, lease);
}

template <class Real>
void dense_weight_gradient(index rows, index in, index out, const Real* dy, const Real* x, Real* dw,
                           Lease& lease) {
  const auto& k = kernels<Real>();
  const DenseColumns<Real> d{rows, out, in, dy, x, dw};
  const index blocks = k.column_blocks(d), scratch = k.column_scratch();
  const int threads = threads_for(rows, in, out, lease);
  const auto sums = buffer<Real>(threads, scratch);
  lease.share(threads, static_cast<int>(blocks), true,
              [&](int block, int thread) { k.columns(d, block, sums.data() + thread * scratch); });
}

template <class Real>
void softmax(index rows, index columns, const Real* x, const Real* scales, Real* y, Real* norms,
             Lease& lease) {
  constexpr double cost = 20;  // of an element
  const auto kernel = kernels<Real>().softmax;
  lease.parallel(rows, cost * static_cast<double>(columns), [&](index begin, index end) {
    kernel({rows, columns, x, scales, y, norms}, begin, end);
  });
}

#define RNNFAST_INSTANTIATE(Real)                                                                \
  template void dense_forward(index, index, index, const Real*, const Real*, const Real*, Real*, \
                              Lease&);                                                           \
  template void dense_input_gradient(index, index, index, const Real*, const Real*, Real*,       \
                                     Lease&);                                                    \
  template void dense_weight_gradient(index, index, index, const Real*, const Real*, Real*,      \
                                      Lease&);                                                   \
  template void softmax(index, index, const Real*, const Real*, Real*, Real*, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
