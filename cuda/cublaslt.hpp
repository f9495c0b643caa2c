// cuBLASLt, loaded when it is first used: nothing is linked with it.
#pragma once

#include <cublasLt.h>

#include <string>
#include <vector>

namespace rnnfast::cuda {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtGetStatusString) text;
};

// Where the library may be, beside the names that the loader knows; before its first use.
void add_cublaslt_path(const std::string& path);

// Throws std::runtime_error, naming the package that has it, where there is none.
const CublasLt& cublaslt();

// Throws std::runtime_error unless the status is one of success.
void check(cublasStatus_t status, const char* doing);

}  // namespace rnnfast::cuda
