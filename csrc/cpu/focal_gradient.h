// The gradient of focal attention on the CPU, pair by pair: epilogue/focal_gradient.h with a query or a context in each
// lane, and the products that spread a pair's C' over the rows.
#pragma once

#include "../epilogue/focal_gradient.h"
#include "product.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// The tiles of one pair; those of one layout have one leading dimension. All are 64-byte aligned.
struct PairTiles {
  float* by_word;    // (words, regions): C
  float* by_region;  // (regions, words): its transpose
  float* grad_by_word;    // C', of which each direction leaves a part in either layout
  float* grad_by_region;
  float* logits;          // of the size of either, as are the following
  float* weights;
  float* pull;
  float* work;
  float* query_numbers;   // 6 arrays of the longer side
  int64_t word_ld;        // words rounded up
  int64_t region_ld;
};

// What one direction of a pair needs of its sides.
struct OneWayGradient {
  int64_t n_queries, n_contexts;
  const float* cosines;         // (queries, contexts)
  int64_t context_ld;
  const float* turned_cosines;  // (contexts, queries)
  int64_t query_ld;
  float* gradient;              // C' in the layout of cosines, added to
  float* turned_gradient;       // C' in that of turned_cosines, added to
  const uint8_t* keep;
  const float* factor;
  int64_t rank;
  const float* query_lengths;   // query_ld of them
  float* context_square;        // (contexts, context_ld): P diag(c) P^T is added
  float* query_square;          // (queries, query_ld): diag(k) is added
};

// out (rows, columns) += A^T B, of A row k's entry i at a[k * a_ld + i] and B (inner, columns). Columns and the leading
// dimensions of B and out are multiples of kLanes.
template <int rows, int vectors>
inline void add_product_block(int64_t inner, const float* a, int64_t a_ld, const float* b, int64_t b_ld, float* out,
                              int64_t out_ld) {
  Lanes acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) acc[i][j] = load(out + i * out_ld + j * kLanes);
  for (int64_t k = 0; k < inner; ++k) {
    Lanes column[vectors];
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) column[j] = load(b + k * b_ld + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (int j = 0; j < vectors; ++j) acc[i][j] = acc[i][j] + column[j] * a[k * a_ld + i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) store(out + i * out_ld + j * kLanes, acc[i][j]);
}

template <int rows>
inline void add_product_rows(int64_t columns, int64_t inner, const float* a, int64_t a_ld, const float* b, int64_t b_ld,
                             float* out, int64_t out_ld) {
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns)
    add_product_block<rows, kVectors>(inner, a, a_ld, b + c, b_ld, out + c, out_ld);
  for (; c < columns; c += kLanes) add_product_block<rows, 1>(inner, a, a_ld, b + c, b_ld, out + c, out_ld);
}

inline void add_product(int64_t rows, int64_t columns, int64_t inner, const float* a, int64_t a_ld, const float* b,
                        int64_t b_ld, float* out, int64_t out_ld) {
  for (int64_t r = 0; r < rows; r += kRows) {
    float* to = out + r * out_ld;
    switch (rows - r < kRows ? rows - r : kRows) {
#define HA_ROWS(n)                                                                                         \
  case n:                                                                                                  \
    if constexpr (n <= kRows) add_product_rows<n>(columns, inner, a + r, a_ld, b, b_ld, to, out_ld);        \
    break;
      HA_ROWS(1) HA_ROWS(2) HA_ROWS(3) HA_ROWS(4) HA_ROWS(5) HA_ROWS(6) HA_ROWS(7) HA_ROWS(8)
#undef HA_ROWS
    }
  }
}

// Rows first .. first + count as float32, `ld` (a multiple of kLanes) apart: the store itself where it is that, else a
// copy with zeros behind each row.
inline const float* padded_rows(const Rows& rows, int64_t first, int64_t count, float* copy, int64_t& ld) {
  if (rows.storage == Storage::f32 && rows.dim % kLanes == 0) {
    ld = rows.stride;
    return static_cast<const float*>(rows.values) + first * rows.stride;
  }
  ld = round_up(rows.dim, kLanes);
  for (int64_t r = 0; r < count; ++r) {
    memset(copy + r * ld + ld - kLanes, 0, sizeof(Lanes));
    widen_row(rows, first + r, copy + r * ld);
  }
  return copy;
}

// One direction of a pair whose score has the gradient `slope`.
inline void one_way_gradient(const FocalSettings& s, const OneWayGradient& way, const PairTiles& tiles, float slope) {
  const int64_t n = way.n_queries, m = way.n_contexts, query_ld = way.query_ld, context_ld = way.context_ld;
  const auto lanes_of = [](float* p, int64_t ld) { return Column<Lanes>{reinterpret_cast<Lanes*>(p), ld / kLanes}; };
  const auto const_lanes_of = [](const float* p, int64_t ld) {
    return Column<const Lanes>{reinterpret_cast<const Lanes*>(p), ld / kLanes};
  };
  float* cosine = tiles.query_numbers;
  float* attended_length = cosine + query_ld;
  float* floored = attended_length + query_ld;
  float* slopes = floored + query_ld;
  float* context_share = slopes + query_ld;  // c
  float* query_share = context_share + query_ld;  // k
  for (int64_t c = 0; c < context_ld; c += kLanes) {
    const auto cosines = const_lanes_of(way.cosines + c, context_ld);
    const auto logits = lanes_of(tiles.logits + c, context_ld);
    const QueryAxis<Lanes> axis = query_axis<Lanes>(s, n, cosines);
    for (int64_t j = 0; j < n; ++j) logits[j] = logit_of<Lanes>(s, axis, cosines[j]);
  }
  memset(tiles.logits + n * context_ld, 0, sizeof(float) * (query_ld - n) * context_ld);
  transpose(tiles.logits, query_ld, context_ld, context_ld, tiles.weights, query_ld);
  for (int64_t q = 0; q < query_ld; q += kLanes) {
    const AttendedQuery<Lanes> query = attended_query<Lanes>(
        s, m, lanes_of(tiles.weights + q, query_ld), const_lanes_of(way.turned_cosines + q, query_ld),
        lanes_of(tiles.pull + q, query_ld), way.keep, way.factor, way.rank, load(way.query_lengths + q));
    store(cosine + q, query.cosine);
    store(attended_length + q, query.length);
    store(floored + q, query.floored);
  }
  const AggregateAxis axis = aggregate_axis(s, n, cosine);
  for (int64_t j = 0; j < query_ld; ++j) slopes[j] = j < n ? slope * aggregate_slope(s, axis, cosine[j]) : 0.0f;
  for (int64_t q = 0; q < query_ld; q += kLanes) {
    const AttendedQuery<Lanes> query{load(cosine + q), load(attended_length + q), load(floored + q)};
    const LengthGradient<Lanes> lengths = attended_query_gradient<Lanes>(
        m, lanes_of(tiles.weights + q, query_ld), const_lanes_of(way.turned_cosines + q, query_ld),
        lanes_of(tiles.pull + q, query_ld), query, load(way.query_lengths + q), load(slopes + q),
        lanes_of(way.turned_gradient + q, query_ld));
    store(context_share + q, lengths.attended);
    store(query_share + q, lengths.query);
  }
  // The logits' gradient and the weights, a context in each lane again.
  memset(tiles.pull + m * query_ld, 0, sizeof(float) * (context_ld - m) * query_ld);
  transpose(tiles.pull, context_ld, query_ld, query_ld, tiles.logits, context_ld);
  for (int64_t c = 0; c < context_ld; c += kLanes)
    query_axis_gradient<Lanes>(s, n, const_lanes_of(way.cosines + c, context_ld),
                               const_lanes_of(tiles.logits + c, context_ld), lanes_of(way.gradient + c, context_ld));
  memset(tiles.weights + m * query_ld, 0, sizeof(float) * (context_ld - m) * query_ld);
  transpose(tiles.weights, context_ld, query_ld, query_ld, tiles.work, context_ld);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t c = 0; c < context_ld; c += kLanes)
      store(tiles.logits + j * context_ld + c, load(tiles.work + j * context_ld + c) * context_share[j]);
  add_product(m, context_ld, n, tiles.logits, context_ld, tiles.work, context_ld, way.context_square, context_ld);
  for (int64_t j = 0; j < n; ++j) way.query_square[j * query_ld + j] += query_share[j];
}

// C' of one pair into tiles.grad_by_word and grad_by_region, from C in tiles.by_word, whose padding is zero. What the
// rows' own side gets is added to region_square (regions, region_ld) and written to word_square (words, word_ld).
inline void pair_gradient(const FocalProblem& problem, int64_t m, int64_t n, const PairTiles& tiles, float slope,
                          const uint8_t* keep, const float* image_factor, const float* text_factor,
                          const float* word_lengths, const float* region_lengths, float* region_square,
                          float* word_square) {
  const int64_t dim = problem.images.dim;
  const size_t bytes = sizeof(float) * tiles.word_ld * tiles.region_ld;
  memset(word_square, 0, sizeof(float) * n * tiles.word_ld);
  memset(tiles.grad_by_word, 0, bytes);
  memset(tiles.grad_by_region, 0, bytes);
  transpose(tiles.by_word, tiles.word_ld, tiles.region_ld, tiles.region_ld, tiles.by_region, tiles.word_ld);
  if (problem.direction != Direction::i2t)
    one_way_gradient(problem.settings,
                     {n, m, tiles.by_word, tiles.region_ld, tiles.by_region, tiles.word_ld, tiles.grad_by_word,
                      tiles.grad_by_region, keep, image_factor, m < dim ? m : dim, word_lengths, region_square,
                      word_square},
                     tiles, slope);
  if (problem.direction != Direction::t2i)
    one_way_gradient(problem.settings,
                     {m, n, tiles.by_region, tiles.word_ld, tiles.by_word, tiles.region_ld, tiles.grad_by_region,
                      tiles.grad_by_word, nullptr, text_factor, n < dim ? n : dim, region_lengths, word_square,
                      region_square},
                     tiles, slope);
  transpose(tiles.grad_by_region, tiles.region_ld, tiles.word_ld, tiles.word_ld, tiles.work, tiles.region_ld);
  for (int64_t k = 0; k < tiles.word_ld * tiles.region_ld; k += kLanes)
    store(tiles.grad_by_word + k, load(tiles.grad_by_word + k) + load(tiles.work + k));
  transpose(tiles.grad_by_word, tiles.word_ld, tiles.region_ld, tiles.region_ld, tiles.grad_by_region, tiles.word_ld);
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
