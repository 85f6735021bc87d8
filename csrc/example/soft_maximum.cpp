// Steps 2 to 4 of csrc/README.md: a third party's score on the tiled CPU driver, in a library of its own.
#define HA_LEVEL example
#define HA_NAME "example"
#if defined(__AVX512F__)
#define HA_WIDTH 16
#elif defined(__AVX2__)
#define HA_WIDTH 8
#else
#define HA_WIDTH 4
#endif
#include "../cpu/level.inc"
#include "../cpu/tiling.h"
#include "soft_maximum.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// Step 3: one block of images against some blocks of words. The product and its transpose are the frame's.
void soft_maximum_block(float sharpness, const Rows& images, const Rows& texts, Arithmetic arithmetic,
                        const RegionBlock& block, const WordBlock* words, int64_t blocks, float* scores,
                        int64_t image_step, const Extent& extent, char* scratch) {
  Buffers b = carve(extent, arithmetic, texts.dim, scratch);
  pack_block(arithmetic, images, block, b);
  for (int64_t k = 0; k < blocks; ++k) {
    const Edge& edge = words[k].texts;
    const FocalTile& tile = b.tile;
    b.tile.word_ld = round_up(edge.rows(), kLanes);
    multiply_tile(arithmetic, texts, words[k], b, block.images.rows());
    transpose(tile.by_word, tile.word_ld, tile.region_ld, tile.region_ld, tile.by_region, tile.word_ld);
    for (int64_t a = 0; a < block.images.items; ++a) {
      const int64_t first = block.images.start[a], m = block.images.start[a + 1] - first;
      for (int64_t w = 0; m > 0 && w < tile.word_ld; w += kLanes) {  // a word in each lane
        const float* column = tile.by_region + first * tile.word_ld + w;
        const Column<const Lanes> similarities{reinterpret_cast<const Lanes*>(column), tile.word_ld / kLanes};
        store(tile.query_scores + w, soft_maximum<Lanes>(sharpness, m, similarities));
      }
      for (int64_t t = 0; t < edge.items; ++t) {
        float sum = m > 0 && edge.start[t] < edge.start[t + 1] ? 0.0f : -INFINITY;
        for (int64_t w = edge.start[t]; m > 0 && w < edge.start[t + 1]; ++w) sum += tile.query_scores[w];
        scores[block.images.ids[a] * image_step + words[k].place[t]] = sum;
      }
    }
  }
}

Tensor soft_maximum_score(Tensor regions, Tensor region_offsets, Tensor words, Tensor word_offsets, double sharpness) {
  const Rows images = rows_of(regions, Maybe{}, region_offsets), texts = rows_of(words, Maybe{}, word_offsets);
  const Tensor scores = new_floats(regions, {images.items, texts.items});
  float* out = static_cast<float*>(scores.mutable_data_ptr());
  for_all_pairs(kLevel, images, texts, false,
                [&](Arithmetic arithmetic, const RegionBlock& block, const WordBlock* blocks, int64_t count,
                    const Extent& extent, char* scratch) {
                  soft_maximum_block(static_cast<float>(sharpness), images, texts, arithmetic, block, blocks, count,
                                     out, texts.items, extent, scratch);
                });
  return scores;
}

}  // namespace HA_LEVEL
}  // namespace heritage_align

// Step 2: the schema, in a namespace of one's own.
STABLE_TORCH_LIBRARY(heritage_align_example, m) {
  m.def(
      "soft_maximum(Tensor regions, Tensor region_offsets, Tensor words, Tensor word_offsets, float sharpness)"
      " -> Tensor");
}

// Step 4: register it.
STABLE_TORCH_LIBRARY_IMPL(heritage_align_example, CPU, m) {
  m.impl("soft_maximum", TORCH_BOX(&heritage_align::soft_maximum_score));
}
