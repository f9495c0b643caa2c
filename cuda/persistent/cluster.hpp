// A thread block of a cluster on a GPU of compute capability 9.0 or newer, in PTX.
#pragma once

#include <cuda_runtime.h>

#include "../errors.hpp"
#include "geometry.hpp"

namespace rnnfast::cuda::persistent {

class ClusterBlock {
 public:
  __device__ ClusterBlock(char* shared, int blocks) : shared_(shared), blocks_(blocks) {}

  RNNFAST_BLOCK int thread() const { return static_cast<int>(threadIdx.x); }
  RNNFAST_BLOCK int rank() const { return static_cast<int>(blockIdx.x) % blocks_; }
  RNNFAST_BLOCK index cluster() const { return static_cast<int>(blockIdx.x) / blocks_; }
  RNNFAST_BLOCK int direction() const { return static_cast<int>(blockIdx.y); }
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

  // To be in the cache when it is loaded.
  RNNFAST_BLOCK void prefetch(const float* from) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
  }

  // The value of the lane whose number differs in the bits of `lanes`.
  RNNFAST_BLOCK float trade(float value, int lanes) { return __shfl_xor_sync(~0u, value, lanes); }

  // A (16, 32) B (32, 8) of the warp, added to two sums, each (16, 8), which may be the same one.
  // The sums may be read after `multiplied`.
  RNNFAST_BLOCK void multiply(float (&even)[4], float (&odd)[4], const Part& a, const Words& b) {
    multiply(even, a.first, b.word[0], b.word[1]);
    multiply(odd, a.second, b.word[2], b.word[3]);
  }

  RNNFAST_BLOCK void multiplied() {}  // mma waits for itself

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
    if (!is_full(barrier, parity)) {
      const long long begin = clock64();
      while (!is_full(barrier, parity))
        if (clock64() - begin > longest_wait) __trap();
    }
    __syncwarp();
  }

  // Writes to the shared memory of another block, where `to` lies in this one's, and counts at its
  // barrier.
  RNNFAST_BLOCK void push(int rank, void* to, const Words& value, uint64_t* barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
        "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote(to, rank)),
        "r"(value.word[0]), "r"(value.word[1]), "r"(value.word[2]), "r"(value.word[3]),
        "r"(remote(barrier, rank))
        : "memory");
  }

 private:
  RNNFAST_BLOCK static void multiply(float (&d)[4], const Words& a, uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
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
  // At the scope of the block, though other blocks push: shared memory is not cached, so that what
  // has arrived is seen, and the scope of the cluster would empty the cache of global memory.
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

// The first toolkit that has st.async.
#define RNNFAST_HAS_CLUSTERS (CUDART_VERSION >= 12010)

template <class Kernel>
__global__ void __launch_bounds__(block_threads, 1)
    clustered(const __grid_constant__ Kernel kernel) {
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 900 && RNNFAST_HAS_CLUSTERS)
  extern __shared__ __align__(16) char shared[];
  ClusterBlock block(shared, kernel.blocks);
  kernel(block);
#endif
}

// A launch of one.
template <class Kernel>
class ClusterLaunch {
 public:
  ClusterLaunch(const Kernel& kernel, index clusters, cudaStream_t stream) {
    attribute_.id = cudaLaunchAttributeClusterDimension;
    attribute_.val.clusterDim = {static_cast<unsigned>(kernel.blocks), 1, 1};
    config_.gridDim = dim3(static_cast<unsigned>(clusters * kernel.blocks),
                           static_cast<unsigned>(kernel.directions));
    config_.blockDim = dim3(block_threads);
    config_.dynamicSmemBytes = sizeof(typename Kernel::Shared);
    config_.stream = stream;
    config_.attrs = &attribute_;
    config_.numAttrs = 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;
  ClusterLaunch& operator=(const ClusterLaunch&) = delete;

  // Makes the kernel ready; how many clusters run at once, 0 where the GPU has none that large, or
  // not the shared memory, or the kernel has been compiled for one without.
  int prepare() const {
    constexpr const char* doing = "preparing a persistent kernel";
    const auto* function = reinterpret_cast<const void*>(clustered<Kernel>);
    const int bytes = static_cast<int>(config_.dynamicSmemBytes);
    int device, has_clusters, most_bytes, clusters = 0;
    cudaFuncAttributes attributes;
    check(cudaGetDevice(&device), doing);
    check(cudaDeviceGetAttribute(&has_clusters, cudaDevAttrClusterLaunch, device), doing);
    check(cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          doing);
    check(cudaFuncGetAttributes(&attributes, function), doing);
    if (!RNNFAST_HAS_CLUSTERS || !has_clusters || attributes.ptxVersion < 90 || bytes > most_bytes)
      return 0;
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          doing);
    check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), doing);
    const auto error = cudaOccupancyMaxActiveClusters(&clusters, clustered<Kernel>, &config_);
    if (error != cudaErrorInvalidClusterSize) check(error, doing);
    cudaGetLastError();  // or a later call would find it
    return clusters;
  }
  cudaError_t go(const Kernel& kernel) const {
    return cudaLaunchKernelEx(&config_, clustered<Kernel>, kernel);
  }

 private:
  cudaLaunchAttribute attribute_{};
  cudaLaunchConfig_t config_{};
};

}  // namespace rnnfast::cuda::persistent
