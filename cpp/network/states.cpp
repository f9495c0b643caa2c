#include "states.hpp"

#include <cstring>

namespace rnnfast {
namespace {

template <class Real>
void copy_state(const Real* from, Real* to, index count) {
  if (!to) return;
  if (from)
    std::memcpy(to, from, count * sizeof(Real));
  else
    std::memset(to, 0, count * sizeof(Real));
}

}  // namespace

bool takes_initial(const Segment& segment, bool reverse) {
  return reverse ? segment.last : segment.first && !segment.from_zero;
}

bool leaves_final(const Segment& segment, bool reverse) {
  return reverse ? segment.first : segment.last;
}

template <class Real>
Buffer<Real> spread(const Sequences& sequences, Chosen chosen, bool reverse, const Real* user,
                    index columns, index padded) {
  auto rows = buffer<Real>(sequences.width(), padded);
  if (rows.size()) std::memset(rows.data(), 0, rows.size() * sizeof(Real));
  if (!user) return rows;
  for (index s = 0; s < sequences.width(); ++s) {
    const Segment& segment = sequences.segments()[s];
    if (chosen(segment, reverse))
      std::memcpy(rows.data() + s * padded, user + segment.batch * columns, columns * sizeof(Real));
  }
  return rows;
}

template <class Real>
void collect(const Sequences& sequences, Chosen chosen, bool reverse, const Real* rows,
             index columns, index padded, Real* user) {
  if (!user) return;
  for (index s = 0; s < sequences.width(); ++s) {
    const Segment& segment = sequences.segments()[s];
    if (chosen(segment, reverse))
      std::memcpy(user + segment.batch * columns, rows + s * padded, columns * sizeof(Real));
  }
}

template <class Real>
void pass_state(const Spec& spec, const Sequences& sequences, const State<const Real>& from,
                const State<Real>& to) {
  const index count = spec.layers * spec.directions * sequences.batch();
  copy_state(from.h, to.h, count * spec.output());
  if (spec.traits().has_cell_state) copy_state(from.c, to.c, count * spec.hidden);
}

template <class Real>
void clear_started(const Spec& spec, const Sequences& sequences, const State<Real>& state) {
  const auto clear = [&](Real* all, index columns) {
    if (!all) return;
    for (index track = 0; track < spec.layers * spec.directions; ++track)
      for (const Segment& s : sequences.segments())
        std::memset(part(all, track, sequences.batch(), columns) + s.batch * columns, 0,
                    columns * sizeof(Real));
  };
  clear(state.h, spec.output());
  clear(state.c, spec.hidden);
}

#define RNNFAST_INSTANTIATE(Real)                                                          \
  template Buffer<Real> spread(const Sequences&, Chosen, bool, const Real*, index, index); \
  template void collect(const Sequences&, Chosen, bool, const Real*, index, index, Real*); \
  template void pass_state(const Spec&, const Sequences&, const State<const Real>&,        \
                           const State<Real>&);                                            \
  template void clear_started(const Spec&, const Sequences&, const State<Real>&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
