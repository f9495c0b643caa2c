// Layers that follow each other: nobody reads a step before it is written, whatever the phases, the
// lead and the steps that are prepared together.
#include "../../cpp/network/wave.hpp"

#include <vector>

#include "check.hpp"

namespace rnnfast {
namespace {

bool never() { return false; }
bool always() { return true; }

constexpr int layers = 3, crews = 2, crew = 2;

// What each member of each crew wrote at each step; plain memory, for the thread sanitizer.
struct Written {
  index steps;
  std::vector<index> values;

  explicit Written(index steps) : steps(steps), values(layers * crews * crew * steps) {}
  index& at(int layer, const Worker& me, int member, index step) {
    return values[((layer * crews + me.own_crew()) * crew + member) * steps + step];
  }
};

// A kernel's loop: `late` steps pass from a visit to what it writes.
bool visit_steps(Written& written, int layer, const Worker& me, const Pace& pace, index late) {
  const auto whole_crew = [&](int l, index step, index value) {
    for (int member = 0; member < crew; ++member)
      if (written.at(l, me, member, step) != value) return false;
    return true;
  };
  bool right = true;
  for (index visit = 0; visit < pace.steps; ++visit) {
    if (layer && visit < written.steps) right &= whole_crew(layer - 1, visit, visit + layer);
    if (visit >= late) written.at(layer, me, me.place(), visit - late) = visit - late + layer + 1;
    for (index phase = 0; phase < pace.phases; ++phase)
      if (!me.finish_step()) return right;
    if (visit >= late) right &= whole_crew(layer, visit - late, visit - late + layer + 1);
  }
  return right;
}

TEST(wave_reads_what_has_been_written) {
  for (index steps : {1, 2, 40})
    for (index phases : {1, 2})
      for (index late : {0, 1}) {
        Written written(steps);
        const Wave wave(layers, crews);
        std::atomic<int> wrong{0};
        Lease lease(layers * crews * crew, never);
        lease.run(layers * crews, crew, [&](const Worker& me) {
          const int layer = me.index / (crews * crew);
          const Pace pace{steps + late, phases, late + 1};
          Follower follower(wave, layer, me.within(crews * crew), pace);
          wrong += !follower.begin() || !visit_steps(written, layer, follower.worker(), pace, late);
        });
        CHECK(wrong == 0);
      }
}

// What a block prepares reads all steps of it below, and all of the crew are done before any goes
// on.
TEST(wave_prepares_steps_together) {
  constexpr index steps = 37, block = 5;
  Written written(steps), prepared(steps);
  const Wave wave(layers, crews);
  std::atomic<int> wrong{0};
  Lease lease(layers * crews * crew, never);
  lease.run(layers * crews, crew, [&](const Worker& all) {
    const int layer = all.index / (crews * crew);
    const Worker me = all.within(crews * crew);
    const Pace pace{steps, 1, 1, block};
    Follower follower(wave, layer, me, pace, [&](index begin, index end) {
      wrong += begin % block != 0 || end != std::min(begin + block, steps);
      for (index step = begin; step < end; ++step) {
        for (int member = 0; layer && member < crew; ++member)
          wrong += written.at(layer - 1, me, member, step) != step + layer;
        prepared.at(layer, me, me.place(), step) = step + 1;
      }
    });
    bool going = follower.begin();
    for (index step = 0; going && step < steps; ++step) {
      for (int member = 0; member < crew; ++member)
        wrong += prepared.at(layer, me, member, step) != step + 1;
      written.at(layer, me, me.place(), step) = step + layer + 1;
      going = follower.worker().finish_step();
    }
    wrong += !going;
  });
  CHECK(wrong == 0);
}

TEST(wave_stops_when_told) {
  const Wave wave(layers, crews);
  Lease lease(layers * crews * crew, always);
  CHECK_THROWS(lease.run(layers * crews, crew,
                         [&](const Worker& me) {
                           const int layer = me.index / (crews * crew);
                           Follower follower(wave, layer, me.within(crews * crew),
                                             {index{1} << 40, 1, 1});
                           if (!follower.begin()) return;
                           while (follower.worker().finish_step()) {
                           }
                         }),
               Interrupted);
}

}  // namespace
}  // namespace rnnfast
