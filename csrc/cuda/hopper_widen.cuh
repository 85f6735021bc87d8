// int8 rows of a store on their way to wgmma: brought as they are, made float16 in shared memory. That is exact, and the
// rows' scales wait beside them for the float32 sums, so no score is rounded more than with products of int8. Device
// memory and the L2 see one byte an element; a float16 copy of the store would be written and read at five times that.
//
// For 128 rows by 64 elements, which are 512 clocks of tensor core for two warpgroups, each of three warps spends some
// 190 instructions. Shared memory is what becomes scarce: 48 KB of operands and 24 KB of widening, 576 clocks of its
// 128 bytes.
#pragma once

#include "hopper_ptx.cuh"
#include "rows.cuh"

namespace heritage_align::hopper {

constexpr int kWidenWarps = 3;  // those of the feeding warpgroup that do not feed
constexpr int kWidenThreads = kWidenWarps * kLanes;
constexpr int kBytePitch = 64;  // of the rows as they come: a chunk of 64 elements

// Products with four slots of rows under way, one of them pooled behind them and one whose scales come ahead.
constexpr int kScaleTiles = 8;

// `rows` rows of 64 int8 to as many of 64 float16, swizzled as copy_box would; thread 0 .. kWidenThreads - 1.
template <int rows>
__device__ __forceinline__ void widen_rows(const unsigned char* from, unsigned char* to, int thread) {
  constexpr int pieces = rows * kBytePitch / 16, pieces_of_row = kBytePitch / 16;
  constexpr int ahead = 3;  // loads under way: none can pass a store to the same memory
  HA_NO_UNROLL
  for (int first = thread; first < pieces; first += ahead * kWidenThreads) {
    Sixteen bytes[ahead];
    HA_UNROLL
    for (int k = 0; k < ahead; ++k)
      if (const int i = first + k * kWidenThreads; i < pieces)
        bytes[k] = *reinterpret_cast<const Sixteen*>(from + i * 16);
    HA_UNROLL
    for (int k = 0; k < ahead; ++k) {
      const int i = first + k * kWidenThreads, row = i / pieces_of_row, piece = i % pieces_of_row;
      if (i >= pieces) break;
      HA_UNROLL
      for (int half = 0; half < 2; ++half) {
        Sixteen halves;
        halves_of_bytes(bytes[k].word[2 * half], halves.word[0], halves.word[1]);
        halves_of_bytes(bytes[k].word[2 * half + 1], halves.word[2], halves.word[3]);
        *reinterpret_cast<Sixteen*>(to + row * 128 + ((2 * piece + half) ^ row % 8) * 16) = halves;
      }
    }
  }
}

// The scales of `columns` rows from `row` on, in the background. Behind the store's end they are of its last row: such
// columns belong to no item.
template <int columns>
__device__ __forceinline__ void bring_scales(float* to, const Rows& store, int64_t row, int64_t total, int thread) {
  for (int i = thread; i < columns; i += kWidenThreads)
    copy_async_word(to + i, store.scales + (row + i < total ? row + i : total - 1));
}

// Similarities from accumulators of products with int8 rows, but for the queries' scales. Accumulators are not scaled in
// place: what else writes them, ptxas 13.0 keeps apart from products (C7515).
struct Scaled {
  const float2* own;  // scales of the thread's columns, by four

  __device__ __forceinline__ explicit Scaled(const float* scales)
      : own(reinterpret_cast<const float2*>(scales) + threadIdx.x % 4) {}
  __device__ __forceinline__ float operator()(float accumulator, int i) const {
    const float2 scale = own[i / 4 * 4];
    return accumulator * (i % 2 == 0 ? scale.x : scale.y);
  }
};

}  // namespace heritage_align::hopper
