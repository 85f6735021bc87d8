// Patch-weighted similarity of single pairs on Hopper: each block reads its pairs' patches as one stream. One thread
// keeps four bulk copies of up to 32 KB under way, also across pairs, while eight warps score what has come.
#include "hopper.h"
#include "hopper_ptx.cuh"

namespace heritage_align::hopper {

namespace {

constexpr int kWarps = 8;
constexpr int kScorers = kWarps * kLanes;
constexpr int kThreadsOfBlock = kScorers + kLanes;  // the last warp feeds
constexpr int kFeeds = 4;
constexpr int kFeedBytes = 32 * 1024;

struct Parameters {
  RerankParameters rerank;
  int rows_of_feed;  // patches of one copy
};

inline size_t shared_bytes(int64_t dim) { return kFeeds * kFeedBytes + 256 + (dim + 16) * sizeof(float); }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Shared {
  Barrier full[kFeeds], empty[kFeeds];
  Pool<float> pools[kWarps];
};
static_assert(sizeof(Shared) <= 256 && sizeof(Shared) % 16 == 0, "the query follows, read 16 bytes at a time");

struct Pair {
  int64_t position, first, patches;  // patches = 0: no such image, or an empty one
};

__device__ __forceinline__ Pair pair_of(const RerankParameters& p, int64_t task) {
  const int64_t position = p.tasks.pair_order[task], image = p.tasks.candidates[position];
  if (image < 0 || image >= p.patches.items) return {position, 0, 0};
  const int64_t first = p.patches.start(image);
  return {position, first, p.patches.start(image + 1) - first};
}

__device__ __forceinline__ void feed(const Parameters& parameters, unsigned char* feeds, Shared& shared,
                                     int row_bytes) {
  const RerankParameters& p = parameters.rerank;
  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const Pair pair = pair_of(p, task);
    const auto* from = static_cast<const unsigned char*>(p.patches.values) + pair.first * row_bytes;
    for (int64_t patch = 0; patch < pair.patches; patch += parameters.rows_of_feed, ++step) {
      const int64_t left = pair.patches - patch;
      const auto bytes = static_cast<uint32_t>(
          (left < parameters.rows_of_feed ? left : int64_t{parameters.rows_of_feed}) * row_bytes);
      const int slot = step % kFeeds;
      shared.empty[slot].wait((step / kFeeds & 1) ^ 1);
      shared.full[slot].arrive_expecting(bytes);
      copy_bulk(feeds + slot * kFeedBytes, from + patch * row_bytes, bytes, shared.full[slot]);
    }
  }
}

template <Storage storage>
__device__ __forceinline__ void score(const Parameters& parameters, const unsigned char* feeds, Shared& shared,
                                      float* query, int row_bytes) {
  using P = Piece<storage>;
  const RerankParameters& p = parameters.rerank;
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const Pair pair = pair_of(p, task);
    if (pair.patches == 0) {
      if (p.mix && threadIdx.x == 0) p.scores[pair.position] = -INFINITY;
      continue;
    }
    const int64_t text = pair.position / p.tasks.candidates_per_text;
    named_barrier<kScorers>(1);  // the pair before no longer needs the query
    for (int64_t d = threadIdx.x; d < p.queries.dim; d += kScorers) query[d] = element_of(p.queries, text, d);
    named_barrier<kScorers>(1);
    Pool<float> pool = empty_pool(0.0f);
    for (int64_t first = 0; first < pair.patches; first += parameters.rows_of_feed, ++step) {
      const int slot = step % kFeeds;
      const int64_t left = pair.patches - first;
      const int rows = left < parameters.rows_of_feed ? static_cast<int>(left) : parameters.rows_of_feed;
      shared.full[slot].wait(step / kFeeds & 1);
      for (int row = warp * kRowsAtOnce; row < rows; row += kWarps * kRowsAtOnce) {
        float sum[kRowsAtOnce] = {};
        add_products<storage>(sum, query, p.patches.dim, lane, [&](int i, int64_t column) {
          const int own = row + i < rows ? row + i : rows - 1;
          return *reinterpret_cast<const P*>(feeds + slot * kFeedBytes + own * row_bytes +
                                             column * sizeof(typename P::Type));
        });
        HA_UNROLL
        for (int i = 0; i < kRowsAtOnce; ++i) {
          const float total = warp_sum(sum[i]);
          const int64_t patch = pair.first + first + row + i;
          if (row + i < rows)
            pool_add(p.settings, pool, total * scale_of(p.patches, patch),
                     p.weights == nullptr ? 0.0f : p.weights[patch]);
        }
      }
      __syncwarp();
      if (lane == 0) shared.empty[slot].arrive();
    }
    if (lane == 0) shared.pools[warp] = pool;
    named_barrier<kScorers>(1);
    if (threadIdx.x == 0) {
      Pool<float> all = shared.pools[0];
      for (int w = 1; w < kWarps; ++w) all = pool_merge(p.settings, all, shared.pools[w]);
      const float value = pooled(p.settings, all, pair.patches);
      p.scores[pair.position] = p.mix ? mixed(p.settings, value, p.scores[pair.position]) : value;
    }
  }
}

#endif

template <Storage storage>
__global__ void __launch_bounds__(kThreadsOfBlock) rerank_pairs_kernel(Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  HA_SHARED_MEMORY(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory + kFeeds * kFeedBytes);
  float* query = reinterpret_cast<float*>(memory + kFeeds * kFeedBytes + 256);
  const int row_bytes = static_cast<int>(p.rerank.patches.dim * sizeof(typename Element<storage>::Type));
  if (threadIdx.x == 0) {
    for (int s = 0; s < kFeeds; ++s) {
      shared.full[s].start(1);
      shared.empty[s].start(kWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kScorers) {
    score<storage>(p, memory, shared, query, row_bytes);
  } else if (threadIdx.x == kScorers) {
    feed(p, memory, shared, row_bytes);
  }
#endif
}

}  // namespace

bool score_pairs(const Device& device, const RerankParameters& p) {
  const int64_t row_bytes = p.patches.dim * element_size(p.patches.storage);
  const bool contiguous = p.patches.stride == p.patches.dim && p.patches.aligned && row_bytes % 16 == 0;
  if (!asked_for() || !contiguous || row_bytes == 0 || row_bytes > kFeedBytes || p.tasks.count == 0 ||
      !device.is_hopper())
    return false;
  const Parameters parameters{p, static_cast<int>(kFeedBytes / row_bytes)};
  const int64_t blocks = std::min<int64_t>(p.tasks.count, device.multiprocessors());
  const auto launch = [&](void (*kernel)(Parameters)) {
    device.launch(kernel, blocks, kThreadsOfBlock, shared_bytes(p.patches.dim), parameters);
  };
  switch (p.patches.storage) {
    case Storage::f32:
      launch(rerank_pairs_kernel<Storage::f32>);
      break;
    case Storage::f16:
      launch(rerank_pairs_kernel<Storage::f16>);
      break;
    case Storage::bf16:
      launch(rerank_pairs_kernel<Storage::bf16>);
      break;
    case Storage::i8:
      launch(rerank_pairs_kernel<Storage::i8>);
      break;
  }
  return true;
}

}  // namespace heritage_align::hopper
