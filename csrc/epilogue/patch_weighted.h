// Pooling of the similarities s_i of one query with the patches of one image, and the maximum of late interaction.
// The state is small and merges, so a pass may be split over lanes, warps or blocks of patches.
#pragma once

#include "../pair_score.h"

namespace heritage_align {

struct PatchSettings {
  Pooling pooling;
  float inverse_temperature;
  float global_mix;
};

inline namespace HA_LEVEL {

// softmax: pooled = acc / mass with weights exp((s - top) / temperature); max: top; mean: acc / m; weights: acc.
template <class T>
struct Pool {
  T top;
  T mass;
  T acc;
};

template <class T>
HA_HD Pool<T> empty_pool(T like) {
  const T zero = like * 0.0f;
  return {zero - 3.0e38f, zero, zero};
}

// Takes in one similarity; `weight` is the fixed weight of the patch, used by Pooling::weights alone. One exponential:
// whichever of the old maximum and the new value is smaller is the one that shrinks.
template <class T>
HA_HD void pool_add(const PatchSettings& s, Pool<T>& pool, T similarity, float weight) {
  switch (s.pooling) {
    case Pooling::softmax: {
      const T top = larger(pool.top, similarity);
      const T other = where(similarity > pool.top, pool.top, similarity);
      const T shrunk = exp_of((other - top) * s.inverse_temperature);
      const T one = shrunk * 0.0f + 1.0f;
      const T keep_old = where(similarity > pool.top, shrunk, one);
      const T take_new = where(similarity > pool.top, one, shrunk);
      pool.mass = pool.mass * keep_old + take_new;
      pool.acc = pool.acc * keep_old + take_new * similarity;
      pool.top = top;
      break;
    }
    case Pooling::max:
      pool.top = larger(pool.top, similarity);
      break;
    case Pooling::mean:
      pool.acc = pool.acc + similarity;
      break;
    case Pooling::weights:
      pool.acc = pool.acc + similarity * weight;
      break;
  }
}

template <class T>
HA_HD Pool<T> pool_merge(const PatchSettings& s, const Pool<T>& a, const Pool<T>& b) {
  const T top = larger(a.top, b.top);
  if (s.pooling != Pooling::softmax) return {top, a.mass + b.mass, a.acc + b.acc};
  const T from_a = exp_of((a.top - top) * s.inverse_temperature);
  const T from_b = exp_of((b.top - top) * s.inverse_temperature);
  return {top, a.mass * from_a + b.mass * from_b, a.acc * from_a + b.acc * from_b};
}

// The pooled similarity of m patches (m >= 1).
template <class T>
HA_HD T pooled(const PatchSettings& s, const Pool<T>& pool, int64_t m) {
  switch (s.pooling) {
    case Pooling::softmax:
      return pool.acc / pool.mass;
    case Pooling::max:
      return pool.top;
    case Pooling::mean:
      return pool.acc / (pool.acc * 0.0f + static_cast<float>(m));
    default:
      return pool.acc;
  }
}

template <class T>
HA_HD T mixed(const PatchSettings& s, T pooled_similarity, T global_similarity) {
  return global_similarity * s.global_mix + pooled_similarity * (1.0f - s.global_mix);
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
