// Rectangles of rows as the tensor copy engine wants them described.
#pragma once

#include "stream.h"
#include "tensors.cuh"

#ifdef HERITAGE_ALIGN_EMULATION
#include "tensor_map_emulated.h"
#else
#include <cuda.h>

namespace heritage_align::hopper {

constexpr int kBoxColumns = 64;  // 128 bytes of 16-bit numbers: a row of the swizzle

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's function, without linking the driver: the library must load where there is none.
inline EncodeTiled find_encode_tiled() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
  HA_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
#else
  HA_CUDA_CHECK(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result));
#endif
  return result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTiled>(found) : nullptr;
}

// Boxes of `box_rows` rows by 64 elements out of `rows` rows: of 16-bit numbers, swizzled by 128 bytes, or of int8, as
// they are. False where the driver refuses.
inline bool describe_rows(CUtensorMap& map, Storage storage, const void* values, int64_t dim, int64_t rows,
                          int64_t stride, int box_rows) {
  static const EncodeTiled encode = find_encode_tiled();
  if (encode == nullptr) return false;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(dim), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * element_size(storage)};
  const cuuint32_t box[2] = {kBoxColumns, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  const bool bytes = storage == Storage::i8;
  const auto type = bytes                     ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                    : storage == Storage::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                              : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return encode(&map, type, 2, const_cast<void*>(values), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                bytes ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace heritage_align::hopper
#endif
