// Back-propagation through a whole network.
#include <cstring>
#include <utility>

#include "layers.hpp"
#include "runs.hpp"
#include "states.hpp"

namespace rnnfast {
namespace {

// BPTT and weight gradients of one layer and direction.
template <class Real>
struct TrackBackward {
  const Spec& spec;
  const BackwardCall<Real>& call;
  const Tape<Real>& tape;
  index layer;
  int direction;
  LayerInput<Real> in;
  Rows<const Real> y, dy;  // of this direction
  Rows<Real> dx;

  bool reverse() const { return direction == 1; }
  // The part of a state array that belongs here.
  template <class T>
  T* own(T* all, index columns) const {
    return part(all, layer * spec.directions + direction, tape.sequences.batch(), columns);
  }
  // The gradient of a final state, a row per segment.
  Buffer<Real> final_rows(const Real* all, index columns, index padded) const {
    return spread(tape.sequences, leaves_final, reverse(), own(all, columns), columns, padded);
  }
  void keep_initial(const Buffer<Real>& rows, index columns, index padded, Real* all) const {
    collect(tape.sequences, takes_initial, reverse(), rows.data(), columns, padded,
            own(all, columns));
  }
};

template <class Real>
void weight_gradients(const TrackBackward<Real>& a, const Track<Real>& track, const Real* projected,
                      const Sizes& sizes, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
  const Size size = a.spec.size(a.layer);
  const Timeline time = a.tape.sequences.timeline(a.reverse());
  const auto x = input_runs(time, a.in.x);
  const auto h = hidden_runs<Real>(time, a.y, track.h0.data(), sizes.padded_output);
  const Run<Real> operand{track.operand.data(), sizes.padded_hidden, 0, 1, time.total()};
  const double flops = step_flops(a.spec, size, time.total());
  const int threads = flops < 1e6 ? 1 : lease.threads();
  const auto scratch = buffer<Real>(threads, k.gradient_scratch(size, threads));
  const WeightGradient<Real> g{
      .size = size,
      .rows = time.taped(),
      .gates = track.gates.data(),
      .projected = projected,
      .x = view(x),
      .h = view(h),
      .operand = {&operand, operand.a ? 1 : 0},
      .tokens = a.in.tokens,
      .d = weights(a.spec, a.call.dparameters, a.layer, a.direction),
      .scratch = scratch.data(),
  };
  lease.run(threads, [&](const Worker& me) { k.weight_gradient(g, me); });
}

template <class Real>
Buffer<Real> pack_track(const TrackBackward<Real>& a, index elements, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
  Buffer<Real> packed(elements);
  const Size size = a.spec.size(a.layer);
  const auto w = weights(a.spec, a.call.parameters, a.layer, a.direction);
  lease.run(pack_threads(packed.size(), lease),
            [&](const Worker& me) { k.pack_backward(size, w, packed.data(), me); });
  return packed;
}

template <class Real>
void run_track(const TrackBackward<Real>& a, Track<Real>& track, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
  const Sequences& sequences = a.tape.sequences;
  const Size size = a.spec.size(a.layer);
  const Sizes sizes = k.sizes(size);
  const Timeline time = sequences.timeline(a.reverse());
  const auto packed = pack_track(a, sizes.packed_backward, lease);
  const auto dh = a.final_rows(a.call.dfinal.h, size.output, sizes.padded_output);
  Buffer<Real> dc;
  if (a.spec.traits().has_cell_state)
    dc = a.final_rows(a.call.dfinal.c, size.hidden, sizes.padded_hidden);
  const auto projected = buffer<Real>(time.taped(), sizes.projected_per_row);
  const Plan plan = plan_for(a.spec, size, sizes, sizeof(Real), sequences, a.in.tokens != nullptr,
                             lease.threads());
  const Backward<Real> g{
      .size = size,
      .time = time,
      .packed = packed.data(),
      .y = a.y,
      .dy = a.dy,
      .h0 = track.h0.data(),
      .c0 = track.c0.data(),
      .cells = track.cells.data(),
      .gates = track.gates.data(),
      .projected = projected.data(),
      .dh = dh.data(),
      .dc = dc.data(),
      .dx = a.dx,
      .add_dx = a.direction > 0,
      .prefetch = plan.prefetch,
  };
  lease.run(plan.crews, plan.crew, [&](const Worker& me) { k.backward(g, me); });
  a.keep_initial(dh, size.output, sizes.padded_output, a.call.dinitial.h);
  a.keep_initial(dc, size.hidden, sizes.padded_hidden, a.call.dinitial.c);
  weight_gradients(a, track, projected.data(), sizes, lease);
}

template <class Real>
LayerInput<Real> layer_input(const Spec& spec, const Tape<Real>& tape, index layer) {
  if (layer == 0) return {tape.x, tape.tokens.data()};
  const auto& source = spec.dropout > 0 ? tape.dropped[layer - 1] : tape.outputs[layer - 1];
  return {read_only(packed_rows(source.data(), spec.width(), tape.sequences))};
}

template <class Real>
Rows<const Real> layer_output(const Spec& spec, const Tape<Real>& tape, index layer) {
  if (layer == spec.layers - 1) return read_only(tape.y);
  return read_only(packed_rows(tape.outputs[layer].data(), spec.width(), tape.sequences));
}

// Without a single step.
template <class Real>
void no_gradient(const Spec& spec, const BackwardCall<Real>& call, const Sequences& sequences,
                 Lease& lease) {
  std::memset(call.dparameters, 0, parameter_count(spec) * sizeof(Real));
  if (call.dx) scatter<Real>(sequences, nullptr, spec.input, call.dx, lease);
}

}  // namespace

template <class Real>
void backward(const Spec& spec, const BackwardCall<Real>& call, Tape<Real>& tape, Lease& lease) {
  const Sequences& sequences = tape.sequences;
  pass_state(spec, sequences, call.dfinal, call.dinitial);
  clear_started(spec, sequences, call.dinitial);
  if (!sequences.rows()) return no_gradient(spec, call, sequences, lease);
  Buffer<Real> above;  // dy, where it is not the user's
  Rows<const Real> dy = call.dy;
  if (dy && sequences.packed()) {
    above = gather(sequences, call.dy, spec.width(), lease);
    dy = read_only(packed_rows(above.data(), spec.width(), sequences));
  }
  for (index layer = spec.layers - 1; layer >= 0; --layer) {
    Buffer<Real> made;
    Rows<Real> dx = call.dx;
    const index columns = spec.layer_input(layer);
    if (layer > 0 || (dx && sequences.packed())) {
      made = buffer<Real>(sequences.rows(), columns);
      dx = packed_rows(made.data(), columns, sequences);
    }
    const auto in = layer_input(spec, tape, layer);
    const auto y = layer_output(spec, tape, layer);
    for (int d = 0; d < spec.directions; ++d)
      run_track<Real>({spec, call, tape, layer, d, in, shifted(y, d * spec.output()),
                       shifted(dy, d * spec.output()), dx},
                      tape.tracks[layer * spec.directions + d], lease);
    if (layer == 0) {
      if (call.dx && sequences.packed()) scatter(sequences, made.data(), columns, call.dx, lease);
      return;
    }
    if (spec.dropout > 0) made = drop(spec, tape, layer - 1, made.data(), lease);
    above = std::move(made);
    dy = read_only(packed_rows(above.data(), columns, sequences));
  }
}

template void backward(const Spec&, const BackwardCall<float>&, Tape<float>&, Lease&);
template void backward(const Spec&, const BackwardCall<double>&, Tape<double>&, Lease&);

}  // namespace rnnfast
