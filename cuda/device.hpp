// A Machine that is a GPU, the first one that CUDA shows: a stream, its memory and its products. It
// is never given up.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <map>
#include <typeindex>
#include <utility>

#include "errors.hpp"
#include "persistent/cluster.hpp"
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
  static constexpr int device_used = 0;

  // The device is current for the thread, and the one before is so again afterwards.
  class Turn {
   public:
    Turn() {
      check(cudaGetDevice(&before_), "looking for a GPU");
      check(cudaSetDevice(device_used), "choosing the GPU");
    }
    ~Turn() { cudaSetDevice(before_); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    int before_ = 0;
  };

  explicit Device(bool tf32);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  void begin(const Stream* stream, Memory* memory);
  void end() noexcept;
  void settle() noexcept;
  Stream stream() const { return reinterpret_cast<Stream>(stream_); }
  static void order(Stream first, Stream later);
  static int device_of(const void* pointer);
  static void read(void* to, const void* from, index bytes, Stream stream);

  template <class T>
  Buffer<T> make(index count) {
    return {count, *memory_, stream()};
  }

  template <class Kernel>
  void run(const Kernel& kernel) {
    const index blocks = (kernel.threads() + block_size - 1) / block_size;
    if (!blocks) return;
    void* arguments[] = {const_cast<Kernel*>(&kernel)};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(each<Kernel>),
                           dim3(static_cast<unsigned>(blocks)), dim3(block_size), arguments, 0,
                           current_),
          "launching a kernel");
  }

  template <class Kernel>
  index most_clusters(const Kernel& kernel) const {
    static std::atomic<int>
        known[persistent::most_blocks + 1];  // one more than it is; 0: not known
    auto& most = known[kernel.blocks];
    if (!most) most = 1 + persistent::ClusterLaunch<Kernel>(kernel, 1, nullptr).prepare();
    return most - 1;
  }
  template <class Kernel>
  void run_clusters(const Kernel& kernel) {
    check(persistent::ClusterLaunch<Kernel>(kernel, kernel.clusters(), current_).go(kernel),
          "launching a persistent kernel");
  }

  template <class Operand>
  void multiply(const Product<Operand>& product) {
    if (!workspace_.data()) workspace_ = make<char>(Products::workspace_bytes);
    if (!products_.multiply(product, workspace_.data(), current_)) run(Multiply<Operand>{product});
  }

  void sort(const int32_t* tokens, index count, int32_t* sorted, int32_t* row);

  void zero(void* data, index bytes) {
    if (bytes) check(cudaMemsetAsync(data, 0, bytes, stream_), "filling device memory");
  }
  void upload(void* to, const void* from, index bytes);
  void download(void* to, const void* from, index bytes) {
    refuse_capture("results are wanted that are not on the GPU");
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_),
          "copying from the device");
  }
  void wait() { check(cudaStreamSynchronize(stream_), "computing"); }

  // In graphs of so many steps: hundreds of small kernels are launched at once, and the next graph
  // is captured while one runs. Where the caller captures them, they are part of that graph.
  static constexpr index steps_of_a_graph = 32;

  template <class Body>
  void repeat(index count, Body body) {
    index n = 0;
    for (; !capturing_ && n + steps_of_a_graph <= count; n += steps_of_a_graph)
      launch(typeid(Body), capture([&] {
               for (index s = n; s < n + steps_of_a_graph; ++s) body(s);
             }));
    for (; n < count; ++n) body(n);
  }

 private:
  template <class Work>
  cudaGraph_t capture(Work work) {
    // Relaxed: kernels may be loaded meanwhile, on their first use.
    check(cudaStreamBeginCapture(captured_, cudaStreamCaptureModeRelaxed), "capturing a graph");
    current_ = captured_;
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      current_ = stream_;
      cudaStreamEndCapture(captured_, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();  // or a later call would find it
      throw;
    }
    current_ = stream_;
    check(cudaStreamEndCapture(captured_, &graph), "capturing a graph");
    return graph;
  }
  void launch(std::type_index body, cudaGraph_t graph);
  void refuse_capture(const char* why) const;

  Products products_;
  Buffer<char> workspace_;           // of the products since `begin`
  cudaStream_t own_ = nullptr;       // the machine's
  cudaStream_t captured_ = nullptr;  // never runs anything
  cudaStream_t stream_ = nullptr;    // what is used since `begin`
  cudaStream_t current_ = nullptr;   // that or the one that is captured
  Memory* memory_ = nullptr;
  bool capturing_ = false;  // whether the caller captures what is done
  std::map<std::type_index, cudaGraphExec_t> instances_;
};

}  // namespace rnnfast::cuda
