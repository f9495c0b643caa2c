// DLPack's structures, as its specification lays them out: https://dmlc.github.io/dlpack.
#pragma once

#include <cstdint>

namespace rnnfast::cuda::dlpack {

inline constexpr int32_t cuda_device = 2, managed_device = 13;                 // types of devices
inline constexpr const char *name = "dltensor", *used_name = "used_dltensor";  // of capsules

struct Device {
  int32_t type, id;
};

enum Code : uint8_t { integer = 0, unsigned_integer = 1, floating = 2, bfloat = 4, boolean = 6 };

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: no gaps, in the order of the axes
  uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* context;  // of who made it
  void (*deleter)(Managed*);
};

}  // namespace rnnfast::cuda::dlpack
