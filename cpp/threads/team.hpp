// The library's own threads. Workers spin briefly for the next job, then yield, then sleep, so
// that calls a few milliseconds apart find them awake and an idle process uses no core. Runs may
// also take place on the threads of an OpenMP runtime that serves the caller.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "../contract.hpp"

namespace rnnfast {

class Team;

// Looks for Ctrl-C every 50 ms of one library call, however its time is divided into runs.
class Watch {
 public:
  explicit Watch(bool (*interrupted)());

  // Asked between steps, on the calling thread: whether to stop.
  bool stop();
  bool stopped() const { return stopped_; }

 private:
  bool (*interrupted_)();
  std::chrono::steady_clock::time_point seen_, next_poll_;
  int steps_ = 0, stride_ = 1;  // steps since the clock was read, and before it is read again
  bool stopped_ = false;
};

using PartJob = std::function<void(int part, int thread)>;

// An OpenMP runtime, by the functions that compiled programs call. Its threads spin for some
// milliseconds after each region, where other threads would have to run.
struct OpenMP {
  void (*parallel)(void (*job)(void*), void* data, unsigned threads, unsigned flags);
  int (*thread_num)();
  int (*num_threads)();
};

// A claim on the team for the length of one library call. A call that finds the team busy with
// another caller's work gets no helpers and runs on its own thread; results are the same.
class Lease {
 public:
  // `interrupted` is asked now and then, on the calling thread, whether to stop. Runs take place on
  // the threads of `openmp` where it is given and grants enough, and this is no child that was
  // forked: there it has none.
  Lease(int threads, bool (*interrupted)(), const OpenMP* openmp = nullptr);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  int threads() const { return threads_; }

  // Runs job on `count` ≤ threads() threads and waits. Throws Interrupted if the call was stopped,
  // and std::runtime_error in a child that was forked, by a signal handler, inside the call.
  void run(int count, const std::function<void(const Worker&)>& job);
  // The same on crews · crew threads, of which those of a crew meet each other.
  void run(int crews, int crew, const std::function<void(const Worker&)>& job);

  // Runs job(part, thread) for all parts, each once and in any order, on up to `threads` threads,
  // which are numbered. They claim the parts one by one, and the caller does what no worker has
  // begun: one that comes late costs nothing. Asked again for as many parts, a thread gets nearly
  // the same ones. Workers that sleep are woken where that is worthwhile, or where calls follow
  // each other closely. Looks for Ctrl-C at the end alone: parts are short.
  void share(int threads, int parts, bool wake, const PartJob& job);

  // Cuts 0 … n - 1 into one range for each thread where n · cost (in floating-point operations or
  // bytes) is worth waking them.
  void parallel(index n, double cost, const std::function<void(index begin, index end)>& job);

 private:
  struct Release {
    void operator()(Team* team) const;
  };

  std::unique_ptr<Team, Release> team_;  // null where another call has it
  int threads_;
  Watch watch_;
  const OpenMP* openmp_;
};

// Waits until count ≥ n, on a thread of a run; false: stop.
bool await(const std::atomic<index>& count, index n, const Worker& me);

struct Interrupted {};

int default_threads();
void set_default_threads(int threads);
inline constexpr int max_threads = 1024;

}  // namespace rnnfast
