#include "device.hpp"

#include <cub/device/device_radix_sort.cuh>

namespace rnnfast::cuda {
namespace {

struct Count {
  index count;
  int32_t* to;

  RNNFAST_HD index threads() const { return count; }
  RNNFAST_HD void operator()(index i) const { to[i] = static_cast<int32_t>(i); }
};

}  // namespace

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

// Graphs of the same shape differ in their pointers alone, which an instance can be given anew.
void Device::launch(cudaGraph_t graph) {
  size_t nodes = 0;
  cudaGraphExec_t exec = nullptr;
  const auto destroy = [&] { cudaGraphDestroy(graph); };
  try {
    check(cudaGraphGetNodes(graph, nullptr, &nodes), "reading a graph");
    const auto known = instances_.find(nodes);
    cudaGraphExecUpdateResultInfo result{};
    if (known != instances_.end()) {
      exec = known->second;
      if (cudaGraphExecUpdate(exec, graph, &result) != cudaSuccess) {
        cudaGetLastError();
        cudaGraphExecDestroy(exec);
        instances_.erase(known);
        exec = nullptr;
      }
    }
    if (!exec) {
      check(cudaGraphInstantiate(&exec, graph, 0), "instantiating a graph");
      instances_.emplace(nodes, exec);
    }
    check(cudaGraphLaunch(exec, stream_), "launching a graph");
  } catch (...) {
    destroy();
    throw;
  }
  destroy();
}

}  // namespace rnnfast::cuda
