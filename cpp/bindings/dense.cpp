#include "dense.hpp"

#include "../network/dense.hpp"
#include "arrays.hpp"
#include "gil.hpp"

namespace rnnfast {
namespace {

// Throws ValueError unless the kernels can read the array as it is.
template <class Real>
const Real* data_of(const char* name, const py::array& a, const std::vector<index>& shape,
                    const char* meaning) {
  if (!py::isinstance<py::array_t<Real>>(a))
    throw py::value_error(std::string("dense: ") + name + " has dtype " +
                          std::string(py::str(a.dtype())) + ", expected that of the others");
  if (!py::isinstance<Array<Real>>(a))
    throw py::value_error(std::string("dense: ") + name + " is not C-contiguous and aligned");
  expect_shape("dense", name, a, shape, meaning);
  return static_cast<const Real*>(a.data());
}

// The sizes of a layer, from the arrays of a call.
struct Sides {
  index rows, in, out;
};

// A size of a matrix; that of a row is at least 1.
index size_of(const char* name, const py::array& a, int axis) {
  if (a.ndim() != 2 || a.shape(1) == 0)
    throw py::value_error(std::string("dense: ") + name + " has shape " + repr_shape(a) +
                          ", expected two axes, the second not empty");
  return a.shape(axis);
}

template <class Work>
void by_type(const py::array& a, Work work) {
  is_single(py::str(a.dtype())) ? work(float{}) : work(double{});
}

template <class Real>
Real* assigned(const char* name, py::array& a, const std::vector<index>& shape,
               const char* meaning) {
  data_of<Real>(name, a, shape, meaning);
  return static_cast<Real*>(a.mutable_data());
}

}  // namespace

void dense_forward(const py::array& x, const py::array& weight, py::handle bias, py::array y,
                   py::handle num_threads) {
  const Sides s{size_of("x", x, 0), size_of("weight", weight, 1), size_of("weight", weight, 0)};
  const int threads = thread_count_or_default(num_threads);
  by_type(weight, [&](auto zero) {
    using Real = decltype(zero);
    const Real* from = data_of<Real>("x", x, {s.rows, s.in}, "(N, I)");
    const Real* w = data_of<Real>("weight", weight, {s.out, s.in}, "(O, I)");
    Real* to = assigned<Real>("y", y, {s.rows, s.out}, "(N, O)");
    const Real* b = bias.is_none()
                        ? nullptr
                        : data_of<Real>("bias", py::cast<py::array>(bias), {s.out}, "(O,)");
    without_gil(threads, [&](Lease& lease) {
      rnnfast::dense_forward(s.rows, s.in, s.out, from, w, b, to, lease);
    });
  });
}

void dense_input_gradient(const py::array& dy, const py::array& weight, py::array dx,
                          py::handle num_threads) {
  const Sides s{size_of("dy", dy, 0), size_of("weight", weight, 1), size_of("weight", weight, 0)};
  const int threads = thread_count_or_default(num_threads);
  by_type(weight, [&](auto zero) {
    using Real = decltype(zero);
    const Real* from = data_of<Real>("dy", dy, {s.rows, s.out}, "(N, O)");
    const Real* w = data_of<Real>("weight", weight, {s.out, s.in}, "(O, I)");
    Real* to = assigned<Real>("dx", dx, {s.rows, s.in}, "(N, I)");
    without_gil(threads, [&](Lease& lease) {
      rnnfast::dense_input_gradient(s.rows, s.in, s.out, from, w, to, lease);
    });
  });
}

void dense_weight_gradient(const py::array& dy, const py::array& x, py::array dweight,
                           py::handle num_threads) {
  const Sides s{size_of("dy", dy, 0), size_of("x", x, 1), size_of("dy", dy, 1)};
  const int threads = thread_count_or_default(num_threads);
  by_type(x, [&](auto zero) {
    using Real = decltype(zero);
    const Real* left = data_of<Real>("dy", dy, {s.rows, s.out}, "(N, O)");
    const Real* right = data_of<Real>("x", x, {s.rows, s.in}, "(N, I)");
    Real* to = assigned<Real>("dweight", dweight, {s.out, s.in}, "(O, I)");
    without_gil(threads, [&](Lease& lease) {
      rnnfast::dense_weight_gradient(s.rows, s.in, s.out, left, right, to, lease);
    });
  });
}

void softmax(const py::array& x, const py::array& scales, py::array y, py::array norms,
             py::handle num_threads) {
  const index rows = size_of("x", x, 0), columns = x.shape(1);
  const int threads = thread_count_or_default(num_threads);
  by_type(x, [&](auto zero) {
    using Real = decltype(zero);
    const Real* from = data_of<Real>("x", x, {rows, columns}, "(N, V)");
    const Real* factors = data_of<Real>("scales", scales, {rows}, "(N,)");
    Real* to = assigned<Real>("y", y, {rows, columns}, "(N, V)");
    Real* found = assigned<Real>("norms", norms, {rows, 2}, "(N, 2)");
    without_gil(threads, [&](Lease& lease) {
      rnnfast::softmax(rows, columns, from, factors, to, found, lease);
    });
  });
}

}  // namespace rnnfast
