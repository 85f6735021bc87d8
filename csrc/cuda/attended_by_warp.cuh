// The three steps of epilogue/focal_attention.h by a warp, for tiles with few queries: there a thread a query would leave
// most threads idle through a chain of some ten thousand cycles. In step 1 some lanes share the queries of an item. In
// step 2 lanes hold the contexts (two each), and |R e| takes a row of R a lane; four queries go at once, stage by stage,
// so that the latencies of one hide behind the others.
#pragma once

#include "rows.cuh"

namespace heritage_align {

constexpr int kQueriesAtOnce = 4;
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

using Weights = float[kQueriesAtOnce][kContextsOfLane];

// focal_filter of epilogue/focal_attention.h, its sums over the lanes.
__device__ __forceinline__ void filter_by_warp(const FocalSettings& s, int m, Weights& e) {
  const int lane = threadIdx.x % kLanes;
  float sum[kQueriesAtOnce], threshold[kQueriesAtOnce], top[kQueriesAtOnce];
  HA_UNROLL
  for (int k = 0; k < kQueriesAtOnce; ++k) {
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
  for (int k = 0; k < kQueriesAtOnce; ++k) {
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

// Step 1, query_axis of the epilogue: each of `lanes` neighbouring lanes reads every lanes-th cosine. n may be 0, and
// different in other lanes; all lanes of a warp must call.
template <int lanes, class Cosines>
__device__ __forceinline__ QueryAxis<float> query_axis_by_lanes(const FocalSettings& s, int n, const Cosines& cosines) {
  if (s.normaliser == Normaliser::none) return {0.0f, s.temperature};
  const bool softmax = s.normaliser == Normaliser::softmax;
  const int lane = threadIdx.x % lanes;
  float top = -3.0e38f, sum = 0.0f;
  if (softmax) {
    for (int j = lane; j < n; j += lanes) top = larger(top, rectified(s.rectifier, float(cosines[j])));
    for (int step = 1; step < lanes; step *= 2) top = larger(top, __shfl_xor_sync(kAllLanes, top, step));
  }
  for (int j = lane; j < n; j += lanes) {
    const float x = rectified(s.rectifier, float(cosines[j]));
    sum += softmax ? exp_of(x - top) : x * x;
  }
  for (int step = 1; step < lanes; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (softmax) return {top, s.temperature / sum};
  const float norm = sqrt_of(sum);
  return {0.0f, s.temperature / (s.focal == Focal::none ? norm + kEps : larger(kEps, norm))};
}

// Queries that attend to one item of m contexts.
struct Attending {
  const float *logits, *cosines;  // at [context * context_step + query * query_step]
  int context_step, query_step;
  int m;
  const uint8_t* keep;  // of the contexts, or null
  const float* R;       // square, rows at multiples of factor_pitch floats, zeros below its diagonal
  int factor_pitch;
  const float* lengths;  // of the queries
  int queries;
  float* results;  // their cosines with what they attend to
};

// Step 2 for queries first .. first + 3; `weights` is room for kWarpContexts float4 of this warp.
__device__ __forceinline__ void attend_by_warp(const FocalSettings& s, const Attending& a, int first, float4* weights) {
  const int lane = threadIdx.x % kLanes, m = a.m;
  bool kept[kContextsOfLane];
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) {
    const int context = lane + i * kLanes;
    kept[i] = context < m && (a.keep == nullptr || a.keep[context] != 0);
  }
  if (a.keep != nullptr && !__any_sync(kAllLanes, kept[0] || kept[1]))  // an item that would keep nothing keeps all
    for (int i = 0; i < kContextsOfLane; ++i) kept[i] = lane + i * kLanes < m;

  Weights e, cosine;
  float top[kQueriesAtOnce], sums[2 * kQueriesAtOnce];
  HA_UNROLL
  for (int k = 0; k < kQueriesAtOnce; ++k) {
    top[k] = -3.0e38f;
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) {
      const int context = lane + i * kLanes < m ? lane + i * kLanes : m - 1;
      const int query = first + k < a.queries ? first + k : a.queries - 1;
      const int at = context * a.context_step + query * a.query_step;
      e[k][i] = a.logits[at];
      cosine[k][i] = a.cosines[at];
      if (kept[i]) top[k] = larger(top[k], e[k][i]);
    }
  }
  warp_maxima(top);
  HA_UNROLL
  for (int k = 0; k < kQueriesAtOnce; ++k)
    HA_UNROLL
    for (int i = 0; i < kContextsOfLane; ++i) e[k][i] = kept[i] ? exp_of(e[k][i] - top[k]) : 0.0f;
  if (s.focal != Focal::none) filter_by_warp(s, m, e);
  __syncwarp();  // the weights before are no longer read
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) weights[lane + i * kLanes] = float4{e[0][i], e[1][i], e[2][i], e[3][i]};
  HA_UNROLL
  for (int k = 0; k < kQueriesAtOnce; ++k) {
    sums[k] = e[k][0] * cosine[k][0] + e[k][1] * cosine[k][1];
    sums[kQueriesAtOnce + k] = e[k][0] + e[k][1];
  }
  warp_sums(sums);
  __syncwarp();
  float squares[kQueriesAtOnce] = {};
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) {
    if (i * kLanes >= m) break;
    const bool has_row = lane + i * kLanes < m;
    const float* row = a.R + (has_row ? lane + i * kLanes : m - 1) * a.factor_pitch;
    float y[kQueriesAtOnce] = {};
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
    for (int k = 0; k < kQueriesAtOnce; ++k) squares[k] += has_row ? y[k] * y[k] : 0.0f;
  }
  warp_sums(squares);
  // Lane k finishes query k.
  float dot = sums[0], total = sums[kQueriesAtOnce], square = squares[0];
  HA_UNROLL
  for (int k = 1; k < kQueriesAtOnce; ++k) {
    dot = lane == k ? sums[k] : dot;
    total = lane == k ? sums[kQueriesAtOnce + k] : total;
    square = lane == k ? squares[k] : square;
  }
  if (lane < kQueriesAtOnce && first + lane < a.queries)
    a.results[first + lane] = dot / larger(sqrt_of(square) * a.lengths[first + lane], total * kEps);
}

// Step 3, aggregated of epilogue/focal_attention.h, for n <= kWarpContexts cosines.
__device__ __forceinline__ float aggregate_by_warp(const FocalSettings& s, int n, const float* cosines) {
  const int lane = threadIdx.x % kLanes;
  float own[kContextsOfLane], top[1] = {-3.0e38f}, sum[1] = {0.0f};
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i) {
    own[i] = lane + i * kLanes < n ? cosines[lane + i * kLanes] : -3.0e38f;
    top[0] = larger(top[0], own[i]);
  }
  if (s.aggregate == Aggregate::max || s.aggregate == Aggregate::lse) warp_maxima(top);
  if (s.aggregate == Aggregate::max) return top[0];
  HA_UNROLL
  for (int i = 0; i < kContextsOfLane; ++i)
    if (lane + i * kLanes < n)
      sum[0] += s.aggregate == Aggregate::lse ? exp_of((own[i] - top[0]) * s.lse_scale) : own[i];
  warp_sums(sum);
  if (s.aggregate == Aggregate::lse) return top[0] + log_of(sum[0]) / s.lse_scale;
  return s.aggregate == Aggregate::mean ? sum[0] / static_cast<float>(n) : sum[0];
}

}  // namespace heritage_align
