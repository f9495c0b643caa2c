#include "device.hpp"

#include <cub/device/device_radix_sort.cuh>

#include <cstdint>
#include <memory>

namespace rnnfast::cuda {
namespace {

struct Count {
  index count;
  int32_t* to;

  RNNFAST_HD index threads() const { return count; }
  RNNFAST_HD void operator()(index i) const { to[i] = static_cast<int32_t>(i); }
};

// One for the process, which keeps what is freed: the default one gives it back at the end of a
// call.
cudaMemPool_t make_pool() {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device_used};
  cudaMemPool_t pool;
  check(cudaMemPoolCreate(&pool, &properties), "making a memory pool");
  uint64_t all = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all),
        "making a memory pool");
  return pool;
}

cudaStream_t make_stream() {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return stream;
}

}  // namespace

Device::Device(bool tf32) : products_(tf32) {
  static cudaMemPool_t pool = make_pool();
  pool_ = pool;
  struct Destroy {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  std::unique_ptr<CUstream_st, Destroy> stream(make_stream());
  captured_ = make_stream();
  stream_ = current_ = stream.release();
}

void Device::sort(const int32_t* tokens, index count, int32_t* sorted, int32_t* row) {
  if (!count) return;
  const auto rows = make<int32_t>(count);
  run(Count{count, rows.data()});
  size_t bytes = 0;
  const auto go = [&](void* scratch) {
    check(cub::DeviceRadixSort::SortPairs(scratch, bytes, tokens, sorted, rows.data(), row, count,
                                          0, 32, stream_),
          "sorting tokens");
  };
  go(nullptr);
  const auto scratch = make<char>(static_cast<index>(bytes));
  go(scratch.data());
}

// Graphs of one loop differ in pointers and sizes alone, which an instance can mostly be given
// anew.
void Device::launch(std::type_index body, cudaGraph_t captured) {
  struct Destroy {
    void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  };
  const std::unique_ptr<CUgraph_st, Destroy> graph(captured);
  cudaGraphExec_t& instance = instances_[body];
  cudaGraphExecUpdateResultInfo result{};
  if (instance && cudaGraphExecUpdate(instance, graph.get(), &result) != cudaSuccess) {
    cudaGetLastError();
    cudaGraphExecDestroy(instance);  // once it has run
    instance = nullptr;
  }
  if (!instance) check(cudaGraphInstantiate(&instance, graph.get(), 0), "instantiating a graph");
  check(cudaGraphLaunch(instance, stream_), "launching a graph");
}

}  // namespace rnnfast::cuda
