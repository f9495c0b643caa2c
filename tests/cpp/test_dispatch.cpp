// The choice of an instruction set is a pure function of what there is and what is wanted.
#include <stdexcept>

#include "../../cpp/dispatch/cpu.hpp"
#include "../../cpp/dispatch/dispatch.hpp"
#include "check.hpp"

namespace rnnfast {
namespace {

TEST(dispatch_chooses_the_best_without_a_wish) {
  CHECK(choose({"worst"}, "") == 0);
  CHECK(choose({"worst", "better"}, "") == 1);
  CHECK(choose({"worst", "better", "best"}, "") == 2);
}

TEST(dispatch_follows_a_wish) {
  const std::vector<std::string> names{"worst", "better", "best"};
  for (size_t i = 0; i < names.size(); ++i) CHECK(choose(names, names[i]) == i);
}

TEST(dispatch_refuses_an_unknown_name_and_tells_the_known) {
  for (const char* wrong : {"bes", "best ", "Best", "worst, better", " "}) {
    try {
      choose({"worst", "best"}, wrong);
      CHECK(false);
    } catch (const std::invalid_argument& error) {
      const std::string text = error.what();
      CHECK(text.find("'" + std::string(wrong) + "'") != std::string::npos);
      CHECK(text.find("worst, best") != std::string::npos);
    }
  }
}

TEST(dispatch_refuses_a_build_that_has_nothing_for_the_processor) {
  CHECK_THROWS(choose({}, ""), std::invalid_argument);
  CHECK_THROWS(choose({}, "best"), std::invalid_argument);
}

TEST(dispatch_offers_only_what_the_processor_can_do) {
  const auto& sets = instruction_sets();
  CHECK(!sets.empty());
  for (const InstructionSet& set : sets) {
    CHECK(cpu_supports(set.name));
    CHECK(set.f32 && set.f64 && set.bf16 && set.i8);
    use(set.name);
    CHECK(&current() == &set);
    CHECK(&table<float>(current()) == set.f32 && &table<double>(current()) == set.f64);
    CHECK(&table<float>(current(), Compute::bfloat16) == set.bf16);
    CHECK(&table<float>(current(), Compute::int8) == set.i8);
  }
  CHECK(!cpu_supports("no such set"));
  use("");
  CHECK(&current() == &sets.back());
}

}  // namespace
}  // namespace rnnfast
