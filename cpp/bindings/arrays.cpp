#include "arrays.hpp"

#include <limits>

#include "../threads/team.hpp"

namespace rnnfast {
namespace {

std::string prefix(const char* cell, const char* name) { return std::string(cell) + ": " + name; }

[[noreturn]] void bad_value(const std::string& text) { throw py::value_error(text); }

std::string join(const std::vector<index>& shape) {
  std::string text("(");
  for (size_t i = 0; i < shape.size(); ++i)
    text.append(i ? ", " : "").append(std::to_string(shape[i]));
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::string dtype_name(const py::array& a) { return py::str(a.dtype()).cast<std::string>(); }

void expect_axes(const char* cell, const py::array& x, std::initializer_list<py::ssize_t> allowed,
                 const char* meaning) {
  for (py::ssize_t n : allowed)
    if (x.ndim() == n) return;
  bad_value(prefix(cell, "x") + " has shape " + repr_shape(x) + ", expected " + meaning);
}

// An element that was converted to int64, as the user wrote it.
std::string integer_text(const py::array& a, int64_t value) {
  return a.dtype().kind() == 'u' ? std::to_string(static_cast<uint64_t>(value))
                                 : std::to_string(value);
}

// "[1, 4]" for the element that lies at number i in C order; nothing for a scalar.
std::string position(const py::array& a, py::ssize_t i) {
  if (a.ndim() == 0) return "";
  std::string text;
  for (py::ssize_t axis = a.ndim() - 1; axis >= 0; --axis) {
    text.insert(0, std::to_string(i % a.shape(axis)) + (text.empty() ? "" : ", "));
    i /= a.shape(axis);
  }
  return "[" + text + "]";
}

[[noreturn]] void bad_token(const Spec& spec, const std::string& where, const std::string& token) {
  bad_value(prefix(spec.traits().name, "x") + where + " is token " + token +
            ", expected 0 <= token < input_size=" + std::to_string(spec.input));
}

// Tokens as int32, each checked.
py::array checked_tokens(const Spec& spec, const py::array& x) {
  const Array<int64_t> wide(x);
  py::array_t<int32_t> narrow(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  const int64_t* from = wide.data();
  int32_t* to = narrow.mutable_data();
  for (py::ssize_t i = 0; i < wide.size(); ++i) {
    const int64_t token = from[i];
    if (token < 0 || token >= spec.input) bad_token(spec, position(x, i), integer_text(x, token));
    to[i] = static_cast<int32_t>(token);
  }
  return narrow;
}

void expect_input_type(const Spec& spec, const py::array& x) {
  if (is_integer(x) || x.dtype().kind() == 'f') return;
  bad_value(prefix(spec.traits().name, "x") + " has dtype " + dtype_name(x) +
            ", expected floating point, or integers for tokens");
}

// A single token as an array without axes.
py::array as_scalar_token(const Spec& spec, py::handle object) {
  const py::int_ number = py::reinterpret_steal<py::int_>(PyNumber_Index(object.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long long token = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow) bad_token(spec, "", py::str(number).cast<std::string>());
  return py::array(py::int_(token));
}

// Whether another library's object says how to make an array of it. Its class does not.
bool makes_array(py::handle object, const char* method) {
  return !PyType_Check(object.ptr()) && py::hasattr(object, method);
}

bool is_foreign(py::handle object) {
  return makes_array(object, "__array__") || makes_array(object, "__dlpack__");
}

// What such an object makes; why it cannot (another device, a type NumPy has not) is told with the
// argument's name.
py::array as_array_of_numpy(const char* cell, const char* name, py::handle object) {
  try {
    if (makes_array(object, "__array__"))
      return py::array(py::reinterpret_borrow<py::object>(object));
    return py::module_::import("numpy").attr("from_dlpack")(object);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
    const auto why = py::str(error.value()).cast<std::string>();
    const auto text =
        prefix(cell, name) + " is a " + type_name(object) + " that makes no NumPy array: " + why;
    py::raise_from(error, PyExc_TypeError, text.c_str());
    throw py::error_already_set();
  }
}

// Whatever NumPy makes of a sequence of integers.
py::array as_sequence(const char* cell, const char* name, py::handle object) {
  try {
    return py::module_::import("numpy").attr("asarray")(object);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    bad_value(prefix(cell, name) + " is no array, expected integers of shape (B,)");
  }
}

py::array as_lengths(const char* cell, py::handle object) {
  const bool foreign = !py::isinstance<py::array>(object) && is_foreign(object);
  const py::array a =
      foreign ? as_array_of_numpy(cell, "lengths", object) : as_sequence(cell, "lengths", object);
  if (a.size() != 0 && !is_integer(a))
    bad_value(prefix(cell, "lengths") + " has dtype " + dtype_name(a) + ", expected integers");
  return a;
}

void expect_features(const Spec& spec, const py::array& x) {
  const index features = x.shape(x.ndim() - 1);
  if (features != spec.input)
    bad_value(prefix(spec.traits().name, "x") + " has " + std::to_string(features) +
              " features in its last axis, expected input_size=" + std::to_string(spec.input));
}

template <class Real>
Input<Real> make_input(const Spec& spec, const Extent& extent, const py::array& x, bool tokens) {
  Input<Real> in{extent, {}, {}, {}};
  if (tokens) {
    in.kept = checked_tokens(spec, x);
    in.tokens = extent.rows(static_cast<const int32_t*>(in.kept.data()), 1);
  } else {
    in.kept = as_real<Real>(spec.traits().name, "x", x);
    in.x = extent.rows(static_cast<const Real*>(in.kept.data()), spec.input);
  }
  return in;
}

}  // namespace

bool is_integer(const py::array& a) {
  const char kind = a.dtype().kind();
  return kind == 'i' || kind == 'u';
}

std::string repr_shape(const py::array& a) {
  return join(std::vector<index>(a.shape(), a.shape() + a.ndim()));
}

std::string type_name(py::handle object) {
  return py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>();
}

bool is_single(const std::string& dtype) {
  if (dtype != "float32" && dtype != "float64")
    bad_value("dtype is '" + dtype + "', expected 'float32' or 'float64'");
  return dtype == "float32";
}

py::array as_array(const char* cell, const char* name, py::handle object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  if (is_foreign(object)) return as_array_of_numpy(cell, name, object);
  throw py::type_error(prefix(cell, name) + " is a " + type_name(object) +
                       ", expected a NumPy array");
}

template <class Real>
Array<Real> as_real(const char* cell, const char* name, py::handle object) {
  const py::array a = as_array(cell, name, object);
  if (a.dtype().kind() != 'f')
    bad_value(prefix(cell, name) + " has dtype " + dtype_name(a) + ", expected floating point");
  return Array<Real>(a);
}

template <class Real>
const Real* as_contiguous(const char* cell, const char* name, py::handle object, index count) {
  if (!py::isinstance<py::array>(object)) throw py::type_error(prefix(cell, name) + " is no array");
  const auto a = py::reinterpret_borrow<py::array>(object);
  if (!py::isinstance<py::array_t<Real, py::array::c_style>>(a) || a.size() != count)
    bad_value(prefix(cell, name) + " has shape " + repr_shape(a) + " and dtype " + dtype_name(a) +
              ", expected " + std::to_string(count) + " contiguous elements of " +
              py::str(py::dtype::of<Real>()).cast<std::string>());
  return static_cast<const Real*>(a.data());
}

void expect_shape(const char* cell, const char* name, const py::array& a,
                  const std::vector<index>& expected, const char* meaning) {
  if (std::vector<index>(a.shape(), a.shape() + a.ndim()) == expected) return;
  bad_value(prefix(cell, name) + " has shape " + repr_shape(a) + ", expected " + meaning + " = " +
            join(expected));
}

void expect_apart(const char* cell, const char* name, const py::array& assigned,
                  const char* other_name, const py::array& read) {
  const auto begin = [](const py::array& a) { return reinterpret_cast<uintptr_t>(a.data()); };
  const auto end = [&](const py::array& a) { return begin(a) + a.nbytes(); };
  if (begin(assigned) < end(read) && begin(read) < end(assigned))
    bad_value(prefix(cell, name) + " shares memory with " + other_name +
              ", expected another buffer");
}

std::vector<index> Extent::shape(index columns) const {
  std::vector<index> s;
  if (!batched)
    s = {steps};
  else if (batch_first)
    s = {batch, steps};
  else
    s = {steps, batch};
  if (columns >= 0) s.push_back(columns);
  return s;
}

Extent input_extent(const Spec& spec, const py::array& x) {
  const char* cell = spec.traits().name;
  const bool tokens = is_integer(x), first = spec.batch_first;
  expect_input_type(spec, x);
  if (tokens)
    expect_axes(cell, x, {1, 2}, first ? "tokens (B, T) or (T,)" : "tokens (T, B) or (T,)");
  else
    expect_axes(cell, x, {2, 3}, first ? "(B, T, I) or (T, I)" : "(T, B, I) or (T, I)");
  if (!tokens) expect_features(spec, x);
  const bool batched = x.ndim() == (tokens ? 2 : 3);
  Extent extent{x.shape(0), 1, batched, first};
  if (batched) {
    extent.steps = x.shape(first ? 1 : 0);
    extent.batch = x.shape(first ? 0 : 1);
  }
  if (extent.steps == 0)
    bad_value(prefix(cell, "x") + " has shape " + repr_shape(x) +
              ", expected at least one time step");
  return extent;
}

template <class Real>
Input<Real> as_input(const Spec& spec, py::handle object) {
  const py::array x = as_array(spec.traits().name, "x", object);
  return make_input<Real>(spec, input_extent(spec, x), x, is_integer(x));
}

Extent step_extent(const Spec& spec, const py::array& x) {
  const char* cell = spec.traits().name;
  const bool tokens = is_integer(x);
  expect_input_type(spec, x);
  if (tokens)
    expect_axes(cell, x, {0, 1}, "tokens (B,) or ()");
  else
    expect_axes(cell, x, {1, 2}, "one time step (B, I) or (I,)");
  if (!tokens) expect_features(spec, x);
  const bool batched = x.ndim() == (tokens ? 1 : 2);
  return {1, batched ? x.shape(0) : 1, batched, false};
}

template <class Real>
Input<Real> as_step_input(const Spec& spec, py::handle object) {
  const char* cell = spec.traits().name;
  const bool number = PyIndex_Check(object.ptr()) && !py::isinstance<py::bool_>(object) &&
                      !py::hasattr(object, "__array__");
  const py::array x = number ? as_scalar_token(spec, object) : as_array(cell, "x", object);
  return make_input<Real>(spec, step_extent(spec, x), x, is_integer(x));
}

Sequences as_sequences(const Spec& spec, const Extent& extent, py::handle lengths,
                       py::handle reset) {
  const char* cell = spec.traits().name;
  std::vector<index> length(extent.batch, extent.steps);
  bool full = extent.batch > 0;  // a batch without sequences has no steps either
  if (!lengths.is_none()) {
    const py::array given = as_lengths(cell, lengths);
    if (extent.batched || given.ndim() != 0)
      expect_shape(cell, "lengths", given, {extent.batch}, "(B,)");
    const Array<int64_t> wide(given);
    for (index b = 0; b < extent.batch; ++b) {
      length[b] = wide.data()[b];
      full = full && length[b] == extent.steps;
      if (length[b] < 0 || length[b] > extent.steps)
        bad_value(prefix(cell, "lengths[") + std::to_string(b) + "] is " +
                  integer_text(given, length[b]) +
                  ", expected 0 <= length <= T=" + std::to_string(extent.steps));
    }
  }
  if (reset.is_none()) {
    if (full) return {extent.steps, extent.batch};
    return {extent.steps, extent.batch, length.data(), nullptr, 0, 0};
  }
  const py::array given = as_array(cell, "reset", reset);
  if (given.dtype().kind() != 'b')
    bad_value(prefix(cell, "reset") + " has dtype " + dtype_name(given) + ", expected bool");
  expect_shape(cell, "reset", given, extent.shape(-1), extent.batch_first ? "(B, T)" : "(T, B)");
  const Array<bool> flags(given);
  // As bytes: a view of other data holds more than the 0 and 1 of a bool.
  const auto rows = extent.rows(static_cast<const uint8_t*>(flags.request().ptr), 1);
  return {extent.steps, extent.batch, length.data(), rows.base, rows.step, rows.row};
}

std::vector<index> state_shape(const Spec& spec, const Extent& extent, index columns) {
  if (!extent.batched) return {spec.layers * spec.directions, columns};
  return {spec.layers * spec.directions, extent.batch, columns};
}

StateObjects state_objects(const Spec& spec, const char* name, py::handle object) {
  if (object.is_none()) return {};
  if (!spec.traits().has_cell_state)
    return {py::reinterpret_borrow<py::object>(object), {}, name, {}};
  const char* cell = spec.traits().name;
  if (!(py::isinstance<py::tuple>(object) || py::isinstance<py::list>(object)))
    throw py::type_error(prefix(cell, name) + " is a " + type_name(object) +
                         ", expected a pair (h, c)");
  const auto pair = py::reinterpret_borrow<py::sequence>(object);
  if (pair.size() != 2)
    bad_value(prefix(cell, name) + " has " + std::to_string(pair.size()) +
              " parts, expected the pair (h, c)");
  const auto part = [](const py::object& given) { return given.is_none() ? py::object() : given; };
  return {part(pair[0]), part(pair[1]), std::string(name) + "[0]", std::string(name) + "[1]"};
}

void expect_state_shape(const Spec& spec, const Extent& extent, const std::string& name,
                        const py::array& part, bool is_c) {
  const char* letter = is_c || !spec.projection ? "H" : "P";
  const std::string meaning = extent.batched ? std::string("(L*D, B, ") + letter + ")"
                                             : std::string("(L*D, ") + letter + ")";
  expect_shape(spec.traits().name, name.c_str(), part,
               state_shape(spec, extent, is_c ? spec.hidden : spec.output()), meaning.c_str());
}

template <class Real>
StateArrays<Real> as_state(const Spec& spec, const Extent& extent, const char* name,
                           py::handle object) {
  const StateObjects given = state_objects(spec, name, object);
  const auto part = [&](const std::string& label, const py::object& value, bool is_c) {
    const py::array a = as_array(spec.traits().name, label.c_str(), value);
    expect_state_shape(spec, extent, label, a, is_c);
    return as_real<Real>(spec.traits().name, label.c_str(), a);
  };
  StateArrays<Real> state;
  if (given.h) state.h = part(given.h_name, given.h, false);
  if (given.c) state.c = part(given.c_name, given.c, true);
  return state;
}

int as_thread_count(py::handle object) {
  const bool scalar = PyIndex_Check(object.ptr()) && !py::isinstance<py::bool_>(object) &&
                      !py::isinstance<py::array>(object);
  if (!scalar)
    throw py::type_error("num_threads is a " + type_name(object) + ", expected an integer");
  const py::int_ number = py::reinterpret_steal<py::int_>(PyNumber_Index(object.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long long n = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow || n < 1 || n > max_threads)
    bad_value("num_threads is " + py::str(number).cast<std::string>() + ", expected 1 to " +
              std::to_string(max_threads));
  return static_cast<int>(n);
}

int thread_count_or_default(py::handle object) {
  return object.is_none() ? default_threads() : as_thread_count(object);
}

template <class Real>
py::array_t<Real> new_array(const std::vector<index>& shape) {
  index count = 1;
  for (index n : shape)
    if (__builtin_mul_overflow(count, n, &count)) throw std::bad_alloc();
  constexpr index large = index{16} * 1024;
  if (count < large) return py::array_t<Real>(shape);
  Buffer<Real> memory(count);
  const py::capsule owner(memory.data(), [](void* block) { release_block(block); });
  return py::array_t<Real>(shape, memory.release(), owner);
}

#define RNNFAST_INSTANTIATE(Real)                                                                 \
  template Array<Real> as_real<Real>(const char*, const char*, py::handle);                       \
  template Input<Real> as_input<Real>(const Spec&, py::handle);                                   \
  template Input<Real> as_step_input<Real>(const Spec&, py::handle);                              \
  template StateArrays<Real> as_state<Real>(const Spec&, const Extent&, const char*, py::handle); \
  template const Real* as_contiguous<Real>(const char*, const char*, py::handle, index);          \
  template py::array_t<Real> new_array<Real>(const std::vector<index>&);
RNNFAST_INSTANTIATE(float)
RNNFAST_INSTANTIATE(double)

}  // namespace rnnfast
