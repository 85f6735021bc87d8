// Scores a tile of cosines [word][region] in shared memory, by seven warps: the three steps of
// epilogue/focal_attention.h, in one or both directions, some texts at a time.
//
// A pitch of 184 floats, 24 beyond the banks, has no conflicts for the accesses that count: pairs of regions of eight
// words, one region of four words (i2t), and neighbouring regions of one word.
//
// Little lives in registers across the steps. What the compiler spills goes to local memory, and beside 227 KB of
// shared memory that has no L1 to speak of: 370 clocks for each value that came back (measured on an H200).
#pragma once

#include <type_traits>

#include "hopper_tile.cuh"

namespace heritage_align::hopper {

struct Scorer {
  static constexpr int kFirst = kGroups * kGroupThreads;  // of the block's threads
  static constexpr int kWarps = 7;
  static constexpr int kSize = kWarps * kLanes;
  __device__ static int thread() { return read_thread_index() - kFirst; }
  // By a shuffle, so that the compiler knows it to be the same in all lanes; it then trusts loops over it to converge.
  __device__ static int warp() { return __shfl_sync(kAllLanes, thread() / kLanes, 0); }
  __device__ static int lane() { return read_thread_index() % kLanes; }
  __device__ static void sync() { named_barrier<kSize>(1); }
};

constexpr int kQueries = 2 * kBlockQueries;  // that a warp has in hand at a time: words, or regions
constexpr int kWeightParts = 1;              // float16 a weight

struct ScoredTile {
  const float* cosines;
  const Lists* lists;
  float* pool;
  int images, most_images;  // of this tile, of any

  // The two parts of the pool, in the same place for all tiles: of the next, one is written while the other is read.
  __device__ float* by_word(int image) const { return pool + image * kBlockWords; }
  __device__ float* by_region(int slot) const { return pool + most_images * kBlockWords + slot * kTileColumns; }
  __device__ int texts_at_once() const { return (kPool - most_images * kBlockWords) / kTileColumns; }
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

// t2i, step 1: scales by text and region; a warp has a text and 64 regions, a lane two of these. (Made by the multiplying
// warps, which wait for the scoring ones a third of their time, all of it took 3 % longer on an H100.)
__device__ __forceinline__ void scale_regions(const HopperParameters& p, const ScoredTile& tile, const Batch& batch) {
  constexpr int kPart = 2 * kLanes, kParts = (kTileColumns + kPart - 1) / kPart;
  constexpr int kAhead = 4;  // words whose cosines are read at once
  const TextList& texts = tile.lists->texts;
  const float slope = p.slope;
  for (int unit = Scorer::warp(); unit < batch.texts * kParts; unit += Scorer::kWarps) {
    const int slot = unit / kParts, region = unit % kParts * kPart + 2 * Scorer::lane();
    if (region >= kTileColumns) continue;
    const int first = texts.begin[batch.first + slot], words = texts.end[batch.first + slot] - first;
    const float* from = tile.cosines + first * kTileColumns + region;
    float2 squares{0.0f, 0.0f}, c[kAhead];
    const auto read = [&](int left) {
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) c[i] = i < left ? two_at(from + i * kTileColumns) : float2{0.0f, 0.0f};
    };
    read(words);
    for (int left = words; left > 0; left -= kAhead) {
      float2 now[kAhead];
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) now[i] = c[i];
      from += kAhead * kTileColumns;
      read(left - kAhead);
      HA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const float x = fmaxf(now[i].x, slope * now[i].x), y = fmaxf(now[i].y, slope * now[i].y);
        squares.x += x * x;
        squares.y += y * y;
      }
    }
    *reinterpret_cast<float2*>(tile.by_region(slot) + region) = {logit_scale(p.norm, squares.x),
                                                                 logit_scale(p.norm, squares.y)};
  }
}

// i2t, step 1: scales by image and word; a warp has an image and 32 words, a quad four of these. All words of the tile:
// they cost less than telling them apart.
template <bool even>
__device__ __forceinline__ void scale_words_of(const HopperParameters& p, const ScoredTile& tile, int image, int first) {
  constexpr int kRows = 4;
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const int start = tile.lists->images.start[image], count = tile.lists->images.start[image + 1] - start;
  const float* from = tile.cosines + (first + g) * kTileColumns + start + 2 * t;
  const float slope = p.slope;
  float squares[kRows] = {};
  const auto add = [&](int row, float2 c) {
    const float x = fmaxf(c.x, slope * c.x), y = fmaxf(c.y, slope * c.y);
    squares[row] += x * x;
    squares[row] += y * y;
  };
  const auto pair_at = [&](int row) {
    const float* at = from + 8 * row * kTileColumns;
    return even ? two_at(at) : float2{at[0], at[1]};
  };
  int left = count;
  for (; left >= 8; left -= 8, from += 8) {
    float2 c[kRows];
    HA_UNROLL
    for (int row = 0; row < kRows; ++row) c[row] = pair_at(row);
    HA_UNROLL
    for (int row = 0; row < kRows; ++row) add(row, c[row]);
  }
  if (left > 2 * t) {
    HA_UNROLL
    for (int row = 0; row < kRows; ++row) {
      float2 c = pair_at(row);
      if (left == 2 * t + 1) c.y = 0.0f;
      add(row, c);
    }
  }
  __syncwarp();
  const float pairs[2][2] = {{squares[0], squares[1]}, {squares[2], squares[3]}};
  tile.by_word(image)[first + g + 8 * t] = logit_scale(p.norm, quad_sums(pairs));  // row t is in lane t
}

__device__ __forceinline__ void scale_words(const HopperParameters& p, const ScoredTile& tile) {
  constexpr int kPart = 32, kParts = kBlockWords / kPart;
  for (int unit = Scorer::warp(); unit < tile.images * kParts; unit += Scorer::kWarps) {
    const int image = unit / kParts, first = unit % kParts * kPart;
    if (tile.lists->images.start[image] % 2 == 0) {
      scale_words_of<true>(p, tile, image, first);
    } else {
      scale_words_of<false>(p, tile, image, first);
    }
  }
}

// How an image's regions lie in the tile: from an even column on, so that pairs are read at once; from an odd one; or,
// wherever, with regions that have no weight (`keep`). Without these only its last group needs a mask.
enum class Layout { even, odd, masked };

// t2i, step 2: words first .. first + 31 attend to an image.
template <int groups, Weighing weighing, Layout layout>
__device__ __forceinline__ void attend_to_image(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                                int first, int image) {
  constexpr int blocks = kQueries / kBlockQueries;
  constexpr int first_masked = layout == Layout::masked ? 0 : groups - 1;
  const FocalSettings& s = p.focal.settings;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const int number = images.first_image + image, start = images.start[image], count = images.start[image + 1] - start;
  const FactorRegisters<groups> factor(p.image_factors.values + number * p.image_factors.stride, Scorer::lane());
  const float unscale = p.image_factors.unscale[number];
  const uint64_t kept = images.kept[image] >> (2 * t);
  const float slope = p.slope, shift = p.shift;
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
        const bool even = layout == Layout::even;
        const float2 cosine = even ? two_at(from + 8 * q) : float2{from[8 * q], from[8 * q + 1]};
        const float2 scale = even ? two_at(scales + 8 * q) : float2{scales[8 * q], scales[8 * q + 1]};
        c[q][2 * row] = cosine.x;
        c[q][2 * row + 1] = cosine.y;
        logits[q][2 * row] = scale.x * fmaxf(cosine.x, slope * cosine.x) + shift;
        logits[q][2 * row + 1] = scale.y * fmaxf(cosine.y, slope * cosine.y) + shift;
      }
    }
    HA_UNROLL
    for (int q = first_masked; q < groups; ++q)
      HA_UNROLL
      for (int i = 0; i < 4; ++i)
        if ((kept >> (8 * q + i % 2) & 1) == 0) {
          logits[q][i] = -INFINITY;
          c[q][i] = 0.0f;  // beyond the image: perhaps not a number
        }
    Weights<groups, kWeightParts> weights;
    weigh<groups, weighing, kWeightParts>(s, static_cast<float>(count), logits, weights, sums.dot[b],
                            [&](int q, int row) { return two_of<groups>(c, q, row); });
    attended_lengths<groups, kWeightParts>(factor, weights, sums.squares[b], sums.total[b]);
    __syncwarp();
  }
  const int word = first + query_of_lane();
  const float length = quick_sqrt(quad_sums(sums.squares)) * unscale * texts.length[word];
  tile.by_word(image)[word] = cosine_of(quad_sums(sums.dot), length, of_lane(sums.total));
}

// i2t, step 2: regions first .. first + 31 attend to text `slot` of the batch. Context 8 q + 2 t + i is word
// 8 q + t + 4 i of the text: the four words that a quad reads together then lie in different banks. Words behind the
// text are read and forgotten; behind the tile that is the scratch.
template <int groups, Weighing weighing>
__device__ __forceinline__ void attend_to_text(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                               int first, int slot, int regions) {
  constexpr int blocks = kQueries / kBlockQueries;
  const FocalSettings& s = p.focal.settings;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  const int g = Scorer::lane() / 4, t = Scorer::lane() % 4;
  const int text = batch.first + slot, start = texts.begin[text], left = texts.end[text] - start - t;
  const int64_t number = texts.text[text];
  const FactorRegisters<groups> factor(p.text_factors.values + number * p.text_factors.stride, Scorer::lane());
  const float unscale = p.text_factors.unscale[number];
  const float slope = p.slope, shift = p.shift;
  Sums<blocks> sums{};
  HA_UNROLL
  for (int b = 0; b < blocks; ++b) {
    Elements<groups> c, logits;
    HA_UNROLL
    for (int row = 0; row < 2; ++row) {
      const int region = first + b * kBlockQueries + row * 8 + g, last = region < regions ? region : regions - 1;
      const float* from = tile.cosines + (start + t) * kTileColumns + last;
      const float* scales = tile.by_word(images.image_of_region[last]) + start + t;
      HA_UNROLL
      for (int q = 0; q < groups; ++q)
        HA_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int word = 8 * q + 4 * i;
          const float cosine = from[word * kTileColumns];
          c[q][2 * row + i] = cosine;
          logits[q][2 * row + i] = fmaxf(cosine, slope * cosine) * scales[word] + shift;
          if (q == groups - 1 && word >= left) {
            logits[q][2 * row + i] = -INFINITY;
            c[q][2 * row + i] = 0.0f;
          }
        }
    }
    Weights<groups, kWeightParts> weights;
    weigh<groups, weighing, kWeightParts>(s, static_cast<float>(left + t), logits, weights, sums.dot[b],
                            [&](int q, int row) { return two_of<groups>(c, q, row); });
    attended_lengths<groups, kWeightParts>(factor, weights, sums.squares[b], sums.total[b]);
    __syncwarp();
  }
  const int region = first + query_of_lane();
  const float dot = quad_sums(sums.dot), total = of_lane(sums.total);
  const float length = quick_sqrt(quad_sums(sums.squares)) * unscale;
  if (region < regions)
    tile.by_region(slot)[region] = cosine_of(dot, length * p.focal.region_lengths[images.first_region + region], total);
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

template <Weighing weighing, int groups>
__device__ __forceinline__ void attend_to_image(const HopperParameters& p, const ScoredTile& tile, const Batch& batch,
                                                int first, int image) {
  constexpr uint64_t whole = groups == 1 ? 0 : ~uint64_t{0} >> (64 - 8 * (groups > 1 ? groups - 1 : 1));
  if ((tile.lists->images.kept[image] & whole) != whole) {
    attend_to_image<groups, weighing, Layout::masked>(p, tile, batch, first, image);
  } else if (tile.lists->images.start[image] % 2 == 0) {
    attend_to_image<groups, weighing, Layout::even>(p, tile, batch, first, image);
  } else {
    attend_to_image<groups, weighing, Layout::odd>(p, tile, batch, first, image);
  }
}

// Calls visit(number of groups) with a constant.
template <class Visit, int groups = 1>
__device__ __forceinline__ void with_groups(int contexts, Visit visit) {
  if constexpr (groups == kMostGroups) {
    visit(std::integral_constant<int, groups>{});
  } else if (contexts <= 8 * groups) {
    visit(std::integral_constant<int, groups>{});
  } else {
    with_groups<Visit, groups + 1>(contexts, visit);
  }
}

template <Weighing weighing>
__device__ __forceinline__ void attend_to_images(const HopperParameters& p, const ScoredTile& tile,
                                                 const Batch& batch) {
  constexpr int kParts = kBlockWords / kQueries;
  const TextList& texts = tile.lists->texts;
  const ImageList& images = tile.lists->images;
  for (int unit = Scorer::warp(); unit < tile.images * kParts; unit += Scorer::kWarps) {
    const int image = unit / kParts, first = unit % kParts * kQueries;
    const int begin = texts.begin[batch.first], end = texts.end[batch.first + batch.texts - 1];
    const int count = images.start[image + 1] - images.start[image];
    if (count == 0 || first >= end || first + kQueries <= begin) continue;
    with_groups(count, [&](auto groups) { attend_to_image<weighing, groups.value>(p, tile, batch, first, image); });
  }
}

template <Weighing weighing>
__device__ __forceinline__ void attend_to_texts(const HopperParameters& p, const ScoredTile& tile, const Batch& batch) {
  const TextList& texts = tile.lists->texts;
  const int regions = tile.lists->images.start[tile.images];
  const int parts = (regions + kQueries - 1) / kQueries;
  for (int unit = Scorer::warp(); unit < batch.texts * parts; unit += Scorer::kWarps) {
    const int slot = unit / parts, first = unit % parts * kQueries, text = batch.first + slot;
    with_groups(texts.end[text] - texts.begin[text],
                [&](auto groups) { attend_to_text<groups.value, weighing>(p, tile, batch, first, slot, regions); });
  }
}

// All three steps. Each thread calls `begin` when all have left the tile before, `release` when its warp no longer reads
// the cosines, and `end` before the last barrier, behind which what it waited for is there for all.
//
// Between two tiles there is no barrier: all have left step 3 when all have come to the first barrier of the next tile, and
// until then that tile writes where step 3 does not read. In both directions it would, so there it takes one more.
template <Weighing weighing, class Begin, class Release, class End>
__device__ __forceinline__ void score_cosines(const HopperParameters& p, const ScoredTile& tile, Begin begin,
                                              Release release, End end) {
  const Direction direction = p.focal.direction;
  const int texts = tile.lists->texts.texts, room = tile.texts_at_once();
  for (int first = 0; first < texts; first += room) {
    const Batch batch{first, texts - first < room ? texts - first : room};
    const bool last = first + room >= texts;
    if (direction != Direction::i2t) {
      scale_regions(p, tile, batch);
      Scorer::sync();
      if (first == 0) begin();
      attend_to_images<weighing>(p, tile, batch);
      if (last && direction == Direction::t2i) {
        release();
        end();
      }
      Scorer::sync();
      aggregate<false>(p.focal, tile, batch);
      if (direction == Direction::both) Scorer::sync();
    }
    if (direction != Direction::t2i) {
      scale_words(p, tile);
      Scorer::sync();
      if (first == 0 && direction == Direction::i2t) begin();
      attend_to_texts<weighing>(p, tile, batch);
      if (last) {
        release();
        end();
      }
      Scorer::sync();
      aggregate<true>(p.focal, tile, batch);
      if (direction == Direction::both) Scorer::sync();
    }
  }
}

}  // namespace heritage_align::hopper
