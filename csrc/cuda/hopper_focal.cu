// Focal attention of all pairs on Hopper: 128 words by 144 regions a tile. One thread feeds shared memory by the
// tensor copy engine; two warpgroups each multiply 64 of the words by all regions (wgmma) and score them with the
// same epilogue as the path for sm_80. float16 and bfloat16; items no longer than a tile.
#include <cstdlib>
#include <cstring>

#include "hopper.h"
#include "hopper_ptx.cuh"
#include "tensor_map.h"

namespace heritage_align::hopper {
namespace {

constexpr int kConsumers = 2;
constexpr int kGroupThreads = 128;
constexpr int kThreadsOfBlock = (1 + kConsumers) * kGroupThreads;
constexpr int kWordBytes = kConsumers * kTileWords * 128;
constexpr int kRegionBytes = kTileRegions * 128;
constexpr int kFeedBytes = kWordBytes + kRegionBytes;
constexpr int kFeeds = 2;
constexpr int kScoreFloats = 2 * kTileWords * kFocalPitch;  // cosines and logits of one warpgroup
constexpr int kSharedBytes = 1024 + kFeeds * kFeedBytes + kConsumers * (kScoreFloats * 4 + kTileBytes) + 128;
static_assert(kSharedBytes <= 227 * 1024, "what a block may have");
static_assert(kFeedBytes % 1024 == 0 && kWordBytes % 1024 == 0, "the swizzle repeats every 1024 bytes");

struct Parameters {
  CUtensorMap words, regions;
  FocalParameters focal;
  Tasks pairs;  // as focal.tasks, but its text groups are pairs of those
  int chunks;
};

struct PackParameters {
  Tasks tasks;
  Rows words;
  uint16_t* packed;  // (text groups * 64, pitch): the words of a group side by side, then zeros
  int64_t pitch;
};

// The words of a group lie anywhere in memory; the copy engine takes rectangles.
__global__ void __launch_bounds__(kThreads) pack_words_kernel(PackParameters p) {
  HA_SHARED_MEMORY(shared);
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  for (int64_t group = blockIdx.x; group < p.tasks.text_groups; group += gridDim.x) {
    start_group<Block>(p.tasks, TextGroups{}, group, p.words, tile);
    for (int w = threadIdx.x / kLanes; w < kTileWords; w += kThreads / kLanes) {
      uint16_t* to = p.packed + (group * kTileWords + w) * p.pitch;
      const uint16_t* from = w < tile.n_words ? row_of<Storage::f16>(p.words, tile.row_of_word(w)) : nullptr;
      for (int64_t d = threadIdx.x % kLanes; d < p.pitch; d += kLanes)
        to[d] = from != nullptr && d < p.words.dim ? from[d] : uint16_t{0};
    }
  }
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Consumer {
  static constexpr int kSize = kGroupThreads;
  __device__ static int thread() { return threadIdx.x % kGroupThreads; }
  __device__ static void sync() { named_barrier<kGroupThreads>(threadIdx.x / kGroupThreads); }
};

struct Pipeline {
  Barrier full[kFeeds], empty[kFeeds];
};

__device__ __forceinline__ void feed(const Parameters& p, unsigned char* feeds, Pipeline& pipeline) {
  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.pairs.count; task += gridDim.x) {
    const Corner corner = corner_of(p.pairs, task);
    const int word = static_cast<int>(corner.text_group * kConsumers * kTileWords);
    const int region = static_cast<int>(p.focal.regions.start(corner.first_image));
    for (int chunk = 0; chunk < p.chunks; ++chunk, ++step) {
      const int slot = step % kFeeds;
      pipeline.empty[slot].wait((step / kFeeds & 1) ^ 1);
      pipeline.full[slot].arrive_expecting(kFeedBytes);
      unsigned char* to = feeds + slot * kFeedBytes;
      copy_box(to, p.words, chunk * kBoxColumns, word, pipeline.full[slot]);
      copy_box(to + kWordBytes, p.regions, chunk * kBoxColumns, region, pipeline.full[slot]);
    }
  }
}

template <Storage storage>
__device__ __forceinline__ void consume(const Parameters& p, unsigned char* feeds, Pipeline& pipeline, Tile& tile,
                                        float* cosines) {
  const int consumer = threadIdx.x / kGroupThreads - 1;
  const int warp = Consumer::thread() / kLanes, lane = threadIdx.x % kLanes;
  int64_t step = 0;
  for (int64_t task = blockIdx.x; task < p.pairs.count; task += gridDim.x) {
    const TextGroups groups = start_task<Consumer>(p.pairs, task, p.focal.regions, tile);
    const int64_t group = groups.first * kConsumers + consumer;
    const bool exists = group < p.focal.tasks.text_groups;  // the last pair may be half
    if (exists) start_group<Consumer>(p.focal.tasks, groups, group, p.focal.words, tile);
    if (p.focal.keep != nullptr) find_kept<Consumer>(p.focal.keep, tile);

    float c[kTileRegions / 2];
    for (int chunk = 0; chunk < p.chunks; ++chunk, ++step) {
      const int slot = step % kFeeds;
      pipeline.full[slot].wait(step / kFeeds & 1);
      const unsigned char* words = feeds + slot * kFeedBytes + consumer * kTileWords * 128;
      const unsigned char* regions = feeds + slot * kFeedBytes + kWordBytes;
      product_fence();
      HA_UNROLL
      for (int k = 0; k < 128; k += 32) {
        if (storage == Storage::f16) {
          product_f16(c, operand(words + k), operand(regions + k), chunk > 0 || k > 0);
        } else {
          product_bf16(c, operand(words + k), operand(regions + k), chunk > 0 || k > 0);
        }
      }
      product_commit();
      product_wait<0>();
      if (lane == 0) pipeline.empty[slot].arrive();
    }

    // Rows 16 warp + lane / 4 and + 8; columns 8 j + 2 (lane % 4) and + 1.
    HA_UNROLL
    for (int i = 0; i < kTileRegions / 2; ++i) {
      const int word = 16 * warp + lane / 4 + i % 4 / 2 * 8, region = i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (exists && word < tile.n_words && region < tile.n_regions) cosines[word * kFocalPitch + region] = c[i];
    }
    Consumer::sync();
    if (exists && tile.n_words > 0 && tile.n_regions > 0)
      score_tile<Consumer>(p.focal, tile, cosines, cosines + kTileWords * kFocalPitch, kFocalPitch,
                           p.focal.region_lengths + tile.first_region);
  }
}

#endif

template <Storage storage>
__global__ void __launch_bounds__(kThreadsOfBlock, 1) focal_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  HA_SHARED_MEMORY(shared);
  unsigned char* feeds = shared + (1024 - shared_address(shared) % 1024) % 1024;
  unsigned char* scores = feeds + kFeeds * kFeedBytes;
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(scores + kConsumers * (kScoreFloats * 4 + kTileBytes));
  if (threadIdx.x == 0) {
    for (int s = 0; s < kFeeds; ++s) {
      pipeline.full[s].start(1);
      pipeline.empty[s].start(kConsumers * kGroupThreads / kLanes);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    shrink_registers<40>();
    if (threadIdx.x == 0) feed(p, feeds, pipeline);
  } else {
    grow_registers<232>();
    unsigned char* own = scores + (threadIdx.x / kGroupThreads - 1) * (kScoreFloats * 4 + kTileBytes);
    consume<storage>(p, feeds, pipeline, *reinterpret_cast<Tile*>(own + kScoreFloats * 4),
                     reinterpret_cast<float*>(own));
  }
#endif
}

}  // namespace

bool asked_for() {
  const char* path = std::getenv("HERITAGE_ALIGN_CUDA_PATH");
  return path != nullptr && std::strcmp(path, "hopper") == 0;
}

bool score_focal(const Device& device, const FocalParameters& p, const Tensor& regions, int64_t max_regions,
                 int64_t max_words) {
  const int64_t rows = regions.size(0), packed_rows = p.tasks.text_groups * kTileWords;
  const bool fits = p.tasks.plan == Plan::all_pairs && p.tasks.count > 0 && max_regions <= kTileRegions &&
                    max_words <= kTileWords && rows >= kTileRegions && packed_rows >= kConsumers * kTileWords &&
                    p.regions.dim >= kBoxColumns && rows < int64_t{1} << 31 && packed_rows < int64_t{1} << 31 &&
                    p.regions.aligned && p.regions.stride >= p.regions.dim &&
                    (p.regions.storage == Storage::f16 || p.regions.storage == Storage::bf16);
  if (!asked_for() || !fits || !device.is_hopper()) return false;
  const int64_t pitch = (p.words.dim + 7) / 8 * 8;
  Tensor packed = new_tensor(regions, {packed_rows, pitch}, ScalarType::Half);
  auto* words = static_cast<uint16_t*>(packed.mutable_data_ptr());
  Parameters parameters{};
  parameters.focal = p;
  parameters.pairs = p.tasks;
  parameters.pairs.text_groups = (p.tasks.text_groups + kConsumers - 1) / kConsumers;
  parameters.pairs.count = parameters.pairs.text_groups * p.tasks.image_groups;
  parameters.chunks = static_cast<int>((p.words.dim + kBoxColumns - 1) / kBoxColumns);
  const Storage storage = p.regions.storage;
  if (!describe_rows(parameters.words, storage, words, pitch, packed_rows, pitch, kConsumers * kTileWords) ||
      !describe_rows(parameters.regions, storage, p.regions.values, p.regions.dim, rows, p.regions.stride,
                kTileRegions))
    return false;
  device.launch(pack_words_kernel, blocks_for(p.tasks.text_groups), kThreads, kTileBytes,
                PackParameters{p.tasks, p.words, words, pitch});
  const int64_t blocks = std::min<int64_t>(parameters.pairs.count, device.multiprocessors());
  device.launch(storage == Storage::f16 ? focal_kernel<Storage::f16> : focal_kernel<Storage::bf16>, blocks,
                kThreadsOfBlock, kSharedBytes, parameters);
  return true;
}

}  // namespace heritage_align::hopper
