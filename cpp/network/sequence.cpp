#include "sequence.hpp"

#include <algorithm>
#include <cstring>

namespace rnnfast {

Sequences::Sequences(index steps, index batch)
    : steps_(steps), batch_(batch), packed_(false), offset_(steps + 1) {
  for (index b = 0; b < batch; ++b) segments_.push_back({b, 0, steps, true, true, false});
  for (index t = 0; t <= steps; ++t) offset_[t] = t * batch;
}

Sequences::Sequences(index steps, index batch, const index* lengths, const uint8_t* reset,
                     index step, index row)
    : steps_(steps), batch_(batch), packed_(true) {
  for (index b = 0; b < batch; ++b) {
    const index length = lengths ? lengths[b] : steps;
    ends_.push_back(length);
    const auto cut = [&](index t) { return reset && reset[t * step + b * row]; };
    for (index start = 0, t = 1; start < length; ++t) {
      if (t < length && !cut(t)) continue;
      segments_.push_back({b, start, t - start, start == 0, t == length, start == 0 && cut(0)});
      start = t;
    }
  }
  std::stable_sort(segments_.begin(), segments_.end(),
                   [](const Segment& a, const Segment& b) { return a.length > b.length; });
  const index longest = segments_.empty() ? 0 : segments_[0].length;
  offset_.assign(longest + 1, 0);
  index active = width();
  for (index t = 0; t < longest; ++t) {
    while (segments_[active - 1].length <= t) --active;
    offset_[t + 1] = offset_[t] + active;
  }
}

Timeline Sequences::timeline(bool reverse) const {
  return {static_cast<index>(offset_.size()) - 1, offset_.data(), reverse};
}

template <class Real>
void Sequences::gather(Rows<const Real> user, index columns, Real* packed, index begin,
                       index end) const {
  for (index t = begin; t < end; ++t)
    for (index s = 0; s < offset_[t + 1] - offset_[t]; ++s)
      std::memcpy(packed + (offset_[t] + s) * columns,
                  user.at(segments_[s].start + t, segments_[s].batch), columns * sizeof(Real));
}

template <class Real>
void Sequences::scatter(const Real* packed, index columns, Rows<Real> user, index begin,
                        index end) const {
  for (index s = begin; s < end; ++s) {
    const Segment& g = segments_[s];
    for (index t = 0; t < g.length; ++t)
      std::memcpy(user.at(g.start + t, g.batch), packed + (offset_[t] + s) * columns,
                  columns * sizeof(Real));
  }
  const index from = width() ? batch_ * begin / width() : 0,
              to = width() ? batch_ * end / width() : batch_;
  for (index b = from; b < to; ++b)
    for (index t = ends_[b]; t < steps_; ++t) std::memset(user.at(t, b), 0, columns * sizeof(Real));
}

template void Sequences::gather(Rows<const float>, index, float*, index, index) const;
template void Sequences::gather(Rows<const double>, index, double*, index, index) const;
template void Sequences::gather(Rows<const int32_t>, index, int32_t*, index, index) const;
template void Sequences::scatter(const float*, index, Rows<float>, index, index) const;
template void Sequences::scatter(const double*, index, Rows<double>, index, index) const;

}  // namespace rnnfast
