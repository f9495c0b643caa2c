// Products of matrices by cuBLASLt, whose choices are kept by shape.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <map>
#include <optional>

#include "cublaslt.hpp"
#include "machine.hpp"

namespace rnnfast::cuda {

class Products {
 public:
  explicit Products(bool tf32);

  // False where cuBLASLt has no way to do it.
  template <class Operand>
  bool multiply(const Product<Operand>& product, void* workspace, cudaStream_t stream);

  static constexpr size_t workspace_bytes = size_t{32} << 20;

 private:
  // Sides are in cuBLASLt's order, that of columns: cᵀ = bᵀ aᵀ.
  struct Side {
    bool transposed;
    index rows, columns, stride;
    uint32_t alignment;  // of the pointer, in bytes, up to that of the widest loads
    auto operator<=>(const Side&) const = default;
  };
  struct Key {
    cudaDataType type;
    Side first, second, result;
    bool accumulate;
    auto operator<=>(const Key&) const = default;
  };
  struct Choice {
    Owned<cublasLtMatmulDesc_t> desc;
    Owned<cublasLtMatrixLayout_t> first, second, result;
    std::optional<cublasLtMatmulAlgo_t> algo;  // null: there is none
  };

  template <class T>
  static Side side(const Matrix<T>& m);
  const Choice& choose(const Key& key);
  Choice find(const Key& key);

  static constexpr size_t most_choices = 512;
  cublasComputeType_t compute_float_;
  Owned<cublasLtHandle_t> handle_;
  std::map<Key, Choice> choices_;
};

}  // namespace rnnfast::cuda
