// The compiled half of a Python layer whose machine is not the CPU: as cpp/bindings/layer.cpp, it
// checks the arrays of a call, carries them there and the results back.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "../cpp/bindings/arrays.hpp"
#include "../cpp/bindings/gil.hpp"
#include "../cpp/bindings/options.hpp"
#include "network.hpp"

namespace rnnfast::cuda {

// Machines that are idle: calls of several Python threads each take one. They outlive the
// interpreter, as the buffers of tapes may.
template <class Machine>
class Pool {
 public:
  static Pool& of(bool tf32) {
    static auto& exact = *new Pool(false);
    static auto& rounded = *new Pool(true);
    return tf32 ? rounded : exact;
  }

  class Lease {
   public:
    explicit Lease(Pool& pool) : pool_(pool), machine_(pool.take()) {}
    ~Lease() {
      machine_->settle();
      const std::lock_guard lock(pool_.mutex_);
      pool_.idle_.push_back(std::move(machine_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Machine& operator*() const { return *machine_; }

   private:
    typename Machine::Turn turn_;
    Pool& pool_;
    std::unique_ptr<Machine> machine_;
  };

 private:
  explicit Pool(bool tf32) : tf32_(tf32) {}

  std::unique_ptr<Machine> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto machine = std::move(idle_.back());
        idle_.pop_back();
        return machine;
      }
    }
    return std::make_unique<Machine>(tf32_);
  }

  bool tf32_;  // how products of floats are formed
  std::mutex mutex_;
  std::vector<std::unique_ptr<Machine>> idle_;
};

// What a call reads, in the machine's memory.
template <class Machine>
struct Uploaded {
  template <class T>
  using Buffer = typename Machine::template Buffer<T>;

  std::shared_ptr<Buffer<float>> parameters;
  Buffer<float> x, h0, c0;
  Buffer<int32_t> tokens, lengths;
  Buffer<uint8_t> reset;
  Inputs inputs{};
  index bytes = 0;
};

// Weights as they were when they were packed.
template <class Machine>
struct Packed {
  uint64_t layer;
  std::shared_ptr<typename Machine::template Buffer<float>> parameters;
};

// What a training call leaves for backward. Opaque to Python.
template <class Machine>
struct Tape {
  uint64_t layer = 0;
  uint64_t dropout_seed = 0;
  Extent extent{};
  bool tokens = false;
  bool used = false;
  index bytes = 0;
  Uploaded<Machine> in;
  template <class Operand>
  using Of = std::unique_ptr<Network<Machine, Operand>>;
  std::variant<Of<float>, Of<Bfloat16>> network;  // null of a batch without sequences
};

// Lengths and resets as the kernels read them.
struct Boundaries {
  std::vector<int32_t> lengths;
  std::vector<uint8_t> reset;

  explicit Boundaries(const rnnfast::Sequences& sequences) {
    if (!sequences.packed()) return;
    lengths.resize(sequences.batch());
    reset.resize(sequences.steps() * sequences.batch());
    for (const Segment& s : sequences.segments()) {
      auto& length = lengths[s.batch];
      length = std::max(length, static_cast<int32_t>(s.start + s.length));
      if (!s.first || s.from_zero) reset[s.start * sequences.batch() + s.batch] = 1;
    }
  }
};

template <class Machine>
class MachineLayer {
  template <class T>
  using Buffer = typename Machine::template Buffer<T>;
  using PyTape = Tape<Machine>;
  using PyPacked = Packed<Machine>;

 public:
  MachineLayer(const Spec& spec, bool tf32)
      : spec_(spec),
        serial_(next_serial()),
        count_(parameter_count(spec)),
        pool_(Pool<Machine>::of(tf32)) {}

  py::list parameters() const { return parameter_list(spec_); }

  // As those of rnnfast._core.Layer.
  py::tuple forward(py::handle parameters, py::handle x, py::handle state, py::handle lengths,
                    py::handle reset, bool record, uint64_t seed, py::handle num_threads,
                    py::handle packed) {
    return run_forward(parameters, as_input<float>(spec_, x), state, lengths, reset, record, seed,
                       num_threads, packed, false);
  }

  py::tuple step(py::handle parameters, py::handle x, py::handle state, py::handle num_threads,
                 py::handle packed) {
    if (spec_.directions > 1)
      throw py::value_error(text("step needs a layer that is not bidirectional"));
    const auto result = run_forward(parameters, as_step_input<float>(spec_, x), state, py::none(),
                                    py::none(), false, 0, num_threads, packed, true);
    return py::make_tuple(result[0], result[1]);
  }

  // The parameters are still there from the forward call.
  py::tuple backward(py::handle, PyTape& tape, py::handle dy, py::handle dstate, py::handle out,
                     bool input_gradient, py::handle num_threads) {
    refuse_threads(num_threads);
    if (tape.layer != serial_)
      throw py::value_error(
          text("tape was recorded by another layer, expected one from this layer's forward"));
    const Extent& extent = tape.extent;
    std::optional<Array<float>> dy_array;
    if (!dy.is_none()) {
      const py::array given = as_array(name(), "dy", dy);
      expect_shape(name(), "dy", given, extent.shape(spec_.width()), "the shape of y");
      dy_array = as_real<float>(name(), "dy", given);
    }
    const auto dlast = as_state<float>(spec_, extent, "dstate", dstate);
    const py::array dparameters = out.is_none() ? py::array(new_array<float>({count_}))
                                                : py::reinterpret_borrow<py::array>(out);
    const auto expect_out_apart = [&](const char* other, const auto& read) {
      if (read) expect_apart(name(), "out", dparameters, other, *read);
    };
    expect_out_apart("dy", dy_array);
    expect_out_apart("dstate", dlast.h);
    expect_out_apart("dstate", dlast.c);
    py::object dx = py::none();
    float* to_dx = nullptr;
    if (input_gradient && !tape.tokens) {
      auto array = new_array<float>(extent.shape(spec_.input));
      to_dx = array.mutable_data();
      dx = std::move(array);
    }
    NewState<float> dinitial(spec_, extent);
    if (std::exchange(tape.used, true))
      throw py::value_error(
          text("tape was used before, expected a fresh one: each forward serves one backward"));
    auto* to_parameters = static_cast<float*>(const_cast<void*>(dparameters.data()));
    if (extent.batch == 0) {
      std::fill_n(to_parameters, count_, 0.0f);
    } else {
      const WithoutGil without_gil;
      const typename Pool<Machine>::Lease lease(pool_);
      run_backward(*lease, tape, dy_array ? dy_array->data() : nullptr,
                   {dlast.h_data(), dlast.c_data()}, to_dx, {dinitial.h_data, dinitial.c_data},
                   to_parameters);
      tape.network = {};
      tape.in = {};
    }
    return py::make_tuple(dx, dinitial.object(), dparameters);
  }

  PyPacked pack(py::array parameters, py::handle scales, py::handle num_threads) {
    refuse_threads(num_threads);
    if (!scales.is_none()) throw py::value_error(text("scales are given, expected None"));
    const float* values = flat(parameters);
    const WithoutGil without_gil;
    const typename Pool<Machine>::Lease lease(pool_);
    PyPacked made{serial_, std::make_shared<Buffer<float>>(upload(*lease, values, count_))};
    (*lease).wait();  // for what is uploaded: the caller may change it now
    return made;
  }

 private:
  template <class T>
  struct HostState {
    T *h, *c;
  };

  static uint64_t next_serial() {
    static std::atomic<uint64_t> serial{1};
    return serial++;
  }
  const char* name() const { return spec_.traits().name; }
  std::string text(const char* what) const { return std::string(name()) + ": " + what; }
  index state_count(const Extent& e, index width) const {
    return spec_.layers * spec_.directions * e.batch * width;
  }

  void refuse_threads(py::handle num_threads) const {
    if (!num_threads.is_none())
      throw py::value_error(text("num_threads is given, expected None where the CPU is not used"));
  }

  const float* flat(py::handle given) const {
    return as_contiguous<float>(name(), "the parameter buffer", given, count_);
  }

  std::shared_ptr<Buffer<float>> own_packed(py::handle any) const {
    const auto& packed = any.cast<const PyPacked&>();
    if (packed.layer != serial_)
      throw py::value_error(
          text("packed is another layer's, expected weights from this layer's pack"));
    return packed.parameters;
  }

  template <class T>
  Buffer<T> upload(Machine& machine, const T* from, index count) {
    if (!from) return {};
    auto to = machine.template make<T>(count);
    if (count) machine.upload(to.data(), from, count * sizeof(T));
    return to;
  }

  // Rows of the caller's array (T, B, width) or (B, T, width), time before batch.
  template <class T>
  Buffer<T> upload_rows(Machine& machine, const T* from, const Extent& e, index width) {
    auto to = upload(machine, from, e.steps * e.batch * width);
    if (!from || !(e.batched && e.batch_first)) return to;
    auto swapped = machine.template make<T>(e.steps * e.batch * width);
    machine.run(SwapAxes<T>{e.steps, e.batch, width, to.data(), swapped.data()});
    return swapped;
  }

  void download_rows(Machine& machine, float* to, const float* from, const Extent& e, index width) {
    const index count = e.steps * e.batch * width;
    if (!(e.batched && e.batch_first)) return machine.download(to, from, count * sizeof(float));
    const auto swapped = machine.template make<float>(count);
    machine.run(SwapAxes<float>{e.batch, e.steps, width, from, swapped.data()});
    machine.download(to, swapped.data(), count * sizeof(float));
  }

  Uploaded<Machine> upload_inputs(Machine& machine, const float* parameters,
                                  std::shared_ptr<Buffer<float>> packed, const Input<float>& in,
                                  HostState<const float> initial, const Boundaries& at) {
    const Extent& e = in.extent;
    Uploaded<Machine> all;
    all.parameters = packed ? std::move(packed)
                            : std::make_shared<Buffer<float>>(upload(machine, parameters, count_));
    all.x = upload_rows(machine, in.x.base, e, spec_.input);
    all.tokens = upload_rows(machine, in.tokens.base, e, 1);
    all.h0 = upload(machine, initial.h, state_count(e, spec_.output()));
    all.c0 = upload(machine, initial.c, state_count(e, spec_.hidden));
    if (!at.lengths.empty()) all.lengths = upload(machine, at.lengths.data(), e.batch);
    if (!at.reset.empty()) all.reset = upload(machine, at.reset.data(), e.steps * e.batch);
    all.inputs = {all.parameters->data(), all.x.data(),  all.tokens.data(),
                  all.h0.data(),          all.c0.data(), all.lengths.data(),
                  all.reset.data(),       e.steps,       e.batch};
    const auto size_of = [](const auto* array, index count) {
      return array ? count * static_cast<index>(sizeof *array) : 0;
    };
    const Inputs& inputs = all.inputs;
    all.bytes = size_of(parameters, count_) + size_of(inputs.x, e.steps * e.batch * spec_.input) +
                size_of(inputs.tokens, e.steps * e.batch) +
                size_of(inputs.h0, state_count(e, spec_.output())) +
                size_of(inputs.c0, state_count(e, spec_.hidden)) +
                size_of(inputs.lengths, e.batch) + size_of(inputs.reset, e.steps * e.batch);
    return all;
  }

  py::tuple run_forward(py::handle parameters, const Input<float>& in, py::handle state,
                        py::handle lengths, py::handle reset, bool record, uint64_t seed,
                        py::handle num_threads, py::handle packed, bool is_step) {
    refuse_threads(num_threads);
    const Extent& e = in.extent;
    const auto initial = as_state<float>(spec_, e, "state", state);
    const Boundaries boundaries(as_sequences(spec_, e, lengths, reset));
    auto kept = packed.is_none() ? nullptr : own_packed(packed);
    const float* values = kept ? nullptr : flat(parameters);
    auto shape = e.shape(spec_.width());
    if (is_step) shape.erase(shape.begin());
    auto y = new_array<float>(shape);
    NewState<float> last(spec_, e);
    auto tape = std::make_unique<PyTape>();
    tape->layer = serial_;
    tape->dropout_seed = seed;
    tape->extent = e;
    tape->tokens = static_cast<bool>(in.tokens);
    if (e.batch > 0) {
      const WithoutGil without_gil;
      const typename Pool<Machine>::Lease lease(pool_);
      tape->in = upload_inputs(*lease, values, std::move(kept), in,
                               {initial.h_data(), initial.c_data()}, boundaries);
      if (spec_.compute == Compute::bfloat16)
        compute<Bfloat16>(*lease, *tape, record, y.mutable_data(), last.h_data, last.c_data);
      else
        compute<float>(*lease, *tape, record, y.mutable_data(), last.h_data, last.c_data);
    }
    if (!record) return py::make_tuple(y, last.object(), py::none());
    return py::make_tuple(y, last.object(), std::move(tape));
  }

  template <class Operand>
  void compute(Machine& machine, PyTape& tape, bool record, float* y, float* h, float* c) {
    const Extent& e = tape.extent;
    const index of_h = state_count(e, spec_.output()), of_c = state_count(e, spec_.hidden);
    const auto y_there = machine.template make<float>(e.steps * e.batch * spec_.width());
    const auto h_there = machine.template make<float>(of_h);
    const auto c_there = machine.template make<float>(c ? of_c : 0);
    auto network = std::make_unique<Network<Machine, Operand>>(spec_, tape.in.inputs, record,
                                                               tape.dropout_seed);
    network->forward(machine, {y_there.data(), h_there.data(), c_there.data()});
    download_rows(machine, y, y_there.data(), e, spec_.width());
    machine.download(h, h_there.data(), of_h * sizeof(float));
    if (c) machine.download(c, c_there.data(), of_c * sizeof(float));
    machine.wait();
    tape.bytes = tape.in.bytes + network->bytes();
    tape.network = std::move(network);
  }

  void run_backward(Machine& machine, PyTape& tape, const float* dy, HostState<const float> dlast,
                    float* dx, HostState<float> dinitial, float* dparameters) {
    const Extent& e = tape.extent;
    const index of_h = state_count(e, spec_.output()), of_c = state_count(e, spec_.hidden);
    const auto dy_there = upload_rows(machine, dy, e, spec_.width());
    const auto dh_last = upload(machine, dlast.h, of_h);
    const auto dc_last = upload(machine, dlast.c, of_c);
    const auto dx_there = machine.template make<float>(dx ? e.steps * e.batch * spec_.input : 0);
    const auto dh0 = machine.template make<float>(of_h);
    const auto dc0 = machine.template make<float>(dinitial.c ? of_c : 0);
    const auto d = machine.template make<float>(count_);
    const OutputGradients given{dy_there.data(), dh_last.data(), dc_last.data()};
    const InputGradients wanted{dx_there.data(), dh0.data(), dc0.data(), d.data()};
    std::visit([&](const auto& network) { network->backward(machine, given, wanted); },
               tape.network);
    if (dx) download_rows(machine, dx, dx_there.data(), e, spec_.input);
    machine.download(dinitial.h, dh0.data(), of_h * sizeof(float));
    if (dinitial.c) machine.download(dinitial.c, dc0.data(), of_c * sizeof(float));
    machine.download(dparameters, d.data(), count_ * sizeof(float));
    machine.wait();
  }

  Spec spec_;
  uint64_t serial_;
  index count_;
  Pool<Machine>& pool_;
};

// The classes of a module; `make` turns the options of a Python layer into one of ours.
template <class Machine>
void add_classes(py::module_& m) {
  using Ours = MachineLayer<Machine>;
  py::class_<Tape<Machine>>(m, "Tape")
      .def_readonly("dropout_seed", &Tape<Machine>::dropout_seed)
      .def_readonly("nbytes", &Tape<Machine>::bytes);
  py::class_<Packed<Machine>>(m, "Packed");
  py::class_<Ours>(m, "Layer")
      .def(py::init([](const std::string& cell, index input_size, index hidden_size,
                       index num_layers, bool bias, bool batch_first, double dropout,
                       bool bidirectional, index proj_size, bool reset_after,
                       const std::string& nonlinearity, const std::string& compute) {
             const bool tf32 = compute == "tf32";
             return std::make_unique<Ours>(
                 make_spec(cell, input_size, hidden_size, num_layers, bias, batch_first, dropout,
                           bidirectional, proj_size, reset_after, nonlinearity,
                           tf32 ? "float32" : compute, 0),
                 tf32);
           }),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"), py::arg("num_layers"),
           py::arg("bias"), py::arg("batch_first"), py::arg("dropout"), py::arg("bidirectional"),
           py::arg("proj_size"), py::arg("reset_after"), py::arg("nonlinearity"),
           py::arg("compute"))
      .def("parameters", &Ours::parameters)
      .def("forward", &Ours::forward, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("lengths"), py::arg("reset"), py::arg("record"), py::arg("seed"),
           py::arg("num_threads"), py::arg("weights"))
      .def("backward", &Ours::backward, py::arg("parameters"), py::arg("tape"), py::arg("dy"),
           py::arg("dstate"), py::arg("out"), py::arg("input_gradient"), py::arg("num_threads"))
      .def("step", &Ours::step, py::arg("parameters"), py::arg("x"), py::arg("state"),
           py::arg("num_threads"), py::arg("packed"))
      .def("pack", &Ours::pack, py::arg("parameters"), py::arg("scales"), py::arg("num_threads"));
}

}  // namespace rnnfast::cuda
