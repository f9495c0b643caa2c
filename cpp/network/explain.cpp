// The plans of all layers, to be looked at.
#include <algorithm>

#include "layers.hpp"

namespace rnnfast {

template <class Real>
std::vector<Explanation> explain(const Spec& spec, index steps, index rows, index batch,
                                 bool tokens, int threads) {
  const Machine machine = this_machine(threads);
  const auto most = [&](index parts) { return static_cast<int>(std::min<index>(threads, parts)); };
  std::vector<Explanation> all;
  int following = 0;  // layers to come of the last plan
  for (index layer = 0; layer < spec.layers; ++layer) {
    const Size size = spec.size(layer);
    const Sizes sizes = kernels<Real>(current(), spec).sizes(size);
    const bool waves = spec.directions == 1 && steps > 1;
    const Work work = work_of(
        spec, size, sizes, sizeof(Real), steps, rows, batch, tokens && layer == 0,
        static_cast<int>(spec.directions),
        waves ? costs_of_followers(spec, layer, 1, tokens, threads) : std::vector<double>());
    const Plan own = following ? follow(all.back().plan, work, machine) : plan(work, machine);
    following = following ? following - 1 : own.layers - 1;
    all.push_back({work, machine, own, expected_share(work, machine, most(batch), 1),
                   expected_share(work, machine, 1, most(work.panels))});
  }
  return all;
}

template std::vector<Explanation> explain<float>(const Spec&, index, index, index, bool, int);
template std::vector<Explanation> explain<double>(const Spec&, index, index, index, bool, int);

}  // namespace rnnfast
