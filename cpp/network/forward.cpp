// Packing, forward passes and single steps of a whole network.
#include <cstring>
#include <utility>

#include "layers.hpp"
#include "states.hpp"

namespace rnnfast {
namespace {

template <class Real>
Buffer<Real> pack_track(const Spec& spec, const CellKernels<Real>& k, const Real* parameters,
                        index layer, int direction, Lease& lease) {
  const Size size = spec.size(layer);
  Buffer<Real> packed(k.sizes(size).packed_forward);
  const auto w = weights(spec, parameters, layer, direction);
  lease.run(pack_threads(packed.size(), lease),
            [&](const Worker& me) { k.pack_forward(size, w, packed.data(), me); });
  return packed;
}

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

template <class Real>
void run_track(const TrackCall<Real>& a, Track<Real>* record, Lease& lease) {
  const auto& k = kernels<Real>(a.instructions, a.spec);
  const Size size = a.spec.size(a.layer);
  const Sizes sizes = k.sizes(size);
  Track<Real> t = new_track(a, sizes, record != nullptr);
  const Buffer<Real> c = initial_cells(a, sizes);
  Buffer<Real> own, input;
  const Real* packed = nullptr;
  if (a.call.packed) {
    packed = a.call.packed->tracks[a.number()].data();
  } else if (!a.direct) {
    own = pack_track(a.spec, k, a.call.parameters, a.layer, a.direction, lease);
    packed = own.data();
  }
  const Plan plan = plan_for(a.spec, size, sizes, sizeof(Real), a.sequences, a.in.tokens != nullptr,
                             lease.threads());
  const auto between = buffer<Real>(a.sequences.width(), sizes.between_per_row);
  const auto scratch =
      buffer<Real>(plan.threads(), k.forward_scratch(size, a.sequences.timeline(false).rows(0)));
  Forward<Real> f{
      .size = size,
      .time = a.sequences.timeline(a.reverse()),
      .weights =
          packed ? Weights<const Real>{} : weights(a.spec, a.call.parameters, a.layer, a.direction),
      .packed = packed,
      .x = a.in.x,
      .tokens = a.in.tokens,
      .h0 = t.h0.data(),
      .c = c.data(),
      .y = a.y,
      .gates = t.gates.data(),
      .between = between.data(),
      .cells = t.cells.data(),
      .operand = t.operand.data(),
      .scratch = scratch.data(),
      .input = nullptr,
      .record = record != nullptr,
      .prefetch = plan.prefetch,
  };
  if (plan.input_first && packed) {
    input = buffer<Real>(a.sequences.rows(), sizes.input_per_row);
    lease.run(plan.threads(), [&](const Worker& me) { k.input_product(f, input.data(), me); });
    f.input = input.data();
  }
  lease.run(plan.crews, plan.crew, [&](const Worker& me) { k.forward(f, me); });
  keep_final(a, sizes, c.data());
  if (record) *record = std::move(t);
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
    for (int d = 0; d < spec.directions && sequences.rows(); ++d)
      run_track<Real>(
          {spec, set, call, sequences, layer, d, in, shifted(y, d * spec.output()), direct},
          tape ? &tape->tracks[layer * spec.directions + d] : nullptr, lease);
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
  PackedNetwork<Real> network{&current(), {}};
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int d = 0; d < spec.directions; ++d)
      network.tracks.push_back(pack_track(spec, kernels<Real>(*network.instructions, spec),
                                          parameters, layer, d, lease));
  return network;
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
  template void forward(const Spec&, const ForwardCall<Real>&, const Sequences&, Tape<Real>*, \
                        Lease&);                                                              \
  template void step(const Spec&, const ForwardCall<Real>&, const Sequences&, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
