// Windows of steps, for layers whose tape keeps the state before each window instead of all gates:
// BPTT computes a window's forward pass again before it goes back through it. Each window is runs
// of the team of its own, which costs some microseconds beside thousands.
#pragma once

#include <vector>

#include "layers.hpp"

namespace rnnfast {

struct Window {
  Timeline time;  // its own: steps and rows count from its first
  index begin;    // that step
  index before;   // the step processed before it, and how many of its rows go on from there
  index going;
  index kept;  // where the rows of its initial state begin

  template <class T>
  Rows<T> of(Rows<T> all) const {
    if (!all) return all;
    all.base = all.at(begin, 0);
    if (all.offset) all.offset = time.offset;
    return all;
  }
  template <class Real>
  LayerInput<Real> of(const LayerInput<Real>& in, const Timeline& whole) const {
    return {of(in.x), in.tokens ? in.tokens + whole.offset[begin] : nullptr};
  }
};

// In the order of processing.
class Windows {
 public:
  // Of spec.recompute steps, rounded up to whole groups of `rows` rows (runs.hpp).
  Windows(const Spec& spec, const Timeline& whole, index rows);
  Windows(const Windows&) = delete;  // timelines point into it
  Windows& operator=(const Windows&) = delete;

  const std::vector<Window>& all() const { return windows_; }
  index kept_rows() const { return kept_; }
  // The most that a window has of rows, of rows of a tape, and of rows in a step.
  index rows() const {
    return most([](const Timeline& time) { return time.total(); });
  }
  index taped() const {
    return most([](const Timeline& time) { return time.taped(); });
  }
  index width() const {
    return most([](const Timeline& time) { return time.rows(0); });
  }

 private:
  index most(index (*of)(const Timeline&)) const;
  void add(const Timeline& whole, index begin, index end);

  std::vector<index> offsets_;
  std::vector<Window> windows_;
  index kept_ = 0;
};

// h before a window's first step: of rows that go on from y, of the others from h0.
template <class Real>
void initial_hidden(const Window& window, const Rows<const Real>& y, const Real* h0, index columns,
                    index padded, Real* to);

// A forward pass of all windows that records nothing; returns the cell states before all windows.
template <class Real>
Buffer<Real> forward_by_windows(const CellKernels<Real>& k, const Plan& plan, const Sizes& sizes,
                                const Windows& windows, const Forward<Real>& f, Lease& lease);

// Computes the forward pass of windows again and records it, in memory for the largest of them.
template <class Real>
class Recomputation {
 public:
  // `packed`: weights for the forward pass.
  Recomputation(const Spec& spec, const CellKernels<Real>& k, const Plan& plan, const Size& size,
                const Windows& windows, Buffer<Real> packed);

  // Of what the whole layer and direction read, wrote and kept. The result holds until the next
  // call; its c has become the final one.
  Forward<Real> run(const Window& window, const LayerInput<Real>& in, const Rows<const Real>& y,
                    const Track<Real>& track, const Timeline& whole, Lease& lease);

 private:
  const Spec& spec_;
  const CellKernels<Real>& k_;
  const Plan& plan_;
  Size size_;
  Sizes sizes_;
  Buffer<Real> packed_, h0_, c_, y_, gates_, between_, cells_, operand_, scratch_;
};

}  // namespace rnnfast
