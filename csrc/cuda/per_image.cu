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

// Patches as they lie in a store: rows of whole pieces of 16 bytes, kPieces of them in each lane. They are read once:
// a row's weight and its part of the sum come from the same registers, a softmax goes on as in
// epilogue/patch_weighted.h (a running maximum, and what was summed so far shrinks when it grows). The warps' sums are
// added at the end.
template <Storage storage, int kPieces>
__global__ void __launch_bounds__(kImageThreads, kPieces * Wide<storage>::kSize <= 16 ? 2 : 1)
    fold_rows_kernel(FoldParameters p) {
  HA_SHARED_MEMORY(shared);
  constexpr int size = Wide<storage>::kSize, at_once = kPieces > 2 ? 2 : 4;
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int64_t image = blockIdx.x, dim = p.patches.dim;
  const int64_t first = p.patches.start(image), m = p.patches.start(image + 1) - first;
  auto* scratch = reinterpret_cast<float*>(shared);         // one number a warp
  float *tops = scratch + kImageWarps, *masses = tops + kImageWarps, *sums = masses + kImageWarps;

  float whole[kPieces][size], sum[kPieces][size] = {};
  HA_UNROLL
  for (int i = 0; i < kPieces; ++i) read_elements(p.global, image, (i * kLanes + lane) * size, whole[i]);
  const float inverse_temperature = p.temperature > 0.0f ? 1.0f / p.temperature : 0.0f;
  float top = -3.0e38f, mass = 0.0f;
  for (int64_t row = warp * at_once; row < m; row += kImageWarps * at_once) {
    Sixteen piece[at_once][kPieces];
    HA_UNROLL
    for (int r = 0; r < at_once; ++r)
      HA_UNROLL
      for (int i = 0; i < kPieces; ++i) {
        const int64_t column = (i * kLanes + lane) * size;
        piece[r][i] = Sixteen{};
        if (row + r < m && column < dim) piece[r][i] = load_once(row_of<storage>(p.patches, first + row + r) + column);
      }
    float weight[at_once];
    HA_UNROLL
    for (int r = 0; r < at_once; ++r) {
      float dot = 0.0f;
      HA_UNROLL
      for (int i = 0; i < kPieces; ++i) {
        const Wide<storage> wide(piece[r][i]);
        HA_UNROLL
        for (int e = 0; e < size; ++e) dot += wide.x[e] * whole[i][e];
      }
      weight[r] = warp_sum(dot) * (row + r < m ? scale_of(p.patches, first + row + r) : 0.0f);
    }
    if (p.temperature > 0.0f) {
      float larger_top = top;
      HA_UNROLL
      for (int r = 0; r < at_once; ++r)
        if (row + r < m) larger_top = larger(larger_top, weight[r]);
      const float shrunk = quick_exp((top - larger_top) * inverse_temperature);
      top = larger_top;
      mass *= shrunk;
      HA_UNROLL
      for (int i = 0; i < kPieces; ++i)
        HA_UNROLL
        for (int e = 0; e < size; ++e) sum[i][e] *= shrunk;
      HA_UNROLL
      for (int r = 0; r < at_once; ++r) {
        weight[r] = row + r < m ? quick_exp((weight[r] - top) * inverse_temperature) : 0.0f;
        mass += weight[r];
      }
    }
    HA_UNROLL
    for (int r = 0; r < at_once; ++r) {
      const float share = row + r < m ? weight[r] * scale_of(p.patches, first + row + r) : 0.0f;
      HA_UNROLL
      for (int i = 0; i < kPieces; ++i) {
        const Wide<storage> wide(piece[r][i]);
        HA_UNROLL
        for (int e = 0; e < size; ++e) sum[i][e] += share * wide.x[e];
      }
    }
  }
  HA_UNROLL
  for (int i = 0; i < kPieces; ++i)
    HA_UNROLL
    for (int e = 0; e < size; ++e) {
      const int64_t d = (i * kLanes + lane) * size + e;
      if (d < dim) sums[warp * dim + d] = sum[i][e];
    }
  if (lane == 0) {
    tops[warp] = top;
    masses[warp] = mass;
  }
  __syncthreads();
  float share[kImageWarps], all = 1.0f;  // of each warp's sum
  HA_UNROLL
  for (int w = 0; w < kImageWarps; ++w) share[w] = 1.0f;
  if (p.temperature > 0.0f && m > 0) {
    HA_UNROLL
    for (int w = 0; w < kImageWarps; ++w) top = larger(top, tops[w]);
    all = 0.0f;
    HA_UNROLL
    for (int w = 0; w < kImageWarps; ++w) {
      share[w] = quick_exp((tops[w] - top) * inverse_temperature);
      all += share[w] * masses[w];
    }
  }
  float squares = 0.0f;
  for (int64_t d = threadIdx.x; d < dim; d += kImageThreads) {
    float folded = 0.0f;
    HA_UNROLL
    for (int w = 0; w < kImageWarps; ++w) folded += share[w] * sums[w * dim + d];
    folded /= all;
    p.folded[image * dim + d] = folded;
    squares += folded * folded;
  }
  if (p.renormalise) {
    const float length = sqrtf(combine_block(squares, scratch, Sum{}));
    for (int64_t d = threadIdx.x; d < dim; d += kImageThreads) p.folded[image * dim + d] /= larger(length, 1e-12f);
  }
}

// Any rows, and any dim: the similarities first, then their weights, then the sum, from patches read twice.
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

template <Storage storage>
bool fold_rows_of(const Device& device, const FoldParameters& p) {
  constexpr int size = Wide<storage>::kSize;
  const int64_t dim = p.patches.dim, pieces = (dim + kLanes * size - 1) / (kLanes * size);
  if (!p.patches.aligned || dim % size != 0 || pieces < 1 || pieces > 4) return false;
  const auto launch = [&](void (*kernel)(FoldParameters)) {
    device.launch(kernel, blocks_for(p.patches.items), kImageThreads, kImageWarps * (dim + 3) * sizeof(float), p);
    return true;
  };
  if (pieces == 1) return launch(fold_rows_kernel<storage, 1>);
  if (pieces == 2) return launch(fold_rows_kernel<storage, 2>);
  return launch(fold_rows_kernel<storage, 4>);
}

// False, having done nothing, where the rows do not fit.
bool fold_rows(const Device& device, const FoldParameters& p) {
  switch (p.patches.storage) {
    case Storage::f32:
      return fold_rows_of<Storage::f32>(device, p);
    case Storage::f16:
      return fold_rows_of<Storage::f16>(device, p);
    case Storage::bf16:
      return fold_rows_of<Storage::bf16>(device, p);
    default:
      return fold_rows_of<Storage::i8>(device, p);
  }
}

}  // namespace

Tensor fold_patches(Tensor global_features, Tensor patches, Maybe patch_scales, Tensor patch_offsets,
                    double temperature, bool renormalise, int64_t /*max_patches*/) {
  const Device device(patches);
  const Rows rows = rows_of(patches, patch_scales, patch_offsets);
  Tensor folded = new_tensor(patches, {rows.items, rows.dim}, ScalarType::Float);
  FoldParameters p{rows_of(global_features, std::nullopt, std::nullopt),
                   rows,
                   static_cast<float>(temperature),
                   renormalise,
                   nullptr,
                   static_cast<float*>(folded.mutable_data_ptr())};
  if (fold_rows(device, p)) return folded;
  Tensor weights = new_tensor(patches, {patches.size(0)}, ScalarType::Float);
  p.weights = static_cast<float*>(weights.mutable_data_ptr());
  device.launch(fold_patches_kernel, blocks_for(rows.items), kImageThreads, kImageBytes, p);
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
