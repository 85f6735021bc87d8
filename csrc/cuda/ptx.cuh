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
#define HA_NO_UNROLL _Pragma("unroll 1")
#define HA_NO_INLINE __noinline__

namespace heritage_align {

// Copies 16 bytes to shared memory in the background: the first `valid` of them from `from`, then zeros. Both
// addresses are multiples of 16; with valid = 0 nothing is read.
__device__ __forceinline__ void copy_async(void* to, const void* from, int valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid) : "memory");
}

// The same for four bytes.
__device__ __forceinline__ void copy_async_word(void* to, const void* from) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
}

__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Sixteen bytes that are read once: they go past the first-level cache, and by the path for data that no one writes.
struct alignas(16) Sixteen {
  uint32_t word[4];
};

__device__ __forceinline__ Sixteen load_once(const void* from) {
  Sixteen loaded;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(loaded.word[0]), "=r"(loaded.word[1]), "=r"(loaded.word[2]), "=r"(loaded.word[3])
               : "l"(from));
  return loaded;
}

// Waits until at most the `pending` latest groups of this thread are under way. Others see the data after a barrier.
template <int pending>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Matrices of 8 rows of 16 bytes from shared memory, four or two of them. Lane 8 i + r gives the address of row r of
// matrix i (the two: of lanes 0 to 15); lane 4 g + t gets bytes 4t .. 4t + 3 of row g of each.
__device__ __forceinline__ void load_matrices(uint32_t (&matrices)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices(uint32_t (&matrices)[2], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(matrices[0]), "=r"(matrices[1])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Half a k step: a[0], a[1] and b as above.
__device__ __forceinline__ void mma_f16_half(float (&c)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
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

// 2^x, to 2 units in the last place; 0 for results below 2^-126.
__device__ __forceinline__ float power_of_two(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// To 2 units in the last place, and without the branches that the exact ones take.
__device__ __forceinline__ float quick_sqrt(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}
__device__ __forceinline__ float quick_reciprocal(float x) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
}
__device__ __forceinline__ float quick_log2(float x) {
  float log;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log) : "f"(x));
  return log;
}

// Reads what will not be read again soon from L2, and leaves L1 to others.
__device__ __forceinline__ uint2 read_past_l1(const uint2* at) { return __ldcg(at); }
__device__ __forceinline__ uint4 read_past_l1(const uint4* at) { return __ldcg(at); }

// threadIdx.x, read each time: what is made of it costs an instruction or two, while the compiler would keep it in
// registers for as long as the kernel runs.
__device__ __forceinline__ int read_thread_index() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// Two float16 in 32 bits, the first in the lower half, rounded to nearest.
__device__ __forceinline__ uint32_t halves_of_floats(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ float float_of_f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t f16_of_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ float float_of_bf16(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
__device__ __forceinline__ uint16_t bf16_of_float(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

// exp in two instructions, not ten; off by 2 + |x| units in the last place. For the weights of a softmax, where large
// |x| make small weights.
__device__ __forceinline__ float quick_exp(float x) { return __expf(x); }

// Four int8 as four float16, exactly: with its sign bit flipped an int8 is the mantissa of a float16 between 1024 and
// 1279, less 1152. Five instructions for four numbers; conversions run at a quarter of their rate.
__device__ __forceinline__ void halves_of_bytes(uint32_t bytes, uint32_t& low, uint32_t& high) {
  const uint32_t flipped = bytes ^ 0x80808080u;
  const uint32_t offset = 0x64806480u;
  const auto less = [offset](uint32_t x) {
    const __half2 difference =
        __hsub2(*reinterpret_cast<const __half2*>(&x), *reinterpret_cast<const __half2*>(&offset));
    return *reinterpret_cast<const uint32_t*>(&difference);
  };
  low = less(__byte_perm(flipped, 0x64646464u, 0x4140));
  high = less(__byte_perm(flipped, 0x64646464u, 0x4342));
}

}  // namespace heritage_align
#endif
