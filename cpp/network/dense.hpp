// Products of dense layers and the softmax of rows; results do not depend on the number of threads.
#pragma once

#include "../contract.hpp"
#include "../threads/team.hpp"

namespace rnnfast {

// y [rows][out] = x [rows][in] · wᵀ + bias, of w [out][in]; the bias may be null.
template <class Real>
void dense_forward(index rows, index in, index out, const Real* x, const Real* w, const Real* bias,
                   Real* y, Lease& lease);

// dx [rows][in] = dy [rows][out] · w.
template <class Real>
void dense_input_gradient(index rows, index in, index out, const Real* dy, const Real* w, Real* dx,
                          Lease& lease);

// dw [out][in] = dyᵀ · x.
template <class Real>
void dense_weight_gradient(index rows, index in, index out, const Real* dy, const Real* x, Real* dw,
                           Lease& lease);

// y [rows][columns] = scales[row] · the softmax of x's rows, y may be x; norms [rows][2]: the
// largest of each row, m, and Σ e^(x - m).
template <class Real>
void softmax(index rows, index columns, const Real* x, const Real* scales, Real* y, Real* norms,
             Lease& lease);

}  // namespace rnnfast
