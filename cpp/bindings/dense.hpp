// The products of dense layers on NumPy arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace rnnfast {

// Matrices are C-contiguous and of one type, float32 or float64, else ValueError. The last matrix
// is assigned; the caller sees to it that it shares no memory with the others.
void dense_forward(const pybind11::array& x, const pybind11::array& weight, pybind11::handle bias,
                   pybind11::array y, pybind11::handle num_threads);
void dense_input_gradient(const pybind11::array& dy, const pybind11::array& weight,
                          pybind11::array dx, pybind11::handle num_threads);
void dense_weight_gradient(const pybind11::array& dy, const pybind11::array& x,
                           pybind11::array dweight, pybind11::handle num_threads);

// Rows of y become scales[row] · the softmax of x's, and norms (N, 2) the largest m of each row and
// Σ e^(x - m); y may be x.
void softmax(const pybind11::array& x, const pybind11::array& scales, pybind11::array y,
             pybind11::array norms, pybind11::handle num_threads);

}  // namespace rnnfast
