#include "runs.hpp"

#include <algorithm>

namespace rnnfast {
namespace {

// Adds rows to a list, lengthening the last run where they continue it.
template <class Real>
void add_run(std::vector<Run<Real>>& runs, const Real* a, index a_stride, index row, index count) {
  if (count == 0) return;
  if (!runs.empty()) {
    Run<Real>& last = runs.back();
    const bool follows = last.row + last.count == row;
    const index jump = a - last.a;
    if (follows && last.count == 1 && count == 1) {
      last.a_stride = jump;
      last.count = 2;
      return;
    }
    if (follows && jump == last.count * last.a_stride &&
        (count == 1 || a_stride == last.a_stride)) {
      last.count += count;
      return;
    }
  }
  runs.push_back({a, a_stride, row, 1, count});
}

}  // namespace

template <class Real>
std::vector<Run<Real>> input_runs(const Timeline& time, const Rows<const Real>& x) {
  std::vector<Run<Real>> runs;
  for (index t = 0; t < time.steps; ++t)
    add_run(runs, x ? x.at(t, 0) : nullptr, x.row, time.offset[t], time.rows(t));
  return runs;
}

template <class Real>
std::vector<Run<Real>> hidden_runs(const Timeline& time, const Rows<const Real>& y, const Real* h0,
                                   index h0_row) {
  std::vector<Run<Real>> runs;
  for (index t = 0; t < time.steps; ++t) {
    const index q = time.reverse ? t + 1 : t - 1;
    const index before = q >= 0 && q < time.steps ? std::min(time.rows(t), time.rows(q)) : 0;
    if (before) add_run(runs, y.at(q, 0), y.row, time.offset[t], before);
    add_run(runs, h0 + before * h0_row, h0_row, time.offset[t] + before, time.rows(t) - before);
  }
  return runs;
}

#define RNNFAST_INSTANTIATE(Real)                                                       \
  template std::vector<Run<Real>> input_runs(const Timeline&, const Rows<const Real>&); \
  template std::vector<Run<Real>> hidden_runs(const Timeline&, const Rows<const Real>&, \
                                              const Real*, index);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
