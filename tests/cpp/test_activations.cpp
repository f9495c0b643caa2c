// tanh and the logistic function of every instruction set: close to libm, for every count around
// the vector's width, at any address, and nothing written behind the end.
// Dropout between layers, and the probe that reads.
#include <cmath>
#include <limits>

#include "../../cpp/dispatch/dispatch.hpp"
#include "check.hpp"

namespace rnnfast {
namespace {

template <class Real>
void check_function(void (*function)(const Real*, Real*, index), double (*exact)(double)) {
  const double eps = std::numeric_limits<Real>::epsilon();
  test::Random random(10);
  for (index n = 0; n <= 40; ++n)
    for (int shift = 0; shift < 3; ++shift) {
      const auto x = test::normal<Real>(random, n + shift, 4);
      std::vector<Real> y(n + shift + 1, Real{7});
      function(x.data() + shift, y.data() + shift, n);
      for (int i = 0; i < shift; ++i) CHECK(y[i] == Real{7});
      CHECK(y[n + shift] == Real{7});
      for (index i = shift; i < n + shift; ++i) {
        const double expected = exact(static_cast<double>(x[i]));
        CHECK(std::abs(static_cast<double>(y[i]) - expected) <= 8 * eps * std::abs(expected));
      }
    }
}

template <class Real>
void check_limits(const KernelTable<Real>& k) {
  const Real inf = std::numeric_limits<Real>::infinity();
  const Real x[5] = {-inf, inf, std::numeric_limits<Real>::quiet_NaN(), Real{0}, Real{-0.0}};
  Real y[5];
  k.tanh(x, y, 5);
  CHECK(y[0] == -1 && y[1] == 1 && std::isnan(y[2]) && y[3] == 0 && std::signbit(y[4]));
  k.sigmoid(x, y, 5);
  CHECK(y[0] == 0 && y[1] == 1 && std::isnan(y[2]) && y[3] == Real{0.5} && y[4] == Real{0.5});
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

template <class Real>
void check_table(const KernelTable<Real>& k) {
  check_function<Real>(k.tanh, std::tanh);
  check_function<Real>(k.sigmoid, logistic);
  check_limits(k);
}

TEST(activations_agree_with_libm) {
  for (const InstructionSet& set : instruction_sets()) {
    check_table(*set.f32);
    check_table(*set.f64);
  }
}

template <class Real>
void check_dropout(const KernelTable<Real>& k) {
  test::Random random(11);
  const index n = 20000;
  const auto x = test::normal<Real>(random, n);
  for (double p : {0.0, 0.25, 1.0}) {
    std::vector<Real> y(n), tail(n);
    k.dropout(x.data(), y.data(), n, 12345, p);
    index kept = 0;
    for (index i = 0; i < n; ++i) {
      kept += y[i] != 0;
      CHECK(y[i] == 0 || y[i] == static_cast<Real>(1 / (1 - p)) * x[i]);
    }
    CHECK(std::abs(static_cast<double>(kept) - (1 - p) * n) < 300);  // five deviations
    k.dropout(x.data() + 7, tail.data() + 7, n - 7, 12345 + 7, p);   // the seed names the element
    for (index i = 7; i < n; ++i) CHECK(tail[i] == y[i]);
    std::vector<Real> in_place = x;
    k.dropout(in_place.data(), in_place.data(), n, 12345, p);
    CHECK(in_place == y);
  }
}

TEST(dropout_keeps_its_share) {
  for (const InstructionSet& set : instruction_sets()) {
    check_dropout(*set.f32);
    check_dropout(*set.f64);
  }
}

template <class Real>
void check_read_probe(const KernelTable<Real>& k) {
  for (index n = 0; n <= 300; ++n) {
    std::vector<Real> x(n + 1, Real{1});  // sums of small integers are exact
    x[n] = Real{1000};                    // behind the end
    CHECK(k.read_probe(x.data(), n) == static_cast<Real>(n));
  }
}

TEST(probe_reads_every_element_once) {
  for (const InstructionSet& set : instruction_sets()) {
    check_read_probe(*set.f32);
    check_read_probe(*set.f64);
  }
}

}  // namespace
}  // namespace rnnfast
