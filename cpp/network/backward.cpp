// Back-propagation through a whole network.
#include <cstring>
#include <optional>
#include <utility>

#include "runs.hpp"
#include "states.hpp"
#include "windows.hpp"

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

// Steps that BPTT goes back through at once, and what the forward pass left of them.
template <class Real>
struct Piece {
  Timeline time;
  LayerInput<Real> in;
  Rows<const Real> y, dy;
  Rows<Real> dx;
  const Real *h0, *c0, *cells, *operand;
  Real* gates;
  bool first, last;  // of all pieces, in the order of going back
};

// What all pieces have in common.
template <class Real>
struct Descent {
  const TrackBackward<Real>& a;
  const CellKernels<Real>& k;
  Size size;
  Sizes sizes;
  Plan plan;
  Buffer<Real> packed, dh, dc, projected, sums;

  void go_back(const Piece<Real>& piece, Lease& lease) const;
  void add_weight_gradients(const Piece<Real>& piece, Lease& lease) const;
};

template <class Real>
void Descent<Real>::add_weight_gradients(const Piece<Real>& piece, Lease& lease) const {
  const Timeline& time = piece.time;
  const auto chunked = [&](const std::vector<Run<Real>>& runs) {
    return Chunked<Real>(time, sizes.gradient_rows, runs);
  };
  const auto x = chunked(input_runs(time, piece.in.x));
  const auto h = chunked(hidden_runs<Real>(time, piece.y, piece.h0, sizes.padded_output));
  std::vector<Run<Real>> rows;
  if (piece.operand) rows.push_back({piece.operand, sizes.padded_hidden, 0, 1, time.total()});
  const auto operand = chunked(rows);
  const int threads = step_flops(a.spec, size, time.total()) < 1e6 ? 1 : lease.threads();
  const auto scratch = buffer<Real>(threads, k.gradient_scratch(size));
  const WeightGradient<Real> g{
      .size = size,
      .rows = time.taped(),
      .gates = piece.gates,
      .projected = projected.data(),
      .x = x.view(),
      .h = h.view(),
      .operand = operand.view(),
      .tokens = piece.in.tokens,
      .first = piece.first,
      .last = piece.last,
      .d = weights(a.spec, a.call.dparameters, a.layer, a.direction),
      .sums = sums.data(),
      .scratch = scratch.data(),
  };
  lease.run(threads, [&](const Worker& me) { k.weight_gradient(g, me); });
}

template <class Real>
void Descent<Real>::go_back(const Piece<Real>& piece, Lease& lease) const {
  const Backward<Real> g{
      .size = size,
      .time = piece.time,
      .packed = packed.data(),
      .y = piece.y,
      .dy = piece.dy,
      .h0 = piece.h0,
      .c0 = piece.c0,
      .cells = piece.cells,
      .gates = piece.gates,
      .projected = projected.data(),
      .dh = dh.data(),
      .dc = dc.data(),
      .dx = piece.dx,
      .add_dx = a.direction > 0,
      .prefetch = plan.prefetch,
  };
  lease.run(plan.crews, plan.crew, [&](const Worker& me) { k.backward(g, me); });
  add_weight_gradients(piece, lease);
}

// Window by window; a kernel leaves the gradient of a window's initial state where the next one,
// which lies before it, takes that of its final state.
template <class Real>
void go_back_by_windows(const Descent<Real>& all, const Windows& windows, const Track<Real>& track,
                        const Timeline& whole, Lease& lease) {
  const TrackBackward<Real>& a = all.a;
  Buffer<Real> forward;  // the weights for it
  if (a.spec.traits().records)
    forward = pack_forward(a.spec, all.k, a.call.parameters, a.layer, a.direction, lease);
  Recomputation<Real> again(a.spec, all.k, all.plan, all.size, windows, std::move(forward));
  const auto count = static_cast<index>(windows.all().size());
  for (index i = count - 1; i >= 0; --i) {
    const Window& window = windows.all()[i];
    const Forward<Real> f = again.run(window, a.in, a.y, track, whole, lease);
    const Piece<Real> piece{
        .time = f.time,
        .in = {f.x, f.tokens},
        .y = window.of(a.y),
        .dy = window.of(a.dy),
        .dx = window.of(a.dx),
        .h0 = f.h0,
        .c0 = f.c ? track.cells.data() + window.kept * all.sizes.padded_hidden : nullptr,
        .cells = f.cells,
        .operand = f.operand,
        .gates = f.gates,
        .first = i == count - 1,
        .last = i == 0,
    };
    all.go_back(piece, lease);
  }
}

template <class Real>
Buffer<Real> pack_track(const TrackBackward<Real>& a, index elements, Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
  Buffer<Real> packed(elements);
  const Size size = a.spec.size(a.layer);
  const auto w = weights(a.spec, a.call.parameters, a.layer, a.direction);
  pack_in_shares(packed.size(), lease,
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
  std::optional<Windows> windows;
  if (a.spec.recompute) windows.emplace(a.spec, time, sizes.gradient_rows);
  const index taped = windows ? windows->taped() : time.taped();
  const Descent<Real> all{
      .a = a,
      .k = k,
      .size = size,
      .sizes = sizes,
      .plan = plan_for(a.spec, size, sizes, sizeof(Real), sequences, a.in.tokens != nullptr,
                       lease.threads(), 1),
      .packed = pack_track(a, sizes.packed_backward, lease),
      .dh = a.final_rows(a.call.dfinal.h, size.output, sizes.padded_output),
      .dc = a.spec.traits().has_cell_state
                ? a.final_rows(a.call.dfinal.c, size.hidden, sizes.padded_hidden)
                : Buffer<Real>(),
      .projected = buffer<Real>(taped, sizes.projected_per_row),
      .sums = Buffer<Real>(k.gradient_sums(size)),
  };
  if (windows)
    go_back_by_windows(all, *windows, track, time, lease);
  else
    all.go_back({.time = time,
                 .in = a.in,
                 .y = a.y,
                 .dy = a.dy,
                 .dx = a.dx,
                 .h0 = track.h0.data(),
                 .c0 = track.c0.data(),
                 .cells = track.cells.data(),
                 .operand = track.operand.data(),
                 .gates = track.gates.data(),
                 .first = true,
                 .last = true},
                lease);
  a.keep_initial(all.dh, size.output, sizes.padded_output, a.call.dinitial.h);
  a.keep_initial(all.dc, size.hidden, sizes.padded_hidden, a.call.dinitial.c);
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
