// Which persistent kernel computes a layer, if one can.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../machine.hpp"
#include "backward.hpp"

namespace rnnfast::cuda {

// Whether the user asked for them: they have never run on a GPU yet.
inline bool persistent_wanted() {
  const char* wanted = std::getenv("RNNFAST_CUDA_PERSISTENT");
  return wanted && std::string_view(wanted) == "1";
}

// Cells whose step is one product with the state.
template <class Cell, bool projected>
inline constexpr bool may_persist = !projected && !Cell::splits;

// What a layer's steps compute.
struct Batches {
  int directions;
  index hidden, batch;
};

// The batch in slices for as many clusters as run at once; where it is larger than what they hold,
// the slices of one cluster follow each other.
inline index slice_of(index batch, index clusters, index columns) {
  const index slices = clusters * columns < batch ? (batch + columns - 1) / columns : clusters;
  return (batch + slices - 1) / slices;
}

// Enough registers beside the weights, and shared memory.
template <class Kernel, class G = typename Kernel::Geometry>
inline constexpr bool has_room = (G::tiles == 1 || G::cells * G::halves < 8) &&
                                 sizeof(typename Kernel::Shared) <= size_t{227} << 10;

// Tries geometries, of fewer sequences first, and calls visit(kernel) with one that has the units
// and, if any has, the batch; false where the machine has none of them.
template <template <class> class Kernel, class First, class... Others, class Machine, class Visit>
bool visit_first(Machine& machine, const Batches& all, Visit& visit) {
  Kernel<First> kernel{};
  kernel.directions = all.directions;
  kernel.blocks = static_cast<int>((all.hidden + First::units - 1) / First::units);
  const index most = machine.most_clusters(kernel);
  if (!most) return false;
  const index clusters = std::max(most / all.directions, index{1});
  if constexpr ((has_room<Kernel<Others>> || ...))
    if (clusters * First::columns < all.batch &&
        visit_first<Kernel, Others...>(machine, all, visit))
      return true;
  kernel.slice = slice_of(all.batch, clusters, First::columns);
  visit(kernel);
  return true;
}

template <template <class> class Kernel, class Cell, class Operand, class Machine, class Visit>
bool visit_persistent(Machine& machine, const Batches& all, Visit visit) {
  if (all.batch * 4 > std::numeric_limits<int>::max() / all.hidden) return false;
  if (all.hidden <= 128)
    return visit_first<Kernel, Geometry<Cell, Operand, 4, 1>>(machine, all, visit);
  if (all.hidden <= 256)
    return visit_first<Kernel, Geometry<Cell, Operand, 8, 1>, Geometry<Cell, Operand, 8, 2>>(
        machine, all, visit);
  if (all.hidden <= 512)
    return visit_first<Kernel, Geometry<Cell, Operand, 16, 1>, Geometry<Cell, Operand, 16, 2>,
                       Geometry<Cell, Operand, 16, 4>>(machine, all, visit);
  return false;
}

// Runs the directions of a layer by one kernel; false where there is none for them.
template <template <class> class Kernel, class Cell, class Operand, class Machine, class Side>
bool run_persistent(Machine& machine, const Batches& all, const std::vector<Side>& sides) {
  return visit_persistent<Kernel, Cell, Operand>(machine, all, [&](auto& kernel) {
    using Pack = typename std::remove_reference_t<decltype(kernel)>::Pack;
    Buffer<Eight> packed[2];
    for (size_t d = 0; d < sides.size(); ++d) {
      packed[d] = machine.template make<Eight>(Pack::count(kernel.blocks));
      machine.run(Pack{all.hidden, kernel.blocks, sides[d].w_hh, packed[d].data()});
      kernel.sides[d] = sides[d];
      kernel.weights[d] = packed[d].data();
    }
    machine.run_clusters(kernel);
  });
}

}  // namespace rnnfast::cuda
