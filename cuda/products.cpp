#include "products.hpp"

#include <algorithm>
#include <utility>

#include "errors.hpp"

namespace rnnfast::cuda {
namespace {

template <class Operand>
constexpr cudaDataType type_of = CUDA_R_32F;
template <>
constexpr cudaDataType type_of<Bfloat16> = CUDA_R_16BF;

template <class Value>
void set(const Owned<cublasLtMatmulDesc_t>& desc, cublasLtMatmulDescAttributes_t name,
         Value value) {
  check(cublaslt().desc_set(desc.get(), name, &value, sizeof value), "describing a product");
}

template <class Value>
void set(const Owned<cublasLtMatmulPreference_t>& preference,
         cublasLtMatmulPreferenceAttributes_t name, Value value) {
  check(cublaslt().preference_set(preference.get(), name, &value, sizeof value),
        "choosing a product");
}

}  // namespace

Products::Products(bool tf32)
    : compute_float_(tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F),
      handle_(cublaslt().destroy, "starting cuBLASLt", cublaslt().create) {}

template <class T>
Products::Side Products::side(const Matrix<T>& m) {
  const auto address = reinterpret_cast<uintptr_t>(m.data);
  const auto alignment = static_cast<uint32_t>(std::min<uintptr_t>(16, address & -address));
  return {m.transposed, m.columns, m.rows, m.stride, alignment};
}

Products::Choice Products::find(const Key& key) {
  const bool narrow = key.type == CUDA_R_16BF;
  const auto& lt = cublaslt();
  const auto layout = [&](cudaDataType type, const Side& s) {
    return Owned<cublasLtMatrixLayout_t>(lt.layout_destroy, "describing a matrix", lt.layout_create,
                                         type, static_cast<uint64_t>(s.rows),
                                         static_cast<uint64_t>(s.columns), int64_t{s.stride});
  };
  Choice c{{lt.desc_destroy, "describing a product", lt.desc_create,
            narrow ? CUBLAS_COMPUTE_32F : compute_float_, CUDA_R_32F},
           layout(key.type, key.first),
           layout(key.type, key.second),
           layout(CUDA_R_32F, key.result),
           std::nullopt};
  set(c.desc, CUBLASLT_MATMUL_DESC_TRANSA, key.first.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(c.desc, CUBLASLT_MATMUL_DESC_TRANSB, key.second.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);

  const Owned<cublasLtMatmulPreference_t> preference(lt.preference_destroy, "choosing a product",
                                                     lt.preference_create);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.first.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.second.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.result.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.result.alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const auto status =
      lt.heuristic(handle_.get(), c.desc.get(), c.first.get(), c.second.get(), c.result.get(),
                   c.result.get(), preference.get(), 1, &found, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "choosing a product");
  if (count) c.algo = found.algo;
  return c;
}

const Products::Choice& Products::choose(const Key& key) {
  const auto known = choices_.find(key);
  if (known != choices_.end()) return known->second;
  if (choices_.size() >= most_choices) choices_.clear();
  return choices_.emplace(key, find(key)).first->second;
}

template <class Operand>
bool Products::multiply(const Product<Operand>& p, void* workspace, cudaStream_t stream) {
  const Choice& c = choose({type_of<Operand>, side(p.b), side(p.a), side(p.c), p.accumulate});
  if (!c.algo) return false;
  const float one = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  check(cublaslt().matmul(handle_.get(), c.desc.get(), &one, p.b.data, c.first.get(), p.a.data,
                          c.second.get(), &beta, p.c.data, c.result.get(), p.c.data, c.result.get(),
                          &*c.algo, workspace, workspace_bytes, stream),
        "multiplying");
  return true;
}

template bool Products::multiply(const Product<float>&, void*, cudaStream_t);
template bool Products::multiply(const Product<Bfloat16>&, void*, cudaStream_t);

}  // namespace rnnfast::cuda
