#include "cublaslt.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace rnnfast::cuda {
namespace {

#define RNNFAST_QUOTE(x) #x
#define RNNFAST_TEXT(x) RNNFAST_QUOTE(x)
#define RNNFAST_SONAME(major) "libcublasLt.so." RNNFAST_TEXT(major)

std::vector<std::string>& paths() {
  static std::vector<std::string> all{RNNFAST_SONAME(CUBLAS_VER_MAJOR)};
  return all;
}

void* open() {
  std::string why;
  for (const auto& path : paths()) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    why += std::string("\n  ") + dlerror();
  }
  throw std::runtime_error(
      "cuda: cannot load cuBLASLt, which the package nvidia-cublas of CUDA " RNNFAST_TEXT(
          CUBLAS_VER_MAJOR) " brings:" +
      why);
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function) throw std::runtime_error(std::string("cuda: cuBLASLt lacks ") + name);
}

CublasLt load() {
  void* library = open();
  CublasLt table{};
  find(library, "cublasLtCreate", table.create);
  find(library, "cublasLtMatmul", table.matmul);
  find(library, "cublasLtMatmulDescCreate", table.desc_create);
  find(library, "cublasLtMatmulDescSetAttribute", table.desc_set);
  find(library, "cublasLtMatrixLayoutCreate", table.layout_create);
  find(library, "cublasLtMatmulPreferenceCreate", table.preference_create);
  find(library, "cublasLtMatmulPreferenceDestroy", table.preference_destroy);
  find(library, "cublasLtMatmulPreferenceSetAttribute", table.preference_set);
  find(library, "cublasLtMatmulAlgoGetHeuristic", table.heuristic);
  find(library, "cublasLtGetStatusString", table.text);
  return table;
}

}  // namespace

void add_cublaslt_path(const std::string& path) { paths().push_back(path); }

const CublasLt& cublaslt() {
  static const CublasLt table = load();
  return table;
}

void check(cublasStatus_t status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuda: ") + doing + ": " + cublaslt().text(status));
}

}  // namespace rnnfast::cuda
