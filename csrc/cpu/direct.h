// C straight from the store, for candidate lists: lanes run over the feature dimension, and nothing is transposed.
//
// Packing turns an image's rows round, and all pairs share that work among all texts; a list has few for an image. Of 196 x
// 512 float16 numbers read from memory, packing alone took 14 us an image, and with the packed product of 16, 64 and 128
// words 35, 78 and 136; this took 21, 71 and 134 (Zen 5, AVX-512; with AVX2 35, 115 and 225 against 67, 147 and 258). So
// every list comes here.
//
// A pair's sums run in the order of `dot`, whatever the number of rows and words: its cosines have the same bits alone and
// in any list.
#pragma once

#include "storage.h"

namespace heritage_align {
inline namespace HA_LEVEL {

// A tile has kLanes sums, which fold into one vector: 4 x 4 with AVX-512, 4 x 2 with AVX2, 4 x 1 with SSE.
constexpr int kDirectRows = 4, kDirectWords = kLanes / kDirectRows;
// Vectors of a row that are summed apart: one row's multiply-adds then do not wait for each other.
constexpr int kPhases = 4, kStep = kPhases * kLanes;

// Floats of scratch that multiply_direct needs.
HA_HD int64_t wide_rows_size(int64_t dim) { return kDirectRows * round_up(dim, kLanes); }

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

// kDirectRows rows, `width` floats each and as far apart, by n words `word_ld` apart: the sum of row i and word j in lane
// j * kDirectRows + i.
// `dot` keeps its phases beside each other, here they follow each other.
template <int n>
HA_HD Lanes dots(const float* rows, const float* words, int64_t word_ld, int64_t width) {
  Lanes sums[kLanes] = {};
  const int64_t steps = width / kStep * kStep;
  for (int phase = 0; phase < kPhases; ++phase) {
    Lanes acc[n * kDirectRows] = {};
    for (int64_t k = phase * kLanes; k < (phase == 0 ? width : steps); k += k < steps ? kStep : kLanes) {
      Lanes row[kDirectRows];
#pragma GCC unroll 4
      for (int i = 0; i < kDirectRows; ++i) row[i] = load(rows + i * width + k);
#pragma GCC unroll 4
      for (int j = 0; j < n; ++j) {
        const Lanes word = load(words + j * word_ld + k);
#pragma GCC unroll 4
        for (int i = 0; i < kDirectRows; ++i) acc[j * kDirectRows + i] = acc[j * kDirectRows + i] + row[i] * word;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < n * kDirectRows; ++i) sums[i] = sums[i] + acc[i];
  }
  return sums_of(sums);
}

HA_HD Lanes dots_of(int64_t n, const float* rows, const float* words, int64_t word_ld, int64_t width) {
  if constexpr (kDirectWords == 4) {
    if (n == 4) return dots<4>(rows, words, word_ld, width);
    if (n == 3) return dots<3>(rows, words, word_ld, width);
  }
  if constexpr (kDirectWords >= 2) {
    if (n == 2) return dots<2>(rows, words, word_ld, width);
  }
  return dots<1>(rows, words, word_ld, width);
}

// The sums of m rows and n words, as `dots` returns them: c[w * ld + r].
HA_HD void write_tile(const float* sums, int64_t n, int64_t m, float* c, int64_t ld) {
  for (int64_t j = 0; j < n; ++j) {
    if (m == kDirectRows) {
      memcpy(c + j * ld, sums + j * kDirectRows, sizeof(float) * kDirectRows);
    } else {
      for (int64_t i = 0; i < m; ++i) c[j * ld + i] = sums[j * kDirectRows + i];
    }
  }
}

// Asks memory for the rows that come next, a share of them before each kDirectWords of n_words (at least 1) words.
class Ahead {
 public:
  HA_HD Ahead(const void* rows, int64_t bytes, int64_t n_words)
      : next_(static_cast<const char*>(rows)), end_(next_ + bytes),
        share_(round_up(bytes * kDirectWords / n_words, 64)) {}
  HA_HD void ask() {
    for (const char* to = next_ + share_; next_ < to && next_ < end_; next_ += 64) __builtin_prefetch(next_);
  }

 private:
  const char* next_;
  const char* end_;
  int64_t share_;
};

// Bytes of the kDirectRows rows that come next; none where rows lie far apart.
HA_HD int64_t bytes_ahead(const Rows& rows, size_t element_bytes) {
  return rows.stride < 2 * rows.dim ? kDirectRows * rows.stride * static_cast<int64_t>(element_bytes) : 0;
}

// Words from which on asking gains: rows are widened in the order of memory, and with fewer words the prefetchers keep up by
// themselves (196 x 512 float16: 1.2 times the time with 4 words, 0.6 with 16; Zen 5).
constexpr int64_t kAskFrom = 8;

// Rows first .. first + count of the store by `n_words` float32 words, `word_ld` apart, which have zeros from dim up to
// whole vectors: c[w * ld + r]. `wide` holds wide_rows_size(dim) floats.
inline void multiply_direct(const Rows& rows, int64_t first, int64_t count, const float* words, int64_t n_words,
                            int64_t word_ld, float* wide, float* c, int64_t ld) {
  const int64_t dim = rows.dim, width = round_up(dim, kLanes), stride = rows.stride;
  const auto scale_of = [&](int64_t r) { return rows.scales == nullptr ? 1.0f : rows.scales[first + r]; };
  with_elements(rows, [&](const auto* values) {
    const auto* row_0 = values + first * stride;
    if (n_words == 1) {
      for (int64_t r = 0; r < count; ++r) c[r] = dot(row_0 + r * stride, words, dim) * scale_of(r);
      return;
    }
    const int64_t bytes = n_words < kAskFrom ? 0 : bytes_ahead(rows, sizeof *row_0);
    for (int64_t r = 0; r < count; r += kDirectRows) {
      const int64_t m = count - r < kDirectRows ? count - r : kDirectRows;
      float scales[kLanes] = {};  // of the rows, once a word of the tile
      for (int64_t i = 0; i < m; ++i) {
        const auto* row = row_0 + (r + i) * stride;
        float* to = wide + i * width;
        int64_t k = 0;
        for (; k + kLanes <= dim; k += kLanes) store(to + k, widen_lanes(row + k));
        if (k < dim) store(to + k, lanes_at(row, k, dim));
        for (int j = 0; j < kDirectWords; ++j) scales[j * kDirectRows + i] = scale_of(r + i);
      }
      Ahead ahead(row_0 + (r + kDirectRows) * stride, bytes, n_words);
      for (int64_t w = 0; w < n_words; w += kDirectWords) {
        ahead.ask();
        const int64_t n = n_words - w < kDirectWords ? n_words - w : kDirectWords;
        float sums[kLanes];
        store(sums, dots_of(n, wide, words + w * word_ld, word_ld, width) * load(scales));
        write_tile(sums, n, m, c + w * ld + r, ld);
      }
    }
  });
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
