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

// An item and the items of the other side; `k` in 0 .. others counts those.
template <bool of_images>
struct Partners {
  const FocalGradientParameters& p;
  int64_t item;

  __device__ int64_t others() const { return of_images ? p.chunk_texts : p.images(); }
  __device__ bool has_gradient(int64_t k) const {
    if (k >= others()) return false;
    return of_images ? p.slopes[item * p.n_texts + p.first_text + k] != 0.0f
                     : p.slopes[k * p.n_texts + p.first_text + item] != 0.0f;
  }
  __device__ const Rows& own_rows() const { return of_images ? p.regions : p.words; }
  __device__ const Rows& other_rows() const { return of_images ? p.words : p.regions; }
  __device__ int64_t own_item() const { return of_images ? item : p.first_text + item; }
  __device__ int64_t other_item(int64_t k) const { return of_images ? p.first_text + k : k; }
  __device__ int64_t max_own() const { return of_images ? p.max_regions : p.max_words; }
  // Where own row r and row j of other k meet in an array of the chunk: at(k) + r * own_step + j * other_step.
  __device__ int64_t at(int64_t k) const {
    return of_images ? p.regions.start(item) * p.columns() + k * p.max_words
                     : p.regions.start(k) * p.columns() + item * p.max_words;
  }
  __device__ int64_t own_step() const { return of_images ? p.columns() : 1; }
  __device__ int64_t other_step() const { return of_images ? 1 : p.columns(); }
  // c of the other's queries, where own rows are contexts: P of that direction with it.
  __device__ const float* weights() const { return of_images ? p.weights_t2i : p.weights_i2t; }
  __device__ const float* attended(int64_t k) const {
    return of_images ? p.shares_t2i + item * p.columns() + k * p.max_words
                     : p.shares_i2t + item * p.regions.start(p.images()) + p.regions.start(k);
  }
  // k of own rows, where they are queries; null without that direction.
  __device__ const float* own_share(int64_t k) const {
    if (of_images) {
      const int64_t total = p.regions.start(p.images());
      return p.shares_i2t == nullptr ? nullptr : p.shares_i2t + (p.chunk_texts + k) * total + p.regions.start(item);
    }
    return p.shares_t2i == nullptr ? nullptr : p.shares_t2i + (p.images() + k) * p.columns() + item * p.max_words;
  }
  __device__ float* square() const {
    return (of_images ? p.image_squares : p.text_squares) + item * max_own() * max_own();
  }
};

// The same `use(k)` in all threads of the block, for the others with a gradient, in order.
template <class Partners, class Use>
__device__ __forceinline__ void for_each_partner(const Partners& partners, const Use& use) {
  for (int64_t k = 0; k < partners.others(); k += kLanes) {
    const unsigned some = __ballot_sync(kAllLanes, partners.has_gradient(k + threadIdx.x % kLanes));
    for (int b = 0; b < kLanes; ++b)
      if (some >> b & 1) use(k + b);
  }
}

constexpr int kSquareThreads = 256;

template <bool of_images>
__global__ void __launch_bounds__(kSquareThreads) squares_kernel(FocalGradientParameters p) {
  const Partners<of_images> partners{p, static_cast<int64_t>(blockIdx.x)};
  const int64_t own = partners.own_item(), rows = partners.own_rows().start(own + 1) - partners.own_rows().start(own);
  float* square = partners.square();
  for (int64_t k = threadIdx.x; k < rows * rows; k += kSquareThreads) square[k / rows * partners.max_own() + k % rows] = 0.0f;
  for_each_partner(partners, [&](int64_t other) {
    const int64_t item = partners.other_item(other);
    const int64_t n = partners.other_rows().start(item + 1) - partners.other_rows().start(item);
    const float* share = partners.own_share(other);
    const int64_t step = partners.other_step();
    for (int64_t k = threadIdx.x; n > 0 && k < rows * rows; k += kSquareThreads) {
      const int64_t r = k / rows, c = k % rows;
      float sum = share != nullptr && r == c ? share[r] : 0.0f;
      if (partners.weights() != nullptr) {
        const float* weights = partners.weights() + partners.at(other);
        const float *one = weights + r * partners.own_step(), *two = weights + c * partners.own_step();
        const float* attended = partners.attended(other);
        for (int64_t j = 0; j < n; ++j) sum += attended[j] * one[j * step] * two[j * step];
      }
      square[r * partners.max_own() + c] += sum;
    }
  });
}

constexpr int kSpreadThreads = 64, kSpreadRows = 8, kSpreadColumns = 4, kSpreadInner = 32;

struct SpreadParameters {
  FocalGradientParameters gradient;
  float* out;           // (rows of the side, dim)
  bool add;             // to what earlier chunks of texts left
  int64_t row_blocks, column_blocks;
};

template <bool of_images>
__global__ void __launch_bounds__(kSpreadThreads) spread_kernel(SpreadParameters spread) {
  HA_SHARED_MEMORY(shared);
  auto* coefficients = reinterpret_cast<float*>(shared);  // (kSpreadInner, kSpreadRows)
  const FocalGradientParameters& p = spread.gradient;
  const int64_t item = blockIdx.x / (spread.row_blocks * spread.column_blocks);
  const int64_t block = blockIdx.x % (spread.row_blocks * spread.column_blocks);
  const Partners<of_images> partners{p, item};
  const Rows &own = partners.own_rows(), &other = partners.other_rows();
  const int64_t first = own.start(partners.own_item()), rows = own.start(partners.own_item() + 1) - first;
  const int64_t row = block / spread.column_blocks * kSpreadRows, dim = own.dim;
  const int64_t column = (block % spread.column_blocks * kSpreadThreads + threadIdx.x) * kSpreadColumns;
  if (row >= rows) return;
  const int64_t here = rows - row < kSpreadRows ? rows - row : kSpreadRows;
  float sum[kSpreadRows][kSpreadColumns] = {};
  // sum += coefficients (own row r, row j of `from`) times those rows.
  const auto add = [&](const float* at, int64_t own_step, int64_t other_step, const Rows& from, int64_t first_of,
                       int64_t count) {
    for (int64_t j = 0; j < count; j += kSpreadInner) {
      const int64_t inner = count - j < kSpreadInner ? count - j : kSpreadInner;
      __syncthreads();
      for (int64_t k = threadIdx.x; k < inner * kSpreadRows; k += kSpreadThreads) {
        const int64_t r = k % kSpreadRows, i = j + k / kSpreadRows;
        coefficients[k] = r < here ? at[(row + r) * own_step + i * other_step] : 0.0f;
      }
      __syncthreads();
      for (int64_t k = 0; k < inner && column < dim; ++k) {
        float x[kSpreadColumns];
        read_elements(from, first_of + j + k, column, x);
        const float scale = scale_of(from, first_of + j + k);
        HA_UNROLL
        for (int r = 0; r < kSpreadRows; ++r) {
          const float coefficient = coefficients[k * kSpreadRows + r] * scale;
          HA_UNROLL
          for (int e = 0; e < kSpreadColumns; ++e) sum[r][e] += coefficient * x[e];
        }
      }
    }
  };
  for_each_partner(partners, [&](int64_t k) {
    const int64_t start = other.start(partners.other_item(k));
    add(p.gradient + partners.at(k), partners.own_step(), partners.other_step(), other, start,
        other.start(partners.other_item(k) + 1) - start);
  });
  add(partners.square(), partners.max_own(), 1, own, first, rows);
  for (int64_t r = 0; r < here; ++r)
    for (int e = 0; e < kSpreadColumns; ++e)
      if (column + e < dim) {
        float* to = spread.out + (first + row + r) * dim + column + e;
        *to = spread.add ? *to + sum[r][e] : sum[r][e];
      }
}

// Gradients of candidate lists as those of all pairs, (images, texts), which are 0 before. One thread a text.
struct ListedSlopes {
  const int64_t* candidates;
  const float* listed;
  int64_t n_texts, per_text, n_images;
  float* slopes;
};

constexpr int kListThreads = 128;

__global__ void __launch_bounds__(kListThreads) listed_slopes_kernel(ListedSlopes p) {
  const int64_t text = static_cast<int64_t>(blockIdx.x) * kListThreads + threadIdx.x;
  if (text >= p.n_texts) return;
  for (int64_t k = 0; k < p.per_text; ++k) {
    const int64_t image = p.candidates[text * p.per_text + k];
    if (image >= 0 && image < p.n_images) p.slopes[image * p.n_texts + text] += p.listed[text * p.per_text + k];
  }
}

}  // namespace heritage_align::cuda
