#include "layers.hpp"

#include <algorithm>
#include <utility>

#include "../dispatch/cpu.hpp"

namespace rnnfast {

double step_flops(const Spec& spec, const Size& size, index batch) {
  const double gates = 2.0 * spec.traits().gates * static_cast<double>(size.hidden);
  return static_cast<double>(batch) * (gates * static_cast<double>(size.input + size.output) +
                                       2.0 * static_cast<double>(spec.projection * size.hidden));
}

Work work_of(const Spec& spec, const Size& size, const Sizes& sizes, index element, index steps,
             index rows, index batch, bool tokens, int directions, std::vector<double> followers) {
  return {
      .steps = steps,
      .rows = rows,
      .batch = batch,
      .ragged = rows != batch * steps,
      .step_flops = step_flops(spec, size, batch),
      .panels = sizes.panels,
      .weight_bytes = sizes.packed_forward * element,
      .tokens = tokens,
      .phases = spec.traits().phases(),
      .directions = directions,
      .followers = std::move(followers),
  };
}

std::vector<double> costs_of_followers(const Spec& spec, index layer, index step, bool tokens,
                                       int threads) {
  const auto cost = [&](index l) {
    Size size = spec.size(l);
    if (l == 0 && tokens) size.input = 0;  // gathered, not multiplied
    return step_flops(spec, size, 1);
  };
  std::vector<double> costs;
  int left = threads - 1;
  for (index l = layer + step; left > 0 && l >= 0 && l < spec.layers; l += step, --left)
    costs.push_back(cost(l) / cost(layer));
  return costs;
}

Machine this_machine(int threads) {
  return {threads, second_level_cache(), third_level_neighbours()};
}

Work work_for(const Spec& spec, const Size& size, const Sizes& sizes, index element,
              const Sequences& sequences, bool tokens, int directions,
              std::vector<double> followers) {
  const Timeline time = sequences.timeline(false);
  return work_of(spec, size, sizes, element, time.steps, time.total(), time.rows(0), tokens,
                 directions, std::move(followers));
}

void pack_in_shares(index elements, Lease& lease, const std::function<void(const Worker&)>& pack) {
  constexpr index worth_waking = index{64} * 1024;
  const int shares = elements < worth_waking ? 1 : lease.threads();
  lease.share(shares, shares, true, [&](int share, int) { pack(share_of(share, shares)); });
}

template <class Real>
Buffer<Real> pack_forward(const Spec& spec, const CellKernels<Real>& k, const Real* parameters,
                          index layer, int direction, Lease& lease) {
  const Size size = spec.size(layer);
  Buffer<Real> packed(k.sizes(size).packed_forward);
  const auto w = weights(spec, parameters, layer, direction);
  pack_in_shares(packed.size(), lease,
                 [&](const Worker& me) { k.pack_forward(size, w, packed.data(), me); });
  return packed;
}

template <class Real>
ForwardPass<Real>::ForwardPass(const CellKernels<Real>& k, const Plan& plan, const Sizes& sizes,
                               const Forward<Real>& f)
    : kernels_(k), f_(f) {
  if (!plan.input_first || !f.packed) return;
  input_ = buffer<Real>(f.time.total(), sizes.input_per_row);
  f_.input = input_.data();
}

template <class Real>
void ForwardPass<Real>::run(const Worker& me) const {
  if (input_.data()) {  // of a single sequence, so that all threads are one crew
    kernels_.input_product(f_, input_.data(), 0, f_.time.total(), me);
    if (!me.finish_step()) return;
  }
  kernels_.forward(f_, me);
}

template <class Real>
void ForwardPass<Real>::follow(const Wave& wave, int layer, index phases, const Worker& me) const {
  const bool input_first = input_.data() != nullptr;
  const Pace pace{f_.time.steps, phases, 1, input_first ? wave_block : 1};
  std::function<void(index, index)> prepare;
  if (input_first)
    prepare = [&](index begin, index end) {
      kernels_.input_product(f_, input_.data(), f_.time.offset[begin], f_.time.offset[end], me);
    };
  Follower follower(wave, layer, me, pace, prepare);
  if (follower.begin()) kernels_.forward(f_, follower.worker());
}

template <class Real>
Buffer<Real> gather(const Sequences& sequences, const Rows<const Real>& user, index columns,
                    Lease& lease) {
  auto packed = buffer<Real>(sequences.rows(), columns);
  lease.parallel(
      sequences.timeline(false).steps, static_cast<double>(sequences.width() * columns),
      [&](index begin, index end) { sequences.gather(user, columns, packed.data(), begin, end); });
  return packed;
}

template <class Real>
void scatter(const Sequences& sequences, const Real* packed, index columns, const Rows<Real>& user,
             Lease& lease) {
  lease.parallel(std::max<index>(sequences.width(), 1),
                 static_cast<double>(sequences.steps() * columns), [&](index begin, index end) {
                   sequences.scatter(packed, columns, user, begin,
                                     std::min(end, sequences.width()));
                 });
}

template <class Real>
Buffer<Real> drop(const Spec& spec, const Tape<Real>& tape, index layer, const Real* from,
                  Lease& lease) {
  const Sequences& sequences = tape.sequences;
  const index width = spec.width(), batch = sequences.batch();
  auto to = buffer<Real>(sequences.rows(), width);
  const auto mask = table<Real>(*tape.instructions).dropout;
  const uint64_t seed =
      tape.dropout_seed + static_cast<uint64_t>(layer * sequences.steps() * batch * width);
  const Timeline time = sequences.timeline(false);
  lease.parallel(time.steps, 8.0 * static_cast<double>(batch * width), [&](index begin, index end) {
    for (index t = begin; t < end; ++t)
      for (index s = 0; s < time.rows(t); ++s) {
        const Segment& segment = sequences.segments()[s];
        const index row = time.offset[t] + s, user = (segment.start + t) * batch + segment.batch;
        mask(from + row * width, to.data() + row * width, width,
             seed + static_cast<uint64_t>(user * width), spec.dropout);
      }
  });
  return to;
}

#define RNNFAST_INSTANTIATE(Real)                                                               \
  template Buffer<Real> pack_forward(const Spec&, const CellKernels<Real>&, const Real*, index, \
                                     int, Lease&);                                              \
  template class ForwardPass<Real>;                                                             \
  template Buffer<Real> gather(const Sequences&, const Rows<const Real>&, index, Lease&);       \
  template void scatter(const Sequences&, const Real*, index, const Rows<Real>&, Lease&);       \
  template Buffer<Real> drop(const Spec&, const Tape<Real>&, index, const Real*, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)
template Buffer<int32_t> gather(const Sequences&, const Rows<const int32_t>&, index, Lease&);

}  // namespace rnnfast
