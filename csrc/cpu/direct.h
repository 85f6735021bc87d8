// C straight from the store, for candidate lists: lanes run over the feature dimension, and nothing is turned round.
//
// Packing turns an image round, 16 x 16 numbers at a time, and all pairs share that work among all texts. An image of a
// candidate list has a few (16 in the benchmark), and turning its 196 x 512 numbers would take about as long as multiplying
// them. Here the rows are only widened, and the sums are folded: 3 instructions for 32 multiply-adds at 512 numbers.
//
// The order of a pair's sums is that of `dot`, whatever the number of rows and words: its cosines have the same bits alone and
// in any list.
#pragma once

#include "storage.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// A tile has kLanes sums, which fold into one vector: 4 x 4 with AVX-512, 4 x 2 with AVX2, 4 x 1 with SSE.
constexpr int kTileRows = 4, kTileWords = kLanes / kTileRows;
// Vectors of a row that are summed apart: one row's multiply-adds then do not wait for each other.
constexpr int kPhases = 4, kStep = kPhases * kLanes;

// Floats of scratch that multiply_direct needs.
HA_HD int64_t wide_rows_size(int64_t dim) { return kTileRows * round_up(dim, kLanes); }

// One row by one word, bound by memory. The rows of an image pass in the order of memory, which the prefetchers follow:
// reading four rows side by side took 1.5 to 2 times as long, and prefetching by hand 1.3 to 1.9 times (Zen 4, 200 MB of
// float16). `word` has zeros from dim up to whole vectors.
template <class E>
HA_HD float dot(const E* row, const float* word, int64_t dim) {
  Lanes acc[kPhases] = {};
  int64_t k = 0;
  for (; k + kStep <= dim; k += kStep) {
#pragma GCC unroll 4
    for (int i = 0; i < kPhases; ++i)
      acc[i] = acc[i] + widen_lanes(row + k + i * kLanes) * load(word + k + i * kLanes);
  }
  for (; k < dim; k += kLanes) acc[0] = acc[0] + lanes_at(row, k, dim) * load(word + k);
  return sum_of(((acc[0] + acc[1]) + acc[2]) + acc[3]);
}

// kTileRows rows by n words, `width` floats each and as far apart: the sum of row i and word j in lane j * kTileRows + i.
// `dot` keeps its phases beside each other, here they follow each other.
template <int n>
HA_HD Lanes dots(const float* rows, const float* words, int64_t width) {
  Lanes sums[kLanes] = {};
  const int64_t steps = width / kStep * kStep;
  for (int phase = 0; phase < kPhases; ++phase) {
    Lanes acc[n * kTileRows] = {};
    for (int64_t k = phase * kLanes; k < (phase == 0 ? width : steps); k += k < steps ? kStep : kLanes) {
      Lanes row[kTileRows];
#pragma GCC unroll 4
      for (int i = 0; i < kTileRows; ++i) row[i] = load(rows + i * width + k);
#pragma GCC unroll 4
      for (int j = 0; j < n; ++j) {
        const Lanes word = load(words + j * width + k);
#pragma GCC unroll 4
        for (int i = 0; i < kTileRows; ++i) acc[j * kTileRows + i] = acc[j * kTileRows + i] + row[i] * word;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < n * kTileRows; ++i) sums[i] = sums[i] + acc[i];
  }
  return sums_of(sums);
}

HA_HD Lanes dots_of(int64_t n, const float* rows, const float* words, int64_t width) {
  if constexpr (kTileWords == 4) {
    if (n == 4) return dots<4>(rows, words, width);
    if (n == 3) return dots<3>(rows, words, width);
  }
  if constexpr (kTileWords >= 2) {
    if (n == 2) return dots<2>(rows, words, width);
  }
  return dots<1>(rows, words, width);
}

// Rows that memory will be asked for while earlier ones are multiplied. With fewer words the prefetchers keep up by
// themselves, and asking costs more than it gains (Zen 5, 196 x 512 float16: 1.2 times the time with 4 words, 0.6 with 16).
constexpr int64_t kAskFrom = 8;

// Rows first .. first + count of the store by `n_words` float32 words, which have zeros from dim up to whole vectors:
// c[w * ld + r]. `wide` holds wide_rows_size(dim) floats.
inline void multiply_direct(const Rows& rows, int64_t first, int64_t count, const float* words, int64_t n_words,
                            float* wide, float* c, int64_t ld) {
  const int64_t dim = rows.dim, width = round_up(dim, kLanes), stride = rows.stride;
  const auto scale_of = [&](int64_t r) { return rows.scales == nullptr ? 1.0f : rows.scales[first + r]; };
  with_elements(rows, [&](const auto* values) {
    const auto* row_0 = values + first * stride;
    if (n_words == 1) {
      for (int64_t r = 0; r < count; ++r) c[r] = dot(row_0 + r * stride, words, dim) * scale_of(r);
      return;
    }
    const int64_t bytes = n_words < kAskFrom ? 0 : kTileRows * stride * static_cast<int64_t>(sizeof *row_0);
    const int64_t share = round_up(bytes * kTileWords / n_words, 64);
    for (int64_t r = 0; r < count; r += kTileRows) {
      const int64_t m = count - r < kTileRows ? count - r : kTileRows;
      float scales[kLanes] = {};  // of the rows, once a word of the tile
      for (int64_t i = 0; i < m; ++i) {
        const auto* row = row_0 + (r + i) * stride;
        float* to = wide + i * width;
        int64_t k = 0;
        for (; k + kLanes <= dim; k += kLanes) store(to + k, widen_lanes(row + k));
        if (k < dim) store(to + k, lanes_at(row, k, dim));
        for (int j = 0; j < kTileWords; ++j) scales[j * kTileRows + i] = scale_of(r + i);
      }
      const char* next = reinterpret_cast<const char*>(row_0 + (r + kTileRows) * stride);
      int64_t asked = 0;
      for (int64_t w = 0; w < n_words; w += kTileWords) {
        for (const int64_t end = asked + share; asked < end && asked < bytes; asked += 64)
          __builtin_prefetch(next + asked);
        const int64_t n = n_words - w < kTileWords ? n_words - w : kTileWords;
        float sums[kLanes];
        store(sums, dots_of(n, wide, words + w * width, width) * load(scales));
        for (int64_t j = 0; j < n; ++j) {
          float* out = c + (w + j) * ld + r;
          if (m == kTileRows) {
            memcpy(out, sums + j * kTileRows, sizeof(float) * kTileRows);
          } else {
            for (int64_t i = 0; i < m; ++i) out[i] = sums[j * kTileRows + i];
          }
        }
      }
    }
  });
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
