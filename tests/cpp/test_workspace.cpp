// Buffers: aligned, apart from each other, and refused where no memory could hold them.
#include "../../cpp/network/workspace.hpp"

#include <cstring>
#include <limits>
#include <thread>

#include "check.hpp"

namespace rnnfast {
namespace {

using test::integer;

void use_and_check(uint64_t seed) {
  test::Random random(seed);
  std::vector<Buffer<unsigned char>> held;
  std::vector<unsigned char> marks;
  for (int i = 0; i < 400; ++i) {
    if (held.size() < 12 && integer(random, 0, 2)) {
      const auto size = integer(random, 1, integer(random, 0, 9) ? 5000 : 3000000);
      const auto mark = static_cast<unsigned char>(integer(random, 0, 255));
      held.emplace_back(size);
      marks.push_back(mark);
      CHECK(reinterpret_cast<uintptr_t>(held.back().data()) % 64 == 0);
      std::memset(held.back().data(), mark, size);
    } else if (!held.empty()) {
      const auto& buffer = held.back();
      for (ptrdiff_t j = 0; j < buffer.size(); j += 97) CHECK(buffer.data()[j] == marks.back());
      CHECK(buffer.data()[buffer.size() - 1] == marks.back());
      held.pop_back();
      marks.pop_back();
    }
  }
}

TEST(workspace_buffers_are_apart) { use_and_check(4); }

TEST(workspace_serves_several_threads) {
  std::vector<std::thread> threads;
  for (uint64_t seed = 5; seed < 9; ++seed) threads.emplace_back(use_and_check, seed);
  for (auto& thread : threads) thread.join();
}

TEST(workspace_refuses_what_cannot_be) {
  constexpr ptrdiff_t most = std::numeric_limits<ptrdiff_t>::max();
  CHECK_THROWS(Buffer<double>(most), std::bad_alloc);
  CHECK_THROWS(Buffer<double>(-1), std::bad_alloc);
  CHECK_THROWS(Buffer<char>(most), std::bad_alloc);
  CHECK_THROWS(buffer<float>(most, 2), std::bad_alloc);
  CHECK_THROWS(buffer<float>(ptrdiff_t{1} << 40, ptrdiff_t{1} << 40), std::bad_alloc);
  use_and_check(9);
}

TEST(workspace_takes_the_tightest_block_that_was_used_last) {
  constexpr ptrdiff_t size = 9 << 20;
  char *first, *second, *larger;
  {
    const Buffer<char> a(size + 64), b(size), c(size);
    larger = a.data();
    second = b.data();
    first = c.data();  // freed before b and a
  }
  const Buffer<char> a(size), b(size), c(size);
  CHECK(a.data() == second && b.data() == first && c.data() == larger);
}

TEST(workspace_moves_ownership) {
  Buffer<int> a(10), b;
  int* const data = a.data();
  b = std::move(a);
  CHECK(b.data() == data && b.size() == 10);
  int* const released = b.release();
  CHECK(released == data && b.data() == nullptr);
  release_block(released);
}

}  // namespace
}  // namespace rnnfast
