// Who does what: how many threads a layer gets and how they share it.
#pragma once

#include <vector>

#include "../contract.hpp"

namespace rnnfast {

// Steps whose input product a layer forms at once where it follows another one.
inline constexpr index wave_block = 16;

struct Work {
  index steps;
  index rows;         // N
  index batch;        // widest step
  bool ragged;        // steps of different width
  double step_flops;  // of a forward step of full width
  index panels;       // shares of units there are
  index weight_bytes;
  bool tokens;
  int phases = 1;      // of a step, after each of which a crew meets
  int directions = 1;  // that may be processed at once
  // What layers take that may be processed at once with this one, of which each reads from the one
  // before: relative to this one's own time, in their order.
  std::vector<double> followers = {};
};

struct Machine {
  int threads;        // on offer
  index cache_bytes;  // the second level's, of a core
  int neighbours;     // cores that share a third level
};

struct Plan {
  int crews = 1;     // each owns rows and waits for no other
  int crew = 1;      // threads of one: each owns units and meets the others after every phase
  bool input_first;  // the input product of many steps before the first of them
  bool prefetch;     // the weights that a thread reads every step exceed its second-level cache
  bool together = false;  // both directions at once, each by such crews; else one after the other
  int layers =
      1;  // at once, each by such crews, each as far behind the one it reads from as it must
  // A single step after which nobody meets: how many shares of its units, of each crew's rows, the
  // threads claim one by one, so that none waits for another that has lost its core; else none.
  int claims = 0;
  bool wake = true;  // where there are claims: worth waking the workers
  double share = 1;  // of a single thread's time that the layer is expected to take

  int threads() const { return crews * crew; }  // of a direction
  int shares() const { return claims ? crews * claims : threads(); }
};

// What a layer would take with these crews, as a share of a single thread's time. Estimates are for
// comparing plans: they know the ratio of arithmetic to waiting, not the machine's speed.
double expected_share(const Work& work, const Machine& machine, int crews, int crew);

// A pure function of the shape and the machine.
Plan plan(const Work& work, const Machine& machine);

// The plan of a layer that follows another one in what `first` has planned.
Plan follow(const Plan& first, const Work& work, const Machine& machine);

}  // namespace rnnfast
