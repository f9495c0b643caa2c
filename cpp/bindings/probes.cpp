#include "probes.hpp"

#include <chrono>
#include <vector>

#include "../dispatch/dispatch.hpp"
#include "arrays.hpp"
#include "gil.hpp"
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

// The mean over the whole time: the best moment alone would be one at a clock that does not last.
template <class Real>
double peak(Compute compute, Lease& lease, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto probe = table<Real>(current(), compute).fma_probe;
  const index rounds = 200000;
  std::vector<double> flops(lease.threads());
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  do {
    lease.run(lease.threads(), [&](const Worker& me) {
      flops[me.index] += probe(rounds);
      me.proceed(me.team, me.member);  // looks for Ctrl-C
    });
  } while (elapsed() < seconds);
  double sum = 0;
  for (double f : flops) sum += f;
  return sum / elapsed() * 1e-9;
}

}  // namespace

py::array activation(const std::string& name, const py::array& x) {
  if (name != "tanh" && name != "sigmoid")
    throw py::value_error("name is '" + name + "', expected 'tanh' or 'sigmoid'");
  return is_single(py::str(x.dtype())) ? apply<float>(name, x) : apply<double>(name, x);
}

double measure_fma_peak(const std::string& dtype, py::handle num_threads, double seconds) {
  const int threads = thread_count_or_default(num_threads);
  const Compute compute = dtype == "float64" ? Compute::native : compute_named("dtype", dtype);
  const bool single = compute != Compute::native || is_single(dtype);
  double rate = 0;
  without_gil(threads, [&](Lease& lease) {
    rate = single ? peak<float>(compute, lease, seconds) : peak<double>(compute, lease, seconds);
  });
  return rate;
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace rnnfast
