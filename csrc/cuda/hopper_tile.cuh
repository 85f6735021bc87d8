// What the parts of Hopper's focal attention hand to each other: the tile's sizes, the lists of its items, and where
// things lie in shared memory.
#pragma once

#include "attend.cuh"
#include "focal_attention.cuh"
#include "hopper_ptx.cuh"
#include "tensor_map.h"

namespace heritage_align::hopper {

constexpr int kGroupThreads = 128;
constexpr int kGroups = 2;  // warpgroups that multiply 64 words each
constexpr int kBlockWords = kGroups * kTileWords;
constexpr int kTileColumns = kFocalColumns;    // regions of a tile: five images of 36
constexpr int kMostImages = 20;                // images of a tile
constexpr int kLongestItem = 8 * kMostGroups;  // regions of an image, words of a text

// What a tile holds, made once before the tiles (hopper_prepare.cuh). A word that is none belongs to some text.
struct alignas(16) TextList {
  int32_t texts, unused[3];
  int32_t text[kBlockWords];
  float length[kBlockWords];  // of each word
  uint8_t begin[kBlockWords], end[kBlockWords];  // words of each text
  uint8_t text_of_word[kBlockWords];
};
struct alignas(16) ImageList {
  int32_t images, first_image, first_region, unused;
  int32_t start[kMostImages + 4];  // first region of each image, and behind the last
  uint64_t kept[kMostImages];      // a bit for each region that t2i may weigh
  uint8_t image_of_region[kTileColumns + 8];
};
static_assert(sizeof(TextList) % 16 == 0 && sizeof(ImageList) % 16 == 0, "copied 16 bytes at a time");

// Factors as operands of mma.sync, see prepare_factors_kernel.
struct FactorOperands {
  const uint2* values;   // items of `stride` pairs of registers
  const float* unscale;  // what an item's factor was divided by
  int64_t stride;
};

// Shared memory of the scoring warps besides the cosines. Lists of this tile and of the next. The pool holds what steps
// 1 and 2 make of some texts at a time, as many as find room: first by image and word (t2i: the cosines with what was
// attended to; i2t: scales), then by text and region (t2i: scales; i2t: cosines).
constexpr int kPool = 3360;
struct Lists {
  TextList texts;
  ImageList images;
};
struct Scratch {
  Lists lists[2];
  float pool[kPool];
};
static_assert(kMostImages * kBlockWords + kTileColumns <= kPool, "room for one text at least");

constexpr int kCosinesBytes = kBlockWords * kTileColumns * static_cast<int>(sizeof(float));
constexpr int kScratchBytes = (static_cast<int>(sizeof(Scratch)) + 127) / 128 * 128;

struct HopperParameters {
  CUtensorMap words;    // boxes of 128 packed words
  CUtensorMap regions;  // boxes of a tile's regions
  FocalParameters focal;
  Tasks tiles;              // as focal.tasks, but for tiles of this size
  const TextList* texts;    // one for each block's words
  const ImageList* images;  // one for each tile's images
  FactorOperands image_factors, text_factors;
  const float* region_scales;  // int8 regions: of each
  const float* word_scales;    // int8 words: of each packed word
  int region_rows;
  int chunks;
  Weighing weighing;
  float shift;  // of logits; 0 unless bounded
  float slope;  // of the rectifier, see slope_of
  Norm norm;
};

// corner_of in 32 bits, for fewer than 2^31 tiles: divisions of 64 bits take hundreds of clocks. Counts groups of both.
struct SmallCorner {
  uint32_t text_group, image_group;
};
__device__ __forceinline__ SmallCorner small_corner_of(const Tasks& tiles, uint32_t task) {
  const auto of_stripe = static_cast<uint32_t>(kRaster * tiles.image_groups);
  const auto groups = static_cast<uint32_t>(tiles.text_groups);
  const uint32_t stripe = task / of_stripe, rest = task - stripe * of_stripe, left = groups - stripe * kRaster;
  const uint32_t width = left < kRaster ? left : kRaster, row = rest / width;
  return {stripe * kRaster + rest - row * width, row};
}

}  // namespace heritage_align::hopper
