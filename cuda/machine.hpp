// What computes: a GPU or its emulation. The engine is a template over a Machine:
//
//   machine.template make<T>(count)    Buffer<T>: uninitialised memory, freed with the buffer
//   machine.run(kernel)                kernel(i) for all i < kernel.threads()
//   machine.most_clusters(kernel)      of a persistent kernel that run at once; 0: it cannot run
//   machine.run_clusters(kernel)       all of them, one after the other if need be
//   machine.multiply(product)          a Product of matrices
//   machine.sort(tokens, count, sorted, row)
//                                      tokens in ascending, equal ones in their own order
//   machine.zero(pointer, bytes)
//   machine.upload(to, from, bytes)    from the caller's memory, which may then change at once
//   machine.download(to, from, bytes)  to the caller's memory
//   machine.repeat(count, body)        body(n) for all n < count, which is kernels and products
//   machine.wait()                     until all of it is done
//
// All is done in the order of the calls; what is downloaded to stays where it is until then. For
// those who keep machines and bring arrays that are in its memory already:
//
//   Machine::Turn                      lives while a thread uses a machine
//   machine.begin(stream, memory)      what comes next is done on that stream, null: the machine's
//                                      own, with memory from there, null: the machine's own
//   machine.end()                      nothing comes next; the machine's own stream is awaited
//   machine.settle()                   a wait, whatever went wrong
//   machine.stream()                   where it is done
//   Machine::order(first, later)       what `later` is given next waits for what `first` has
//   Machine::device_of(pointer)        whose memory that is; negative: no device's
//   Machine::read(to, from, bytes, stream)
//                                      a download that is awaited
#pragma once

#include <cstdint>
#include <utility>

#include "product.hpp"

namespace rnnfast::cuda {

// As DLPack and __cuda_array_interface__ number streams: 1 is the default one of all threads, 2
// that of the calling thread, others are handles.
using Stream = uintptr_t;
inline constexpr Stream default_stream = 1, stream_of_the_thread = 2;

// Where buffers are, in the order of a stream: what is given back may be taken by what the stream
// does next.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* take(index bytes, Stream stream) = 0;
  virtual void give(void* block, Stream stream) noexcept = 0;
};

// Freed on the stream that it was made on, by any thread at any time.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(index count, Memory& memory, Stream stream) : memory_(&memory), stream_(stream) {
    if (count) data_ = memory.take(count * static_cast<index>(sizeof(T)), stream);
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(memory_, other.memory_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~Buffer() {
    if (data_) memory_->give(data_, stream_);
  }
  T* data() const { return static_cast<T*>(data_); }
  Stream stream() const { return stream_; }
  // Its owner is whoever asks.
  void* release() { return std::exchange(data_, nullptr); }

 private:
  void* data_ = nullptr;
  Memory* memory_ = nullptr;
  Stream stream_ = 0;
};

}  // namespace rnnfast::cuda
