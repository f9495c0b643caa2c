// The plan of a layer, to be looked at.
#include <algorithm>

#include "layers.hpp"

namespace rnnfast {

template <class Real>
Explanation explain(const Spec& spec, index layer, index steps, index rows, index batch,
                    bool tokens, int threads) {
  const Size size = spec.size(layer);
  const Sizes sizes = kernels<Real>(current(), spec).sizes(size);
  const Work work = work_of(spec, size, sizes, sizeof(Real), steps, rows, batch,
                            tokens && layer == 0, static_cast<int>(spec.directions));
  const Machine machine = this_machine(threads);
  const auto most = [&](index parts) { return static_cast<int>(std::min<index>(threads, parts)); };
  return {work, machine, plan(work, machine), expected_share(work, machine, most(batch), 1),
          expected_share(work, machine, 1, most(work.panels))};
}

template Explanation explain<float>(const Spec&, index, index, index, index, bool, int);
template Explanation explain<double>(const Spec&, index, index, index, index, bool, int);

}  // namespace rnnfast
