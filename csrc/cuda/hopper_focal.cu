// Focal attention of all pairs on Hopper: 128 words by 184 regions a tile and block. A feeding warp brings operands to
// shared memory by the tensor copy engine; two warpgroups each multiply 64 of the words by all regions (wgmma) and
// leave the cosines in shared memory; seven warps score them (hopper_score.cuh) while the next tile is multiplied.
// float16 and bfloat16; images and texts of up to 64 rows.
#include "hopper.h"
#include "hopper_prepare.cuh"
#include "hopper_score.cuh"

namespace heritage_align::hopper {
namespace {

constexpr int kRowBytes = kBoxColumns * 2;  // of a row in a feed
constexpr int kFeeds = 3;
constexpr int kBlockThreads = 2 * kGroups * kGroupThreads;
constexpr int kWordBytes = kBlockWords * kRowBytes;
constexpr int kFeedBytes = kWordBytes + kTileColumns * kRowBytes;
constexpr int kPipelineBytes = 16 * (kFeeds + 1);
constexpr int kSharedBytes = 1024 + kFeeds * kFeedBytes + kCosinesBytes + kScratchBytes + kPipelineBytes;
static_assert(kSharedBytes <= 227 * 1024, "what a block may have");
static_assert(kFeedBytes % 1024 == 0 && kWordBytes % 1024 == 0, "the swizzle repeats every 1024 bytes");
static_assert(15 * kTileColumns * static_cast<int>(sizeof(float)) <= kScratchBytes,
              "attend_to_text reads up to 15 words behind the tile");

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Pipeline {
  Barrier full[kFeeds], empty[kFeeds];  // feeds
  Barrier made, read;                   // cosines
};
static_assert(sizeof(Pipeline) <= kPipelineBytes, "where it lies");

// Counts through the feeds: which one, and the parity of its turn.
struct Turn {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++slot == kFeeds) {
      slot = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ void feed(const HopperParameters& p, unsigned char* feeds, Pipeline& pipeline) {
  Turn turn;
  for (int64_t task = blockIdx.x; task < p.tiles.count; task += gridDim.x) {
    const SmallCorner corner = small_corner_of(p.tiles, static_cast<uint32_t>(task));
    const int word = static_cast<int>(corner.text_group) * kBlockWords;
    const int region = p.images[corner.image_group].first_region;
    for (int chunk = 0; chunk < p.chunks; ++chunk, turn.next()) {
      Barrier& full = pipeline.full[turn.slot];
      pipeline.empty[turn.slot].wait(turn.parity ^ 1);
      full.arrive_expecting(kFeedBytes);
      const int column = chunk * kBoxColumns;
      unsigned char* words = feeds + turn.slot * kFeedBytes;
      copy_box(words, p.words, column, word, full);
      copy_box(words + kWordBytes, p.regions, column, region, full);
    }
  }
}

// Products of int8 rows, which came as float16: `word` is the packed word of this thread's first row.
__device__ __forceinline__ void apply_scales(const HopperParameters& p, Accumulators& c, int word, int first_region) {
  const auto of_word = [&](int w) { return p.word_scales == nullptr ? 1.0f : p.word_scales[w]; };
  const float upper = of_word(word), lower = of_word(word + 8);
  const int region = first_region + 2 * static_cast<int>(read_thread_index() % 4);
  HA_UNROLL
  for (int i = 0; i < kTileColumns / 2; i += 4)
    HA_UNROLL
    for (int side = 0; side < 2; ++side) {
      const int column = region + 2 * i + side;
      const float scale = p.region_scales[column < p.region_rows ? column : p.region_rows - 1];
      c[i + side] *= scale * upper;
      c[i + 2 + side] *= scale * lower;
    }
}

template <Storage storage>
__device__ __forceinline__ void multiply(const HopperParameters& p, const unsigned char* feeds, Pipeline& pipeline,
                                         float* cosines) {
  const int group = threadIdx.x / kGroupThreads, warp = threadIdx.x % kGroupThreads / kLanes;
  const int lane = threadIdx.x % kLanes;
  const int row = group * kTileWords + 16 * warp + lane / 4;
  float2* to = reinterpret_cast<float2*>(cosines + row * kTileColumns + lane % 4 * 2);
  const uint64_t all_words = operand(feeds + group * kTileWords * kRowBytes), all_regions = operand(feeds + kWordBytes);
  Turn turn;
  uint32_t parity = 1;
  for (int64_t task = blockIdx.x; task < p.tiles.count; task += gridDim.x, parity ^= 1) {
    Accumulators c;
    int before = 0;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      const uint64_t words = further(all_words, turn.slot * kFeedBytes);
      const uint64_t regions = further(all_regions, turn.slot * kFeedBytes);
      pipeline.full[turn.slot].wait(turn.parity);
      product_fence();
      HA_UNROLL
      for (int k = 0; k < kRowBytes; k += 32) {
        if (storage == Storage::f16) {
          product_f16(c, further(words, k), further(regions, k), chunk > 0 || k > 0);
        } else {
          product_bf16(c, further(words, k), further(regions, k), chunk > 0 || k > 0);
        }
      }
      product_commit();
      product_wait<1>();  // the products of the chunk before are done
      if (chunk > 0 && lane == 0) pipeline.empty[before].arrive();
      before = turn.slot;
      turn.next();
    }
    product_wait<0>();
    if (lane == 0) pipeline.empty[before].arrive();
    if (storage == Storage::f16 && p.region_scales != nullptr) {
      const SmallCorner corner = small_corner_of(p.tiles, static_cast<uint32_t>(task));
      apply_scales(p, c, static_cast<int>(corner.text_group) * kBlockWords + row,
                   p.images[corner.image_group].first_region);
    }
    pipeline.read.wait(parity);
    HA_UNROLL
    for (int i = 0; i < kTileColumns / 2; i += 4) {
      to[i] = {c[i], c[i + 1]};
      to[4 * kTileColumns + i] = {c[i + 2], c[i + 3]};
    }
    __syncwarp();
    if (lane == 0) pipeline.made.arrive();
  }
}

__device__ __forceinline__ void score(const HopperParameters& p, Pipeline& pipeline, const float* cosines,
                                      Scratch& scratch) {
  const auto tiles = static_cast<uint32_t>(p.tiles.count);
  fetch_lists(p, blockIdx.x, scratch.lists[0]);
  copy_wait<0>();
  Scorer::sync();
  uint32_t parity = 0;
  for (uint32_t task = blockIdx.x; task < tiles; task += gridDim.x, parity ^= 1) {
    const Lists& lists = scratch.lists[parity];
    const ScoredTile tile{cosines, &lists, scratch.pool, lists.images.images, p.tiles.images_per_group};
    const auto fetch_next = [&] { fetch_lists(p, task + gridDim.x, scratch.lists[parity ^ 1]); };
    const auto release = [&] {
      __syncwarp();
      if (Scorer::lane() == 0) pipeline.read.arrive();
    };
    const auto have_next = [] { copy_wait<0>(); };
    pipeline.made.wait(parity);
    if (lists.texts.texts == 0 || lists.images.start[tile.images] == 0) {
      release();
      Scorer::sync();  // all have left the tile before
      fetch_next();
      have_next();
      Scorer::sync();
    } else if (p.weighing == Weighing::bounded) {
      score_cosines<Weighing::bounded>(p, tile, fetch_next, release, have_next);
    } else if (p.weighing == Weighing::by_largest) {
      score_cosines<Weighing::by_largest>(p, tile, fetch_next, release, have_next);
    } else {
      score_cosines<Weighing::focal>(p, tile, fetch_next, release, have_next);
    }
  }
}

#endif

__global__ void __launch_bounds__(kBlockThreads, 1) focal_kernel(const __grid_constant__ HopperParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  HA_SHARED_MEMORY(shared);
  unsigned char* feeds = shared + (1024 - shared_address(shared) % 1024) % 1024;
  float* cosines = reinterpret_cast<float*>(feeds + kFeeds * kFeedBytes);
  unsigned char* behind = feeds + kFeeds * kFeedBytes + kCosinesBytes;
  Scratch& scratch = *reinterpret_cast<Scratch*>(behind);
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(behind + kScratchBytes);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kFeeds; ++s) {
      pipeline.full[s].start(1);
      pipeline.empty[s].start(kGroups * kGroupThreads / kLanes);
    }
    pipeline.made.start(kGroups * kGroupThreads / kLanes);
    pipeline.read.start(Scorer::kWarps);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < Scorer::kFirst) {
    if (p.focal.regions.storage == Storage::f16) {
      multiply<Storage::f16>(p, feeds, pipeline, cosines);
    } else {
      multiply<Storage::bf16>(p, feeds, pipeline, cosines);
    }
  } else if (threadIdx.x < Scorer::kFirst + Scorer::kSize) {
    score(p, pipeline, cosines, scratch);
  } else if (threadIdx.x % kLanes == 0) {
    feed(p, feeds, pipeline);
  }
#endif
}

// How weights are made, and what is added to logits. Over the L2 norm a rectified cosine lies between -slope and 1 (-1
// and 1 without a rectifier), and a logit between that many temperatures. Where the whole range takes 24 powers of two at
// most, the largest logit of a query is not looked for: its weight is 2^-9 or more, and float16 resolves 2^-24.
Weighing weighing_of(const FocalSettings& s, float slope, float& shift) {
  constexpr float most = 24.0f;
  const float bound = s.temperature * kLog2E, lowest = s.rectifier == Rectifier::none ? 1.0f : slope;
  const bool bounded = s.focal == Focal::none && s.normaliser == Normaliser::l2 && bound * (1.0f + lowest) <= most;
  shift = bounded ? kLargestExponent - bound : 0.0f;
  return bounded ? Weighing::bounded : s.focal == Focal::none ? Weighing::by_largest : Weighing::focal;
}

// Operands of mma.sync for all items of a side; `memory` keeps them alive.
FactorOperands prepare_factors(const Device& device, const Tensor& like, const Factors& factors, const Rows& rows,
                               int64_t longest, bool words, Maybe& memory, Maybe& unscale) {
  const int64_t stride = factor_blocks(context_groups(longest)) * kLanes;
  memory = new_tensor(like, {rows.items * stride * 2}, ScalarType::Float);
  unscale = new_tensor(like, {rows.items}, ScalarType::Float);
  const FactorParameters p{factors,
                           rows.offsets,
                           rows.items,
                           rows.dim,
                           stride,
                           static_cast<uint2*>(memory->mutable_data_ptr()),
                           static_cast<float*>(unscale->mutable_data_ptr()),
                           words};
  device.launch(prepare_factors_kernel, blocks_for(rows.items), kThreads, kThreads / kLanes * sizeof(float), p);
  return {p.values, p.unscale, stride};
}

// int8 rows as float16; `memory` keeps them alive.
Rows widened(const Device& device, const Tensor& like, const Rows& rows, int64_t count, Maybe& memory) {
  const int64_t pitch = (rows.dim + 7) / 8 * 8;
  memory = new_tensor(like, {count, pitch}, ScalarType::Half);
  auto* to = static_cast<uint16_t*>(memory->mutable_data_ptr());
  device.launch(widen_rows_kernel, blocks_for((count * kLanes + kThreads - 1) / kThreads), kThreads, 0,
                WidenParameters{rows, count, to, pitch});
  return Rows{to, rows.scales, rows.offsets, pitch, rows.dim, rows.items, Storage::f16, true};
}

}  // namespace

bool fits_focal(const Device& device, const FocalParameters& p, const Tensor& regions, int64_t max_regions,
                int64_t max_words) {
  constexpr int64_t kFactorBytes = int64_t{1} << 31;  // operands take 1.4 times the memory of factors, or more
  constexpr int64_t kWidenedBytes = int64_t{1} << 32;  // int8 regions as float16
  const int64_t rows = regions.size(0), packed_rows = p.tasks.text_groups * kTileWords;
  const bool t2i = p.direction != Direction::i2t, i2t = p.direction != Direction::t2i;
  return chosen(device) && p.tasks.plan == Plan::all_pairs && p.tasks.count > 0 &&
         p.tasks.text_groups * p.regions.items < int64_t{1} << 31 && kRaster * p.regions.items < int64_t{1} << 32 &&
         max_regions <= kLongestItem && max_words <= kLongestItem && rows >= kTileColumns &&
         packed_rows >= kBlockWords && p.regions.dim >= kBoxColumns && rows < int64_t{1} << 31 &&
         packed_rows < int64_t{1} << 31 && p.regions.stride >= p.regions.dim &&
         p.settings.normaliser != Normaliser::softmax &&
         (!t2i || p.regions.items * factor_blocks(context_groups(max_regions)) * kLanes * 8 <= kFactorBytes) &&
         (!i2t || p.words.items * factor_blocks(context_groups(max_words)) * kLanes * 8 <= kFactorBytes) &&
         (p.regions.storage == Storage::i8
              ? rows * p.regions.dim * 2 <= kWidenedBytes
              : p.regions.aligned && (p.regions.storage == Storage::f16 || p.regions.storage == Storage::bf16));
}

bool score_focal(const Device& device, const FocalParameters& asked, const Tensor& regions, const Tensor& word_values,
                 int64_t max_regions, int64_t max_words) {
  FocalParameters p = asked;
  const int64_t blocks_of_words = (p.tasks.text_groups + kGroups - 1) / kGroups;
  const int64_t rows = regions.size(0), packed_rows = blocks_of_words * kBlockWords;
  const int64_t pitch = (p.words.dim + 7) / 8 * 8;
  Maybe region_halves, word_halves, word_scales;
  if (p.regions.storage == Storage::i8) p.regions = widened(device, regions, p.regions, rows, region_halves);
  if (p.words.storage == Storage::i8) {
    p.words = widened(device, regions, p.words, word_values.size(0), word_halves);
    word_scales = new_tensor(regions, {packed_rows}, ScalarType::Float);
  }
  const Storage storage = p.regions.storage;
  Tensor packed = new_tensor(regions, {packed_rows, pitch}, ScalarType::Half);
  const auto lists_of = [&](int64_t count, size_t bytes) {
    return new_tensor(regions, {count * static_cast<int64_t>(bytes / 4)}, ScalarType::Float);
  };
  auto* words = static_cast<uint16_t*>(packed.mutable_data_ptr());
  HopperParameters parameters{};
  parameters.focal = p;
  parameters.region_scales = p.regions.scales;
  parameters.word_scales = data_of<float>(word_scales);
  parameters.region_rows = static_cast<int>(rows);
  Tasks& tiles = parameters.tiles;
  tiles = p.tasks;
  tiles.images_per_group =
      static_cast<int>(std::clamp<int64_t>(kTileColumns / std::max<int64_t>(max_regions, 1), 1, kMostImages));
  tiles.image_groups = (p.regions.items + tiles.images_per_group - 1) / tiles.images_per_group;
  tiles.text_groups = blocks_of_words;
  tiles.count = tiles.text_groups * tiles.image_groups;
  Tensor text_lists = lists_of(blocks_of_words, sizeof(TextList));
  Tensor image_lists = lists_of(tiles.image_groups, sizeof(ImageList));
  auto* texts = static_cast<TextList*>(text_lists.mutable_data_ptr());
  auto* images = static_cast<ImageList*>(image_lists.mutable_data_ptr());
  parameters.texts = texts;
  parameters.images = images;
  parameters.slope = slope_of(p.settings.rectifier);
  parameters.norm = norm_of(p.settings);
  parameters.weighing = weighing_of(p.settings, parameters.slope, parameters.shift);
  parameters.chunks = static_cast<int>((p.words.dim * 2 + kRowBytes - 1) / kRowBytes);
  if (!describe_rows(parameters.words, storage, words, pitch, packed_rows, pitch, kBlockWords) ||
      !describe_rows(parameters.regions, storage, p.regions.values, p.regions.dim, rows, p.regions.stride,
                     kTileColumns))
    return false;
  Maybe image_operands, image_unscale, text_operands, text_unscale;
  if (p.direction != Direction::i2t)
    parameters.image_factors = prepare_factors(device, regions, p.image_factors, p.regions, max_regions, false,
                                               image_operands, image_unscale);
  if (p.direction != Direction::t2i)
    parameters.text_factors =
        prepare_factors(device, regions, p.text_factors, p.words, max_words, true, text_operands, text_unscale);
  const bool f16 = storage == Storage::f16;
  device.launch(f16 ? pack_words_kernel<Storage::f16> : pack_words_kernel<Storage::bf16>, blocks_of_words * kGroups,
                kThreads, kTileBytes,
                PackParameters{p.tasks, p.words, words, pitch, texts,
                               word_scales.has_value() ? static_cast<float*>(word_scales->mutable_data_ptr()) : nullptr});
  device.launch(list_images_kernel, (tiles.image_groups * kLanes + kThreads - 1) / kThreads, kThreads, 0,
                ImageListParameters{p.regions, p.keep, tiles.image_groups, tiles.images_per_group, images});
  device.launch(focal_kernel, std::min<int64_t>(tiles.count, device.multiprocessors()), kBlockThreads, kSharedBytes,
                parameters);
  return true;
}

}  // namespace heritage_align::hopper
