// Machines that are idle: calls of several Python threads each take one. They outlive the
// interpreter, as the buffers of tapes may.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "machine.hpp"

namespace rnnfast::cuda {

template <class Machine>
class Pool {
 public:
  static Pool& of(bool tf32) {
    static auto& exact = *new Pool(false);
    static auto& rounded = *new Pool(true);
    return tf32 ? rounded : exact;
  }

  class Lease {
   public:
    // Arguments as of Machine::begin.
    Lease(Pool& pool, const Stream* stream, Memory* memory) : pool_(pool), machine_(pool.take()) {
      try {
        machine_->begin(stream, memory);
      } catch (...) {
        pool_.put(std::move(machine_));
        throw;
      }
    }
    ~Lease() {
      machine_->end();
      pool_.put(std::move(machine_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Machine& operator*() const { return *machine_; }

   private:
    typename Machine::Turn turn_;
    Pool& pool_;
    std::unique_ptr<Machine> machine_;
  };

 private:
  explicit Pool(bool tf32) : tf32_(tf32) {}

  std::unique_ptr<Machine> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto machine = std::move(idle_.back());
        idle_.pop_back();
        return machine;
      }
    }
    return std::make_unique<Machine>(tf32_);
  }
  void put(std::unique_ptr<Machine> machine) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(machine));
  }

  bool tf32_;  // how products of floats are formed
  std::mutex mutex_;
  std::vector<std::unique_ptr<Machine>> idle_;
};

}  // namespace rnnfast::cuda
