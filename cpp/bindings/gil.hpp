// Giving the GIL away and taking it back.
//
// A daemon thread that asks for the GIL after the interpreter's end is ended by Python
// (before 3.14), which unwinds its stack over destructors that need the GIL. It rests here until
// the process is gone.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace rnnfast {

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

// On a thread inside WithoutGil.
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

}  // namespace rnnfast
