// Focal attention with any settings and items of any length: a tile of cosines, then the three steps of
// epilogue/focal_attention.h by threads, in one or both directions on that same tile.
#pragma once

#include "product.cuh"

namespace heritage_align {

constexpr int kTileBytes = (static_cast<int>(sizeof(Tile)) + 127) / 128 * 128;

struct FocalParameters {
  Tasks tasks;
  Rows words, regions;
  FocalSettings settings;
  Direction direction;
  const uint8_t* keep;
  Factors image_factors, text_factors;
  const float* word_lengths;    // |s| of every word, for t2i
  const float* region_lengths;  // |v| of every region, for i2t; null: each block finds those of its tile
  float* scores;
  float* workspace;             // where an item is longer than a tile: cosines, logits and lengths of each block
  int64_t pitch;                // of cosines in the workspace
  int64_t max_words;
};

__host__ __device__ inline int64_t workspace_of_block(int64_t max_words, int64_t pitch) {
  return 2 * max_words * pitch + pitch;
}

// One edge of the tile, seen from the other: where its items start, how far apart its rows are in the tile.
struct Side {
  const int* start;
  int items;
  int rows;
  int64_t step;
};

// The lengths of the tile's regions for i2t: measured before, or now by the block. Then a barrier must follow.
template <int words>
__device__ __forceinline__ const float* region_lengths_of_tile(const FocalParameters& p, const TileOf<words>& tile,
                                                               float* own) {
  if (p.region_lengths != nullptr) return p.region_lengths + tile.first_region;
  if (p.direction == Direction::t2i) return nullptr;
  const int lane = threadIdx.x % kLanes;
  for (int r = threadIdx.x / kLanes; r < tile.n_regions; r += kThreads / kLanes) {
    const float length = warp_length(p.regions, tile.first_region + r, lane);
    if (lane == 0) own[r] = length;
  }
  return own;
}

// One direction: queries attend to contexts. `keep` is of the tile's contexts, or null. length_of(q) is the length of
// tile row q of the queries, factor_of(item) the number of a context item, place_of(query item, context item) where
// its score goes.
template <class Team, class LengthOf, class NumberOf, class PlaceOf>
__device__ __forceinline__ void attend(const FocalParameters& p, const WideTile& tile, const Side& queries,
                                       const Side& contexts, const uint8_t* keep, const Factors& factors,
                                       const float* cosines, float* logits, bool add, LengthOf length_of,
                                       NumberOf number_of, PlaceOf place_of) {
  for (int i = Team::thread(); i < queries.items * contexts.rows; i += Team::kSize) {
    const int item = i / contexts.rows, context = i % contexts.rows;
    const int first = queries.start[item], n = queries.start[item + 1] - first;
    if (n == 0) continue;
    const int64_t at = first * queries.step + context * contexts.step;
    const Column<const float> column{cosines + at, queries.step};
    const Column<float> out{logits + at, queries.step};
    const auto axis = query_axis<float>(p.settings, n, column);
    for (int j = 0; j < n; ++j) out[j] = logit_of<float>(p.settings, axis, column[j]);
  }
  Team::sync();
  for (int i = Team::thread(); i < queries.rows * contexts.items; i += Team::kSize) {
    const int item = i / queries.rows, query = i % queries.rows;
    const int first = contexts.start[item], m = contexts.start[item + 1] - first;
    if (m == 0) continue;
    const int64_t at = query * queries.step + first * contexts.step;
    const Column<float> weights{logits + at, contexts.step};
    const Column<const float> column{cosines + at, contexts.step};
    const uint8_t* kept = keep != nullptr && tile.keeps_some[item] ? keep + first : nullptr;
    const int64_t rank = m < p.regions.dim ? m : p.regions.dim;
    const float cosine = attended_cosine<float>(p.settings, m, weights, column, kept,
                                                factors.values + factors.offsets[number_of(item)], rank,
                                                length_of(query));
    weights[0] = cosine;  // where this thread's first weight was, which nobody needs any more
  }
  Team::sync();
  for (int i = Team::thread(); i < queries.items * contexts.items; i += Team::kSize) {
    const int item = i / contexts.items, context = i % contexts.items;
    const int first = queries.start[item], n = queries.start[item + 1] - first;
    if (n == 0 || contexts.start[context] == contexts.start[context + 1]) continue;
    const Column<const float> column{logits + first * queries.step + contexts.start[context] * contexts.step,
                                     queries.step};
    const float score = aggregated<float>(p.settings, n, column);
    float& place = p.scores[place_of(item, context)];
    place = add ? place + score : score;
  }
  Team::sync();
}

template <class Team>
__device__ __forceinline__ void score_tile(const FocalParameters& p, const WideTile& tile, const float* cosines,
                                           float* logits, int64_t pitch, const float* lengths) {
  const Side words{tile.word_start, tile.n_texts, tile.n_words, pitch};
  const Side regions{tile.region_start, tile.n_images, tile.n_regions, 1};
  if (p.direction != Direction::i2t) {
    const uint8_t* keep = p.keep == nullptr ? nullptr : p.keep + tile.first_region;
    attend<Team>(
        p, tile, words, regions, keep, p.image_factors, cosines, logits, false,
        [&](int word) { return p.word_lengths[tile.row_of_word(word)]; },
        [&](int image) { return tile.first_image + image; },
        [&](int text, int image) { return (tile.first_image + image) * p.tasks.image_step + tile.place[text]; });
  }
  if (p.direction != Direction::t2i) {
    attend<Team>(
        p, tile, regions, words, nullptr, p.text_factors, cosines, logits, p.direction == Direction::both,
        [&](int region) { return lengths[region]; }, [&](int text) { return tile.text[text]; },
        [&](int image, int text) { return (tile.first_image + image) * p.tasks.image_step + tile.place[text]; });
  }
}

// Shared memory of a block: the tile's lists and lengths, then the chunks and, after them in time, where no item is
// longer than a bin or a tile, cosines and logits of a bin.
constexpr int kFocalPitch = kTileRegions + 1;  // odd: threads of neighbouring words meet different banks
constexpr int kFocalListBytes = (static_cast<int>(sizeof(WideTile)) + 127) / 128 * 128;
constexpr int kFocalLengthBytes = (kTileRegions * static_cast<int>(sizeof(float)) + 127) / 128 * 128;
constexpr int kFocalBinBytes = 2 * kTileWords * kFocalPitch * static_cast<int>(sizeof(float));
constexpr int kFocalBytes =
    kFocalListBytes + kFocalLengthBytes + (kProductBytes > kFocalBinBytes ? kProductBytes : kFocalBinBytes);
static_assert(kFocalBytes <= kHalfOfShared, "two blocks share an A100's multiprocessor");

// `spilled`: items longer than that; cosines, logits and lengths are then in this block's part of the workspace.
template <class P, bool spilled>
__global__ void __launch_bounds__(kThreads, 2) focal_attention_kernel(FocalParameters p) {
  HA_SHARED_MEMORY(shared);
  WideTile& tile = *reinterpret_cast<WideTile*>(shared);
  unsigned char* stages = shared + kFocalListBytes + kFocalLengthBytes;
  float* own = spilled ? p.workspace + blockIdx.x * workspace_of_block(p.max_words, p.pitch) : nullptr;
  const int64_t pitch = spilled ? p.pitch : kFocalPitch;
  float* cosines = spilled ? own : reinterpret_cast<float*>(stages);
  float* logits = cosines + (spilled ? p.max_words : kTileWords) * pitch;
  float* own_lengths = spilled ? logits + p.max_words * pitch : reinterpret_cast<float*>(shared + kFocalListBytes);

  for (int64_t task = blockIdx.x; task < p.tasks.count; task += gridDim.x) {
    const TextGroups groups = start_task<Block>(p.tasks, task, p.regions, tile);
    if (groups.first >= groups.last || tile.n_regions == 0) continue;
    if (p.keep != nullptr) find_kept<Block>(p.keep, tile);
    const float* lengths = region_lengths_of_tile(p, tile, own_lengths);  // read after the barriers of the product
    for (int64_t group = groups.first; group < groups.last; group += groups.step) {
      start_group<Block>(p.tasks, groups, group, p.words, tile);
      for (int word = 0; word < tile.n_words; word += kProductWords)
        for (int region = 0; region < tile.n_regions; region += kTileRegions)
          make_product<P>(p.words, p.regions, tile, word, region, stages, [&](int w, int r, float x, float y) {
            float* at = cosines + (word + w) * pitch + region + r;
            at[0] = x;
            if (region + r + 1 < tile.n_regions) at[1] = y;
          });
      if (tile.n_words > 0) score_tile<Block>(p, tile, cosines, logits, pitch, lengths);
    }
  }
}

}  // namespace heritage_align
