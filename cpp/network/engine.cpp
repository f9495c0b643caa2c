#include "engine.hpp"

#include <algorithm>
#include <cstring>

#include "../dispatch/cpu.hpp"
#include "plan.hpp"

namespace rnnfast {
namespace {

template <class Real>
const CellKernels<Real>& kernels(const InstructionSet& set, Cell cell) {
  return table<Real>(set).cell[static_cast<int>(cell)];
}

double step_flops(const Spec& spec, const Size& size, index batch) {
  const double gates = 2.0 * spec.traits().gates * static_cast<double>(size.hidden);
  return static_cast<double>(batch) * (gates * static_cast<double>(size.input + size.output) +
                                       2.0 * static_cast<double>(spec.projection * size.hidden));
}

Plan plan_for(const Spec& spec, const Size& size, const Sizes& sizes, index element,
              const Sequences& sequences, bool tokens, int threads) {
  const Timeline time = sequences.timeline(false);
  const Work work{
      .steps = time.steps,
      .rows = time.total(),
      .batch = time.rows(0),
      .ragged = time.rows(0) * time.steps != time.total(),
      .step_flops = step_flops(spec, size, time.rows(0)),
      .panels = sizes.panels,
      .weight_bytes = sizes.packed_forward * element,
      .tokens = tokens,
      .cache_bytes = second_level_cache(),
  };
  return plan(work, threads);
}

int pack_threads(index elements, const Lease& lease) {
  constexpr index worth_waking = 64 * 1024;
  return elements < worth_waking ? 1 : lease.threads();
}

// Which segments begin with the given initial state of their sequence, and which leave its final
// state, in the given direction.
bool takes_initial(const Segment& s, bool reverse) {
  return reverse ? s.last : s.first && !s.from_zero;
}
bool leaves_final(const Segment& s, bool reverse) { return reverse ? s.first : s.last; }

// One row per segment, `padded` apart, from one row per sequence; zero where `wanted` says no.
template <class Real, class Wanted>
Buffer<Real> spread(const Sequences& sequences, const Real* user, index columns, index padded,
                    Wanted wanted) {
  auto rows = buffer<Real>(sequences.width(), padded);
  if (rows.size()) std::memset(rows.data(), 0, rows.size() * sizeof(Real));
  if (!user) return rows;
  for (index s = 0; s < sequences.width(); ++s) {
    const Segment& segment = sequences.segments()[s];
    if (wanted(segment))
      std::memcpy(rows.data() + s * padded, user + segment.batch * columns, columns * sizeof(Real));
  }
  return rows;
}

template <class Real, class Wanted>
void collect(const Sequences& sequences, const Real* rows, index columns, index padded, Real* user,
             Wanted wanted) {
  if (!user) return;
  for (index s = 0; s < sequences.width(); ++s) {
    const Segment& segment = sequences.segments()[s];
    if (wanted(segment))
      std::memcpy(user + segment.batch * columns, rows + s * padded, columns * sizeof(Real));
  }
}

// The part of a state array that belongs to one layer and direction.
template <class Real>
Real* part(Real* all, index track, index batch, index columns) {
  return all ? all + track * batch * columns : nullptr;
}

template <class Real>
void copy_state(const Real* from, Real* to, index count) {
  if (!to) return;
  if (from)
    std::memcpy(to, from, count * sizeof(Real));
  else
    std::memset(to, 0, count * sizeof(Real));
}

// A state passes through where a sequence has no steps; every other one is overwritten later.
template <class Real>
void pass_state(const Spec& spec, const Sequences& sequences, const State<const Real>& from,
                const State<Real>& to) {
  const index count = spec.layers * spec.directions * sequences.batch();
  copy_state(from.h, to.h, count * spec.output());
  if (spec.traits().has_cell_state) copy_state(from.c, to.c, count * spec.hidden);
}

template <class Real>
Rows<Real> shifted(Rows<Real> rows, index columns) {
  if (rows) rows.base += columns;
  return rows;
}

template <class Real>
Rows<const Real> read_only(const Rows<Real>& r) {
  return {r.base, r.step, r.row, r.offset};
}

template <class Real>
Rows<Real> packed_rows(Real* data, index width, const Sequences& sequences) {
  return {data, 0, width, sequences.timeline(false).offset};
}

template <class Real>
Buffer<Real> pack_track(const Spec& spec, const CellKernels<Real>& k, const Real* parameters,
                        index layer, int direction, Lease& lease) {
  const Size size = spec.size(layer);
  Buffer<Real> packed(k.sizes(size).packed_forward);
  const auto w = weights(spec, parameters, layer, direction);
  lease.run(pack_threads(packed.size(), lease), false,
            [&](const Worker& me) { k.pack_forward(size, w, packed.data(), me); });
  return packed;
}

// Dropout of a layer's output, or of its gradient; element (t, b, j) of the padded batch decides.
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

// A layer's input as rows that kernels can read, or tokens.
template <class Real>
struct LayerInput {
  Rows<const Real> x;
  const int32_t* tokens = nullptr;
};

template <class Real>
LayerInput<Real> first_input(const Spec& spec, const ForwardCall<Real>& call,
                             const Sequences& sequences, Buffer<Real>& gathered,
                             Buffer<int32_t>& tokens, Lease& lease) {
  const Timeline time = sequences.timeline(false);
  if (call.tokens) {
    tokens = Buffer<int32_t>(sequences.rows());
    sequences.gather(call.tokens, 1, tokens.data(), 0, time.steps);
    return {{}, tokens.data()};
  }
  if (!sequences.packed()) return {call.x};
  gathered = buffer<Real>(sequences.rows(), spec.input);
  lease.parallel(time.steps, static_cast<double>(sequences.width() * spec.input),
                 [&](index begin, index end) {
                   sequences.gather(call.x, spec.input, gathered.data(), begin, end);
                 });
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
};

template <class Real>
void run_track(const TrackCall<Real>& a, Track<Real>* record, Lease& lease) {
  const auto& k = kernels<Real>(a.instructions, a.spec.cell);
  const Size size = a.spec.size(a.layer);
  const Sizes sizes = k.sizes(size);
  const CellTraits& traits = a.spec.traits();
  const bool reverse = a.direction == 1;
  const index track = a.layer * a.spec.directions + a.direction, batch = a.sequences.batch();
  const index n = a.sequences.rows();
  const Timeline time = a.sequences.timeline(reverse);
  const auto initial = [&](const Segment& s) { return takes_initial(s, reverse); };

  Track<Real> t;
  t.h0 = spread(a.sequences, part(a.call.initial.h, track, batch, size.output), size.output,
                sizes.padded_output, initial);
  Buffer<Real> c;
  if (traits.has_cell_state) {
    const Real* c0 = part(a.call.initial.c, track, batch, size.hidden);
    c = spread(a.sequences, c0, size.hidden, sizes.padded_hidden, initial);
    if (record) t.c0 = spread(a.sequences, c0, size.hidden, sizes.padded_hidden, initial);
    if (record) t.cells = buffer<Real>(n, sizes.padded_hidden);
  }
  const index width = a.sequences.width();
  if (record || traits.needs_operand)
    t.gates = buffer<Real>(record ? time.taped() : width, sizes.gates_per_row);
  if (traits.needs_operand) t.operand = buffer<Real>(record ? n : width, sizes.padded_hidden);

  Buffer<Real> own;
  const Real* packed = nullptr;
  if (a.call.packed) {
    packed = a.call.packed->tracks[track].data();
  } else if (!a.direct) {
    own = pack_track(a.spec, k, a.call.parameters, a.layer, a.direction, lease);
    packed = own.data();
  }
  const Plan plan = plan_for(a.spec, size, sizes, sizeof(Real), a.sequences, a.in.tokens != nullptr,
                             lease.threads());
  Forward<Real> f{
      .size = size,
      .time = time,
      .weights = weights(a.spec, a.call.parameters, a.layer, a.direction),
      .packed = packed,
      .x = a.in.x,
      .tokens = a.in.tokens,
      .h0 = t.h0.data(),
      .c = c.data(),
      .y = a.y,
      .gates = t.gates.data(),
      .cells = t.cells.data(),
      .operand = t.operand.data(),
      .input = nullptr,
      .record = record != nullptr,
      .prefetch = plan.prefetch,
  };
  Buffer<Real> input;
  if (plan.input_first && packed) {
    input = buffer<Real>(n, sizes.input_per_row);
    lease.run(plan.threads, true, [&](const Worker& me) { k.input_product(f, input.data(), me); });
    f.input = input.data();
  }
  lease.run(plan.threads, plan.split_units, [&](const Worker& me) { k.forward(f, me); });

  // Final states: the rows a direction processes last.
  const auto final = [&](const Segment& s) { return leaves_final(s, reverse); };
  collect(a.sequences, c.data(), size.hidden, sizes.padded_hidden,
          part(a.call.final.c, track, batch, size.hidden), final);
  Real* h = part(a.call.final.h, track, batch, size.output);
  for (index s = 0; h && s < a.sequences.width(); ++s) {
    const Segment& segment = a.sequences.segments()[s];
    if (final(segment))
      std::memcpy(h + segment.batch * size.output, a.y.at(reverse ? 0 : segment.length - 1, s),
                  size.output * sizeof(Real));
  }
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
    for (int d = 0; d < spec.directions; ++d) {
      Track<Real>* record = tape ? &tape->tracks[layer * spec.directions + d] : nullptr;
      if (sequences.rows())
        run_track<Real>(
            {spec, set, call, sequences, layer, d, in, shifted(y, d * spec.output()), direct},
            record, lease);
    }
    if (last && sequences.packed())
      lease.parallel(std::max<index>(sequences.width(), 1),
                     static_cast<double>(sequences.steps() * spec.width()),
                     [&](index begin, index end) {
                       sequences.scatter(made.data(), spec.width(), call.y, begin,
                                         std::min(end, sequences.width()));
                     });
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

template <class Real>
std::vector<Run<Real>> input_runs(const Timeline& time, const Rows<const Real>& x) {
  std::vector<Run<Real>> runs;
  for (index t = 0; t < time.steps; ++t)
    add_run(runs, x ? x.at(t, 0) : nullptr, x.row, time.offset[t], time.rows(t));
  return runs;
}

// h_{t-1} beside every row of the tape: an earlier output, or the initial state.
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

template <class Real>
Runs<Real> view(const std::vector<Run<Real>>& runs) {
  return {runs.data(), static_cast<index>(runs.size())};
}

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
};

template <class Real>
void weight_gradients(const TrackBackward<Real>& a, const Track<Real>& track, const Real* projected,
                      const Sizes& sizes, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec.cell);
  const Size size = a.spec.size(a.layer);
  const Timeline time = a.tape.sequences.timeline(a.direction == 1);
  const auto x = input_runs(time, a.in.x);
  const auto h = hidden_runs(time, a.y, track.h0.data(), sizes.padded_output);
  std::vector<Run<Real>> operand;
  if (track.operand.data())
    add_run(operand, static_cast<const Real*>(track.operand.data()), sizes.padded_hidden, 0,
            time.total());
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
      .operand = view(operand),
      .tokens = a.in.tokens,
      .d = weights(a.spec, a.call.dparameters, a.layer, a.direction),
      .scratch = scratch.data(),
  };
  lease.run(threads, true, [&](const Worker& me) { k.weight_gradient(g, me); });
}

template <class Real>
void run_track_backward(const TrackBackward<Real>& a, Track<Real>& track, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec.cell);
  const Sequences& sequences = a.tape.sequences;
  const Size size = a.spec.size(a.layer);
  const Sizes sizes = k.sizes(size);
  const bool reverse = a.direction == 1;
  const Timeline time = sequences.timeline(reverse);
  const index number = a.layer * a.spec.directions + a.direction, batch = sequences.batch();
  const auto final = [&](const Segment& s) { return leaves_final(s, reverse); };
  const auto initial = [&](const Segment& s) { return takes_initial(s, reverse); };

  Buffer<Real> packed(sizes.packed_backward);
  const auto w = weights(a.spec, a.call.parameters, a.layer, a.direction);
  lease.run(pack_threads(packed.size(), lease), false,
            [&](const Worker& me) { k.pack_backward(size, w, packed.data(), me); });

  const auto dh = spread(sequences, part(a.call.dfinal.h, number, batch, size.output), size.output,
                         sizes.padded_output, final);
  Buffer<Real> dc;
  if (a.spec.traits().has_cell_state)
    dc = spread(sequences, part(a.call.dfinal.c, number, batch, size.hidden), size.hidden,
                sizes.padded_hidden, final);
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
  lease.run(plan.threads, plan.split_units, [&](const Worker& me) { k.backward(g, me); });

  collect(sequences, dh.data(), size.output, sizes.padded_output,
          part(a.call.dinitial.h, number, batch, size.output), initial);
  collect(sequences, dc.data(), size.hidden, sizes.padded_hidden,
          part(a.call.dinitial.c, number, batch, size.hidden), initial);
  weight_gradients(a, track, projected.data(), sizes, lease);
}

// Sequences with a segment lose what pass_state gave them: only takes_initial's are set later.
template <class Real>
void clear_started(const Spec& spec, const Sequences& sequences, const State<Real>& state) {
  const auto clear = [&](Real* all, index columns) {
    if (!all) return;
    for (index track = 0; track < spec.layers * spec.directions; ++track)
      for (const Segment& s : sequences.segments())
        std::memset(part(all, track, sequences.batch(), columns) + s.batch * columns, 0,
                    columns * sizeof(Real));
  };
  clear(state.h, spec.output());
  clear(state.c, spec.hidden);
}

}  // namespace

template <class Real>
PackedNetwork<Real> pack(const Spec& spec, const Real* parameters, Lease& lease) {
  PackedNetwork<Real> network{&current(), {}};
  for (index layer = 0; layer < spec.layers; ++layer)
    for (int d = 0; d < spec.directions; ++d)
      network.tracks.push_back(pack_track(spec, kernels<Real>(*network.instructions, spec.cell),
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
  run_layers(spec, call, sequences, static_cast<Tape<Real>*>(nullptr), true, lease);
}

template <class Real>
void backward(const Spec& spec, const BackwardCall<Real>& call, Tape<Real>& tape, Lease& lease) {
  const Sequences& sequences = tape.sequences;
  const Timeline time = sequences.timeline(false);
  pass_state(spec, sequences, call.dfinal, call.dinitial);
  clear_started(spec, sequences, call.dinitial);
  if (!sequences.rows()) {
    std::memset(call.dparameters, 0, parameter_count(spec) * sizeof(Real));
    if (call.dx) sequences.scatter<Real>(nullptr, spec.input, call.dx, 0, 0);
    return;
  }
  Buffer<Real> gathered, below;
  Rows<const Real> dy = call.dy;
  if (dy && sequences.packed()) {
    gathered = buffer<Real>(sequences.rows(), spec.width());
    lease.parallel(time.steps, static_cast<double>(sequences.width() * spec.width()),
                   [&](index begin, index end) {
                     sequences.gather(call.dy, spec.width(), gathered.data(), begin, end);
                   });
    dy = read_only(packed_rows(gathered.data(), spec.width(), sequences));
  }
  for (index layer = spec.layers - 1; layer >= 0; --layer) {
    Buffer<Real> made;
    Rows<Real> dx = call.dx;
    const index columns = spec.layer_input(layer);
    if (layer > 0 || (dx && sequences.packed())) {
      made = buffer<Real>(sequences.rows(), columns);
      dx = packed_rows(made.data(), columns, sequences);
    }
    LayerInput<Real> in{tape.x, tape.tokens.data()};
    if (layer > 0) {
      const auto& source = spec.dropout > 0 ? tape.dropped[layer - 1] : tape.outputs[layer - 1];
      in = {read_only(packed_rows(source.data(), columns, sequences))};
    }
    const Rows<Real> y = layer == spec.layers - 1
                             ? tape.y
                             : packed_rows(tape.outputs[layer].data(), spec.width(), sequences);
    for (int d = 0; d < spec.directions; ++d)
      run_track_backward<Real>(
          {spec, call, tape, layer, d, in, read_only(shifted(y, d * spec.output())),
           shifted(dy, d * spec.output()), dx},
          tape.tracks[layer * spec.directions + d], lease);
    if (layer == 0) {
      if (call.dx && sequences.packed())
        lease.parallel(sequences.width(), static_cast<double>(time.steps * columns),
                       [&](index begin, index end) {
                         sequences.scatter(made.data(), columns, call.dx, begin, end);
                       });
      return;
    }
    if (spec.dropout > 0) made = drop(spec, tape, layer - 1, made.data(), lease);
    below = std::move(made);
    dy = read_only(packed_rows(below.data(), columns, sequences));
  }
}

#define RNNFAST_INSTANTIATE(Real)                                                             \
  template PackedNetwork<Real> pack(const Spec&, const Real*, Lease&);                        \
  template void forward(const Spec&, const ForwardCall<Real>&, const Sequences&, Tape<Real>*, \
                        Lease&);                                                              \
  template void step(const Spec&, const ForwardCall<Real>&, const Sequences&, Lease&);        \
  template void backward(const Spec&, const BackwardCall<Real>&, Tape<Real>&, Lease&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
