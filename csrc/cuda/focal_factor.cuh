// The factor of an item as operands of mma.sync, made by a warp from the packed triangle.
#pragma once

#include "focal_tile.cuh"

namespace heritage_align {

// What brings the largest entry of a factor, of which each lane has seen a part, to [2^7, 2^8), and what undoes it:
// powers of two.
__device__ __forceinline__ float scale_of_factor(float top, float& unscale) {
  for (int step = kLanes / 2; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
  int exponent = 0;
  if (top > 0.0f && top < INFINITY) frexpf(top, &exponent);
  exponent = exponent < -100 ? -100 : exponent;
  unscale = ldexpf(1.0f, exponent - 8);
  return ldexpf(1.0f, 8 - exponent);
}

// Two entries of the scaled factor as a pair of halves, and what that pair leaves.
__device__ __forceinline__ uint2 operand_of(float first, float second) {
  const uint32_t high = halves_of_floats(first, second);
  return {high, halves_of_floats(first - float_of_f16(static_cast<uint16_t>(high)),
                                 second - float_of_f16(static_cast<uint16_t>(high >> 16)))};
}

// The factor of an item as operands of mma.sync, see squared_lengths.
template <int groups, bool i2t>
struct FactorOfTriangle {
  uint2 held[factor_blocks(groups)];
  float unscale;

  __device__ __forceinline__ FactorOfTriangle(const float* R, int m, int rank) {
    const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
    float x[factor_blocks(groups)][2], top = 0.0f;
    HA_UNROLL
    for (int j = 0; j < groups; ++j)
      HA_UNROLL
      for (int q = j; q < groups; ++q)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int row = 8 * j + g, context = Roles<i2t>::context(q, t, i);
          const bool inside = row < rank && row <= context && context < m;
          float& entry = x[number_of(j, q)][i];
          entry = inside ? R[row * m - row * (row + 1) / 2 + context] : 0.0f;
          top = fmaxf(top, fabsf(entry));
        }
    const float scale = scale_of_factor(top, unscale);
    HA_UNROLL
    for (int b = 0; b < factor_blocks(groups); ++b) held[b] = operand_of(x[b][0] * scale, x[b][1] * scale);
  }

  static __host__ __device__ constexpr int number_of(int j, int q) { return j * groups - j * (j - 1) / 2 + q - j; }
  __device__ __forceinline__ uint2 block(int j, int q) const { return held[number_of(j, q)]; }
};

// The same for more contexts than registers hold: an operand is made each time that it is needed.
template <int groups>
struct FactorInMemory {
  const float* R;
  int m, rank;
  float scale, unscale;

  __device__ __forceinline__ FactorInMemory(const float* triangle, int contexts, int rows)
      : R(triangle), m(contexts), rank(rows) {
    float top = 0.0f;
#pragma unroll 4
    for (int i = threadIdx.x % kLanes; i < m * (m + 1) / 2; i += kLanes) top = fmaxf(top, fabsf(R[i]));
    __syncwarp();
    scale = scale_of_factor(top, unscale);
  }

  __device__ __forceinline__ uint2 block(int j, int q) const {
    const int lane = threadIdx.x % kLanes, row = 8 * j + lane / 4, first = 8 * q + 2 * (lane % 4);
    const float* at = R + row * m - row * (row + 1) / 2 + first;
    return operand_of(row < rank && row <= first && first < m ? at[0] * scale : 0.0f,
                      row < rank && row <= first + 1 && first + 1 < m ? at[1] * scale : 0.0f);
  }

  // As squared_lengths of attend.cuh, but a loop over the rows of R: unrolled, it takes the compiler minutes.
  __device__ __forceinline__ void add_squares(const Operands<groups>& e, float (&squares)[2]) const {
    static_assert(groups % 2 == 0, "two groups at once");
    HA_NO_UNROLL
    for (int j = 0; 8 * j < rank; ++j) {
      float y[4] = {};
      HA_UNROLL
      for (int p = 0; p < groups; p += 2) {
        if (p + 1 < j || 8 * p >= m) continue;  // the same for all lanes; R has zeros there
        const uint2 r[2] = {block(j, p), block(j, p + 1)};
        const uint32_t high[2] = {r[0].x, r[1].x}, low[2] = {r[0].y, r[1].y};
        const uint32_t e_high[4] = {e.high[p][0], e.high[p][1], e.high[p + 1][0], e.high[p + 1][1]};
        const uint32_t e_low[4] = {e.low[p][0], e.low[p][1], e.low[p + 1][0], e.low[p + 1][1]};
        __syncwarp();
        mma_f16(y, e_high, high);
        mma_f16(y, e_low, high);
        mma_f16(y, e_high, low);
      }
      HA_UNROLL
      for (int i = 0; i < 4; ++i) squares[i / 2] += y[i] * y[i];
    }
  }
};

template <int groups, bool i2t, bool held>
struct FactorOf {
  using Type = FactorOfTriangle<groups, i2t>;
};
template <int groups>
struct FactorOf<groups, false, false> {
  using Type = FactorInMemory<groups>;
};

}  // namespace heritage_align
