// Focal attention on one tile of cosines: some whole images by some whole texts, both directions from the one product.
//
// Each direction needs the tile both ways round: step 1 runs with a context in each lane, steps 2 and 3 with a query in
// each. "Queries" and "contexts" are the tile's two edges; i2t is t2i with the edges and the tiles exchanged.
#pragma once

#include "storage.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// Scratch of a tile, all 64-byte aligned; leading dimensions are multiples of kLanes.
struct FocalTile {
  float* by_word;         // (words, regions): the product
  float* by_region;       // (regions, words): its transpose
  float* logits_by_word;  // of the size of by_word
  float* logits_by_region;
  float* query_scores;    // (items, queries) of the larger direction, then
  float* transposed;          // (queries, items)
  int64_t word_ld;        // words rounded up
  int64_t region_ld;      // regions rounded up
};

// What one direction needs of its query and context sides.
struct OneWay {
  const Edge* queries;
  const Edge* contexts;
  const float* cosines;            // (queries, contexts)
  int64_t context_ld;
  const float* turned_cosines;     // (contexts, queries)
  int64_t query_ld;
  float* logits;
  float* turned_logits;
  const uint8_t* keep;             // of the tile's contexts, or null
  const float* const* factor;      // packed R of each context item
  int64_t dim;
  const float* query_lengths;      // query_ld of them
};

// Scores (query items, context items), leading dimension round_up(context items, kLanes), into tile.transposed.
template <class S>
inline void attend_one_way(const S& s, const OneWay& way, const FocalTile& tile) {
  const int64_t n_contexts = way.contexts->rows(), n_queries = way.queries->rows();
  const int64_t items_ld = round_up(way.contexts->items, kLanes);
  for (int64_t item = 0; item < way.queries->items; ++item) {
    const int64_t first = way.queries->start[item], n = way.queries->start[item + 1] - first;
    for (int64_t c = 0; n > 0 && c < n_contexts; c += kLanes) {
      const int64_t at = first * way.context_ld + c, pitch = way.context_ld / kLanes;
      const Column<const Lanes> cosines{reinterpret_cast<const Lanes*>(way.cosines + at), pitch};
      const Column<Lanes> logits{reinterpret_cast<Lanes*>(way.logits + at), pitch};
      const QueryAxis<Lanes> axis = query_axis<Lanes>(s, n, cosines);
      for (int64_t j = 0; j < n; ++j) logits[j] = logit_of<Lanes>(s, axis, cosines[j]);
    }
  }
  transpose(way.logits, round_up(n_queries, kLanes), round_up(n_contexts, kLanes), way.context_ld, way.turned_logits,
            way.query_ld);
  for (int64_t item = 0; item < way.contexts->items; ++item) {
    const int64_t first = way.contexts->start[item], m = way.contexts->start[item + 1] - first;
    if (m == 0) {
      memset(tile.query_scores + item * way.query_ld, 0, sizeof(float) * way.query_ld);
      continue;
    }
    const uint8_t* keep = way.keep == nullptr ? nullptr : way.keep + first;
    for (int64_t q = 0; q < n_queries; q += kLanes) {
      const int64_t at = first * way.query_ld + q, pitch = way.query_ld / kLanes;
      const Column<Lanes> logits{reinterpret_cast<Lanes*>(way.turned_logits + at), pitch};
      const Column<const Lanes> cosines{reinterpret_cast<const Lanes*>(way.turned_cosines + at), pitch};
      const Lanes length = load(way.query_lengths + q);
      const Lanes cosine = attended_cosine<Lanes>(s, m, logits, cosines, keep, way.factor[item],
                                                  m < way.dim ? m : way.dim, length);
      store(tile.query_scores + item * way.query_ld + q, cosine);
    }
  }
  transpose(tile.query_scores, items_ld, way.query_ld, way.query_ld, tile.transposed, items_ld);
  for (int64_t item = 0; item < way.queries->items; ++item) {
    const int64_t first = way.queries->start[item], n = way.queries->start[item + 1] - first;
    for (int64_t c = 0; n > 0 && c < items_ld; c += kLanes) {
      const Column<const Lanes> cosines{reinterpret_cast<const Lanes*>(tile.transposed + first * items_ld + c),
                                        items_ld / kLanes};
      // Into the first row of the item, which is read for the last time here.
      store(tile.transposed + first * items_ld + c, aggregated<Lanes>(s, n, cosines));
    }
  }
}

// Settings known at compile time: the branches on them leave the inner loops. SCAN's and BFAN's are the common ones.
struct LeakyL2 : FocalSettings {
  static constexpr Rectifier rectifier = Rectifier::leaky_relu;
  static constexpr Normaliser normaliser = Normaliser::l2;
};

inline void attend(const FocalSettings& s, const OneWay& way, const FocalTile& tile) {
  if (s.rectifier == Rectifier::leaky_relu && s.normaliser == Normaliser::l2) {
    attend_one_way(LeakyL2{s}, way, tile);
  } else {
    attend_one_way(s, way, tile);
  }
}

// Writes the scores of every pair of the tile; by_word holds the product, padding rows and columns are zero.
inline void score_focal_tile(const FocalProblem& problem, const Edge& images, const Edge& texts,
                             const FocalTile& tile, const uint8_t* keep, const float* const* image_factors,
                             const float* const* text_factors, const float* word_lengths, const float* region_lengths,
                             const Destination& to) {
  const bool t2i = problem.direction != Direction::i2t, i2t = problem.direction != Direction::t2i;
  transpose(tile.by_word, tile.word_ld, tile.region_ld, tile.region_ld, tile.by_region, tile.word_ld);
  for (int64_t a = 0; a < images.items; ++a)
    for (int64_t b = 0; b < texts.items; ++b) {
      const bool empty = images.start[a] == images.start[a + 1] || texts.start[b] == texts.start[b + 1];
      to.scores[images.ids[a] * to.image_step + to.place[b]] = empty ? -INFINITY : 0.0f;
    }
  if (t2i) {
    const OneWay way{&texts,         &images,        tile.by_word,
                     tile.region_ld, tile.by_region, tile.word_ld,
                     tile.logits_by_word, tile.logits_by_region, keep,
                     image_factors,  problem.images.dim, word_lengths};
    attend(problem.settings, way, tile);
    const int64_t ld = round_up(images.items, kLanes);
    for (int64_t b = 0; b < texts.items; ++b)
      for (int64_t a = 0; a < images.items; ++a)
        if (texts.start[b] < texts.start[b + 1])
          to.scores[images.ids[a] * to.image_step + to.place[b]] += tile.transposed[texts.start[b] * ld + a];
  }
  if (i2t) {
    const OneWay way{&images,       &texts,         tile.by_region,
                     tile.word_ld,  tile.by_word,   tile.region_ld,
                     tile.logits_by_region, tile.logits_by_word, nullptr,
                     text_factors,  problem.images.dim, region_lengths};
    attend(problem.settings, way, tile);
    const int64_t ld = round_up(texts.items, kLanes);
    for (int64_t a = 0; a < images.items; ++a)
      for (int64_t b = 0; b < texts.items; ++b)
        if (images.start[a] < images.start[a + 1])
          to.scores[images.ids[a] * to.image_step + to.place[b]] += tile.transposed[images.start[a] * ld + b];
  }
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
