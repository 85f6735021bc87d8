// The triangular factor R of one item: V^T = QR, by way of the Gram matrix in float64.
//
// Products of two float32 are exact in float64, so R^T R = V V^T holds to about 1e-16: the length of an attended vector is
// off by at most about 1e-8 of the rows' length, closer than a float32 QR. Rows of V that depend on earlier ones give zero
// rows.
#pragma once

#include "storage.h"

namespace heritage_align {
inline namespace HA_LEVEL {

typedef double Doubles __attribute__((vector_size(4 * HA_WIDTH), may_alias));
constexpr int kDoubles = HA_WIDTH / 2;

// Floats that triangular_factor_of needs: m rows widened and padded to whole vectors, and m x m doubles.
inline int64_t factor_scratch(int64_t m, int64_t dim) { return m * round_up(dim, kLanes) + 2 * m * m; }

HA_HD Doubles widen_doubles(const float* p) {
  float narrow __attribute__((vector_size(2 * HA_WIDTH)));
  memcpy(&narrow, p, sizeof narrow);
  return __builtin_convertvector(narrow, Doubles);
}

// The Gram matrix (upper triangle) of m rows of `ld` floats, four columns at a time.
inline void gram(const float* rows, int64_t m, int64_t ld, double* g) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = i; j < m; j += 4) {
      const float* column[4];
      for (int k = 0; k < 4; ++k) column[k] = rows + (j + k < m ? j + k : j) * ld;
      Doubles acc[4] = {};
      for (int64_t d = 0; d < ld; d += kDoubles) {
        const Doubles value = widen_doubles(rows + i * ld + d);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) acc[k] += value * widen_doubles(column[k] + d);
      }
      for (int k = 0; k < 4 && j + k < m; ++k) {
        double sum = 0.0;
        for (int lane = 0; lane < kDoubles; ++lane) sum += acc[k][lane];
        g[i * m + j + k] = sum;
      }
    }
  }
}

// Packed upper triangle of the item's rows first .. first + m into `packed`; `scratch` as factor_scratch, 64-byte aligned.
inline void triangular_factor_of(const Rows& rows, int64_t first, int64_t m, float* packed, float* scratch) {
  const int64_t ld = round_up(rows.dim, kLanes);
  for (int64_t i = 0; i < m; ++i) widen_row(rows, first + i, scratch + i * ld);
  double* g = reinterpret_cast<double*>(scratch + m * ld);
  gram(scratch, m, ld, g);
  // Cholesky of the semidefinite matrix, in place: row r of g becomes row r of R.
  for (int64_t r = 0; r < m; ++r) {
    double* row = g + r * m;
    const double square = row[r];
    double pivot = square;
    for (int64_t k = 0; k < r; ++k) pivot -= g[k * m + r] * g[k * m + r];
    // Rounding of the sums above leaves about dim * 1e-16 of the square where exact arithmetic leaves 0.
    const bool dependent = !(pivot > 1e-14 * square);
    const double root = dependent ? 0.0 : __builtin_sqrt(pivot);
    for (int64_t c = r; c < m; ++c) {
      double value = row[c];
      for (int64_t k = 0; k < r; ++k) value -= g[k * m + r] * g[k * m + c];
      row[c] = dependent ? 0.0 : c == r ? root : value / root;
    }
    for (int64_t c = r; c < m; ++c) packed[triangle_row(r, m) + c - r] = static_cast<float>(row[c]);
  }
}

}  // namespace HA_LEVEL
}  // namespace heritage_align
