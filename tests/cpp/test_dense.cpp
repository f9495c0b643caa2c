// Dense products and softmax on arrays that end where they end, for every instruction set, against
// plain loops.
#include "../../cpp/network/dense.hpp"

#include <cmath>
#include <vector>

#include "../../cpp/dispatch/dispatch.hpp"
#include "check.hpp"

namespace rnnfast {
namespace {

using test::integer;
using test::normal;

bool never() { return false; }

template <class Real>
double tolerance(index terms) {
  return (std::is_same_v<Real, float> ? 1e-6 : 1e-14) * std::sqrt(static_cast<double>(terms)) * 8;
}

template <class Real>
using Array = std::vector<Real>;

// Whether each a[i][j] is the sum over k < depth of term(i, j, k).
template <class Real, class Term>
bool is_sum(const Array<Real>& a, index rows, index columns, index depth, Term term) {
  bool close = true;
  for (index i = 0; i < rows; ++i)
    for (index j = 0; j < columns; ++j) {
      double sum = 0;
      for (index k = 0; k < depth; ++k) sum += static_cast<double>(term(i, j, k));
      close &= std::abs(sum - a[i * columns + j]) <= tolerance<Real>(depth);
    }
  return close;
}

template <class Real>
bool products_are_right(index rows, index in, index out, Lease& lease, test::Random& random) {
  const auto x = normal<Real>(random, rows * in), w = normal<Real>(random, out * in),
             bias = normal<Real>(random, out), dy = normal<Real>(random, rows * out);
  const Real unset = std::nan("");
  Array<Real> y(rows * out, unset), dx(rows * in, unset), dw(out * in, unset);
  dense_forward(rows, in, out, x.data(), w.data(), bias.data(), y.data(), lease);
  dense_input_gradient(rows, in, out, dy.data(), w.data(), dx.data(), lease);
  dense_weight_gradient(rows, in, out, dy.data(), x.data(), dw.data(), lease);
  return is_sum(y, rows, out, in + 1,
                [&](index i, index j, index k) {
                  return k < in ? x[i * in + k] * w[j * in + k] : bias[j];
                }) &&
         is_sum(dx, rows, in, out,
                [&](index i, index j, index k) { return dy[i * out + k] * w[k * in + j]; }) &&
         is_sum(dw, out, in, rows,
                [&](index i, index j, index k) { return dy[k * out + i] * x[k * in + j]; });
}

template <class Real>
bool softmax_is_right(index rows, index columns, Lease& lease, test::Random& random) {
  const auto x = normal<Real>(random, rows * columns, 5), scales = normal<Real>(random, rows);
  Array<Real> y(rows * columns), norms(2 * rows);
  softmax(rows, columns, x.data(), scales.data(), y.data(), norms.data(), lease);
  bool close = true;
  for (index i = 0; i < rows; ++i) {
    double sum = 0;
    for (index j = 0; j < columns; ++j) sum += std::exp(static_cast<double>(x[i * columns + j]));
    for (index j = 0; j < columns; ++j) {
      const double exact = scales[i] * std::exp(static_cast<double>(x[i * columns + j])) / sum;
      close &= std::abs(exact - y[i * columns + j]) <= tolerance<Real>(columns);
    }
    const double norm = static_cast<double>(norms[2 * i]) + std::log(norms[2 * i + 1]);
    close &= std::abs(norm - std::log(sum)) <= 10 * tolerance<Real>(columns);
  }
  return close;
}

template <class Body>
void on_every_set(Body body) {
  for (const auto& set : instruction_sets()) {
    use(set.name);
    body();
  }
  use("");
}

TEST(dense_products_agree_with_plain_loops) {
  test::Random random(1);
  Lease lease(3, never);
  on_every_set([&] {
    for (int i = 0; i < 12; ++i) {
      const index rows = integer(random, 0, i ? 40 : 1100), in = integer(random, 1, 150),
                  out = integer(random, 1, i ? 150 : 20);
      CHECK(products_are_right<float>(rows, in, out, lease, random));
      CHECK(products_are_right<double>(rows, in, out, lease, random));
    }
    CHECK(products_are_right<float>(3, 5, 600, lease, random));
  });
}

TEST(dense_softmax_agrees_with_plain_loops) {
  test::Random random(2);
  Lease lease(3, never);
  on_every_set([&] {
    for (index columns = 1; columns <= 40; ++columns) {
      CHECK(softmax_is_right<float>(integer(random, 0, 9), columns, lease, random));
      CHECK(softmax_is_right<double>(integer(random, 0, 9), columns, lease, random));
    }
  });
}

}  // namespace
}  // namespace rnnfast
