// CUDA's thread model on one CPU thread: enough of it to run the kernels of csrc/cuda unchanged.
//
// A block's threads are fibers. A fiber runs until it meets a barrier or a warp operation that not all of its
// partners have reached. What a GPU does not promise is not given here either: background copies land as late as the
// program allows while their room is lost at once, shared memory starts as NaNs and ends at a page that cannot be
// touched, and fibers may run warp by warp or in a shuffled order. What breaks a rule of the PTX manual ends the
// launch with a message, or makes numbers wrong; rules.cpp breaks each of them.
#pragma once

#include <cstdint>
#include <functional>

#define HERITAGE_ALIGN_EMULATION 1
#define __CUDA_ARCH_FEAT_SM90_ALL 1
#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define HA_SHARED_MEMORY(name) unsigned char* const name = emulation::shared_memory()
#define HA_UNROLL
#define HA_NO_UNROLL
#define HA_NO_INLINE inline

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};

namespace emulation {

struct Index {
  unsigned x;
};

Index thread_index();
Index block_index();
Index block_size();
Index grid_size();
unsigned char* shared_memory();

// Ends the launch by an exception, with the block and the thread that did it.
[[noreturn]] void fail(const char* what);

// Calls `check` before each block (`starts`), when twins forget what they remember, and behind it.
using Check = void (*)(bool starts);
int around_blocks(Check check);

// Shared memory as the tensor cores of a warpgroup see it: what the copy engine has brought, and of what threads have
// written what was there when publish_writes was last called. (By any thread: who wrote what is not known.)
const unsigned char* published_memory();
void publish_writes();

// What the copy engine does to shared memory: ordinary reads and the tensor cores see it alike.
void write_published(void* to, const void* from, size_t bytes);
void lose(void* from, size_t bytes);  // NaNs

// Runs `body` once for every thread of every block. `order`: 0 takes turns in ascending order; 1 runs the last warp as
// far as it comes alone, then the one before it; more is a seed of a shuffled order in which they take turns.
void run_grid(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body);
void set_order(int order);
int largest_block();  // threads of the largest block since the last call: which kernels ran

// Waits for all threads of the block. `tag` differs between kinds of barrier, so that mixing two of them is caught.
void block_barrier();

// Waits for `threads` threads that call with the same id.
void named_barrier(int id, int threads);

// Lets the other threads go on; for waiting in a loop. Fails when nothing but this happens any more; `made_progress`
// says that something has.
void yield();
void made_progress();

// Waits until all 32 lanes of the warp have called with the same `operation`; then one of them runs it on what each
// lane handed in, in lane order. The same for the 128 threads of a warpgroup.
using Operation = void (*)(void* const* lanes);
void warp_collective(Operation operation, void* mine);
void warpgroup_collective(Operation operation, void* mine);

// Background copies of this thread: `valid` bytes, then zeros up to `size`.
void copy_later(void* to, const void* from, int valid, int size = 16);
void copies_commit();
void copies_wait(int pending);

// Products of warpgroups. A warp's part of one is issued for that warp, runs when the warp waits for its group, and is
// finished when all of the group have run. A thread that has waited must fence before it takes part in another: it may
// have read or written accumulators.
void product_fence();
void need_product_fence();
void products_issue(int warp, std::function<void()> run, std::function<void()> finish);
void products_commit();  // of the warp of this thread, as the next
void products_wait(int pending);

}  // namespace emulation

#define threadIdx (::emulation::thread_index())
#define blockIdx (::emulation::block_index())
#define blockDim (::emulation::block_size())
#define gridDim (::emulation::grid_size())

inline void __syncthreads() { emulation::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  emulation::warp_collective([](void* const*) {}, nullptr);
}

namespace emulation {

template <class T>
struct Shuffled {
  T value;
  int partner;
  T result;
};

template <class T>
T shuffle(T value, int partner) {
  Shuffled<T> mine{value, partner, value};
  warp_collective(
      [](void* const* lanes) {
        for (int l = 0; l < 32; ++l) {
          auto* lane = static_cast<Shuffled<T>*>(lanes[l]);
          lane->result = static_cast<Shuffled<T>*>(lanes[lane->partner])->value;
        }
      },
      &mine);
  return mine.result;
}

inline int lane_index() { return static_cast<int>(thread_index().x % 32); }

}  // namespace emulation

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::shuffle(value, emulation::lane_index() ^ mask);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int delta) {
  const int lane = emulation::lane_index();
  return emulation::shuffle(value, lane >= delta ? lane - delta : lane);
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return emulation::shuffle(value, from & 31);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  unsigned all = 0;
  for (int l = 0; l < 32; ++l) all |= unsigned(emulation::shuffle(vote, l)) << l;
  return all;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long x) {
  const unsigned long long before = *at;
  *at += x;
  return before;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
