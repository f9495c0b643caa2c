#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu.hpp"
#include "instruction_sets.hpp"

#define RNNFAST_DECLARE(name, f32, f64, bf16, i8) \
  namespace rnnfast::f32 {                        \
  extern const KernelTable<float> table_float;    \
  }                                               \
  namespace rnnfast::f64 {                        \
  extern const KernelTable<double> table_double;  \
  }                                               \
  namespace rnnfast::bf16 {                       \
  extern const KernelTable<float> table_bfloat16; \
  }                                               \
  namespace rnnfast::i8 {                         \
  extern const KernelTable<float> table_int8;     \
  }
RNNFAST_INSTRUCTION_SETS(RNNFAST_DECLARE)
#undef RNNFAST_DECLARE

namespace rnnfast {
namespace {

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& set : instruction_sets()) all.push_back(set.name);
  return all;
}

std::atomic<const InstructionSet*> chosen{nullptr};

}  // namespace

const std::vector<InstructionSet>& instruction_sets() {
  // Never destroyed: threads may outlive static objects.
  static const auto* const sets = [] {
    std::vector<InstructionSet> found;
#define RNNFAST_ADD(name, f32, f64, bf16, i8) \
  if (cpu_supports(#name))                    \
    found.push_back(                          \
        {#name, &f32::table_float, &f64::table_double, &bf16::table_bfloat16, &i8::table_int8});
    RNNFAST_INSTRUCTION_SETS(RNNFAST_ADD)
#undef RNNFAST_ADD
    return new std::vector(std::move(found));
  }();
  return *sets;
}

size_t choose(const std::vector<std::string>& names, const std::string& wanted) {
  if (names.empty())
    throw std::invalid_argument("this build has no kernels that the processor can run");
  if (wanted.empty()) return names.size() - 1;
  std::string known;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == wanted) return i;
    known.append(i ? ", " : "").append(names[i]);
  }
  throw std::invalid_argument("RNNFAST_ISA is '" + wanted + "', expected one of " + known);
}

const InstructionSet& current() {
  const InstructionSet* set = chosen;
  if (!set) {
    const char* wanted = std::getenv("RNNFAST_ISA");
    use(wanted ? wanted : "");
    set = chosen;
  }
  return *set;
}

void use(const std::string& name) { chosen = &instruction_sets()[choose(names(), name)]; }

}  // namespace rnnfast
