// The gradient of focal attention on CUDA, second part: what the pairs left (focal_gradient_pair.cuh) is spread over the
// rows, V' = sum C' Q + square V, each item's pairs in order.
#pragma once

#include "focal_gradient_pair.cuh"

namespace heritage_align::cuda {

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
