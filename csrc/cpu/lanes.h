// One vector of float lanes for every level: GCC and Clang vector extensions, and intrinsics only where those fall short.
// Included once a level, with HA_LEVEL and HA_WIDTH (lanes) set, and before the epilogues: their templates find only the
// overloads for vectors that are declared by then.
#pragma once

#include <stdint.h>
#include <string.h>

#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../pair_score.h"

namespace heritage_align {
inline namespace HA_LEVEL {

constexpr int kLanes = HA_WIDTH;
typedef float Lanes __attribute__((vector_size(4 * HA_WIDTH), may_alias));
typedef int32_t IntLanes __attribute__((vector_size(4 * HA_WIDTH), may_alias));

HA_HD int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

HA_HD Lanes load(const float* p) {
  Lanes v;
  memcpy(&v, p, sizeof v);
  return v;
}
HA_HD void store(float* p, Lanes v) { memcpy(p, &v, sizeof v); }
HA_HD Lanes spread(float x) { return Lanes{} + x; }

HA_HD Lanes where(IntLanes condition, Lanes a, Lanes b) { return condition ? a : b; }

// The second operand where either is NaN.
HA_HD Lanes larger(Lanes a, Lanes b) {
#if HA_WIDTH == 16
  return (Lanes)_mm512_max_ps((__m512)a, (__m512)b);
#elif HA_WIDTH == 8
  return (Lanes)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

HA_HD Lanes sqrt_of(Lanes x) {
#if HA_WIDTH == 16
  return (Lanes)_mm512_sqrt_ps((__m512)x);
#elif HA_WIDTH == 8
  return (Lanes)_mm256_sqrt_ps((__m256)x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = sqrtf(x[i]);
  return x;
#endif
}

// One logarithm a pair of items: not worth a polynomial.
HA_HD Lanes log_of(Lanes x) {
  for (int i = 0; i < kLanes; ++i) x[i] = logf(x[i]);
  return x;
}

// Cody-Waite reduction and a degree 6 polynomial: relative error below 2e-7 on [-87.3, 88], held at its ends outside.
HA_HD Lanes exp_of(Lanes x) {
  x = larger(spread(-87.3f), x);
  x = where(x > spread(88.0f), spread(88.0f), x);
  const Lanes magic = spread(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const Lanes shifted = x * 1.44269504f + magic;
  const Lanes n = shifted - magic;
  Lanes r = x - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  Lanes p = r * 1.3888889e-3f + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return (Lanes)((IntLanes)p + ((IntLanes)shifted << 23));
}

// Adds to each lane the one whose number differs in bit S, down to bit 1: then every lane holds the sum.
template <int S, int... I>
HA_HD Lanes fold_lanes(Lanes v, std::integer_sequence<int, I...> lanes) {
  v = v + __builtin_shufflevector(v, v, (I ^ S)...);
  if constexpr (S > 1) v = fold_lanes<S / 2>(v, lanes);
  return v;
}
HA_HD float sum_of(Lanes v) {
  return fold_lanes<kLanes / 2>(v, std::make_integer_sequence<int, kLanes>{})[0];
}

// The lanes of a, except where lane & S: there b's lanes shifted by S (low), or the mirror image of that (high).
template <int S, int... I>
HA_HD Lanes swap_low(Lanes a, Lanes b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & S) ? kLanes + I - S : I)...);
}
template <int S, int... I>
HA_HD Lanes swap_high(Lanes a, Lanes b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, ((I & S) ? kLanes + I : I + S)...);
}
template <int S>
HA_HD void transpose_step(Lanes* v) {
  if constexpr (S >= 1) {
    constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & S) == 0) {
        const Lanes a = v[i], b = v[i + S];
        v[i] = swap_low<S>(a, b, lanes);
        v[i + S] = swap_high<S>(a, b, lanes);
      }
    }
    transpose_step<S / 2>(v);
  }
}
// The sums of kLanes vectors, that of v[i] in lane i: each with the bits of sum_of(v[i]). V says what the lanes hold.
template <class V = Lanes, int S = kLanes / 2>
HA_HD V sums_of(Lanes* v) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
#pragma GCC unroll 8
  for (int i = 0; i < S; ++i)
    v[i] = (Lanes)((V)swap_low<S>(v[i], v[i + S], lanes) + (V)swap_high<S>(v[i], v[i + S], lanes));
  if constexpr (S > 1) return sums_of<V, S / 2>(v);
  return (V)v[0];
}
// A square of kLanes x kLanes in registers.
HA_HD void transpose_square(Lanes* v) { transpose_step<kLanes / 2>(v); }

// (rows, columns) -> (columns, rows); both are multiples of kLanes, as are the leading dimensions.
inline void transpose(const float* from, int64_t rows, int64_t columns, int64_t from_ld, float* to, int64_t to_ld) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    for (int64_t r = 0; r < rows; r += kLanes) {
      Lanes square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) square[i] = load(from + (r + i) * from_ld + c);
      transpose_square(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(to + (c + i) * to_ld + r, square[i]);
    }
  }
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
