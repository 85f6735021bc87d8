// The twins of csrc/cuda/hopper_ptx.cuh, by the PTX manual. Copies and products are as late as they may be: a copy's
// room holds NaNs until some thread has looked for it for a while, and a warp's part of a product reads its operands
// when that warp waits for it; until then the accumulators hold NaNs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "ptx_emulated.h"
#include "tensor_map_emulated.h"

namespace heritage_align::hopper {

inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(at) - emulation::shared_memory());
}

inline std::map<const void*, std::vector<std::function<void()>>> copies_under_way;  // by the barrier that they tell

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
    constexpr int patience = 2;
    for (int looks = 0; phase == parity; ++looks) {
      if (looks >= patience)
        for (const auto& copy : std::exchange(copies_under_way[this], {})) copy();
      if (phase == parity) emulation::yield();
    }
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
  memset(to, 0xff, bytes);
  copies_under_way[&barrier].push_back([=, &barrier] {
    memcpy(to, from, bytes);
    barrier.receive(bytes);
  });
}

inline void ask_into_l2(const void* from, uint32_t bytes) {
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) abort();
}

// Where the byte at `address` of a box lies: bits 4 to 6 are exchanged by bits 7 to 9.
inline uint32_t swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

inline void copy_box(void* to, const CUtensorMap& map, int column, int row, Barrier& barrier) {
  const uint32_t first = shared_address(to);
  if (first % 1024 != 0) abort();
  memset(to, 0xff, map.box_rows * 128);
  copies_under_way[&barrier].push_back([=, &barrier] {
    for (int r = 0; r < map.box_rows; ++r)
      for (int c = 0; c < kBoxColumns; ++c) {
        const bool inside = row + r < map.rows && column + c < map.dim;
        const uint16_t value = inside ? map.values[(row + r) * map.stride + column + c] : uint16_t{0};
        memcpy(emulation::shared_memory() + swizzled(first + r * 128 + c * 2), &value, 2);
      }
    barrier.receive(map.box_rows * 128);
  });
}

template <int registers>
inline void shrink_registers() {}
template <int registers>
inline void grow_registers() {}
template <int threads>
inline void named_barrier(int id) {
  emulation::named_barrier(id, threads);
}
inline void publish_writes() {}
inline void product_fence() {}
inline void product_commit() {
  emulation::warp_collective([](void* const*) { emulation::products_commit(); }, nullptr);
}
template <int pending>
inline void product_wait() {
  emulation::warp_collective([](void* const*) { emulation::products_wait(pending); }, nullptr);
}
template <int pending>
inline void product_wait_for(float (&)[64]) {
  product_wait<pending>();
}

inline uint64_t operand(const void* at) { return shared_address(at); }
inline uint64_t further(uint64_t operand, uint32_t bytes) { return operand + bytes; }

constexpr int kFocalColumns = 184;
using Accumulators = float[kFocalColumns / 2];

struct Product {
  float* d;
  uint64_t a, b;
  bool accumulate;
};

// Accumulators whose products are under way: their numbers, and how many products they wait for.
struct Awaited {
  std::vector<float> numbers;
  int products = 0;
};
inline std::map<float*, Awaited> awaited;

// A warp's part of a product: 16 of the 64 words, by `regions` regions.
template <float (*widen)(uint16_t), int regions>
inline void multiply_part(const std::vector<float*>& lanes, const Product& product, int first_word) {
  const auto element = [](uint64_t start, int row, int k) {
    uint16_t bits;
    memcpy(&bits, emulation::shared_memory() + swizzled(static_cast<uint32_t>(start) + row * 128 + k * 2), 2);
    return widen(bits);
  };
  float a[16][16], b[regions][16];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 16; ++row) a[row][k] = element(product.a, first_word + row, k);
    for (int row = 0; row < regions; ++row) b[row][k] = element(product.b, row, k);
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = awaited[lanes[lane]].numbers.data();
    for (int i = 0; i < regions / 2; ++i) {
      const int row = lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float sum = product.accumulate ? d[i] : 0.0f;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      d[i] = sum;
    }
  }
}

inline void finish_part(const std::vector<float*>& lanes) {
  for (float* d : lanes) {
    const auto found = awaited.find(d);
    if (--found->second.products > 0) continue;
    std::copy(found->second.numbers.begin(), found->second.numbers.end(), d);
    awaited.erase(found);
  }
}

template <float (*widen)(uint16_t), int regions>
inline void multiply(void* const* threads) {
  const Product product = *static_cast<const Product*>(threads[0]);
  for (int first = 0; first < 128; first += 32) {
    std::vector<float*> lanes;
    for (int thread = first; thread < first + 32; ++thread) {
      const Product& mine = *static_cast<const Product*>(threads[thread]);
      if (mine.a != product.a || mine.b != product.b || mine.accumulate != product.accumulate) abort();
      Awaited& at = awaited[mine.d];
      if (at.products++ == 0) {
        at.numbers.assign(mine.d, mine.d + regions / 2);
        std::fill_n(mine.d, regions / 2, NAN);
      }
      lanes.push_back(mine.d);
    }
    const int warp = static_cast<int>(emulation::thread_index().x / 128 * 4) + first / 32;
    emulation::products_issue(
        warp, [=] { multiply_part<widen, regions>(lanes, product, first / 2); }, [=] { finish_part(lanes); });
  }
}

template <int accumulators>
inline void product_f16(float (&d)[accumulators], uint64_t a, uint64_t b, bool accumulate) {
  Product mine{d, a, b, accumulate};
  emulation::warpgroup_collective(multiply<float_of_f16, 2 * accumulators>, &mine);
}
template <int accumulators>
inline void product_bf16(float (&d)[accumulators], uint64_t a, uint64_t b, bool accumulate) {
  Product mine{d, a, b, accumulate};
  emulation::warpgroup_collective(multiply<float_of_bf16, 2 * accumulators>, &mine);
}

}  // namespace heritage_align::hopper
