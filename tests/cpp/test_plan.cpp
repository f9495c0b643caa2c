// The plan for every number of threads from 1 to 64: never more than there are, never more than
// there is work for, none better by its own estimate, and the same whenever it is asked.
#include "../../cpp/network/plan.hpp"

#include "check.hpp"

namespace rnnfast {
namespace {

using test::integer;

Work random_work(test::Random& random) {
  Work work{};
  work.steps = integer(random, 1, 300);
  work.batch = integer(random, 1, 200);
  work.rows = integer(random, 0, 3) ? work.steps * work.batch
                                    : integer(random, work.batch, work.steps * work.batch);
  work.ragged = work.rows != work.steps * work.batch;
  work.panels = integer(random, 1, 128);
  work.step_flops =
      static_cast<double>(integer(random, 1, 1 << 24)) * static_cast<double>(work.batch);
  work.weight_bytes = integer(random, 64, 1 << 26);
  work.tokens = integer(random, 0, 1);
  return work;
}

Machine random_machine(test::Random& random, int threads) {
  return {threads, integer(random, 1 << 18, 1 << 22), static_cast<int>(integer(random, 1, 64))};
}

// An LSTM of 128 features and `hidden` units, 256 steps, on cores of 1 MiB of second-level cache.
Work lstm(index hidden, index batch) {
  Work work{};
  work.steps = 256;
  work.batch = batch;
  work.rows = work.steps * batch;
  work.panels = hidden / 16;
  work.step_flops = 8.0 * static_cast<double>(batch * hidden * (128 + hidden));
  work.weight_bytes = 16 * hidden * (128 + hidden);
  return work;
}

Plan lstm_plan(index hidden, index batch, int threads, int neighbours = 8) {
  return plan(lstm(hidden, batch), {threads, 1 << 20, neighbours});
}

bool same(const Plan& a, const Plan& b) {
  return a.crews == b.crews && a.crew == b.crew && a.input_first == b.input_first &&
         a.prefetch == b.prefetch;
}

TEST(plan_fits_the_threads_and_the_work) {
  test::Random random(1);
  for (int i = 0; i < 300; ++i) {
    const Work work = random_work(random);
    for (int threads = 1; threads <= 64; ++threads) {
      const Machine machine = random_machine(random, threads);
      const Plan p = plan(work, machine);
      CHECK(p.crews >= 1 && p.crew >= 1 && p.threads() <= threads);
      CHECK(p.crews <= work.batch && p.crew <= work.panels);
      CHECK(p.prefetch == (work.weight_bytes > machine.cache_bytes * p.crew));
      CHECK(same(p, plan(work, machine)));
    }
  }
}

TEST(plan_is_the_best_by_its_own_estimate) {
  test::Random random(3);
  for (int i = 0; i < 200; ++i) {
    const Work work = random_work(random);
    const Machine machine = random_machine(random, static_cast<int>(integer(random, 1, 64)));
    const Plan p = plan(work, machine);
    CHECK(p.share == expected_share(work, machine, p.crews, p.crew));
    for (int crew = 1; crew <= std::min<index>(machine.threads, work.panels); ++crew)
      for (int crews = 1; crews <= std::min<index>(machine.threads / crew, work.batch); ++crews)
        CHECK(p.share <= expected_share(work, machine, crews, crew) * (1 + 1e-9));
  }
}

TEST(plan_uses_more_than_one_thread_for_large_work_only) {
  Work work = lstm(512, 32);
  for (int threads = 2; threads <= 32; ++threads)
    CHECK(plan(work, {threads, 1 << 20, 8}).threads() > 1);
  work.step_flops = 10;
  for (int threads = 2; threads <= 32; ++threads)
    CHECK(plan(work, {threads, 1 << 20, 8}).threads() == 1);
}

// Of few rows every thread takes units, of many rows each takes its own; between the two there are
// crews with as many rows as keep them busy.
TEST(plan_splits_units_rows_or_both) {
  for (int threads : {8, 16, 64}) {
    const Plan few = lstm_plan(1024, 1, threads), many = lstm_plan(512, 64 * threads, threads);
    CHECK(few.crews == 1 && few.crew > 1);
    CHECK(many.crews == threads && many.crew == 1);
    const Plan both = lstm_plan(512, 4 * threads, threads);
    CHECK(both.crews > 1 && both.crew > 1 && both.threads() == threads);
  }
}

// A core that works for all others adds less than it delays them: small steps leave most idle.
TEST(plan_leaves_threads_idle_that_would_only_meet) {
  CHECK(lstm_plan(128, 1, 64).threads() < 8);
  CHECK(lstm_plan(64, 64, 64).threads() > 8);
}

// Members of a crew that share no cache meet more slowly: crews are no larger for that.
TEST(plan_keeps_crews_behind_one_cache) {
  for (index batch : {1, 2, 4, 8, 16})
    for (int threads : {16, 64})
      CHECK(lstm_plan(512, batch, threads, 8).crew <= lstm_plan(512, batch, threads, 64).crew);
  CHECK(lstm_plan(512, 1, 64, 8).crew == 8);
}

// Cells of two phases meet twice as often.
TEST(plan_counts_the_meetings_of_every_phase) {
  Work work = lstm(512, 1);
  const Machine machine{32, 1 << 20, 32};
  const Plan once = plan(work, machine);
  work.phases = 2;
  CHECK(plan(work, machine).crew < once.crew);
}

// Of a single step everyone claims shares of units, several each, unless a second phase has to wait
// for the first; a small one is not worth waking anyone.
TEST(plan_lets_threads_claim_a_single_step) {
  for (int threads : {2, 8, 64})
    for (index hidden : {128, 512}) {
      Work work = lstm(hidden, 1);
      CHECK(plan(work, {threads, 1 << 20, 8}).claims == 0);
      work.steps = work.rows = 1;
      const Plan one = plan(work, {threads, 1 << 20, 8});
      CHECK(one.crew > 1 && one.claims >= one.crew && one.claims <= work.panels);
      CHECK(one.shares() == one.claims && one.wake == (hidden > 128));
      work.phases = 2;
      CHECK(plan(work, {threads, 1 << 20, 8}).claims == 0);
    }
}

// Layers at once where one alone would waste threads, as many as there are threads for; a batch
// that keeps all threads busy goes layer by layer.
TEST(plan_lets_layers_follow_each_other) {
  for (int threads : {2, 8, 64})
    for (index batch : {1, 2, 4, 16 * threads}) {
      Work work = lstm(128, batch);
      CHECK(plan(work, {threads, 1 << 20, 64}).layers == 1);
      work.followers = {1, 1, 1};
      const Plan p = plan(work, {threads, 1 << 20, 64});
      CHECK(p.layers * p.threads() <= threads && p.layers <= 4);
      CHECK((p.layers > 1) == (batch <= 4));
      work.followers = {0.01};  // which would wait for the first one all the time
      CHECK(plan(work, {threads, 1 << 20, 64}).layers == 1);
      work.followers = {1, 1, 1};
      work.step_flops = 10;
      CHECK(plan(work, {threads, 1 << 20, 64}).layers == 1);
    }
}

// Two directions wait for nothing of each other: half the threads each, unless one is left over.
TEST(plan_processes_both_directions_at_once) {
  for (index batch : {1, 7, 64})
    for (int threads = 2; threads <= 64; threads *= 2) {
      Work work = lstm(256, batch);
      CHECK(!plan(work, {threads, 1 << 20, 8}).together);
      work.directions = 2;
      const Plan both = plan(work, {threads, 1 << 20, 8});
      CHECK(both.together && 2 * both.threads() <= threads);
    }
  Work little{};
  little.steps = little.rows = little.batch = little.panels = 1;
  little.step_flops = 10;
  little.directions = 2;
  CHECK(!plan(little, {64, 1 << 20, 8}).together);
}

// Whether sums are formed beforehand decides about rounding: it may not hang on the threads.
TEST(plan_forms_the_input_product_whatever_the_threads) {
  test::Random random(2);
  for (int i = 0; i < 300; ++i) {
    const Work work = random_work(random);
    for (int threads = 2; threads <= 64; ++threads)
      CHECK(plan(work, random_machine(random, threads)).input_first ==
            plan(work, random_machine(random, 1)).input_first);
  }
}

}  // namespace
}  // namespace rnnfast
