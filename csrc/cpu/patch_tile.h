// Patch-weighted similarity, late interaction and folding on the CPU.
#pragma once

#include "direct.h"

namespace heritage_align {
inline namespace HA_LEVEL {

HA_HD float largest_of(const float* values, int64_t n) {
  float top = values[0];
  if (n >= kLanes) {
    Lanes tops = load(values + n - kLanes);  // overlaps the last of the others
    for (int64_t i = 0; i + kLanes <= n; i += kLanes) tops = larger(load(values + i), tops);
    top = tops[0];
    for (int i = 1; i < kLanes; ++i) top = larger(tops[i], top);
    return top;
  }
  for (int64_t i = 1; i < n; ++i) top = larger(values[i], top);
  return top;
}

// Pools m similarities that lie side by side. The maximum is found first, so that the lanes share it and just add up.
inline float pool_row(const PatchSettings& s, const float* similarities, const float* weights, int64_t m) {
  Pool<float> pool = empty_pool(0.0f);
  pool.top = largest_of(similarities, m);
  if (s.pooling == Pooling::max) return pool.top;
  Pool<Lanes> lanes = empty_pool(Lanes{});
  lanes.top = spread(pool.top);
  int64_t i = 0;
  if (s.pooling != Pooling::weights) {
    for (; i + kLanes <= m; i += kLanes) pool_add(s, lanes, load(similarities + i), 0.0f);
    pool.mass = sum_of(lanes.mass);
    pool.acc = sum_of(lanes.acc);
  }
  for (; i < m; ++i) pool_add(s, pool, similarities[i], weights == nullptr ? 0.0f : weights[i]);
  return pooled(s, pool, m);
}

// Pools a tile (regions, words) with a query in each lane: scores (images, words) into `out`.
inline void pool_tile(const PatchProblem& problem, const Edge& images, const float* by_region, int64_t word_ld,
                      const float* weights, float* out) {
  for (int64_t a = 0; a < images.items; ++a) {
    const int64_t first = images.start[a], m = images.start[a + 1] - first;
    for (int64_t w = 0; w < word_ld; w += kLanes) {
      const float* column = by_region + first * word_ld + w;
      Lanes value{};
      if (m > 0 && problem.maximum_sum) {
        value = load(column);
        for (int64_t i = 1; i < m; ++i) value = larger(value, load(column + i * word_ld));
      } else if (m > 0) {
        Pool<Lanes> pool = empty_pool(Lanes{});
        for (int64_t i = 0; i < m; ++i)
          pool_add(problem.settings, pool, load(column + i * word_ld), weights == nullptr ? 0.0f : weights[first + i]);
        value = pooled(problem.settings, pool, m);
      }
      store(out + a * word_ld + w, value);
    }
  }
}

// Scores of a tile from its pooled values (images, words). `global` (words, images) holds the global similarities.
inline void write_patch_scores(const PatchProblem& problem, const Edge& images, const Edge& texts, const float* values,
                               int64_t word_ld, const float* global, int64_t global_ld, const Destination& to) {
  for (int64_t a = 0; a < images.items; ++a) {
    for (int64_t b = 0; b < texts.items; ++b) {
      float score = 0.0f;
      if (problem.maximum_sum) {
        for (int64_t w = texts.start[b]; w < texts.start[b + 1]; ++w) score += values[a * word_ld + w];
      } else {
        score = values[a * word_ld + texts.start[b]];
        if (global != nullptr) score = mixed(problem.settings, score, global[texts.start[b] * global_ld + a]);
      }
      const bool empty = images.start[a] == images.start[a + 1] || texts.start[b] == texts.start[b + 1];
      to.scores[images.ids[a] * to.image_step + to.place[b]] = empty ? -INFINITY : score;
    }
  }
}

// sum_j w_j u_j of the item's rows, w_j = <whole, u_j>, softmaxed if temperature > 0. `whole` is padded with zeros to whole
// vectors; `weights` holds m floats, `wide` wide_rows_size(dim).
inline void fold_item(const Rows& rows, int64_t first, int64_t m, const float* whole, float temperature,
                      bool renormalise, float* weights, float* wide, float* out) {
  memset(out, 0, sizeof(float) * rows.dim);
  if (m == 0) return;
  multiply_direct(rows, first, m, whole, 1, 0, wide, weights, m);
  if (temperature > 0.0f) {
    const float top = largest_of(weights, m);
    float mass = 0.0f;
    for (int64_t i = 0; i < m; ++i) mass += weights[i] = expf((weights[i] - top) / temperature);
    for (int64_t i = 0; i < m; ++i) weights[i] /= mass;
  }
  for (int64_t i = 0; i < m; ++i) {
    widen_row(rows, first + i, wide);
    for (int64_t k = 0; k < rows.dim; ++k) out[k] += weights[i] * wide[k];
  }
  if (!renormalise) return;
  double squares = 0.0;
  for (int64_t k = 0; k < rows.dim; ++k) squares += static_cast<double>(out[k]) * out[k];
  const float length = static_cast<float>(__builtin_sqrt(squares));
  for (int64_t k = 0; k < rows.dim; ++k) out[k] /= length > 1e-12f ? length : 1e-12f;  // torch.nn.functional.normalize
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
