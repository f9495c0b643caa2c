// Runs packing.cpp as compiled for every instruction set that this processor has.
#include "../../cpp/dispatch/cpu.hpp"
#include "check.hpp"
#include "instruction_sets.hpp"

#define RNNFAST_DECLARE(name, ...) \
  namespace rnnfast::name {        \
  const char* check_packing();     \
  }
RNNFAST_INSTRUCTION_SETS(RNNFAST_DECLARE)
#undef RNNFAST_DECLARE

namespace rnnfast {
namespace {

void check_set(const std::string& name, const char* (*check)()) {
  if (!cpu_supports(name)) return;
  if (const char* what = check()) test::fail(__FILE__, __LINE__, name + ": " + what);
}

TEST(packing_agrees_with_plain_loops) {
#define RNNFAST_CHECK(name, ...) check_set(#name, name::check_packing);
  RNNFAST_INSTRUCTION_SETS(RNNFAST_CHECK)
#undef RNNFAST_CHECK
}

}  // namespace
}  // namespace rnnfast
