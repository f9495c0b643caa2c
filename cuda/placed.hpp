// Calls whose arrays are in the machine's memory: they are used as they are, on their own stream,
// and so are the results.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include "../cpp/bindings/gil.hpp"
#include "call.hpp"
#include "device_array.hpp"

namespace rnnfast::cuda {

template <class Machine>
class Placed {
  using PyTape = Tape<Machine>;
  using Lease = typename Pool<Machine>::Lease;
  using PyArray = DeviceArray<Machine>;

 public:
  explicit Placed(Common<Machine>& own) : own_(own) {}

  py::tuple forward(const Call& call, const Source& x) {
    expect_device<Machine>(x);
    const auto stream = lasting(x.stream);
    const Lease lease(own_.pool, stream ? &*stream : nullptr, own_.memory);
    Machine& machine = *lease;
    const Given given = read(machine, call, x);
    const Extent& e = given.extent;
    auto tape = new_tape(machine, given, call.seed);
    const bool narrow = given.x.is_narrow();
    auto y = std::make_unique<PyArray>(machine, own_.y_shape(e, call.is_step), narrow);
    NewArrays last(machine, own_.spec, e);
    if (e.batch > 0) {
      const auto without_gil = leave_gil();
      const Settled settled(machine);
      place(machine, tape->in, given);
      const bool turn = e.batched && e.batch_first && !call.is_step;
      const auto room = PyArray(machine, {turn ? y->size() : 0}, narrow);
      const Room to = turn ? room.room() : y->room();
      own_.compute(machine, *tape, call.record,
                   {to, last.h->data(), last.c ? last.c->data() : nullptr});
      if (turn) put_back(machine, to, *y, e, own_.spec.width());
      if (given.packed) Machine::order(machine.stream(), given.packed->stream());  // to free it
      for (const View& view : tape->in.views) leave_view(view, machine);
      if (given.parameters) leave_view(*given.parameters, machine);
      if (!stream) machine.wait();  // as `end` would, but without the GIL
    }
    if (!call.record) return py::make_tuple(std::move(y), last.object(), py::none());
    forget_streams_of_the_thread(*tape);
    return py::make_tuple(std::move(y), last.object(), std::move(tape));
  }

  py::tuple backward(py::handle parameters, PyTape& tape, py::handle dy, py::handle dstate,
                     py::handle out, bool input_gradient) {
    const Extent& e = tape.extent;
    if (tape.parameters_there && !out.is_none())
      throw py::value_error(
          own_.text("out is given, expected None where the parameters are on the GPU"));
    const StateObjects of_state = state_objects(own_.spec, "dstate", dstate);
    const py::handle state = of_state.h ? of_state.h : of_state.c;
    std::optional<Source> first;
    if (!dy.is_none())
      first = expect_there<Machine>(own_.text("dy"), dy);
    else if (state)
      first = expect_there<Machine>(own_.text("dstate"), state);
    const auto known = first ? lasting(first->stream) : std::nullopt;
    const Stream stream = known.value_or(tape.stream);
    const Lease lease(own_.pool, &stream, own_.memory);
    Machine& machine = *lease;
    Cotangents given;
    if (tape.parameters_there) {
      given.parameters =
          read_parameters(machine, expect_there<Machine>(own_.text(flat_name), parameters));
      if (given.parameters->is_narrow() != tape.narrow_parameters)
        throw py::value_error(given.parameters->name + " has the type " + given.parameters->type +
                              " on the GPU, expected that of the forward call");
    }
    if (!dy.is_none()) given.y = read_dy(machine, *first, e);
    given.last = read_state(machine, e, "dstate", dstate);
    std::unique_ptr<PyArray> dx, d;
    if (input_gradient) dx = std::make_unique<PyArray>(machine, e.shape(own_.spec.input));
    NewArrays dinitial(machine, own_.spec, e);
    py::object dparameters = py::reinterpret_borrow<py::object>(out);
    float* here = nullptr;
    if (tape.parameters_there) {
      d = std::make_unique<PyArray>(machine, std::vector<index>{own_.count});
    } else {
      if (out.is_none()) dparameters = new_array<float>({own_.count});
      here = const_cast<float*>(own_.flat(dparameters));
    }
    own_.use_up(tape);
    {
      const auto without_gil = leave_gil();
      const Settled settled(machine);
      const Joined joined(tape.stream, machine.stream());
      const auto room = machine.template make<float>(d ? 0 : own_.count);
      float* to = d ? d->data() : room.data();
      if (given.parameters) move_parameters(tape, *given.parameters);
      if (e.batch > 0)
        go_back(machine, tape, given, dx.get(), dinitial, to);
      else
        machine.zero(to, own_.count * sizeof(float));
      if (here) machine.download(here, to, own_.count * sizeof(float));
      for (const auto* view : {&given.y, &given.last.h, &given.last.c, &given.parameters})
        if (*view) leave_view(**view, machine);
      for (const View& view : tape.in.views) leave_view(view, machine);
      if (here) machine.wait();
    }
    tape.network = {};
    tape.in = {};
    if (d) dparameters = py::cast(std::move(d));
    return py::make_tuple(dx ? py::cast(std::move(dx)) : py::none(), dinitial.object(),
                          dparameters);
  }

 private:
  // But for another library's memory, which is asked for through Python: each time the GIL was
  // taken back, a busy thread might have it for milliseconds.
  std::optional<WithoutGil> leave_gil() const {
    return own_.memory ? std::nullopt : std::make_optional<WithoutGil>();
  }

  // A stream that other threads may use too, and later.
  static std::optional<Stream> lasting(std::optional<Stream> stream) {
    return stream == stream_of_the_thread ? std::nullopt : stream;
  }

  // Axes (T, B, width) of an array that is laid out as x is.
  Layout rows_of(const View& view, const Extent& e, index width, bool is_step) const {
    const int axes = static_cast<int>(view.shape.size());
    const int leading = (is_step ? 0 : 1) + (e.batched ? 1 : 0);
    const int last = axes > leading ? leading : -1;
    if (is_step) return layout_of(view, 1, e.batch, width, -1, e.batched ? 0 : -1, last);
    if (!e.batched) return layout_of(view, e.steps, 1, width, 0, -1, last);
    return layout_of(view, e.steps, e.batch, width, e.batch_first ? 1 : 0, e.batch_first ? 0 : 1,
                     last);
  }

  Layout state_of(const View& view, const Extent& e, index width) const {
    const index tracks = own_.spec.layers * own_.spec.directions;
    return layout_of(view, tracks, e.batch, width, 0, e.batched ? 1 : -1, e.batched ? 2 : 1);
  }

  // A view's elements in the order of the axes: as they are, or copied if they do not lie so.
  const uint8_t* arranged(Machine& machine, Buffer<uint8_t>& room, const View& view,
                          const Layout& layout) {
    const auto* data = static_cast<const uint8_t*>(view.data);
    if (!layout.has_gaps()) return data;
    room = machine.template make<uint8_t>(layout.count());
    machine.run(Arrange<uint8_t>{layout, data, room.data()});
    return room.data();
  }
  // The same of numbers, of type T if they are copied.
  template <class T>
  Numbers arranged_numbers(Machine& machine, Buffer<T>& room, const View& view,
                           const Layout& layout) {
    if (!layout.has_gaps()) return view.numbers();
    room = machine.template make<T>(layout.count());
    machine.run(ArrangeNumbers{layout, view.numbers(), room.data()});
    return room.data();
  }
  const float* floats(Machine& machine, Buffer<float>& room, const View& view,
                      const Layout& layout) {
    if (!layout.has_gaps() && !view.is_narrow()) return view.numbers().wide;
    room = machine.template make<float>(layout.count());
    machine.run(ArrangeNumbers{layout, view.numbers(), room.data()});
    return room.data();
  }

  struct StateViews {
    std::optional<View> h, c;
  };

  // A forward call's arguments, checked.
  struct Given {
    View x;
    Extent extent;
    bool is_step;
    StateViews initial;
    Boundaries boundaries;
    std::optional<View> reset;
    std::shared_ptr<Buffer<float>> packed;
    std::optional<View> parameters;  // null where they are packed, or
    const float* values;             // in the CPU's memory
  };

  Given read(Machine& machine, const Call& call, const Source& source) const {
    const View x = read_x(machine, source);
    const Extent e =
        call.is_step ? step_extent(own_.spec, x.shadow()) : input_extent(own_.spec, x.shadow());
    const auto reset = source_of(own_.text("reset"), call.reset);
    Given given{x,
                e,
                call.is_step,
                read_state(machine, e, "state", call.state),
                Boundaries(read_sequences(e, call.lengths, reset ? py::none() : call.reset)),
                {},
                own_.own_packed(call.packed),
                {},
                nullptr};
    if (reset) given.reset = read_reset(machine, *reset, e);
    if (given.packed) return given;
    if (const auto parameters = source_of(own_.text(flat_name), call.parameters))
      given.parameters = read_parameters(machine, *parameters);
    else
      given.values = own_.flat(call.parameters);
    return given;
  }

  // It keeps the arrays that backward reads again; but for the parameters, which backward is given:
  // unrolled cells would keep a copy for each step.
  std::unique_ptr<PyTape> new_tape(const Machine& machine, const Given& given,
                                   uint64_t seed) const {
    auto tape = own_.new_tape(given.extent, given.x.is_integer(), seed);
    tape->there = true;
    tape->parameters_there = given.parameters.has_value();
    tape->narrow_parameters = given.parameters && given.parameters->is_narrow();
    tape->stream = machine.stream();
    tape->in.views = {given.x};
    for (const auto* view : {&given.initial.h, &given.initial.c, &given.reset})
      if (*view) tape->in.views.push_back(**view);
    return tape;
  }

  void place(Machine& machine, Arguments& all, const Given& given) {
    const Extent& e = given.extent;
    const auto& [h, c] = given.initial;
    Inputs& inputs = all.inputs;
    inputs.steps = e.steps;
    inputs.batch = e.batch;
    if (given.parameters)
      inputs.parameters = given.parameters->numbers();
    else
      own_.set_parameters(machine, all, given.values, given.packed);
    place_x(machine, all, given);
    if (h) inputs.h0 = floats(machine, all.h0, *h, state_of(*h, e, own_.spec.output()));
    if (c) inputs.c0 = floats(machine, all.c0, *c, state_of(*c, e, own_.spec.hidden));
    own_.set_boundaries(machine, all, given.boundaries);
    if (given.reset)
      inputs.reset = arranged(machine, all.reset, *given.reset, rows_of(*given.reset, e, 1, false));
  }

  StateViews read_state(Machine& machine, const Extent& e, const char* argument,
                        py::handle object) const {
    const StateObjects given = state_objects(own_.spec, argument, object);
    const auto part = [&](const std::string& label, const py::object& value, bool is_c) {
      View view = read_view(own_.text(label), value, machine);
      view.expect_numbers();
      expect_state_shape(own_.spec, e, label, view.shadow(), is_c);
      return view;
    };
    StateViews state;
    if (given.h) state.h = part(given.h_name, given.h, false);
    if (given.c) state.c = part(given.c_name, given.c, true);
    return state;
  }

  View read_x(Machine& machine, const Source& source) const {
    View x = read_view(source, machine);
    if (!x.is_integer()) x.expect_numbers(", or int32 or int64 for tokens");
    return x;
  }

  static constexpr const char* flat_name = "the parameter buffer";
  View read_parameters(Machine& machine, const Source& source) const {
    expect_device<Machine>(source);
    View view = read_view(source, machine);
    view.expect_numbers();
    if (view.count() != own_.count)
      throw py::value_error(view.name + " has " + std::to_string(view.count()) +
                            " elements, expected " + std::to_string(own_.count));
    if (view.strides != views::without_gaps(view.shape))
      throw py::value_error(view.name + " has gaps, expected contiguous elements");
    return view;
  }

  View read_reset(Machine& machine, const Source& source, const Extent& e) const {
    expect_device<Machine>(source);
    View view = read_view(source, machine);
    view.expect_type("|b1", "bool");
    expect_shape(own_.name(), "reset", view.shadow(), e.shape(-1),
                 e.batch_first ? "(B, T)" : "(T, B)");
    return view;
  }

  rnnfast::Sequences read_sequences(const Extent& e, py::handle lengths, py::handle reset) const {
    if (is_there(lengths))
      throw py::value_error(
          own_.text("lengths is on the GPU, expected the CPU's memory, where it can be checked"));
    return as_sequences(own_.spec, e, lengths, reset);
  }

  void place_x(Machine& machine, Arguments& all, const Given& given) {
    const View& x = given.x;
    const index width = x.is_integer() ? 1 : own_.spec.input;
    const Layout layout = rows_of(x, given.extent, width, given.is_step);
    if (!x.is_integer()) {
      if (own_.spec.compute == Compute::bfloat16)
        all.inputs.x = arranged_numbers(machine, all.narrow_x, x, layout);
      else
        all.inputs.x = arranged_numbers(machine, all.x, x, layout);
      return;
    }
    all.tokens = machine.template make<int32_t>(layout.count());
    all.inputs.tokens = all.tokens.data();
    if (x.type == "<i8")
      read_tokens<int64_t>(machine, x, layout, all.tokens.data());
    else
      read_tokens<int32_t>(machine, x, layout, all.tokens.data());
  }

  template <class Integer>
  void read_tokens(Machine& machine, const View& x, const Layout& layout, int32_t* to) {
    const auto* from = static_cast<const Integer*>(x.data);
    machine.run(ReadTokens<Integer>{layout, own_.spec.input, from, to});
  }

  // Time before batch → the caller's order.
  void put_back(Machine& machine, const Numbers& from, const PyArray& to, const Extent& e,
                index width) {
    machine.run(
        ArrangeNumbers{{e.batch, e.steps, width, {width, e.batch * width, 1}}, from, to.room()});
  }

  // A state as results are handed out.
  struct NewArrays {
    std::unique_ptr<PyArray> h, c;

    NewArrays(Machine& machine, const Spec& spec, const Extent& e)
        : h(std::make_unique<PyArray>(machine, state_shape(spec, e, spec.output()))) {
      if (spec.traits().has_cell_state)
        c = std::make_unique<PyArray>(machine, state_shape(spec, e, spec.hidden));
    }
    py::object object() {
      if (c) return py::make_tuple(std::move(h), std::move(c));
      return py::cast(std::move(h));
    }
  };

  struct Cotangents {
    std::optional<View> y;
    StateViews last;
    std::optional<View> parameters;
  };

  static void move_parameters(PyTape& tape, const View& parameters) {
    std::visit(
        [&](const auto& network) {
          if (network) network->move_parameters(parameters.numbers());
        },
        tape.network);
  }

  // Backward may be another thread's, which cannot wait for them: it waits for the device.
  static void forget_streams_of_the_thread(PyTape& tape) {
    for (View& view : tape.in.views)
      if (view.stream == stream_of_the_thread) view.stream.reset();
  }

  View read_dy(Machine& machine, const Source& source, const Extent& e) const {
    View dy = read_view(source, machine);
    dy.expect_numbers();
    expect_shape(own_.name(), "dy", dy.shadow(), e.shape(own_.spec.width()), "the shape of y");
    return dy;
  }

  // Where a call fails, what it has queued is done before what it reads is freed.
  class Settled {
   public:
    explicit Settled(Machine& machine) : machine_(machine) {}
    ~Settled() {
      if (std::uncaught_exceptions() > before_) machine_.settle();
    }
    Settled(const Settled&) = delete;
    Settled& operator=(const Settled&) = delete;

   private:
    Machine& machine_;
    int before_ = std::uncaught_exceptions();
  };

  // While it lives, what is done on one stream goes on on another.
  class Joined {
   public:
    Joined(Stream own, Stream other) : own_(own), other_(other) { Machine::order(own, other); }
    ~Joined() {
      try {
        Machine::order(other_, own_);
      } catch (const std::exception&) {  // the device has failed, as the call tells
      }
    }
    Joined(const Joined&) = delete;
    Joined& operator=(const Joined&) = delete;

   private:
    Stream own_, other_;
  };

  void go_back(Machine& machine, PyTape& tape, const Cotangents& given, const PyArray* dx,
               const NewArrays& dinitial, float* dparameters) {
    const Extent& e = tape.extent;
    const auto& [dh, dc] = given.last;
    Buffer<float> y_room, h_room, c_room;
    OutputGradients from{};
    if (given.y)
      from.dy = arranged_numbers(machine, y_room, *given.y,
                                 rows_of(*given.y, e, own_.spec.width(), false));
    if (dh) from.dh_last = floats(machine, h_room, *dh, state_of(*dh, e, own_.spec.output()));
    if (dc) from.dc_last = floats(machine, c_room, *dc, state_of(*dc, e, own_.spec.hidden));
    const bool turn = dx && e.batched && e.batch_first;
    const auto room = machine.template make<float>(turn ? dx->size() : 0);
    float* to_dx = turn ? room.data() : dx ? dx->data() : nullptr;
    own_.compute_back(
        machine, tape, from,
        {to_dx, dinitial.h->data(), dinitial.c ? dinitial.c->data() : nullptr, dparameters});
    if (turn) put_back(machine, room.data(), *dx, e, own_.spec.input);
  }

  Common<Machine>& own_;
};

}  // namespace rnnfast::cuda
