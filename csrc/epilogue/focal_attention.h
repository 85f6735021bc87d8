// Focal attention of one query fragment to the context fragments of one item (SCAN, Lee et al. 2018; the focal filters of
// BFAN, Liu et al. 2019, and of Sheng et al. 2021). t2i: queries are words, contexts are regions; i2t: the other way round.
//
// Three steps, each on a tile of cosines, with a synchronisation between them:
//   1. query_axis   for each context and each query item: normalise over the item's queries      thread = (caption, region)
//   2. attended_cosine  for each query and each context item: weights, filter, cosine            thread = (word, image)
//   3. aggregated   for each pair of items: one score from its queries' cosines                  thread = (caption, image)
// The attended vector is never built: |sum_i e_i v_i| = |R e| with V^T = QR, and the cosine does not see the softmax's
// denominator, so the weights e stay unnormalised.
#pragma once

#include "../pair_score.h"

namespace heritage_align {

struct FocalSettings {
  Rectifier rectifier;
  Normaliser normaliser;
  Focal focal;
  Aggregate aggregate;
  float temperature;
  float lse_scale;
};

// From the numbers that the ops take.
inline FocalSettings focal_settings(int64_t rectifier, int64_t normalise, int64_t focal, int64_t aggregate,
                                    double temperature, double lse_scale) {
  return {static_cast<Rectifier>(rectifier), static_cast<Normaliser>(normalise), static_cast<Focal>(focal),
          static_cast<Aggregate>(aggregate), static_cast<float>(temperature),    static_cast<float>(lse_scale)};
}

inline namespace HA_LEVEL {

template <class T>
HA_HD T rectified(Rectifier rectifier, T cosine) {
  const T zero = T{} * 0.0f;
  if (rectifier == Rectifier::leaky_relu) return where(cosine > zero, cosine, cosine * kLeakySlope);
  if (rectifier == Rectifier::relu) return larger(cosine, zero);
  return cosine;
}

// Step 1. What turns a cosine of this context with a query of this item into a logit, see logit_of.
template <class T>
struct QueryAxis {
  T shift;
  T scale;
};

// `cosines[j]` is the cosine of the context with query j of `n` (n >= 1) of the item.
template <class T, class Cosines>
HA_HD QueryAxis<T> query_axis(const FocalSettings& s, int64_t n, const Cosines& cosines) {
  const T zero = cosines[0] * 0.0f;
  if (s.normaliser == Normaliser::none) return {zero, zero + s.temperature};
  if (s.normaliser == Normaliser::l2) {
    T sum = zero;
    for (int64_t j = 0; j < n; ++j) {
      const T x = rectified(s.rectifier, T(cosines[j]));
      sum = sum + x * x;
    }
    // The published norm + 1e-8 sets the contexts of a sole query 1e-8 / |cosine| apart, and float32 does not hold that:
    // rounding would choose what is focal. With 1e-8 as the floor they tie.
    const T norm = s.focal == Focal::none ? sqrt_of(sum) + kEps : larger(zero + kEps, sqrt_of(sum));
    return {zero, (zero + s.temperature) / norm};
  }
  T top = rectified(s.rectifier, T(cosines[0]));
  for (int64_t j = 1; j < n; ++j) top = larger(top, rectified(s.rectifier, T(cosines[j])));
  T sum = zero;
  for (int64_t j = 0; j < n; ++j) sum = sum + exp_of(rectified(s.rectifier, T(cosines[j])) - top);
  return {top, (zero + s.temperature) / sum};
}

template <class T>
HA_HD T logit_of(const FocalSettings& s, const QueryAxis<T>& axis, T cosine) {
  const T x = rectified(s.rectifier, cosine);
  if (s.normaliser == Normaliser::softmax) return exp_of(x - axis.shift) * axis.scale;
  return x * axis.scale;
}

// Sets the weights that the focal filter drops to 0; leaves all of them if they are equal but for rounding, where ">" would
// drop all and ">=" keep all. `e` may have any scale: the rule compares p_i * sum_j g_j with sum_j p_j g_j, and both sides
// scale alike (g = 1, sqrt(p) or p). `m` counts masked contexts too, as the published sum over all regions does; a masked
// context has e = 0.
template <class T, class Weights>
HA_HD void focal_filter(const FocalSettings& s, int64_t m, const Weights& e) {
  const T zero = e[0] * 0.0f;
  // Two partial sums each: half the rounding error of one, which decides near-ties.
  T total[2] = {zero, zero}, products[2] = {zero, zero}, top = e[0];
  for (int64_t i = 0; i < m; ++i) {
    const T p = e[i];
    const T g = s.focal == Focal::equal ? zero + 1.0f : s.focal == Focal::prob ? sqrt_of(p) : p;
    total[i & 1] = total[i & 1] + g;
    products[i & 1] = products[i & 1] + p * g;
    top = larger(top, p);
  }
  const T sum = total[0] + total[1], threshold = products[0] + products[1];
  const T tied_below = threshold * (1.0f + kFocalTolerance * (1.0f + s.temperature));
  const T top_strength = top * sum;
  for (int64_t i = 0; i < m; ++i) {
    const T p = e[i], strength = p * sum;
    const T kept = s.focal == Focal::sheng ? where(strength >= threshold, p, zero) : where(strength > threshold, p, zero);
    e[i] = where(top_strength > tied_below, kept, p);
  }
}

// |R e|^2 with the packed upper triangle R of m columns, of which the first `rank` rows are not zero. Eight rows at a time
// read each e once for eight multiply-adds.
template <class T, class Weights>
HA_HD T squared_length(const float* R, int64_t m, int64_t rank, const Weights& e) {
  T squares = e[0] * 0.0f;
  int64_t r = 0;
  for (; r + 8 <= rank; r += 8) {
    T y[8];
    const float* row[8];
    for (int k = 0; k < 8; ++k) {
      row[k] = R + triangle_row(r + k, m) - (r + k);  // so that row[k][c] is R[r + k][c]
      y[k] = e[r + k] * row[k][r + k];
      for (int c = k + 1; c < 8; ++c) y[k] = y[k] + e[r + c] * row[k][r + c];
    }
    for (int64_t c = r + 8; c < m; ++c) {
      const T weight = e[c];
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) y[k] = y[k] + weight * row[k][c];
    }
    for (int k = 0; k < 8; ++k) squares = squares + y[k] * y[k];
  }
  for (; r < rank; ++r) {
    const float* row = R + triangle_row(r, m) - r;
    T y = e[r] * row[r];
    for (int64_t c = r + 1; c < m; ++c) y = y + e[c] * row[c];
    squares = squares + y * y;
  }
  return squares;
}

// Turns the m logits of a query into its weights, which have any scale; masked and filtered contexts weigh 0.
template <class T, class Logits>
HA_HD void weigh_contexts(const FocalSettings& s, int64_t m, const Logits& logits, const uint8_t* keep) {
  const T zero = logits[0] * 0.0f;
  T top = zero - 3.0e38f;
  for (int64_t i = 0; i < m; ++i)
    if (keep == nullptr || keep[i]) top = larger(top, T(logits[i]));
  for (int64_t i = 0; i < m; ++i) logits[i] = keep == nullptr || keep[i] ? exp_of(logits[i] - top) : zero;
  if (s.focal != Focal::none) focal_filter<T>(s, m, logits);
}

// Step 2. The cosine of a query with the context that it attends to.
//   logits    m logits (step 1) of this query; overwritten by the weights
//   cosines   m cosines of this query with the contexts
//   keep      m bytes, 0 = the context gets no weight; or null. At least one must be kept.
//   R, rank   the contexts' packed factor and min(m, dim)
//   length    |query|
template <class T, class Logits, class Cosines>
HA_HD T attended_cosine(const FocalSettings& s, int64_t m, const Logits& logits, const Cosines& cosines,
                        const uint8_t* keep, const float* R, int64_t rank, T length) {
  const T zero = cosines[0] * 0.0f;
  weigh_contexts<T>(s, m, logits, keep);
  T dot = zero, total = zero;
  for (int64_t i = 0; i < m; ++i) {
    dot = dot + logits[i] * cosines[i];
    total = total + logits[i];
  }
  // The published floor of 1e-8 is on normalised weights; ours sum to `total`.
  const T lengths = sqrt_of(squared_length<T>(R, m, rank, logits)) * length;
  return dot / larger(lengths, total * kEps);
}

// Step 3. One score from the cosines of an item's n queries (n >= 1).
template <class T, class Cosines>
HA_HD T aggregated(const FocalSettings& s, int64_t n, const Cosines& cosines) {
  T top = cosines[0];
  T sum = top * 0.0f;
  if (s.aggregate == Aggregate::max || s.aggregate == Aggregate::lse)
    for (int64_t j = 1; j < n; ++j) top = larger(top, T(cosines[j]));
  if (s.aggregate == Aggregate::max) return top;
  if (s.aggregate == Aggregate::lse) {
    for (int64_t j = 0; j < n; ++j) sum = sum + exp_of((cosines[j] - top) * s.lse_scale);
    return top + log_of(sum) / (sum * 0.0f + s.lse_scale);
  }
  for (int64_t j = 0; j < n; ++j) sum = sum + cosines[j];
  return s.aggregate == Aggregate::mean ? sum / (sum * 0.0f + static_cast<float>(n)) : sum;
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
