// A Machine that is a GPU: one stream, its memory and its products. It is never given up.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <utility>

#include "errors.hpp"
#include "products.hpp"

namespace rnnfast::cuda {

inline constexpr int block_size = 128;

template <class Kernel>
__global__ void __launch_bounds__(block_size) each(const Kernel kernel) {
  const index i = index{blockIdx.x} * block_size + threadIdx.x;
  if (i < kernel.threads()) kernel(i);
}

class Device {
 public:
  explicit Device(bool tf32) : products_(tf32) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  template <class T>
  class Buffer {
   public:
    Buffer() = default;
    Buffer(index count, cudaStream_t stream) : stream_(stream) {
      if (count)
        check(cudaMallocAsync(&data_, count * sizeof(T), stream), "allocating device memory");
    }
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), stream_(other.stream_) {}
    Buffer& operator=(Buffer&& other) noexcept {
      std::swap(data_, other.data_);
      std::swap(stream_, other.stream_);
      return *this;
    }
    ~Buffer() {
      if (data_) cudaFreeAsync(data_, stream_);
    }
    T* data() const { return static_cast<T*>(data_); }

   private:
    void* data_ = nullptr;
    cudaStream_t stream_ = nullptr;
  };

  template <class T>
  Buffer<T> make(index count) {
    return {count, stream_};
  }

  template <class Kernel>
  void run(const Kernel& kernel) {
    const index blocks = (kernel.threads() + block_size - 1) / block_size;
    if (!blocks) return;
    each<<<static_cast<unsigned>(blocks), block_size, 0, stream_>>>(kernel);
    check(cudaGetLastError(), "launching a kernel");
  }

  template <class Operand>
  void multiply(const Product<Operand>& product) {
    products_.multiply(product, stream_);
  }

  void sort(const int32_t* tokens, index count, int32_t* sorted, int32_t* row);

  void zero(void* data, index bytes) {
    if (bytes) check(cudaMemsetAsync(data, 0, bytes, stream_), "filling device memory");
  }
  void upload(void* to, const void* from, index bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_),
          "copying to the device");
  }
  void download(void* to, const void* from, index bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_),
          "copying from the device");
  }
  void wait() { check(cudaStreamSynchronize(stream_), "computing"); }
  void settle() noexcept { cudaStreamSynchronize(stream_); }

  // As a graph: hundreds of small kernels are launched at once.
  template <class Body>
  void repeat(Body&& body) {
    cudaGraph_t graph;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing a graph");
    try {
      body();
    } catch (...) {
      if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream_, &graph), "capturing a graph");
    launch(graph);
  }

 private:
  void launch(cudaGraph_t graph);

  Products products_;
  cudaStream_t stream_;
  std::map<size_t, cudaGraphExec_t> instances_;  // by their number of nodes
};

}  // namespace rnnfast::cuda
