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

std::vector<index> groups(const Timeline& time, index most) {
  std::vector<index> first{0};
  for (index t = 1; t < time.steps; ++t)
    if (time.offset[t + 1] - time.offset[first.back()] > most) first.push_back(t);
  first.push_back(time.steps);
  return first;
}

template <class Real>
Chunked<Real>::Chunked(const Timeline& time, index most, const std::vector<Run<Real>>& runs) {
  if (runs.empty()) return;
  const std::vector<index> steps = groups(time, most);
  const auto count = static_cast<index>(steps.size()) - 1;
  for (index i = 0; i < count; ++i) {
    const index group = time.reverse ? i : count - 1 - i;
    const index first = time.offset[steps[group]], rows = time.offset[steps[group + 1]] - first;
    const index parts = (rows + most - 1) / most;
    for (index part = 0; part < parts; ++part)
      add(runs, first + rows * part / parts, first + rows * (part + 1) / parts);
  }
  const Run<Real>* next = runs_.data();
  for (Runs<Real>& chunk : chunks_) {
    chunk.data = next;
    next += chunk.size;
  }
}

// Rows [begin, end); where they lie is told when all of them do.
template <class Real>
void Chunked<Real>::add(const std::vector<Run<Real>>& runs, index begin, index end) {
  const auto before = static_cast<index>(runs_.size());
  auto run = std::upper_bound(runs.begin(), runs.end(), begin,
                              [](index row, const Run<Real>& r) { return row < r.row; }) -
             1;
  for (; begin < end; ++run) {
    const index skipped = begin - run->row, count = std::min(end - begin, run->count - skipped);
    runs_.push_back({run->a + skipped * run->a_stride, run->a_stride, begin, 1, count});
    begin += count;
  }
  chunks_.push_back({nullptr, static_cast<index>(runs_.size()) - before});
}

#define RNNFAST_INSTANTIATE(Real)                                                       \
  template class Chunked<Real>;                                                         \
  template std::vector<Run<Real>> input_runs(const Timeline&, const Rows<const Real>&); \
  template std::vector<Run<Real>> hidden_runs(const Timeline&, const Rows<const Real>&, \
                                              const Real*, index);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
