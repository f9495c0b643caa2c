#include "layer.hpp"

#include <pybind11/stl.h>

#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "../network/kept.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "options.hpp"

namespace rnnfast {
namespace {

std::atomic<uint64_t> next_serial{1};

template <class Real>
struct TapeOf final : PyTape {
  TapeOf(Sequences sequences, const Spec& spec, uint64_t seed)
      : tape(std::move(sequences), spec, seed) {}
  py::object dropout_seed() const override { return py::int_(tape.dropout_seed); }
  index bytes() const override { return tape.bytes(); }

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

// A call's use of a cache, begun and ended under the GIL.
template <class Real>
class CachedCall {
 public:
  CachedCall(PyWeightCache* given, uint64_t layer, index rows, bool record, const Real* parameters,
             index count) {
    if (!given) return;
    if (record || given->layer != layer) *given = {};
    if (record || !worth_keeping(rows)) return;
    if (!given->of_layer) *given = {layer, std::make_shared<WeightCache<Real>>()};
    given_ = given;
    cache_ = std::static_pointer_cast<WeightCache<Real>>(given->of_layer);
    call_ = cache_->begin(parameters, count);
  }
  ~CachedCall() {
    if (!cache_) return;
    cache_->end(call_);
    if (given_->of_layer == cache_) given_->bytes = cache_->bytes();
  }
  CachedCall(const CachedCall&) = delete;
  CachedCall& operator=(const CachedCall&) = delete;

  // In between, without the GIL.
  const PackedNetwork<Real>* find(const Spec& spec, const Real* parameters, Lease& lease) {
    return WeightCache<Real>::find(call_, spec, parameters, lease);
  }

 private:
  PyWeightCache* given_ = nullptr;
  std::shared_ptr<WeightCache<Real>> cache_;  // null where the call has no use for it
  WeightCache<Real>::Call call_;
};

template <class Real>
class LayerOf final : public PyLayer {
 public:
  explicit LayerOf(const Spec& spec)
      : spec_(spec), serial_(next_serial++), count_(parameter_count(spec)) {}

  py::list parameters() const override { return parameter_list(spec_); }

  py::tuple forward(py::handle parameters, py::handle x, py::handle state, py::handle lengths,
                    py::handle reset, bool record, uint64_t seed, py::handle num_threads,
                    py::handle weights) const override {
    const int threads = thread_count_or_default(num_threads);
    if (record && spec_.compute == Compute::int8)
      throw py::value_error(std::string(name()) + ": int8 is for inference, it records nothing");
    const Input<Real> in = as_input<Real>(spec_, x);
    const auto initial = as_state<Real>(spec_, in.extent, "state", state);
    Sequences sequences = as_sequences(spec_, in.extent, lengths, reset);
    const Sequences* order = &sequences;
    std::unique_ptr<TapeOf<Real>> tape;
    if (record) {
      tape = new_tape(in, std::move(sequences), seed);
      order = &tape->tape.sequences;
    }
    auto y = new_array<Real>(in.extent.shape(spec_.width()));
    NewState final(spec_, in.extent);
    const bool cached = py::isinstance<PyWeightCache>(weights);
    auto call = forward_call(parameters, cached ? py::none() : weights, in, initial, y, final);
    CachedCall<Real> cache(cached ? weights.cast<PyWeightCache*>() : nullptr, serial_,
                           order->rows(), record, call.parameters, count_);
    run(threads, [&](Lease& lease) {
      if (cached) call.packed = cache.find(spec_, call.parameters, lease);
      rnnfast::forward(spec_, call, *order, record ? &tape->tape : nullptr, lease);
    });
    if (!record) return py::make_tuple(y, final.object(), py::none());
    tape->x = in.kept;
    tape->y = y;
    return py::make_tuple(y, final.object(), std::unique_ptr<PyTape>(std::move(tape)));
  }

  py::tuple step(py::handle parameters, py::handle x, py::handle state, py::handle num_threads,
                 py::handle packed) const override {
    const int threads = thread_count_or_default(num_threads);
    if (spec_.directions > 1)
      throw py::value_error(std::string(spec_.traits().name) +
                            ": step needs a layer that is not bidirectional");
    const Input<Real> in = as_step_input<Real>(spec_, x);
    const auto initial = as_state<Real>(spec_, in.extent, "state", state);
    auto y = new_array<Real>(in.extent.batched ? std::vector<index>{in.extent.batch, spec_.width()}
                                               : std::vector<index>{spec_.width()});
    NewState final(spec_, in.extent);
    const auto call = forward_call(parameters, packed, in, initial, y, final);
    const Sequences sequences(1, in.extent.batch);
    run(threads, [&](Lease& lease) { rnnfast::step(spec_, call, sequences, lease); });
    return py::make_tuple(y, final.object());
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
    NewState dinitial(spec_, extent);
    call.dinitial = {dinitial.h_data, dinitial.c_data};
    // Not before: an argument's own __array__ may have run anything, another backward too.
    use_up(tape);
    run(threads, [&](Lease& lease) { rnnfast::backward(spec_, call, tape.tape, lease); });
    return py::make_tuple(dx, dinitial.object(), dparameters);
  }

  std::unique_ptr<PyPacked> pack(py::array parameters, py::handle scales,
                                 py::handle num_threads) const override {
    auto packed = std::make_unique<PackedOf<Real>>();
    packed->layer = serial_;
    const Real* values = flat(parameters);
    const index tracks = spec_.layers * spec_.directions;
    const auto* fixed =
        scales.is_none() ? nullptr : as_contiguous<Real>(name(), "scales", scales, tracks * 3);
    without_gil(thread_count_or_default(num_threads),
                [&](Lease& lease) { packed->network = rnnfast::pack(spec_, values, lease); });
    for (index i = 0; fixed && i < tracks; ++i, fixed += 3)
      packed->network.scales[i] = {fixed[0], fixed[1], fixed[2]};
    return packed;
  }

  void use_openmp(uintptr_t parallel, uintptr_t thread_num, uintptr_t num_threads) override {
    openmp_ = OpenMP{reinterpret_cast<decltype(OpenMP::parallel)>(parallel),
                     reinterpret_cast<decltype(OpenMP::thread_num)>(thread_num),
                     reinterpret_cast<decltype(OpenMP::num_threads)>(num_threads)};
  }

  py::list explain(index steps, index rows, index batch, bool tokens,
                   py::handle num_threads) const override {
    const int threads = thread_count_or_default(num_threads);
    py::list all;
    for (const auto& e : rnnfast::explain<Real>(spec_, steps, rows, batch, tokens, threads))
      all.append(py::dict(
          py::arg("crews") = e.plan.crews, py::arg("crew") = e.plan.crew,
          py::arg("claims") = e.plan.claims, py::arg("together") = e.plan.together,
          py::arg("layers") = e.plan.layers, py::arg("input_first") = e.plan.input_first,
          py::arg("prefetch") = e.plan.prefetch, py::arg("share") = e.plan.share,
          py::arg("rows_alone") = e.rows_alone, py::arg("units_alone") = e.units_alone,
          py::arg("step_flops") = e.work.step_flops, py::arg("weight_bytes") = e.work.weight_bytes,
          py::arg("cache_bytes") = e.machine.cache_bytes));
    return all;
  }

  py::array magnitudes(PyTape& any_tape) const override {
    const TapeOf<Real>& tape = own_tape(any_tape);
    std::vector<PerOperand<Real>> all;
    without_gil(1, [&](Lease&) { all = rnnfast::magnitudes(spec_, tape.tape); });
    auto array = new_array<Real>({static_cast<index>(all.size()), 3});
    std::memcpy(array.mutable_data(), all.data(), array.nbytes());
    return array;
  }

 private:
  using NewState = rnnfast::NewState<Real>;

  template <class Work>
  void run(int threads, Work work) const {
    without_gil(threads, work, openmp_ ? &*openmp_ : nullptr);
  }

  const char* name() const { return spec_.traits().name; }

  const Real* flat(py::handle given) const {
    return as_contiguous<Real>(name(), "the parameter buffer", given, count_);
  }

  ForwardCall<Real> forward_call(py::handle parameters, py::handle packed, const Input<Real>& in,
                                 const StateArrays<Real>& initial, py::array_t<Real>& y,
                                 const NewState& final) const {
    return {
        .parameters = packed.is_none() ? flat(parameters) : nullptr,
        .packed = own_packed(packed),
        .x = in.x,
        .tokens = in.tokens,
        .initial = {initial.h_data(), initial.c_data()},
        .y = in.extent.rows(y.mutable_data(), spec_.width()),
        .final = {final.h_data, final.c_data},
    };
  }

  // A handle, not a pointer in the signature: pybind11 takes 0.6 µs to turn None into null.
  const PackedNetwork<Real>* own_packed(py::handle any) const {
    if (any.is_none()) return nullptr;
    const auto* packed = dynamic_cast<const PackedOf<Real>*>(&any.cast<const PyPacked&>());
    if (!packed || packed->layer != serial_)
      throw py::value_error(std::string(name()) +
                            ": packed is another layer's, expected weights from this layer's pack");
    return &packed->network;
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
  std::optional<OpenMP> openmp_;
};

}  // namespace

std::unique_ptr<PyLayer> make_layer(const std::string& dtype, const Spec& spec) {
  if (is_single(dtype)) return std::make_unique<LayerOf<float>>(spec);
  if (spec.compute != Compute::native)
    throw py::value_error("compute needs dtype float32, got " + dtype);
  return std::make_unique<LayerOf<double>>(spec);
}

}  // namespace rnnfast
