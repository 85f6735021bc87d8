// Patch-weighted similarity and late interaction on tiles: the similarities of a tile are pooled and forgotten, so
// that an image may have any number of patches. The states of long images are carried from tile to tile.
#pragma once

#include "product.cuh"

namespace heritage_align {

constexpr int kPooledPitch = kTileRegions + 2;  // with two threads a row, neighbouring rows are 2 banks apart
constexpr int kPooledTileBytes = (static_cast<int>(sizeof(Tile)) + 127) / 128 * 128;
constexpr int kBestBytes = kTileWords * static_cast<int>(sizeof(float));
constexpr int kPooledBytes = kPooledTileBytes + kBestBytes + kProductBytes;
static_assert(kTileWords * kPooledPitch * 4 <= kProductBytes, "similarities take the place of the chunks");
static_assert(kThreads == 2 * kTileWords, "two threads share a row");
static_assert(3 * (kPooledBytes + 1024) <= 228 * 1024, "three blocks share a Hopper multiprocessor");

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
__device__ __forceinline__ void score_empty_image(const PooledParameters& p, const Tile& tile, int image) {
  for (int text = threadIdx.x; text < tile.n_texts; text += kThreads)
    p.scores[(tile.first_image + image) * p.tasks.image_step + tile.place[text]] = -INFINITY;
}

template <class P>
__global__ void __launch_bounds__(kThreads, 3) pooled_kernel(PooledParameters p) {
  HA_SHARED_MEMORY(shared);
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  float* best = reinterpret_cast<float*>(shared + kPooledTileBytes);
  unsigned char* stages = shared + kPooledTileBytes + kBestBytes;
  float* similarities = reinterpret_cast<float*>(stages);
  const int row = threadIdx.x / 2, half = threadIdx.x % 2;

  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const TextGroups groups = start_task<Block>(p.tasks, task, p.patches, tile);
    for (int64_t group = groups.first; group < groups.last; group += groups.step) {
      start_group<Block>(p.tasks, groups, group, p.queries, tile);
      for (int image = 0; image < tile.n_images; ++image)
        if (tile.region_start[image] == tile.region_start[image + 1]) score_empty_image(p, tile, image);
      for (int word = 0; word < tile.n_words; word += kTileWords) {
        const int rows = tile.n_words - word < kTileWords ? tile.n_words - word : kTileWords;
        Pool<float> pool = empty_pool(0.0f);
        int image = 0;
        for (int first = 0; first < tile.n_regions; first += kTileRegions) {
          const int last = tile.n_regions < first + kTileRegions ? tile.n_regions : first + kTileRegions;
          make_product<P>(p.queries, p.patches, tile, word, first, stages, similarities, kPooledPitch);
          // The images that have patches in first .. last; the last of them may go on in the next chunk.
          for (; image < tile.n_images && tile.region_start[image] < last; ++image) {
            const int begin = tile.region_start[image], end = tile.region_start[image + 1];
            const int from = begin > first ? begin : first, to = end < last ? end : last;
            if (row < rows)
              for (int r = from + half; r < to; r += 2)
                pool_add(p.settings, pool, similarities[row * kPooledPitch + r - first],
                         p.weights == nullptr ? 0.0f : p.weights[tile.first_region + r]);
            if (end > last) break;
            if (begin == end) continue;
            const Pool<float> other{__shfl_xor_sync(kAllLanes, pool.top, 1), __shfl_xor_sync(kAllLanes, pool.mass, 1),
                                    __shfl_xor_sync(kAllLanes, pool.acc, 1)};
            const float value = pooled(p.settings, half == 0 ? pool_merge(p.settings, pool, other)
                                                             : pool_merge(p.settings, other, pool),
                                       end - begin);
            pool = empty_pool(0.0f);
            const int64_t scores = (tile.first_image + image) * p.tasks.image_step;
            if (!p.maximum_sum) {  // a row is a query
              if (row < rows && half == 0) {
                float& place = p.scores[scores + tile.place[row]];
                place = p.mix ? mixed(p.settings, value, place) : value;
              }
              continue;
            }
            if (row < rows && half == 0) best[row] = value;
            __syncthreads();
            if (threadIdx.x < tile.n_texts) {
              // A query longer than a tile is alone in it, and its sum goes on from tile to tile.
              const int start = tile.word_start[threadIdx.x], stop = tile.word_start[threadIdx.x + 1];
              float sum = 0.0f;
              for (int w = start - word > 0 ? start - word : 0; w < rows && w + word < stop; ++w) sum += best[w];
              float& place = p.scores[scores + tile.place[threadIdx.x]];
              place = word == 0 ? sum : place + sum;
            }
            __syncthreads();
          }
        }
      }
    }
  }
}

}  // namespace heritage_align
