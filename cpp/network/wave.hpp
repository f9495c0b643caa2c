// Layers at work at once: the crew of each follows, step by step, that of the layer it reads from.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "../threads/team.hpp"

namespace rnnfast {

// How far the crews of all layers have come.
class Wave {
 public:
  Wave(int layers, int crews)
      : crews_(crews), progress_(std::make_unique<Progress[]>(layers * crews)) {}

  // Meetings that crew `crew` of layer number `layer` has had.
  std::atomic<index>& meetings(int layer, int crew) const {
    return progress_[layer * crews_ + crew].meetings;
  }

 private:
  struct alignas(128) Progress {
    std::atomic<index> meetings{0};
  };
  int crews_;
  std::unique_ptr<Progress[]> progress_;
};

// The steps of a kernel as its crew's leader and followers count them.
struct Pace {
  index steps;      // visits of the kernel's loop
  index phases;     // meetings of a step
  index ahead;      // steps that the leader has to have finished beyond those before
  index block = 1;  // steps that are prepared together
};

// A thread of one layer's crew. Kernels run on `worker`, between whose steps it waits for the
// leader; what it prepares is done when all of its crew are back.
class Follower {
 public:
  // `real`: among the threads of its layer.
  Follower(const Wave& wave, int layer, const Worker& real, const Pace& pace,
           std::function<void(index begin, index end)> prepare = {});
  Follower(const Follower&) = delete;

  // Before the first step; false: stop.
  bool begin() { return ready(); }
  Worker worker() { return {real_.index, real_.count, real_.crew, 0, this, finish, finish}; }

 private:
  static bool finish(void* self, int);
  bool ready();

  Worker real_;
  Pace pace_;
  std::atomic<index>& own_;
  const std::atomic<index>* leader_;  // null: none
  std::function<void(index, index)> prepare_;
  index met_ = 0;
};

}  // namespace rnnfast
