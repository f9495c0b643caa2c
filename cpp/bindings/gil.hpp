// Giving the GIL away and taking it back.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include "../threads/team.hpp"

namespace rnnfast {

// A daemon thread that asks for the GIL after the interpreter's end is ended by Python
// (before 3.14), which unwinds its stack over destructors that need the GIL. It rests here until
// the process is gone.
template <class Take>
void take_gil(Take take) {
  try {
    take();
  } catch (...) {  // nothing but that unwinding
    for (;;) ::pause();
  }
}

class WithoutGil {
 public:
  WithoutGil() : thread_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    take_gil([this] { PyEval_RestoreThread(thread_); });
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* thread_;
};

// On any thread of Python's, also one that has the GIL.
class WithGil {
 public:
  WithGil() {
    take_gil([this] { state_ = PyGILState_Ensure(); });
  }
  ~WithGil() { PyGILState_Release(state_); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;

 private:
  PyGILState_STATE state_;
};

// Asked on a thread inside WithoutGil: whether a signal wants Python's attention. Only the main
// thread handles signals; others must not even ask, since the interpreter may be gone by now.
inline bool interrupted() {
  if (::gettid() != ::getpid()) return false;
  const WithGil gil;
  return PyErr_CheckSignals() != 0;
}

// Runs work without the GIL and turns an interruption into the exception Python has waiting.
template <class Work>
void without_gil(int threads, Work work, const OpenMP* openmp = nullptr) {
  bool stopped = false;
  {
    const WithoutGil gil;
    try {
      Lease lease(threads, interrupted, openmp);
      work(lease);
    } catch (const Interrupted&) {
      stopped = true;
    }
  }
  if (stopped) throw pybind11::error_already_set();
}

}  // namespace rnnfast
