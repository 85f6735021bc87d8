// What the drivers hand to the kernels of a CPU level: plain data, no containers (see level.h).
#pragma once

#include <stdint.h>

#include "../epilogue/focal_attention.h"
#include "../epilogue/patch_weighted.h"

namespace heritage_align {

enum class Storage : int32_t { f32, f16, bf16, i8 };

// What the multiply-adds of a packed product work on. An int8 product is exact in int32; a bfloat16 product accumulates in
// float32; everything else is widened to float32 while it is packed.
enum class Arithmetic : int32_t { f32, bf16, i8 };

// Rows of ragged items. Row r starts at values + r * stride elements; strides and rows are int64 throughout.
struct Rows {
  const void* values;
  Storage storage;
  const float* scales;  // with i8: row r stands for values[r] * scales[r]
  int64_t stride;
  int64_t dim;
  const int64_t* offsets;
  int64_t items;

  int64_t length(int64_t item) const { return offsets[item + 1] - offsets[item]; }
};

// Some whole items side by side on one edge of a tile: item k holds rows start[k] .. start[k + 1] of the tile.
struct Edge {
  const int64_t* ids;
  const int64_t* start;
  int64_t items;

  int64_t rows() const { return start[items]; }
};

// Packed upper triangles of ragged items (triangular_factor); item i starts at values + offsets[i].
struct Factors {
  const float* values;
  const int64_t* offsets;
};

// Focal attention on tiles. `keep` never removes all regions of an image. `word_lengths` are |s| of all words.
struct FocalProblem {
  Rows images, texts;
  Direction direction;
  FocalSettings settings;
  const uint8_t* keep;
  Factors image_factors, text_factors;
  const float* word_lengths;
};

struct PatchProblem {
  Rows patches;
  PatchSettings settings;
  const float* weights;
  bool maximum_sum;  // late interaction: sum over the rows of a text of the maximum; settings are not used
};

// Where the score of the tile's image a and text b goes: scores[image_ids[a] * image_step + place[b]].
struct Destination {
  float* scores;
  int64_t image_step;
  const int64_t* place;
};

}  // namespace heritage_align
