#include "products.hpp"

#include "cublaslt.hpp"
#include "errors.hpp"

namespace rnnfast::cuda {
namespace {

template <class Operand>
constexpr cudaDataType type_of = CUDA_R_32F;
template <>
constexpr cudaDataType type_of<Bfloat16> = CUDA_R_16BF;

cublasLtMatrixLayout_t layout(cudaDataType type, index rows, index columns, index stride) {
  cublasLtMatrixLayout_t made;
  check(cublaslt().layout_create(&made, type, static_cast<uint64_t>(rows),
                                 static_cast<uint64_t>(columns), stride),
        "describing a matrix");
  return made;
}

template <class Value>
void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, Value value) {
  check(cublaslt().desc_set(desc, name, &value, sizeof value), "describing a product");
}

}  // namespace

Products::Products(bool tf32)
    : compute_float_(tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F) {
  check(cublaslt().create(&handle_), "starting cuBLASLt");
  check(cudaMalloc(&workspace_, workspace_bytes), "allocating the workspace of products");
}

Products::Choice Products::find(const Key& key) {
  const bool narrow = key.type == CUDA_R_16BF;
  Choice c{};
  check(cublaslt().desc_create(&c.desc, narrow ? CUBLAS_COMPUTE_32F : compute_float_, CUDA_R_32F),
        "describing a product");
  set(c.desc, CUBLASLT_MATMUL_DESC_TRANSA, key.first.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(c.desc, CUBLASLT_MATMUL_DESC_TRANSB, key.second.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  const auto of = [](cudaDataType type, const Side& s) {
    return layout(type, s.rows, s.columns, s.stride);
  };
  c.first = of(key.type, key.first);
  c.second = of(key.type, key.second);
  c.result = of(CUDA_R_32F, key.result);

  cublasLtMatmulPreference_t preference;
  check(cublaslt().preference_create(&preference), "choosing a product");
  const size_t most = workspace_bytes;
  check(cublaslt().preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
                                  sizeof most),
        "choosing a product");
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const auto status = cublaslt().heuristic(handle_, c.desc, c.first, c.second, c.result, c.result,
                                           preference, 1, &found, &count);
  cublaslt().preference_destroy(preference);
  check(status, "choosing a product");
  if (!count) check(CUBLAS_STATUS_NOT_SUPPORTED, "choosing a product");
  c.algo = found.algo;
  return c;
}

const Products::Choice& Products::choose(const Key& key) {
  const auto known = choices_.find(key);
  return known != choices_.end() ? known->second : choices_.emplace(key, find(key)).first->second;
}

template <class Operand>
void Products::multiply(const Product<Operand>& p, cudaStream_t stream) {
  const Choice& c = choose({type_of<Operand>, side(p.b), side(p.a), side(p.c), p.accumulate});
  const float one = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  check(cublaslt().matmul(handle_, c.desc, &one, p.b.data, c.first, p.a.data, c.second, &beta,
                          p.c.data, c.result, p.c.data, c.result, &c.algo, workspace_,
                          workspace_bytes, stream),
        "multiplying");
}

template void Products::multiply(const Product<float>&, cudaStream_t);
template void Products::multiply(const Product<Bfloat16>&, cudaStream_t);

}  // namespace rnnfast::cuda
