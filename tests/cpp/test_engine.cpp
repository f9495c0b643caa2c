// Whole layers, forward and backward, for every cell and instruction set: the same bits whatever
// the number of threads, the same numbers whatever the instruction set and format, and gradients
// that are those of the forward pass. Run under the sanitizers and the emulator, this is what shows
// them the kernels.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "../../cpp/network/engine.hpp"
#include "check.hpp"

namespace rnnfast {
namespace {

using test::integer;
using test::normal;

bool never() { return false; }

struct Problem {
  const char* name;
  Spec spec;
  index steps, batch;
  bool masked, tokens;
};

template <class Real>
struct Data {
  std::vector<Real> parameters, x, h, c, dy, dh, dc;
  std::vector<int32_t> tokens;
  std::vector<index> lengths;
  std::vector<uint8_t> reset;

  Data(const Problem& p, test::Random& random) {
    const Spec& s = p.spec;
    const index rows = p.steps * p.batch, tracks = s.layers * s.directions * p.batch;
    parameters = normal<Real>(random, parameter_count(s), 0.2);
    x = normal<Real>(random, p.tokens ? 0 : rows * s.input);
    h = normal<Real>(random, tracks * s.output());
    c = normal<Real>(random, tracks * s.hidden);
    dy = normal<Real>(random, rows * s.width());
    dh = normal<Real>(random, tracks * s.output());
    dc = normal<Real>(random, tracks * s.hidden);
    for (index i = 0; p.tokens && i < rows; ++i)
      tokens.push_back(static_cast<int32_t>(integer(random, 0, s.input - 1)));
    reset.resize(rows);
    for (index i = 0; i < rows; ++i) reset[i] = integer(random, 0, 4) == 0;
    for (index b = 0; b < p.batch; ++b) lengths.push_back(integer(random, 0, p.steps));
    lengths[p.batch / 2] = p.steps;
  }
};

Sequences sequences_of(const Problem& p, const index* lengths, const uint8_t* reset) {
  if (!p.masked) return {p.steps, p.batch};
  return {p.steps, p.batch, lengths, reset, p.batch, 1};
}

// All that comes out of a call, one after the other.
template <class Real>
struct Results {
  std::vector<Real> y, h, c, dx, dh, dc, dparameters;

  Results(const Problem& p, const Data<Real>& d)
      : y(d.dy.size()),
        h(d.h.size()),
        c(d.c.size()),
        dx(d.x.size()),
        dh(d.h.size()),
        dc(d.c.size()),
        dparameters(d.parameters.size()) {
    for (auto* v : all()) std::fill(v->begin(), v->end(), std::nan(""));
    if (!p.spec.traits().has_cell_state) c.clear(), dc.clear();
  }
  std::vector<std::vector<Real>*> all() { return {&y, &h, &c, &dx, &dh, &dc, &dparameters}; }
};

template <class Real>
Rows<Real> user_rows(const Problem& p, Real* data, index columns) {
  return {data, p.batch * columns, columns, nullptr};
}

template <class Real>
ForwardCall<Real> forward_call(const Problem& p, const Data<Real>& d, Results<Real>& r) {
  const bool cell = p.spec.traits().has_cell_state;
  ForwardCall<Real> call{};
  call.parameters = d.parameters.data();
  if (p.tokens)
    call.tokens = user_rows(p, d.tokens.data(), 1);
  else
    call.x = user_rows(p, d.x.data(), p.spec.input);
  call.initial = {d.h.data(), cell ? d.c.data() : nullptr};
  call.y = user_rows(p, r.y.data(), p.spec.width());
  call.final = {r.h.data(), cell ? r.c.data() : nullptr};
  return call;
}

template <class Real>
Results<Real> train(const Problem& p, const Data<Real>& d, int threads) {
  Results<Real> r(p, d);
  const bool cell = p.spec.traits().has_cell_state;
  Lease lease(threads, never);
  Tape<Real> tape(sequences_of(p, d.lengths.data(), d.reset.data()), p.spec, 77);
  forward(p.spec, forward_call(p, d, r), tape.sequences, &tape, lease);
  BackwardCall<Real> call{};
  call.parameters = d.parameters.data();
  call.dy = user_rows(p, d.dy.data(), p.spec.width());
  call.dfinal = {d.dh.data(), cell ? d.dc.data() : nullptr};
  call.dparameters = r.dparameters.data();
  if (!p.tokens) call.dx = user_rows(p, r.dx.data(), p.spec.input);
  call.dinitial = {r.dh.data(), cell ? r.dc.data() : nullptr};
  backward(p.spec, call, tape, lease);
  return r;
}

template <class Real>
Results<Real> infer(const Problem& p, const Data<Real>& d, int threads, bool packed) {
  Results<Real> r(p, d);
  Lease lease(threads, never);
  auto call = forward_call(p, d, r);
  PackedNetwork<Real> network;
  if (packed) {
    network = pack(p.spec, d.parameters.data(), lease);
    call.packed = &network;
  }
  const Sequences order = sequences_of(p, d.lengths.data(), d.reset.data());
  forward(p.spec, call, order, static_cast<Tape<Real>*>(nullptr), lease);
  return r;
}

template <class Real>
bool same_bits(const std::vector<Real>& a, const std::vector<Real>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Real)) == 0);
}

// The largest difference beside the largest element; huge where anything is not finite.
template <class A, class B>
double distance(const std::vector<A>& a, const std::vector<B>& b) {
  double most = 1e-30, apart = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return 1e30;
    most = std::max(most, std::abs(static_cast<double>(b[i])));
    apart = std::max(apart, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return apart / most;
}

void expect(bool good, const Problem& p, const char* what) {
  const char* compute[] = {" ", " bfloat16 ", " int8 "};
  if (!good)
    test::fail(__FILE__, __LINE__,
               current().name + compute[static_cast<int>(p.spec.compute)] + p.name + ": " + what);
}

// How far apart sums in different order may lead; rounded operands may become neighbours.
template <class Real>
double tolerance(const Problem& p) {
  if (p.spec.compute != Compute::native) return 2e-2;
  return sizeof(Real) == 4 ? 1e-4 : 1e-12;
}

template <class Real>
void check_threads(const Problem& p, const Data<Real>& d, Results<Real>& one) {
  for (int threads : {2, 3}) {
    Results<Real> more = train(p, d, threads);
    const auto a = one.all(), b = more.all();
    for (size_t i = 0; i < a.size(); ++i) expect(same_bits(*a[i], *b[i]), p, "threads");
  }
}

template <class Real>
void check_recomputing(Problem p, const Data<Real>& d, Results<Real>& one) {
  p.spec.recompute = 1;
  for (int threads : {1, 2}) {
    Results<Real> again = train(p, d, threads);
    const auto a = one.all(), b = again.all();
    for (size_t i = 0; i < a.size(); ++i) expect(same_bits(*a[i], *b[i]), p, "recomputing");
  }
}

template <class Real>
void check_inference(const Problem& p, const Data<Real>& d, const Results<Real>& trained) {
  for (bool packed : {false, true}) {
    const Results<Real> r = infer(p, d, 2, packed);
    expect(same_bits(r.y, trained.y) && same_bits(r.h, trained.h) && same_bits(r.c, trained.c), p,
           packed ? "packed inference" : "inference");
  }
}

// Beside float64 with the same numbers; the limits are three to four times what rounding loses.
void check_precision(const Problem& p, uint64_t seed, Results<float>& one) {
  constexpr double near[] = {1e-5, 1e-1, 3e-1};                   // native, bfloat16, int8
  const size_t arrays = p.spec.compute == Compute::int8 ? 3 : 7;  // int8 has no gradients
  Problem precise = p;
  precise.spec.compute = Compute::native;
  test::Random random(seed);
  Results<double> exact = train(precise, Data<double>(precise, random), 1);
  const auto a = one.all();
  const auto b = exact.all();
  for (size_t i = 0; i < arrays; ++i)
    expect(distance(*a[i], *b[i]) < near[static_cast<int>(p.spec.compute)], p, "precision");
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// What the gradients are of, so far along the direction v: the outputs' product with theirs.
double objective(const Problem& p, Data<double> d, const Data<double>& v, double far) {
  for (auto part :
       {&Data<double>::parameters, &Data<double>::x, &Data<double>::h, &Data<double>::c})
    for (size_t i = 0; i < (d.*part).size(); ++i) (d.*part)[i] += far * (v.*part)[i];
  const Results<double> r = train(p, d, 1);
  return dot(r.y, d.dy) + dot(r.h, d.dh) + dot(r.c, d.dc);
}

// The slope along a random direction, beside a central difference.
void check_gradients(const Problem& p, const Data<double>& d, const Results<double>& r) {
  test::Random random(500);
  const Data<double> v(p, random);
  const double far = 1e-5;
  const double slope =
      dot(r.dparameters, v.parameters) + dot(r.dx, v.x) + dot(r.dh, v.h) + dot(r.dc, v.c);
  const double difference = (objective(p, d, v, far) - objective(p, d, v, -far)) / (2 * far);
  expect(std::abs(slope - difference) < 1e-6 * std::abs(slope), p, "gradients");
}

template <class Real>
void check_problem(const Problem& p, uint64_t seed) {
  test::Random random(seed);
  const Data<Real> d(p, random);
  std::unique_ptr<Results<Real>> first;
  for (const InstructionSet& set : instruction_sets()) {
    use(set.name);
    auto one = std::make_unique<Results<Real>>(train(p, d, 1));
    check_threads(p, d, *one);
    check_recomputing(p, d, *one);
    if constexpr (sizeof(Real) == 8)
      check_gradients(p, d, *one);
    else
      check_precision(p, seed, *one);
    if (p.spec.dropout == 0) check_inference(p, d, *one);
    if (!first) {
      first = std::move(one);
      for (auto* v : first->all()) expect(distance(*v, *v) < 1, p, "finite");
      continue;
    }
    const auto a = one->all(), b = first->all();
    for (size_t i = 0; i < a.size(); ++i)
      expect(distance(*a[i], *b[i]) < tolerance<Real>(p), p, "instruction sets");
  }
  use("");
}

// Inference alone.
void check_bytes(Problem p, uint64_t seed) {
  p.spec.compute = Compute::int8;
  test::Random random(seed);
  const Data<float> d(p, random);
  std::unique_ptr<Results<float>> first;
  for (const InstructionSet& set : instruction_sets()) {
    use(set.name);
    auto one = std::make_unique<Results<float>>(infer(p, d, 1, false));
    check_precision(p, seed, *one);
    for (int threads : {1, 2, 3})
      expect(same_bits(infer(p, d, threads, true).y, one->y), p, "threads and packing");
    if (!first)
      first = std::move(one);
    else
      expect(distance(one->y, first->y) < tolerance<float>(p), p, "instruction sets");
  }
  use("");
}

Spec spec_of(Cell cell, index input, index hidden, index layers, int directions, double dropout) {
  const bool projects = traits(cell).projects;
  if (projects) hidden = std::max<index>(hidden, 2);  // a projection narrows
  const index projection = projects ? hidden * 2 / 3 : 0;
  return {
      .cell = cell,
      .input = input,
      .hidden = hidden,
      .layers = layers,
      .bias = true,
      .batch_first = false,
      .dropout = dropout,
      .directions = directions,
      .projection = projection,
      .nonlinearity = Nonlinearity::tanh,
      .compute = Compute::native,
  };
}

void check_cells(const char* name, index input, index hidden, index layers, int directions,
                 double dropout, index steps, index batch, bool masked, bool tokens) {
  for (int cell = 0; cell < cell_count; ++cell) {
    const Spec spec = spec_of(static_cast<Cell>(cell), input, hidden, layers, directions, dropout);
    Problem p{name, spec, steps, batch, masked, tokens};
    check_problem<float>(p, 100 + cell);
    check_problem<double>(p, 200 + cell);
    p.spec.compute = Compute::bfloat16;
    check_problem<float>(p, 300 + cell);
    if (dropout == 0) check_bytes(p, 400 + cell);
  }
}

TEST(engine_small_and_ragged) {
  check_cells("small", 5, 17, 2, 2, 0, 6, 7, true, false);
  check_cells("smallest", 1, 1, 1, 1, 0, 1, 1, false, false);
}

TEST(engine_tokens_and_dropout) {
  check_cells("tokens", 9, 20, 2, 2, 0.3, 5, 6, true, true);
  check_cells("features", 9, 20, 3, 1, 0.3, 5, 6, false, false);
}

TEST(engine_splits_the_batch) { check_cells("batch", 33, 31, 1, 1, 0, 5, 70, false, false); }

TEST(engine_splits_the_units) { check_cells("units", 70, 130, 1, 2, 0, 4, 3, false, false); }

TEST(engine_single_sequence) { check_cells("single", 40, 65, 1, 2, 0, 70, 1, false, false); }

TEST(engine_several_windows) { check_cells("windows", 6, 10, 2, 2, 0, 9, 200, true, false); }

template <class Real>
void check_steps(const Problem& p) {
  test::Random random(300);
  const Data<Real> d(p, random);
  for (const InstructionSet& set : instruction_sets()) {
    use(set.name);
    const Results<Real> whole = infer(p, d, 1, false);
    for (int threads : {1, 2}) {
      Results<Real> r(p, d);
      Lease lease(threads, never);
      step(p.spec, forward_call(p, d, r), Sequences(1, p.batch), lease);
      const double near = sizeof(Real) == 4 ? 1e-5 : 1e-13;
      expect(distance(r.y, whole.y) < near && distance(r.h, whole.h) < near, p, "step");
    }
  }
  use("");
}

TEST(engine_steps) {
  for (int cell = 0; cell < cell_count; ++cell)
    for (bool tokens : {false, true}) {
      const Problem p{"step", spec_of(static_cast<Cell>(cell), 35, 33, 2, 1, 0), 1, 5, false,
                      tokens};
      check_steps<float>(p);
      check_steps<double>(p);
    }
}

bool subnormals_survive() {
  volatile float tiny = 1e-39f;
  return tiny * 0.5f > 0;
}

bool asked_among_subnormals;

// A call that is stopped midway leaves the library as it was, and whoever is asked whether to stop
// calculates as usual.
TEST(engine_stops) {
  const Problem p{"stop", spec_of(Cell::lstm, 16, 64, 2, 1, 0), 20000, 4, false, false};
  test::Random random(400);
  const Data<float> d(p, random);
  for (int threads : {1, 2}) {
    Results<float> r(p, d);
    asked_among_subnormals = false;
    Lease lease(threads, [] { return asked_among_subnormals = subnormals_survive(); });
    const Sequences order(p.steps, p.batch);
    CHECK_THROWS(
        forward(p.spec, forward_call(p, d, r), order, static_cast<Tape<float>*>(nullptr), lease),
        Interrupted);
    CHECK(asked_among_subnormals && subnormals_survive());
  }
  check_cells("after a stop", 5, 17, 1, 1, 0, 4, 3, false, false);
}

}  // namespace
}  // namespace rnnfast
