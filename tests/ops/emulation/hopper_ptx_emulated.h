// The twins of csrc/cuda/hopper_ptx.cuh, by the PTX manual. Copies and products take as long as they may: a copy's room
// holds NaNs until some thread has looked for it for a while; a product reads its operands both when it begins and when
// a warp waits for it, and where they differ its part is NaNs; until then the accumulators hold NaNs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "ptx_emulated.h"
#include "tensor_map_emulated.h"

namespace heritage_align::hopper {

inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(at) - emulation::shared_memory());
}

inline std::map<const void*, std::vector<std::function<void()>>> copies_under_way;  // by the barrier that they tell
inline std::set<const void*> unpublished;  // barriers that the copy engine does not know

struct Barrier {
  int16_t arrivals, missing;
  int32_t bytes : 31;
  uint32_t phase : 1;

  void start(int count) {
    if (shared_address(this) % 8 != 0) emulation::fail("a barrier at no multiple of 8");
    unpublished.insert(this);
    arrivals = missing = static_cast<int16_t>(count);
    bytes = 0;
    phase = 0;
  }
  void arrive() {
    --missing;
    finish();
  }
  void arrive_expecting(uint32_t expected) {
    if (expected >= 1u << 20) emulation::fail("a barrier expects a megabyte or more");
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
    emulation::made_progress();
    if (missing != 0 || bytes != 0) return;
    missing = arrivals;
    phase ^= 1;
  }
};
static_assert(sizeof(Barrier) == 8, "as on the GPU");

inline void publish_barriers() { unpublished.clear(); }
inline void need_published(const Barrier& barrier) {
  if (unpublished.count(&barrier) > 0) emulation::fail("a copy tells a barrier that was not published");
}

inline void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
  if (bytes % 16 != 0 || shared_address(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
    emulation::fail("a bulk copy of no multiple of 16");
  need_published(barrier);
  emulation::lose(to, bytes);
  copies_under_way[&barrier].push_back([=, &barrier] {
    emulation::write_published(to, from, bytes);
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
  if (first % 1024 != 0) emulation::fail("a box to no multiple of 1024");
  need_published(barrier);
  const int bytes = map.element_bytes, pitch = kBoxColumns * bytes;
  emulation::lose(to, map.box_rows * pitch);
  copies_under_way[&barrier].push_back([=, &barrier] {
    for (int r = 0; r < map.box_rows; ++r)
      for (int c = 0; c < kBoxColumns; ++c) {
        const bool inside = row + r >= 0 && row + r < map.rows && column + c >= 0 && column + c < map.dim;
        uint16_t value = 0;
        if (inside) memcpy(&value, map.values + ((row + r) * map.stride + column + c) * bytes, bytes);
        const uint32_t at = first + r * pitch + c * bytes;
        emulation::write_published(emulation::shared_memory() + (bytes == 2 ? swizzled(at) : at), &value, bytes);
      }
    barrier.receive(map.box_rows * pitch);
  });
}

template <int registers>
inline void shrink_registers() {
  static_assert(registers >= 24 && registers <= 256 && registers % 8 == 0, "what setmaxnreg takes");
}
template <int registers>
inline void grow_registers() {
  shrink_registers<registers>();
}
template <int threads>
inline void named_barrier(int id) {
  emulation::named_barrier(id, threads);
}
inline void publish_writes() { emulation::publish_writes(); }
inline void product_fence() { emulation::product_fence(); }
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

// The operands of a product: 64 words and `regions` regions by 16 elements.
template <int regions>
struct OperandBits {
  uint16_t words[64][16], of_regions[regions][16];

  OperandBits(uint64_t a, uint64_t b) {
    read(a, 64, words);
    read(b, regions, of_regions);
  }

 private:
  static void read(uint64_t start, int rows, uint16_t (*to)[16]) {
    for (int row = 0; row < rows; ++row)
      for (int k = 0; k < 16; ++k) {
        const uint32_t address = swizzled(static_cast<uint32_t>(start) + row * 128 + k * 2);
        memcpy(&to[row][k], emulation::published_memory() + address, 2);
      }
  }
};

template <int regions>
struct Product {
  float* d;
  uint64_t a, b;
  bool accumulate;
  std::shared_ptr<const OperandBits<regions>> begun;  // what the warp's operands were when its first lane came
};

// Accumulators whose products are under way: their numbers, and how many products they wait for.
struct Awaited {
  std::vector<float> numbers;
  int products = 0;
};
inline std::map<float*, Awaited> awaited;

// A warp's part of a product: 16 of the 64 words, by `regions` regions.
template <float (*widen)(uint16_t), int regions>
inline void multiply_part(const std::vector<float*>& lanes, const Product<regions>& product, int first_word) {
  const OperandBits<regions> now(product.a, product.b), &begun = *product.begun;
  const bool same = memcmp(begun.words[first_word], now.words[first_word], sizeof now.words / 4) == 0 &&
                    memcmp(begun.of_regions, now.of_regions, sizeof now.of_regions) == 0;
  float a[16][16], b[16][regions];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 16; ++row) a[row][k] = same ? widen(now.words[first_word + row][k]) : NAN;
    for (int row = 0; row < regions; ++row) b[k][row] = widen(now.of_regions[row][k]);
  }
  float sums[16][regions] = {};
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int region = 0; region < regions; ++region) sums[row][region] += a[row][k] * b[k][region];
  for (int lane = 0; lane < 32; ++lane) {
    float* d = awaited[lanes[lane]].numbers.data();
    for (int i = 0; i < regions / 2; ++i) {
      const float sum = sums[lane / 4 + i % 4 / 2 * 8][i / 4 * 8 + lane % 4 * 2 + i % 2];
      d[i] = product.accumulate ? d[i] + sum : sum;
    }
  }
}

inline const int registered = emulation::around_blocks([](bool starts) {
  if (!starts)
    for (const auto& [barrier, copies] : copies_under_way)
      if (!copies.empty()) emulation::fail("a block ends while the copy engine still writes to it");
  copies_under_way.clear();
  unpublished.clear();
  awaited.clear();
});

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
  const auto of_thread = [threads](int thread) { return static_cast<const Product<regions>*>(threads[thread]); };
  for (int first = 0; first < 128; first += 32) {
    std::vector<float*> lanes;
    const Product<regions> product = *of_thread(first);
    for (int thread = first; thread < first + 32; ++thread) {
      const Product<regions>& mine = *of_thread(thread);
      if (mine.a != of_thread(0)->a || mine.b != of_thread(0)->b || mine.accumulate != of_thread(0)->accumulate)
        emulation::fail("the threads of a warpgroup do not agree on a product");
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

template <float (*widen)(uint16_t), int accumulators>
inline void product_of(float* d, uint64_t a, uint64_t b, bool accumulate) {
  constexpr int regions = 2 * accumulators;
  emulation::need_product_fence();
  Product<regions> mine{d, a, b, accumulate, nullptr};
  if (emulation::lane_index() == 0) mine.begun = std::make_shared<const OperandBits<regions>>(a, b);
  emulation::warpgroup_collective(multiply<widen, regions>, &mine);
}
template <int accumulators>
inline void product_f16(float (&d)[accumulators], uint64_t a, uint64_t b, bool accumulate) {
  product_of<float_of_f16, accumulators>(d, a, b, accumulate);
}
template <int accumulators>
inline void product_bf16(float (&d)[accumulators], uint64_t a, uint64_t b, bool accumulate) {
  product_of<float_of_bf16, accumulators>(d, a, b, accumulate);
}

}  // namespace heritage_align::hopper
