// Which persistent kernel computes a layer, if one can.
#pragma once

#include <cstdlib>
#include <limits>
#include <string_view>
#include <type_traits>

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
bool visit_first(Machine& machine, index hidden, index batch, Visit& visit) {
  Kernel<First> kernel{};
  kernel.blocks = static_cast<int>((hidden + First::units - 1) / First::units);
  const index clusters = machine.most_clusters(kernel);
  if (!clusters) return false;
  if constexpr ((has_room<Kernel<Others>> || ...))
    if (clusters * First::columns < batch &&
        visit_first<Kernel, Others...>(machine, hidden, batch, visit))
      return true;
  kernel.slice = slice_of(batch, clusters, First::columns);
  visit(kernel);
  return true;
}

template <template <class> class Kernel, class Cell, class Operand, class Machine, class Visit>
bool visit_persistent(Machine& machine, index hidden, index batch, Visit visit) {
  if (hidden <= 0 || batch * 4 > std::numeric_limits<int>::max() / hidden) return false;
  if (hidden <= 128)
    return visit_first<Kernel, Geometry<Cell, Operand, 4, 1>>(machine, hidden, batch, visit);
  if (hidden <= 256)
    return visit_first<Kernel, Geometry<Cell, Operand, 8, 1>, Geometry<Cell, Operand, 8, 2>>(
        machine, hidden, batch, visit);
  if (hidden <= 512)
    return visit_first<Kernel, Geometry<Cell, Operand, 16, 1>, Geometry<Cell, Operand, 16, 2>,
                       Geometry<Cell, Operand, 16, 4>>(machine, hidden, batch, visit);
  return false;
}

}  // namespace rnnfast::cuda
