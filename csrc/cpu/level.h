// A CPU level: the kernels compiled for one set of instructions. level.inc is compiled once a level (level_*.cpp); nothing
// in it may use the standard library's templates, whose copies the linker would share between levels.
#pragma once

#include <stddef.h>

#include "problem.h"

namespace heritage_align {

// Whole texts whose words are packed for a tile.
struct WordBlock {
  Edge texts;
  int64_t first_word;     // of the first text, in the store
  const float* packed;    // panels (pack_words)
  const int32_t* sums;    // of the int8 values of each word, with Arithmetic::i8
  const int64_t* place;   // Destination::place of the texts
};

// One call's tiles: the images of a block against some word blocks. All-pairs.
struct RegionBlock {
  Edge images;
  int64_t first_region;   // of the first image, in the store
};

// The largest of everything that a task may meet: what its scratch must hold.
struct Extent {
  int64_t words, regions;    // rows of a tile
  int64_t texts, images;     // items of a tile
  int64_t triangles;         // floats of the factors of a region block, 0 if they are given
  int64_t longest;           // rows of the longest image
};

// How the words of candidate lists are kept: float32 (direct.h), or digits of whole numbers (direct_int8.h).
enum class WordForm : int32_t { f32, one_digit, two_digits };

struct ListWords {
  WordForm form;
  const float* values;  // of all words of the store, Level::word_size apart
};

// Image `image` against the texts at `positions` of the flattened candidates (n_texts, k): one at a time or together.
struct CandidateList {
  int64_t image;
  const int64_t* positions;
  int64_t count;
  int64_t k;
  float* scores;
};

// A pair whose score has the gradient `slope`, and room for what its text needs of it: C' (regions, n_ld), then the square
// by which the text's own words are multiplied (n, n_ld); n_ld is n rounded up to whole vectors.
struct PairGradient {
  int64_t image, text;
  float slope;
  float* record;
};

struct Level {
  const char* name;
  int lanes;
  int word_panel;
  bool (*can_multiply)(Arithmetic);
  int64_t (*units)(Arithmetic, int64_t dim);
  size_t (*scratch_bytes)(const Extent&, Arithmetic, int64_t dim);
  void (*pack_words)(Arithmetic, const Rows&, int64_t first, int64_t count, float* packed, int32_t* sums);
  void (*row_lengths)(const Rows&, int64_t first, int64_t count, float* lengths);
  int64_t (*word_size)(WordForm, int64_t dim);  // in floats
  void (*write_words)(WordForm, const Rows&, int64_t first, int64_t count, float* out);
  void (*triangular_factor)(const Rows&, int64_t first, int64_t m, float* packed, char* scratch);
  void (*focal_block)(const FocalProblem&, Arithmetic, const RegionBlock&, const WordBlock*, int64_t blocks,
                      float* scores, int64_t image_step, const Extent&, char* scratch);
  void (*focal_candidates)(const FocalProblem&, const CandidateList&, const ListWords&, const Extent&, char* scratch);
  size_t (*gradient_scratch_bytes)(int64_t longest_image, int64_t longest_text, int64_t dim);
  // Adds to the gradient of an image's rows, `ld` apart, over pairs of this image; fills in their records.
  void (*focal_image_gradient)(const FocalProblem&, const float* region_lengths, const PairGradient*, int64_t count,
                               float* gradient, int64_t ld, char* scratch);
  // The same of a text's rows, from the records.
  void (*focal_text_gradient)(const FocalProblem&, const PairGradient*, int64_t count, float* gradient, int64_t ld,
                              char* scratch);
  void (*patch_block)(const PatchProblem&, Arithmetic, const Rows& texts, const RegionBlock&, const WordBlock*,
                      int64_t blocks, const Rows* global, const float* wide_words, float* scores, int64_t image_step,
                      const Extent&, char* scratch);
  void (*patch_candidates)(const PatchProblem&, const Rows& texts, const CandidateList&, const ListWords&,
                           const Rows* global, const float* wide_words, const Extent&, char* scratch);
  void (*fold)(const Rows& patches, int64_t image, const float* whole, float temperature, bool renormalise,
               const Extent&, char* scratch, float* out);
};

// The best level that this machine can run and this library holds; HERITAGE_ALIGN_CPU_LEVEL names another one.
const Level& level();

}  // namespace heritage_align
