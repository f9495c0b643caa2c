// A Machine that runs the kernels' thread code on the CPU, so that everything but the launches can
// be checked where there is no GPU. Threads run one after the other, blocks in a shuffled order:
// what depends on another thread of the same kernel shows. Fresh memory is filled with NaNs.
// Nothing is done before it is awaited, as late as a GPU might: what relies on another stream, or
// frees too early, shows.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "machine.hpp"
#include "persistent/emulated_cluster.hpp"

namespace rnnfast::cuda {

// What streams have been given to do, and the chance by which it is done.
class EmulatedStreams {
 public:
  static EmulatedStreams& all() {
    static auto& streams = *new EmulatedStreams;
    return streams;
  }
  void seed(uint32_t seed) {
    const std::lock_guard lock(mutex_);
    random_.seed(seed);
    const auto idle = [](const auto& entry) { return entry.second.tasks.empty(); };
    if (std::ranges::all_of(queues_, idle)) queues_.clear();
  }
  uint32_t chance() {
    const std::lock_guard lock(mutex_);
    return static_cast<uint32_t>(random_());
  }
  void push(Stream stream, std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    queue(stream).tasks.push_back(std::move(task));
  }
  void order(Stream first, Stream later) {
    const std::lock_guard lock(mutex_);
    const uint64_t last = end(queue(first));
    queue(later).tasks.push_back([=, this] { run(first, last); });
  }
  // By chance, other streams are far ahead or have not begun.
  void wait(Stream stream) {
    const std::lock_guard lock(mutex_);
    if (random_() % 2)
      for (const auto& [other, queue] : queues_) run(other, end(queue));
    run(stream, end(queue(stream)));
  }

 private:
  struct Queue {
    std::deque<std::function<void()>> tasks;
    uint64_t done = 0;
  };
  static uint64_t end(const Queue& queue) { return queue.done + queue.tasks.size(); }
  Queue& queue(Stream stream) {
    for (auto& [other, queue] : queues_)
      if (other == stream) return queue;
    return queues_.emplace_back(stream, Queue()).second;
  }
  void run(Stream stream, uint64_t end) {
    for (Queue& own = queue(stream); own.done < end;) {
      const auto task = std::move(own.tasks.front());
      own.tasks.pop_front();
      ++own.done;  // also if it fails
      task();
    }
  }

  std::mutex mutex_;
  std::deque<std::pair<Stream, Queue>> queues_;  // in the order of their first use
  std::mt19937 random_;
};

class Emulator {
 public:
  static constexpr index block = 128;
  static constexpr int device_used = 0;

  struct Turn {
    Turn() {}
  };

  explicit Emulator(bool) {}  // products are float32's, whatever their mode

  void begin(const Stream* stream, Memory* memory) {
    stream_ = stream ? *stream : own();
    memory_ = memory ? memory : &heap();
  }
  void end() noexcept {
    if (stream_ == own()) wait();
  }
  Stream stream() const { return stream_; }
  static void order(Stream first, Stream later) {
    if (first != later) EmulatedStreams::all().order(first, later);
  }
  static int device_of(const void*) { return device_used; }
  static void read(void* to, const void* from, index bytes, Stream stream) {
    EmulatedStreams::all().wait(stream);
    std::memcpy(to, from, bytes);
  }

  template <class T>
  Buffer<T> make(index count) {
    Buffer<T> buffer(count, *memory_, stream_);
    if (count)
      push([data = static_cast<void*>(buffer.data()), bytes = count * sizeof(T)] {
        std::memset(data, 0xff, bytes);
      });
    return buffer;
  }

  template <class Kernel>
  void run(const Kernel& kernel) {
    push([kernel, seed = EmulatedStreams::all().chance()] {
      const index threads = kernel.threads();
      std::vector<index> blocks((threads + block - 1) / block);
      std::iota(blocks.begin(), blocks.end(), index{0});
      std::shuffle(blocks.begin(), blocks.end(), std::minstd_rand(seed));
      for (const index b : blocks)
        for (index i = b * block; i < std::min((b + 1) * block, threads); ++i) kernel(i);
    });
  }

  // Few, so that small batches need several slices.
  template <class Kernel>
  index most_clusters(const Kernel&) const {
    const char* most = std::getenv("RNNFAST_EMULATED_CLUSTERS");
    return most ? std::atoi(most) : 2;
  }
  template <class Kernel>
  void run_clusters(const Kernel& kernel) {
    push([kernel, seed = EmulatedStreams::all().chance()]() mutable {
      for (int d = 0; d < kernel.directions; ++d)
        for (index n = kernel.clusters(); n-- > 0;)
          persistent::EmulatedCluster::run(kernel, d, n, seed++);
    });
  }

  template <class Operand>
  void multiply(const Product<Operand>& p) {
    require(p.a), require(p.b), require(p.c);
    run(Multiply<Operand>{p});
  }

  void sort(const int32_t* tokens, index count, int32_t* sorted, int32_t* row) {
    push([=] {
      std::iota(row, row + count, 0);
      std::stable_sort(row, row + count,
                       [&](int32_t a, int32_t b) { return tokens[a] < tokens[b]; });
      std::transform(row, row + count, sorted, [&](int32_t r) { return tokens[r]; });
    });
  }

  void zero(void* data, index bytes) {
    if (bytes) push([=] { std::memset(data, 0, bytes); });
  }
  // The caller's memory has been read when this returns, as that of a copy from pageable memory.
  void upload(void* to, const void* from, index bytes) {
    const auto* first = static_cast<const char*>(from);
    push([to, staged = std::vector<char>(first, first + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
  }
  void download(void* to, const void* from, index bytes) {
    push([=] { std::memcpy(to, from, bytes); });
  }

  void settle() noexcept { wait(); }
  void wait() { EmulatedStreams::all().wait(stream_); }

  template <class Body>
  void repeat(index count, Body body) {
    for (index n = 0; n < count; ++n) body(n);
  }

 private:
  // What is freed is overwritten first, in the stream's order.
  struct Heap final : Memory {
    static constexpr index head = 64;  // for the size
    void* take(index bytes, Stream) override {
      auto* block = static_cast<char*>(::operator new(head + bytes));
      std::memcpy(block, &bytes, sizeof bytes);
      return block + head;
    }
    void give(void* memory, Stream stream) noexcept override {
      EmulatedStreams::all().push(stream, [memory] {
        char* block = static_cast<char*>(memory) - head;
        index bytes;
        std::memcpy(&bytes, block, sizeof bytes);
        std::memset(memory, 0xff, bytes);
        ::operator delete(block);
      });
    }
  };
  static Memory& heap() {
    static Memory& memory = *new Heap;
    return memory;
  }

  Stream own() const { return reinterpret_cast<Stream>(this); }
  void push(std::function<void()> task) { EmulatedStreams::all().push(stream_, std::move(task)); }

  // What cuBLASLt refuses.
  template <class T>
  static void require(const Matrix<T>& m) {
    if (m.rows < 1 || m.columns < 1 || m.stride < m.columns)
      throw std::logic_error("a matrix that cuBLASLt would not take");
  }

  Stream stream_ = 0;
  Memory* memory_ = nullptr;
};

}  // namespace rnnfast::cuda
