// A test program in a page: TEST defines a test, CHECK fails it. Random numbers are the same in
// every run.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace rnnfast::test {

struct Test {
  std::string name;
  std::function<void()> body;
};

std::vector<Test>& tests();

// Counts the failure and prints it; the test goes on.
void fail(const char* file, int line, const std::string& what);

struct Registration {
  Registration(const char* name, std::function<void()> body) {
    tests().push_back({name, std::move(body)});
  }
};

using Random = std::mt19937_64;

inline int64_t integer(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

template <class Real>
std::vector<Real> normal(Random& random, int64_t count, double scale = 1) {
  std::vector<Real> values(count);
  std::normal_distribution<double> distribution(0, scale);
  for (Real& v : values) v = static_cast<Real>(distribution(random));
  return values;
}

}  // namespace rnnfast::test

#define CHECK(condition) \
  ((condition) ? void() : rnnfast::test::fail(__FILE__, __LINE__, #condition))

#define CHECK_THROWS(expression, Exception)                                          \
  do {                                                                               \
    bool thrown = false;                                                             \
    try {                                                                            \
      (void)(expression);                                                            \
    } catch (const Exception&) {                                                     \
      thrown = true;                                                                 \
    }                                                                                \
    if (!thrown) rnnfast::test::fail(__FILE__, __LINE__, #expression " must throw"); \
  } while (false)

#define TEST(name)                                                       \
  static void name();                                                    \
  static const rnnfast::test::Registration register_##name(#name, name); \
  static void name()
