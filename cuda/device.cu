#include "device.hpp"

#include <cub/device/device_radix_sort.cuh>

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

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
class Pooled final : public Memory {
 public:
  Pooled() {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {cudaMemLocationTypeDevice, Device::device_used};
    check(cudaMemPoolCreate(&pool_, &properties), "making a memory pool");
    uint64_t all = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &all),
          "making a memory pool");
  }
  void* take(index bytes, Stream stream) override {
    free_held(reinterpret_cast<cudaStream_t>(stream));
    void* block;
    check(cudaMallocFromPoolAsync(&block, bytes, pool_, reinterpret_cast<cudaStream_t>(stream)),
          "allocating device memory");
    return block;
  }
  void give(void* block, Stream stream) noexcept override {
    int before = Device::device_used;  // streams 1 and 2 are of the device that is current
    cudaGetDevice(&before);
    cudaSetDevice(Device::device_used);
    if (const Block given{block, reinterpret_cast<cudaStream_t>(stream)}; !free(given)) hold(given);
    cudaSetDevice(before);
  }

 private:
  struct Block {
    void* memory;
    cudaStream_t stream;
  };
  // False while the stream is captured: what is not of the graph cannot be freed in it.
  static bool free(const Block& block) noexcept {
    cudaStreamCaptureStatus status;
    const bool done = cudaStreamIsCapturing(block.stream, &status) == cudaSuccess &&
                      status == cudaStreamCaptureStatusNone &&
                      cudaFreeAsync(block.memory, block.stream) == cudaSuccess;
    if (!done) cudaGetLastError();  // or a later call would find it
    return done;
  }
  void hold(const Block& block) noexcept {
    const std::lock_guard lock(mutex_);
    try {
      held_.push_back(block);
    } catch (const std::bad_alloc&) {  // it is lost
    }
  }
  // By who uses that stream: others may have been destroyed.
  void free_held(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    std::erase_if(held_, [&](const Block& b) { return b.stream == stream && free(b); });
  }

  cudaMemPool_t pool_;
  std::mutex mutex_;
  std::vector<Block> held_;  // until its stream is used again
};

// Never destroyed: buffers may outlive all else.
Memory& pooled() {
  static Memory& memory = *new Pooled;
  return memory;
}

cudaStream_t make_stream() {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return stream;
}

}  // namespace

Device::Device(bool tf32) : products_(tf32) {
  struct Destroy {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  std::unique_ptr<CUstream_st, Destroy> stream(make_stream());
  captured_ = make_stream();
  own_ = stream.release();
}

void Device::begin(const Stream* stream, Memory* memory) {
  stream_ = current_ = stream ? reinterpret_cast<cudaStream_t>(*stream) : own_;
  memory_ = memory ? memory : &pooled();
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(stream_, &status), "looking at the stream of the arrays");
  capturing_ = status != cudaStreamCaptureStatusNone;
  if (!memory) refuse_capture("its memory is none that a graph could keep");
}

void Device::end() noexcept {
  workspace_ = {};
  if (stream_ == own_) settle();
}

void Device::settle() noexcept {
  cudaStreamSynchronize(stream_);
  cudaGetLastError();  // what went wrong has been told
}

void Device::refuse_capture(const char* why) const {
  if (capturing_)
    throw std::runtime_error(std::string("cuda: the stream of the arrays is being captured, but ") +
                             why +
                             ", expected a module of rnnfast.torch on the GPU, or another stream");
}

void Device::order(Stream first, Stream later) {
  if (first == later) return;
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(reinterpret_cast<cudaStream_t>(first), &status),
        "looking at the stream of the arrays");
  if (status != cudaStreamCaptureStatusNone)
    throw std::runtime_error(
        "cuda: an array is on a stream that is being captured, expected that of the others");
  struct Destroy {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  cudaEvent_t made;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "making an event");
  const std::unique_ptr<CUevent_st, Destroy> event(made);  // ends once it is reached
  check(cudaEventRecord(made, reinterpret_cast<cudaStream_t>(first)), "waiting for a stream");
  check(cudaStreamWaitEvent(reinterpret_cast<cudaStream_t>(later), made), "waiting for a stream");
}

int Device::device_of(const void* pointer) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return -1;
  }
  const bool there =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return there ? attributes.device : -1;
}

void Device::upload(void* to, const void* from, index bytes) {
  refuse_capture("its arrays are not on the GPU");
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the device");
  cudaPointerAttributes attributes{};
  const bool known = cudaPointerGetAttributes(&attributes, from) == cudaSuccess;
  // Pageable memory has been read by now, pinned one not: the caller may change it.
  if (known && attributes.type != cudaMemoryTypeUnregistered) wait();
  cudaGetLastError();
}

void Device::read(void* to, const void* from, index bytes, Stream stream) {
  const auto there = reinterpret_cast<cudaStream_t>(stream);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, there), "copying from the device");
  check(cudaStreamSynchronize(there), "computing");
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
