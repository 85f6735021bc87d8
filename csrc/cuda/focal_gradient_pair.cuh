// The gradient of focal attention on CUDA cores, for the pairs whose score has one: epilogue/focal_gradient.h, one thread
// a query or a context.
//
//   pair_gradient_kernel   one block a pair: C (dots of rows), the pair's C', and what the rows' lengths need
//   squares_kernel         one block an item: what multiplies its own rows, summed over its pairs
//   spread_kernel          one block 8 rows x 256 columns of an item: V' = sum C' Q + square V, the pairs in order
//
// Which pairs those are only the device knows: blocks of the others end at once, so no list is made and nothing waits.
// Each sum is one thread's, in one order: gradients have the same bits in every run.
#pragma once

#include "rows.cuh"

#include "../epilogue/focal_gradient.h"

namespace heritage_align::cuda {

// C' and the weights of a chunk of texts, each (regions, columns): word j of text t in column
// (t - first_text) * max_words + j. Blocks of pairs without a gradient are not written.
struct FocalGradientParameters {
  FocalSettings settings;
  Direction direction;
  Rows regions, words;
  const float* slopes;  // (images, texts): the gradient of the scores
  int64_t n_texts;
  const uint8_t* keep;
  Factors image_factors, text_factors;
  const float* word_lengths;
  const float* region_lengths;

  int64_t first_text, chunk_texts, max_regions, max_words;
  float* gradient;       // C'
  float* weights_t2i;    // P, null without that direction
  float* weights_i2t;
  float* shares_t2i;     // (2, images, columns): c and k of the words, the queries
  float* shares_i2t;     // (2, chunk_texts, regions): c and k of the regions
  float* image_squares;  // (images, max_regions, max_regions)
  float* text_squares;   // (chunk_texts, max_words, max_words)

  float* workspace;      // of pairs that shared memory does not hold: work_of_pair floats a block
  int64_t pairs;

  __host__ __device__ int64_t columns() const { return chunk_texts * max_words; }
  __host__ __device__ int64_t images() const { return regions.items; }
};

// Tiles are (regions, pitch) with an odd pitch: threads side by side then meet different banks along either side.
constexpr int kGradientTiles = 4, kQueryNumbers = 4;
__host__ __device__ inline int64_t work_of_pair(int64_t max_regions, int64_t max_words) {
  return kGradientTiles * max_regions * (max_words | 1) + kQueryNumbers * (max_regions > max_words ? max_regions : max_words);
}

constexpr int kPairThreads = 128;

// <region i, word j> for 4 x 4 of them, by one warp; those beyond the ends repeat the last.
__device__ __forceinline__ void dot_block(const Rows& regions, int64_t first_region, int64_t m, const Rows& words,
                                          int64_t first_word, int64_t n, int64_t r, int64_t w, int lane, float* tile,
                                          int64_t pitch) {
  constexpr int size = 4;
  int64_t region[size], word[size];
  float sum[size][size] = {};
  HA_UNROLL
  for (int i = 0; i < size; ++i) {
    region[i] = first_region + (r + i < m ? r + i : m - 1);
    word[i] = first_word + (w + i < n ? w + i : n - 1);
  }
  for (int64_t column = lane * 4; column < regions.dim; column += kLanes * 4) {
    float x[size][4], y[size][4];
    HA_UNROLL
    for (int i = 0; i < size; ++i) {
      read_elements(regions, region[i], column, x[i]);
      read_elements(words, word[i], column, y[i]);
    }
    HA_UNROLL
    for (int i = 0; i < size; ++i)
      HA_UNROLL
      for (int j = 0; j < size; ++j)
        HA_UNROLL
        for (int e = 0; e < 4; ++e) sum[i][j] += x[i][e] * y[j][e];
  }
  HA_UNROLL
  for (int i = 0; i < size; ++i)
    HA_UNROLL
    for (int j = 0; j < size; ++j) {
      const float dot = warp_sum(sum[i][j]) * scale_of(regions, region[i]) * scale_of(words, word[j]);
      if (lane == 0 && r + i < m && w + j < n) tile[(r + i) * pitch + w + j] = dot;
    }
}

// The sides of one direction within a tile: query q and context i meet at q * query_step + i * context_step.
struct GradientWay {
  int64_t n_queries, n_contexts, query_step, context_step;
  const uint8_t* keep;
  const float* factor;
  int64_t rank;
  const float* query_lengths;
};

struct GradientWork {
  float *cosines, *gradient, *weights, *pull;
  float *query_cosine, *query_length, *query_floored, *slope;
};

// Adds a direction's part to work.gradient; leaves P in work.weights. c and k of query q go to attended[q], query[q].
__device__ inline void one_way_gradient(const FocalSettings& s, const GradientWay& way, const GradientWork& work,
                                        float pair_slope, float* attended, float* query) {
  const int64_t n = way.n_queries, m = way.n_contexts;
  for (int64_t i = threadIdx.x; i < m; i += kPairThreads) {
    const Column<const float> cosines{work.cosines + i * way.context_step, way.query_step};
    const Column<float> logits{work.weights + i * way.context_step, way.query_step};
    const QueryAxis<float> axis = query_axis<float>(s, n, cosines);
    for (int64_t j = 0; j < n; ++j) logits[j] = logit_of<float>(s, axis, cosines[j]);
  }
  __syncthreads();
  for (int64_t q = threadIdx.x; q < n; q += kPairThreads) {
    const int64_t at = q * way.query_step;
    const AttendedQuery<float> found = attended_query<float>(
        s, m, Column<float>{work.weights + at, way.context_step},
        Column<const float>{work.cosines + at, way.context_step}, Column<float>{work.pull + at, way.context_step},
        way.keep, way.factor, way.rank, way.query_lengths[q]);
    work.query_cosine[q] = found.cosine;
    work.query_length[q] = found.length;
    work.query_floored[q] = found.floored;
  }
  __syncthreads();
  const AggregateAxis axis = aggregate_axis(s, n, work.query_cosine);
  for (int64_t q = threadIdx.x; q < n; q += kPairThreads) {
    const int64_t at = q * way.query_step;
    const AttendedQuery<float> found{work.query_cosine[q], work.query_length[q], work.query_floored[q]};
    const LengthGradient<float> lengths = attended_query_gradient<float>(
        m, Column<const float>{work.weights + at, way.context_step},
        Column<const float>{work.cosines + at, way.context_step}, Column<float>{work.pull + at, way.context_step},
        found, way.query_lengths[q], pair_slope * aggregate_slope(s, axis, found.cosine),
        Column<float>{work.gradient + at, way.context_step});
    attended[q] = lengths.attended;
    query[q] = lengths.query;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < m; i += kPairThreads) {
    const int64_t at = i * way.context_step;
    query_axis_gradient<float>(s, n, Column<const float>{work.cosines + at, way.query_step},
                               Column<const float>{work.pull + at, way.query_step},
                               Column<float>{work.gradient + at, way.query_step});
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kPairThreads) pair_gradient_kernel(FocalGradientParameters p) {
  HA_SHARED_MEMORY(shared);
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int64_t pair = blockIdx.x; pair < p.pairs; pair += gridDim.x) {
    const int64_t image = pair / p.chunk_texts, text = p.first_text + pair % p.chunk_texts;
    const float slope = p.slopes[image * p.n_texts + text];
    const int64_t first_region = p.regions.start(image), m = p.regions.start(image + 1) - first_region;
    const int64_t first_word = p.words.start(text), n = p.words.start(text + 1) - first_word;
    if (slope == 0.0f || m == 0 || n == 0) continue;
    const int64_t pitch = n | 1, tile = m * pitch, longer = m > n ? m : n;
    float* base = p.workspace == nullptr ? reinterpret_cast<float*>(shared)
                                         : p.workspace + blockIdx.x * work_of_pair(p.max_regions, p.max_words);
    float* numbers = base + kGradientTiles * tile;
    const GradientWork work{base,    base + tile,      base + 2 * tile,      base + 3 * tile,
                            numbers, numbers + longer, numbers + 2 * longer, numbers + 3 * longer};
    const int64_t word_blocks = (n + 3) / 4, blocks = (m + 3) / 4 * word_blocks;
    for (int64_t k = warp; k < blocks; k += kPairThreads / kLanes)
      dot_block(p.regions, first_region, m, p.words, first_word, n, k / word_blocks * 4, k % word_blocks * 4, lane,
                work.cosines, pitch);
    for (int64_t k = threadIdx.x; k < tile; k += kPairThreads) work.gradient[k] = 0.0f;
    __syncthreads();
    const int64_t column = (text - p.first_text) * p.max_words, columns = p.columns();
    const auto write = [&](const float* from, float* to) {
      for (int64_t k = threadIdx.x; k < m * n; k += kPairThreads)
        to[(first_region + k / n) * columns + column + k % n] = from[k / n * pitch + k % n];
    };
    if (p.weights_t2i != nullptr) {
      const uint8_t* keep = p.keep == nullptr ? nullptr : p.keep + first_region;
      bool some = false;
      for (int64_t i = 0; keep != nullptr && i < m; ++i) some = some || keep[i] != 0;
      const GradientWay way{n,
                            m,
                            1,
                            pitch,
                            some ? keep : nullptr,
                            p.image_factors.values + p.image_factors.offsets[image],
                            m < p.regions.dim ? m : p.regions.dim,
                            p.word_lengths + first_word};
      float* attended = p.shares_t2i + image * columns + column;
      one_way_gradient(p.settings, way, work, slope, attended, attended + p.images() * columns);
      write(work.weights, p.weights_t2i);
      __syncthreads();
    }
    if (p.weights_i2t != nullptr) {
      const GradientWay way{m,
                            n,
                            pitch,
                            1,
                            nullptr,
                            p.text_factors.values + p.text_factors.offsets[text],
                            n < p.regions.dim ? n : p.regions.dim,
                            p.region_lengths + first_region};
      const int64_t total = p.regions.start(p.images());
      float* attended = p.shares_i2t + (text - p.first_text) * total + first_region;
      one_way_gradient(p.settings, way, work, slope, attended, attended + p.chunk_texts * total);
      write(work.weights, p.weights_i2t);
    }
    write(work.gradient, p.gradient);
    __syncthreads();  // before the next pair takes the tiles
  }
}

}  // namespace heritage_align::cuda
