// Which persistent kernel computes a layer, if one can.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../machine.hpp"
#include "backward.hpp"
#include "forward.hpp"

namespace rnnfast::cuda::persistent {

// Whether the user asked for them: they have never run on a GPU yet.
inline bool wanted() {
  const char* given = std::getenv("RNNFAST_CUDA_PERSISTENT");
  const std::string_view value = given ? given : "0";
  if (value != "0" && value != "1")
    throw std::invalid_argument("RNNFAST_CUDA_PERSISTENT is " + std::string(value) +
                                ", expected 0 or 1");
  return value == "1";
}

// Cells whose step is one product with the state.
template <class Cell, bool projected>
inline constexpr bool suits = !projected && !Cell::splits;

// What a layer's steps compute.
struct Size {
  int directions;
  index hidden, steps, batch;
};

// In fewer steps, laying out the weights takes longer than what is gained.
inline constexpr index fewest_steps = 4;

inline bool in_range(const Size& size) {
  constexpr index most = std::numeric_limits<int>::max();
  return size.steps >= fewest_steps && size.steps <= most &&
         size.batch <= most / (4 * size.hidden);  // as Thread::Address has it
}

// The batch in slices for as many clusters as run at once; where it is larger than what they hold,
// the slices of one cluster follow each other.
inline index slice_of(index batch, index clusters, index columns) {
  const index slices = clusters * columns < batch ? (batch + columns - 1) / columns : clusters;
  return (batch + slices - 1) / slices;
}

// Shared memory enough, and registers beside the weights' 128: a cell takes some ten of them, and
// twice the operands of products are live where they have two halves.
template <class Kernel, class G = typename Kernel::Geometry>
inline constexpr bool has_room = (G::tiles == 1 || G::cells * G::halves < 8) &&
                                 sizeof(typename Kernel::Shared) <= size_t{227} << 10;

// Tries geometries, of fewer sequences first, and calls visit(kernel) with one that has the units
// and, if any has, the batch; false where the machine has none of them.
template <template <class> class Kernel, class First, class... Others, class Machine, class Visit>
bool visit_first(Machine& machine, const Size& size, Visit& visit) {
  Kernel<First> kernel{};
  kernel.directions = size.directions;
  kernel.blocks = static_cast<int>((size.hidden + First::units - 1) / First::units);
  const index most = machine.most_clusters(kernel);
  if (!most) return false;
  const index clusters = std::max(most / size.directions, index{1});
  if constexpr ((has_room<Kernel<Others>> || ...))
    if (clusters * First::columns < size.batch &&
        visit_first<Kernel, Others...>(machine, size, visit))
      return true;
  kernel.slice = slice_of(size.batch, clusters, First::columns);
  visit(kernel);
  return true;
}

template <template <class> class Kernel, class Cell, class Operand, class Machine, class Visit>
bool visit_kernel(Machine& machine, const Size& size, Visit visit) {
  if (!in_range(size)) return false;
  if (size.hidden <= 128)
    return visit_first<Kernel, Geometry<Cell, Operand, 4, 1>>(machine, size, visit);
  if (size.hidden <= 256)
    return visit_first<Kernel, Geometry<Cell, Operand, 8, 1>, Geometry<Cell, Operand, 8, 2>>(
        machine, size, visit);
  if (size.hidden <= 512)
    return visit_first<Kernel, Geometry<Cell, Operand, 16, 1>, Geometry<Cell, Operand, 16, 2>,
                       Geometry<Cell, Operand, 16, 4>>(machine, size, visit);
  return false;
}

// Runs the directions of a layer by the kernel that visit_kernel finds.
template <template <class> class Kernel, class Cell, class Operand, class Machine, class Side>
void run(Machine& machine, const Size& size, const std::vector<Side>& sides) {
  visit_kernel<Kernel, Cell, Operand>(machine, size, [&](auto& kernel) {
    using Pack = typename std::remove_reference_t<decltype(kernel)>::Pack;
    Buffer<Words> packed[2];
    for (size_t d = 0; d < sides.size(); ++d) {
      packed[d] = machine.template make<Words>(Pack::count(kernel.blocks));
      machine.run(Pack{size.hidden, kernel.blocks, sides[d].w_hh, packed[d].data()});
      kernel.sides[d] = sides[d];
      kernel.weights[d] = packed[d].data();
    }
    machine.run_clusters(kernel);
  });
}

}  // namespace rnnfast::cuda::persistent
