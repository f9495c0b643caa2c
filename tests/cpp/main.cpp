// Runs every test whose name begins with the argument, all without one.
#include <cstdio>
#include <exception>

#include "check.hpp"

namespace rnnfast::test {
namespace {

int failures = 0;

}  // namespace

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  ++failures;
}

static int run(const std::string& prefix) {
  int run = 0, failed = 0;
  for (const Test& test : tests()) {
    if (test.name.rfind(prefix, 0) != 0) continue;
    const int before = failures;
    try {
      test.body();
    } catch (const std::exception& error) {
      fail("", 0, std::string("unexpected exception: ") + error.what());
    }
    failed += failures > before;
    ++run;
    std::printf("%s %s\n", failures > before ? "FAILED" : "ok    ", test.name.c_str());
    std::fflush(stdout);
  }
  std::printf("%d of %d tests failed\n", failed, run);
  return failed || !run;
}

}  // namespace rnnfast::test

int main(int argc, char** argv) { return rnnfast::test::run(argc > 1 ? argv[1] : ""); }
