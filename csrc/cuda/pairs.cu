// Candidate pairs, image by image: three small kernels (pairs.cuh).
#include "tensors.cuh"

namespace heritage_align {
namespace {

constexpr int kOrderThreads = 256;
constexpr int kScanThreads = 1024;
constexpr int kScanItems = 4;  // consecutive images of a thread

struct PairParameters {
  const int64_t* candidates;
  int64_t pairs, n_images;
  unsigned long long* next;  // of each image: its texts, then the place of its next pair
  int64_t *order, *starts, *images, *count;
  float* scores;             // where a pair of no image scores -inf; or null
};

__device__ __forceinline__ int64_t pair_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * kOrderThreads + threadIdx.x;
}

__global__ void __launch_bounds__(kOrderThreads) count_pairs_kernel(PairParameters p) {
  const int64_t pair = pair_of_thread();
  if (pair >= p.pairs) return;
  const int64_t image = p.candidates[pair];
  if (image >= 0 && image < p.n_images) {
    atomicAdd(p.next + image, 1ull);
  } else if (p.scores != nullptr) {
    p.scores[pair] = -INFINITY;
  }
}

// The sum over the threads before this one; `total` becomes that over all. `scratch` holds a number a warp.
__device__ __forceinline__ int64_t sum_before(int64_t x, int64_t* scratch, int64_t& total) {
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  int64_t to_here = x;
  for (int step = 1; step < kLanes; step *= 2) {
    const int64_t before = __shfl_up_sync(kAllLanes, to_here, step);
    if (lane >= step) to_here += before;
  }
  __syncthreads();
  if (lane == kLanes - 1) scratch[warp] = to_here;
  __syncthreads();
  int64_t sum = to_here - x;
  total = 0;
  for (int w = 0; w < kScanThreads / kLanes; ++w) {
    if (w < warp) sum += scratch[w];
    total += scratch[w];
  }
  return sum;
}

// One block: with as many pairs as a quarter of the images (order_if_worth_it) this is small beside reading them.
__global__ void __launch_bounds__(kScanThreads) scan_pairs_kernel(PairParameters p) {
  HA_SHARED_MEMORY(shared);
  auto* scratch = reinterpret_cast<int64_t*>(shared);
  int64_t pairs = 0, images = 0;  // of all rounds before
  for (int64_t base = 0; base < p.n_images; base += kScanThreads * kScanItems) {
    const int64_t first = base + threadIdx.x * kScanItems;
    int64_t texts[kScanItems], own_pairs = 0, own_images = 0;
    HA_UNROLL
    for (int i = 0; i < kScanItems; ++i)
      texts[i] = first + i < p.n_images ? static_cast<int64_t>(p.next[first + i]) : 0;
    HA_UNROLL
    for (int i = 0; i < kScanItems; ++i) {
      own_pairs += texts[i];
      own_images += texts[i] > 0;
    }
    int64_t all_pairs, all_images;
    int64_t place = pairs + sum_before(own_pairs, scratch, all_pairs);
    int64_t image = images + sum_before(own_images, scratch, all_images);
    HA_UNROLL
    for (int i = 0; i < kScanItems; ++i) {
      if (first + i >= p.n_images) break;
      p.starts[first + i] = place;
      p.next[first + i] = static_cast<unsigned long long>(place);
      if (texts[i] > 0) p.images[image++] = first + i;
      place += texts[i];
    }
    pairs += all_pairs;
    images += all_images;
  }
  if (threadIdx.x == 0) {
    p.starts[p.n_images] = pairs;
    *p.count = images;
  }
}

__global__ void __launch_bounds__(kOrderThreads) place_pairs_kernel(PairParameters p) {
  const int64_t pair = pair_of_thread();
  if (pair >= p.pairs) return;
  const int64_t image = p.candidates[pair];
  if (image >= 0 && image < p.n_images) p.order[atomicAdd(p.next + image, 1ull)] = pair;
}

}  // namespace

PairOrder order_pairs(const Device& device, const Tensor& candidates, int64_t n_images, float* scores,
                      Maybe& memory) {
  const int64_t pairs = candidates.size(0) * candidates.size(1), images = std::min(pairs, n_images);
  memory = new_tensor(candidates, {pairs + 2 * n_images + images + 2}, ScalarType::Long);
  auto* order = static_cast<int64_t*>(memory->mutable_data_ptr());
  int64_t *next = order + pairs, *starts = next + n_images, *asked = starts + n_images + 1, *count = asked + images;
  const PairParameters p{static_cast<const int64_t*>(candidates.const_data_ptr()),
                         pairs,
                         n_images,
                         reinterpret_cast<unsigned long long*>(next),
                         order,
                         starts,
                         asked,
                         count,
                         scores};
  const int64_t blocks = blocks_for((pairs + kOrderThreads - 1) / kOrderThreads);
  device.clear(next, n_images * sizeof(int64_t));
  device.launch(count_pairs_kernel, blocks, kOrderThreads, 0, p);
  device.launch(scan_pairs_kernel, 1, kScanThreads, kScanThreads / kLanes * sizeof(int64_t), p);
  device.launch(place_pairs_kernel, blocks, kOrderThreads, 0, p);
  return {order, starts, asked, count};
}

}  // namespace heritage_align
