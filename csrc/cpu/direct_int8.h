// As direct.h, for int8 rows on a level with VNNI: sums of whole numbers, which have no order to keep.
//
// An int8 word is taken as it is: one digit. A floating word is rounded to 16 bits, two digits of 8 for `vpdpbusd`, with
// a scale for each lane; lane l meets the numbers 4 l .. 4 l + 3 of every 64 and no others. A number is then off by at most
// max |its lane| / 65278, and a cosine, root mean square over normal numbers, by 2e-5 / sqrt(dim) of the rows' lengths. The
// largest error of 50,000 was 3e-6 at dim 512, and 6e-6 where one number made up most of the word (float32: 7e-7).
//
// 16 words by 196 x 512 took 0.49 (two digits) and 0.28 (one) of the time of float32 (Zen 5, in cache).
#pragma once

#include "direct.h"

#if defined(__AVX512VNNI__)

namespace heritage_align {
inline namespace HA_LEVEL {

constexpr int64_t kVectorBytes = 4 * kLanes;
constexpr int kLargestWord = 127 * 256 + 127;  // in two digits

HA_HD int lane_of(int64_t k) { return k / 4 % kLanes; }

// A word: its digits, the higher first, each `ld` bytes with zeros from dim on; then a start and a scale for each lane.
// `vpdpbusd` takes the image's rows unsigned, with an offset of 128; the start takes it out again. It may wrap, the sum
// does not.
struct DigitWord {
  const int8_t* bytes;
  int64_t ld;

  HA_HD __m512i digit(int d, int64_t k) const { return _mm512_loadu_si512(bytes + d * ld + k); }
  HA_HD IntLanes start(int digits) const { return (IntLanes)load(reinterpret_cast<const float*>(bytes + digits * ld)); }
  HA_HD Lanes scale(int digits) const { return load(reinterpret_cast<const float*>(bytes + digits * ld) + kLanes); }
};

HA_HD int64_t digit_bytes(int digits, int64_t dim) { return digits * round_up(dim, kVectorBytes) + 8 * kLanes; }

inline void write_one_digit(const int8_t* values, float scale, int64_t dim, int8_t* out) {
  const int64_t ld = round_up(dim, kVectorBytes);
  int32_t start[kLanes] = {};
  for (int64_t k = 0; k < dim; ++k) start[lane_of(k)] -= 128 * values[k];
  memset(out, 0, ld);
  memcpy(out, values, dim);
  memcpy(out + ld, start, sizeof start);
  store(reinterpret_cast<float*>(out + ld) + kLanes, spread(scale));
}

template <class E>
inline void write_two_digits(const E* values, int64_t dim, int8_t* out) {
  const int64_t ld = round_up(dim, kVectorBytes);
  float largest[kLanes] = {}, spoilt[kLanes] = {}, scale[kLanes];
  for (int64_t k = 0; k < dim; ++k) {
    const float value = widen(values[k]);
    largest[lane_of(k)] = fabsf(value) > largest[lane_of(k)] ? fabsf(value) : largest[lane_of(k)];
    spoilt[lane_of(k)] += value * 0.0f;  // NaN where a number is not finite: every score of the word is NaN then
  }
  for (int lane = 0; lane < kLanes; ++lane) scale[lane] = largest[lane] / kLargestWord + spoilt[lane];
  int32_t start[kLanes] = {};
  memset(out, 0, 2 * ld);
  for (int64_t k = 0; k < dim; ++k) {
    const int lane = lane_of(k);
    if (!(scale[lane] > 1e-35f)) continue;  // zeros, numbers of the size of float32's least, or NaN
    const int whole = static_cast<int>(lrintf(widen(values[k]) / scale[lane]));
    const int low = ((whole + 128) & 255) - 128;
    out[k] = static_cast<int8_t>((whole - low) / 256);
    out[ld + k] = static_cast<int8_t>(low);
    start[lane] -= 128 * whole;
  }
  memcpy(out + 2 * ld, start, sizeof start);
  store(reinterpret_cast<float*>(out + 2 * ld) + kLanes, load(scale));
}

HA_HD __m512i bytes_at(const int8_t* row, int64_t k, int64_t dim) {
  if (k + kVectorBytes <= dim) return _mm512_loadu_si512(row + k);
  return _mm512_maskz_loadu_epi8((uint64_t{1} << (dim - k)) - 1, row + k);
}

// The products of n_rows rows with n words, lane by lane: out[j * n_rows + i], whole numbers (one digit) or float32 (two).
template <int digits, int n_rows, int n>
HA_HD void lane_products(const int8_t* const* rows, const DigitWord* words, int64_t dim, Lanes* out) {
  IntLanes acc[n * digits * n_rows] = {};
  for (int64_t k = 0; k < dim; k += kVectorBytes) {
    __m512i row[n_rows];
#pragma GCC unroll 4
    for (int i = 0; i < n_rows; ++i) row[i] = _mm512_xor_si512(bytes_at(rows[i], k, dim), _mm512_set1_epi8(-128));
#pragma GCC unroll 4
    for (int j = 0; j < n * digits; ++j) {
      const __m512i digit = words[j / digits].digit(j % digits, k);
#pragma GCC unroll 4
      for (int i = 0; i < n_rows; ++i)
        acc[j * n_rows + i] = (IntLanes)_mm512_dpbusd_epi32((__m512i)acc[j * n_rows + i], row[i], digit);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < n; ++j) {
    const IntLanes start = words[j].start(digits);
    const Lanes scale = words[j].scale(digits);
#pragma GCC unroll 4
    for (int i = 0; i < n_rows; ++i) {
      const IntLanes high = acc[j * digits * n_rows + i];
      if constexpr (digits == 1) {
        out[j * n_rows + i] = (Lanes)(high + start);
      } else {
        const IntLanes whole = (high << 8) + acc[(j * digits + 1) * n_rows + i] + start;
        out[j * n_rows + i] = __builtin_convertvector(whole, Lanes) * scale;
      }
    }
  }
}

// The sums over the lanes of kLanes vectors from lane_products; `scales` are those of the words.
template <int digits>
HA_HD Lanes folded(Lanes* v, Lanes scales) {
  if constexpr (digits == 2) return sums_of(v);
  else return __builtin_convertvector(sums_of<IntLanes>(v), Lanes) * scales;
}

// One word: row after row, in the order of memory. Memory is asked for rows well ahead: 1000 images of 196 x 512 took 6 ms
// without that, 5 with 16 rows, 3.4 with 32 (Zen 5; float32 4.1).
constexpr int64_t kRowsAhead = 32;

template <int digits>
inline void multiply_one_word(const Rows& rows, int64_t first, int64_t count, const DigitWord& word, float* c) {
  Lanes products[kLanes] = {};
  const int64_t bytes = bytes_ahead(rows, 1) / kDirectRows;
  for (int64_t r = 0; r < count; r += kLanes) {
    const int64_t m = count - r < kLanes ? count - r : kLanes;
    for (int64_t i = 0; i < m; ++i) {
      const int8_t* row = static_cast<const int8_t*>(rows.values) + (first + r + i) * rows.stride;
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + kRowsAhead * rows.stride + at);
      lane_products<digits, 1, 1>(&row, &word, rows.dim, products + i);
    }
    float sums[kLanes];
    store(sums, folded<digits>(products, word.scale(digits)));
    for (int64_t i = 0; i < m; ++i) c[r + i] = sums[i] * rows.scales[first + r + i];
  }
}

// As multiply_direct, with words that write_one_digit or write_two_digits wrote one after the other.
template <int digits>
inline void multiply_digits(const Rows& rows, int64_t first, int64_t count, const float* words, int64_t n_words,
                            float* c, int64_t ld) {
  constexpr int at_once = kDirectWords / digits;  // words of which the sums by kDirectRows rows fill 16 registers
  const int64_t dim = rows.dim, word_bytes = digit_bytes(digits, dim);
  const auto word_at = [&](int64_t w) {
    return DigitWord{reinterpret_cast<const int8_t*>(words) + w * word_bytes, round_up(dim, kVectorBytes)};
  };
  if (n_words == 1) return multiply_one_word<digits>(rows, first, count, word_at(0), c);
  const int8_t* row_0 = static_cast<const int8_t*>(rows.values) + first * rows.stride;
  const int64_t bytes = bytes_ahead(rows, 1);
  for (int64_t r = 0; r < count; r += kDirectRows) {
    const int64_t m = count - r < kDirectRows ? count - r : kDirectRows;
    const int8_t* row[kDirectRows];
    float scales[kLanes];  // of the rows, once a word of the tile
    for (int64_t i = 0; i < kDirectRows; ++i) row[i] = row_0 + (r + (i < m ? i : 0)) * rows.stride;
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t one = i % kDirectRows;
      scales[i] = one < m ? rows.scales[first + r + one] : 0.0f;
    }
    // Four rows side by side lead the prefetchers astray: without this 2 to 4 words took 3 to 4 times as long.
    Ahead ahead(row_0 + (r + kDirectRows) * rows.stride, bytes, n_words);
    for (int64_t w = 0; w < n_words; w += kDirectWords) {
      ahead.ask();
      const int64_t n = n_words - w < kDirectWords ? n_words - w : kDirectWords;
      Lanes products[kLanes] = {};
      float word_scales[kLanes] = {};
      for (int64_t j = 0; j < n; j += at_once) {
        DigitWord some[at_once];
        for (int64_t a = 0; a < at_once; ++a) {
          some[a] = word_at(w + (j + a < n ? j + a : j));
          for (int i = 0; i < kDirectRows; ++i) word_scales[(j + a) * kDirectRows + i] = some[a].scale(digits)[0];
        }
        lane_products<digits, kDirectRows, at_once>(row, some, dim, products + j * kDirectRows);
      }
      float sums[kLanes];
      store(sums, folded<digits>(products, load(word_scales)) * load(scales));
      write_tile(sums, n, m, c + w * ld + r, ld);
    }
  }
}

}  // namespace HA_LEVEL
}  // namespace heritage_align

#endif
