#include "wave.hpp"

#include <algorithm>
#include <utility>

namespace rnnfast {

Follower::Follower(const Wave& wave, int layer, const Worker& real, const Pace& pace,
                   std::function<void(index, index)> prepare)
    : real_(real),
      pace_(pace),
      own_(wave.meetings(layer, real.own_crew())),
      leader_(layer ? &wave.meetings(layer - 1, real.own_crew()) : nullptr),
      prepare_(std::move(prepare)) {}

bool Follower::finish(void* self, int) {
  auto& me = *static_cast<Follower*>(self);
  if (!me.real_.finish_step()) return false;
  ++me.met_;
  if (me.real_.place() == 0) me.own_.store(me.met_, std::memory_order_release);
  return me.ready();
}

bool Follower::ready() {
  const index step = met_ / pace_.phases;
  if (met_ % pace_.phases || step % pace_.block || step == pace_.steps) return true;
  const index end = std::min(step + pace_.block, pace_.steps);
  const index needed = std::min(end - 1 + pace_.ahead, pace_.steps) * pace_.phases;
  if (leader_ && !await(*leader_, needed, real_)) return false;
  if (!prepare_) return true;
  prepare_(step, end);
  return real_.finish_step();
}

}  // namespace rnnfast
