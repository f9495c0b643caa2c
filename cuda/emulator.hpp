// A Machine that runs the kernels' thread code on the CPU, so that everything but the launches can
// be checked where there is no GPU. Threads run one after the other, blocks in a shuffled order:
// what depends on another thread of the same kernel shows. Fresh memory is filled with NaNs.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "machine.hpp"

namespace rnnfast::cuda {

class Emulator {
 public:
  static constexpr index block = 128;

  struct Turn {};

  explicit Emulator(bool) {}  // products are float32's, whatever their mode

  template <class T>
  class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(index count) : data_(count ? new T[count] : nullptr) {
      std::memset(static_cast<void*>(data_.get()), 0xff, count * sizeof(T));
    }
    T* data() const { return data_.get(); }

   private:
    std::unique_ptr<T[]> data_;
  };

  template <class T>
  Buffer<T> make(index count) {
    return Buffer<T>(count);
  }

  template <class Kernel>
  void run(const Kernel& kernel) {
    const index threads = kernel.threads();
    std::vector<index> blocks((threads + block - 1) / block);
    std::iota(blocks.begin(), blocks.end(), index{0});
    std::shuffle(blocks.begin(), blocks.end(), random_);
    for (const index b : blocks)
      for (index i = b * block; i < std::min((b + 1) * block, threads); ++i) kernel(i);
  }

  template <class Operand>
  void multiply(const Product<Operand>& p) {
    require(p.a), require(p.b), require(p.c);
    const auto at = [](const auto& m, index row, index column) {
      return to_float(m.transposed ? m.data[column * m.stride + row]
                                   : m.data[row * m.stride + column]);
    };
    for (index r = 0; r < p.c.rows; ++r)
      for (index c = 0; c < p.c.columns; ++c) {
        float& to = p.c.data[r * p.c.stride + c];
        double sum = p.accumulate ? to : 0.0f;
        for (index n = 0; n < p.a.width(); ++n) sum += double{at(p.a, r, n)} * at(p.b, n, c);
        to = static_cast<float>(sum);
      }
  }

  void sort(const int32_t* tokens, index count, int32_t* sorted, int32_t* row) {
    std::iota(row, row + count, 0);
    std::stable_sort(row, row + count, [&](int32_t a, int32_t b) { return tokens[a] < tokens[b]; });
    std::transform(row, row + count, sorted, [&](int32_t r) { return tokens[r]; });
  }

  void zero(void* data, index bytes) { std::memset(data, 0, bytes); }
  void upload(void* to, const void* from, index bytes) { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, index bytes) { std::memcpy(to, from, bytes); }

  void wait() {}
  void settle() noexcept {}

  template <class Body>
  void repeat(index count, Body body) {
    for (index n = 0; n < count; ++n) body(n);
  }

 private:
  // What cuBLASLt refuses.
  template <class T>
  static void require(const Matrix<T>& m) {
    if (m.rows < 1 || m.columns < 1 || m.stride < m.columns)
      throw std::logic_error("a matrix that cuBLASLt would not take");
  }

  std::mt19937 random_{std::random_device{}()};
};

}  // namespace rnnfast::cuda
