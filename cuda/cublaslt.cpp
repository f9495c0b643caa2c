#include "cublaslt.hpp"

#include <dlfcn.h>

#include <stdexcept>
#include <vector>

#include "errors.hpp"

namespace rnnfast::cuda {
namespace {

#define RNNFAST_QUOTE(x) #x
#define RNNFAST_TEXT(x) RNNFAST_QUOTE(x)

constexpr const char* library_name = "libcublasLt.so." RNNFAST_TEXT(CUBLAS_VER_MAJOR);

std::vector<std::string>& folders() {
  static std::vector<std::string> all;
  return all;
}

// The one that the process has; or that of a package, which PyTorch would load too, before another
// one that the system has.
void* open() {
  if (void* loaded = dlopen(library_name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return loaded;
  std::vector<std::string> paths;
  for (const auto& folder : folders()) paths.push_back(folder + "/" + library_name);
  paths.push_back(library_name);
  std::string why;
  for (const auto& path : paths) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    why += std::string("\n  ") + dlerror();
  }
  throw std::runtime_error(
      "cuda: cannot load cuBLASLt of CUDA " RNNFAST_TEXT(CUBLAS_VER_MAJOR) ", which the package "
      "nvidia-cublas (nvidia-cublas-cu12 for CUDA 12) brings:" + why);
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
  find(library, "cublasLtDestroy", table.destroy);
  find(library, "cublasLtMatmul", table.matmul);
  find(library, "cublasLtMatmulDescCreate", table.desc_create);
  find(library, "cublasLtMatmulDescDestroy", table.desc_destroy);
  find(library, "cublasLtMatmulDescSetAttribute", table.desc_set);
  find(library, "cublasLtMatrixLayoutCreate", table.layout_create);
  find(library, "cublasLtMatrixLayoutDestroy", table.layout_destroy);
  find(library, "cublasLtMatmulPreferenceCreate", table.preference_create);
  find(library, "cublasLtMatmulPreferenceDestroy", table.preference_destroy);
  find(library, "cublasLtMatmulPreferenceSetAttribute", table.preference_set);
  find(library, "cublasLtMatmulAlgoGetHeuristic", table.heuristic);
  find(library, "cublasLtGetStatusString", table.text);
  return table;
}

}  // namespace

void add_cublaslt_folder(const std::string& folder) { folders().push_back(folder); }

const CublasLt& cublaslt() {
  static const CublasLt table = load();
  return table;
}

void check(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string text = std::string("cuda: ") + doing + ": " + cublaslt().text(status);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw OutOfMemory(text);
  throw std::runtime_error(text);
}

}  // namespace rnnfast::cuda
