// Back-propagation through a whole network.
#include <cstring>
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
  bool add_dx;  // dx has the other direction's gradient
  Buffer<Real> packed, dh, dc, projected, sums;

  Backward<Real> call(const Piece<Real>& piece) const;
  void go_back(const Piece<Real>& piece, Lease& lease) const;
  void add_weight_gradients(const Piece<Real>& piece, Lease& lease) const;
  void keep_initial() const;
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
Backward<Real> Descent<Real>::call(const Piece<Real>& piece) const {
  return {
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
      .add_dx = add_dx,
      .prefetch = plan.prefetch,
  };
}

template <class Real>
void Descent<Real>::go_back(const Piece<Real>& piece, Lease& lease) const {
  const Backward<Real> g = call(piece);
  lease.run(plan.crews, plan.crew, [&](const Worker& me) { k.backward(g, me); });
  add_weight_gradients(piece, lease);
}

template <class Real>
void Descent<Real>::keep_initial() const {
  a.keep_initial(dh, size.output, sizes.padded_output, a.call.dinitial.h);
  a.keep_initial(dc, size.hidden, sizes.padded_hidden, a.call.dinitial.c);
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

// `taped`: rows of the tape of a piece.
template <class Real>
Descent<Real> new_descent(const TrackBackward<Real>& a, const Plan& plan, index taped,
                          Lease& lease) {
  const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
  const Size size = a.spec.size(a.layer);
  const Sizes sizes = k.sizes(size);
  return {
      .a = a,
      .k = k,
      .size = size,
      .sizes = sizes,
      .plan = plan,
      .add_dx = a.direction > 0 && !plan.together,
      .packed = pack_track(a, sizes.packed_backward, lease),
      .dh = a.final_rows(a.call.dfinal.h, size.output, sizes.padded_output),
      .dc = a.spec.traits().has_cell_state
                ? a.final_rows(a.call.dfinal.c, size.hidden, sizes.padded_hidden)
                : Buffer<Real>(),
      .projected = buffer<Real>(taped, sizes.projected_per_row),
      .sums = Buffer<Real>(k.gradient_sums(size)),
  };
}

// All steps at once.
template <class Real>
Piece<Real> whole_piece(const TrackBackward<Real>& a, const Track<Real>& track, Rows<Real> dx) {
  return {.time = a.tape.sequences.timeline(a.reverse()),
          .in = a.in,
          .y = a.y,
          .dy = a.dy,
          .dx = dx,
          .h0 = track.h0.data(),
          .c0 = track.c0.data(),
          .cells = track.cells.data(),
          .operand = track.operand.data(),
          .gates = track.gates.data(),
          .first = true,
          .last = true};
}

template <class Real>
void run_track(const TrackBackward<Real>& a, const Plan& plan, Track<Real>& track, Lease& lease) {
  const Timeline time = a.tape.sequences.timeline(a.reverse());
  if (a.spec.recompute) {
    const auto& k = kernels<Real>(*a.tape.instructions, a.spec);
    const Windows windows(a.spec, time, k.sizes(a.spec.size(a.layer)).gradient_rows);
    const auto all = new_descent(a, plan, windows.taped(), lease);
    go_back_by_windows(all, windows, track, time, lease);
    return all.keep_initial();
  }
  const auto all = new_descent(a, plan, time.taped(), lease);
  all.go_back(whole_piece(a, track, a.dx), lease);
  all.keep_initial();
}

// to += from, rows of so many columns.
template <class Real>
void add_rows(const InstructionSet& set, const Timeline& time, index columns,
              const Rows<Real>& from, const Rows<Real>& to, Lease& lease) {
  const auto add = table<Real>(set).add;
  lease.parallel(time.steps, 2.0 * static_cast<double>(time.rows(0) * columns),
                 [&](index begin, index end) {
                   for (index t = begin; t < end; ++t)
                     for (index b = 0; b < time.rows(t); ++b)
                       add(from.at(t, b), to.at(t, b), columns);
                 });
}

// Both directions of a layer at once; the second one's gradient of the input is added at the end.
template <class Real>
void run_together(const TrackBackward<Real> (&a)[2], const Plan& plan, Track<Real>* tracks,
                  Lease& lease) {
  const Sequences& sequences = a[0].tape.sequences;
  const Timeline time = sequences.timeline(false);
  const index columns = a[0].spec.layer_input(a[0].layer);
  const Rows<Real> dx = a[0].dx;
  Buffer<Real> own;
  Rows<Real> second{};
  if (dx) {
    own = buffer<Real>(sequences.rows(), columns);
    second = packed_rows(own.data(), columns, sequences);
  }
  const Descent<Real> all[2] = {new_descent(a[0], plan, time.taped(), lease),
                                new_descent(a[1], plan, time.taped(), lease)};
  const Piece<Real> pieces[2] = {whole_piece(a[0], tracks[0], dx),
                                 whole_piece(a[1], tracks[1], second)};
  const Backward<Real> calls[2] = {all[0].call(pieces[0]), all[1].call(pieces[1])};
  const int threads = plan.threads();
  lease.run(2 * plan.crews, plan.crew, [&](const Worker& me) {
    all[0].k.backward(calls[me.index / threads], me.within(threads));
  });
  if (dx) add_rows(*a[0].tape.instructions, time, columns, second, dx, lease);
  for (int d = 0; d < 2; ++d) {
    all[d].add_weight_gradients(pieces[d], lease);
    all[d].keep_initial();
  }
}

// Several layers at once, from the top: each follows the one whose gradient it reads.
template <class Real>
void run_wave(const std::vector<TrackBackward<Real>>& a, const std::vector<Plan>& plans,
              Tape<Real>& tape, Lease& lease) {
  const Plan& plan = plans[0];
  std::vector<Descent<Real>> all;
  std::vector<Piece<Real>> pieces;
  std::vector<Backward<Real>> calls;
  for (const auto& one : a) {
    const Track<Real>& track = tape.tracks[one.layer];
    all.push_back(
        new_descent(one, plans[all.size()], tape.sequences.timeline(false).taped(), lease));
    pieces.push_back(whole_piece(one, track, one.dx));
    calls.push_back(all.back().call(pieces.back()));
  }
  const Wave wave(plan.layers, plan.crews);
  const int threads = plan.threads();
  // A visit of the loop forms the gradient of the input of the step that it visited before.
  const Pace pace{tape.sequences.timeline(false).steps + 1, a[0].spec.traits().phases(), 2};
  lease.run(plan.layers * plan.crews, plan.crew, [&](const Worker& me) {
    const int layer = me.index / threads;
    Follower follower(wave, layer, me.within(threads), pace);
    if (follower.begin()) all[layer].k.backward(calls[layer], follower.worker());
  });
  for (int layer = 0; layer < plan.layers; ++layer) {
    all[layer].add_weight_gradients(pieces[layer], lease);
    all[layer].keep_initial();
  }
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

// Back through a whole network, layer by layer or several at once.
template <class Real>
class NetworkBackward {
 public:
  NetworkBackward(const Spec& spec, const BackwardCall<Real>& call, Tape<Real>& tape, Lease& lease)
      : spec_(spec),
        call_(call),
        tape_(tape),
        lease_(lease),
        machine_(this_machine(lease.threads())) {}

  void run();

 private:
  Work work_from(index layer) const;
  // Where a layer writes the gradient of its input.
  Rows<Real> input_gradient(index layer);
  TrackBackward<Real> track(index layer, int direction) const {
    const index column = direction * spec_.output();
    return {spec_,
            call_,
            tape_,
            layer,
            direction,
            layer_input(spec_, tape_, layer),
            shifted(layer_output(spec_, tape_, layer), column),
            shifted(dy_, column),
            dx_};
  }
  void run_layer(index layer, const Plan& plan);
  void run_at_once(index last, const Plan& plan);
  void pass_on(index layer);

  const Spec& spec_;
  const BackwardCall<Real>& call_;
  Tape<Real>& tape_;
  Lease& lease_;
  Machine machine_;
  Rows<const Real> dy_;  // of the layer at hand
  Rows<Real> dx_;
  std::vector<Buffer<Real>> made_;  // gradients that are not the user's arrays; the last one's dx_
};

template <class Real>
Work NetworkBackward<Real>::work_from(index layer) const {
  const Size size = spec_.size(layer);
  const bool tokens = tape_.tokens.data() != nullptr;
  const bool waves = spec_.directions == 1 && !spec_.recompute && spec_.dropout == 0;
  return work_for(spec_, size, kernels<Real>(*tape_.instructions, spec_).sizes(size), sizeof(Real),
                  tape_.sequences, layer == 0 && tokens, spec_.recompute ? 1 : spec_.directions,
                  waves ? costs_of_followers(spec_, layer, -1, tokens, machine_.threads)
                        : std::vector<double>());
}

template <class Real>
Rows<Real> NetworkBackward<Real>::input_gradient(index layer) {
  if (layer == 0 && !(call_.dx && tape_.sequences.packed())) return call_.dx;
  const index columns = spec_.layer_input(layer);
  made_.push_back(buffer<Real>(tape_.sequences.rows(), columns));
  return packed_rows(made_.back().data(), columns, tape_.sequences);
}

template <class Real>
void NetworkBackward<Real>::run_layer(index layer, const Plan& plan) {
  Track<Real>* tracks = &tape_.tracks[layer * spec_.directions];
  if (plan.together)
    return run_together<Real>({track(layer, 0), track(layer, 1)}, plan, tracks, lease_);
  for (int d = 0; d < spec_.directions; ++d) run_track(track(layer, d), plan, tracks[d], lease_);
}

template <class Real>
void NetworkBackward<Real>::run_at_once(index last, const Plan& plan) {
  std::vector<TrackBackward<Real>> tracks{track(last, 0)};
  std::vector<Plan> plans{plan};
  for (index layer = last - 1; layer > last - plan.layers; --layer) {
    dy_ = read_only(dx_);
    dx_ = input_gradient(layer);
    tracks.push_back(track(layer, 0));
    plans.push_back(follow(plan, work_from(layer), machine_));
  }
  run_wave(tracks, plans, tape_, lease_);
}

// The gradient of a layer's input becomes that of the output below.
template <class Real>
void NetworkBackward<Real>::pass_on(index layer) {
  Buffer<Real> made = made_.empty() ? Buffer<Real>() : std::move(made_.back());
  made_.clear();
  if (layer == 0) {
    if (call_.dx && tape_.sequences.packed())
      scatter(tape_.sequences, made.data(), spec_.input, call_.dx, lease_);
    return;
  }
  if (spec_.dropout > 0) made = drop(spec_, tape_, layer - 1, made.data(), lease_);
  dy_ = read_only(packed_rows(made.data(), spec_.layer_input(layer), tape_.sequences));
  made_.push_back(std::move(made));
}

template <class Real>
void NetworkBackward<Real>::run() {
  dy_ = call_.dy;
  if (dy_ && tape_.sequences.packed()) {
    made_.push_back(gather(tape_.sequences, call_.dy, spec_.width(), lease_));
    dy_ = read_only(packed_rows(made_.back().data(), spec_.width(), tape_.sequences));
  }
  for (index layer = spec_.layers - 1; layer >= 0;) {
    const Plan plan = rnnfast::plan(work_from(layer), machine_);
    dx_ = input_gradient(layer);
    if (plan.layers > 1)
      run_at_once(layer, plan);
    else
      run_layer(layer, plan);
    layer -= plan.layers;
    pass_on(layer + 1);
  }
}

}  // namespace

template <class Real>
void backward(const Spec& spec, const BackwardCall<Real>& call, Tape<Real>& tape, Lease& lease) {
  pass_state(spec, tape.sequences, call.dfinal, call.dinitial);
  clear_started(spec, tape.sequences, call.dinitial);
  if (!tape.sequences.rows()) return no_gradient(spec, call, tape.sequences, lease);
  NetworkBackward<Real>(spec, call, tape, lease).run();
}

template void backward(const Spec&, const BackwardCall<float>&, Tape<float>&, Lease&);
template void backward(const Spec&, const BackwardCall<double>&, Tape<double>&, Lease&);

}  // namespace rnnfast
