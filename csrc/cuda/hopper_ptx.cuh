// Instructions of sm_90a: barriers in shared memory, bulk copies, and products of warpgroups. As in ptx.cuh, each
// function has a twin on the CPU, in tests/ops/emulation/hopper_ptx_emulated.h.
#pragma once

#ifdef HERITAGE_ALIGN_EMULATION
#include "hopper_ptx_emulated.h"
#else
#include <cuda.h>
#include <stdint.h>

namespace heritage_align::hopper {

__device__ __forceinline__ uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// Barrier that a number of arrivals and the bytes that they announced complete; its phases alternate in parity.
struct Barrier {
  uint64_t word;

  __device__ __forceinline__ void start(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
  }
  __device__ __forceinline__ void arrive_expecting(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void wait(uint32_t parity) {
    uint32_t done = 0;
    while (done == 0)
      asm volatile(
          "{\n .reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}\n"
          : "=r"(done)
          : "r"(shared_address(this)), "r"(parity)
          : "memory");
  }
};

// Makes barriers that one thread has started known to the copy engine; a __syncthreads must follow.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Brings `bytes` (a multiple of 16, as both addresses) to shared memory and tells the barrier.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
}

// Brings `bytes` (a multiple of 16, as the address) to the L2, in the background and without telling anyone.
__device__ __forceinline__ void ask_into_l2(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// Brings the box of the tensor map that starts at (column, row); elements beyond the tensor's end become zeros.
__device__ __forceinline__ void copy_box(void* to, const CUtensorMap& map, int column, int row, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(to)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(column), "r"(row)
      : "memory");
}

// Gives registers back to, or takes them from, the other warpgroups; by all warps of a warpgroup.
template <int registers>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// Barrier number `id` (1 to 15) among `threads` threads.
template <int threads>
__device__ __forceinline__ void named_barrier(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

__device__ __forceinline__ void product_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void product_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void product_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Makes this thread's ordinary writes to shared memory known to the tensor cores; a barrier must follow.
__device__ __forceinline__ void publish_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Operand in shared memory: rows of 128 bytes, swizzled by 128 bytes as copy_box leaves them, eight rows in 1024 bytes.
__device__ __forceinline__ uint64_t operand(const void* at) {
  const uint64_t address = (shared_address(at) & 0x3ffff) >> 4;
  return address | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// The operand `bytes` further on, a multiple of 16. The address fills 14 bits of the lower half, and the upper half is
// a constant, which the compiler keeps where products take it from; a sum of 64 bits would compute it again for each.
__device__ __forceinline__ uint64_t further(uint64_t operand, uint32_t bytes) {
  return (operand & 0xffffffff00000000ull) | (static_cast<uint32_t>(operand) + (bytes >> 4));
}

constexpr int kFocalColumns = 184;  // of the products of focal attention: five images of 36
using Accumulators = float[kFocalColumns / 2];

#define HA_ACCUMULATORS(d) \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), \
  "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), \
  "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), \
  "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), \
  "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), \
  "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), \
  "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), \
  "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), \
  "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), "+f"(d[64]), "+f"(d[65]), \
  "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
  "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), \
  "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), \
  "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), \
  "+f"(d[90]), "+f"(d[91])

#define HA_ACCUMULATOR_NUMBERS \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
  "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
  "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, " \
  "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, " \
  "%84, %85, %86, %87, %88, %89, %90, %91"

// d += A B^T for 64 rows, 184 columns and 16 elements of dim, in the background; `accumulate` false: d = A B^T. Row
// 16 warp + lane / 4 + 8 (i / 2 % 2) and column 8 (i / 4) + 2 (lane % 4) + i % 2 are in d[i].
__device__ __forceinline__ void product_f16(Accumulators& d, uint64_t a, uint64_t b, bool accumulate) {
  asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %94, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n184k16.f32.f16.f16 {" HA_ACCUMULATOR_NUMBERS
               "}, %92, %93, p, 1, 1, 0, 0;\n}\n"
               : HA_ACCUMULATORS(d)
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

__device__ __forceinline__ void product_bf16(Accumulators& d, uint64_t a, uint64_t b, bool accumulate) {
  asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %94, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n184k16.f32.bf16.bf16 {" HA_ACCUMULATOR_NUMBERS
               "}, %92, %93, p, 1, 1, 0, 0;\n}\n"
               : HA_ACCUMULATORS(d)
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

#undef HA_ACCUMULATORS
#undef HA_ACCUMULATOR_NUMBERS

// The same for products of 64 words by 128 regions.
#define HA_ACCUMULATORS_64(d) \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), \
  "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), \
  "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), \
  "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), \
  "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), \
  "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), \
  "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), \
  "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), \
  "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

#define HA_PRODUCT_128(name, type)                                                                          \
  __device__ __forceinline__ void name(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {           \
    asm volatile(                                                                                           \
      "{\n .reg .pred p;\n setp.ne.b32 p, %66, 0;\n"                                                       \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {"                                     \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, " \
      "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
      "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, " \
      "%60, %61, %62, %63" \
      "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                                   \
      : HA_ACCUMULATORS_64(d)                                                                               \
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                                                 \
  }
HA_PRODUCT_128(product_f16, "f16")
HA_PRODUCT_128(product_bf16, "bf16")
#undef HA_PRODUCT_128

// Waits until at most the `pending` latest groups of products are under way. `d` is of an earlier one: no reading of it
// may move before this.
template <int pending>
__device__ __forceinline__ void product_wait_for(float (&d)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned %64;" : HA_ACCUMULATORS_64(d) : "n"(pending) : "memory");
}

#undef HA_ACCUMULATORS_64

}  // namespace heritage_align::hopper
#endif
