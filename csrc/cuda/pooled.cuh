// Patch-weighted similarity and late interaction on tiles: the similarities of a tile are pooled and forgotten, so
// that an image may have any number of patches. The states of long images are carried from tile to tile.
#pragma once

#include "product.cuh"

namespace heritage_align {

constexpr int kPooledPitch = kTileRegions + 4;  // four lanes a row: neighbouring rows are 4 banks apart
constexpr int kPooledTileBytes = (static_cast<int>(sizeof(WideTile)) + 127) / 128 * 128;
constexpr int kBestBytes = kProductWords * static_cast<int>(sizeof(float));
constexpr int kSimilarityBytes = kProductWords * kPooledPitch * static_cast<int>(sizeof(float));
constexpr int kPooledBytes = kPooledTileBytes + kBestBytes + kSimilarityBytes;
constexpr int kRowLanes = 4;                                        // threads that share a row
constexpr int kRowsOfPass = kThreads / kRowLanes;
constexpr int kRowsOfThread = kProductWords / kRowsOfPass;
static_assert(kProductBytes <= kSimilarityBytes, "similarities take the place of the chunks");
static_assert(kPooledBytes <= kHalfOfShared, "two blocks share an A100's multiprocessor");

struct PooledParameters {
  Tasks tasks;
  Rows queries, patches;   // a query is one row (patch-weighted) or several (late interaction)
  PatchSettings settings;
  bool maximum_sum;        // late interaction: sum over the rows of a query of the maximum over the document's rows
  bool mix;                // scores hold the global similarities, to be mixed in
  const float* weights;    // of the patches
  float* scores;
};

// The score of an image without patches, which an earlier pass may have filled in otherwise.
__device__ __forceinline__ void score_empty_image(const PooledParameters& p, const WideTile& tile, int image) {
  for (int text = threadIdx.x; text < tile.n_texts; text += kThreads)
    p.scores[(tile.first_image + image) * p.tasks.image_step + tile.place[text]] = -INFINITY;
}

// Patches from .. to of an image for the rows of a thread, of `rows` of the tile.
struct Patches {
  const float* similarities;  // of the thread's first row, by patch
  const float* weights;       // by patch, or null
  int from, to, rows;
};

// A loop for each pooling: pool_add then has no branches.
template <Pooling pooling>
__device__ __forceinline__ void add_patches(PatchSettings settings, const Patches& patches,
                                            Pool<float> (&pools)[kRowsOfThread]) {
  settings.pooling = pooling;
#pragma unroll 4
  for (int r = patches.from; r < patches.to; r += kRowLanes) {
    const float weight = pooling == Pooling::weights ? patches.weights[r] : 0.0f;
    HA_UNROLL
    for (int i = 0; i < kRowsOfThread; ++i)
      if (i * kRowsOfPass < patches.rows)
        pool_add(settings, pools[i], patches.similarities[i * kRowsOfPass * kPooledPitch + r], weight);
  }
}

// The softmax of what is all there: the maximum first, then less than half of the instructions that pool_add takes.
template <>
__device__ __forceinline__ void add_patches<Pooling::softmax>(PatchSettings settings, const Patches& patches,
                                                              Pool<float> (&pools)[kRowsOfThread]) {
  const float scale = settings.inverse_temperature * kLog2E;
  Pool<float> here[kRowsOfThread];
  HA_UNROLL
  for (Pool<float>& pool : here) pool = empty_pool(0.0f);
#pragma unroll 4
  for (int r = patches.from; r < patches.to; r += kRowLanes)
    HA_UNROLL
    for (int i = 0; i < kRowsOfThread; ++i)
      if (i * kRowsOfPass < patches.rows)
        here[i].top = larger(here[i].top, patches.similarities[i * kRowsOfPass * kPooledPitch + r]);
#pragma unroll 4
  for (int r = patches.from; r < patches.to; r += kRowLanes)
    HA_UNROLL
    for (int i = 0; i < kRowsOfThread; ++i)
      if (i * kRowsOfPass < patches.rows) {
        const float similarity = patches.similarities[i * kRowsOfPass * kPooledPitch + r];
        const float weight = power_of_two((similarity - here[i].top) * scale);
        here[i].mass += weight;
        here[i].acc += weight * similarity;
      }
  HA_UNROLL
  for (int i = 0; i < kRowsOfThread; ++i) pools[i] = pool_merge(settings, pools[i], here[i]);
}

// Of the lanes of a row, in all of them but for the order of the merges.
__device__ __forceinline__ Pool<float> pool_of_row(const PatchSettings& s, Pool<float> pool) {
  const int lane = threadIdx.x % kRowLanes;
  for (int step = 1; step < kRowLanes; step *= 2) {
    const Pool<float> other{__shfl_xor_sync(kAllLanes, pool.top, step), __shfl_xor_sync(kAllLanes, pool.mass, step),
                            __shfl_xor_sync(kAllLanes, pool.acc, step)};
    pool = (lane & step) == 0 ? pool_merge(s, pool, other) : pool_merge(s, other, pool);
  }
  return pool;
}

// The sums of a tile's texts over their rows' maxima. A query longer than a tile is alone in it, and its sum goes on
// from tile to tile. All threads; begins and ends with a barrier.
__device__ __forceinline__ void sum_maxima(const PooledParameters& p, const WideTile& tile, int64_t scores, int word,
                                           int rows, const float* best) {
  __syncthreads();
  if (threadIdx.x < tile.n_texts) {
    const int start = tile.word_start[threadIdx.x], stop = tile.word_start[threadIdx.x + 1];
    float sum = 0.0f;
    for (int w = start - word > 0 ? start - word : 0; w < rows && w + word < stop; ++w) sum += best[w];
    float& place = p.scores[scores + tile.place[threadIdx.x]];
    place = word == 0 ? sum : place + sum;
  }
  __syncthreads();
}

template <class P>
__global__ void __launch_bounds__(kThreads, 2) pooled_kernel(PooledParameters p) {
  HA_SHARED_MEMORY(shared);
  WideTile& tile = *reinterpret_cast<WideTile*>(shared);
  float* best = reinterpret_cast<float*>(shared + kPooledTileBytes);
  unsigned char* stages = shared + kPooledTileBytes + kBestBytes;
  float* similarities = reinterpret_cast<float*>(stages);
  const int first_row = threadIdx.x / kRowLanes, row_lane = threadIdx.x % kRowLanes;

  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const TextGroups groups = start_task<Block>(p.tasks, task, p.patches, tile);
    for (int64_t group = groups.first; group < groups.last; group += groups.step) {
      start_group<Block>(p.tasks, groups, group, p.queries, tile);
      for (int image = 0; image < tile.n_images; ++image)
        if (tile.region_start[image] == tile.region_start[image + 1]) score_empty_image(p, tile, image);
      for (int word = 0; word < tile.n_words; word += kProductWords) {
        const int rows = tile.n_words - word < kProductWords ? tile.n_words - word : kProductWords;
        Pool<float> pools[kRowsOfThread];
        HA_UNROLL
        for (Pool<float>& pool : pools) pool = empty_pool(0.0f);
        int image = 0;
        for (int first = 0; first < tile.n_regions; first += kTileRegions) {
          const int last = tile.n_regions < first + kTileRegions ? tile.n_regions : first + kTileRegions;
          make_product<P>(p.queries, p.patches, tile, word, first, stages, [&](int w, int r, float x, float y) {
            *reinterpret_cast<float2*>(similarities + w * kPooledPitch + r) = {x, y};
          });
          // The images that have patches in first .. last; the last of them may go on in the next chunk.
          for (; image < tile.n_images && tile.region_start[image] < last; ++image) {
            const int begin = tile.region_start[image], end = tile.region_start[image + 1];
            const int from = begin > first ? begin : first, to = end < last ? end : last;
            const Patches patches{similarities + first_row * kPooledPitch - first,
                                  p.weights == nullptr ? nullptr : p.weights + tile.first_region, from + row_lane, to,
                                  rows};
            switch (p.settings.pooling) {
              case Pooling::softmax:
                add_patches<Pooling::softmax>(p.settings, patches, pools);
                break;
              case Pooling::max:
                add_patches<Pooling::max>(p.settings, patches, pools);
                break;
              case Pooling::mean:
                add_patches<Pooling::mean>(p.settings, patches, pools);
                break;
              case Pooling::weights:
                add_patches<Pooling::weights>(p.settings, patches, pools);
            }
            if (end > last) break;
            if (begin == end) continue;
            const int64_t scores = (tile.first_image + image) * p.tasks.image_step;
            HA_UNROLL
            for (int i = 0; i < kRowsOfThread; ++i) {
              const int row = first_row + i * kRowsOfPass;
              const float value = pooled(p.settings, pool_of_row(p.settings, pools[i]), end - begin);
              pools[i] = empty_pool(0.0f);
              if (row >= rows || row_lane != 0) continue;
              if (p.maximum_sum) {
                best[row] = value;
              } else {  // a row is a query
                float& place = p.scores[scores + tile.place[row]];
                place = p.mix ? mixed(p.settings, value, place) : value;
              }
            }
            if (p.maximum_sum) sum_maxima(p, tile, scores, word, rows, best);
          }
        }
      }
    }
  }
}

}  // namespace heritage_align
