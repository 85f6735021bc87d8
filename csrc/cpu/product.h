// The tile of cosines C = words x regions, from packed panels: the one place that touches the feature dimension.
//
// Words are the broadcast side (kRows of them a panel), regions the vector side (kColumns a panel). Panels hold units of
// 32 bits: one float32, two bfloat16 or four int8 of a row, unit after unit, so that one packing serves all arithmetics.
#pragma once

#include "storage.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// 8 x 3 vectors of AVX-512 leave 8 of 32 registers for loads; 4 x 3 of AVX2 or SSE leave 4 of 16.
constexpr int kRows = HA_WIDTH == 16 ? 8 : 4;
constexpr int kVectors = 3;
constexpr int kColumns = kVectors * kLanes;
// 256 units: a panel of words (8 KB) stays in L1 while the panels of regions stream from L2 at 8 bytes a cycle.
constexpr int64_t kDepth = 256;

HA_HD int64_t units_of(Arithmetic arithmetic, int64_t dim) {
  const int64_t per_unit = arithmetic == Arithmetic::f32 ? 1 : arithmetic == Arithmetic::bf16 ? 2 : 4;
  return (dim + per_unit - 1) / per_unit;
}

// kLanes units of row r from unit u on, zero past the end; int8 regions carry an offset of 128 (vpdpbusd wants unsigned).
template <Arithmetic A, bool offset, class E>
HA_HD Lanes units_at(const E* row, int64_t u, int64_t dim, float scale) {
  if constexpr (A == Arithmetic::f32) {
    return lanes_at(row, u, dim) * scale;
  } else {
    constexpr int64_t per_unit = 4 / sizeof(E);
    IntLanes v{};
    const int64_t left = (dim - u * per_unit) * static_cast<int64_t>(sizeof(E));
    if (left > 0) memcpy(&v, row + u * per_unit, left < (int64_t)sizeof v ? left : sizeof v);
    if constexpr (offset) v = v ^ static_cast<int32_t>(0x80808080u);
    return (Lanes)v;
  }
}

// Packs `count` rows (row_of(i) for i < count), `width` (<= a multiple of kLanes or kRows) to a panel: unit u of row i at
// out[u * width + i]. Rows beyond `count` are zero, or the offset alone.
template <Arithmetic A, bool offset, int width, class E, class RowOf>
inline void pack_panel(const Rows& rows, const E* values, const RowOf& row_of, int64_t count, float* out,
                       int64_t out_width) {
  const int64_t units = units_of(A, rows.dim);
  for (int64_t first = 0; first < out_width; first += width) {
    for (int64_t u = 0; u < units; u += kLanes) {
      Lanes square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        if (i < width && first + i < count) {
          const int64_t r = row_of(first + i);
          const float scale = A == Arithmetic::f32 && rows.scales != nullptr ? rows.scales[r] : 1.0f;
          square[i] = units_at<A, offset>(values + r * rows.stride, u, rows.dim, scale);
        } else {
          square[i] = (Lanes)(IntLanes{} ^ static_cast<int32_t>(offset ? 0x80808080u : 0u));
        }
      }
      transpose_square(square);
      const int64_t here = units - u < kLanes ? units - u : kLanes;
      for (int64_t i = 0; i < here; ++i) memcpy(out + (u + i) * out_width + first, &square[i], 4 * width);
    }
  }
}

template <bool offset, int width, class RowOf>
inline void pack_as(Arithmetic arithmetic, const Rows& rows, const RowOf& row_of, int64_t count, float* out,
                    int64_t out_width) {
  if (arithmetic == Arithmetic::i8) {
    pack_panel<Arithmetic::i8, offset, width>(rows, static_cast<const int8_t*>(rows.values), row_of, count, out,
                                              out_width);
  } else if (arithmetic == Arithmetic::bf16) {
    pack_panel<Arithmetic::bf16, false, width>(rows, static_cast<const Bfloat16*>(rows.values), row_of, count, out,
                                               out_width);
  } else {
    with_elements(rows, [&](const auto* values) {
      pack_panel<Arithmetic::f32, false, width>(rows, values, row_of, count, out, out_width);
    });
  }
}

// `count` words as panels of kRows, each units x kRows.
template <class RowOf>
inline void pack_words(Arithmetic arithmetic, const Rows& rows, const RowOf& row_of, int64_t count, float* out) {
  const int64_t units = units_of(arithmetic, rows.dim);
  for (int64_t first = 0; first < count; first += kRows) {
    const auto from_first = [&](int64_t i) { return row_of(first + i); };
    const int64_t here = count - first < kRows ? count - first : kRows;
    pack_as<false, kRows>(arithmetic, rows, from_first, here, out + first * units, kRows);
  }
}

// Regions first .. first + count as panels of kColumns, the last one only as wide as it must be (multiples of kLanes).
inline void pack_regions(Arithmetic arithmetic, const Rows& rows, int64_t first, int64_t count, float* out) {
  const int64_t units = units_of(arithmetic, rows.dim);
  const int64_t columns = round_up(count, kLanes);
  for (int64_t c = 0; c < columns; c += kColumns) {
    const int64_t width = columns - c < kColumns ? columns - c : kColumns;
    const auto row_of = [&](int64_t i) { return first + c + i; };
    pack_as<true, kLanes>(arithmetic, rows, row_of, count - c < width ? count - c : width, out + c * units, width);
  }
}

template <Arithmetic A>
struct Multiply;

template <>
struct Multiply<Arithmetic::f32> {
  using Acc = Lanes;
  static HA_HD Acc add(Acc acc, float word, Lanes regions) { return acc + regions * word; }
};

#if defined(__AVX512BF16__)
template <>
struct Multiply<Arithmetic::bf16> {
  using Acc = Lanes;
  static HA_HD Acc add(Acc acc, float word, Lanes regions) {
    const __m512bh w = (__m512bh)_mm512_set1_ps(word);
    return (Lanes)_mm512_dpbf16_ps((__m512)acc, (__m512bh)regions, w);
  }
};
#endif

#if defined(__AVX512VNNI__)
template <>
struct Multiply<Arithmetic::i8> {
  using Acc = IntLanes;
  static HA_HD Acc add(Acc acc, float word, Lanes regions) {
    int32_t bits;
    memcpy(&bits, &word, 4);
    return (IntLanes)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)regions, _mm512_set1_epi32(bits));
  }
};
#endif

// rows x vectors of C (leading dimension ld) over `units`; adds to what is there unless `fresh`.
template <Arithmetic A, int rows, int vectors>
inline void multiply_block(int64_t units, const float* words, const float* regions, int64_t width, float* c,
                           int64_t ld, bool fresh) {
  using M = Multiply<A>;
  typename M::Acc acc[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) {
      acc[i][j] = typename M::Acc{};
      if (!fresh) memcpy(&acc[i][j], c + i * ld + j * kLanes, sizeof acc[i][j]);
    }
  for (int64_t u = 0; u < units; ++u) {
    Lanes column[vectors];
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) column[j] = load(regions + u * width + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
      for (int j = 0; j < vectors; ++j) acc[i][j] = M::add(acc[i][j], words[u * kRows + i], column[j]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < vectors; ++j) memcpy(c + i * ld + j * kLanes, &acc[i][j], sizeof acc[i][j]);
}

template <Arithmetic A, int vectors>
inline void multiply_rows(int64_t rows, int64_t units, const float* words, const float* regions, int64_t width,
                          float* c, int64_t ld, bool fresh) {
  switch (rows) {
#define HA_ROWS(n)                                                                         \
  case n:                                                                                  \
    if constexpr (n <= kRows) multiply_block<A, n, vectors>(units, words, regions, width, c, ld, fresh); \
    return;
    HA_ROWS(1) HA_ROWS(2) HA_ROWS(3) HA_ROWS(4) HA_ROWS(5) HA_ROWS(6) HA_ROWS(7) HA_ROWS(8)
#undef HA_ROWS
  }
}

// C (n_words, round_up(n_regions, kLanes)) from packed panels.
template <Arithmetic A>
inline void multiply_packed(int64_t units, const float* words, int64_t n_words, const float* regions,
                            int64_t n_regions, float* c, int64_t ld) {
  const int64_t columns = round_up(n_regions, kLanes);
  // int32 sums must not be reloaded as floats halfway through; bytes are few enough for one pass.
  const int64_t depth = A == Arithmetic::i8 ? units : kDepth;
  for (int64_t k = 0; k < units; k += depth) {
    const int64_t here = units - k < depth ? units - k : depth;
    for (int64_t r = 0; r < n_words; r += kRows) {
      const int64_t rows = n_words - r < kRows ? n_words - r : kRows;
      const float* word_panel = words + r * units + k * kRows;
      for (int64_t j = 0; j < columns; j += kColumns) {
        const int64_t width = columns - j < kColumns ? columns - j : kColumns;
        const float* region_panel = regions + j * units + k * width;
        float* out = c + r * ld + j;
        if (width == 3 * kLanes)
          multiply_rows<A, 3>(rows, here, word_panel, region_panel, width, out, ld, k == 0);
        else if (width == 2 * kLanes)
          multiply_rows<A, 2>(rows, here, word_panel, region_panel, width, out, ld, k == 0);
        else
          multiply_rows<A, 1>(rows, here, word_panel, region_panel, width, out, ld, k == 0);
      }
    }
  }
}

// int32 sums of (region + 128) * word -> cosines: takes the offset out again and applies both scales.
inline void rescale_int8(float* c, int64_t ld, const int32_t* word_sums, const float* word_scales, int64_t n_words,
                         const float* region_scales, int64_t n_regions) {
  for (int64_t w = 0; w < n_words; ++w) {
    for (int64_t r = 0; r < n_regions; r += kLanes) {
      IntLanes sums;
      memcpy(&sums, c + w * ld + r, sizeof sums);
      const Lanes value = __builtin_convertvector(sums - 128 * word_sums[w], Lanes) * word_scales[w];
      store(c + w * ld + r, value * load(region_scales + r));
    }
  }
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
