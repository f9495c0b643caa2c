#include "windows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "runs.hpp"

namespace rnnfast {
namespace {

index steps_of(const Spec& spec, index steps) {
  if (spec.recompute != automatic) return spec.recompute;
  return static_cast<index>(std::ceil(std::sqrt(static_cast<double>(steps))));
}

}  // namespace

Windows::Windows(const Spec& spec, const Timeline& whole, index rows) {
  const index steps = steps_of(spec, whole.steps);
  std::vector<index> first{0};
  for (index end : groups(whole, rows))
    if (end == whole.steps || end - first.back() >= steps) first.push_back(end);
  const auto count = static_cast<index>(first.size()) - 1;
  offsets_.reserve(whole.steps + count);
  for (index p = 0; p < count; ++p) {
    const index i = whole.reverse ? count - 1 - p : p;
    add(whole, first[i], first[i + 1]);
  }
}

void Windows::add(const Timeline& whole, index begin, index end) {
  const index* offset = offsets_.data() + offsets_.size();
  for (index t = begin; t <= end; ++t) offsets_.push_back(whole.offset[t] - whole.offset[begin]);
  const Timeline time{end - begin, offset, whole.reverse};
  const index before = whole.reverse ? end : begin - 1;
  const bool first = before < 0 || before == whole.steps;
  const index going = first ? 0 : std::min(whole.rows(before), time.rows(0));
  windows_.push_back({time, begin, before, going, kept_});
  kept_ += time.rows(0);
}

index Windows::most(index (*of)(const Timeline&)) const {
  index most = 0;
  for (const Window& window : windows_) most = std::max(most, of(window.time));
  return most;
}

template <class Real>
void initial_hidden(const Window& window, const Rows<const Real>& y, const Real* h0, index columns,
                    index padded, Real* to) {
  for (index b = 0; b < window.time.rows(0); ++b)
    std::memcpy(to + b * padded, b < window.going ? y.at(window.before, b) : h0 + b * padded,
                columns * sizeof(Real));
}

template <class Real>
Buffer<Real> forward_by_windows(const CellKernels<Real>& k, const Plan& plan, const Sizes& sizes,
                                const Windows& windows, const Forward<Real>& f, Lease& lease) {
  if (!f.c) {
    run_forward(k, plan, sizes, f, lease);
    return {};
  }
  const index hidden = sizes.padded_hidden;
  auto kept = buffer<Real>(windows.kept_rows(), hidden);
  const auto h0 = buffer<Real>(f.time.rows(0), sizes.padded_output);
  for (const Window& window : windows.all()) {
    std::memcpy(kept.data() + window.kept * hidden, f.c,
                window.time.rows(0) * hidden * sizeof(Real));
    initial_hidden(window, read_only(f.y), f.h0, f.size.output, sizes.padded_output, h0.data());
    const auto in = window.of(LayerInput<Real>{f.x, f.tokens}, f.time);
    Forward<Real> part = f;
    part.time = window.time;
    part.x = in.x;
    part.tokens = in.tokens;
    part.h0 = h0.data();
    part.y = window.of(f.y);
    run_forward(k, plan, sizes, part, lease);
  }
  return kept;
}

template <class Real>
Recomputation<Real>::Recomputation(const Spec& spec, const CellKernels<Real>& k, const Plan& plan,
                                   const Size& size, const Windows& windows, Buffer<Real> packed)
    : spec_(spec),
      k_(k),
      plan_(plan),
      size_(size),
      sizes_(k.sizes(size)),
      packed_(std::move(packed)) {
  const CellTraits& traits = spec.traits();
  gates_ = buffer<Real>(windows.taped(), sizes_.gates_per_row);
  h0_ = buffer<Real>(windows.width(), sizes_.padded_output);
  if (!traits.records) return;
  y_ = buffer<Real>(windows.rows(), size.output);
  if (traits.has_cell_state) c_ = buffer<Real>(windows.width(), sizes_.padded_hidden);
  if (traits.has_cell_state) cells_ = buffer<Real>(windows.rows(), sizes_.padded_hidden);
  if (traits.needs_operand) operand_ = buffer<Real>(windows.rows(), sizes_.padded_hidden);
  between_ = buffer<Real>(windows.width(), sizes_.between_per_row);
  scratch_ = buffer<Real>(plan.shares(), k.forward_scratch(size, windows.width()));
}

template <class Real>
Forward<Real> Recomputation<Real>::run(const Window& window, const LayerInput<Real>& in,
                                       const Rows<const Real>& y, const Track<Real>& track,
                                       const Timeline& whole, Lease& lease) {
  initial_hidden(window, y, track.h0.data(), size_.output, sizes_.padded_output, h0_.data());
  const auto own = window.of(in, whole);
  const Forward<Real> f{
      .size = size_,
      .time = window.time,
      .weights = {},
      .packed = packed_.data(),
      .x = own.x,
      .tokens = own.tokens,
      .h0 = h0_.data(),
      .c = c_.data(),
      .y = {y_.data(), 0, size_.output, window.time.offset},
      .gates = gates_.data(),
      .between = between_.data(),
      .cells = cells_.data(),
      .operand = operand_.data(),
      .scratch = scratch_.data(),
      .input = nullptr,
      .record = true,
      .prefetch = plan_.prefetch,
      .scales = {},
  };
  if (f.c)
    std::memcpy(f.c, track.cells.data() + window.kept * sizes_.padded_hidden,
                window.time.rows(0) * sizes_.padded_hidden * sizeof(Real));
  if (spec_.traits().records) run_forward(k_, plan_, sizes_, f, lease);
  return f;
}

#define RNNFAST_INSTANTIATE(Real)                                                                 \
  template class Recomputation<Real>;                                                             \
  template void initial_hidden(const Window&, const Rows<const Real>&, const Real*, index, index, \
                               Real*);                                                            \
  template Buffer<Real> forward_by_windows(const CellKernels<Real>&, const Plan&, const Sizes&,   \
                                           const Windows&, const Forward<Real>&, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
