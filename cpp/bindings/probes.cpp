#include "probes.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "../dispatch/dispatch.hpp"
#include "../threads/team.hpp"
#include "arrays.hpp"
#include "layer.hpp"

namespace rnnfast {
namespace {

template <class Real>
py::array apply(const std::string& name, const py::array& x) {
  const Array<Real> in(x);
  py::array_t<Real> out(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  const auto& kernels = table<Real>(current());
  (name == "tanh" ? kernels.tanh : kernels.sigmoid)(in.data(), out.mutable_data(), in.size());
  return out;
}

template <class Real>
double peak(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto probe = table<Real>(current()).fma_probe;
  Lease lease(threads, interrupted);
  index rounds = 20000;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    std::vector<double> flops(lease.threads());
    const auto start = Clock::now();
    lease.run(lease.threads(), false,
              [&](const Worker& me) { flops[me.index] = probe(rounds); });
    const double took = std::chrono::duration<double>(Clock::now() - start).count();
    double sum = 0;
    for (double f : flops) sum += f;
    best = std::max(best, sum / took * 1e-9);
    if (took < 0.005) rounds *= 2;
  } while (Clock::now() < end);
  return best;
}

}  // namespace

py::array activation(const std::string& name, const py::array& x) {
  if (name != "tanh" && name != "sigmoid")
    throw py::value_error("name is '" + name + "', expected 'tanh' or 'sigmoid'");
  return py::isinstance<py::array_t<float>>(x) ? apply<float>(name, x) : apply<double>(name, x);
}

double measure_fma_peak(const std::string& dtype, py::handle num_threads, double seconds) {
  const int threads = as_thread_count(num_threads);
  const py::gil_scoped_release release;
  return dtype == "float32" ? peak<float>(threads, seconds) : peak<double>(threads, seconds);
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace rnnfast
