// The gradient of focal attention for one pair, in closed form. The forward, for a query q and contexts v_i:
//
//   x_ij = rectified(C_ij)   a_ij = normalised over the queries j   p_ij = softmax over the contexts i of temperature a_ij
//   r_j = sum_i p_ij C_ij / max(L_j |q_j|, eps)   L_j = |sum_i p_ij v_i| = |R p_j|   score = aggregated(r_1 .. r_n)
//
// (a focal filter and `keep` set weights to 0 and the others are softmaxed alone; which ones is a constant). The rows v_i and
// q_j enter through C, L and |q| alone, so the feature dimension is met in small products and the rest is m x n. With
// the score's gradient g, and r_j' = g d score / d r_j:
//
//   numerator    n_j = r_j' / max(L_j |q_j|, eps)                         C_ij gets n_j p_ij
//   lengths      c_j = -r_j' r_j / L_j^2    k_j = -r_j' r_j / |q_j|^2     both 0 where eps was the larger
//   weights      p_ij' = n_j C_ij + c_j (R^T R p_j)_i                     for d L_j / d p_j = R^T R p_j / L_j
//   logits       l_ij' = p_ij (p_ij' - sum_i p_ij p_ij')                  the sum is 0: r_j does not see the scale of
//                                                                         p_j. Where eps was the larger: r_j' r_j
//   cosines      C_ij gets rectified'(C_ij) times the normaliser's gradient of temperature l_ij'
//
// With all of that in C', the gradients of the rows are (P = (p_ij), the same with the roles changed for the other direction)
//
//   V' = C' Q + (P diag(c) P^T) V      Q' = C'^T V + diag(k) Q
#pragma once

#include "focal_attention.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// Step 2 of the forward, keeping what its gradient needs.
//   p      m logits of this query; overwritten by the weights, which sum to 1
//   pull   m numbers; receives R^T R p
template <class T>
struct AttendedQuery {
  T cosine;   // r
  T length;   // L
  T floored;  // 1 where L |q| is below eps, else 0
};

template <class T, class Weights, class Cosines, class Pull>
HA_HD AttendedQuery<T> attended_query(const FocalSettings& s, int64_t m, const Weights& p, const Cosines& cosines,
                                      const Pull& pull, const uint8_t* keep, const float* R, int64_t rank, T length) {
  weigh_contexts<T>(s, m, p, keep);
  const T zero = cosines[0] * 0.0f;
  T total = zero;
  for (int64_t i = 0; i < m; ++i) total = total + p[i];
  T dot = zero;
  for (int64_t i = 0; i < m; ++i) {
    p[i] = p[i] / total;
    dot = dot + p[i] * cosines[i];
    pull[i] = zero;
  }
  T squares = zero;
  for (int64_t r = 0; r < rank; ++r) {
    const float* row = R + triangle_row(r, m) - r;
    T y = p[r] * row[r];
    for (int64_t c = r + 1; c < m; ++c) y = y + p[c] * row[c];
    for (int64_t c = r; c < m; ++c) pull[c] = pull[c] + y * row[c];
    squares = squares + y * y;
  }
  const T attended = sqrt_of(squares), lengths = attended * length;
  return {dot / larger(zero + kEps, lengths), attended, where(lengths >= zero + kEps, zero, zero + 1.0f)};
}

// What the rows' lengths get (c and k above).
template <class T>
struct LengthGradient {
  T attended;
  T query;
};

// The gradient of step 2: `slope` is r'. `pull` is overwritten by the logits' gradient; the numerator's share is added to
// `cosine_gradient`.
template <class T, class Weights, class Cosines, class Pull, class Gradient>
HA_HD LengthGradient<T> attended_query_gradient(int64_t m, const Weights& p, const Cosines& cosines, const Pull& pull,
                                                const AttendedQuery<T>& query, T length, T slope,
                                                const Gradient& cosine_gradient) {
  const T zero = slope * 0.0f;
  const auto inside = query.floored == zero;
  const T lengths = query.length * length, loss = slope * query.cosine;
  const T numerator = slope / where(inside, lengths, zero + kEps);
  const T attended = where(inside, zero - loss / (query.length * query.length), zero);
  const T mean = where(inside, zero, loss);
  for (int64_t i = 0; i < m; ++i) {
    const T weight = p[i];
    cosine_gradient[i] = cosine_gradient[i] + numerator * weight;
    pull[i] = weight * (numerator * cosines[i] + attended * pull[i] - mean);
  }
  return {attended, where(inside, zero - loss / (length * length), zero)};
}

// The gradient of step 1 for one context: adds the cosines' share to `cosine_gradient`, from that of its n logits.
template <class T, class Cosines, class Logits, class Gradient>
HA_HD void query_axis_gradient(const FocalSettings& s, int64_t n, const Cosines& cosines, const Logits& logit_gradient,
                               const Gradient& cosine_gradient) {
  const T zero = cosines[0] * 0.0f, one = zero + 1.0f;
  FocalSettings unit = s;  // whose logits are a
  unit.temperature = 1.0f;
  const auto slope_of = [&](T cosine) {
    if (s.rectifier == Rectifier::none) return one;
    return where(cosine > zero, one, s.rectifier == Rectifier::relu ? zero : zero + kLeakySlope);
  };
  const QueryAxis<T> axis = query_axis<T>(unit, n, cosines);
  T squares = zero, mean = zero;  // sum_j a_j a_j'
  for (int64_t j = 0; j < n; ++j) {
    const T x = rectified(s.rectifier, T(cosines[j]));
    squares = squares + x * x;
    mean = mean + logit_of<T>(unit, axis, cosines[j]) * (logit_gradient[j] * s.temperature);
  }
  const T norm = sqrt_of(squares);
  // The norm moves the denumerator, unless it is 0 or, as the denumerator's floor (query_axis), below the floor.
  const auto moves = s.focal == Focal::none ? norm > zero : norm >= zero + kEps;
  const T safe_norm = where(moves, norm, one), shrink = where(moves, mean * axis.scale, zero);
  for (int64_t j = 0; j < n; ++j) {
    const T x = rectified(s.rectifier, T(cosines[j])), given = logit_gradient[j] * s.temperature;
    T rectified_gradient = given;
    if (s.normaliser == Normaliser::softmax) rectified_gradient = logit_of<T>(unit, axis, cosines[j]) * (given - mean);
    if (s.normaliser == Normaliser::l2) rectified_gradient = given * axis.scale - x / safe_norm * shrink;
    cosine_gradient[j] = cosine_gradient[j] + slope_of(cosines[j]) * rectified_gradient;
  }
}

// The gradient of step 3, in two parts: what all queries share, and d score / d r_j of each.
struct AggregateAxis {
  float top;
  float scale;
};

template <class Cosines>
HA_HD AggregateAxis aggregate_axis(const FocalSettings& s, int64_t n, const Cosines& cosines) {
  if (s.aggregate == Aggregate::mean) return {0.0f, 1.0f / static_cast<float>(n)};
  if (s.aggregate == Aggregate::sum) return {0.0f, 1.0f};
  float top = cosines[0], sum = 0.0f;
  for (int64_t j = 1; j < n; ++j) top = larger(top, cosines[j]);
  for (int64_t j = 0; j < n; ++j) {
    // Equal maxima share the gradient evenly, as in torch.amax.
    if (s.aggregate == Aggregate::max) sum = sum + where(cosines[j] == top, 1.0f, 0.0f);
    else sum = sum + exp_of((cosines[j] - top) * s.lse_scale);
  }
  return {top, 1.0f / sum};
}

HA_HD float aggregate_slope(const FocalSettings& s, const AggregateAxis& axis, float cosine) {
  if (s.aggregate == Aggregate::max) return where(cosine == axis.top, axis.scale, 0.0f);
  if (s.aggregate == Aggregate::lse) return exp_of((cosine - axis.top) * s.lse_scale) * axis.scale;
  return axis.scale;
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
