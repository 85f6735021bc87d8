// Focal attention on a tile of cosines in shared memory: what the parts of focal_kernel.cuh hand to each other.
#pragma once

#include "attend.cuh"
#include "focal_attention.cuh"

namespace heritage_align {

constexpr int kMostHeld = 64;                // contexts of which a warp holds the factor
constexpr int kWeightParts = 2;              // float16 a weight: rows may be float32
constexpr int kMostRegions = kTileRegions;   // contexts of t2i
constexpr int kMostWords = kMostHeld;        // contexts of i2t
constexpr int kKeptWords = (kMostRegions + 63) / 64;

// Cosine of a word and a region of the tile. Even and odd pairs of words lie 8 floats apart: the pairs of regions that
// a quad reads of four words, and the eight regions of four words, then meet all banks.
__device__ __forceinline__ int cosine_at(int word, int region) {
  return word * kTileRegions + (region ^ (word & 2) << 2);
}

// Shared memory of a block: the tile's lists, the chunks and, after them in time, cosines, then floats: for each warp
// scratch for a batch, and lengths of regions. What is read behind the last row or column of something lies before the
// end of it all, and gets no weight.
struct FocalLists {
  WideTile tile;
  uint8_t text_of_word[kProductWords];
  uint8_t image_of_region[kTileRegions];
};
constexpr int kScratch = 300;  // six texts of 13 words by 36 regions
constexpr int kTileListBytes = (static_cast<int>(sizeof(FocalLists)) + 127) / 128 * 128;
constexpr int kCosineBytes = kProductWords * kTileRegions * static_cast<int>(sizeof(float));
constexpr int kFocalTileBytes = kTileListBytes + kCosineBytes +
                                (kThreads / kLanes * kScratch + kTileRegions) * static_cast<int>(sizeof(float));
static_assert(kProductBytes <= kCosineBytes, "cosines take the place of the chunks");
static_assert(kFocalTileBytes <= kHalfOfShared, "two blocks share an A100's multiprocessor");
static_assert(kScratch >= kTileRegions + kMostWords && kScratch >= kProductWords + kMostRegions && kScratch % 2 == 0,
              "room for one query item");

struct FocalTileParameters {
  FocalParameters focal;
  float slope;  // of the rectifier, see slope_of
  Norm norm;
};

// A pair's items in the tile, as queries and contexts. Context 8 q + 2 t + i of a lane is region 8 q + 2 t + i of an
// image, but word 8 q + t + 4 i of a text: the four words that a quad reads at once then lie in different banks.
template <bool i2t>
struct Roles {
  static __device__ __forceinline__ int context(int q, int t, int i) { return 8 * q + (i2t ? t + 4 * i : 2 * t + i); }
  static __device__ __forceinline__ int at(int query, int context) {
    return i2t ? cosine_at(context, query) : cosine_at(query, context);
  }
};

// Query items first .. last, whose queries are the tile's from `query` on, and one context item.
struct Batch {
  int first, last;
  int query, queries;
  int start, contexts;
  uint64_t kept[kKeptWords];  // a bit for each context that may be weighed
  float* results;             // of the queries
  float* scales;              // of the logits, by query item and context
  int pitch;                  // of the scales, even

  __device__ __forceinline__ bool keeps(int context) const {
    return (kept[context / 64] >> context % 64 & 1) != 0;
  }
};

}  // namespace heritage_align
