// Who does what: how many threads a layer gets and how they share it.
#pragma once

#include "../contract.hpp"

namespace rnnfast {

struct Plan {
  int threads;
  bool split_units;  // own units and one barrier a step; else own rows and none
  bool input_first;  // the input product of all steps before the time loop
  bool prefetch;     // the weights that a thread reads every step exceed its second-level cache
};

struct Work {
  index steps;
  index rows;         // N
  index batch;        // widest step
  bool ragged;        // steps of different width
  double step_flops;  // of a forward step of full width
  index panels;       // shares of units there are
  index weight_bytes;
  bool tokens;
  index cache_bytes;  // the second level's, of a core
};

// A pure function of the shape and the number of threads on offer.
Plan plan(const Work& work, int threads);

}  // namespace rnnfast
