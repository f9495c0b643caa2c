// The plan for every number of threads from 1 to 64: never more than there are, never more than
// there is work for, and the same whenever it is asked.
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
  work.cache_bytes = integer(random, 1 << 18, 1 << 22);
  return work;
}

bool same(const Plan& a, const Plan& b) {
  return a.threads == b.threads && a.split_units == b.split_units &&
         a.input_first == b.input_first && a.prefetch == b.prefetch;
}

TEST(plan_fits_the_threads_and_the_work) {
  test::Random random(1);
  for (int i = 0; i < 300; ++i) {
    const Work work = random_work(random);
    for (int threads = 1; threads <= 64; ++threads) {
      const Plan p = plan(work, threads);
      CHECK(p.threads >= 1 && p.threads <= threads);
      CHECK(p.threads == 1 || p.threads <= (p.split_units ? work.panels : work.batch));
      CHECK(p.prefetch == (work.weight_bytes > work.cache_bytes * (p.split_units ? p.threads : 1)));
      CHECK(same(p, plan(work, threads)));
    }
  }
}

TEST(plan_uses_more_than_one_thread_for_large_work_only) {
  Work work{};
  work.steps = 256;
  work.batch = 32;
  work.rows = work.steps * work.batch;
  work.panels = 32;
  work.step_flops = 1e9;
  work.weight_bytes = 1 << 22;
  work.cache_bytes = 1 << 20;
  for (int threads = 2; threads <= 32; ++threads) CHECK(plan(work, threads).threads > 1);
  work.step_flops = 10;
  for (int threads = 2; threads <= 32; ++threads) CHECK(plan(work, threads).threads == 1);
}

// Whether sums are formed beforehand decides about rounding: it may not hang on the threads.
TEST(plan_forms_the_input_product_whatever_the_threads) {
  test::Random random(2);
  for (int i = 0; i < 300; ++i) {
    const Work work = random_work(random);
    for (int threads = 2; threads <= 64; ++threads)
      CHECK(plan(work, threads).input_first == plan(work, 1).input_first);
  }
}

}  // namespace
}  // namespace rnnfast
