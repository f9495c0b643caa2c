#include "probes.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "../dispatch/dispatch.hpp"
#include "../network/workspace.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "options.hpp"

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

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The mean over the whole time: the best moment alone would be one at a clock that does not last.
template <class Real>
double peak(Compute compute, Lease& lease, double seconds) {
  const auto probe = table<Real>(current(), compute).fma_probe;
  const index rounds = 200000;
  std::vector<double> flops(lease.threads());
  const auto start = Clock::now();
  do {
    lease.run(lease.threads(), [&](const Worker& me) {
      flops[me.index] += probe(rounds);
      me.proceed(me.team, me.member);  // looks for Ctrl-C
    });
  } while (seconds_since(start) < seconds);
  double sum = 0;
  for (double f : flops) sum += f;
  return sum / seconds_since(start) * 1e-9;
}

// The mean over the whole time, once every thread has written its part and read it for a while.
double read_bandwidth(index bytes, Lease& lease, double seconds) {
  const auto probe = table<float>(current()).read_probe;
  const index n = bytes / static_cast<index>(sizeof(float)), turn_bytes = index{64} << 20;
  const index passes = std::max(index{1}, turn_bytes / bytes);
  const Buffer<float> array(n);
  const auto each_part = [&](auto work) {
    lease.run(lease.threads(), [&](const Worker& me) {
      const index begin = n * me.index / me.count, end = n * (me.index + 1) / me.count;
      work(array.data() + begin, end - begin);
      me.proceed(me.team, me.member);  // looks for Ctrl-C
    });
  };
  const auto turn = [&] {
    each_part([&](const float* part, index count) {
      for (index i = 0; i < passes; ++i) (void)probe(part, count);
    });
  };
  each_part([](float* part, index count) { std::fill_n(part, count, 1.0f); });
  turn();
  const auto start = Clock::now();
  double turns = 0;
  do {
    turn();
    ++turns;
  } while (seconds_since(start) < seconds);
  const double read = static_cast<double>(n) * sizeof(float) * static_cast<double>(passes);
  return turns * read / seconds_since(start);
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

double measure_read_bandwidth(py::ssize_t nbytes, py::handle num_threads, double seconds) {
  if (nbytes < static_cast<py::ssize_t>(sizeof(float)))
    throw py::value_error("nbytes is " + std::to_string(nbytes) + ", expected at least 4");
  double rate = 0;
  without_gil(thread_count_or_default(num_threads),
              [&](Lease& lease) { rate = read_bandwidth(nbytes, lease, seconds); });
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
