#include "layer.hpp"

#include <pybind11/stl.h>

#include <atomic>
#include <utility>

#include "../network/engine.hpp"
#include "arrays.hpp"
#include "gil.hpp"

namespace rnnfast {
namespace {

std::atomic<uint64_t> next_serial{1};

template <class Real>
struct TapeOf final : PyTape {
  TapeOf(Sequences sequences, const Spec& spec, uint64_t seed)
      : tape(std::move(sequences), spec, seed) {}
  py::object dropout_seed() const override { return py::int_(tape.dropout_seed); }

  Tape<Real> tape;
  uint64_t layer = 0;
  bool used = false;
  bool tokens = false;
  Extent extent{};
  std::optional<py::array> x, y;  // memory the tape reads
};

template <class Real>
struct PackedOf final : PyPacked {
  uint64_t layer = 0;
  PackedNetwork<Real> network;
};

template <class Real>
class LayerOf final : public PyLayer {
 public:
  explicit LayerOf(const Spec& spec)
      : spec_(spec), serial_(next_serial++), count_(parameter_count(spec)) {}

  py::list parameters() const override {
    py::list all;
    for (const Parameter& p : rnnfast::parameters(spec_))
      all.append(py::make_tuple(p.name, py::tuple(py::cast(p.shape)), p.offset));
    return all;
  }

  py::tuple forward(py::array parameters, py::handle x, py::handle state, py::handle lengths,
                    py::handle reset, bool record, uint64_t seed, py::handle num_threads,
                    const PyPacked* packed) const override {
    const int threads = thread_count_or_default(num_threads);
    const Input<Real> in = as_input<Real>(spec_, x);
    const auto initial = as_state<Real>(spec_, in.extent, "state", state);
    Sequences sequences = as_sequences(spec_, in.extent, lengths, reset);
    std::unique_ptr<TapeOf<Real>> tape;
    if (record) tape = new_tape(in, std::move(sequences), seed);
    const Sequences& order = record ? tape->tape.sequences : sequences;
    Outputs out(*this, in.extent, in.extent.shape(spec_.width()));
    const auto call = forward_call(parameters, in, initial, out, packed);
    without_gil(threads, [&](Lease& lease) {
      rnnfast::forward(spec_, call, order, record ? &tape->tape : nullptr, lease);
    });
    if (!record) return py::make_tuple(out.y, out.state(), py::none());
    out.y.attr("flags").attr("writeable") = false;  // the tape reads it
    tape->x = in.kept;
    tape->y = out.y;
    return py::make_tuple(out.y, out.state(), std::unique_ptr<PyTape>(std::move(tape)));
  }

  py::tuple step(py::array parameters, py::handle x, py::handle state,
                 py::handle num_threads) const override {
    const int threads = thread_count_or_default(num_threads);
    if (spec_.directions > 1)
      throw py::value_error(std::string(spec_.traits().name) +
                            ": step needs a layer that is not bidirectional");
    const Input<Real> in = as_step_input<Real>(spec_, x);
    const auto initial = as_state<Real>(spec_, in.extent, "state", state);
    Outputs out(*this, in.extent,
                in.extent.batched ? std::vector<index>{in.extent.batch, spec_.width()}
                                  : std::vector<index>{spec_.width()});
    const auto call = forward_call(parameters, in, initial, out, nullptr);
    const Sequences sequences(1, in.extent.batch);
    without_gil(threads, [&](Lease& lease) { rnnfast::step(spec_, call, sequences, lease); });
    return py::make_tuple(out.y, out.state());
  }

  py::tuple backward(py::array parameters, PyTape& any_tape, py::handle dy, py::handle dstate,
                     py::handle out, bool input_gradient, py::handle num_threads) const override {
    const int threads = thread_count_or_default(num_threads);
    TapeOf<Real>& tape = own_tape(any_tape);
    const Extent& extent = tape.extent;
    BackwardCall<Real> call{};
    call.parameters = flat(parameters);
    const py::array dparameters = out.is_none() ? py::array(new_array<Real>({count_}))
                                                : py::reinterpret_borrow<py::array>(out);
    call.dparameters = const_cast<Real*>(flat(dparameters));
    std::optional<Array<Real>> dy_array;
    if (!dy.is_none()) {
      const py::array given = as_array(name(), "dy", dy);
      expect_shape(name(), "dy", given, extent.shape(spec_.width()), "the shape of y");
      dy_array = as_real<Real>(name(), "dy", given);
      call.dy = extent.rows(dy_array->data(), spec_.width());
    }
    const auto dfinal = as_state<Real>(spec_, extent, "dstate", dstate);
    call.dfinal = {dfinal.h_data(), dfinal.c_data()};
    const auto expect_out_apart = [&](const char* other, const auto& read) {
      if (read) expect_apart(name(), "out", dparameters, other, *read);
    };
    expect_out_apart("dy", dy_array);
    expect_out_apart("dstate", dfinal.h);
    expect_out_apart("dstate", dfinal.c);
    expect_out_apart("x, which the tape reads", tape.x);
    py::object dx = py::none();
    if (input_gradient && !tape.tokens) {
      auto array = new_array<Real>(extent.shape(spec_.input));
      call.dx = extent.rows(array.mutable_data(), spec_.input);
      dx = std::move(array);
    }
    Outputs initial(*this, extent, {0});
    call.dinitial = initial.states;
    // Not before: an argument's own __array__ may have run anything, another backward too.
    use_up(tape);
    without_gil(threads, [&](Lease& lease) { rnnfast::backward(spec_, call, tape.tape, lease); });
    return py::make_tuple(dx, initial.state(), dparameters);
  }

  std::unique_ptr<PyPacked> pack(py::array parameters, py::handle num_threads) const override {
    auto packed = std::make_unique<PackedOf<Real>>();
    packed->layer = serial_;
    const Real* values = flat(parameters);
    without_gil(thread_count_or_default(num_threads),
                [&](Lease& lease) { packed->network = rnnfast::pack(spec_, values, lease); });
    return packed;
  }

 private:
  // New arrays for y and the final state.
  struct Outputs {
    py::array_t<Real> y;
    py::array_t<Real> h, c;
    State<Real> states;
    bool pair;

    Outputs(const LayerOf& layer, const Extent& extent, const std::vector<index>& y_shape)
        : y(new_array<Real>(y_shape)),
          h(new_array<Real>(state_shape(layer.spec_, extent, layer.spec_.output()))),
          pair(layer.spec_.traits().has_cell_state) {
      states.h = h.mutable_data();
      if (!pair) return;
      c = new_array<Real>(state_shape(layer.spec_, extent, layer.spec_.hidden));
      states.c = c.mutable_data();
    }
    py::object state() const {
      if (pair) return py::make_tuple(h, c);
      return h;
    }
  };

  const char* name() const { return spec_.traits().name; }

  // The flat parameter buffer: a contiguous array of the layer's own type and count.
  const Real* flat(const py::array& a) const {
    if (!py::isinstance<py::array_t<Real, py::array::c_style>>(a) || a.size() != count_)
      throw py::value_error(std::string(name()) + ": the parameter buffer has shape " +
                            repr_shape(a) + " and dtype " + py::str(a.dtype()).cast<std::string>() +
                            ", expected " + std::to_string(count_) + " contiguous elements of " +
                            py::str(py::dtype::of<Real>()).cast<std::string>());
    return static_cast<const Real*>(a.data());
  }

  ForwardCall<Real> forward_call(const py::array& parameters, const Input<Real>& in,
                                 const StateArrays<Real>& initial, Outputs& out,
                                 const PyPacked* packed) const {
    const PackedNetwork<Real>* network = nullptr;
    if (const auto* p = dynamic_cast<const PackedOf<Real>*>(packed); p && p->layer == serial_)
      network = &p->network;
    return {flat(parameters),
            network,
            in.x,
            in.tokens,
            {initial.h_data(), initial.c_data()},
            in.extent.rows(out.y.mutable_data(), spec_.width()),
            out.states};
  }

  std::unique_ptr<TapeOf<Real>> new_tape(const Input<Real>& in, Sequences sequences,
                                         uint64_t seed) const {
    auto tape = std::make_unique<TapeOf<Real>>(std::move(sequences), spec_, seed);
    tape->layer = serial_;
    tape->extent = in.extent;
    tape->tokens = static_cast<bool>(in.tokens);
    return tape;
  }

  TapeOf<Real>& own_tape(PyTape& any) const {
    auto* tape = dynamic_cast<TapeOf<Real>*>(&any);
    if (!tape || tape->layer != serial_)
      throw py::value_error(std::string(name()) +
                            ": tape was recorded by another layer, expected one from this "
                            "layer's forward");
    return *tape;
  }

  void use_up(TapeOf<Real>& tape) const {
    if (std::exchange(tape.used, true))
      throw py::value_error(std::string(name()) +
                            ": tape was used before, expected a fresh one: each forward serves one "
                            "backward");
  }

  Spec spec_;
  uint64_t serial_;
  index count_;
};

}  // namespace

Spec make_spec(const std::string& cell, index input_size, index hidden_size, index num_layers,
               bool bias, bool batch_first, double dropout, bool bidirectional, index proj_size,
               bool reset_after, const std::string& nonlinearity) {
  Spec spec{
      .cell = Cell::basic,
      .input = input_size,
      .hidden = hidden_size,
      .layers = num_layers,
      .bias = bias,
      .batch_first = batch_first,
      .dropout = dropout,
      .directions = bidirectional ? 2 : 1,
      .projection = proj_size,
      .nonlinearity = Nonlinearity::tanh,
  };
  if (cell == "lstm") spec.cell = proj_size ? Cell::lstm_projected : Cell::lstm;
  if (cell == "gru") spec.cell = reset_after ? Cell::gru : Cell::gru_reset_before;
  if (nonlinearity == "relu") spec.nonlinearity = Nonlinearity::relu;
  if (nonlinearity == "sigmoid") spec.nonlinearity = Nonlinearity::sigmoid;
  if (nonlinearity == "identity") spec.nonlinearity = Nonlinearity::identity;
  return spec;
}

std::unique_ptr<PyLayer> make_layer(const std::string& dtype, const Spec& spec) {
  if (dtype == "float32") return std::make_unique<LayerOf<float>>(spec);
  return std::make_unique<LayerOf<double>>(spec);
}

}  // namespace rnnfast
