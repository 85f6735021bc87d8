// Patch-weighted similarity of single pairs on CUDA cores: float32 patches, and rows that rerank.cuh does not take. One
// block a pair, a warp for four patches at a time, the query in shared memory as float32.
#pragma once

#include "tasks.cuh"

namespace heritage_align {

constexpr int kPlainThreads = 256;
constexpr int kPlainWarps = kPlainThreads / kLanes;
constexpr int kRowsAtOnce = 4;  // four loads of 16 bytes under way in each lane

struct PlainRerankParameters {
  Tasks tasks;             // by pair
  Rows queries, patches;
  PatchSettings settings;
  bool mix;
  const float* weights;
  float* scores;
};

inline size_t plain_rerank_bytes(int64_t dim) {
  return static_cast<size_t>(dim + 16) * sizeof(float) + kPlainWarps * sizeof(Pool<float>);
}

template <Storage storage>
struct Piece {
  using Type = typename Element<storage>::Type;
  static constexpr int kSize = 16 / static_cast<int>(sizeof(Type));
  alignas(16) Type element[kSize];
};

// Elements column .. of row r, zeros behind its end.
template <Storage storage>
__device__ __forceinline__ Piece<storage> load_piece(const Rows& rows, int64_t r, int64_t column) {
  using P = Piece<storage>;
  const auto* from = row_of<storage>(rows, r) + column;
  if (rows.aligned && column + P::kSize <= rows.dim) return *reinterpret_cast<const P*>(from);
  P piece;
  HA_UNROLL
  for (int e = 0; e < P::kSize; ++e) piece.element[e] = column + e < rows.dim ? from[e] : typename P::Type{};
  return piece;
}

// Products of the query with kRowsAtOnce rows, this lane's part of each; load(i, column) brings a piece of row i.
template <Storage storage, class Load>
__device__ __forceinline__ void add_products(float (&sum)[kRowsAtOnce], const float* query, int64_t dim, int lane,
                                             Load load) {
  using P = Piece<storage>;
  for (int64_t column = lane * P::kSize; column < dim; column += kLanes * P::kSize) {
    P piece[kRowsAtOnce];
    HA_UNROLL
    for (int i = 0; i < kRowsAtOnce; ++i) piece[i] = load(i, column);
    HA_UNROLL
    for (int e = 0; e < P::kSize; e += 4) {
      const float4 q = *reinterpret_cast<const float4*>(query + column + e);
      HA_UNROLL
      for (int i = 0; i < kRowsAtOnce; ++i) {
        sum[i] += q.x * Element<storage>::widen(piece[i].element[e]);
        sum[i] += q.y * Element<storage>::widen(piece[i].element[e + 1]);
        sum[i] += q.z * Element<storage>::widen(piece[i].element[e + 2]);
        sum[i] += q.w * Element<storage>::widen(piece[i].element[e + 3]);
      }
    }
  }
}

template <Storage storage>
__global__ void __launch_bounds__(kPlainThreads) plain_rerank_kernel(PlainRerankParameters p) {
  HA_SHARED_MEMORY(shared);
  auto* pools = reinterpret_cast<Pool<float>*>(shared);
  float* query = reinterpret_cast<float*>(shared + kPlainWarps * sizeof(Pool<float>));
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  static_assert(kPlainWarps * sizeof(Pool<float>) % 16 == 0, "the query is read 16 bytes at a time");

  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const int64_t pair = pair_at(p.tasks, task);
    const int64_t image = p.tasks.candidates[pair];
    if (image < 0 || image >= p.patches.items) continue;
    const int64_t first = p.patches.start(image), m = p.patches.start(image + 1) - first;
    if (m == 0) {
      if (threadIdx.x == 0) p.scores[pair] = -INFINITY;
      continue;
    }
    const int64_t text = pair / p.tasks.candidates_per_text;
    __syncthreads();  // the pair before no longer needs the query
    for (int64_t d = threadIdx.x; d < p.queries.dim + 16; d += kPlainThreads)
      query[d] = d < p.queries.dim ? element_of(p.queries, text, d) : 0.0f;
    __syncthreads();
    Pool<float> pool = empty_pool(0.0f);
    for (int64_t patch = warp * kRowsAtOnce; patch < m; patch += kPlainWarps * kRowsAtOnce) {
      float sum[kRowsAtOnce] = {};
      add_products<storage>(sum, query, p.patches.dim, lane, [&](int i, int64_t column) {
        // The last row again, rather than a branch around the load.
        return load_piece<storage>(p.patches, first + (patch + i < m ? patch + i : m - 1), column);
      });
      HA_UNROLL
      for (int i = 0; i < kRowsAtOnce; ++i) {
        const float total = warp_sum(sum[i]);
        if (patch + i < m)
          pool_add(p.settings, pool, total * scale_of(p.patches, first + patch + i),
                   p.weights == nullptr ? 0.0f : p.weights[first + patch + i]);
      }
    }
    if (lane == 0) pools[warp] = pool;
    __syncthreads();
    if (threadIdx.x == 0) {
      Pool<float> all = pools[0];
      for (int w = 1; w < kPlainWarps; ++w) all = pool_merge(p.settings, all, pools[w]);
      const float value = pooled(p.settings, all, m);
      p.scores[pair] = p.mix ? mixed(p.settings, value, p.scores[pair]) : value;
    }
  }
}

}  // namespace heritage_align
