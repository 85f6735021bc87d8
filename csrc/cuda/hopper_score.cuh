// Scores a tile of cosines [word][region] in shared memory, by seven warps: the three steps of
// epilogue/focal_attention.h, in one or both directions, some texts at a time.
//
// A pitch of 184 floats, 24 beyond the banks, has no conflicts for the accesses that count: pairs of regions of eight
// words, one region of four words (i2t), and neighbouring regions of one word.
//
// Little lives in registers across the steps. What the compiler spills goes to local memory, and beside 227 KB of
// shared memory that has no L1 to speak of: 370 clocks for each value that came back (measured on an H200).
#pragma once

#include "hopper_tile.cuh"

namespace heritage_align::hopper {

struct Scorer {
  static constexpr int kFirst = kGroups * kGroupThreads;  // of the block's threads
  static constexpr int kWarps = 7;
  static constexpr int kSize = kWarps * kLanes;
  __device__ static int thread() { return thread_anew() - kFirst; }
  // By a shuffle, so that the compiler knows it to be the same in all lanes; it then trusts loops over it to converge.
  __device__ static int warp() { return __shfl_sync(kAllLanes, thread() / kLanes, 0); }
  __device__ static int lane() { return thread_anew() % kLanes; }
  __device__ static void sync() { named_barrier<kSize>(1); }
};

// Queries that a warp has in hand at a time.
constexpr int kImageQueries = 2 * kBlockQueries;  // words that attend to an image
constexpr int kTextQueries = 4 * kBlockQueries;   // regions that attend to a text

struct ScoredTile {
  const float* cosines;
  const Lists* lists;
  float* pool;
  int images;

  // The two parts of the pool.
  __device__ float* by_word(int image) const { return pool + image * kBlockWords; }
  __device__ float* by_region(int slot) const { return pool + images * kBlockWords + slot * kTileColumns; }
};

// Texts first .. first + texts of the tile's.
struct Batch {
  int first, texts;
};

// Brings the lists of a task in the background (copy_async).
__device__ __forceinline__ void fetch_lists(const HopperParameters& p, uint32_t task, Lists& lists) {
  if (task < static_cast<uint32_t>(p.tiles.count)) {
    const SmallCorner corner = small_corner_of(p.tiles, task);
    constexpr int kTexts = sizeof(TextList) / 16, kBoth = sizeof(Lists) / 16;
    static_assert(kBoth <= Scorer::kSize, "a thread copies 16 bytes");
    const int at = Scorer::thread();
    const auto* texts = reinterpret_cast<const uint4*>(p.texts + corner.text_group);
    const auto* images = reinterpret_cast<const uint4*>(p.images + corner.image_group);
    if (at < kBoth)
      copy_async(reinterpret_cast<uint4*>(&lists) + at, at < kTexts ? texts + at : images + at - kTexts, 16);
  }
  copy_commit();
}

// t2i, step 1: scales by text and region. A thread walks down two regions of 64 words, eight words read ahead.
__device__ __forceinline__ void scale_regions(const HopperParameters& p, const ScoredTile& tile, const Batch& batch) {
  constexpr int kTeam = (kTileColumns / 2 + kLanes - 1) / kLanes * kLanes;  // threads of a half: whole warps
  constexpr int kAhead = 8;
  static_assert(kGroups * kTeam <= Scorer::kSize, "a team for each half");
  const int region = Scorer::thread() % kTeam * 2, half = Scorer::thread() / kTeam;
  if (region >= kTileColumns || half >= kGroups) return;
  const TextList& texts = tile.lists->texts;
  const float slope = p.slope;
  int slot = (half == 0 ? 0 : texts.texts_of_first_half) - batch.first;
  uint64_t last_words = texts.last_words[half];
  const float* from = tile.cosines + half * kTileWords * kTileColumns + region;
  float2 squares{0.0f, 0.0f}, next[kAhead];
  HA_UNROLL
  for (int i = 0; i < kAhead; ++i) next[i] = two_at(from + i * kTileColumns);
  while (last_words != 0) {
    const auto here = static_cast<uint32_t>(last_words) & 0xff;
    last_words >>= kAhead;
    float2 c[kAhead];
    HA_UNROLL
    for (int i = 0; i < kAhead; ++i) c[i] = next[i];
    if (last_words != 0) {
      from += kAhead * kTileColumns;
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) next[i] = two_at(from + i * kTileColumns);
    }
    HA_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const float x = fmaxf(c[i].x, slope * c[i].x), y = fmaxf(c[i].y, slope * c[i].y);
      squares.x += x * x;
      squares.y += y * y;
      if ((here >> i & 1) != 0) {  // the same for the whole warp
        const float2 scale{logit_scale(p.norm, squares.x), logit_scale(p.norm, squares.y)};
        if (slot >= 0 && slot < batch.texts) *reinterpret_cast<float2*>(tile.by_region(slot) + region) = scale;
        ++slot;
        squares = {0.0f, 0.0f};
      }
    }
  }
}

// i2t, step 1: scales by image and word, 32 words by one image a warp. All words of the tile: they cost less than
// telling them apart.
__device__ __forceinline__ void scale_words(const HopperParameters& p, const ScoredTile& tile) {
  constexpr int kRows = 4, kParts = kBlockWords / (8 * kRows);
  constexpr int kAhead = 5;  // pairs of regions read at once: an image of 36 at once
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const float slope = p.slope;
  for (int unit = Scorer::warp(); unit < tile.images * kParts; unit += Scorer::kWarps) {
    const int image = unit / kParts, word = unit % kParts * 8 * kRows + g;
    const int start = tile.lists->images.start[image], count = tile.lists->images.start[image + 1] - start;
    const float* from = tile.cosines + word * kTileColumns + start;
    float squares[kRows] = {};
    for (int region = 2 * t; region < count; region += 8 * kAhead) {
      float2 c[kAhead][kRows];
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int left = count - region - 8 * i;
        HA_UNROLL
        for (int row = 0; row < kRows; ++row) {
          const float* at = from + 8 * row * kTileColumns + region + 8 * i;
          c[i][row] = left <= 0 ? float2{0.0f, 0.0f} : start % 2 == 0 ? two_at(at) : float2{at[0], at[1]};
          if (left == 1) c[i][row].y = 0.0f;
        }
      }
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i)
        HA_UNROLL
        for (int row = 0; row < kRows; ++row) {
          const float x = fmaxf(c[i][row].x, slope * c[i][row].x), y = fmaxf(c[i][row].y, slope * c[i][row].y);
          squares[row] += x * x;
          squares[row] += y * y;
        }
    }
    const float pairs[2][2] = {{squares[0], squares[1]}, {squares[2], squares[3]}};
    tile.by_word(image)[word + 8 * t] = logit_scale(p.norm, quad_sums(pairs));  // row t is in lane t
  }
}

// t2i, step 2: words first .. first + 31 attend to an image. `plain`: it starts at an even region, so that pairs are
// read at once, and keeps all regions of all but the last group.
template <int groups, bool focal, bool plain>
__device__ __forceinline__ void attend_to_image(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                                int first, int image) {
  constexpr int blocks = kImageQueries / kBlockQueries;
  const FocalSettings& s = p.focal.settings;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const int number = images.first_image + image, start = images.start[image], count = images.start[image + 1] - start;
  const FactorRegisters<groups> factor(p.image_factors.values + number * p.image_factors.stride + Scorer::lane());
  const float unscale = p.image_factors.unscale[number];
  const uint64_t kept = images.kept[image] >> (2 * t);
  const float slope = p.slope;
  Sums<blocks> sums{};
  HA_UNROLL
  for (int b = 0; b < blocks; ++b) {
    Elements<groups> c, logits;
    HA_UNROLL
    for (int row = 0; row < 2; ++row) {
      const int word = first + b * kBlockQueries + row * 8 + g;
      const int text = texts.text_of_word[word] - batch.first;
      const int slot = text < 0 ? 0 : text < batch.texts ? text : batch.texts - 1;
      const float* from = tile.cosines + word * kTileColumns + start + 2 * t;
      const float* scales = tile.by_region(slot) + start + 2 * t;
      HA_UNROLL
      for (int q = 0; q < groups; ++q) {
        const float2 cosine = plain ? two_at(from + 8 * q) : float2{from[8 * q], from[8 * q + 1]};
        const float2 scale = plain ? two_at(scales + 8 * q) : float2{scales[8 * q], scales[8 * q + 1]};
        c[q][2 * row] = cosine.x;
        c[q][2 * row + 1] = cosine.y;
        logits[q][2 * row] = scale.x * fmaxf(cosine.x, slope * cosine.x);
        logits[q][2 * row + 1] = scale.y * fmaxf(cosine.y, slope * cosine.y);
      }
    }
    HA_UNROLL
    for (int q = plain ? groups - 1 : 0; q < groups; ++q)
      HA_UNROLL
      for (int i = 0; i < 4; ++i)
        if ((kept >> (8 * q + i % 2) & 1) == 0) {
          logits[q][i] = -INFINITY;
          c[q][i] = 0.0f;  // beyond the image: perhaps not a number
        }
    Operands<groups> operands;
    weigh<groups, focal>(s, static_cast<float>(count), logits, operands, sums.dot[b], sums.total[b],
                         [&](int q, int row) { return two_of<groups>(c, q, row); });
    squared_lengths<groups>(factor, operands, sums.squares[b]);
    __syncwarp();
  }
  const int word = first + query_of_lane();
  const float length = quick_sqrt(quad_sums(sums.squares)) * unscale * texts.length[word];
  tile.by_word(image)[word] = cosine_of(quad_sums(sums.dot), length, quad_sums(sums.total));
}

// i2t, step 2: blocks of regions from `first` attend to text `slot` of the batch. Context 8 q + 2 t + i is word
// 8 q + t + 4 i of the text: the four words that a quad reads together then lie in different banks.
template <int groups, bool focal, int blocks>
__device__ __forceinline__ void attend_to_text(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                               int first, int slot, int regions) {
  const FocalSettings& s = p.focal.settings;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const int text = batch.first + slot, start = texts.begin[text], count = texts.end[text] - start;
  const int64_t number = texts.text[text];
  const FactorRegisters<groups> factor(p.text_factors.values + number * p.text_factors.stride + Scorer::lane());
  const float unscale = p.text_factors.unscale[number];
  const float slope = p.slope;
  int words[groups][2];
  HA_UNROLL
  for (int q = 0; q < groups; ++q)
    HA_UNROLL
    for (int i = 0; i < 2; ++i) words[q][i] = start + (8 * q + t + 4 * i < count ? 8 * q + t + 4 * i : count - 1);
  Sums<blocks> sums{};
  HA_UNROLL
  for (int b = 0; b < blocks; ++b) {
    Elements<groups> c, logits;
    HA_UNROLL
    for (int row = 0; row < 2; ++row) {
      const int region = first + b * kBlockQueries + row * 8 + g, last = region < regions ? region : regions - 1;
      const float* scales = tile.by_word(images.image_of_region[last]);
      HA_UNROLL
      for (int q = 0; q < groups; ++q)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const float cosine = tile.cosines[words[q][i] * kTileColumns + last];
          const bool exists = 8 * q + t + 4 * i < count;
          c[q][2 * row + i] = cosine;
          logits[q][2 * row + i] = exists ? fmaxf(cosine, slope * cosine) * scales[words[q][i]] : -INFINITY;
        }
    }
    Operands<groups> operands;
    weigh<groups, focal>(s, static_cast<float>(count), logits, operands, sums.dot[b], sums.total[b],
                         [&](int q, int row) { return two_of<groups>(c, q, row); });
    squared_lengths<groups>(factor, operands, sums.squares[b]);
    if (groups > 2) __syncwarp();
  }
  HA_UNROLL
  for (int b = 0; b < blocks; b += 2) {
    const int region = first + b * kBlockQueries + query_of_lane();
    const float dot = quad_sums(sums.dot + b), total = quad_sums(sums.total + b);
    const float length = quick_sqrt(quad_sums(sums.squares + b)) * unscale;
    if (region < regions)
      tile.by_region(slot)[region] =
          cosine_of(dot, length * p.focal.region_lengths[images.first_region + region], total);
  }
}

// Step 3 for all pairs of a batch's texts and the tile's images: a quad a pair. `i2t`: over the image's regions, and
// added to the score that t2i left, if any; else over the text's words.
template <bool i2t>
__device__ __forceinline__ void aggregate(const FocalParameters& p, const ScoredTile& tile, const Batch& batch) {
  constexpr int kAhead = 4;
  const FocalSettings& s = p.settings;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  const int t = Scorer::lane() % 4, pairs = batch.texts * tile.images;
  for (int first = 0; first < pairs; first += Scorer::kSize / 4) {
    const bool exists = first + Scorer::thread() / 4 < pairs;
    const auto pair = static_cast<unsigned>(exists ? first + Scorer::thread() / 4 : pairs - 1);
    const int slot = pair / static_cast<unsigned>(tile.images), image = pair - slot * tile.images;
    const int text = batch.first + slot, word = texts.begin[text], words = texts.end[text] - word;
    const int region = images.start[image], regions = images.start[image + 1] - region;
    const float* from = i2t ? tile.by_region(slot) + region : tile.by_word(image) + word;
    const int count = i2t ? regions : words;
    const auto at = [&](int j) { return from[j < count ? j : count - 1]; };
    const float lse_scale = s.lse_scale * kLog2E;
    float top = -3.0e38f, sum = 0.0f;
    if (s.aggregate == Aggregate::max || s.aggregate == Aggregate::lse) {
      for (int j = t; j < count; j += 4 * kAhead)
        HA_UNROLL
        for (int i = 0; i < kAhead; ++i) top = fmaxf(top, at(j + 4 * i));
      top = quad_larger(top);
    }
    if (s.aggregate != Aggregate::max) {
      for (int j = t; j < count; j += 4 * kAhead)
        HA_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const float x = at(j + 4 * i);
          const float term = s.aggregate == Aggregate::lse ? power_of_two((x - top) * lse_scale) : x;
          sum += j + 4 * i < count ? term : 0.0f;
        }
      sum = quad_sum(sum);
    }
    const float score = s.aggregate == Aggregate::max    ? top
                        : s.aggregate == Aggregate::lse  ? top + quick_log2(sum) * quick_reciprocal(lse_scale)
                        : s.aggregate == Aggregate::mean ? sum * quick_reciprocal(static_cast<float>(count))
                                                         : sum;
    if (t == 0 && regions > 0 && exists) {
      float& place = p.scores[(images.first_image + image) * p.tasks.image_step + texts.text[text]];
      place = i2t && p.direction == Direction::both ? place + score : score;
    }
  }
}

template <bool focal, bool plain>
__device__ __forceinline__ void attend_to_image(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                                int first, int image, int groups) {
  switch (groups) {
    case 2:
      attend_to_image<2, focal, plain>(p, tile, batch, first, image);
      break;
    case 3:
      attend_to_image<3, focal, plain>(p, tile, batch, first, image);
      break;
    case 5:
      attend_to_image<5, focal, plain>(p, tile, batch, first, image);
      break;
    default:
      attend_to_image<8, focal, plain>(p, tile, batch, first, image);
  }
}

template <bool focal>
__device__ __forceinline__ void attend_to_images(const HopperParameters& p, const ScoredTile& tile,
                                                 const Batch& batch) {
  constexpr int kParts = kBlockWords / kImageQueries;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  for (int unit = Scorer::warp(); unit < tile.images * kParts; unit += Scorer::kWarps) {
    const int image = unit / kParts, first = unit % kParts * kImageQueries;
    const int begin = texts.begin[batch.first], end = texts.end[batch.first + batch.texts - 1];
    const int start = images.start[image], count = images.start[image + 1] - start;
    if (count == 0 || first >= end || first + kImageQueries <= begin) continue;
    const int groups = context_groups(count);
    const uint64_t full = ~uint64_t{0} >> (64 - 8 * (groups - 1));
    if (start % 2 == 0 && (images.kept[image] & full) == full) {
      attend_to_image<focal, true>(p, tile, batch, first, image, groups);
    } else {
      attend_to_image<focal, false>(p, tile, batch, first, image, groups);
    }
  }
}

template <bool focal>
__device__ __forceinline__ void attend_to_texts(const HopperParameters& p, const ScoredTile& tile, const Batch& batch) {
  constexpr int kAll = kTextQueries / kBlockQueries, kHalf = kTextQueries / 2;
  const TextList& texts = tile.lists->texts;
  const int regions = tile.lists->images.start[tile.images];
  const int parts = (regions + kTextQueries - 1) / kTextQueries;
  for (int unit = Scorer::warp(); unit < batch.texts * parts; unit += Scorer::kWarps) {
    const int slot = unit / parts, first = unit % parts * kTextQueries, text = batch.first + slot;
    switch (context_groups(texts.end[text] - texts.begin[text])) {
      case 2:
        attend_to_text<2, focal, kAll>(p, tile, batch, first, slot, regions);
        break;
      case 3:
        attend_to_text<3, focal, kAll>(p, tile, batch, first, slot, regions);
        break;
      case 5:
        for (int half = first; half < first + kTextQueries; half += kHalf)
          attend_to_text<5, focal, kAll / 2>(p, tile, batch, half, slot, regions);
        break;
      default:
        for (int half = first; half < first + kTextQueries; half += kHalf)
          attend_to_text<8, focal, kAll / 2>(p, tile, batch, half, slot, regions);
    }
  }
}

// All three steps; `release` is called by every thread once nobody reads the cosines any more.
template <bool focal, class Release>
__device__ __forceinline__ void score_cosines(const HopperParameters& p, const ScoredTile& tile, Release release) {
  const Direction direction = p.focal.direction;
  const int texts = tile.lists->texts.texts, room = (kPool - tile.images * kBlockWords) / kTileColumns;
  for (int first = 0; first < texts; first += room) {
    const Batch batch{first, texts - first < room ? texts - first : room};
    const bool last = first + room >= texts;
    if (direction != Direction::i2t) {
      scale_regions(p, tile, batch);
      Scorer::sync();
      attend_to_images<focal>(p, tile, batch);
      Scorer::sync();
      if (last && direction == Direction::t2i) release();
      aggregate<false>(p.focal, tile, batch);
      if (direction == Direction::both) Scorer::sync();
    }
    if (direction != Direction::t2i) {
      scale_words(p, tile);
      Scorer::sync();
      attend_to_texts<focal>(p, tile, batch);
      Scorer::sync();
      if (last) release();
      aggregate<true>(p.focal, tile, batch);
    }
    if (!last) Scorer::sync();
  }
}

}  // namespace heritage_align::hopper
