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

// The factor of an item as operands of mma.sync, see attend.cuh.
template <int groups, bool i2t>
struct FactorOfTriangle {
  static constexpr int kPairs = factor_pairs(groups), kSingles = factor_singles(groups);
  uint4 pairs[kPairs > 0 ? kPairs : 1];
  uint2 singles[kSingles];
  float unscale;

  __device__ __forceinline__ FactorOfTriangle(const float* R, int m, int rank) {
    const int lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
    float x[groups][groups][2], top = 0.0f;
    HA_UNROLL
    for (int j = 0; j < groups; ++j)
      HA_UNROLL
      for (int q = j; q < groups; ++q)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int row = 8 * j + g, context = Roles<i2t>::context(q, t, i);
          const bool inside = row < rank && row <= context && context < m;
          x[j][q][i] = inside ? R[row * m - row * (row + 1) / 2 + context] : 0.0f;
          top = fmaxf(top, fabsf(x[j][q][i]));
        }
    const float scale = scale_of_factor(top, unscale);
    const auto operand = [&](int j, int q) { return operand_of(x[j][q][0] * scale, x[j][q][1] * scale); };
    HA_UNROLL
    for (int P = 0; P < groups / 2; ++P) {
      HA_UNROLL
      for (int j = 0; j <= 2 * P; ++j) {
        const uint2 left = operand(j, 2 * P), right = operand(j, 2 * P + 1);
        pairs[P * P + j] = {left.x, right.x, left.y, right.y};
      }
      singles[P] = operand(2 * P + 1, 2 * P + 1);
    }
    if (groups % 2 != 0)
      HA_UNROLL
      for (int j = 0; j < groups; ++j) singles[groups / 2 + j] = operand(j, groups - 1);
  }

  __device__ __forceinline__ uint4 pair(int j, int P) const { return pairs[P * P + j]; }
  __device__ __forceinline__ uint2 single(int j, int q) const {
    return singles[q % 2 == 1 ? q / 2 : groups / 2 + j];
  }
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

  // As attended_lengths of attend.cuh, but a loop over the rows of R: unrolled, it takes the compiler minutes.
  template <int parts>
  __device__ __forceinline__ void add_lengths(const Weights<groups, parts>& weights, float (&squares)[2],
                                              float (&total)[2]) const {
    static_assert(groups % 2 == 0, "two groups at once");
    constexpr uint32_t ones = 0x3c003c00u;
    const auto of_pair = [&](int part, int p, uint32_t (&e)[4]) {
      HA_UNROLL
      for (int i = 0; i < 4; ++i) e[i] = weights[part][p + i / 2][i % 2];
    };
    float sum[4] = {};
    HA_UNROLL
    for (int p = 0; p < groups; p += 2)
      HA_UNROLL
      for (int part = 0; part < parts; ++part) {
        uint32_t e[4];
        of_pair(part, p, e);
        mma_f16(sum, e, {ones, ones});
      }
    total[0] = sum[0];
    total[1] = sum[2];
    HA_NO_UNROLL
    for (int j = 0; 8 * j < rank; ++j) {
      float y[4] = {};
      HA_UNROLL
      for (int p = 0; p < groups; p += 2) {
        if (p + 1 < j || 8 * p >= m) continue;  // the same for all lanes; R has zeros there
        const uint2 left = block(j, p), right = block(j, p + 1);
        __syncwarp();
        HA_UNROLL
        for (int part = 0; part < parts; ++part) {
          uint32_t e[4];
          of_pair(part, p, e);
          mma_f16(y, e, {left.x, right.x});
          if (part == 0) mma_f16(y, e, {left.y, right.y});
        }
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
