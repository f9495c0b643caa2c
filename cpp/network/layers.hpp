// What the forward and the backward pass of a layer share: its plan, its rows, dropout.
#pragma once

#include "engine.hpp"
#include "plan.hpp"
#include "wave.hpp"

namespace rnnfast {

template <class Real>
const CellKernels<Real>& kernels(const InstructionSet& set, const Spec& spec) {
  return table<Real>(set, spec.compute).cell[static_cast<int>(spec.cell)];
}

// Of a forward step of one layer and direction with `batch` rows.
double step_flops(const Spec& spec, const Size& size, index batch);

// What one layer and direction has to do over `rows` rows of so many steps, the widest of which has
// `batch`; `element`: bytes of one. Of `directions` and followers that may be processed at once.
Work work_of(const Spec& spec, const Size& size, const Sizes& sizes, index element, index steps,
             index rows, index batch, bool tokens, int directions, std::vector<double> followers);
Work work_for(const Spec& spec, const Size& size, const Sizes& sizes, index element,
              const Sequences& sequences, bool tokens, int directions,
              std::vector<double> followers);

// Work::followers of a layer, upwards (step 1) or downwards (step -1), as far as there are threads
// for them.
std::vector<double> costs_of_followers(const Spec& spec, index layer, index step, bool tokens,
                                       int threads);

Machine this_machine(int threads);

// A layer's input as rows that kernels can read, or tokens.
template <class Real>
struct LayerInput {
  Rows<const Real> x;
  const int32_t* tokens = nullptr;
};

// Shares of work that nobody meets in, as kernels see them, among crews of `crew`.
inline Worker share_of(int share, int shares, int crew = 1) {
  const auto go_on = [](void*, int) { return true; };
  return {share, shares, crew, 0, nullptr, go_on, go_on};
}

// Packs so many elements, on as many threads as that is worth.
void pack_in_shares(index elements, Lease& lease, const std::function<void(const Worker&)>& pack);

// The weights of one layer and direction for its forward pass.
template <class Real>
Buffer<Real> pack_forward(const Spec& spec, const CellKernels<Real>& k, const Real* parameters,
                          index layer, int direction, Lease& lease);

// A forward pass of one layer and direction; every thread of its plan runs it.
template <class Real>
class ForwardPass {
 public:
  ForwardPass(const CellKernels<Real>& k, const Plan& plan, const Sizes& sizes,
              const Forward<Real>& f);
  void run(const Worker& me) const;
  // As layer number `layer` of a wave, on a thread among those of that layer.
  void follow(const Wave& wave, int layer, index phases, const Worker& me) const;

 private:
  const CellKernels<Real>& kernels_;
  Forward<Real> f_;
  Buffer<Real> input_;
};

template <class Real>
void run_forward(const CellKernels<Real>& k, const Plan& plan, const Sizes& sizes,
                 const Forward<Real>& f, Lease& lease) {
  const ForwardPass<Real> pass(k, plan, sizes, f);
  if (plan.claims)
    return lease.share(plan.threads(), plan.shares(), plan.wake, [&](int share, int) {
      pass.run(share_of(share, plan.shares(), plan.claims));
    });
  lease.run(plan.crews, plan.crew, [&](const Worker& me) { pass.run(me); });
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

// Packed rows of the user's array.
template <class Real>
Buffer<Real> gather(const Sequences& sequences, const Rows<const Real>& user, index columns,
                    Lease& lease);

// The user's array from packed rows; zero past the lengths.
template <class Real>
void scatter(const Sequences& sequences, const Real* packed, index columns, const Rows<Real>& user,
             Lease& lease);

// Dropout of a layer's output, or of its gradient; element (t, b, j) of the padded batch decides.
template <class Real>
Buffer<Real> drop(const Spec& spec, const Tape<Real>& tape, index layer, const Real* from,
                  Lease& lease);

}  // namespace rnnfast
