#include "plan.hpp"

#include <algorithm>

namespace rnnfast {
namespace {

// Below this a step is over before a second thread could help: a barrier takes about 0.1 µs.
constexpr double worth_meeting = 60e3;
// Below this a whole layer is not worth waking anyone.
constexpr double worth_waking = 1e6;

// Weights that a third-level cache delivers to every core as fast as sixteen rows use them.
constexpr index far_cache = 12 << 20;

// The busiest thread's share of n indivisible parts, relative to an even one.
double imbalance(index n, int threads) {
  const index most = (n + threads - 1) / threads;
  return static_cast<double>(most) * threads / static_cast<double>(n);
}

}  // namespace

Plan plan(const Work& work, int threads) {
  const double total = work.step_flops * static_cast<double>(work.rows) /
                       static_cast<double>(std::max<index>(work.batch, 1));
  // One row makes every weight serve a single multiply-add a step: better to read the input
  // weights once for many steps.
  const bool input_first = work.batch == 1 && work.steps > 1 && !work.tokens;
  const bool exceeds = work.weight_bytes > work.cache_bytes;
  if (threads == 1 || total < worth_waking) return {1, false, input_first, exceeds};

  const int by_units = static_cast<int>(std::min<index>(threads, work.panels));
  const int by_rows = static_cast<int>(std::min<index>(threads, work.batch));
  const double units_time =
      work.step_flops < worth_meeting ? 1e30 : imbalance(work.panels, by_units) / by_units;
  // Rows of unequal length leave the owner of the short ones idle.
  const double rows_time = (work.ragged ? 1.5 : 1.0) * imbalance(work.batch, by_rows) / by_rows;
  // With few rows each, threads that own rows would all stream the same weights for little work.
  // With enough of them owning rows is as fast, and nobody waits when another process takes a core.
  const index enough = !exceeds ? 8 : work.weight_bytes <= far_cache ? 16 : 64;
  const bool split_units = units_time < rows_time * (work.batch < enough * threads ? 1.2 : 1.0);
  if (std::min(units_time, rows_time) >= 1) return {1, false, input_first, exceeds};
  return {split_units ? by_units : by_rows, split_units, input_first,
          work.weight_bytes > work.cache_bytes * (split_units ? by_units : 1)};
}

}  // namespace rnnfast
