// Which instruction set's kernels serve: the best that this machine has, or what RNNFAST_ISA names
// of them, chosen at import.
#pragma once

#include <string>
#include <vector>

#include "../contract.hpp"

namespace rnnfast {

struct InstructionSet {
  std::string name;
  const KernelTable<float>* f32;
  const KernelTable<double>* f64;
  const KernelTable<float>* bf16;
  const KernelTable<float>* i8;
};

// Compiled in and supported by this machine, best last.
const std::vector<InstructionSet>& instruction_sets();

// The best of `names` (best last), or the one that `wanted` names; empty means no wish.
// Throws std::invalid_argument for a name that is not there, or where there is none.
size_t choose(const std::vector<std::string>& names, const std::string& wanted);

const InstructionSet& current();
// Takes another one while the process runs, to test or measure it; empty: the best. Calls that have
// begun go on with theirs.
void use(const std::string& name);

// The kernels for products of the given precision.
template <class Real>
const KernelTable<Real>& table(const InstructionSet& set, Compute compute = Compute::native);
template <>
inline const KernelTable<float>& table(const InstructionSet& set, Compute compute) {
  switch (compute) {
    case Compute::bfloat16: return *set.bf16;
    case Compute::int8: return *set.i8;
    default: return *set.f32;
  }
}
template <>
inline const KernelTable<double>& table(const InstructionSet& set, Compute) {
  return *set.f64;
}

}  // namespace rnnfast
