// Packing, forward passes and single steps of a whole network.
#include <cmath>
#include <cstring>
#include <utility>

#include "states.hpp"
#include "windows.hpp"

namespace rnnfast {
namespace {

// The input of the first layer; what had to be gathered goes into the given buffers.
template <class Real>
LayerInput<Real> first_input(const Spec& spec, const ForwardCall<Real>& call,
                             const Sequences& sequences, Buffer<Real>& gathered,
                             Buffer<int32_t>& tokens, Lease& lease) {
  if (call.tokens) {
    tokens = gather(sequences, call.tokens, 1, lease);
    return {{}, tokens.data()};
  }
  if (!sequences.packed()) return {call.x};
  gathered = gather(sequences, call.x, spec.input, lease);
  return {read_only(packed_rows(gathered.data(), spec.input, sequences))};
}

// Everything one layer and direction needs for its forward pass.
template <class Real>
struct TrackCall {
  const Spec& spec;
  const InstructionSet& instructions;
  const ForwardCall<Real>& call;
  const Sequences& sequences;
  index layer;
  int direction;
  LayerInput<Real> in;
  Rows<Real> y;  // of this direction
  bool direct;   // one step, weights as they lie

  bool reverse() const { return direction == 1; }
  index number() const { return layer * spec.directions + direction; }
  // The part of a state array that belongs here.
  template <class T>
  T* own(T* all, index columns) const {
    return part(all, number(), sequences.batch(), columns);
  }
};

// The initial cell state, a row per segment; nothing for cells that have none.
template <class Real>
Buffer<Real> initial_cells(const TrackCall<Real>& a, const Sizes& sizes) {
  if (!a.spec.traits().has_cell_state) return {};
  return spread(a.sequences, takes_initial, a.reverse(), a.own(a.call.initial.c, a.spec.hidden),
                a.spec.hidden, sizes.padded_hidden);
}

// The memory of a pass: what BPTT needs of all steps, else what one step needs.
template <class Real>
Track<Real> new_track(const TrackCall<Real>& a, const Sizes& sizes, bool record) {
  const CellTraits& traits = a.spec.traits();
  const index n = a.sequences.rows(), width = a.sequences.width();
  Track<Real> t;
  t.h0 = spread(a.sequences, takes_initial, a.reverse(), a.own(a.call.initial.h, a.spec.output()),
                a.spec.output(), sizes.padded_output);
  if (record) t.c0 = initial_cells(a, sizes);
  if (record && traits.has_cell_state) t.cells = buffer<Real>(n, sizes.padded_hidden);
  if (record) t.gates = buffer<Real>(a.sequences.timeline(false).taped(), sizes.gates_per_row);
  if (traits.needs_operand) t.operand = buffer<Real>(record ? n : width, sizes.padded_hidden);
  return t;
}

// Final states: the rows a direction processes last.
template <class Real>
void keep_final(const TrackCall<Real>& a, const Sizes& sizes, const Real* c) {
  collect(a.sequences, leaves_final, a.reverse(), c, a.spec.hidden, sizes.padded_hidden,
          a.own(a.call.final.c, a.spec.hidden));
  const index columns = a.spec.output();
  Real* h = a.own(a.call.final.h, columns);
  for (index s = 0; h && s < a.sequences.width(); ++s) {
    const Segment& segment = a.sequences.segments()[s];
    if (leaves_final(segment, a.reverse()))
      std::memcpy(h + segment.batch * columns, a.y.at(a.reverse() ? 0 : segment.length - 1, s),
                  columns * sizeof(Real));
  }
}

// One layer and direction, ready to be run.
template <class Real>
struct TrackForward {
  TrackCall<Real> a;
  const CellKernels<Real>& k;
  Sizes sizes;
  Plan plan;
  bool by_windows;
  Track<Real> track;
  Buffer<Real> c, own, between, scratch;
  Forward<Real> f;

  TrackForward(const TrackCall<Real>& call, const Plan& plan, bool record, Lease& lease);

  ForwardPass<Real> pass() const { return {k, plan, sizes, f}; }
  void run(Lease& lease);
  // What BPTT needs goes to `record`, which may be null.
  void finish(Track<Real>* record) {
    keep_final(a, sizes, c.data());
    if (record) *record = std::move(track);
  }
};

template <class Real>
TrackForward<Real>::TrackForward(const TrackCall<Real>& call, const Plan& plan, bool record,
                                 Lease& lease)
    : a(call),
      k(kernels<Real>(a.instructions, a.spec)),
      sizes(k.sizes(a.spec.size(a.layer))),
      plan(plan),
      by_windows(record && a.spec.recompute) {
  const Size size = a.spec.size(a.layer);
  track = new_track(a, sizes, record && !by_windows);
  c = initial_cells(a, sizes);
  const Real* packed = nullptr;
  if (a.call.packed) {
    packed = a.call.packed->tracks[a.number()].data();
  } else if (!a.direct) {
    own = pack_forward(a.spec, k, a.call.parameters, a.layer, a.direction, lease);
    packed = own.data();
  }
  between = buffer<Real>(a.sequences.width(), sizes.between_per_row);
  scratch =
      buffer<Real>(plan.shares(), k.forward_scratch(size, a.sequences.timeline(false).rows(0)));
  f = {
      .size = size,
      .time = a.sequences.timeline(a.reverse()),
      .weights =
          packed ? Weights<const Real>{} : weights(a.spec, a.call.parameters, a.layer, a.direction),
      .packed = packed,
      .x = a.in.x,
      .tokens = a.in.tokens,
      .h0 = track.h0.data(),
      .c = c.data(),
      .y = a.y,
      .gates = track.gates.data(),
      .between = between.data(),
      .cells = track.cells.data(),
      .operand = track.operand.data(),
      .scratch = scratch.data(),
      .input = nullptr,
      .record = record && !by_windows,
      .prefetch = plan.prefetch,
      .scales = a.call.packed ? a.call.packed->scales[a.number()] : PerOperand<Real>{},
  };
}

template <class Real>
void TrackForward<Real>::run(Lease& lease) {
  if (!by_windows) return run_forward(k, plan, sizes, f, lease);
  const Windows windows(a.spec, f.time, sizes.gradient_rows);
  track.cells = forward_by_windows(k, plan, sizes, windows, f, lease);
  track.operand = {};
}

// Both directions of a layer at once.
template <class Real>
void run_together(TrackForward<Real> (&tracks)[2], const Plan& plan, Lease& lease) {
  const ForwardPass<Real> passes[2] = {tracks[0].pass(), tracks[1].pass()};
  const int threads = plan.threads();
  lease.run(2 * plan.crews, plan.crew,
            [&](const Worker& me) { passes[me.index / threads].run(me.within(threads)); });
}

// All directions of a layer, of which call(d) is one; `record` is null or holds a track for each.
template <class Real, class Call>
void run_layer(const Spec& spec, Call call, Track<Real>* record, Lease& lease) {
  const TrackCall<Real> first = call(0);
  const Size size = spec.size(first.layer);
  const Sizes sizes = kernels<Real>(first.instructions, spec).sizes(size);
  const bool one_by_one = record && spec.recompute;
  const Plan plan =
      plan_for(spec, size, sizes, sizeof(Real), first.sequences, first.in.tokens != nullptr,
               lease.threads(), one_by_one ? 1 : spec.directions);
  const auto own = [&](int d) { return record ? record + d : nullptr; };
  if (plan.together) {
    TrackForward<Real> both[2] = {{first, plan, record != nullptr, lease},
                                  {call(1), plan, record != nullptr, lease}};
    run_together(both, plan, lease);
    for (int d = 0; d < 2; ++d) both[d].finish(own(d));
    return;
  }
  for (int d = 0; d < spec.directions; ++d) {
    TrackForward<Real> track(call(d), plan, record != nullptr, lease);
    track.run(lease);
    track.finish(own(d));
  }
}

// The largest magnitude of n numbers and `most`; NaN once there is one.
template <class Real>
Real largest(const Real* from, index n, Real most) {
  for (index i = 0; i < n; ++i)
    if (!(std::abs(from[i]) <= most) && !std::isnan(most)) most = std::abs(from[i]);
  return most;
}

template <class Real>
Real largest(const Sequences& sequences, const Rows<const Real>& rows, index columns) {
  Real most = 0;
  const Timeline time = sequences.timeline(false);
  for (index t = 0; rows && t < time.steps; ++t)
    for (index b = 0; b < time.rows(t); ++b) most = largest(rows.at(t, b), columns, most);
  return most;
}

template <class Real>
void run_layers(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
                Tape<Real>* tape, bool direct, Lease& lease) {
  const InstructionSet& set = call.packed ? *call.packed->instructions : current();
  if (tape) tape->instructions = &set;
  pass_state(spec, sequences, call.initial, call.final);
  Buffer<Real> gathered, output;
  Buffer<int32_t> tokens;
  LayerInput<Real> in{};
  if (sequences.rows())
    in = first_input(spec, call, sequences, tape ? tape->gathered : gathered,
                     tape ? tape->tokens : tokens, lease);
  if (tape) tape->x = in.x;
  for (index layer = 0; layer < spec.layers; ++layer) {
    const bool last = layer == spec.layers - 1;
    Buffer<Real> made;
    Rows<Real> y = call.y;
    if (!last || sequences.packed()) {
      made = buffer<Real>(sequences.rows(), spec.width());
      y = packed_rows(made.data(), spec.width(), sequences);
    }
    const auto track = [&](int d) -> TrackCall<Real> {
      return {spec, set, call, sequences, layer, d, in, shifted(y, d * spec.output()), direct};
    };
    if (sequences.rows())
      run_layer(spec, track, tape ? &tape->tracks[layer * spec.directions] : nullptr, lease);
    if (last && sequences.packed()) scatter(sequences, made.data(), spec.width(), call.y, lease);
    in = {read_only(y)};
    if (tape) {
      if (!last && spec.dropout > 0) {
        tape->dropped[layer] = drop(spec, *tape, layer, made.data(), lease);
        in.x.base = tape->dropped[layer].data();
      }
      if (last) tape->y = y;
      tape->outputs[layer] = std::move(made);
    } else {
      output = std::move(made);  // the layer below has been read
    }
  }
}

}  // namespace

template <class Real>
PackedNetwork<Real> pack(const Spec& spec, const Real* parameters, Lease& lease) {
  PackedNetwork<Real> network{&current(), {}, {}};
  network.scales.resize(spec.layers * spec.directions);
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int d = 0; d < spec.directions; ++d)
      network.tracks.push_back(pack_forward(spec, kernels<Real>(*network.instructions, spec),
                                            parameters, layer, d, lease));
  return network;
}

template <class Real>
std::vector<PerOperand<Real>> magnitudes(const Spec& spec, const Tape<Real>& tape) {
  std::vector<PerOperand<Real>> all;
  Rows<const Real> x = tape.x;
  for (index layer = 0; layer < spec.layers; ++layer) {
    Rows<Real> y = tape.y;
    if (const auto& made = tape.outputs[layer]; made.data())
      y = packed_rows(made.data(), spec.width(), tape.sequences);
    for (int d = 0; d < spec.directions; ++d) {
      const auto& operand = tape.tracks[all.size()].operand;
      all.push_back(
          {largest(tape.sequences, x, spec.size(layer).input),
           largest(tape.sequences, read_only(shifted(y, d * spec.output())), spec.output()),
           largest(operand.data(), operand.size(), Real{0})});
    }
    x = read_only(y);
  }
  return all;
}

template <class Real>
void forward(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
             Tape<Real>* tape, Lease& lease) {
  run_layers(spec, call, sequences, tape, false, lease);
}

template <class Real>
void step(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
          Lease& lease) {
  if (call.packed)
    return run_layers(spec, call, sequences, static_cast<Tape<Real>*>(nullptr), false, lease);
  // The parameters as they lie are at least as precise as any words made of them.
  Spec native = spec;
  native.compute = Compute::native;
  run_layers(native, call, sequences, static_cast<Tape<Real>*>(nullptr), true, lease);
}

#define RNNFAST_INSTANTIATE(Real)                                                             \
  template PackedNetwork<Real> pack(const Spec&, const Real*, Lease&);                        \
  template std::vector<PerOperand<Real>> magnitudes(const Spec&, const Tape<Real>&);          \
  template void forward(const Spec&, const ForwardCall<Real>&, const Sequences&, Tape<Real>*, \
                        Lease&);                                                              \
  template void step(const Spec&, const ForwardCall<Real>&, const Sequences&, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
