// Rows of ragged items as the kernels see them: plain data, int64 row bases, and reading one element of any storage.
#pragma once

#ifdef __NVCC__
#pragma nv_diag_suppress 1675  // GCC's pragmas in the headers that the CPU shares
#endif
#include "../epilogue/focal_attention.h"
#include "../epilogue/patch_weighted.h"
#include "ptx.cuh"

namespace heritage_align {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

enum class Storage : int32_t { f32, f16, bf16, i8 };

// Row r starts at values + r * stride elements. Without offsets, item i is row i alone.
struct Rows {
  const void* values;
  const float* scales;  // with i8: row r stands for values[r] * scales[r]
  const int64_t* offsets;
  int64_t stride;
  int64_t dim;
  int64_t items;
  Storage storage;
  bool aligned;  // every row starts at a multiple of 16 bytes

  __device__ int64_t start(int64_t item) const { return offsets == nullptr ? item : offsets[item]; }
};

// Packed upper triangles (triangular_factor); item i starts at values + offsets[i].
struct Factors {
  const float* values;
  const int64_t* offsets;
};

__host__ __device__ constexpr int element_size(Storage storage) {
  return storage == Storage::f32 ? 4 : storage == Storage::i8 ? 1 : 2;
}

template <Storage storage>
struct Element;
template <>
struct Element<Storage::f32> {
  using Type = float;
  static __device__ __forceinline__ float widen(float x) { return x; }
};
template <>
struct Element<Storage::f16> {
  using Type = uint16_t;
  static __device__ __forceinline__ float widen(uint16_t x) { return float_of_f16(x); }
};
template <>
struct Element<Storage::bf16> {
  using Type = uint16_t;
  static __device__ __forceinline__ float widen(uint16_t x) { return float_of_bf16(x); }
};
template <>
struct Element<Storage::i8> {
  using Type = int8_t;
  static __device__ __forceinline__ float widen(int8_t x) { return static_cast<float>(x); }
};

template <Storage storage>
__device__ __forceinline__ const typename Element<storage>::Type* row_of(const Rows& rows, int64_t r) {
  return static_cast<const typename Element<storage>::Type*>(rows.values) + r * rows.stride;
}

// Element d of row r without its scale, for code in which the storage costs nothing.
__device__ __forceinline__ float element_of(const Rows& rows, int64_t r, int64_t d) {
  switch (rows.storage) {
    case Storage::f32:
      return row_of<Storage::f32>(rows, r)[d];
    case Storage::f16:
      return float_of_f16(row_of<Storage::f16>(rows, r)[d]);
    case Storage::bf16:
      return float_of_bf16(row_of<Storage::bf16>(rows, r)[d]);
    default:
      return static_cast<float>(row_of<Storage::i8>(rows, r)[d]);
  }
}

__device__ __forceinline__ float scale_of(const Rows& rows, int64_t r) {
  return rows.scales == nullptr ? 1.0f : rows.scales[r];
}

// The threads that work on a tile together: all of a block here, a warpgroup on Hopper's path.
template <int threads>
struct WholeBlock {
  static constexpr int kSize = threads;
  __device__ static int thread() { return threadIdx.x; }
  __device__ static void sync() { __syncthreads(); }
};

// The same sum in every lane, always in the same order.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// |row r| with its scale, by one warp.
__device__ inline float warp_length(const Rows& rows, int64_t r, int lane) {
  float squares = 0.0f;
  for (int64_t d = lane; d < rows.dim; d += kLanes) {
    const float x = element_of(rows, r, d);
    squares += x * x;
  }
  return sqrtf(warp_sum(squares)) * scale_of(rows, r);
}

}  // namespace heritage_align
