// The twins of csrc/cuda/hopper_ptx.cuh, by the PTX manual. Copies and products happen at once: that the real ones
// take time shows here only in what a barrier lets through.
#pragma once

#include <cstdint>
#include <cstring>

#include "ptx_emulated.h"
#include "tensor_map_emulated.h"

namespace heritage_align::hopper {

inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(at) - emulation::shared_memory());
}

struct Barrier {
  int16_t arrivals, missing;
  int32_t bytes : 31;
  uint32_t phase : 1;

  void start(int count) {
    arrivals = missing = static_cast<int16_t>(count);
    bytes = 0;
    phase = 0;
  }
  void arrive() {
    --missing;
    finish();
  }
  void arrive_expecting(uint32_t expected) {
    bytes += static_cast<int32_t>(expected);
    arrive();
  }
  void receive(uint32_t received) {
    bytes -= static_cast<int32_t>(received);
    finish();
  }
  void wait(uint32_t parity) {
    while (phase == parity) emulation::yield();
  }

 private:
  void finish() {
    if (missing != 0 || bytes != 0) return;
    missing = arrivals;
    phase ^= 1;
  }
};
static_assert(sizeof(Barrier) == 8, "as on the GPU");

inline void publish_barriers() {}

inline void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
  if (bytes % 16 != 0 || shared_address(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) abort();
  memcpy(to, from, bytes);
  barrier.receive(bytes);
}

// Where the byte at `address` of a box lies: bits 4 to 6 are exchanged by bits 7 to 9.
inline uint32_t swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

inline void copy_box(void* to, const CUtensorMap& map, int column, int row, Barrier& barrier) {
  const uint32_t first = shared_address(to);
  for (int r = 0; r < map.box_rows; ++r)
    for (int c = 0; c < kBoxColumns; ++c) {
      const bool inside = row + r < map.rows && column + c < map.dim;
      const uint16_t value = inside ? map.values[(row + r) * map.stride + column + c] : uint16_t{0};
      memcpy(emulation::shared_memory() + swizzled(first + r * 128 + c * 2), &value, 2);
    }
  barrier.receive(map.box_rows * 128);
}

template <int registers>
inline void shrink_registers() {}
template <int registers>
inline void grow_registers() {}
template <int threads>
inline void named_barrier(int id) {
  emulation::named_barrier(id, threads);
}
inline void product_fence() {}
inline void product_commit() {}
template <int pending>
inline void product_wait() {}

inline uint64_t operand(const void* at) { return shared_address(at); }

struct Product {
  float* d;
  uint64_t a, b;
  bool accumulate;
};

template <float (*widen)(uint16_t)>
inline void multiply(void* const* threads) {
  const auto element = [](uint64_t start, int row, int k) {
    uint16_t bits;
    memcpy(&bits, emulation::shared_memory() + swizzled(static_cast<uint32_t>(start) + row * 128 + k * 2), 2);
    return widen(bits);
  };
  const Product& first = *static_cast<const Product*>(threads[0]);
  float a[64][16], b[144][16];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) a[row][k] = element(first.a, row, k);
    for (int row = 0; row < 144; ++row) b[row][k] = element(first.b, row, k);
  }
  for (int thread = 0; thread < 128; ++thread) {
    const Product& mine = *static_cast<const Product*>(threads[thread]);
    if (mine.a != first.a || mine.b != first.b || mine.accumulate != first.accumulate) abort();
    for (int i = 0; i < 72; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      float sum = mine.accumulate ? mine.d[i] : 0.0f;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      mine.d[i] = sum;
    }
  }
}

inline void product_f16(float (&d)[72], uint64_t a, uint64_t b, bool accumulate) {
  Product mine{d, a, b, accumulate};
  emulation::warpgroup_collective(multiply<float_of_f16>, &mine);
}
inline void product_bf16(float (&d)[72], uint64_t a, uint64_t b, bool accumulate) {
  Product mine{d, a, b, accumulate};
  emulation::warpgroup_collective(multiply<float_of_bf16>, &mine);
}

}  // namespace heritage_align::hopper
