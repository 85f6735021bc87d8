// Step 2 of epilogue/focal_attention.h by a warp, for the tiles of both paths: blocks of 16 queries attend to the
// contexts of one item. Everything here is of sm_80.
//
// Queries are rows and contexts columns of fragments of mma.sync (ptx.cuh), so a quad of lanes holds a query: each of
// its lanes two contexts out of eight. Weights never leave the registers: as they are, they are the left operand of
// R e, for which R comes as a ready right operand: float16 and what it leaves, 22 bits in two products.
//
// Weights come in one or two parts. In one part (Hopper's tiles, whose rows are of 16 bits) they are rounded to float16,
// and numerator, denominator and total take the rounded ones: that is the cosine with what weights off by 2^-12 attend
// to, not a cosine with an error of that size. Over texts of 5 to 21 words it moves a score by 5e-7 in the mean and 5e-6
// at the most, over texts of one or two by 2e-5; were the numerator to keep the unrounded weights, by 3e-5. In two parts
// (the other tiles, whose rows may be float32) nothing is lost.
#pragma once

#include "rows.cuh"

namespace heritage_align {

constexpr int kBlockQueries = 16;
constexpr float kLargestExponent = 15.0f;  // of a weight: float16 then holds 39 binary places below it

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

// How weights are made of logits: `bounded`, where these lie so close below a bound that it takes the place of the
// largest of each query (weighing_of in hopper_focal.cu); by the largest; or with the focal filter.
enum class Weighing { bounded, by_largest, focal };

// Contexts are taken in groups of eight. Hopper's tiles have code for every number of them up to kMostGroups.
constexpr int kMostGroups = 8;
__host__ __device__ constexpr int context_groups(int64_t contexts) {
  return contexts <= 8 ? 1 : static_cast<int>((contexts + 7) / 8);
}

// R as right operands of mma.sync: blocks (j, q) of its rows 8 j .. by contexts 8 q .., q >= j, as below the diagonal
// it is zero. A pair of neighbouring blocks, (j, 2 P) and (j, 2 P + 1) with j <= 2 P, is one operand of 16 contexts; what
// has no neighbour, (2 P + 1, 2 P + 1) and the last column of an odd number of groups, is one of eight. Pairs come first.
constexpr int factor_pairs(int groups) { return (groups / 2) * (groups / 2); }
constexpr int factor_singles(int groups) { return groups / 2 + (groups % 2) * groups; }
__host__ __device__ constexpr int factor_blocks(int groups) { return groups * (groups + 1) / 2; }
static_assert(2 * factor_pairs(5) + factor_singles(5) == factor_blocks(5), "all blocks of an odd number of groups");
static_assert(2 * factor_pairs(8) + factor_singles(8) == factor_blocks(8), "and of an even one");

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

// Two float16 of each of this lane's two queries, and with two parts what these leave of the weights.
template <int groups, int parts>
using Weights = uint32_t[parts][groups][2];

// Over the contexts, of each of this lane's two queries of a block. `dot` and `squares`: of this lane's contexts, until
// they meet in quad_sums; `total`: of all.
template <int blocks>
struct Sums {
  float dot[blocks][2], squares[blocks][2], total[blocks][2];
};

// As focal_filter of epilogue/focal_attention.h; a query's weights are spread over a quad. `count` contexts, the largest
// weight `top`. No branches between lanes: what follows shuffles.
template <int groups>
__device__ __forceinline__ void filter_quad(const FocalSettings& s, float count, float top, Elements<groups>& e,
                                            int row) {
  float total = 0.0f, products = 0.0f;
  const auto each = [&](auto visit) {
    HA_UNROLL
    for (int p = 0; p < groups; ++p)
      HA_UNROLL
      for (int i = 2 * row; i < 2 * row + 2; ++i) visit(e[p][i]);
  };
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
  // Where all weigh the same, a bound that drops none.
  const bool uneven = top * sum > threshold * (1.0f + kFocalTolerance * (1.0f + s.temperature));
  const float bound = uneven ? threshold * quick_reciprocal(sum) : -1.0f;
  if (s.focal == Focal::sheng) {
    each([&](float& x) { x = x < bound ? 0.0f : x; });
  } else {
    each([&](float& x) { x = x <= bound ? 0.0f : x; });
  }
}

// From logits (in powers of two; -inf: no weight) to weights, and to their sum with the cosines. `cosines_of(p, row)` are
// those of a lane's two contexts of group p.
template <int groups, Weighing weighing, int parts, class CosinesOf>
__device__ __forceinline__ void weigh(const FocalSettings& s, float count, Elements<groups>& e,
                                      Weights<groups, parts>& weights, float (&dot)[2], CosinesOf cosines_of) {
  HA_UNROLL
  for (int row = 0; row < 2; ++row) {
    float largest = 0.0f, top = 0.0f;
    if (weighing != Weighing::bounded) {
      largest = e[0][2 * row];
      HA_UNROLL
      for (int p = 0; p < groups; ++p) largest = fmaxf(largest, fmaxf(e[p][2 * row], e[p][2 * row + 1]));
      largest = quad_larger(largest);
      top = largest - kLargestExponent;
    }
    HA_UNROLL
    for (int p = 0; p < groups; ++p)
      HA_UNROLL
      for (int i = 2 * row; i < 2 * row + 2; ++i)
        e[p][i] = power_of_two(weighing == Weighing::bounded ? e[p][i] : e[p][i] - top);
    if (weighing == Weighing::focal && s.focal != Focal::none)
      filter_quad<groups>(s, count, power_of_two(largest - top), e, row);
    HA_UNROLL
    for (int p = 0; p < groups; ++p) {
      const float2 cosines = cosines_of(p, row);
      const uint32_t pair = halves_of_floats(e[p][2 * row], e[p][2 * row + 1]);
      float a = float_of_f16(static_cast<uint16_t>(pair)), b = float_of_f16(static_cast<uint16_t>(pair >> 16));
      weights[0][p][row] = pair;
      if constexpr (parts == 2) {
        weights[1][p][row] = halves_of_floats(e[p][2 * row] - a, e[p][2 * row + 1] - b);
        a = e[p][2 * row];
        b = e[p][2 * row + 1];
      }
      dot[row] += a * cosines.x;
      dot[row] += b * cosines.y;
    }
  }
}

// The factor of an item in registers: read before the weights are known, it comes while they are made. Only longer
// items, which would fill all registers, read it when they need it.
template <int groups>
struct FactorRegisters {
  static constexpr bool kAhead = groups <= 5;
  static constexpr int kPairs = factor_pairs(groups), kSingles = factor_singles(groups);
  const uint4* pairs_at;
  const uint2* singles_at;
  uint4 pairs[kAhead && kPairs > 0 ? kPairs : 1];
  uint2 singles[kAhead ? kSingles : 1];

  __device__ __forceinline__ FactorRegisters(const uint2* item, int lane)
      : pairs_at(reinterpret_cast<const uint4*>(item) + lane), singles_at(item + 2 * kPairs * kLanes + lane) {
    if constexpr (kAhead) {
      HA_UNROLL
      for (int i = 0; i < kPairs; ++i) pairs[i] = read_past_l1(pairs_at + i * kLanes);
      HA_UNROLL
      for (int i = 0; i < kSingles; ++i) singles[i] = read_past_l1(singles_at + i * kLanes);
    }
  }
  // Contexts 16 P .. 16 P + 15 of rows 8 j ..: high halves in x and y, low ones in z and w.
  __device__ __forceinline__ uint4 pair(int j, int P) const {
    return kAhead ? pairs[P * P + j] : read_past_l1(pairs_at + (P * P + j) * kLanes);
  }
  // Contexts 8 q .. 8 q + 7 of rows 8 j ..: the high halves in x, the low ones in y.
  __device__ __forceinline__ uint2 single(int j, int q) const {
    const int i = q % 2 == 1 ? q / 2 : groups / 2 + j;
    return kAhead ? singles[i] : read_past_l1(singles_at + i * kLanes);
  }
};

// Of this lane's two queries of a block: |R e|^2, the part that its columns hold, and the sum of the weights, as their
// product with ones. `factor` has R's operands: pair(j, P) and single(j, q), as FactorRegisters. Products of one context
// step go to different rows of R one after the other, so that none waits for the one before it.
template <int groups, int parts, class Factor>
__device__ __forceinline__ void attended_lengths(const Factor& factor, const Weights<groups, parts>& weights,
                                                 float (&squares)[2], float (&total)[2]) {
  constexpr uint32_t ones = 0x3c003c00u;
  float y[groups][4] = {}, sum[4] = {};
  HA_UNROLL
  for (int P = 0; P < groups / 2; ++P) {
    uint4 r[groups];
    HA_UNROLL
    for (int j = 0; j <= 2 * P; ++j) r[j] = factor.pair(j, P);
    const uint2 last = factor.single(2 * P + 1, 2 * P + 1);
    HA_UNROLL
    for (int part = 0; part < parts; ++part) {
      const auto& w = weights[part];
      const uint32_t e[4] = {w[2 * P][0], w[2 * P][1], w[2 * P + 1][0], w[2 * P + 1][1]};
      HA_UNROLL
      for (int j = 0; j <= 2 * P; ++j) mma_f16(y[j], e, {r[j].x, r[j].y});
      mma_f16_half(y[2 * P + 1], w[2 * P + 1], last.x);
      mma_f16(sum, e, {ones, ones});
      if (part > 0) continue;  // what both leave is below 2^-22
      HA_UNROLL
      for (int j = 0; j <= 2 * P; ++j) mma_f16(y[j], e, {r[j].z, r[j].w});
      mma_f16_half(y[2 * P + 1], w[2 * P + 1], last.y);
    }
  }
  if constexpr (groups % 2 != 0) {
    constexpr int q = groups - 1;
    uint2 r[groups];
    HA_UNROLL
    for (int j = 0; j < groups; ++j) r[j] = factor.single(j, q);
    HA_UNROLL
    for (int part = 0; part < parts; ++part) {
      const auto& w = weights[part];
      HA_UNROLL
      for (int j = 0; j < groups; ++j) mma_f16_half(y[j], w[q], r[j].x);
      mma_f16_half(sum, w[q], ones);
      if (part > 0) continue;
      HA_UNROLL
      for (int j = 0; j < groups; ++j) mma_f16_half(y[j], w[q], r[j].y);
    }
  }
  HA_UNROLL
  for (int j = 0; j < groups; ++j)
    HA_UNROLL
    for (int i = 0; i < 4; ++i) squares[i / 2] += y[j][i] * y[j][i];
  total[0] = sum[0];
  total[1] = sum[2];
}

// Sums the four x[block][row] over the quad; lane 2 block + row of the quad returns that one.
__device__ __forceinline__ float quad_sums(const float (*x)[2]) {
  const int t = read_thread_index() % 4;
  const float kept[2] = {t < 2 ? x[0][0] : x[1][0], t < 2 ? x[0][1] : x[1][1]};
  const float given[2] = {t < 2 ? x[1][0] : x[0][0], t < 2 ? x[1][1] : x[0][1]};
  const float even = kept[0] + __shfl_xor_sync(kAllLanes, given[0], 2);
  const float odd = kept[1] + __shfl_xor_sync(kAllLanes, given[1], 2);
  return (t % 2 == 0 ? even : odd) + __shfl_xor_sync(kAllLanes, t % 2 == 0 ? odd : even, 1);
}

// That one of x[block][row], without a sum.
__device__ __forceinline__ float of_lane(const float (*x)[2]) {
  const int t = read_thread_index() % 4;
  const float first = t % 2 == 0 ? x[0][0] : x[0][1], second = t % 2 == 0 ? x[1][0] : x[1][1];
  return t < 2 ? first : second;
}

// Which query of two blocks quad_sums returns in this lane.
__device__ __forceinline__ int query_of_lane() {
  const int lane = read_thread_index() % kLanes;
  return lane % 4 / 2 * kBlockQueries + lane % 2 * 8 + lane / 4;
}

__device__ __forceinline__ float cosine_of(float dot, float lengths, float total) {
  return dot * quick_reciprocal(fmaxf(lengths, total * kEps));
}

}  // namespace heritage_align
