// Layers × directions: direction d of layer l has the index k = l·D + d in weights and states.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include "../cpp/network/spec.hpp"
#include "persistent/plan.hpp"
#include "recurrence.hpp"

namespace rnnfast::cuda {

// Arrays of a call in the machine's memory, time before batch. Null stands for what is not given.
struct Inputs {
  Numbers parameters;
  Numbers x;              // (T, B, I); none where there are tokens
  const int32_t* tokens;  // (T, B)
  const float *h0, *c0;   // (L·D, B, ·)
  const int32_t* lengths;
  const uint8_t* reset;
  index steps, batch;
};

struct Outputs {
  Room y;                  // (T, B, D·R)
  float *h_last, *c_last;  // (L·D, B, ·)
};

struct OutputGradients {
  Numbers dy;
  const float *dh_last, *dc_last;
};

struct InputGradients {
  float* dx;  // null: not wanted
  float *dh0, *dc0;
  float* dparameters;
};

template <class Visitor>
void with_cell(const Spec& spec, Visitor&& visit) {
  switch (spec.cell) {
    case Cell::basic: return visit(Basic{}, std::false_type{});
    case Cell::lstm: return visit(Lstm{}, std::false_type{});
    case Cell::lstm_projected: return visit(Lstm{}, std::true_type{});
    case Cell::gru: return visit(Gru{}, std::false_type{});
    case Cell::gru_reset_before: return visit(GruResetBefore{}, std::false_type{});
  }
}

template <class Machine, class Operand>
class Network {
  static constexpr bool narrow = sizeof(Operand) < sizeof(float);
  template <class Cell, bool projected>
  using Of = Recurrence<Machine, Cell, Operand, projected>;

 public:
  // `record`: whether `backward` is to follow, which reads the inputs again. `use_persistent`:
  // whether all steps are one kernel where there is one for the layer.
  Network(const Spec& spec, const Inputs& in, bool record, uint64_t seed, bool use_persistent)
      : spec_(spec), in_(in), record_(record), seed_(seed), use_persistent_(use_persistent) {}

  void forward(Machine& machine, const Outputs& out) {
    machine_ = &machine;
    convert_parameters();
    Numbers x = in_.x;
    Buffer<float> exact;  // what is dropped from is not rounded before
    for (index l = 0; l < spec_.layers; ++l) {
      Layer layer;
      read_input(layer, l, x);
      Room y = out.y;
      const index count = rows() * spec_.width();
      if (l + 1 < spec_.layers) {
        if (narrow && drops())
          y = (exact = machine_->template make<float>(count)).data();
        else
          y = (layer.y = keep<Operand>(count)).data();
      }
      run(layer, l, y, out);
      x = y;
      if (l + 1 < spec_.layers && drops()) drop(l, y.wide);
      if (!record_) layers_.clear();  // whose y has been read
      layers_.push_back(std::move(layer));
    }
  }

  void backward(Machine& machine, const OutputGradients& given, const InputGradients& wanted) {
    machine_ = &machine;
    convert_parameters();
    Numbers dy = given.dy;
    Buffer<float> held, next;
    for (index l = spec_.layers; l-- > 0;) {
      float* dx = l ? nullptr : wanted.dx;
      if (l) {
        next = machine_->template make<float>(rows() * spec_.layer_input(l));
        dx = next.data();
      }
      run_back(l, dy, dx, given, wanted);
      if (l) {
        if (drops()) drop(l - 1, dx);
        dy = dx;
        held = std::move(next);
      }
    }
  }

  // Backward is to be given the parameters again: none are kept.
  void leave_parameters() { weights_ = {}; }
  // Backward is to find the parameters, the same ones, elsewhere.
  void move_parameters(const Numbers& parameters) {
    in_.parameters = parameters;
    for (index l = 0; l < spec_.layers; ++l)
      for (int d = 0; d < spec_.directions; ++d) set_biases(layers_[l].directions[d].track, l, d);
  }

  // Of what is kept for BPTT.
  index bytes() const {
    return bytes_ + (weights_.data() ? parameter_count(spec_) * sizeof(Operand) : 0);
  }
  // How many `forward` and `backward` have run.
  int persistent_kernels() const { return persistent_kernels_; }

 private:
  struct Direction {
    Buffer<float> gates, h, c, kept, u;
    Buffer<Operand> h_operand, kept_operand;
    Track<Operand> track;
  };
  struct Layer {
    Buffer<Operand> y;  // null of the last, and where outputs are dropped
    Buffer<Operand> converted;
    const Operand* x = nullptr;  // (T·B, I); null of tokens
    std::vector<Direction> directions;
  };

  index B() const { return in_.batch; }
  persistent::Size size() const { return {spec_.directions, spec_.hidden, in_.steps, in_.batch}; }
  index rows() const { return in_.steps * in_.batch; }
  Sequences sequences(bool reverse) const {
    return {in_.steps, in_.batch, in_.lengths, in_.reset, reverse};
  }

  template <class T>
  Buffer<T> keep(index count) {
    bytes_ += count * static_cast<index>(sizeof(T));
    return machine_->template make<T>(count);
  }

  // Unless they are what products read, or have been converted.
  void convert_parameters() {
    if (in_.parameters.template as<Operand>() || weights_.data()) return;
    const index count = parameter_count(spec_);
    weights_ = machine_->template make<Operand>(count);
    machine_->run(Convert{{count, 1, nullptr, nullptr, false}, 1, in_.parameters, weights_.data()});
  }

  // x as products read it, with zeros where a sequence has no step: 0 · NaN is no zero.
  void read_input(Layer& layer, index l, const Numbers& x) {
    layer.x = x.template as<Operand>();
    if (!x || (layer.x && (l || !in_.lengths))) return;
    const index width = spec_.layer_input(l);
    layer.converted = keep<Operand>(rows() * width);
    machine_->run(Convert{sequences(false), width, x, layer.converted.data()});
    layer.x = layer.converted.data();
  }

  bool drops() const { return record_ && spec_.dropout > 0; }
  // A layer's output after dropout; of gradients, the same in the other direction. In place.
  void drop(index l, float* y) {
    const double p = spec_.dropout;
    const auto threshold = static_cast<uint32_t>(std::lround(p * (1 << 24)));
    const float scale = p < 1 ? static_cast<float>(1 / (1 - p)) : 0.0f;
    machine_->run(Drop{rows() * spec_.width(), l, seed_, threshold, scale, y, y});
  }

  // The part of an array (L·D, B, width) that belongs to a direction.
  template <class T>
  T* part(T* all, index l, int d, index width) const {
    return all ? all + (l * spec_.directions + d) * B() * width : nullptr;
  }

  // Pointers that are as far from `origin` as a direction's parameters are from the first one,
  // whatever their type.
  const char* origin() const { return static_cast<const char*>(in_.parameters.data()); }
  auto places(index l, int d) const { return rnnfast::weights(spec_, origin(), l, d); }

  Numbers parameters_at(const char* place) const {
    return place ? in_.parameters + (place - origin()) : Numbers();
  }
  void set_biases(Track<Operand>& k, index l, int d) const {
    const auto w = places(l, d);
    k.b_ih = parameters_at(w.b_ih), k.b_hh = parameters_at(w.b_hh);
  }

  Weights<Operand> operands(index l, int d) const {
    const auto* given = in_.parameters.template as<Operand>();
    const auto* all = given ? given : weights_.data();
    const auto w = places(l, d);
    const auto at = [&](const char* place) { return place ? all + (place - origin()) : nullptr; };
    return {at(w.w_ih), at(w.w_hh), at(w.w_hr)};
  }

  // Whether one persistent kernel runs all directions of a layer.
  template <template <class> class Kernel, class Cell, bool projected>
  bool runs_at_once() const {
    if constexpr (persistent::suits<Cell, projected>)
      return use_persistent_ &&
             persistent::visit_kernel<Kernel, Cell, Operand>(*machine_, size(), [](auto&) {});
    return false;
  }
  template <template <class> class Kernel, class Cell, bool projected, class Side>
  void run_at_once(const std::vector<Side>& sides) {
    if constexpr (persistent::suits<Cell, projected>)
      persistent::run<Kernel, Cell, Operand>(*machine_, size(), sides);
    ++persistent_kernels_;
  }

  template <class Cell, bool projected>
  Direction make_direction(index l, int d, bool at_once, const Room& y, const Outputs& out) {
    const index N = rows(), H = spec_.hidden, R = spec_.output();
    Direction own;
    own.gates = keep<float>(N * Cell::gates * H);
    if (!at_once) own.u = keep<float>(B() * Cell::gates * H);
    if (record_ || !at_once) {
      own.h = keep<float>(N * R);
      if (Cell::has_cell_state) own.c = keep<float>(N * H);
      if (Cell::state_gates_differ) own.kept = keep<float>(N * H);
      if (narrow) own.h_operand = keep<Operand>(N * R);
      if (projected || Cell::splits) own.kept_operand = keep<Operand>(N * H);
    }
    Track<Operand>& k = own.track;
    k.sequences = sequences(d == 1);
    k.shape = {spec_.layer_input(l), H, R, spec_.nonlinearity};
    set_biases(k, l, d);
    k.gates = own.gates.data(), k.h = own.h.data(), k.c = own.c.data();
    k.kept = own.kept.data(), k.u = own.u.data();
    k.kept_operand = own.kept_operand.data();
    if constexpr (narrow)
      k.h_operand = own.h_operand.data();
    else
      k.h_operand = own.h.data();
    k.h_last = part(out.h_last, l, d, R);
    k.c_last = part(out.c_last, l, d, H);
    k.y = y + d * R;
    k.y_stride = spec_.width();
    return own;
  }

  void run(Layer& layer, index l, const Room& y, const Outputs& out) {
    with_cell(spec_, [&]<class Cell, bool projected>(Cell, std::bool_constant<projected>) {
      const bool at_once = runs_at_once<persistent::Forward, Cell, projected>();
      std::vector<persistent::ForwardSide<Operand>> sides;
      for (int d = 0; d < spec_.directions; ++d) {
        layer.directions.push_back(make_direction<Cell, projected>(l, d, at_once, y, out));
        const auto& k = layer.directions.back().track;
        multiply_input(layer, l, d);
        sides.push_back({k, operands(l, d).hh, part(in_.h0, l, d, spec_.output()),
                         part(in_.c0, l, d, spec_.hidden)});
      }
      if (at_once) return run_at_once<persistent::Forward, Cell, projected>(sides);
      for (int d = 0; d < spec_.directions; ++d)
        Of<Cell, projected>(*machine_, sides[d].k, operands(l, d))
            .forward(sides[d].h0, sides[d].c0);
    });
  }

  void multiply_input(const Layer& layer, index l, int d) {
    const auto& k = layer.directions[d].track;
    const index I = k.shape.input, GH = spec_.traits().gates * spec_.hidden;
    if (!layer.x) return gather(k, parameters_at(places(l, d).w_ih), GH);
    machine_->multiply(Product<Operand>{{layer.x, rows(), I, I},
                                        Matrix<const Operand>{operands(l, d).ih, GH, I, I}.t(),
                                        {k.gates, rows(), GH, GH}});
  }

  void gather(const Track<Operand>& k, const Numbers& w_ih, index GH) {
    const index I = k.shape.input;
    const auto columns = machine_->template make<float>(I * GH);
    machine_->run(Transpose{GH, I, w_ih, columns.data()});
    machine_->run(Gather{sequences(false), GH, in_.tokens, columns.data(), k.gates});
  }

  // Gradients of a direction while BPTT runs.
  struct Gradients {
    Buffer<Operand> da, du, dprojected;
    Buffer<float> dh, dc, dhidden;
    GradientTrack<Operand> track;
  };

  template <class Cell, bool projected>
  Gradients make_gradients(index l, int d, const Numbers& dy, const OutputGradients& given) {
    const index N = rows(), H = spec_.hidden, R = spec_.output(), GH = Cell::gates * H;
    Gradients own;
    own.da = machine_->template make<Operand>(N * GH);
    if (Cell::state_gates_differ) own.du = machine_->template make<Operand>(N * GH);
    if (projected) own.dprojected = machine_->template make<Operand>(N * R);
    own.dh = carried(part(given.dh_last, l, d, R), R);
    own.dc = carried(part(given.dc_last, l, d, H), Cell::has_cell_state ? H : 0);
    own.dhidden = machine_->template make<float>(projected || Cell::splits ? B() * H : 0);
    own.track = {dy + d * R,
                 spec_.width(),
                 own.da.data(),
                 Cell::state_gates_differ ? own.du.data() : own.da.data(),
                 own.dprojected.data(),
                 own.dh.data(),
                 own.dc.data(),
                 own.dhidden.data()};
    return own;
  }

  void run_back(index l, const Numbers& dy, float* dx, const OutputGradients& given,
                const InputGradients& wanted) {
    with_cell(spec_, [&]<class Cell, bool projected>(Cell, std::bool_constant<projected>) {
      const bool at_once = runs_at_once<persistent::Backward, Cell, projected>();
      const int together = at_once ? spec_.directions : 1;  // or their gradients need more memory
      for (int first = 0; first < spec_.directions; first += together) {
        std::vector<Gradients> gradients;
        for (int d = first; d < first + together; ++d)
          gradients.push_back(make_gradients<Cell, projected>(l, d, dy, given));
        walk_back<Cell, projected>(l, first, at_once, gradients, wanted);
        for (int d = first; d < first + together; ++d)
          leave_gradients<Cell, projected>(l, d, gradients[d - first].track, dx, wanted);
      }
    });
  }

  // BPTT of all directions by one kernel, or of the one that there are gradients of.
  template <class Cell, bool projected>
  void walk_back(index l, int first, bool at_once, const std::vector<Gradients>& gradients,
                 const InputGradients& wanted) {
    std::vector<persistent::BackwardSide<Operand>> sides;
    for (int d = first; d < first + static_cast<int>(gradients.size()); ++d)
      sides.push_back({layers_[l].directions[d].track, operands(l, d).hh,
                       gradients[d - first].track, part(wanted.dh0, l, d, spec_.output()),
                       part(wanted.dc0, l, d, spec_.hidden)});
    if (at_once) return run_at_once<persistent::Backward, Cell, projected>(sides);
    const auto& [k, w_hh, d, dh0, dc0] = sides[0];
    Of<Cell, projected>(*machine_, k, operands(l, first)).backward(d, dh0, dc0);
  }

  // Of parameters and input.
  template <class Cell, bool projected>
  void leave_gradients(index l, int d, const GradientTrack<Operand>& gradients, float* dx,
                       const InputGradients& wanted) {
    const Layer& layer = layers_[l];
    const auto& k = layer.directions[d].track;
    Of<Cell, projected> recurrence(*machine_, k, operands(l, d));
    const auto w = rnnfast::weights(spec_, wanted.dparameters, l, d);
    const WeightGradients dw{w.w_ih, w.w_hh, w.b_ih, w.b_hh, w.w_hr};
    if (layer.x) {
      recurrence.weight_gradients(gradients, {layer.x, rows(), k.shape.input, k.shape.input}, dw);
    } else {
      recurrence.state_weight_gradients(gradients, dw);
      scatter(gradients.da, Cell::gates * spec_.hidden, w.w_ih);
    }
    if (dx) recurrence.input_gradient(gradients, dx, d > 0);
  }

  // A gradient of the last state as BPTT carries it on.
  Buffer<float> carried(const float* given, index width) {
    auto to = machine_->template make<float>(B() * width);
    if (given)
      machine_->run(Convert{{B(), 1, nullptr, nullptr, false}, width, given, to.data()});
    else
      machine_->zero(to.data(), B() * width * sizeof(float));
    return to;
  }

  void scatter(const Operand* da, index GH, float* dweight) {
    const auto sorted = machine_->template make<int32_t>(rows());
    const auto row = machine_->template make<int32_t>(rows());
    machine_->sort(in_.tokens, rows(), sorted.data(), row.data());
    machine_->run(
        Scatter<Operand>{rows(), GH, spec_.input, sorted.data(), row.data(), da, dweight});
  }

  Machine* machine_ = nullptr;  // of the present call
  Spec spec_;
  Inputs in_;
  bool record_;
  uint64_t seed_;
  bool use_persistent_;
  int persistent_kernels_ = 0;
  index bytes_ = 0;
  Buffer<Operand> weights_;
  std::vector<Layer> layers_;
};

}  // namespace rnnfast::cuda
