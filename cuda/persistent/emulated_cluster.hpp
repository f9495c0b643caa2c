// A cluster of thread blocks on the CPU: every thread of a kernel runs the code that it runs on a
// GPU, on a stack of its own. Warps take turns by chance, and what is pushed arrives late and in
// any order: a missing barrier, or memory that is written too early, shows. Threads that all wait
// are an error.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "geometry.hpp"

namespace rnnfast::cuda::persistent {

class EmulatedCluster {
 public:
  class Block;

  // Runs kernel(block) in all threads of a cluster.
  template <class Kernel>
  static void run(const Kernel& kernel, int direction, index number, uint32_t seed) {
    EmulatedCluster(kernel.blocks, sizeof(typename Kernel::Shared), direction, number, seed)
        .run([&](Block& block) { kernel(block); });
  }

 private:
  static constexpr size_t stack_bytes = size_t{64} << 10;

  // What threads wait for: that it has happened once more.
  struct Event {
    uint64_t times = 0;
  };
  struct Meeting : Event {
    int present = 0;
  };
  struct Barrier : Event {
    int arrivals = 1;
    int64_t bytes = 0;  // that are yet to come
  };
  struct Push {
    char* to;
    Words value;
    Barrier* barrier;
  };
  struct Product {
    Part a;
    Words b;
    float *even, *odd;
  };
  struct Values {
    float value, result;  // of a trade
    std::vector<Product> products;
  };
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    const Event* awaited = nullptr;
    uint64_t times = 0;
    bool done = false;

    bool ready() const { return !done && (!awaited || awaited->times != times); }
  };
  struct Warp {
    Meeting meeting;
    Values lanes[32];
    Fiber threads[32];
  };
  struct Memory {
    std::unique_ptr<Words[]> shared;
    Meeting meeting;
    std::map<ptrdiff_t, Barrier> barriers;  // by where they are
  };

 public:
  class Block {
   public:
    Block(EmulatedCluster& cluster, int thread)
        : cluster_(cluster),
          thread_(thread % block_threads),
          rank_(thread / block_threads),
          memory_(cluster.memories_[rank_]),
          warp_(cluster.warps_[thread / 32]),
          lane_(warp_.lanes[thread % 32]) {}

    int thread() const { return thread_; }
    int rank() const { return rank_; }
    index cluster() const { return cluster_.number_; }
    int direction() const { return cluster_.direction_; }
    template <class T>
    T* shared() const {
      return reinterpret_cast<T*>(memory_.shared.get());
    }

    void sync() { meet(memory_.meeting, block_threads); }
    void sync_cluster() {
      meet(cluster_.meeting_, static_cast<int>(cluster_.memories_.size()) * block_threads);
    }

    void prefetch(const float*) {}

    float trade(float value, int lanes) {
      lane_.value = value;
      meet(warp_.meeting, 32, [&] {
        for (int n = 0; n < 32; ++n) warp_.lanes[n].result = warp_.lanes[n ^ lanes].value;
      });
      return lane_.result;
    }

    void multiply(float (&even)[4], float (&odd)[4], const Part& a, const Words& b) {
      lane_.products.push_back({a, b, even, odd});
    }
    void multiplied() {
      meet(warp_.meeting, 32, [&] {
        for (size_t n = 0; n < lane_.products.size(); ++n)
          for (const bool second : {false, true}) multiply(warp_.lanes, n, second);
        for (Values& lane : warp_.lanes) lane.products.clear();
      });
    }

    void init(uint64_t* barrier) { memory_.barriers.try_emplace(offset(barrier)); }
    void expect(uint64_t* barrier, int bytes) {
      Barrier& b = own(barrier);
      if (--b.arrivals < 0) cluster_.fail("a barrier was told twice what to expect");
      b.bytes += bytes;
      settle(b);
    }
    void wait(uint64_t* barrier, int parity) {
      const Barrier& b = own(barrier);
      if (b.times % 2 == static_cast<uint64_t>(parity)) cluster_.await(b);
    }
    void push(int rank, void* to, const Words& value, uint64_t* barrier) {
      Memory& there = cluster_.memories_.at(rank);
      const auto found = there.barriers.find(offset(barrier));
      if (found == there.barriers.end()) return cluster_.fail("a push came before its barrier");
      char* address = reinterpret_cast<char*>(there.shared.get()) + offset(to);
      cluster_.pushes_.push_back({address, value, &found->second});
    }

   private:
    // The last to come does what all came for.
    template <class Action>
    void meet(Meeting& meeting, int all, Action action) {
      if (++meeting.present < all) return cluster_.await(meeting);
      action();
      meeting.present = 0;
      ++meeting.times;
    }
    void meet(Meeting& meeting, int all) {
      meet(meeting, all, [] {});
    }
    ptrdiff_t offset(const void* shared) const {
      return static_cast<const char*>(shared) - reinterpret_cast<char*>(memory_.shared.get());
    }
    Barrier& own(const uint64_t* barrier) { return memory_.barriers.at(offset(barrier)); }

    // mma.m16n8k16, the first or the second of a product: see the PTX ISA for what a lane has.
    static void multiply(Values (&lanes)[32], size_t n, bool second) {
      const auto of = [](uint32_t pair, int which) {
        return to_float(Bfloat16{static_cast<uint16_t>(pair >> 16 * which)});
      };
      float a[16][16], b[16][8];
      for (int lane = 0; lane < 32; ++lane) {
        const Product& product = lanes[lane].products.at(n);
        const Words& own = second ? product.a.second : product.a.first;
        const int row = lane / 4, k = lane % 4 * 2;
        for (int i = 0; i < 8; ++i)
          a[row + i / 2 % 2 * 8][k + i / 4 * 8 + i % 2] = of(own.word[i / 2], i % 2);
        for (int i = 0; i < 4; ++i)
          b[k + i / 2 * 8 + i % 2][row] = of(product.b.word[2 * second + i / 2], i % 2);
      }
      for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
          const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
          double sum = 0;
          for (int k = 0; k < 16; ++k) sum += double{a[row][k]} * b[k][column];
          const Product& product = lanes[lane].products[n];
          float& d = (second ? product.odd : product.even)[i];
          d = static_cast<float>(d + sum);
        }
    }

    EmulatedCluster& cluster_;
    int thread_, rank_;
    Memory& memory_;
    Warp& warp_;
    Values& lane_;
  };

 private:
  // Shared memory begins as NaNs.
  EmulatedCluster(int blocks, size_t bytes, int direction, index number, uint32_t seed)
      : direction_(direction),
        number_(number),
        random_(seed),
        memories_(blocks),
        warps_(blocks * block_warps),
        order_(warps_.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::shuffle(order_.begin(), order_.end(), random_);
    late_ = random_() % 4 == 0;
    patience_ = random_() % 2 ? 10 : 10000;
    for (Memory& memory : memories_) {
      const size_t count = (bytes + sizeof(Words) - 1) / sizeof(Words);
      memory.shared = std::make_unique<Words[]>(count);
      std::memset(memory.shared.get(), 0xff, count * sizeof(Words));
    }
  }

  void run(std::function<void(Block&)> body) {
    body_ = std::move(body);
    for (int n = 0; n < static_cast<int>(warps_.size()) * 32; ++n) start(n);
    for (int left = static_cast<int>(warps_.size()); left > 0;) {
      if (Warp* warp = any_ready())
        left -= advance(*warp);
      else if (!pushes_.empty())
        deliver();
      else
        fail("all threads wait");
      if (!late_)
        for (size_t n = random_() % (2 * pushes_.size() + 1); n > 0 && !pushes_.empty(); --n)
          deliver();
      if (!failure_.empty()) throw std::logic_error("emulated cluster: " + failure_);
    }
    for (const Memory& memory : memories_)
      for (const auto& [at, barrier] : memory.barriers)
        if (barrier.bytes) throw std::logic_error("emulated cluster: pushes that nobody awaited");
  }

  void start(int n) {
    Fiber& thread = warps_[n / 32].threads[n % 32];
    thread.stack.reset(new char[stack_bytes]);  // NOLINT: make_unique would fill it
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = stack_bytes;
    thread.context.uc_link = &scheduler_;
    makecontext(&thread.context, reinterpret_cast<void (*)()>(enter), 3,
                static_cast<uint32_t>(reinterpret_cast<uintptr_t>(this)),
                static_cast<uint32_t>(reinterpret_cast<uintptr_t>(this) >> 32), n);
  }
  static void enter(uint32_t low, uint32_t high, int n) {
    auto& cluster = *reinterpret_cast<EmulatedCluster*>(uintptr_t{high} << 32 | low);
    Block block(cluster, n);
    cluster.body_(block);
    cluster.warps_[n / 32].threads[n % 32].done = true;
  }

  // The first one in an order that changes by chance: the last ones are far behind.
  Warp* any_ready() {
    if (random_() % patience_ == 0) std::shuffle(order_.begin(), order_.end(), random_);
    for (const size_t n : order_)
      for (const Fiber& thread : warps_[n].threads)
        if (thread.ready()) return &warps_[n];
    return nullptr;
  }
  // As far as it gets; whether it is done.
  bool advance(Warp& warp) {
    for (bool any = true; any && failure_.empty();) {
      any = false;
      for (Fiber& thread : warp.threads)
        if (thread.ready()) {
          any = true;
          running_ = &thread;
          swapcontext(&scheduler_, &thread.context);
        }
    }
    for (const Fiber& thread : warp.threads)
      if (!thread.done) return false;
    return true;
  }
  void await(const Event& event) {
    Fiber& own = *running_;
    own.awaited = &event;
    own.times = event.times;
    swapcontext(&own.context, &scheduler_);
  }
  static void settle(Barrier& barrier) {
    if (barrier.arrivals || barrier.bytes) return;
    barrier.arrivals = 1;
    ++barrier.times;
  }
  void deliver() {
    std::swap(pushes_[random_() % pushes_.size()], pushes_.back());
    const Push push = pushes_.back();
    pushes_.pop_back();
    std::memcpy(push.to, &push.value, sizeof push.value);
    push.barrier->bytes -= sizeof push.value;
    settle(*push.barrier);
  }
  void fail(const char* why) {
    if (failure_.empty()) failure_ = why;
  }

  int direction_;
  index number_;
  std::minstd_rand random_;
  std::vector<Memory> memories_;
  std::vector<Warp> warps_;
  std::vector<size_t> order_;
  Meeting meeting_;
  std::vector<Push> pushes_;
  uint32_t patience_;  // how many turns an order lasts
  bool late_;          // pushes arrive when nothing else is left to do
  std::function<void(Block&)> body_;
  ucontext_t scheduler_;
  Fiber* running_ = nullptr;
  std::string failure_;
};

}  // namespace rnnfast::cuda::persistent
