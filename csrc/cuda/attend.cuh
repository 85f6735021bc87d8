// Step 2 of epilogue/focal_attention.h by a warp, for the tiles of both paths: blocks of 16 queries attend to the
// contexts of one item. Everything here is of sm_80.
//
// Queries are rows and contexts columns of fragments of mma.sync (ptx.cuh), so a quad of lanes holds a query: each of
// its lanes two contexts out of eight. Weights never leave the registers: as they are, they are the left operand of
// |R e|^2, for which R comes as a ready right operand. Float16 is enough for neither, so both are a sum of two
// (22 bits), and three products make one: high high + low high + high low.
#pragma once

#include "rows.cuh"

namespace heritage_align {

constexpr int kBlockQueries = 16;
constexpr float kWeightExponent = 10.0f;  // the largest weight is 2^10: float16 then holds 34 binary places below it

// How the norm over an item's queries becomes the scale of logits, without a branch: temperature / (the larger of use *
// norm and least, + more). For powers of two, so the temperature is log2(e) times what was asked for.
struct Norm {
  float temperature, use, least, more;
};

// Of every normaliser but softmax.
inline Norm norm_of(const FocalSettings& s) {
  const float temperature = s.temperature * kLog2E;
  if (s.normaliser == Normaliser::none) return {temperature, 0.0f, 1.0f, 0.0f};
  return s.focal == Focal::none ? Norm{temperature, 1.0f, 0.0f, kEps} : Norm{temperature, 1.0f, kEps, 0.0f};
}

// fmaxf(c, slope * c) is every rectifier: leaky, none below zero, or none.
inline float slope_of(Rectifier rectifier) {
  return rectifier == Rectifier::leaky_relu ? kLeakySlope : rectifier == Rectifier::relu ? 0.0f : 1.0f;
}

// The scale of a context's logits over an item's queries, whose rectified cosines have these squares.
__device__ __forceinline__ float logit_scale(const Norm& norm, float squares) {
  return norm.temperature * quick_reciprocal(fmaxf(quick_sqrt(squares) * norm.use, norm.least) + norm.more);
}

// Groups of eight contexts for which there is code: how many an item of `contexts` takes, and their operands of R.
__host__ __device__ constexpr int context_groups(int64_t contexts) {
  return contexts <= 16 ? 2 : contexts <= 24 ? 3 : contexts <= 40 ? 5 : 8;
}
__host__ __device__ constexpr int factor_blocks(int groups) { return groups * (groups + 1) / 2; }

__device__ __forceinline__ float2 two_at(const float* at) { return *reinterpret_cast<const float2*>(at); }

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ __forceinline__ float quad_larger(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// Elements [group][0 and 1] are of query lane / 4, [2 and 3] of query lane / 4 + 8.
template <int groups>
using Elements = float[groups][4];

template <int groups>
__device__ __forceinline__ float2 two_of(const Elements<groups>& elements, int p, int row) {
  return {elements[p][2 * row], elements[p][2 * row + 1]};
}

template <int groups>
struct Operands {
  uint32_t high[groups][2], low[groups][2];
};

// Over the contexts, of each of this lane's two queries of a block: of its own contexts, until they meet in quad_sums.
template <int blocks>
struct Sums {
  float dot[blocks][2], total[blocks][2], squares[blocks][2];
};

// As focal_filter of epilogue/focal_attention.h; a query's weights are spread over a quad. `count` contexts. No
// branches between lanes: what follows shuffles.
template <int groups>
__device__ __forceinline__ void filter_quad(const FocalSettings& s, float count, Elements<groups>& e, int row) {
  float total = 0.0f, products = 0.0f, top = 0.0f;
  const auto each = [&](auto visit) {
    HA_UNROLL
    for (int p = 0; p < groups; ++p)
      HA_UNROLL
      for (int i = 2 * row; i < 2 * row + 2; ++i) visit(e[p][i]);
  };
  each([&](float x) { top = fmaxf(top, x); });
  if (s.focal == Focal::equal) {
    each([&](float x) { products += x; });
  } else if (s.focal == Focal::prob) {
    each([&](float x) {
      const float confidence = quick_sqrt(x);
      total += confidence;
      products += x * confidence;
    });
  } else {
    each([&](float x) {
      total += x;
      products += x * x;
    });
  }
  const float sum = s.focal == Focal::equal ? count : quad_sum(total), threshold = quad_sum(products);
  // Where all weigh the same, a threshold that drops none.
  const bool uneven = quad_larger(top) * sum > threshold * (1.0f + kFocalTolerance * (1.0f + s.temperature));
  const float least = uneven ? threshold : -1.0f;
  if (s.focal == Focal::sheng) {
    each([&](float& x) { x = x * sum < least ? 0.0f : x; });
  } else {
    each([&](float& x) { x = x * sum <= least ? 0.0f : x; });
  }
}

// From logits (in powers of two; -inf: no weight) to operands and sums. `cosines_of(p, row)` are those of a lane's two
// contexts of group p.
template <int groups, bool focal, class CosinesOf>
__device__ __forceinline__ void weigh(const FocalSettings& s, float count, Elements<groups>& e,
                                      Operands<groups>& operands, float (&dot)[2], float (&total)[2],
                                      CosinesOf cosines_of) {
  HA_UNROLL
  for (int row = 0; row < 2; ++row) {
    float top = e[0][2 * row];
    HA_UNROLL
    for (int p = 0; p < groups; ++p) top = fmaxf(top, fmaxf(e[p][2 * row], e[p][2 * row + 1]));
    top = quad_larger(top) - kWeightExponent;
    HA_UNROLL
    for (int p = 0; p < groups; ++p)
      HA_UNROLL
      for (int i = 2 * row; i < 2 * row + 2; ++i) e[p][i] = power_of_two(e[p][i] - top);
    if (focal && s.focal != Focal::none) filter_quad<groups>(s, count, e, row);
    HA_UNROLL
    for (int p = 0; p < groups; ++p) {
      const float a = e[p][2 * row], b = e[p][2 * row + 1];
      const float2 cosines = cosines_of(p, row);
      dot[row] += a * cosines.x;
      dot[row] += b * cosines.y;
      total[row] += a;
      total[row] += b;
      const uint32_t high = halves_of_floats(a, b);
      operands.high[p][row] = high;
      operands.low[p][row] = halves_of_floats(a - float_of_f16(static_cast<uint16_t>(high)),
                                              b - float_of_f16(static_cast<uint16_t>(high >> 16)));
    }
  }
}

// The factor of an item in registers: read before the weights are known, it comes while they are made. Only longer
// items, which would fill all registers, read it when they need it.
template <int groups>
struct FactorRegisters {
  static constexpr bool kAhead = groups <= 5;
  const uint2* from;
  uint2 held[kAhead ? factor_blocks(groups) : 1];

  __device__ __forceinline__ explicit FactorRegisters(const uint2* factor) : from(factor) {
    HA_UNROLL
    for (int i = 0; i < (kAhead ? factor_blocks(groups) : 0); ++i) held[i] = read_past_l1(from + i * kLanes);
  }
  __device__ __forceinline__ uint2 block(int j, int p) const {
    const int i = j * groups - j * (j - 1) / 2 + p - j;
    return kAhead ? held[i] : read_past_l1(from + i * kLanes);
  }
};

// |R e|^2 of this lane's two queries of a block, the part that its columns hold. `factor.block(j, p)` is this lane's
// part of eight rows of R by eight contexts.
template <int groups, class Factor>
__device__ __forceinline__ void squared_lengths(const Factor& factor, const Operands<groups>& e, float (&squares)[2]) {
  HA_UNROLL
  for (int j = 0; j < groups; ++j) {  // eight rows of R, whose columns before 8 j are zero
    float y[4] = {};
    HA_UNROLL
    for (int p = j; p + 1 < groups; p += 2) {
      const uint2 r[2] = {factor.block(j, p), factor.block(j, p + 1)};
      const uint32_t high[2] = {r[0].x, r[1].x}, low[2] = {r[0].y, r[1].y};
      const uint32_t e_high[4] = {e.high[p][0], e.high[p][1], e.high[p + 1][0], e.high[p + 1][1]};
      const uint32_t e_low[4] = {e.low[p][0], e.low[p][1], e.low[p + 1][0], e.low[p + 1][1]};
      mma_f16(y, e_high, high);
      mma_f16(y, e_low, high);
      mma_f16(y, e_high, low);
    }
    if ((groups - j) % 2 != 0) {
      const uint2 r = factor.block(j, groups - 1);
      mma_f16_half(y, e.high[groups - 1], r.x);
      mma_f16_half(y, e.low[groups - 1], r.x);
      mma_f16_half(y, e.high[groups - 1], r.y);
    }
    HA_UNROLL
    for (int i = 0; i < 4; ++i) squares[i / 2] += y[i] * y[i];
  }
}

// Sums the four x[block][row] over the quad; lane 2 block + row of the quad returns that one.
__device__ __forceinline__ float quad_sums(const float (*x)[2]) {
  const int t = thread_anew() % 4;
  const float kept[2] = {t < 2 ? x[0][0] : x[1][0], t < 2 ? x[0][1] : x[1][1]};
  const float given[2] = {t < 2 ? x[1][0] : x[0][0], t < 2 ? x[1][1] : x[0][1]};
  const float even = kept[0] + __shfl_xor_sync(kAllLanes, given[0], 2);
  const float odd = kept[1] + __shfl_xor_sync(kAllLanes, given[1], 2);
  return (t % 2 == 0 ? even : odd) + __shfl_xor_sync(kAllLanes, t % 2 == 0 ? odd : even, 1);
}

// Which query of two blocks quad_sums returns in this lane.
__device__ __forceinline__ int query_of_lane() {
  const int lane = thread_anew() % kLanes;
  return lane % 4 / 2 * kBlockQueries + lane % 2 * 8 + lane / 4;
}

__device__ __forceinline__ float cosine_of(float dot, float lengths, float total) {
  return dot * quick_reciprocal(fmaxf(lengths, total * kEps));
}

}  // namespace heritage_align
