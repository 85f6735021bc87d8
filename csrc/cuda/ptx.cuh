// Every instruction that CUDA C++ has no function for, and nothing else: kernels contain no asm. Each function here
// has a twin in tests/ops/emulation/ptx_emulated.h that does the same on a CPU, so that the kernels run there
// unchanged.
//
// Fragments of mma.sync are as the PTX manual lays them out; lane = 4 * g + t. Operands are counted in bytes of a k
// step of 32 bytes (16 halves or 32 int8), which makes all dtypes alike:
//   a[0], a[1]   rows g and g + 8, bytes 4t .. 4t + 3;   a[2], a[3]   the same rows, bytes 16 + 4t .. 16 + 4t + 3
//   b[0], b[1]   column g, bytes 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3
//   c[0], c[1]   row g, columns 2t and 2t + 1;           c[2], c[3]   row g + 8, the same columns
#pragma once

#include <stdint.h>

#ifdef HERITAGE_ALIGN_EMULATION
#include "ptx_emulated.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define HA_SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]
#define HA_UNROLL _Pragma("unroll")

namespace heritage_align {

// Copies 16 bytes to shared memory in the background: the first `valid` of them from `from`, then zeros. Both
// addresses are multiples of 16; with valid = 0 nothing is read.
__device__ __forceinline__ void copy_async(void* to, const void* from, int valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid) : "memory");
}

__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the `pending` latest groups of this thread are under way. Others see the data after a barrier.
template <int pending>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_i8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ float float_of_f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t f16_of_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ float float_of_bf16(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
__device__ __forceinline__ uint16_t bf16_of_float(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

}  // namespace heritage_align
#endif
