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

// Several layers at once, each a little behind the one it reads from.
template <class Real>
void run_wave(std::vector<TrackForward<Real>>& tracks, const Plan& plan, index phases,
              Lease& lease) {
  std::vector<ForwardPass<Real>> passes;
  for (const auto& track : tracks) passes.push_back(track.pass());
  const Wave wave(plan.layers, plan.crews);
  const int threads = plan.threads();
  lease.run(plan.layers * plan.crews, plan.crew, [&](const Worker& me) {
    const int layer = me.index / threads;
    passes[layer].follow(wave, layer, phases, me.within(threads));
  });
}

// All directions of a layer, of which call(d) is one; `record` is null or holds a track for each.
template <class Real, class Call>
void run_layer(const Spec& spec, const Plan& plan, Call call, Track<Real>* record, Lease& lease) {
  const auto own = [&](int d) { return record ? record + d : nullptr; };
  if (plan.together) {
    TrackForward<Real> both[2] = {{call(0), plan, record != nullptr, lease},
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

// A forward pass of a whole network, layer by layer or several at once.
template <class Real>
class NetworkForward {
 public:
  NetworkForward(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
                 Tape<Real>* tape, bool direct, Lease& lease)
      : spec_(spec),
        set_(call.packed ? *call.packed->instructions : current()),
        call_(call),
        sequences_(sequences),
        tape_(tape),
        direct_(direct),
        lease_(lease),
        machine_(this_machine(lease.threads())) {}

  void run();

 private:
  Work work_from(index layer) const;
  // Where a layer writes.
  Rows<Real> output(index layer);
  TrackCall<Real> track(index layer, int direction) const {
    const Rows<Real> y = shifted(y_[layer], direction * spec_.output());
    return {spec_, set_, call_, sequences_, layer, direction, in_[layer], y, direct_};
  }
  Track<Real>* record(index layer) const {
    return tape_ ? &tape_->tracks[layer * spec_.directions] : nullptr;
  }
  void run_at_once(index first, const Plan& plan);
  // What is left to do when a layer has run: dropout, the tape.
  void finish(index layer);

  const Spec& spec_;
  const InstructionSet& set_;
  const ForwardCall<Real>& call_;
  const Sequences& sequences_;
  Tape<Real>* tape_;
  bool direct_;
  Lease& lease_;
  Machine machine_;
  std::vector<LayerInput<Real>> in_;  // of each layer so far
  std::vector<Rows<Real>> y_;
  std::vector<Buffer<Real>> made_;  // outputs that are not the user's array, while they are needed
};

template <class Real>
Work NetworkForward<Real>::work_from(index layer) const {
  const Size size = spec_.size(layer);
  const bool tokens = in_[layer].tokens != nullptr, one_by_one = tape_ && spec_.recompute;
  const bool waves = spec_.directions == 1 && !one_by_one && !direct_ &&
                     !(tape_ && spec_.dropout > 0) && sequences_.timeline(false).steps > 1;
  return work_for(spec_, size, kernels<Real>(set_, spec_).sizes(size), sizeof(Real), sequences_,
                  tokens, one_by_one ? 1 : spec_.directions,
                  waves ? costs_of_followers(spec_, layer, 1, tokens, machine_.threads)
                        : std::vector<double>());
}

template <class Real>
Rows<Real> NetworkForward<Real>::output(index layer) {
  if (layer == spec_.layers - 1 && !sequences_.packed()) return call_.y;
  made_[layer] = buffer<Real>(sequences_.rows(), spec_.width());
  return packed_rows(made_[layer].data(), spec_.width(), sequences_);
}

template <class Real>
void NetworkForward<Real>::run_at_once(index first, const Plan& plan) {
  std::vector<TrackForward<Real>> tracks;
  tracks.reserve(plan.layers);
  for (index layer = first; layer < first + plan.layers; ++layer) {
    Plan own = plan;
    if (layer > first) {
      in_.push_back({read_only(y_[layer - 1])});
      y_.push_back(output(layer));
      own = follow(plan, work_from(layer), machine_);
    }
    tracks.emplace_back(track(layer, 0), own, tape_ != nullptr, lease_);
  }
  run_wave(tracks, plan, spec_.traits().phases(), lease_);
  for (index layer = first; layer < first + plan.layers; ++layer)
    tracks[layer - first].finish(record(layer));
}

template <class Real>
void NetworkForward<Real>::finish(index layer) {
  const bool last = layer == spec_.layers - 1;
  if (last && sequences_.packed())
    scatter(sequences_, made_[layer].data(), spec_.width(), call_.y, lease_);
  if (!tape_) {
    if (layer > 0) made_[layer - 1] = {};  // it has been read
    return;
  }
  if (last) tape_->y = y_[layer];
  if (!last && spec_.dropout > 0)
    tape_->dropped[layer] = drop(spec_, *tape_, layer, made_[layer].data(), lease_);
  tape_->outputs[layer] = std::move(made_[layer]);
}

template <class Real>
void NetworkForward<Real>::run() {
  if (tape_) tape_->instructions = &set_;
  pass_state(spec_, sequences_, call_.initial, call_.final);
  Buffer<Real> gathered;
  Buffer<int32_t> tokens;
  LayerInput<Real> in{};
  if (sequences_.rows())
    in = first_input(spec_, call_, sequences_, tape_ ? tape_->gathered : gathered,
                     tape_ ? tape_->tokens : tokens, lease_);
  if (tape_) tape_->x = in.x;
  made_.resize(spec_.layers);
  for (index layer = 0; layer < spec_.layers;) {
    const index first = layer;
    in_.push_back(in);
    y_.push_back(output(layer));
    Plan plan{};
    if (sequences_.rows()) {
      plan = rnnfast::plan(work_from(layer), machine_);
      if (plan.layers > 1)
        run_at_once(layer, plan);
      else
        run_layer<Real>(spec_, plan, [&](int d) { return track(layer, d); }, record(layer), lease_);
    }
    for (; layer < first + plan.layers; ++layer) finish(layer);
    in = {read_only(y_.back())};
    if (tape_ && layer < spec_.layers && spec_.dropout > 0)
      in.x.base = tape_->dropped[layer - 1].data();
  }
}

template <class Real>
void run_layers(const Spec& spec, const ForwardCall<Real>& call, const Sequences& sequences,
                Tape<Real>* tape, bool direct, Lease& lease) {
  NetworkForward<Real>(spec, call, sequences, tape, direct, lease).run();
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
