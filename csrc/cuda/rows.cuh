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
constexpr float kLog2E = 1.44269504f;

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

// Sixteen bytes of a row as float32. int8 go by way of float16: their own conversions run at a quarter of the rate.
template <Storage storage>
struct Wide {
  static constexpr int kSize = 16 / element_size(storage);
  float x[kSize];

  __device__ __forceinline__ explicit Wide(const Sixteen& piece) {
    HA_UNROLL
    for (int w = 0; w < 4; ++w) {
      const uint32_t word = piece.word[w];
      if constexpr (storage == Storage::f32) {
        x[w] = float_of_bits(word);
      } else if constexpr (storage == Storage::i8) {
        uint32_t halves[2];
        halves_of_bytes(word, halves[0], halves[1]);
        HA_UNROLL
        for (int e = 0; e < 4; ++e)
          x[4 * w + e] = float_of_f16(static_cast<uint16_t>(halves[e / 2] >> 16 * (e % 2)));
      } else {
        x[2 * w] = Element<storage>::widen(static_cast<uint16_t>(word));
        x[2 * w + 1] = Element<storage>::widen(static_cast<uint16_t>(word >> 16));
      }
    }
  }
};

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

// `count` elements of a row as float32, zeros behind its end: all their loads are under way together, and eight of two
// bytes at a multiple of 16 bytes are one.
template <Storage storage, int count>
__device__ __forceinline__ void read_elements_of(const Rows& rows, int64_t r, int64_t column, float (&x)[count]) {
  const auto* from = row_of<storage>(rows, r) + column;
  if constexpr (element_size(storage) == 2 && count == 8) {
    if (rows.aligned && column % 8 == 0 && column + 8 <= rows.dim) {
      const Wide<storage> wide(*reinterpret_cast<const Sixteen*>(from));
      HA_UNROLL
      for (int e = 0; e < count; ++e) x[e] = wide.x[e];
      return;
    }
  }
  HA_UNROLL
  for (int e = 0; e < count; ++e) x[e] = column + e < rows.dim ? Element<storage>::widen(from[e]) : 0.0f;
}
template <int count>
__device__ __forceinline__ void read_elements(const Rows& rows, int64_t r, int64_t column, float (&x)[count]) {
  switch (rows.storage) {
    case Storage::f32:
      return read_elements_of<Storage::f32>(rows, r, column, x);
    case Storage::f16:
      return read_elements_of<Storage::f16>(rows, r, column, x);
    case Storage::bf16:
      return read_elements_of<Storage::bf16>(rows, r, column, x);
    default:
      return read_elements_of<Storage::i8>(rows, r, column, x);
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

// <row i of a, row j of b>, by one warp.
__device__ __forceinline__ float product_of_rows(const Rows& a, int64_t i, const Rows& b, int64_t j, int lane) {
  float sum = 0.0f;
  for (int64_t column = lane * 8; column < a.dim; column += kLanes * 8) {
    float x[8], y[8];
    read_elements(a, i, column, x);
    read_elements(b, j, column, y);
    HA_UNROLL
    for (int e = 0; e < 8; ++e) sum += x[e] * y[e];
  }
  return warp_sum(sum);
}

// |row r| with its scale, by one warp.
__device__ __forceinline__ float warp_length(const Rows& rows, int64_t r, int lane) {
  constexpr int ahead = 4;  // groups of eight elements under way in each lane
  float squares = 0.0f;
  for (int64_t column = lane * 8; column < rows.dim; column += ahead * kLanes * 8) {
    float x[ahead][8];
    HA_UNROLL
    for (int i = 0; i < ahead; ++i) read_elements(rows, r, column + i * kLanes * 8, x[i]);
    HA_UNROLL
    for (int i = 0; i < ahead; ++i)
      HA_UNROLL
      for (int e = 0; e < 8; ++e) squares += x[i][e] * x[i][e];
  }
  return sqrtf(warp_sum(squares)) * scale_of(rows, r);
}

}  // namespace heritage_align
