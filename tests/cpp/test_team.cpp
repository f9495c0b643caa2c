// The team: everyone runs once, barriers hold, calls from several threads, stopping.
#include "../../cpp/threads/team.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "check.hpp"

namespace rnnfast {
namespace {

bool never() { return false; }
bool always() { return true; }

TEST(team_runs_everyone_once) {
  for (int threads = 1; threads <= 64; ++threads) {
    Lease lease(threads, never);
    CHECK(lease.threads() == threads);
    for (int count = 1; count <= threads; count += 7) {
      std::vector<int> runs(count, 0);
      lease.run(1, count, [&](const Worker& me) {
        ++runs[me.index];
        if (me.count != count || me.crew != count) runs[me.index] += 100;
      });
      for (int n : runs) CHECK(n == 1);
    }
  }
}

// Plain memory written before a meeting must be seen after it by all.
TEST(team_meets_between_phases) {
  for (int count : {2, 3, 5, 16}) {
    Lease lease(count, never);
    std::vector<int> phase(count, 0);
    std::atomic<int> wrong{0};
    lease.run(1, count, [&](const Worker& me) {
      for (int p = 1; p <= 300; ++p) {
        phase[me.index] = p;
        if (!me.meet(me.team, me.member)) ++wrong;
        for (int v : phase) wrong += v != p;
        if (!me.meet(me.team, me.member)) ++wrong;
      }
    });
    CHECK(wrong == 0);
  }
}

// Members of a crew meet, crews do not: here the first one never does.
TEST(team_crews_wait_for_no_other) {
  constexpr int crews = 3, crew = 4;
  Lease lease(crews * crew, never);
  std::vector<int> phase(crews * crew, 0);
  std::atomic<int> wrong{0};
  lease.run(crews, crew, [&](const Worker& me) {
    wrong +=
        me.crews() != crews || me.own_crew() != me.index / crew || me.place() != me.index % crew;
    for (int p = 1; me.own_crew() && p <= 300; ++p) {
      phase[me.index] = p;
      if (!me.finish_step()) ++wrong;
      for (int i = 0; i < crew; ++i) wrong += phase[me.own_crew() * crew + i] != p;
      if (!me.finish_step()) ++wrong;
    }
  });
  CHECK(wrong == 0);
}

TEST(team_does_many_small_runs) {
  Lease lease(3, never);
  std::vector<long> sum(3, 0);
  for (int i = 0; i < 20000; ++i) lease.run(3, [&](const Worker& me) { sum[me.index] += i; });
  for (long s : sum) CHECK(s == 19999L * 20000 / 2);
}

TEST(team_wakes_workers_that_have_gone_to_sleep) {
  Lease lease(4, never);
  for (int i = 0; i < 10; ++i) {
    std::atomic<int> runs{0};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    lease.run(4, [&](const Worker&) { ++runs; });
    CHECK(runs == 4);
  }
}

TEST(team_cuts_ranges_without_gaps) {
  for (int threads : {1, 2, 7}) {
    Lease lease(threads, never);
    for (index n : {0, 1, 2, 6, 1000}) {
      std::vector<int> seen(n, 0);
      std::atomic<int> calls{0};
      lease.parallel(n, 1e6, [&](index begin, index end) {
        ++calls;
        for (index i = begin; i < end; ++i) ++seen[i];
      });
      for (int count : seen) CHECK(count == 1);
      CHECK(calls >= 1 && calls <= threads);
    }
  }
}

TEST(team_does_every_part_once) {
  for (int threads : {1, 2, 3, 8}) {
    Lease lease(threads, never);
    for (int parts : {0, 1, 2, 7, 64})
      for (bool wake : {false, true})
        for (int again = 0; again < 200; ++again) {
          std::vector<int> done(parts, 0);
          lease.share(threads, parts, wake, [&](int part, int thread) {
            done[part] += thread >= 0 && thread < threads ? 1 : 100;
          });
          for (int n : done) CHECK(n == 1);
        }
  }
}

// Every worker holds the first part it gets until the caller has done all that nobody else began.
TEST(team_takes_over_the_parts_of_late_workers) {
  constexpr int threads = 3, parts = 12;
  Lease lease(threads, never);
  const auto caller = std::this_thread::get_id();
  for (int again = 0; again < 20; ++again) {
    std::atomic<int> left{parts}, others{0};
    lease.share(threads, parts, true, [&](int, int) {
      --left;
      if (std::this_thread::get_id() == caller) return;
      ++others;
      while (left > 0) std::this_thread::yield();
    });
    CHECK(left == 0 && others < threads);
  }
}

// Parts that are not worth a wake-up, long after the last ones, are the caller's.
TEST(team_wakes_nobody_for_a_small_share) {
  Lease lease(2, never);
  const auto caller = std::this_thread::get_id();
  for (int again = 0; again < 5; ++again) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    int others = 0;
    lease.share(2, 8, false, [&](int, int) { others += std::this_thread::get_id() != caller; });
    CHECK(others == 0);
  }
}

TEST(team_mixes_runs_and_shares) {
  Lease lease(3, never);
  std::vector<long> sum(3, 0);
  std::atomic<long> parts{0};
  for (int i = 0; i < 5000; ++i) {
    lease.run(3, [&](const Worker& me) { sum[me.index] += i; });
    lease.share(3, 5, i % 2, [&](int part, int) { parts += part; });
  }
  for (long s : sum) CHECK(s == 4999L * 5000 / 2);
  CHECK(parts == 5000 * 10);
}

// Whoever finds the team busy works alone, and all get their results.
TEST(team_serves_callers_from_several_threads) {
  std::atomic<int> wrong{0}, alone{0};
  const auto caller = [&](int mark) {
    for (int i = 0; i < 500; ++i) {
      Lease lease(3, never);
      alone += lease.threads() == 1;
      std::vector<int> marks(lease.threads(), 0);
      lease.run(1, lease.threads(), [&](const Worker& me) {
        marks[me.index] = mark;
        if (!me.meet(me.team, me.member)) ++wrong;
        for (int m : marks) wrong += m != mark;
      });
    }
  };
  std::vector<std::thread> callers;
  for (int mark = 1; mark <= 4; ++mark) callers.emplace_back(caller, mark);
  for (auto& thread : callers) thread.join();
  CHECK(wrong == 0);
}

TEST(team_busy_with_another_call_lends_nobody) {
  Lease first(3, never);
  std::thread([&] {
    Lease second(3, never);
    CHECK(second.threads() == 1);
    int runs = 0;
    second.run(1, 1, [&](const Worker& me) { runs += me.count == 1 && me.crew == 1; });
    CHECK(runs == 1);
  }).join();
}

TEST(team_stops_when_told) {
  for (int count : {1, 2, 5}) {
    for (bool meets : {false, true}) {
      Lease lease(count, always);
      std::atomic<int> ended{0};
      CHECK_THROWS(lease.run(meets ? 1 : count, meets ? count : 1,
                             [&](const Worker& me) {
                               while (me.finish_step()) {
                               }
                               ++ended;
                             }),
                   Interrupted);
      CHECK(ended == count);
    }
    Lease lease(count, never);  // and works on
    std::vector<int> runs(count, 0);
    lease.run(1, count, [&](const Worker& me) { runs[me.index] = me.finish_step(); });
    for (int n : runs) CHECK(n == 1);
  }
}

// The caller's own part may end long before the others'.
TEST(team_stops_while_the_caller_waits) {
  Lease lease(3, always);
  CHECK_THROWS(lease.run(3,
                         [&](const Worker& me) {
                           while (me.index && me.proceed(me.team, me.member)) {
                           }
                         }),
               Interrupted);
}

pid_t child;

// As a signal handler might; the parent stops the next time it is asked.
bool fork_first() {
  if (child >= 0) return true;
  child = fork();
  if (child == 0) alarm(60);  // a child that hangs must not outlive the test
  return false;
}

// The end of a call in whose midst fork_first is asked.
const char* outcome_of_forking(bool meets) {
  try {
    Lease lease(3, fork_first);
    lease.run(meets ? 1 : 3, meets ? 3 : 1, [&](const Worker& me) {
      while (me.finish_step()) {
      }
    });
  } catch (const std::runtime_error&) {
    return "refused";
  } catch (const Interrupted&) {
    return "stopped";
  }
  return "finished";
}

// The child has nobody to wait for.
TEST(team_does_not_wait_for_the_workers_of_a_parent) {
  for (bool meets : {false, true}) {
    child = -1;
    const std::string outcome = outcome_of_forking(meets);
    if (child == 0) _exit(outcome == "refused" ? 0 : 1);
    CHECK(outcome == "stopped");
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
}

// An OpenMP runtime: threads of its own for every region, as many as are granted.
thread_local int region_thread = 0, region_threads = 1;
thread_local bool in_region = false;
int granted;

void fake_parallel(void (*job)(void*), void* data, unsigned threads, unsigned) {
  const int count = std::min<int>(static_cast<int>(threads), granted);
  const auto enter = [=](int i) {
    region_thread = i;
    region_threads = count;
    in_region = true;
    job(data);
    in_region = false;
  };
  std::vector<std::thread> others;
  for (int i = 1; i < count; ++i) others.emplace_back(enter, i);
  enter(0);
  region_threads = 1;
  for (auto& thread : others) thread.join();
}

const OpenMP fake{fake_parallel, [] { return region_thread; }, [] { return region_threads; }};

// Runs of all sizes on a lease of so many threads, of which so many are granted.
void run_with_openmp(int threads, int grant) {
  granted = grant;
  Lease lease(threads, never, &fake);
  for (int count = 2; count <= threads; ++count) {
    std::vector<int> phase(count, 0);
    std::atomic<int> wrong{0};
    lease.run(1, count, [&](const Worker& me) {
      phase[me.index] = 1;
      if (!me.finish_step()) ++wrong;
      for (int p : phase) wrong += p != 1;
      wrong += me.count != count;
      wrong += in_region != (count <= grant);
    });
    CHECK(wrong == 0);
  }
}

TEST(team_runs_on_the_threads_of_openmp) { run_with_openmp(5, 5); }

TEST(team_runs_on_its_own_threads_where_openmp_has_too_few) {
  for (int grant : {1, 2, 3}) run_with_openmp(4, grant);
}

// Late threads of a runtime would hold up what is shared out to be claimed.
TEST(team_shares_on_its_own_threads) {
  granted = 3;
  Lease lease(3, never, &fake);
  std::atomic<int> wrong{0};
  lease.share(3, 17, true, [&](int, int) { wrong += in_region; });
  CHECK(wrong == 0);
}

TEST(team_stops_on_the_threads_of_openmp) {
  granted = 3;
  std::atomic<int> wrong{0};
  Lease lease(3, always, &fake);
  CHECK_THROWS(lease.run(3,
                         [&](const Worker& me) {
                           wrong += !in_region;
                           while (me.index && me.proceed(me.team, me.member)) {
                           }
                         }),
               Interrupted);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace rnnfast
