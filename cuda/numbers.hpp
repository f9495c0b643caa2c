// Numbers in the machine's memory that are the caller's, of a type that is known when it calls.
#pragma once

#include <type_traits>

#include "host_device.hpp"

namespace rnnfast::cuda {

// One of the pointers, or none where nothing is given.
template <class Wide, class Narrow>
struct OfEither {
  Wide* wide = nullptr;
  Narrow* narrow = nullptr;

  OfEither() = default;
  RNNFAST_HD OfEither(Wide* data) : wide(data) {}
  RNNFAST_HD OfEither(Narrow* data) : narrow(data) {}
  template <class W, class N>
  RNNFAST_HD OfEither(const OfEither<W, N>& other) : wide(other.wide), narrow(other.narrow) {}

  RNNFAST_HD explicit operator bool() const { return wide || narrow; }
  const void* data() const { return wide ? static_cast<const void*>(wide) : narrow; }
  // From the i-th on.
  RNNFAST_HD OfEither operator+(index i) const {
    OfEither moved = *this;
    if (wide) moved.wide += i;
    if (narrow) moved.narrow += i;
    return moved;
  }
  RNNFAST_HD float operator[](index i) const { return narrow ? to_float(narrow[i]) : wide[i]; }
  RNNFAST_HD void put(index i, float value) const {
    if (narrow)
      narrow[i] = to_operand<Bfloat16>(value);
    else
      wide[i] = value;
  }
  // Those of type T; null if they are of the other one.
  template <class T>
  auto as() const {
    if constexpr (std::is_same_v<const T, const Wide>)
      return wide;
    else
      return narrow;
  }
};

using Numbers = OfEither<const float, const Bfloat16>;
using Room = OfEither<float, Bfloat16>;  // to be written

}  // namespace rnnfast::cuda
