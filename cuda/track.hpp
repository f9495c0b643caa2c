// One direction of one layer in the GPU's memory, and how its sequences run.
//
// T steps, B sequences, I inputs, H units, R = H or, projected, P the width of h, G gates. Gates
// lie in PyTorch's order, time before batch; all arrays are contiguous but y and its gradient,
// which the directions share.
#pragma once

#include "../cpp/cells.hpp"
#include "numbers.hpp"

namespace rnnfast::cuda {

// What one direction does at each step. A sequence ends at its length; a segment begins at every
// step with a reset, and nothing crosses its border in either direction.
struct Sequences {
  index steps, batch;
  const int32_t* lengths;  // (B,); null: all have T
  const uint8_t* reset;    // (T, B); null: none
  bool reverse;

  // The step that is run as the s-th.
  RNNFAST_HD index at(index s) const { return reverse ? steps - 1 - s : s; }
  RNNFAST_HD bool alive(index t, index b) const { return !lengths || t < lengths[b]; }
  // Whether the state that enters step t is zero whatever came before.
  RNNFAST_HD bool fresh(index t, index b) const {
    const index begin = reverse ? t + 1 : t;
    return reset && begin < steps && reset[begin * batch + b] && alive(begin, b);
  }
};

struct Shape {
  index input, hidden, output;  // I, H, R
  Nonlinearity nonlinearity;
};

inline constexpr index none = -1;

// Pointers of a forward run. Operand is the type that products read: where it is float, h_operand
// is h itself.
template <class Operand>
struct Track {
  Sequences sequences;
  Shape shape;
  Numbers b_ih, b_hh;  // (G, H), or none

  // Kept for BPTT.
  float* gates;           // (T, B, G, H): of the input at first, then activated
  float* h;               // (T, B, R): the state that enters each step
  float* c;               // (T, B, H): the same; null without a cell state
  float* kept;            // (T, B, H): Unit::kept; null where a cell has none
  Operand* h_operand;     // (T, B, R)
  Operand* kept_operand;  // (T, B, H): what W_hn or W_hr multiplies; null without a second product

  float* u;                // (B, G, H): a step's products
  float *h_last, *c_last;  // (B, R), (B, H)
  Room y;                  // (T, B, ·): a row of R every y_stride
  index y_stride;

  // Hands unit j's h on from step t to the step `next`, or out of the sequence.
  RNNFAST_HD void leave_h(index t, index next, index b, index j, float value) const {
    const index B = sequences.batch, R = shape.output;
    const bool alive = sequences.alive(t, b);
    if (!alive) value = h[(t * B + b) * R + j];
    y.put((t * B + b) * y_stride + j, alive ? value : 0.0f);
    enter_h(next, b, j, value);
  }
  RNNFAST_HD void enter_h(index t, index b, index j, float value) const {
    const index B = sequences.batch, R = shape.output;
    if (t == none) {
      h_last[b * R + j] = value;
      return;
    }
    if (sequences.fresh(t, b)) value = 0.0f;
    const index at = (t * B + b) * R + j;
    h[at] = value;
    if constexpr (sizeof(Operand) < sizeof(float)) h_operand[at] = to_operand<Operand>(value);
  }
  RNNFAST_HD void enter_c(index t, index b, index j, float value) const {
    const index B = sequences.batch, H = shape.hidden;
    if (t == none)
      c_last[b * H + j] = value;
    else
      c[(t * B + b) * H + j] = sequences.fresh(t, b) ? 0.0f : value;
  }
};

// Pointers of BPTT beside those of the forward run.
template <class Operand>
struct GradientTrack {
  Numbers dy;  // as y; none: zeros
  index dy_stride;
  Operand* da;          // (T, B, G, H): of the gates
  Operand* du;          // the same of the state's part of them; da itself where they are equal
  Operand* dprojected;  // (T, B, P): of a projected h
  float *dh, *dc;       // (B, R), (B, H): of the state between two steps
  float* dhidden;       // (B, H): of what the second product reads

  RNNFAST_HD float of_output(index row, index j) const {
    return dy ? dy[row * dy_stride + j] : 0.0f;
  }
};

}  // namespace rnnfast::cuda
