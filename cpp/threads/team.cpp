#include "team.hpp"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace rnnfast {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto awake = std::chrono::milliseconds(3);          // before a worker without work sleeps
constexpr auto poll_every = std::chrono::milliseconds(50);    // between looks for Ctrl-C
constexpr auto close_calls = std::chrono::microseconds(100);  // a worker may as well stay awake
constexpr auto long_steps = std::chrono::milliseconds(1);  // eight of them: read the clock at each
constexpr int spins = 2000;  // about 20 µs of pauses before giving the core to whoever wants it

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until ready() by spinning, then yielding; gives up where stop() says so.
template <class Ready, class Stop>
void wait_for(Ready ready, Stop stop) {
  for (int spun = 0; !ready();) {
    if (stop()) return;
    if (spun < spins) {
      pause();
      ++spun;
    } else {
      sched_yield();
    }
  }
}

// Never destroyed: workers may outlive static objects. A forked child has none of the workers and
// starts a team of its own.
std::atomic<Team*> the_team{nullptr};

}  // namespace

Watch::Watch(bool (*interrupted)())
    : interrupted_(interrupted), seen_(Clock::now()), next_poll_(seen_ + poll_every) {}

bool Watch::stop() {
  if (stopped_ || ++steps_ < stride_) return stopped_;
  const auto now = Clock::now();
  stride_ = now - seen_ < long_steps ? 8 : 1;
  steps_ = 0;
  seen_ = now;
  if (now < next_poll_) return false;
  next_poll_ = now + poll_every;
  // Signal handlers run in here: they get numbers as usual, not flushed to zero as in the kernels.
  fenv_t mode;
  fegetenv(&mode);
  fesetenv(FE_DFL_ENV);
  stopped_ = interrupted_();
  fesetenv(&mode);
  return stopped_;
}

class Team {
 public:
  explicit Team(bool child) : child_(child) {}

  // One call at a time has the team. The one that has it may lie further up this very stack, with
  // the signal handler between them that makes the second call.
  bool claim() { return !claimed_.exchange(true, std::memory_order_acquire); }
  void release() { claimed_.store(false, std::memory_order_release); }

  // Has at least `count` - 1 workers ready, or as many as the system grants; returns the number of
  // threads with the caller.
  int reserve(int count) {
    while (static_cast<int>(members_.size()) < count) {
      const int i = static_cast<int>(members_.size());
      members_.push_back(std::make_unique<Member>());
      if (i == 0 || start(i, members_[i].get())) continue;
      members_.pop_back();
      break;
    }
    reserved_ = std::min<int>(count, static_cast<int>(members_.size()));
    return reserved_;
  }

  bool run(int count, int crew, const std::function<void(const Worker&)>& job, Watch& watch,
           const OpenMP* openmp) {
    refuse_child();
    crew_ = crew;
    watch_ = &watch;
    stop_.store(false, std::memory_order_relaxed);
    count_.store(count, std::memory_order_relaxed);
    for (int i = 0; i < count; ++i) members_[i]->steps.store(0, std::memory_order_relaxed);
    const auto gone = [&] {  // a signal handler forked, and this is the child
      poll();
      return forked();
    };
    if (openmp && !child_ && in_region(*openmp, count, job, gone))
      return !stop_.load(std::memory_order_relaxed);
    post(count, job);
    job(worker(0));
    for (int i = 1; i < count && !forked(); ++i) wait_until_done(*members_[i], gone);
    if (watch.stopped() && forked()) return false;
    refuse_child();
    return !stop_.load(std::memory_order_relaxed);
  }

  void share(int count, int parts, bool wake, const PartJob& job) {
    refuse_child();
    if (!wake && Clock::now() - shared_ > close_calls) count = 1;
    const auto part = [&](int i) { return static_cast<int>(index{parts} * i / count); };
    for (int i = 0; i < count; ++i)
      members_[i]->parts.store(range(part(i), part(i + 1)), std::memory_order_relaxed);
    const auto take = [&](const Worker& me) { take_parts(me.member, count, job); };
    const std::function<void(const Worker&)> work = std::ref(take);  // which allocates nothing
    crew_ = 1;
    count_.store(count, std::memory_order_relaxed);
    post(count, work);
    take_parts(0, count, job);
    for (int i = 1; i < count; ++i)
      if (!revoke(*members_[i])) wait_until_done(*members_[i], [] { return false; });
    if (!wake) shared_ = Clock::now();
  }

 private:
  struct alignas(128) Member {
    std::atomic<unsigned> jobs{0};                // posted
    alignas(128) std::atomic<unsigned> begun{0};  // or revoked
    alignas(128) std::atomic<unsigned> done{0};
    alignas(128) std::atomic<index> steps{0};
    alignas(128) std::atomic<uint64_t> parts{0};  // a range() of those of share()
  };

  // Runs the job on the threads of the runtime and waits until stop(); false, and nothing was done,
  // where it has too few, as inside a region of the caller's. The region has all threads that were
  // reserved: a runtime that is asked for fewer than before ends the others.
  template <class Stop>
  bool in_region(const OpenMP& openmp, int count, const std::function<void(const Worker&)>& job,
                 const Stop& stop) {
    struct Region {
      Team& team;
      const OpenMP& openmp;
      const std::function<void(const Worker&)>& job;
      const Stop& stop;
      int count;
      std::atomic<int> left;
      bool entered;
    } region{*this, openmp, job, stop, count, count - 1, false};
    const auto enter = [](void* data) {
      auto& r = *static_cast<Region*>(data);
      const int i = r.openmp.thread_num();
      if (r.openmp.num_threads() < r.count || i >= r.count) return;
      r.job(r.team.worker(i));
      if (i > 0) {
        r.left.fetch_sub(1, std::memory_order_release);
        return;
      }
      r.entered = true;
      wait_for([&] { return r.left.load(std::memory_order_acquire) == 0; }, r.stop);
      r.team.leave_child();
    };
    openmp.parallel(enter, &region, static_cast<unsigned>(reserved_), 0);
    return region.entered;
  }

  // Out of a region through the runtime: in a child nobody else will come to its end.
  void leave_child() const {
    if (forked() && watch_->stopped()) throw Interrupted();
    refuse_child();
  }

  void post(int count, const std::function<void(const Worker&)>& job) {
    job_ = &job;
    for (int i = 1; i < count; ++i) {
      members_[i]->jobs.fetch_add(1, std::memory_order_release);
      members_[i]->jobs.notify_one();
    }
  }

  // Of the job numbered so, for the member alone or the caller alone.
  static bool begin(Member& member, unsigned job) {
    unsigned before = job - 1;
    return member.begun.compare_exchange_strong(before, job, std::memory_order_acq_rel);
  }
  static bool revoke(Member& member) {
    return begin(member, member.jobs.load(std::memory_order_relaxed));
  }
  template <class Stop>
  static void wait_until_done(const Member& member, Stop stop) {
    const unsigned job = member.jobs.load(std::memory_order_relaxed);
    wait_for([&] { return member.done.load(std::memory_order_acquire) == job; }, stop);
  }

  // Parts [first, end) in one word, so that they are taken from either end by one exchange.
  static uint64_t range(int first, int end) { return uint64_t(first) << 32 | uint64_t(end); }

  // A part of the range, or -1: its owner takes the first, others the last.
  static int take_part(std::atomic<uint64_t>& parts, bool own) {
    for (uint64_t left = parts.load(std::memory_order_relaxed);;) {
      const int first = static_cast<int>(left >> 32), end = static_cast<int>(left & 0xffffffff);
      if (first == end) return -1;
      const uint64_t rest = own ? range(first + 1, end) : range(first, end - 1);
      if (parts.compare_exchange_weak(left, rest, std::memory_order_relaxed))
        return own ? first : end - 1;
    }
  }

  void take_parts(int member, int count, const PartJob& job) {
    for (int k = 0; k < count; ++k) {
      auto& parts = members_[(member + k) % count]->parts;
      for (int part; (part = take_part(parts, k == 0)) >= 0;) job(part, member);
    }
  }

  Worker worker(int i) {
    return {i, count_.load(std::memory_order_relaxed), crew_, i, this, meet, proceed};
  }

  // Barrier of a crew: each counts its steps and waits for the others' counts.
  static bool meet(void* self, int i) {
    auto& team = *static_cast<Team*>(self);
    if (i == 0) team.poll();
    const auto stopped = [&] { return team.stop_.load(std::memory_order_relaxed); };
    const index mine = team.members_[i]->steps.load(std::memory_order_relaxed) + 1;
    team.members_[i]->steps.store(mine, std::memory_order_release);
    const int first = i - i % team.crew_;
    for (int other = first; other < first + team.crew_; ++other)
      wait_for([&] { return team.members_[other]->steps.load(std::memory_order_acquire) >= mine; },
               stopped);
    return !stopped();
  }

  static bool proceed(void* self, int i) {
    auto& team = *static_cast<Team*>(self);
    if (i == 0) team.poll();
    return !team.stop_.load(std::memory_order_relaxed);
  }

  // Whether this is a child of the process whose team this is: it has none of the workers.
  bool forked() const { return the_team.load(std::memory_order_relaxed) != this; }
  void refuse_child() const {
    if (forked())
      throw std::runtime_error(
          "the process was forked inside this call, whose threads work on in the parent alone");
  }

  // On the caller's thread only. A signal handler that runs in here may fork.
  void poll() {
    if (watch_->stop() || forked()) stop_.store(true, std::memory_order_relaxed);
  }

  bool start(int i, Member* member) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the application's threads
    bool started = true;
    try {
      std::thread([this, i, member] { work(i, *member); }).detach();
    } catch (const std::exception&) {
      started = false;  // too many threads, or no memory for another
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }

  [[noreturn]] void work(int i, Member& me) {
    for (unsigned seen = 0;;) {
      const auto called = [&] { return me.jobs.load(std::memory_order_acquire) != seen; };
      const auto bedtime = Clock::now() + awake;
      wait_for(called, [&] { return Clock::now() > bedtime; });
      while (!called()) me.jobs.wait(seen, std::memory_order_acquire);
      seen = me.jobs.load(std::memory_order_acquire);
      if (!begin(me, seen)) continue;  // came too late
      (*job_)(worker(i));
      me.done.store(seen, std::memory_order_release);
    }
  }

  const bool child_;
  std::atomic<bool> claimed_{false};
  std::vector<std::unique_ptr<Member>> members_;
  int reserved_ = 1;
  const std::function<void(const Worker&)>* job_ = nullptr;
  Watch* watch_ = nullptr;
  int crew_ = 1;
  std::atomic<int> count_{1};
  std::atomic<bool> stop_{false};
  Clock::time_point shared_{};  // when a call last ended that is not worth waking anyone
};

namespace {

// From the library's load on, so that a child knows that it is one.
const bool watches_forks = [] {
  the_team = new Team(false);
  pthread_atfork(nullptr, nullptr, [] { the_team = new Team(true); });
  return true;
}();

// Physical cores this process may use: hyperthreads add nothing to code bound by multiply-adds.
int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
    cores.insert(siblings);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

int threads_from_environment() {
  const char* text = std::getenv("RNNFAST_NUM_THREADS");
  if (!text || !*text) return std::min(usable_cores(), max_threads);
  char* end;
  const long n = std::strtol(text, &end, 10);
  if (*end || n < 1 || n > max_threads)
    throw std::invalid_argument("RNNFAST_NUM_THREADS is '" + std::string(text) +
                                "', expected an integer from 1 to " + std::to_string(max_threads));
  return static_cast<int>(n);
}

std::atomic<int> default_count{0};

}  // namespace

int default_threads() {
  if (default_count == 0) default_count = threads_from_environment();
  return default_count;
}

void set_default_threads(int threads) { default_count = threads; }

void Lease::Release::operator()(Team* team) const { team->release(); }

Lease::Lease(int threads, bool (*interrupted)(), const OpenMP* openmp)
    : threads_(1), watch_(interrupted), openmp_(openmp) {
  Team& shared = *the_team.load();
  if (!shared.claim()) return;
  team_.reset(&shared);
  threads_ = shared.reserve(threads);
}

void Lease::run(int count, const std::function<void(const Worker&)>& job) { run(count, 1, job); }

void Lease::run(int crews, int crew, const std::function<void(const Worker&)>& job) {
  bool finished;
  if (team_ && crews * crew > 1) {
    finished = team_->run(crews * crew, crew, job, watch_, openmp_);
  } else {
    const auto proceed = [](void* watch, int) { return !static_cast<Watch*>(watch)->stop(); };
    job(Worker{0, 1, 1, 0, &watch_, proceed, proceed});
    finished = !watch_.stopped();
  }
  if (!finished) throw Interrupted();
}

void Lease::share(int threads, int parts, bool wake, const PartJob& job) {
  if (team_ && threads > 1)
    team_->share(std::min(threads, parts), parts, wake, job);
  else
    for (int part = 0; part < parts; ++part) job(part, 0);
  if (watch_.stop()) throw Interrupted();
}

bool await(const std::atomic<index>& count, index n, const Worker& me) {
  bool stopped = false;
  wait_for([&] { return count.load(std::memory_order_acquire) >= n; },
           [&] { return stopped = !me.proceed(me.team, me.member); });
  return !stopped;
}

void Lease::parallel(index n, double cost, const std::function<void(index, index)>& job) {
  constexpr double worth_waking = 200e3;
  const int count = static_cast<int>(std::min<index>(
      static_cast<double>(n) * cost < worth_waking ? 1 : threads_, std::max<index>(n, 1)));
  share(count, count, true, [&](int part, int) { job(n * part / count, n * (part + 1) / count); });
}

}  // namespace rnnfast
