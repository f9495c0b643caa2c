// A thread block of a cluster on a GPU of compute capability 9.0 or newer, in PTX.
#pragma once

#include <cuda_runtime.h>

#include "geometry.hpp"

namespace rnnfast::cuda {

class ClusterBlock {
 public:
  __device__ ClusterBlock(char* shared, int blocks) : shared_(shared), blocks_(blocks) {}

  RNNFAST_BLOCK int thread() const { return static_cast<int>(threadIdx.x); }
  RNNFAST_BLOCK int rank() const { return static_cast<int>(blockIdx.x) % blocks_; }
  RNNFAST_BLOCK index cluster() const { return static_cast<int>(blockIdx.x) / blocks_; }
  template <class T>
  RNNFAST_BLOCK T* shared() const {
    return reinterpret_cast<T*>(shared_);
  }

  RNNFAST_BLOCK void sync() { __syncthreads(); }
  RNNFAST_BLOCK void sync_cluster() {
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;\n" ::
            : "memory");
  }

  // The value of the lane whose number differs in the bits of `lanes`.
  RNNFAST_BLOCK float trade(float value, int lanes) { return __shfl_xor_sync(~0u, value, lanes); }

  // A (16, 32) B (32, 8) of the warp, added to two sums, each (16, 8), which may be the same one.
  // The sums may be read after `multiplied`.
  RNNFAST_BLOCK void multiply(float (&even)[4], float (&odd)[4], const Part& a, const Eight& b) {
    multiply(even, a.first, b.pairs[0], b.pairs[1]);
    multiply(odd, a.second, b.pairs[2], b.pairs[3]);
  }

  RNNFAST_BLOCK void multiplied() {}

  // A barrier of shared memory, which is full again and again, of one arrival and the bytes that it
  // expects. What is pushed is there once it is full.
  RNNFAST_BLOCK void init(uint64_t* barrier) {
    asm volatile(
        "mbarrier.init.shared::cta.b64 [%0], 1;\n"
        "fence.mbarrier_init.release.cluster;\n" ::"r"(address(barrier))
        : "memory");
  }
  RNNFAST_BLOCK void expect(uint64_t* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)),
                 "r"(bytes)
                 : "memory");
  }
  // `parity` is that of how often it was full before. A wait of many seconds has gone wrong: the
  // kernel ends with an error instead of hanging.
  RNNFAST_BLOCK void wait(uint64_t* barrier, int parity) {
    if (is_full(barrier, parity)) return;
    const long long begin = clock64();
    while (!is_full(barrier, parity))
      if (clock64() - begin > longest_wait) __trap();
  }

  // Writes to the shared memory of another block, where `to` lies in this one's, and counts at its
  // barrier.
  RNNFAST_BLOCK void push(int rank, void* to, const Eight& value, uint64_t* barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
        "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote(to, rank)),
        "r"(value.pairs[0]), "r"(value.pairs[1]), "r"(value.pairs[2]), "r"(value.pairs[3]),
        "r"(remote(barrier, rank))
        : "memory");
  }

 private:
  RNNFAST_BLOCK static void multiply(float (&d)[4], const Eight& a, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b0), "r"(b1));
  }

  static constexpr long long longest_wait = 20'000'000'000;  // cycles

  RNNFAST_BLOCK static uint32_t address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  }
  RNNFAST_BLOCK static uint32_t remote(const void* shared, int rank) {
    uint32_t there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address(shared)), "r"(rank));
    return there;
  }
  RNNFAST_BLOCK static bool is_full(uint64_t* barrier, int parity) {
    uint32_t full;
    asm volatile(
        "{\n"
        ".reg .pred full;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 full, [%1], %2;\n"
        "selp.u32 %0, 1, 0, full;\n"
        "}\n"
        : "=r"(full)
        : "r"(address(barrier)), "r"(parity)
        : "memory");
    return full;
  }

  char* shared_;
  int blocks_;
};

template <class Kernel>
__global__ void __launch_bounds__(block_threads, 1)
    clustered(const __grid_constant__ Kernel kernel) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  extern __shared__ __align__(16) char shared[];
  ClusterBlock block(shared, kernel.blocks);
  kernel(block);
#endif
}

// A launch of one; without clusters on older GPUs.
template <class Kernel>
class ClusterLaunch {
 public:
  explicit ClusterLaunch(const Kernel& kernel, index clusters, cudaStream_t stream) {
    attribute_.id = cudaLaunchAttributeClusterDimension;
    attribute_.val.clusterDim = {static_cast<unsigned>(kernel.blocks), 1, 1};
    config_.gridDim = dim3(static_cast<unsigned>(clusters * kernel.blocks));
    config_.blockDim = dim3(block_threads);
    config_.dynamicSmemBytes = sizeof(typename Kernel::Shared);
    config_.stream = stream;
    config_.attrs = &attribute_;
    config_.numAttrs = 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;
  ClusterLaunch& operator=(const ClusterLaunch&) = delete;

  // How many clusters run at once; 0 where the GPU has none that large.
  int most() const {
    const auto function = reinterpret_cast<const void*>(clustered<Kernel>);
    int clusters = 0;
    const bool known =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(config_.dynamicSmemBytes)) == cudaSuccess &&
        cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) ==
            cudaSuccess &&
        cudaOccupancyMaxActiveClusters(&clusters, clustered<Kernel>, &config_) == cudaSuccess;
    if (!known) cudaGetLastError();
    return known ? clusters : 0;
  }
  cudaError_t go(const Kernel& kernel) const {
    return cudaLaunchKernelEx(&config_, clustered<Kernel>, kernel);
  }

 private:
  cudaLaunchAttribute attribute_{};
  cudaLaunchConfig_t config_{};
};

}  // namespace rnnfast::cuda
