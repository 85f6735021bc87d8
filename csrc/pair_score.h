// The problem that every op here solves: ragged images x ragged texts -> one score a pair.
//
// A pair's score depends on the features only through the cosines C (regions x words) of its image and its text, and, for
// focal attention, on a small triangular factor of either side. So all drivers have one frame: a tile of C for some whole
// images and some whole texts, then an epilogue on the tile, and one float out for each pair. The epilogues' maths is in
// epilogue/*.h. It is written once, over a type T that is `float` in a CUDA thread and a vector of lanes on the CPU.
#pragma once

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define HA_HD __host__ __device__ __forceinline__
#else
#define HA_HD inline __attribute__((always_inline))
#endif

// Each CPU level compiles these headers with other -m flags; its own namespace keeps the linker from merging the copies
// and calling AVX-512 code on a machine without it.
#ifndef HA_LEVEL
#define HA_LEVEL portable
#endif

namespace heritage_align {

// The order of these is that of heritage_align/ops/codes.py.
enum class Direction : int32_t { t2i, i2t, both };
enum class Rectifier : int32_t { leaky_relu, relu, none };
enum class Normaliser : int32_t { l2, softmax, none };
enum class Focal : int32_t { none, equal, prob, sheng };
enum class Aggregate : int32_t { lse, mean, max, sum };
enum class Pooling : int32_t { softmax, max, mean, weights };

constexpr float kLeakySlope = 0.1f;       // the released SCAN and BFAN code
constexpr float kEps = 1e-8f;             // added to the L2 norm (its floor if focal), the floor of the cosine's denominator
constexpr float kFocalTolerance = 1e-6f;  // times 1 + temperature: weights this near to each other count as equal

inline namespace HA_LEVEL {

// Scalar forms of what T must offer besides + - * / and comparison; cpu/lanes.h has them for vectors of lanes.
HA_HD float exp_of(float x) { return expf(x); }
HA_HD float log_of(float x) { return logf(x); }
HA_HD float sqrt_of(float x) { return sqrtf(x); }
HA_HD float larger(float a, float b) { return a > b ? a : b; }
HA_HD float where(bool condition, float a, float b) { return condition ? a : b; }

// Rows of an array in which consecutive elements of one column are `pitch` apart: contexts or queries of one lane.
template <class T>
struct Column {
  T* first;
  int64_t pitch;
  HA_HD T& operator[](int64_t i) const { return first[i * pitch]; }
};

// Packed upper triangle, row after row: row r holds R[r][r..m-1].
HA_HD int64_t triangle_row(int64_t r, int64_t m) { return r * m - r * (r - 1) / 2; }
HA_HD int64_t triangle_size(int64_t m) { return m * (m + 1) / 2; }

}  // namespace HA_LEVEL
}  // namespace heritage_align
