// What the network asks of the kernels: plain structs and one table of functions per instruction
// set. Letters: T steps, B batch, I input size, H hidden size, P output size (H, or the LSTM
// projection), N rows = sum of the active batch over all steps.
//
// Rows. Sequences are ordered by falling length, so that the active rows of step t are the first
// offset[t+1] - offset[t] of the batch; row number offset[t] + b holds (t, b) in every recorded
// array. Without lengths offset[t] = t·B.
//
// Words. Products read their operands in words as large as a Real (kernels/format.hpp): the Reals
// themselves, or several smaller elements. Arrays of words are declared as arrays of Real; their
// shapes below count elements.
//
// Ownership. All memory belongs to the caller. Arrays marked [B][H'] have their last axis padded
// to `padded(H)` and start on 64 bytes. Unless a comment says "in place", inputs are not written.
#pragma once

#include <stdint.h>

#include "cells.hpp"

namespace rnnfast {

using index = int64_t;

// Rows of a sequence array: (t, b) lies at base + offset[t]·row + b·row where offset is given
// (packed), else at base + t·step + b·row (the user's own array, time or batch first).
template <class Real>
struct Rows {
  Real* base = nullptr;
  index step = 0;
  index row = 0;
  const index* offset = nullptr;

  Real* at(index t, index b) const {
    return base + (offset ? offset[t] * row : t * step) + b * row;
  }
  explicit operator bool() const { return base != nullptr; }
};

struct Size {
  index input;
  index hidden;
  index output;
  Nonlinearity nonlinearity;
};

struct Timeline {
  index steps;
  const index* offset;  // [T + 1]
  bool reverse;

  index rows(index t) const { return offset[t + 1] - offset[t]; }
  index total() const { return offset[steps]; }
  // N', the rows from one panel of a tape to the next: a step more than there are. BPTT reads one
  // step of all panels at a time, and a power of two would put them into the same cache sets.
  index taped() const { return total() + rows(0); }
  // The step that is processed as number p.
  index time(index p) const { return reverse ? steps - 1 - p : p; }
};

// One layer and direction in PyTorch's layout; absent parts are null.
template <class Real>
struct Weights {
  Real* w_ih;  // [G·H][I]
  Real* w_hh;  // [G·H][P]
  Real* b_ih;  // [G·H]
  Real* b_hh;  // [G·H]
  Real* w_hr;  // [P][H]
};

// A thread's share of a kernel call. In the time loops threads form crews of `crew`, a divisor of
// `count`: crews split the batch and never wait for each other, the members of one split the units
// and meet after every phase of a step. All other kernels share out their panels and do not read
// `crew`.
struct Worker {
  int index;
  int count;
  int crew;
  int member;  // of the team, which may serve several kernel calls at once
  void* team;
  bool (*meet)(void* team, int member);     // barrier of the crew; false: stop
  bool (*proceed)(void* team, int member);  // false: stop

  int crews() const { return count / crew; }
  int own_crew() const { return index / crew; }
  int place() const { return index % crew; }  // within the crew
  // The end of a step, where only members of a crew wait.
  bool finish_step() const { return (crew > 1 ? meet : proceed)(team, member); }
  // The same thread among `share` of them that work on something of their own.
  Worker within(int share) const {
    return {index % share, share, crew, member, team, meet, proceed};
  }
};

// A number for each left operand: x_t, h_{t-1} and the second product's input.
template <class Real>
struct PerOperand {
  Real x = 0;
  Real h = 0;
  Real operand = 0;
};

template <class Real>
struct Forward {
  Size size;
  Timeline time;
  Weights<const Real> weights;
  const Real* packed;     // from pack_forward; null, for Reals alone: products read `weights`
  Rows<const Real> x;     // null where tokens are given
  const int32_t* tokens;  // [N], each in 0 … I - 1
  const Real* h0;         // [B][P']
  Real* c;                // [B][H'], in place: initial → final cell state
  Rows<Real> y;           // assigned; also read back as h
  Real* gates;            // recording: words [panels][N'][width], saved for BPTT; else null
  Real* between;          // what a first phase leaves for the second: [panels][B][width], or null
  Real* cells;            // recording: [N][H'], saved c_t; else null
  Real* operand;          // second product's input, [N][H'] when recording, else scratch [B][H']
  Real* scratch;          // forward_scratch Reals for each thread
  const Real* input;      // optional W_ih x + bias of every row, from input_product
  bool record;
  bool prefetch;  // the weights that a thread reads every step exceed its second-level cache
  PerOperand<Real> scales;  // of integers, where fixed beforehand; zero: each row has its own
};

template <class Real>
struct Backward {
  Size size;
  Timeline time;
  const Real* packed;  // from pack_backward
  Rows<const Real> y;
  Rows<const Real> dy;  // may be null: zero
  const Real* h0;       // [B][P']
  const Real* c0;       // [B][H']
  const Real* cells;    // [N][H']
  Real* gates;          // words, in place: saved gates → gradients of the pre-activations
  Real* projected;      // words [panels][N'][width], assigned: dh_t of the projected LSTM
  Real* dh;             // [B][P'], in place: gradient of the final → of the initial h
  Real* dc;             // [B][H'], the same for c
  Rows<Real> dx;        // null where not wanted
  bool add_dx;          // dx is added to; else assigned
  bool prefetch;        // as in Forward
};

// `count` rows of a left operand whose partners are rows first, first + stride, … of the tape.
template <class Real>
struct Run {
  const Real* a;
  index a_stride;
  index row;
  index row_stride;
  index count;
};

template <class Real>
struct Runs {
  const Run<Real>* data;
  index size;
};

// Runs that make up all rows of the tape, cut where a sum over rows is: each chunk is of
// consecutive rows, at most Sizes::gradient_rows, and is added to the ones before it.
template <class Real>
struct Chunks {
  const Runs<Real>* data;
  index size;
};

template <class Real>
struct WeightGradient {
  Size size;
  index rows;             // N'
  const Real* gates;      // words: gradients of the pre-activations
  const Real* projected;  // words: gradients of the projected h
  Chunks<Real> x;         // x_t, h_{t-1} and the operand beside the rows of the tape
  Chunks<Real> h;
  Chunks<Real> operand;
  const int32_t* tokens;  // [N] instead of x
  bool first, last;       // of the calls that add to `sums`: clears them, assigns d
  Weights<Real> d;
  Real* sums;     // gradient_sums elements that last from call to call
  Real* scratch;  // gradient_scratch elements for each thread
};

// Counts of the Reals in buffers that depend on the instruction set's lanes and tiles, and on the
// format where they hold words.
struct Sizes {
  index packed_forward;
  index packed_backward;
  index gates_per_row;  // panels · width
  index between_per_row;
  index input_per_row;  // of Forward::input
  index projected_per_row;
  index padded_hidden;  // H'
  index padded_output;  // P'
  index panels;         // shares that a unit split can hand out
  index gradient_rows;  // rows of the longest chunk of a weight gradient
};

// Those of BPTT are null where the format is for inference alone.
template <class Real>
struct CellKernels {
  Sizes (*sizes)(const Size&);
  void (*pack_forward)(const Size&, const Weights<const Real>&, Real* packed, const Worker&);
  // Reals of Forward::scratch that each thread needs.
  index (*forward_scratch)(const Size&, index batch);
  void (*pack_backward)(const Size&, const Weights<const Real>&, Real* packed, const Worker&);
  // Of rows begin … end - 1.
  void (*input_product)(const Forward<Real>&, Real* input, index begin, index end, const Worker&);
  void (*forward)(const Forward<Real>&, const Worker&);
  void (*backward)(const Backward<Real>&, const Worker&);
  index (*gradient_sums)(const Size&);
  index (*gradient_scratch)(const Size&);
  void (*weight_gradient)(const WeightGradient<Real>&, const Worker&);
};

// Row-major matrices: c [rows][columns] = a [rows][depth] · b + bias.
template <class Real>
struct DenseRows {
  index rows, depth, columns;
  const Real* a;
  const Real* b;     // packed
  const Real* bias;  // [columns]; may be null: zero
  Real* c;
};

// c [left][right] = aᵀ · b, of a [rows][left] and b [rows][right].
template <class Real>
struct DenseColumns {
  index rows, left, right;
  const Real* a;
  const Real* b;
  Real* c;
};

// y [rows][columns] = the softmax of each row of x, scaled; y may be x.
template <class Real>
struct Softmax {
  index rows, columns;
  const Real* x;
  const Real* scales;  // [rows]
  Real* y;
  Real* norms;  // [rows][2]: the largest of a row, and the sum of the exponentials of what x lacks
};

template <class Real>
struct DenseKernels {
  index (*packed)(index depth, index columns);
  // From w [depth][columns], and from its transpose.
  void (*pack)(const Real* w, index depth, index columns, Real* packed, const Worker&);
  void (*pack_transposed)(const Real* w, index depth, index columns, Real* packed, const Worker&);
  void (*rows)(const DenseRows<Real>&, index begin, index end);
  // Blocks of c that are computed apart from each other, each with scratch of its own.
  index (*column_blocks)(const DenseColumns<Real>&);
  index (*column_scratch)();
  void (*columns)(const DenseColumns<Real>&, index block, Real* scratch);
  void (*softmax)(const Softmax<Real>&, index begin, index end);  // rows
};

template <class Real>
struct KernelTable {
  CellKernels<Real> cell[cell_count];
  DenseKernels<Real> dense;  // null where the format is not native
  // y[i] = keep(seed + i) ? scale · x[i] : 0, splitmix64 deciding; x may be y.
  void (*dropout)(const Real* x, Real* y, index n, uint64_t seed, double probability);
  void (*add)(const Real* x, Real* y, index n);  // y += x, with numbers flushed as in the loops
  void (*tanh)(const Real* x, Real* y, index n);
  void (*sigmoid)(const Real* x, Real* y, index n);
  // Floating-point operations done by `rounds` rounds of independent multiply-adds.
  double (*fma_probe)(index rounds);
  // The sum of n elements, each read once, in order.
  Real (*read_probe)(const Real* x, index n);
};

}  // namespace rnnfast
