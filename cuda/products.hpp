// Products of matrices by cuBLASLt, whose choices are kept by shape.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <map>
#include <tuple>

#include "machine.hpp"

namespace rnnfast::cuda {

class Products {
 public:
  explicit Products(bool tf32);
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  template <class Operand>
  void multiply(const Product<Operand>& product, cudaStream_t stream);

 private:
  // Sides are in cuBLASLt's order, that of columns: cᵀ = bᵀ aᵀ.
  struct Side {
    bool transposed;
    index rows, columns, stride;
    auto operator<=>(const Side&) const = default;
  };
  struct Key {
    cudaDataType type;
    Side first, second, result;
    bool accumulate;
    auto operator<=>(const Key&) const = default;
  };
  struct Choice {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t first, second, result;
    cublasLtMatmulAlgo_t algo;
  };

  template <class T>
  static Side side(const Matrix<T>& m) {
    return {m.transposed, m.columns, m.rows, m.stride};
  }
  const Choice& choose(const Key& key);
  Choice find(const Key& key);

  static constexpr size_t workspace_bytes = size_t{32} << 20;
  cublasComputeType_t compute_float_;
  cublasLtHandle_t handle_;
  void* workspace_ = nullptr;
  std::map<Key, Choice> choices_;
};

}  // namespace rnnfast::cuda
