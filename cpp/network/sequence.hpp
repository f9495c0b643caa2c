// Lengths and resets: every batch becomes a list of independent segments, ordered by falling
// length, so that the rows at work in a step are always the first ones.
#pragma once

#include <vector>

#include "../contract.hpp"

namespace rnnfast {

struct Segment {
  index batch;  // sequence it belongs to
  index start;  // its first step there
  index length;
  bool first;  // of its sequence: takes the initial forward state, yields the final reverse state
  bool last;   // the other way round
  bool from_zero;  // starts (forward) from zero although first
};

class Sequences {
 public:
  // All B sequences T long: rows lie as in the user's array, nothing is gathered.
  Sequences(index steps, index batch);
  // lengths [B] and reset [T][B] (element (t, b) at reset[t·step + b·row], true unless zero) may
  // each be null.
  Sequences(index steps, index batch, const index* lengths, const uint8_t* reset, index step,
            index row);

  index steps() const { return steps_; }  // T of the user's arrays
  index batch() const { return batch_; }  // B of the user's arrays
  bool packed() const { return packed_; }
  index rows() const { return offset_.back(); }  // N
  index width() const { return static_cast<index>(segments_.size()); }
  const std::vector<Segment>& segments() const { return segments_; }
  Timeline timeline(bool reverse) const;

  // Copies `columns` elements of every row between the user's array and packed rows.
  template <class Real>
  void gather(Rows<const Real> user, index columns, Real* packed, index begin, index end) const;
  // Also zeroes what lies past the lengths.
  template <class Real>
  void scatter(const Real* packed, index columns, Rows<Real> user, index begin, index end) const;

 private:
  index steps_, batch_;
  bool packed_;
  std::vector<Segment> segments_;
  std::vector<index> offset_;  // [longest segment + 1]
  std::vector<index> ends_;    // [B] lengths, where packed
};

}  // namespace rnnfast
