#include "plan.hpp"

#include <algorithm>
#include <numeric>

namespace rnnfast {
namespace {

// In floating-point operations of a thread, of which it does about 100 in a nanosecond.
constexpr double meeting = 10e3;          // for every member of a crew, at every phase
constexpr double distant_meeting = 30e3;  // where it sits behind another third-level cache
constexpr double waking = 500e3;          // of the workers, for a call
constexpr double calling = 30e3;          // the same where nobody waits for one that comes late
constexpr int claims_each = 4;            // of a thread: more of them balance better, and cost more

// Weights that a third-level cache delivers to every core as fast as sixteen rows use them.
constexpr index far_cache = 12 << 20;

// Rows that keep a thread busy while the weights of a step stream past. With fewer, crews that each
// stream all weights gain little over fewer and larger crews. With enough of them rows of its own
// are as fast, and nobody waits when another process takes a core.
index enough_rows(const Work& work, const Machine& machine) {
  if (work.weight_bytes <= machine.cache_bytes) return 8;
  return work.weight_bytes <= far_cache ? 16 : 64;
}

double largest_part(index n, int parts) {
  return static_cast<double>((n + parts - 1) / parts) / static_cast<double>(n);
}

// As few parts as leave the largest of them as large.
int fewest_parts(index n, int parts) {
  const index largest = (n + parts - 1) / parts;
  return static_cast<int>((n + largest - 1) / largest);
}

double total_flops(const Work& work) {
  return work.step_flops * static_cast<double>(work.rows) /
         static_cast<double>(std::max<index>(work.batch, 1));
}

// Nobody waits for a worker that comes late.
bool claimed(const Work& work) { return work.steps == 1 && work.phases == 1; }

double starting(const Work& work) { return claimed(work) ? calling : waking; }

Plan planned(const Work& work, const Machine& machine, index crews, int crew) {
  Plan p{};
  p.crews = fewest_parts(work.batch, static_cast<int>(std::min(crews, work.batch)));
  p.crew = fewest_parts(work.panels, crew);
  p.share = expected_share(work, machine, p.crews, p.crew);
  return p;
}

// For one direction.
Plan best_plan(const Work& work, const Machine& machine) {
  Plan best{};
  if (total_flops(work) <= starting(work)) return best;
  for (int crew = 1; crew <= std::min<index>(machine.threads, work.panels); ++crew) {
    const index crews = machine.threads / crew;
    const index filled = std::max<index>(work.batch / enough_rows(work, machine), 1);
    for (const index some : {crews, std::min(crews, filled)})
      // Smaller crews come first: they wait less.
      if (const Plan p = planned(work, machine, some, crew); p.share < best.share) best = p;
  }
  return best;
}

// Of the layers' own time, for so many at once, each by the crews of `own`: the most expensive one
// sets the pace, all wait for their leaders at every step, and the last begins when the others have
// had their lead. Where the caches of all threads hold the weights of a layer and those of its own
// do not, few rows wait for them.
double wave_share(const Work& work, const Machine& machine, const Plan& own, int layers) {
  const auto end = work.followers.begin() + layers - 1;
  const double all = std::accumulate(work.followers.begin(), end, 1.0),
               most = std::max(1.0, *std::max_element(work.followers.begin(), end));
  const index lead = work.batch == 1 ? wave_block : 1;
  const double delay = static_cast<double>((layers - 1) * lead) / static_cast<double>(work.steps);
  double share = own.share + meeting / work.step_flops + waking / total_flops(work);
  if (work.batch < enough_rows(work, machine) &&
      work.weight_bytes > machine.cache_bytes * own.crew &&
      work.weight_bytes <= machine.cache_bytes * machine.threads)
    share *= 1.2;
  return share * (1 + delay) * most / all;
}

// What the layer's own weights and input decide.
void complete(Plan& plan, const Work& work, const Machine& machine) {
  // One row makes every weight serve a single multiply-add a step: better to read the input
  // weights once for many steps. This decides about rounding, so that threads have no say in it.
  plan.input_first = work.batch == 1 && work.steps > 1 && !work.tokens;
  plan.prefetch = work.weight_bytes > machine.cache_bytes * plan.crew;
}

}  // namespace

double expected_share(const Work& work, const Machine& machine, int crews, int crew) {
  if (crews * crew == 1) return 1;
  double share = largest_part(work.batch, crews) * largest_part(work.panels, crew);
  if (crews > 1) {
    // Rows of unequal length leave the owners of the short ones idle.
    if (work.ragged) share *= 1.5;
    if (work.batch < enough_rows(work, machine) * crews) share *= 1.2;
  }
  const int near = std::min(crew, machine.neighbours);
  const double meetings = crew > 1 ? near * meeting + (crew - near) * distant_meeting : 0;
  return share + work.phases * meetings / work.step_flops + starting(work) / total_flops(work);
}

Plan plan(const Work& work, const Machine& machine) {
  Plan best = best_plan(work, machine);
  if (work.directions == 2 && machine.threads > 1) {
    Machine half = machine;
    half.threads = machine.threads / 2;
    Plan each = best_plan(work, half);
    each.share = (each.share + waking / total_flops(work)) / 2;
    each.together = true;
    if (each.share < best.share) best = each;
  }
  const auto most = static_cast<index>(work.followers.size()) + 1;
  for (int layers = 2; layers <= std::min<index>(machine.threads, most); ++layers) {
    Machine part = machine;
    part.threads = machine.threads / layers;
    Plan each = best_plan(work, part);
    each.share = wave_share(work, machine, each, layers);
    each.layers = layers;
    if (each.share < best.share) best = each;
  }
  if (claimed(work) && !best.together && best.threads() > 1) {
    best.claims = static_cast<int>(std::min<index>(best.crew * claims_each, work.panels));
    best.wake = total_flops(work) > 2 * waking;
  }
  complete(best, work, machine);
  return best;
}

Plan follow(const Plan& first, const Work& work, const Machine& machine) {
  Plan plan = first;
  complete(plan, work, machine);
  return plan;
}

}  // namespace rnnfast
