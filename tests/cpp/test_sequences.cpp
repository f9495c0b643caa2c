// Lengths and resets against a model that walks through every sequence step by step.
#include "../../cpp/network/sequence.hpp"

#include <memory>

#include "check.hpp"

namespace rnnfast {
namespace {

using test::integer;

struct Case {
  index steps, batch;
  std::vector<index> lengths;
  std::unique_ptr<uint8_t[]> reset;  // [T][B]

  bool cut(index t, index b) const { return reset && reset[t * batch + b]; }
};

Case random_case(test::Random& random, bool with_lengths, bool with_reset) {
  Case c{integer(random, 1, 12), integer(random, 1, 9), {}, nullptr};
  for (index b = 0; b < c.batch; ++b)
    c.lengths.push_back(with_lengths ? integer(random, 0, c.steps) : c.steps);
  if (!with_reset) return c;
  c.reset = std::make_unique<uint8_t[]>(c.steps * c.batch);
  for (index i = 0; i < c.steps * c.batch; ++i)
    c.reset[i] = integer(random, 0, 2) ? 0 : integer(random, 1, 255);
  return c;
}

Sequences sequences_of(const Case& c) {
  return {c.steps, c.batch, c.lengths.data(), c.reset.get(), c.batch, 1};
}

void check_segments(const Case& c, const Sequences& s) {
  std::vector<std::vector<int>> seen(c.batch, std::vector<int>(c.steps, 0));
  index before = c.steps, total = 0;
  for (const Segment& g : s.segments()) {
    CHECK(g.length >= 1 && g.length <= before);  // by falling length
    before = g.length;
    total += g.length;
    for (index t = g.start; t < g.start + g.length; ++t) ++seen[g.batch][t];
    CHECK(g.first == (g.start == 0));
    CHECK(g.last == (g.start + g.length == c.lengths[g.batch]));
    CHECK(g.from_zero == (g.first && c.cut(0, g.batch)));
    CHECK(g.first || c.cut(g.start, g.batch));
    for (index t = g.start + 1; t < g.start + g.length; ++t) CHECK(!c.cut(t, g.batch));
  }
  for (index b = 0; b < c.batch; ++b)
    for (index t = 0; t < c.steps; ++t) CHECK(seen[b][t] == (t < c.lengths[b]));
  CHECK(s.rows() == total);
}

void check_timeline(const Sequences& s) {
  const Timeline forward = s.timeline(false), backward = s.timeline(true);
  CHECK(forward.total() == s.rows());
  for (index p = 0; p < forward.steps; ++p) {
    CHECK(forward.time(p) == p && backward.time(p) == forward.steps - 1 - p);
    index active = 0;
    for (const Segment& g : s.segments()) active += g.length > p;
    CHECK(forward.rows(p) == active);
  }
}

// Every element (t, b, column) has a value of its own, which must arrive where it belongs.
void check_rows(const Case& c, const Sequences& s, bool batch_first) {
  constexpr index columns = 3;
  const index step = batch_first ? columns : c.batch * columns;
  const index row = batch_first ? c.steps * columns : columns;
  std::vector<float> user(c.steps * c.batch * columns);
  for (size_t i = 0; i < user.size(); ++i) user[i] = static_cast<float>(i + 1);
  const Rows<const float> from{user.data(), step, row, nullptr};
  const Timeline time = s.timeline(false);
  std::vector<float> packed(s.rows() * columns, -1.0f);
  s.gather(from, columns, packed.data(), 0, time.steps);
  for (index i = 0; i < s.width(); ++i) {
    const Segment& g = s.segments()[i];
    for (index t = 0; t < g.length; ++t)
      for (index k = 0; k < columns; ++k)
        CHECK(packed[(time.offset[t] + i) * columns + k] == from.at(g.start + t, g.batch)[k]);
  }
  std::vector<float> back(user.size(), -1.0f);
  const Rows<float> to{back.data(), step, row, nullptr};
  const index half = s.width() / 2;
  s.scatter(packed.data(), columns, to, 0, half);
  s.scatter(packed.data(), columns, to, half, s.width());
  for (index b = 0; b < c.batch; ++b)
    for (index t = 0; t < c.steps; ++t)
      for (index k = 0; k < columns; ++k)
        CHECK(to.at(t, b)[k] == (t < c.lengths[b] ? from.at(t, b)[k] : 0.0f));
}

TEST(sequences_agree_with_a_walk_through_every_step) {
  test::Random random(3);
  for (int i = 0; i < 400; ++i) {
    const Case c = random_case(random, i & 1, i & 2);
    const Sequences s = sequences_of(c);
    CHECK(s.packed() && s.steps() == c.steps && s.batch() == c.batch);
    check_segments(c, s);
    check_timeline(s);
    check_rows(c, s, i & 4);
  }
}

TEST(sequences_of_length_nothing) {
  const index lengths[] = {0, 0, 0};
  const Sequences s(5, 3, lengths, nullptr, 0, 0);
  CHECK(s.rows() == 0 && s.width() == 0 && s.timeline(false).steps == 0);
  std::vector<float> y(15, 1.0f);
  s.scatter<float>(nullptr, 1, Rows<float>{y.data(), 3, 1, nullptr}, 0, 0);
  for (float v : y) CHECK(v == 0.0f);
}

TEST(sequences_without_lengths_lie_as_they_are) {
  for (index steps = 1; steps < 5; ++steps)
    for (index batch = 0; batch < 5; ++batch) {
      const Sequences s(steps, batch);
      CHECK(!s.packed() && s.width() == batch && s.rows() == steps * batch);
      check_timeline(s);
      for (const Segment& g : s.segments()) CHECK(g.first && g.last && !g.from_zero);
    }
}

}  // namespace
}  // namespace rnnfast
