// What the calls of a layer have in common, wherever their arrays are.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "../cpp/bindings/arrays.hpp"
#include "network.hpp"
#include "pool.hpp"
#include "view.hpp"

namespace rnnfast::cuda {

// What a call reads, in the machine's memory: copies, and the caller's own arrays there.
struct Arguments {
  std::shared_ptr<Buffer<float>> parameters;
  Buffer<float> x, h0, c0;
  Buffer<Bfloat16> narrow_x;
  Buffer<int32_t> tokens, lengths;
  Buffer<uint8_t> reset;
  std::vector<View> views;
  Inputs inputs{};
  index bytes = 0;  // of the copies
};

// Weights as they were when they were packed.
struct Packed {
  uint64_t layer;
  std::shared_ptr<Buffer<float>> parameters;
};

// What a training call leaves for backward. Opaque to Python.
template <class Machine>
struct Tape {
  uint64_t layer = 0;
  uint64_t dropout_seed = 0;
  Extent extent{};
  bool tokens = false;
  bool used = false;
  bool there = false;              // whether the call's arrays are in the machine's memory
  bool parameters_there = false;   // whether the parameters are
  bool narrow_parameters = false;  // bfloat16
  Stream stream = 0;               // of the call
  index bytes = 0;
  int persistent_kernels = 0;  // that its calls have run
  Arguments in;
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
    if (std::ranges::find(reset, 1) == reset.end()) reset.clear();
  }
};

// The arguments of a call of the Python layer.
struct Call {
  py::handle parameters, x, state, lengths, reset, packed;
  bool record;
  uint64_t seed;
  bool is_step;
};

template <class T>
struct State {
  T *h, *c;
};

// A layer's options, and what its calls do alike.
template <class Machine>
struct Common {
  using PyTape = Tape<Machine>;

  Common(const Spec& options, bool tf32)
      : spec(options),
        serial(next_serial()),
        count(parameter_count(options)),
        pool(Pool<Machine>::of(tf32)),
        use_persistent(persistent::wanted() && (tf32 || options.compute == Compute::bfloat16)) {}

  Spec spec;
  uint64_t serial;
  index count;  // of parameters
  Pool<Machine>& pool;
  bool use_persistent;       // where they suit
  Memory* memory = nullptr;  // for calls with arrays of the machine; null: the machines' own

  static uint64_t next_serial() {
    static std::atomic<uint64_t> serial{1};
    return serial++;
  }

  const char* name() const { return spec.traits().name; }
  std::string text(const std::string& what) const { return std::string(name()) + ": " + what; }
  index state_count(const Extent& e, index width) const {
    return spec.layers * spec.directions * e.batch * width;
  }
  index c_width() const { return spec.traits().has_cell_state ? spec.hidden : 0; }
  std::vector<index> y_shape(const Extent& e, bool is_step) const {
    auto shape = e.shape(spec.width());
    if (is_step) shape.erase(shape.begin());
    return shape;
  }

  void use_up(PyTape& tape) const {
    if (std::exchange(tape.used, true))
      throw py::value_error(
          text("tape was used before, expected a fresh one: each forward serves one backward"));
  }

  const float* flat(py::handle given) const {
    return as_contiguous<float>(name(), "the parameter buffer", given, count);
  }

  std::shared_ptr<Buffer<float>> own_packed(py::handle any) const {
    if (any.is_none()) return nullptr;
    const auto& packed = any.cast<const Packed&>();
    if (packed.layer != serial)
      throw py::value_error(
          text("packed is another layer's, expected weights from this layer's pack"));
    return packed.parameters;
  }

  std::unique_ptr<PyTape> new_tape(const Extent& e, bool tokens, uint64_t seed) const {
    auto tape = std::make_unique<PyTape>();
    tape->layer = serial;
    tape->dropout_seed = seed;
    tape->extent = e;
    tape->tokens = tokens;
    return tape;
  }

  void compute(Machine& machine, PyTape& tape, bool record, const Outputs& out) {
    if (spec.compute == Compute::bfloat16)
      compute_as<Bfloat16>(machine, tape, record, out);
    else
      compute_as<float>(machine, tape, record, out);
  }

  template <class Operand>
  void compute_as(Machine& machine, PyTape& tape, bool record, const Outputs& out) {
    auto network = std::make_unique<Network<Machine, Operand>>(spec, tape.in.inputs, record,
                                                               tape.dropout_seed, use_persistent);
    network->forward(machine, out);
    if (tape.parameters_there) network->leave_parameters();
    tape.bytes = tape.in.bytes + network->bytes();
    tape.persistent_kernels = network->persistent_kernels();
    tape.network = std::move(network);
  }

  static void compute_back(Machine& machine, PyTape& tape, const OutputGradients& given,
                           const InputGradients& wanted) {
    std::visit(
        [&](const auto& network) {
          network->backward(machine, given, wanted);
          tape.persistent_kernels = network->persistent_kernels();
        },
        tape.network);
  }

  // A copy in which the first two axes, of those lengths in the copy, have changed places.
  template <class T>
  Buffer<T> swapped(Machine& machine, const T* from, index first, index second, index width) {
    auto to = machine.template make<T>(first * second * width);
    machine.run(Arrange<T>{{first, second, width, {width, first * width, 1}}, from, to.data()});
    return to;
  }

  template <class T>
  Buffer<T> upload(Machine& machine, const T* from, index count) {
    if (!from) return {};
    auto to = machine.template make<T>(count);
    if (count) machine.upload(to.data(), from, count * sizeof(T));
    return to;
  }

  // An upload of arguments that the tape keeps.
  template <class T>
  Buffer<T> upload(Machine& machine, Arguments& all, const T* from, index count) {
    if (from) all.bytes += count * static_cast<index>(sizeof(T));
    return upload(machine, from, count);
  }

  void set_parameters(Machine& machine, Arguments& all, const float* values,
                      std::shared_ptr<Buffer<float>> packed) {
    if (!packed) packed = std::make_shared<Buffer<float>>(upload(machine, all, values, count));
    all.parameters = std::move(packed);
    all.inputs.parameters = all.parameters->data();
  }

  void set_boundaries(Machine& machine, Arguments& all, const Boundaries& at) {
    const auto pointer = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
    all.lengths = upload(machine, all, pointer(at.lengths), std::ssize(at.lengths));
    all.reset = upload(machine, all, pointer(at.reset), std::ssize(at.reset));
    all.inputs.lengths = all.lengths.data();
    all.inputs.reset = all.reset.data();
  }
};

}  // namespace rnnfast::cuda
