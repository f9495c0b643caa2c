// cuBLASLt, loaded when it is first used: nothing is linked with it.
#pragma once

#include <cublasLt.h>

#include <string>
#include <utility>

namespace rnnfast::cuda {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtGetStatusString) text;
};

// A folder where the library may be, beside the places that the loader knows; before its first use.
void add_cublaslt_folder(const std::string& folder);

// Throws std::runtime_error, naming the package that has it, where there is none.
const CublasLt& cublaslt();

// Throws std::bad_alloc or std::runtime_error unless the status is one of success.
void check(cublasStatus_t status, const char* doing);

// What one of its functions has made, until another one destroys it.
template <class T>
class Owned {
 public:
  template <class Create, class... Arguments>
  Owned(cublasStatus_t (*destroy)(T), const char* doing, Create create, Arguments... arguments)
      : destroy_(destroy) {
    check(create(&made_, arguments...), doing);
  }
  Owned(Owned&& other) noexcept
      : made_(std::exchange(other.made_, nullptr)), destroy_(other.destroy_) {}
  ~Owned() {
    if (made_) destroy_(made_);
  }
  T get() const { return made_; }

 private:
  T made_ = nullptr;
  cublasStatus_t (*destroy_)(T);
};

}  // namespace rnnfast::cuda
