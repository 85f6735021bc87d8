// The twins of csrc/cuda/ptx.cuh: the same functions, by the PTX manual's description of each instruction.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda_emulation.h"

namespace heritage_align {

inline void copy_async(void* to, const void* from, int valid) { emulation::copy_later(to, from, valid); }
inline void copy_async_word(void* to, const void* from) { emulation::copy_later(to, from, 4, 4); }
inline void copy_commit() { emulation::copies_commit(); }
template <int pending>
inline void copy_wait() {
  emulation::copies_wait(pending);
}

struct alignas(16) Sixteen {
  uint32_t word[4];
};

inline Sixteen load_once(const void* from) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) emulation::fail("16 bytes read from no multiple of 16");
  Sixteen loaded;
  memcpy(&loaded, from, sizeof loaded);
  return loaded;
}

inline float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
inline float float_of_bf16(uint16_t bits) { return float_of_bits(uint32_t(bits) << 16); }
inline uint16_t bf16_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // to nearest, ties to even
}
inline float float_of_f16(uint16_t bits) {
  static const std::vector<float> all = [] {  // a conversion is a call where the compiler may not use an instruction
    std::vector<float> floats;
    for (int i = 0; i < 1 << 16; ++i) {
      const auto each = static_cast<uint16_t>(i);
      _Float16 half;
      memcpy(&half, &each, sizeof half);
      floats.push_back(static_cast<float>(half));
    }
    return floats;
  }();
  return all[bits];
}
inline uint16_t f16_of_float(float x) {
  const auto half = static_cast<_Float16>(x);
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}

inline float power_of_two(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
inline float quick_exp(float x) { return expf(x); }
inline float quick_sqrt(float x) { return sqrtf(x); }
inline float quick_reciprocal(float x) { return 1.0f / x; }
inline float quick_log2(float x) { return log2f(x); }
inline uint2 read_past_l1(const uint2* at) { return *at; }
inline uint4 read_past_l1(const uint4* at) { return *at; }
inline int read_thread_index() { return static_cast<int>(emulation::thread_index().x); }
inline uint32_t halves_of_floats(float first, float second) {
  return uint32_t(f16_of_float(first)) | uint32_t(f16_of_float(second)) << 16;
}

inline void halves_of_bytes(uint32_t bytes, uint32_t& low, uint32_t& high) {
  const auto half = [bytes](int i) {
    return static_cast<uint32_t>(f16_of_float(static_cast<float>(static_cast<int8_t>(bytes >> 8 * i))));
  };
  low = half(0) | half(1) << 16;
  high = half(2) | half(3) << 16;
}

// ldmatrix: lane 8 i + r hands in where row r of matrix i is, and gets four bytes of row lane / 4 of every matrix.
template <int count>
inline void load_matrices(uint32_t (&matrices)[count], const void* row) {
  struct Lane {
    uint32_t* matrices;
    const unsigned char* row;
  };
  Lane mine{matrices, static_cast<const unsigned char*>(row)};
  emulation::warp_collective(
      [](void* const* lanes) {
        for (int i = 0; i < count; ++i)
          for (int l = 0; l < 32; ++l) {
            const unsigned char* from = static_cast<const Lane*>(lanes[8 * i + l / 4])->row;
            if (reinterpret_cast<uintptr_t>(from) % 16 != 0) abort();
            memcpy(&static_cast<const Lane*>(lanes[l])->matrices[i], from + 4 * (l % 4), 4);
          }
      },
      &mine);
}

template <class Accumulator>
struct Fragments {
  Accumulator (*c)[4];
  const uint32_t (*a)[4];
  const uint32_t (*b)[2];
};

// One matrix product of a warp. Unpacks the 16 x K and K x 8 operands from the lanes' registers, multiplies, and adds
// to the accumulators; `widen` turns element k of a row of 32 bytes into a number.
template <class Accumulator, int K, class Widen>
inline void multiply(void* const* lanes, Widen widen) {
  unsigned char a[16][32], b[8][32];
  for (int l = 0; l < 32; ++l) {
    const auto* fragments = static_cast<const Fragments<Accumulator>*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; ++i) memcpy(&a[g + 8 * (i & 1)][16 * (i >> 1) + 4 * t], &(*fragments->a)[i], 4);
    for (int i = 0; i < 2; ++i) memcpy(&b[g][16 * i + 4 * t], &(*fragments->b)[i], 4);
  }
  Accumulator wide_a[16][K], wide_b[8][K];
  for (int k = 0; k < K; ++k) {
    for (int row = 0; row < 16; ++row) wide_a[row][k] = widen(a[row], k);
    for (int column = 0; column < 8; ++column) wide_b[column][k] = widen(b[column], k);
  }
  for (int l = 0; l < 32; ++l) {
    Accumulator* c = *static_cast<const Fragments<Accumulator>*>(lanes[l])->c;
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + 8 * (i >> 1), column = 2 * (l % 4) + (i & 1);
      for (int k = 0; k < K; ++k) c[i] += wide_a[row][k] * wide_b[column][k];
    }
  }
}

inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Fragments<float> mine{&c, &a, &b};
  emulation::warp_collective(
      [](void* const* lanes) {
        multiply<float, 16>(lanes, [](const unsigned char* row, int k) {
          uint16_t bits;
          memcpy(&bits, row + 2 * k, 2);
          return float_of_f16(bits);
        });
      },
      &mine);
}
inline void mma_f16_half(float (&c)[4], const uint32_t (&a)[2], uint32_t b) {
  const uint32_t whole_a[4] = {a[0], a[1], 0, 0}, whole_b[2] = {b, 0};
  mma_f16(c, whole_a, whole_b);
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Fragments<float> mine{&c, &a, &b};
  emulation::warp_collective(
      [](void* const* lanes) {
        multiply<float, 16>(lanes, [](const unsigned char* row, int k) {
          uint16_t bits;
          memcpy(&bits, row + 2 * k, 2);
          return float_of_bf16(bits);
        });
      },
      &mine);
}
inline void mma_i8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Fragments<int32_t> mine{&c, &a, &b};
  emulation::warp_collective(
      [](void* const* lanes) {
        multiply<int32_t, 32>(
            lanes, [](const unsigned char* row, int k) { return static_cast<int32_t>(static_cast<int8_t>(row[k])); });
      },
      &mine);
}

}  // namespace heritage_align
