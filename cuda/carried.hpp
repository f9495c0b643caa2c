// Calls whose arrays are in the CPU's memory: they are carried to the machine, and the results
// back.
#pragma once

#include <algorithm>
#include <optional>

#include "../cpp/bindings/gil.hpp"
#include "call.hpp"

namespace rnnfast::cuda {

template <class Machine>
class Carried {
  using PyTape = Tape<Machine>;
  using Lease = typename Pool<Machine>::Lease;

 public:
  explicit Carried(Common<Machine>& own) : own_(own) {}

  py::tuple forward(const Call& call) {
    const auto in =
        call.is_step ? as_step_input<float>(own_.spec, call.x) : as_input<float>(own_.spec, call.x);
    const Extent& e = in.extent;
    expect_state_here("state", call.state);
    const auto initial = as_state<float>(own_.spec, e, "state", call.state);
    const Boundaries boundaries(as_sequences(own_.spec, e, call.lengths, call.reset));
    auto packed = own_.own_packed(call.packed);
    const float* values = packed ? nullptr : own_.flat(call.parameters);
    auto y = new_array<float>(own_.y_shape(e, call.is_step));
    NewState<float> last(own_.spec, e);
    auto tape = own_.new_tape(e, static_cast<bool>(in.tokens), call.seed);
    if (e.batch > 0) {
      const WithoutGil without_gil;
      const Lease lease(own_.pool, nullptr, nullptr);
      Machine& machine = *lease;
      own_.set_parameters(machine, tape->in, values, std::move(packed));
      set_arrays(machine, tape->in, in, {initial.h_data(), initial.c_data()});
      own_.set_boundaries(machine, tape->in, boundaries);
      const index of_h = own_.state_count(e, own_.spec.output()),
                  of_c = own_.state_count(e, own_.c_width());
      const auto y_there = machine.template make<float>(e.steps * e.batch * own_.spec.width());
      const auto h_there = machine.template make<float>(of_h);
      const auto c_there = machine.template make<float>(of_c);
      own_.compute(machine, *tape, call.record, {y_there.data(), h_there.data(), c_there.data()});
      download_rows(machine, y.mutable_data(), y_there.data(), e, own_.spec.width());
      machine.download(last.h_data, h_there.data(), of_h * sizeof(float));
      if (of_c) machine.download(last.c_data, c_there.data(), of_c * sizeof(float));
      machine.wait();
    }
    if (!call.record) return py::make_tuple(y, last.object(), py::none());
    return py::make_tuple(y, last.object(), std::move(tape));
  }

  py::tuple backward(PyTape& tape, py::handle dy, py::handle dstate, py::handle out,
                     bool input_gradient) {
    const Extent& extent = tape.extent;
    std::optional<Array<float>> dy_array;
    if (!dy.is_none()) {
      expect_here("dy", dy);
      const py::array given = as_array(own_.name(), "dy", dy);
      expect_shape(own_.name(), "dy", given, extent.shape(own_.spec.width()), "the shape of y");
      dy_array = as_real<float>(own_.name(), "dy", given);
    }
    expect_state_here("dstate", dstate);
    const auto dlast = as_state<float>(own_.spec, extent, "dstate", dstate);
    const py::array dparameters = out.is_none() ? py::array(new_array<float>({own_.count}))
                                                : py::reinterpret_borrow<py::array>(out);
    const auto expect_out_apart = [&](const char* other, const auto& read) {
      if (read) expect_apart(own_.name(), "out", dparameters, other, *read);
    };
    expect_out_apart("dy", dy_array);
    expect_out_apart("dstate", dlast.h);
    expect_out_apart("dstate", dlast.c);
    py::object dx = py::none();
    float* to_dx = nullptr;
    if (input_gradient) {
      auto array = new_array<float>(extent.shape(own_.spec.input));
      to_dx = array.mutable_data();
      dx = std::move(array);
    }
    NewState<float> dinitial(own_.spec, extent);
    own_.use_up(tape);
    auto* to_parameters = static_cast<float*>(const_cast<void*>(dparameters.data()));
    if (extent.batch == 0) {
      std::fill_n(to_parameters, own_.count, 0.0f);
    } else {
      const WithoutGil without_gil;
      const Lease lease(own_.pool, nullptr, nullptr);
      carry_back(*lease, tape, dy_array ? dy_array->data() : nullptr,
                 {dlast.h_data(), dlast.c_data()}, to_dx, {dinitial.h_data, dinitial.c_data},
                 to_parameters);
      tape.network = {};
      tape.in = {};
    }
    return py::make_tuple(dx, dinitial.object(), dparameters);
  }

  Packed pack(py::handle parameters) {
    const float* values = own_.flat(parameters);
    const WithoutGil without_gil;
    const Lease lease(own_.pool, nullptr, nullptr);
    Packed made{own_.serial,
                std::make_shared<Buffer<float>>(own_.upload(*lease, values, own_.count))};
    (*lease).wait();  // for what is uploaded: the caller may change it now
    return made;
  }

 private:
  // Rows of the caller's array (T, B, width) or (B, T, width), time before batch.
  template <class T>
  Buffer<T> upload_rows(Machine& machine, const T* from, const Extent& e, index width) {
    auto to = own_.upload(machine, from, e.steps * e.batch * width);
    if (!from || !(e.batched && e.batch_first)) return to;
    return own_.swapped(machine, static_cast<const T*>(to.data()), e.steps, e.batch, width);
  }

  void download_rows(Machine& machine, float* to, const float* from, const Extent& e, index width) {
    const index bytes = e.steps * e.batch * width * sizeof(float);
    if (!(e.batched && e.batch_first)) return machine.download(to, from, bytes);
    const auto there = own_.swapped(machine, from, e.batch, e.steps, width);
    machine.download(to, there.data(), bytes);
  }

  void set_arrays(Machine& machine, Arguments& all, const Input<float>& in,
                  State<const float> initial) {
    const Extent& e = in.extent;
    const index rows = e.steps * e.batch;
    all.x = upload_rows(machine, in.x.base, e, own_.spec.input);
    all.tokens = upload_rows(machine, in.tokens.base, e, 1);
    all.bytes += static_cast<index>(sizeof(float)) * rows * (in.x ? own_.spec.input : 1);
    all.h0 = own_.upload(machine, all, initial.h, own_.state_count(e, own_.spec.output()));
    all.c0 = own_.upload(machine, all, initial.c, own_.state_count(e, own_.c_width()));
    all.inputs.x = all.x.data();
    all.inputs.tokens = all.tokens.data();
    all.inputs.h0 = all.h0.data();
    all.inputs.c0 = all.c0.data();
    all.inputs.steps = e.steps;
    all.inputs.batch = e.batch;
  }

  void expect_here(const char* argument, py::handle object) const {
    if (is_there(object))
      throw py::value_error(own_.text(argument) +
                            " is on the GPU, expected the CPU's memory, as x is");
  }
  void expect_state_here(const char* argument, py::handle state) const {
    const StateObjects given = state_objects(own_.spec, argument, state);
    if (given.h) expect_here(given.h_name.c_str(), given.h);
    if (given.c) expect_here(given.c_name.c_str(), given.c);
  }

  void carry_back(Machine& machine, PyTape& tape, const float* dy, State<const float> dlast,
                  float* dx, State<float> dinitial, float* dparameters) {
    const Extent& e = tape.extent;
    const index of_h = own_.state_count(e, own_.spec.output()),
                of_c = own_.state_count(e, own_.c_width());
    const auto dy_there = upload_rows(machine, dy, e, own_.spec.width());
    const auto dh_last = own_.upload(machine, dlast.h, of_h);
    const auto dc_last = own_.upload(machine, dlast.c, of_c);
    const auto dx_there =
        machine.template make<float>(dx ? e.steps * e.batch * own_.spec.input : 0);
    const auto dh0 = machine.template make<float>(of_h);
    const auto dc0 = machine.template make<float>(of_c);
    const auto d = machine.template make<float>(own_.count);
    own_.compute_back(machine, tape, {dy_there.data(), dh_last.data(), dc_last.data()},
                      {dx_there.data(), dh0.data(), dc0.data(), d.data()});
    if (dx) download_rows(machine, dx, dx_there.data(), e, own_.spec.input);
    machine.download(dinitial.h, dh0.data(), of_h * sizeof(float));
    if (of_c) machine.download(dinitial.c, dc0.data(), of_c * sizeof(float));
    machine.download(dparameters, d.data(), own_.count * sizeof(float));
    machine.wait();
  }

  Common<Machine>& own_;
};

}  // namespace rnnfast::cuda
