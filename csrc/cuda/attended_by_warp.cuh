// Steps 2 and 3 of epilogue/focal_attention.h by a warp, for tiles with few words: there a thread a word would leave
// most threads idle through a chain of some ten thousand cycles. Lanes hold the contexts (two each), and |R e| takes a
// row of R a lane. Four words go at once, stage by stage, so that the latencies of one hide behind the others.
#pragma once

#include "rows.cuh"

namespace heritage_align {

constexpr int kWordsAtOnce = 4;
constexpr int kContextsOfLane = 2;
constexpr int kWarpContexts = kContextsOfLane * kLanes;  // contexts of an item, at most

// Sums over the lanes, the same in all, several at once.
template <int count>
__device__ __forceinline__ void warp_sums(float (&x)[count]) {
  HA_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2)
    HA_UNROLL
    for (int k = 0; k < count; ++k) x[k] += __shfl_xor_sync(kAllLanes, x[k], step);
}
template <int count>
__device__ __forceinline__ void warp_maxima(float (&x)[count]) {
  HA_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2)
    HA_UNROLL
    for (int k = 0; k < count; ++k) x[k] = larger(x[k], __shfl_xor_sync(kAllLanes, x[k], step));
}

using Weights = float[kWordsAtOnce][kContextsOfLane];

// focal_filter of epilogue/focal_attention.h, its sums over the lanes.
__device__ __forceinline__ void filter_by_warp(const FocalSettings& s, int m, Weights& e) {
  const int lane = threadIdx.x % kLanes;
  float sum[kWordsAtOnce], threshold[kWordsAtOnce], top[kWordsAtOnce];
  HA_UNROLL
  for (int k = 0; k < kWordsAtOnce; ++k) {
    sum[k] = threshold[k] = 0.0f;
    top[k] = larger(e[k][0], e[k][1]);
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) {
      const float g = s.focal == Focal::equal ? 1.0f : s.focal == Focal::prob ? sqrt_of(e[k][i]) : e[k][i];
      sum[k] += lane + i * kLanes < m ? g : 0.0f;
      threshold[k] += e[k][i] * g;
    }
  }
  warp_sums(sum);
  warp_sums(threshold);
  warp_maxima(top);
  HA_UNROLL
  for (int k = 0; k < kWordsAtOnce; ++k) {
    const float tied_below = threshold[k] * (1.0f + kFocalTolerance * (1.0f + s.temperature));
    const bool all_tie = !(top[k] * sum[k] > tied_below);
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) {
      const float strength = e[k][i] * sum[k];
      const bool keeps = s.focal == Focal::sheng ? strength >= threshold[k] : strength > threshold[k];
      if (!keeps && !all_tie) e[k][i] = 0.0f;
    }
  }
}

// The cosine of words first .. first + 3 (below n) with what they attend to, into results[word]. logits and cosines are
// at [context * pitch + word]; R is square, rows at multiples of factor_pitch floats, zeros below its diagonal;
// `keep` is of the contexts, or null; `weights` is room for kWarpContexts float4 of this warp.
__device__ __forceinline__ void attend_by_warp(const FocalSettings& s, int m, const float* logits, const float* cosines,
                                               int pitch, const uint8_t* keep, const float* R, int factor_pitch,
                                               const float* lengths, int first, int n, float4* weights,
                                               float* results) {
  const int lane = threadIdx.x % kLanes;
  bool kept[kContextsOfLane];
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) {
    const int context = lane + i * kLanes;
    kept[i] = context < m && (keep == nullptr || keep[context] != 0);
  }
  if (keep != nullptr && !__any_sync(kAllLanes, kept[0] || kept[1]))  // an item that would keep nothing keeps all
    for (int i = 0; i < kContextsOfLane; ++i) kept[i] = lane + i * kLanes < m;

  Weights e, cosine;
  float top[kWordsAtOnce], sums[2 * kWordsAtOnce];
  HA_UNROLL
  for (int k = 0; k < kWordsAtOnce; ++k) {
    top[k] = -3.0e38f;
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) {
      const int context = lane + i * kLanes < m ? lane + i * kLanes : m - 1, word = first + k < n ? first + k : n - 1;
      e[k][i] = logits[context * pitch + word];
      cosine[k][i] = cosines[context * pitch + word];
      if (kept[i]) top[k] = larger(top[k], e[k][i]);
    }
  }
  warp_maxima(top);
  HA_UNROLL
  for (int k = 0; k < kWordsAtOnce; ++k)
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) e[k][i] = kept[i] ? exp_of(e[k][i] - top[k]) : 0.0f;
  if (s.focal != Focal::none) filter_by_warp(s, m, e);
  __syncwarp();  // the weights before are no longer read
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) weights[lane + i * kLanes] = float4{e[0][i], e[1][i], e[2][i], e[3][i]};
  HA_UNROLL
  for (int k = 0; k < kWordsAtOnce; ++k) {
    sums[k] = e[k][0] * cosine[k][0] + e[k][1] * cosine[k][1];
    sums[kWordsAtOnce + k] = e[k][0] + e[k][1];
  }
  warp_sums(sums);
  __syncwarp();
  float squares[kWordsAtOnce] = {};
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) {
    if (i * kLanes >= m) break;
    const bool has_row = lane + i * kLanes < m;
    const float* row = R + (has_row ? lane + i * kLanes : m - 1) * factor_pitch;
    float y[kWordsAtOnce] = {};
#pragma unroll 4
    for (int c = i * kLanes; c < m; ++c) {
      const float r = row[c];
      const float4 weight = weights[c];
      y[0] += r * weight.x;
      y[1] += r * weight.y;
      y[2] += r * weight.z;
      y[3] += r * weight.w;
    }
    HA_UNROLL
    for (int k = 0; k < kWordsAtOnce; ++k) squares[k] += has_row ? y[k] * y[k] : 0.0f;
  }
  warp_sums(squares);
  // Lane k finishes word k.
  float dot = sums[0], total = sums[kWordsAtOnce], square = squares[0];
  HA_UNROLL
  for (int k = 1; k < kWordsAtOnce; ++k) {
    dot = lane == k ? sums[k] : dot;
    total = lane == k ? sums[kWordsAtOnce + k] : total;
    square = lane == k ? squares[k] : square;
  }
  if (lane < kWordsAtOnce && first + lane < n)
    results[first + lane] = dot / larger(sqrt_of(square) * lengths[first + lane], total * kEps);
}

// Step 3, aggregated of epilogue/focal_attention.h, for n <= kLanes cosines.
__device__ __forceinline__ float aggregate_by_warp(const FocalSettings& s, int n, const float* cosines) {
  const int lane = threadIdx.x % kLanes;
  const float own = lane < n ? cosines[lane] : 0.0f;
  float top[1] = {lane < n ? own : -3.0e38f}, sum[1];
  if (s.aggregate == Aggregate::max || s.aggregate == Aggregate::lse) warp_maxima(top);
  if (s.aggregate == Aggregate::max) return top[0];
  sum[0] = s.aggregate != Aggregate::lse ? own : lane < n ? exp_of((own - top[0]) * s.lse_scale) : 0.0f;
  warp_sums(sum);
  if (s.aggregate == Aggregate::lse) return top[0] + log_of(sum[0]) / s.lse_scale;
  return s.aggregate == Aggregate::mean ? sum[0] / static_cast<float>(n) : sum[0];
}

}  // namespace heritage_align
