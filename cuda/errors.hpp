// What goes wrong on a GPU, in words that tell what to do.
#pragma once

#include <cuda_runtime_api.h>

#include <new>
#include <stdexcept>
#include <string>

namespace rnnfast::cuda {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

[[noreturn]] inline void fail(cudaError_t error, const char* doing) {
  cudaGetLastError();  // errors that pass are not found again by the next call
  const std::string text = std::string("cuda: ") + doing + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(text);
  throw std::runtime_error(text);
}

inline void check(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) fail(error, doing);
}

}  // namespace rnnfast::cuda
