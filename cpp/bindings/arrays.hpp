// From Python objects to checked views, and the text of every error about an argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "../contract.hpp"
#include "../network/sequence.hpp"
#include "../network/spec.hpp"
#include "../network/workspace.hpp"

namespace rnnfast {

namespace py = pybind11;

// C-contiguous, aligned, native byte order.
template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast |
                                 py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

std::string repr_shape(const py::array& a);
std::string type_name(py::handle object);

// Whether "float32", not "float64", is meant; ValueError for all else.
bool is_single(const std::string& dtype);

// A NumPy array as it is, or what the object's own __array__ or __dlpack__ makes; TypeError for all
// else.
py::array as_array(const char* cell, const char* name, py::handle object);

// Floating-point data as an array of the layer's type, copied only where it must be.
template <class Real>
Array<Real> as_real(const char* cell, const char* name, py::handle object);

// Where the elements of a contiguous array of that type and so many are; TypeError or ValueError
// for all else.
template <class Real>
const Real* as_contiguous(const char* cell, const char* name, py::handle object, index count);

// Throws ValueError unless the shape is as expected; `meaning` names the axes: "(L*D, B, H)".
void expect_shape(const char* cell, const char* name, const py::array& a,
                  const std::vector<index>& expected, const char* meaning);

// Throws ValueError where an array that is assigned shares memory with one that is read; both are
// contiguous.
void expect_apart(const char* cell, const char* name, const py::array& assigned,
                  const char* other_name, const py::array& read);

// The leading axes of a call.
struct Extent {
  index steps, batch;
  bool batched;
  bool batch_first;

  std::vector<index> shape(index columns) const;  // of x, y and their like; columns < 0: none
  // Rows of an array of that shape.
  template <class T>
  Rows<T> rows(T* data, index columns) const {
    if (batch_first && batched) return {data, columns, steps * columns, nullptr};
    return {data, batch * columns, columns, nullptr};
  }
};

// x: features or tokens.
template <class Real>
struct Input {
  Extent extent;
  py::array kept;  // owns what the rows point to
  Rows<const Real> x;
  Rows<const int32_t> tokens;
};

bool is_integer(const py::array& a);

// The axes of an x; ValueError unless it is what the layer takes.
Extent input_extent(const Spec& spec, const py::array& x);
// Of one time step: (B, I) or (I,), tokens (B,) or ().
Extent step_extent(const Spec& spec, const py::array& x);

template <class Real>
Input<Real> as_input(const Spec& spec, py::handle object);
template <class Real>
Input<Real> as_step_input(const Spec& spec, py::handle object);

Sequences as_sequences(const Spec& spec, const Extent& extent, py::handle lengths,
                       py::handle reset);

// h, or (h, c) for cells with a cell state; None stands for zeros.
template <class Real>
struct StateArrays {
  std::optional<Array<Real>> h, c;
  const Real* h_data() const { return h ? h->data() : nullptr; }
  const Real* c_data() const { return c ? c->data() : nullptr; }
};

template <class Real>
StateArrays<Real> as_state(const Spec& spec, const Extent& extent, const char* name,
                           py::handle object);

// What a state is given as: h, or the pair (h, c) for cells with a cell state; null where zeros
// are meant.
struct StateObjects {
  py::object h, c;
  std::string h_name, c_name;
};
StateObjects state_objects(const Spec& spec, const char* name, py::handle object);

// ValueError unless a part of a state, h or c, has the shape of the call's.
void expect_state_shape(const Spec& spec, const Extent& extent, const std::string& name,
                        const py::array& part, bool is_c);

std::vector<index> state_shape(const Spec& spec, const Extent& extent, index columns);

int as_thread_count(py::handle object);
int thread_count_or_default(py::handle object);  // None: the default

// Uninitialised; large ones come from the workspace, whose pages are already there.
template <class Real>
py::array_t<Real> new_array(const std::vector<index>& shape);

// New arrays for a state that a call assigns.
template <class Real>
struct NewState {
  py::array_t<Real> h, c;
  Real *h_data, *c_data = nullptr;

  NewState(const Spec& spec, const Extent& extent)
      : h(new_array<Real>(state_shape(spec, extent, spec.output()))) {
    h_data = h.mutable_data();
    if (!spec.traits().has_cell_state) return;
    c = new_array<Real>(state_shape(spec, extent, spec.hidden));
    c_data = c.mutable_data();
  }
  // h, or (h, c) for cells with a cell state.
  py::object object() const {
    if (c_data) return py::make_tuple(h, c);
    return h;
  }
};

}  // namespace rnnfast
