// Rows of a store as float lanes, whatever their dtype.
#pragma once

#include "lanes.h"
#include "problem.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// Elements of the storage dtypes, as floats.
struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

HA_HD float widen(float x) { return x; }
HA_HD float widen(int8_t x) { return x; }
HA_HD float widen(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
HA_HD float widen(Half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  uint32_t bits = (rest << 13) + 0x38000000u;  // exponent bias 15 -> 127
  if (rest >= 0x7c00u) bits += 0x38000000u;    // infinity and NaN
  float value;
  memcpy(&value, &bits, 4);
  if (rest < 0x0400u) value = static_cast<float>(rest) * 5.9604645e-8f;  // subnormal: rest * 2^-24
  memcpy(&bits, &value, 4);
  bits |= sign;
  memcpy(&value, &bits, 4);
  return value;
}

HA_HD Lanes widen_lanes(const float* p) { return load(p); }
#if HA_WIDTH == 16
HA_HD Lanes widen_lanes(const Half* p) {
  return (Lanes)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
HA_HD Lanes widen_lanes(const Bfloat16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return (Lanes)_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
HA_HD Lanes widen_lanes(const int8_t* p) {
  return (Lanes)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
#elif HA_WIDTH == 8
HA_HD Lanes widen_lanes(const Half* p) {
  return (Lanes)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
HA_HD Lanes widen_lanes(const Bfloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return (Lanes)_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
HA_HD Lanes widen_lanes(const int8_t* p) {
  return (Lanes)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
#else
template <class E>
HA_HD Lanes widen_lanes(const E* p) {
  Lanes v;
  for (int i = 0; i < kLanes; ++i) v[i] = widen(p[i]);
  return v;
}
#endif

// Calls f with the rows' values as a pointer to their element type.
template <class F>
HA_HD void with_elements(const Rows& rows, const F& f) {
  switch (rows.storage) {
    case Storage::f32:
      return f(static_cast<const float*>(rows.values));
    case Storage::f16:
      return f(static_cast<const Half*>(rows.values));
    case Storage::bf16:
      return f(static_cast<const Bfloat16*>(rows.values));
    case Storage::i8:
      return f(static_cast<const int8_t*>(rows.values));
  }
}

// Numbers k .. k + kLanes of a row of dim, zero from dim on.
template <class E>
HA_HD Lanes lanes_at(const E* row, int64_t k, int64_t dim) {
  if (k + kLanes <= dim) return widen_lanes(row + k);
  E last[kLanes] = {};
  if (k < dim) memcpy(last, row + k, sizeof(E) * (dim - k));
  return widen_lanes(last);
}

// Row r as float32, scale applied, into `out`: dim floats, and zeros up to whole vectors.
inline void widen_row(const Rows& rows, int64_t r, float* out) {
  with_elements(rows, [&](const auto* values) {
    const auto* row = values + r * rows.stride;
    const float scale = rows.scales == nullptr ? 1.0f : rows.scales[r];
    for (int64_t k = 0; k < rows.dim; k += kLanes) store(out + k, lanes_at(row, k, rows.dim) * scale);
  });
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
