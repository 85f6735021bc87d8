// The ops fold_patches and triangular_factor on CUDA: one block an image.
#include "ops.h"
#include "tensors.cuh"

namespace heritage_align::cuda {
namespace {

constexpr int kImageThreads = 256;
constexpr int kImageWarps = kImageThreads / kLanes;
constexpr size_t kImageBytes = kImageWarps * sizeof(double);

struct FoldParameters {
  Rows global, patches;  // one row of `global` an image
  float temperature;     // 0: the weights are the similarities themselves
  bool renormalise;
  float* weights;        // room for one number a patch
  float* folded;         // (images, dim)
};

struct Larger {
  __device__ float operator()(float a, float b) const { return larger(a, b); }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

// Combines a number of every thread, in the same order in every run; `scratch` holds one number a warp. Has two
// barriers.
template <class Combine>
__device__ __forceinline__ float combine_block(float x, float* scratch, Combine combine) {
  for (int step = kLanes / 2; step > 0; step /= 2) x = combine(x, __shfl_xor_sync(kAllLanes, x, step));
  __syncthreads();
  if (threadIdx.x % kLanes == 0) scratch[threadIdx.x / kLanes] = x;
  __syncthreads();
  x = scratch[0];
  for (int w = 1; w < kImageWarps; ++w) x = combine(x, scratch[w]);
  return x;
}

__global__ void __launch_bounds__(kImageThreads) fold_patches_kernel(FoldParameters p) {
  HA_SHARED_MEMORY(shared);
  auto* scratch = reinterpret_cast<float*>(shared);
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int64_t dim = p.patches.dim;
  for (int64_t image = blockIdx.x; image < p.patches.items; image += gridDim.x) {
    const int64_t first = p.patches.start(image), m = p.patches.start(image + 1) - first;
    float* weights = p.weights + first;
    for (int64_t j = warp; j < m; j += kImageWarps) {
      float dot = 0.0f;
      for (int64_t d = lane; d < dim; d += kLanes)
        dot += element_of(p.global, image, d) * element_of(p.patches, first + j, d);
      dot = warp_sum(dot) * scale_of(p.patches, first + j);
      if (lane == 0) weights[j] = dot;
    }
    __syncthreads();
    float mass = 1.0f;
    if (p.temperature > 0.0f) {
      float top = -INFINITY;
      for (int64_t j = threadIdx.x; j < m; j += kImageThreads) top = larger(top, weights[j]);
      top = combine_block(top, scratch, Larger{});
      float sum = 0.0f;
      for (int64_t j = threadIdx.x; j < m; j += kImageThreads) {
        weights[j] = expf((weights[j] - top) / p.temperature);
        sum += weights[j];
      }
      mass = combine_block(sum, scratch, Sum{});  // its barriers make the weights known to all
    }
    float squares = 0.0f;
    for (int64_t d = threadIdx.x; d < dim; d += kImageThreads) {
      float sum = 0.0f;
      for (int64_t j = 0; j < m; ++j)
        sum += weights[j] * scale_of(p.patches, first + j) * element_of(p.patches, first + j, d);
      sum = m == 0 ? 0.0f : sum / mass;
      p.folded[image * dim + d] = sum;
      squares += sum * sum;
    }
    if (p.renormalise) {
      const float length = sqrtf(combine_block(squares, scratch, Sum{}));
      for (int64_t d = threadIdx.x; d < dim; d += kImageThreads)
        p.folded[image * dim + d] /= larger(length, 1e-12f);
    }
  }
}

struct FactorParameters {
  Rows rows;
  const int64_t* starts;  // of the items' triangles
  double* triangles;      // packed_size of them: the Gram matrices, then the factors
  double* squares;        // one a row
  float* packed;
};

// Cholesky of the Gram matrix in float64: products of two float32 are exact there, so R^T R = V V^T to about 1e-16.
__global__ void __launch_bounds__(kImageThreads) triangular_factor_kernel(FactorParameters p) {
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int64_t item = blockIdx.x; item < p.rows.items; item += gridDim.x) {
    const int64_t first = p.rows.start(item), m = p.rows.start(item + 1) - first;
    double* g = p.triangles + p.starts[item];
    for (int64_t pair = warp; pair < m * m; pair += kImageWarps) {
      const int64_t i = pair / m, j = pair % m;
      if (j < i) continue;
      const float scale_i = scale_of(p.rows, first + i), scale_j = scale_of(p.rows, first + j);
      double dot = 0.0;
      for (int64_t d = lane; d < p.rows.dim; d += kLanes)
        dot += static_cast<double>(element_of(p.rows, first + i, d) * scale_i) *
               static_cast<double>(element_of(p.rows, first + j, d) * scale_j);
      dot = warp_sum(dot);
      if (lane == 0) {
        g[triangle_row(i, m) + j - i] = dot;
        if (i == j) p.squares[first + i] = dot;
      }
    }
    for (int64_t r = 0; r < m; ++r) {
      __syncthreads();  // row r is as the rows before it left it
      double* row = g + triangle_row(r, m) - r;
      const double pivot = row[r];
      // Rounding leaves about dim * 1e-16 of the square where exact arithmetic leaves 0.
      const bool dependent = !(pivot > 1e-14 * p.squares[first + r]);
      const double root = dependent ? 0.0 : sqrt(pivot);
      __syncthreads();  // all have read the pivot
      for (int64_t c = r + threadIdx.x; c < m; c += kImageThreads) {
        const double value = dependent ? 0.0 : c == r ? root : row[c] / root;
        row[c] = value;
        p.packed[p.starts[item] + triangle_row(r, m) + c - r] = static_cast<float>(value);
      }
      __syncthreads();
      if (dependent) continue;
      for (int64_t i = r + 1 + warp; i < m; i += kImageWarps) {
        double* other = g + triangle_row(i, m) - i;
        for (int64_t c = i + lane; c < m; c += kLanes) other[c] -= row[i] * row[c];
      }
    }
  }
}

}  // namespace

Tensor fold_patches(Tensor global_features, Tensor patches, Maybe patch_scales, Tensor patch_offsets,
                    double temperature, bool renormalise, int64_t /*max_patches*/) {
  const Device device(patches);
  const Rows rows = rows_of(patches, patch_scales, patch_offsets);
  Tensor folded = new_tensor(patches, {rows.items, rows.dim}, ScalarType::Float);
  Tensor weights = new_tensor(patches, {patches.size(0)}, ScalarType::Float);
  device.launch(fold_patches_kernel, blocks_for(rows.items), kImageThreads, kImageBytes,
                FoldParameters{rows_of(global_features, std::nullopt, std::nullopt), rows,
                               static_cast<float>(temperature), renormalise,
                               static_cast<float*>(weights.mutable_data_ptr()),
                               static_cast<float*>(folded.mutable_data_ptr())});
  return folded;
}

Tensor triangular_factor(Tensor values, Maybe scales, Tensor offsets, Tensor factor_offsets, int64_t packed_size) {
  const Device device(values);
  const Rows rows = rows_of(values, scales, offsets);
  Tensor packed = new_tensor(values, {packed_size}, ScalarType::Float);
  Tensor triangles = new_tensor(values, {packed_size}, ScalarType::Double);
  Tensor squares = new_tensor(values, {values.size(0)}, ScalarType::Double);
  device.launch(triangular_factor_kernel, blocks_for(rows.items), kImageThreads, 0,
                FactorParameters{rows, static_cast<const int64_t*>(factor_offsets.const_data_ptr()),
                                 static_cast<double*>(triangles.mutable_data_ptr()),
                                 static_cast<double*>(squares.mutable_data_ptr()),
                                 static_cast<float*>(packed.mutable_data_ptr())});
  return packed;
}

}  // namespace heritage_align::cuda
