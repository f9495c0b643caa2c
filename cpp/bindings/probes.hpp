// Functions for tests and benchmarks: activations on whole arrays, the machine's peak and the
// bandwidth of its caches.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

namespace rnnfast {

// tanh or sigmoid of a float32 or float64 array by the current instruction set.
pybind11::array activation(const std::string& name, const pybind11::array& x);

// GFLOP/s of independent multiply-adds on so many threads, the mean over about `seconds`.
double measure_fma_peak(const std::string& dtype, pybind11::handle num_threads, double seconds);

// Bytes a second that so many threads read together from an array of so many bytes, each its own
// part over and over, the mean over about `seconds`: the bandwidth of the cache that holds it.
double measure_read_bandwidth(pybind11::ssize_t nbytes, pybind11::handle num_threads,
                              double seconds);

std::string compiler_name();

}  // namespace rnnfast
