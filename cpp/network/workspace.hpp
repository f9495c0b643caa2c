// Large buffers that outlive calls: fresh memory costs page faults, so freed blocks are kept for
// the next call, as long as the process holds no more than twice what it ever used at once.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace rnnfast {

void* acquire_block(size_t bytes);  // 64-byte aligned, uninitialised; throws std::bad_alloc
void release_block(void* block) noexcept;

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(ptrdiff_t count) : count_(count) {
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow(static_cast<size_t>(count), sizeof(T), &bytes))
      throw std::bad_alloc();
    if (count) data_ = static_cast<T*>(acquire_block(bytes));
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_) release_block(data_);
  }

  T* data() const { return data_; }
  ptrdiff_t size() const { return count_; }
  ptrdiff_t bytes() const { return count_ * static_cast<ptrdiff_t>(sizeof(T)); }
  T* release() { return std::exchange(data_, nullptr); }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }

  T* data_ = nullptr;
  ptrdiff_t count_ = 0;
};

// a·b elements; throws std::bad_alloc where the product overflows.
template <class T>
Buffer<T> buffer(ptrdiff_t a, ptrdiff_t b) {
  ptrdiff_t count;
  if (__builtin_mul_overflow(a, b, &count)) throw std::bad_alloc();
  return Buffer<T>(count);
}

}  // namespace rnnfast
