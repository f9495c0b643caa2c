#include "workspace.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace rnnfast {
namespace {

constexpr size_t header = 64;  // holds the block's size, keeps the data aligned
constexpr size_t huge_page = size_t{2} << 20;

class Pool {
 public:
  void* acquire(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const size_t size = size_for(bytes);
    void* block = take(size);
    if (!block) block = allocate(size);
    in_use_ += capacity(block);
    peak_ = std::max(peak_, in_use_);
    return static_cast<char*>(block) + header;
  }

  // Around a fork nobody else may hold the lock, or the child would wait for a thread it lacks.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  void release(void* data) noexcept {
    const std::lock_guard lock(mutex_);
    void* block = static_cast<char*>(data) - header;
    in_use_ -= capacity(block);
    idle_ += capacity(block);
    free_.push_back(block);  // allocate made room for it
    trim(limit());
  }

 private:
  static size_t& capacity(void* block) { return *static_cast<size_t*>(block); }

  static size_t size_for(size_t bytes) {
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
    return std::max<size_t>(1024, (bytes + 63) / 64 * 64);
  }

  // The tightest idle block that is not twice too large; of several the one used last. Most calls
  // find one of the right size near the end: deep networks leave thousands.
  void* take(size_t size) {
    auto best = free_.end();
    for (auto it = free_.end(); it != free_.begin();) {
      const size_t there = capacity(*--it);
      if (there < size || there > 2 * size + 4096) continue;
      if (best != free_.end() && there >= capacity(*best)) continue;
      best = it;
      if (there == size) break;
    }
    if (best == free_.end()) return nullptr;
    void* block = *best;
    free_.erase(best);
    idle_ -= capacity(block);
    return block;
  }

  void* allocate(size_t size) {
    trim(limit() > size ? limit() - size : 0);
    const bool large = size >= 2 * huge_page;
    const size_t align = large ? huge_page : 64;
    const size_t total = (size + header + align - 1) / align * align;
    free_.reserve(blocks_ + 1);
    void* block = std::aligned_alloc(align, total);
    if (!block) {
      trim(0);
      block = std::aligned_alloc(align, total);
    }
    if (!block) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (large) madvise(block, total, MADV_HUGEPAGE);
#endif
    capacity(block) = size;
    ++blocks_;
    return block;
  }

  // With less room, calls that take turns would free each other's blocks.
  size_t limit() const { return 2 * peak_; }

  // Frees the blocks idle longest until in use + idle ≤ limit.
  void trim(size_t limit) {
    while (!free_.empty() && in_use_ + idle_ > limit) {
      idle_ -= capacity(free_.front());
      std::free(free_.front());
      free_.erase(free_.begin());
      --blocks_;
    }
  }

  std::mutex mutex_;
  std::vector<void*> free_;  // idle longest first
  size_t blocks_ = 0;        // idle and in use
  size_t in_use_ = 0, idle_ = 0, peak_ = 0;
};

// Never destroyed: arrays may be freed after static objects.
Pool& pool() {
  static Pool* const p = [] {
    pthread_atfork([] { pool().lock(); }, [] { pool().unlock(); }, [] { pool().unlock(); });
    return new Pool;
  }();
  return *p;
}

}  // namespace

void* acquire_block(size_t bytes) { return pool().acquire(bytes); }
void release_block(void* block) noexcept { pool().release(block); }

}  // namespace rnnfast
