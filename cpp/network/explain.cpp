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
  for (index layer = 0; layer < spec.layers; ++layer) {
    const Size size = spec.size(layer);
    const Sizes sizes = kernels<Real>(current(), spec).sizes(size);
    const bool waves = spec.directions == 1 && steps > 1;
    const Work work =
        work_of(spec, size, sizes, sizeof(Real), steps, rows, batch, tokens && layer == 0,
                static_cast<int>(spec.directions), waves ? spec.layers - layer : 1);
    all.push_back({work, machine, plan(work, machine),
                   expected_share(work, machine, most(batch), 1),
                   expected_share(work, machine, 1, most(work.panels))});
  }
  // Those that follow the first of a wave are run as it is.
  for (size_t first = 0; first < all.size(); first += all[first].plan.layers)
    for (int i = 1; i < all[first].plan.layers; ++i) {
      Plan& plan = all[first + i].plan;
      const bool input_first = plan.input_first;
      plan = all[first].plan;
      plan.input_first = input_first;
    }
  return all;
}

template std::vector<Explanation> explain<float>(const Spec&, index, index, index, bool, int);
template std::vector<Explanation> explain<double>(const Spec&, index, index, index, bool, int);

}  // namespace rnnfast
